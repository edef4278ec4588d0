"""Permit: the right to one call through a breaker, and the stretch of the breaker's life that gave it.

Role: `CircuitBreaker.acquire` returns a permit, and the caller says once how the call has ended. The permit knows the
era that gave it, not the state that the breaker is in meanwhile: a result of an era that is over counts for nothing.

A success in a closed breaker that has nothing to forget (no failure since the last success, no window, nothing timed)
changes nothing but a count. The era says so in its cell `calm`, so that such a call neither takes a lock nor waits for
one; whatever makes a success matter clears the cell under the breaker's lock, and the end of the era does. Every other
end of a call is looked at under the lock, and so is a success that finds the cell cleared.

Thread: any; a permit may be settled by another task than the one that took it (a watchdog that cancels), and whoever
comes first stands. Upstream: gobreaker's two-step form (Allow, done). Left out: giving back a permit that was dropped
without a word; `half_open_max_ms` is for those. Bound: two references, and a moment where calls are timed.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from coordemu.resilience.breaker_state import BreakerState
from coordemu.resilience.breaker_window import ClosedRecord
from coordemu.runtime.base import Cell

# States that let everybody through.
ADMITTING = frozenset({BreakerState.CLOSED, BreakerState.DISABLED})


class Outcome(Enum):
    """How a call has ended, in the words of who made it."""

    SUCCESS = "success"
    FAILURE = "failure"
    IGNORED = "ignored"
    CANCELLED = "cancelled"

    __hash__ = object.__hash__


class BreakerTally:
    """Counts since the breaker was made or reset. A single addition to one of them is one step on this interpreter
    (see `runtime.thread_cell`), so that calls without a lock may count, too."""

    __slots__ = ("cancelled", "failures", "ignored", "late", "permitted", "refused", "slow", "successes")

    def __init__(self, permitted: int = 0) -> None:
        self.permitted = permitted
        self.refused = 0
        self.successes = 0
        self.failures = 0
        self.slow = 0
        self.ignored = 0
        self.cancelled = 0
        self.late = 0

    @property
    def under_way(self) -> int:
        """Calls that were let through and have not ended."""
        return self.permitted - self.successes - self.failures - self.ignored - self.cancelled - self.late


class BreakerEra:
    """One stretch of a breaker's life in one state. generation: its number.  calm: whether a success changes nothing.

    admits: everybody is let through.  record: of a closed one.  until_ns: an open one refuses all before, on the
    breaker's clock.  out, succeeded, full_since_ns: of a half-open one, its permits that are out, the probes that have
    succeeded, and when the last permit went out, on the breaker's clock.
    """

    __slots__ = (
        *("admits", "calm", "full_since_ns", "generation", "is_failure", "out", "record", "said_calm"),
        *("settle", "since_ns", "state", "succeeded", "tally", "until_ns"),
    )

    def __init__(
        self,
        state: BreakerState,
        generation: int,
        since_ns: int,
        calm: Cell[bool],
        tally: BreakerTally,
        settle: Callable[[Permit, Outcome, int | None, BaseException | None], bool],
        is_failure: Callable[[Exception], bool],
    ) -> None:
        """since_ns: on the runtime's clock.  settle: what permits call when a result may matter.  is_failure: which
        errors count."""
        self.state = state
        self.generation = generation
        self.since_ns = since_ns
        self.calm = calm
        self.tally = tally
        self.settle = settle
        self.is_failure = is_failure
        self.admits = state in ADMITTING
        # What `calm` holds, for who has the breaker's lock.
        self.said_calm = False
        self.record: ClosedRecord | None = None
        self.until_ns = 0
        self.out = 0
        self.succeeded = 0
        self.full_since_ns = 0

    def __repr__(self) -> str:
        return f"<BreakerEra {self.generation} {self.state.value}>"


class Permit:
    """One call. Exactly one of `success`, `failure`, `ignore`, `cancel`, `raised` is for its end; those that come later
    do nothing and return False. era: which gave it.  settled: whether its end was told.  began_ns: set where calls are
    timed."""

    __slots__ = ("began_ns", "era", "settled")

    began_ns: int

    def __init__(self, era: BreakerEra) -> None:
        self.era = era
        self.settled = False

    def success(self, duration_ns: int | None = None) -> bool:
        """The call has succeeded. duration_ns: how long it took, None: since the permit was given. True when this
        settled it. Thread: any. Never blocks for long; runs listeners when it moves the breaker."""
        era = self.era
        if era.calm.value:
            # No other thread comes between this look and the store; see `BreakerTally`.
            if self.settled:
                return False
            self.settled = True
            era.tally.successes += 1
            return True
        return era.settle(self, Outcome.SUCCESS, duration_ns, None)

    def failure(self, error: BaseException | None = None, duration_ns: int | None = None) -> bool:
        """The call has failed. error: with what, for the event's sentence. As `success` otherwise."""
        return self.era.settle(self, Outcome.FAILURE, duration_ns, error)

    def ignore(self) -> bool:
        """The call has ended in a way that says nothing about what was called: the permit is given back, nothing
        counts. As `success` otherwise."""
        return self.era.settle(self, Outcome.IGNORED, None, None)

    def cancel(self) -> bool:
        """The call was not made, or not to its end: as `ignore`."""
        return self.era.settle(self, Outcome.CANCELLED, None, None)

    def raised(self, error: BaseException) -> bool:
        """The call has raised: a failure or ignored, as the breaker's `is_failure` says; cancelled when it is no
        Exception. As `success` otherwise. Raises what `is_failure` raises; the permit is given back then."""
        if self.settled:
            return False
        if not isinstance(error, Exception):
            return self.cancel()
        try:
            counts = self.era.is_failure(error)
        except BaseException:
            self.cancel()
            raise
        return self.failure(error) if counts else self.ignore()

    def __repr__(self) -> str:
        return f"<Permit of {self.era!r}{', settled' if self.settled else ''}>"
