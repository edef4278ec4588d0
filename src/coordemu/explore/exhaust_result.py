"""ExhaustResult: what a systematic search saw, and whether that was everything.

Role: the common result of `dfs` and `dpor`, and the switch that ends them.

Thread: frozen values. Upstream: none. Left out: an estimate of what is left. Bounds: as `tally`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from coordemu.explore.dependency import Fingerprint
from coordemu.explore.order import Played
from coordemu.explore.order_garbage import OrderGarbage
from coordemu.explore.tally import Found, Tally, by_name
from coordemu.runtime.sim_outcome import STEP_LIMIT

# A run is cut after so many steps, or so many times the program's usual length. Nothing is said of it: what has been
# tried in vain so often may still be unfair.
LONGEST_RUN, LONGEST_LENGTHS = 5_000, 5

OnOrder = Callable[[Played], None]
OnClass = Callable[[Played, Fingerprint], None]


@dataclass(frozen=True, slots=True)
class ExhaustResult:
    """What was seen.

    complete: every order within the search's bounds (none, or a number of preemptions) was seen, or one of its class.
    classes: with reduction, how many orders differ by more than the sequence of independent steps; without, orders.
    runs: how many were played, among them `blocked`, which were given up as repetitions of others.
    verdicts: of the orders, by name.  found: of each kind of failure the first.  steps: of all runs.
    cut: runs that were too long to be played to their end; of these nothing is known.
    """

    complete: bool
    classes: int
    runs: int
    blocked: int
    verdicts: dict[str, int]
    found: tuple[Found, ...]
    steps: int
    cut: int = 0

    @property
    def sentence(self) -> str:
        """One line for a reader."""
        seen = f"{self.classes} classes" if self.classes != 1 else "1 class"
        return f"complete: {seen}" if self.complete else f"not complete: {seen} seen in {self.runs} runs"


def longest_run(length: int) -> int:
    """After how many steps a run is cut, for a program of about `length` steps (1 or more)."""
    return max(LONGEST_RUN, LONGEST_LENGTHS * length)


class Progress:
    """Counts, tells and stops one systematic search.

    limit: of the runs, 0 or more (ValueError otherwise); None for no limit.  stop: asked before each run.
    """

    def __init__(
        self, limit: int | None, on_order: OnOrder | None, stop: Callable[[], bool] | None, stop_at_first: bool
    ) -> None:
        if limit is not None and limit < 0:
            raise ValueError(f"a limit of {limit} runs")
        self.tally = Tally()
        self.runs = 0
        self.blocked = 0
        self.steps = 0
        self.cut = 0
        self.complete = True
        self._limit = limit
        self._on_order = on_order
        self._stop = stop
        self._stop_at_first = stop_at_first
        self._garbage = OrderGarbage()

    def __enter__(self) -> Progress:
        self._garbage.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._garbage.__exit__(*exc)

    def may_run(self) -> bool:
        """Whether to play another. When not, the search is not complete."""
        self._garbage.after_order()
        if (self._limit is None or self.runs < self._limit) and not (self._stop is not None and self._stop()):
            return True
        self.complete = False
        return False

    def ran(self, played: Played) -> bool:
        """A run was played. False when it had to be cut, and the search is not complete."""
        self.runs += 1
        self.steps += played.steps
        if played.outcome.kind != STEP_LIMIT:
            return True
        self.cut += 1
        self.complete = False
        return False

    def count(self, played: Played) -> bool:
        """A run is an order of its own. True when the search is to end with it."""
        failed = self.tally.count(self.tally.orders, played)
        if self._on_order is not None:
            self._on_order(played)
        if failed and self._stop_at_first:
            self.complete = False
            return True
        return False

    def result(self) -> ExhaustResult:
        """What was seen so far."""
        tally = self.tally
        return ExhaustResult(
            self.complete,
            tally.orders,
            self.runs,
            self.blocked,
            by_name(tally.verdicts),
            tally.found,
            self.steps,
            self.cut,
        )
