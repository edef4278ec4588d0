"""CircuitBreaker: stops calling what fails, and finds out with a few calls when it works again.

Role: around anything that may fail, as the layer inside the retry and outside limiter and bulkhead. `acquire` gives a
permit or raises BreakerOpen; the permit takes the result. What is called runs in between, and no lock is held. Every
decision is made under one lock, with the clock read there: which trigger it is, the table's line
(`breaker_state`), the move, the permit. A probe's permit is looked for and taken in one step, and a permit comes back
with every end of a call, whether it counts or not.

A closed breaker lets callers through without the lock, and so does one that is switched off: what they get is a permit
of the present era, and should the breaker open in the same moment, their results are late, as if they had come a moment
earlier. Moves begin a new era (`breaker_permit`), which is how late results are told.

An open breaker becomes half-open when a caller comes after its time, never by itself: there is no timer that anything
could restart. A failure that comes late does not prolong it.

Thread: any. Upstream: gobreaker (generations, permits), resilience4j (windows, forced states, half-open time limit,
back-off of the open time), Polly (late results never prolong). Left out: storing the state elsewhere, so that several
processes share it. Bounds: one era; the record's window; see `breaker_events` for those.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from coordemu.pool.pool_errors import Cancelled
from coordemu.resilience.breaker_core import BreakerCore
from coordemu.resilience.breaker_events import Listener, is_move
from coordemu.resilience.breaker_options import BreakerOptions
from coordemu.resilience.breaker_permit import BreakerTally, Permit
from coordemu.resilience.breaker_state import BreakerState, BreakerTrigger
from coordemu.resilience.resilience_errors import BreakerOpen, ResilienceError
from coordemu.runtime.base import Runtime

__all__ = ["BreakerOpen", "BreakerOptions", "BreakerState", "CircuitBreaker", "Permit", "counts_as_failure"]

T = TypeVar("T")
_T = BreakerTrigger


def counts_as_failure(error: Exception) -> bool:
    """What a breaker takes for a failure unless it is told otherwise: all but the refusals of the layers inside it
    (nothing was called) and a caller's own cancelling. Thread: any."""
    return not isinstance(error, ResilienceError | Cancelled)


