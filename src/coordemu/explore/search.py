"""Search: play a range of orders, and keep of each kind of failure the first.

Role: what a user waits for. A search is (subject, strategy, seed) and a range of numbers; each number has its plan
(`portfolio`), each plan is played (`order`), and what is kept is a `tally`. Results are small values that can be put
together: whatever the division of a range, the result is the same.

Thread: any, one search at a time per OS thread. Upstream: none. Left out: dividing ranges between processes (`jobs`),
making a found order smaller (`shrink`). Bounds: as `tally`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from coordemu.explore.dfs import search_all
from coordemu.explore.dpor import exhaust
from coordemu.explore.order import OrderPlan, Played, Subject, play
from coordemu.explore.order_garbage import OrderGarbage
from coordemu.explore.portfolio import PORTFOLIO, SYSTEMATIC, check_strategy, plan_of
from coordemu.explore.tally import KEPT, Found, Tally, by_name, first_of_each
from coordemu.runtime.sim_schedule import step_limit

__all__ = ["KEPT", "Found", "SearchResult", "length_of", "merge", "search_range"]

# What a program is taken to be as long as before anybody has looked.
UNKNOWN_LENGTH = 1000
# Of preemptions: level by level, as far as the range goes.
ANY_NUMBER = 1_000_000


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What came of some orders.

    orders, steps: how many.  verdicts: how many orders have each, by name.  found: of each kind of failure the first
    order, by number; KEPT at most.
    """

    orders: int = 0
    steps: int = 0
    verdicts: dict[str, int] = field(default_factory=dict)
    found: tuple[Found, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """All fields, as plain values."""
        return {
            "orders": self.orders,
            "steps": self.steps,
            "verdicts": dict(self.verdicts),
            "found": [found.to_json() for found in self.found],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SearchResult:
        """What `to_json` wrote. Raises KeyError or ValueError for anything else."""
        verdicts = {str(verdict): int(count) for verdict, count in data["verdicts"].items()}
        return cls(int(data["orders"]), int(data["steps"]), verdicts, tuple(map(Found.from_json, data["found"])))


def merge(results: Sequence[SearchResult]) -> SearchResult:
    """The results of several ranges of one search, as the result of all of them; of none, an empty one.

    In whatever groups and order they are put together, the outcome is the same.
    """
    verdicts: dict[str, int] = {}
    for result in results:
        for verdict, count in result.verdicts.items():
            verdicts[verdict] = verdicts.get(verdict, 0) + count
    return SearchResult(
        sum(result.orders for result in results),
        sum(result.steps for result in results),
        by_name(verdicts),
        first_of_each(each for result in results for each in result.found),
    )


def search_range(
    subject: Subject,
    strategy: str,
    seed: int,
    first: int,
    count: int,
    length: int,
    on_order: Callable[[Played], None] | None = None,
    stop: Callable[[], bool] | None = None,
    stop_at_first: bool = False,
) -> SearchResult:
    """Play the orders first .. first + count - 1 of a search.

    strategy: one of STRATEGY_NAMES.  length: 1 or more, about how many steps the program takes (`length_of`).
    on_order: told of each.  stop: asked before each whether to end now.  stop_at_first: end with the first failure.
    A systematic strategy has ranges from 0 on only. Raises ValueError outside of the bounds.
    """
    check_strategy(strategy)
    if first < 0 or count < 0 or length < 1:
        raise ValueError(f"orders from {first}, {count} of them, of a program of {length} steps")
    if strategy in SYSTEMATIC:
        if first:
            raise ValueError(f"{strategy!r} goes through the orders from the first on; a range cannot begin at {first}")
        plan = OrderPlan(length=length)
        if strategy == "dfs":
            found = search_all(subject, plan, ANY_NUMBER, count, on_order, stop, stop_at_first)
        else:
            found = exhaust(subject, plan, count, on_order, stop, stop_at_first)
        return SearchResult(found.runs, found.steps, found.verdicts, found.found)
    tally = Tally()
    max_steps = step_limit(length)
    with OrderGarbage() as garbage:
        for number in range(first, first + count):
            if stop is not None and stop():
                break
            played = play(subject, plan_of(strategy, seed, number, length), max_steps=max_steps)
            failed = tally.count(number, played)
            if on_order is not None:
                on_order(played)
            if failed and stop_at_first:
                break
            garbage.after_order()
    return SearchResult(tally.orders, tally.steps, by_name(tally.verdicts), tally.found)


def length_of(subject: Subject) -> int:
    """How many steps order 0 takes, 1 or more."""
    return max(1, play(subject, plan_of(PORTFOLIO, 0, 0, UNKNOWN_LENGTH), max_steps=step_limit(UNKNOWN_LENGTH)).steps)
