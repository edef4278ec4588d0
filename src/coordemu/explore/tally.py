"""Found and Tally: what is kept of many orders.

Role: the common part of all searches. Of failures with the same signature only the first is kept, with the schedule
that repeats it; everything else is counted. What is kept is small, plain, and can be put together with another
search's.

Thread: one search each; `Found` is a frozen value. Upstream: none. Left out: choosing the orders (`search`, `dfs`,
`dpor`). Bounds: KEPT failures, one schedule each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from coordemu.explore.order import Failure, OrderPlan, Played
from coordemu.runtime.sim_schedule import Schedule

# Of so many kinds of failures the first order is kept.
KEPT = 64


@dataclass(frozen=True, slots=True)
class Found:
    """An order that fails. number: its place in the search, from 0 on.  schedule: repeats it."""

    number: int
    plan: OrderPlan
    verdict: str
    failure: Failure
    schedule: Schedule

    def to_json(self) -> dict[str, Any]:
        """All fields, as plain values."""
        return {
            "number": self.number,
            "plan": self.plan.to_json(),
            "verdict": self.verdict,
            "failure": self.failure.to_json(),
            "schedule": self.schedule.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Found:
        """What `to_json` wrote. Raises KeyError or ValueError for anything else."""
        return cls(
            int(data["number"]),
            OrderPlan.from_json(data["plan"]),
            str(data["verdict"]),
            Failure.from_json(data["failure"]),
            Schedule.from_json(data["schedule"]),
        )


class Tally:
    """Counts orders and keeps the first of each kind of failure, as they come."""

    def __init__(self) -> None:
        self.orders = 0
        self.steps = 0
        self.verdicts: dict[str, int] = {}
        self._found: dict[tuple[str, ...], Found] = {}

    def count(self, number: int, played: Played) -> bool:
        """Take one in. number: of the order, above all before. True when it failed."""
        self.orders += 1
        self.steps += played.steps
        self.verdicts[played.verdict] = self.verdicts.get(played.verdict, 0) + 1
        failure = played.failure
        if failure is None:
            return False
        if len(self._found) < KEPT:
            found = Found(number, played.plan, played.verdict, failure, played.schedule)
            self._found.setdefault(failure.signature, found)
        return True

    @property
    def found(self) -> tuple[Found, ...]:
        """The first of each kind so far, by number."""
        return tuple(self._found.values())


def by_name(verdicts: Mapping[str, int]) -> dict[str, int]:
    """The same counts, in the order of the names."""
    return dict(sorted(verdicts.items()))


def first_of_each(found: Iterable[Found]) -> tuple[Found, ...]:
    """Of each signature the one with the lowest number; of those, the KEPT with the lowest."""
    kept: dict[tuple[str, ...], Found] = {}
    for each in sorted(found, key=lambda each: (each.number, each.failure.signature)):
        kept.setdefault(each.failure.signature, each)
    return tuple(kept.values())[:KEPT]