class CircuitBreaker(BreakerCore):
    """One breaker, closed. name: for reports and errors.  is_failure: which errors count; called outside the lock."""

    def __init__(
        self,
        rt: Runtime,
        options: BreakerOptions | None = None,
        name: str = "breaker",
        is_failure: Callable[[Exception], bool] = counts_as_failure,
    ) -> None:
        super().__init__(rt, options, name, is_failure)

    # -- calls

    def acquire(self) -> Permit:
        """The right to one call; settle the permit when it has ended.

        Raises BreakerOpen, with when to come again. Thread: any. Never blocks for long; runs listeners when it moves
        the breaker. Upstream: gobreaker's Allow.
        """
        era = self._era.value
        if not era.admits:
            return self._acquire_slowly()
        era.tally.permitted += 1
        permit = Permit(era)
        if self._timed:
            permit.began_ns = self._rt.now_ns()
        return permit

    def call(self, function: Callable[[], T]) -> T:
        """Call it with a permit, which is settled whatever happens. What it returned.

        Raises BreakerOpen (it was not called), what it raised. Thread: any. Blocks as it does, without any lock.
        """
        permit = self.acquire()
        try:
            value = function()
        except BaseException as error:
            permit.raised(error)
            raise
        permit.success()
        return value

    def _acquire_slowly(self) -> Permit:
        with self._lock:
            now_ns = self._clock.look()
            answer = self._answer_locked(self._trigger_for_call_locked(now_ns), now_ns)
        return self._hand_out(answer)

    def _hand_out(self, answer: Permit | BreakerOpen) -> Permit:
        if isinstance(answer, BreakerOpen):
            self._box.tell()
            raise answer
        self._tell_with(answer)
        if self._timed:
            answer.began_ns = self._rt.now_ns()
        return answer

    def _tell_with(self, permit: Permit) -> None:
        """Tell the listeners; the permit is not lost when that is interrupted."""
        try:
            self._box.tell()
        except BaseException:
            permit.cancel()
            raise

    # -- orders

    def force_open(self, why: str = "on demand") -> None:
        """Refuse all calls until another order comes. Thread: any. Runs listeners."""
        self._order(_T.FORCE_OPEN, why)

    def force_closed(self, why: str = "on demand") -> None:
        """Close now, with nothing remembered of earlier results; the rules go on. As `force_open` otherwise."""
        self._order(_T.FORCE_CLOSED, why)

    def disable(self, why: str = "on demand") -> None:
        """Let all calls through, whatever their results, until another order comes. As `force_open` otherwise."""
        self._order(_T.DISABLE, why)

    def reset(self, why: str = "on demand") -> None:
        """As `force_closed`, and all counts begin anew; calls under way stay counted as permitted."""
        self._order(_T.RESET, why)

    def _order(self, trigger: BreakerTrigger, why: str) -> None:
        with self._lock:
            if trigger is _T.RESET:
                self._tally = BreakerTally(self._tally.under_way)
                self._moves = dict.fromkeys(self._moves, 0)
            self._follow_locked(trigger, self._clock.look(), why)
        self._box.tell()

    # -- listeners

    def subscribe(self, listener: Listener, calls: bool = False) -> Callable[[], bool]:
        """Call it with each event, in order, outside the lock, on whichever task moved the breaker. calls: of single
        calls, too (their order is that of the lock), which costs every call the lock. A listener that raises is kept in
        `listener_errors`. Returns what ends the subscription (True when it did). Thread: any."""
        with self._lock:
            entry = self._box.add_listener_locked(listener, None if calls else is_move)
            self._note_calm_locked()

        def unsubscribe() -> bool:
            with self._lock:
                removed = self._box.remove_listener_locked(entry)
                self._note_calm_locked()
                return removed

        return unsubscribe

    @property
    def listener_errors(self) -> tuple[Exception, ...]:
        """What listeners raised, the last 16."""
        return tuple(self._box.errors)

    # -- from outside

    @property
    def state(self) -> BreakerState:
        """Where it is. OPEN until a caller comes, also after its time."""
        return self._era.value.state

    @property
    def generation(self) -> int:
        """The number of its era; the first is 1."""
        return self._era.value.generation

    @property
    def since_ns(self) -> int:
        """When it came into its state, on the runtime's clock."""
        return self._era.value.since_ns

    @property
    def unclosed_since_ns(self) -> int | None:
        """Since when it has been OPEN, HALF_OPEN or FORCED_OPEN, one after the other, on the runtime's clock; None
        while it lets all through."""
        return self._unclosed_since_ns

    @property
    def retry_after_ns(self) -> int:
        """How long an open one still refuses; 0 in other states. Thread: any."""
        with self._lock:
            return self._retry_after_locked(self._clock.look())

    def statistics(self) -> dict[str, int | str]:
        """state, generation, unclosed_ns, retry_after_ns; failures_in_row and the window's calls, failed and slow (0
        unless closed); probes_out and probes_succeeded (0 unless half-open); since the start or reset: permitted,
        under_way, refused, successes, failures, slow, ignored, cancelled, late, moves by kind; of listeners: told,
        dropped, raised. Thread: any. Never blocks for long."""
        with self._lock:
            now_ns = self._clock.look()
            era, tally, box = self._live, self._tally, self._box
            since_ns = self._unclosed_since_ns
            record = era.record
            window = record.window if record is not None else None
            if window is not None:
                window.forget(now_ns)
            counts: dict[str, int | str] = {
                "state": era.state.value,
                "generation": era.generation,
                "unclosed_ns": 0 if since_ns is None else max(0, self._rt.now_ns() - since_ns),
                "retry_after_ns": self._retry_after_locked(now_ns),
                "failures_in_row": record.failures_in_row if record is not None else 0,
                "window_calls": window.calls if window is not None else 0,
                "window_failed": window.failed if window is not None else 0,
                "window_slow": window.slow if window is not None else 0,
                "probes_out": era.out,
                "probes_succeeded": era.succeeded,
                "under_way": tally.under_way,
                "told": box.told,
                "dropped": box.dropped,
                "raised": box.raised,
            }
            counts.update((name, getattr(tally, name)) for name in BreakerTally.__slots__)
            counts.update((kind.replace("-", "_"), count) for kind, count in self._moves.items())
            return counts

    def broken_rules(self) -> list[str]:
        """What is wrong with it, at any time: one sentence each, after its rule's letters (see `breaker_recipes`).
        Thread: any."""
        with self._lock:
            era, permits = self._live, self.options.half_open_permits
            wrong = []
            if not 0 <= era.out <= permits:
                wrong.append(f"B1 {self.name}: {era.out} probes are under way, and {permits} may be")
            if self._tally.under_way < era.out:
                wrong.append(f"B2 {self.name}: {era.out} permits are out, and {self._tally.under_way} calls under way")
        return wrong

    def __repr__(self) -> str:
        era = self._live
        return f"<CircuitBreaker {self.name!r} {era.state.value}, generation {era.generation}>"
