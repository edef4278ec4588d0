"""FaultyBreaker: the circuit breaker with the faults of `breaker_faults`, each under its name.

Role: what `make_breaker` hands out when a fault is asked for. Most of them do in two stretches under the lock what the
breaker does in one, or forget a permit; the others are what a breaker without eras, with a lock around the call, or
with listeners under its lock does. With no fault on it is the breaker itself.

Thread: any. Upstream: see each fault's sentence. Left out: faults of windows, which are plain arithmetic under a lock
(the tests have those). Bounds: as `CircuitBreaker`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeVar

from coordemu.resilience import breaker_faults
from coordemu.resilience.breaker_clock import BreakerClock
from coordemu.resilience.breaker_events import BreakerEvent
from coordemu.resilience.breaker_faults import check_breaker_faults
from coordemu.resilience.breaker_options import BreakerOptions
from coordemu.resilience.breaker_permit import BreakerEra, Outcome, Permit
from coordemu.resilience.breaker_state import BREAKER_TABLE, BreakerAction, BreakerState, BreakerTrigger
from coordemu.resilience.circuit_breaker import CircuitBreaker, counts_as_failure
from coordemu.resilience.event_box import EventBox
from coordemu.resilience.resilience_errors import BreakerOpen
from coordemu.runtime.base import Runtime

T = TypeVar("T")
_S, _T, _A = BreakerState, BreakerTrigger, BreakerAction


def make_breaker(
    rt: Runtime,
    options: BreakerOptions | None = None,
    name: str = "breaker",
    faults: Collection[str] = frozenset(),
    is_failure: Callable[[Exception], bool] = counts_as_failure,
) -> CircuitBreaker:
    """A breaker: the mended one, or one with `faults`. As `CircuitBreaker` otherwise. Raises UnknownBreakerFault."""
    chosen = check_breaker_faults(faults)
    if chosen:
        return FaultyBreaker(chosen, rt, options, name, is_failure)
    return CircuitBreaker(rt, options, name, is_failure)


class RawClock(BreakerClock):
    """raw-clock: the runtime's clock as it is."""

    def look(self) -> int:
        """The time now, also when that is earlier than before."""
        self.now_ns = self._rt.now_ns()
        return self.now_ns


class EachTellsHisOwn(EventBox[BreakerEvent]):
    """events-out-of-order: who finds events takes them, and tells them after the lock."""

    def tell(self) -> None:
        """Take what waits; then tell it."""
        while True:
            with self._lock:
                if not self._waiting:
                    return
                event, listeners = self._waiting.popleft(), self._listeners
            self._tell_one(event, listeners)


class ToldUnderLock(EventBox[BreakerEvent]):
    """events-under-lock: a listener is called where the event is written."""

    def write_locked(self, event: BreakerEvent) -> None:
        """Tell it now."""
        self._tell_one(event, self._listeners)


class FaultyBreaker(CircuitBreaker):
    """A breaker with faults. faults: of BREAKER_FAULTS; the other arguments are those of `CircuitBreaker`."""

    def __init__(
        self,
        faults: frozenset[str],
        rt: Runtime,
        options: BreakerOptions | None = None,
        name: str = "breaker",
        is_failure: Callable[[Exception], bool] = counts_as_failure,
    ) -> None:
        self.faults = faults
        super().__init__(rt, options, name, is_failure)
        self._call_lock = rt.lock(f"calls of {name}")
        if breaker_faults.RAW_CLOCK in faults:
            self._clock = RawClock(rt)
        if breaker_faults.EVENTS_OUT_OF_ORDER in faults:
            self._box = EachTellsHisOwn(self._lock)
        if breaker_faults.EVENTS_UNDER_LOCK in faults:
            self._box = ToldUnderLock(self._lock)

    # -- calls

    def call(self, function: Callable[[], T]) -> T:
        """lock-across-call: one at a time.  probe-panic-jams: what is no Exception settles nothing."""
        if breaker_faults.LOCK_ACROSS_CALL in self.faults:
            with self._call_lock:
                return super().call(function)
        if breaker_faults.PROBE_PANIC_JAMS in self.faults:
            permit = self.acquire()
            try:
                value = function()
            except Exception as error:
                permit.raised(error)
                raise
            permit.success()
            return value
        return super().call(function)

    def _acquire_slowly(self) -> Permit:
        if breaker_faults.TWO_PROBES in self.faults:
            with self._lock:
                now_ns = self._clock.look()
                trigger = self._trigger_for_call_locked(now_ns)
            with self._lock:
                answer = self._answer_locked(self._trigger_that_is_there_locked(trigger), now_ns)
            return self._hand_out(answer)
        if breaker_faults.PERMITS_RESET_LATE in self.faults:
            return self._acquire_resetting_late()
        return super()._acquire_slowly()

    def _trigger_that_is_there_locked(self, trigger: BreakerTrigger) -> BreakerTrigger:
        """What was seen, if the state knows of it still."""
        return trigger if (self._live.state, trigger) in BREAKER_TABLE else _T.CALL

    def _acquire_resetting_late(self) -> Permit:
        answer: Permit | BreakerOpen
        with self._lock:
            now_ns = self._clock.look()
            trigger = self._trigger_for_call_locked(now_ns)
            due = trigger is _T.CALL_DUE
            if due:
                self._follow_locked(trigger, now_ns, trigger.value)
            else:
                answer = self._answer_locked(trigger, now_ns)
        if due:
            with self._lock:
                self._live.out = 0
                answer = self._let_through_locked(_A.TAKE, now_ns)
        return self._hand_out(answer)

    def _trigger_for_call_locked(self, now_ns: int) -> BreakerTrigger:
        trigger = super()._trigger_for_call_locked(now_ns)
        if trigger is _T.CALL_STUCK and breaker_faults.HALF_OPEN_FOR_EVER in self.faults:
            return _T.CALL_FULL
        return trigger

    # -- results

    def _settle(self, permit: Permit, outcome: Outcome, duration_ns: int | None, error: BaseException | None) -> bool:
        if breaker_faults.PERMIT_GIVEN_BACK_TWICE in self.faults:
            with self._lock:
                settled = permit.settled
            if settled:
                return False
            with self._lock:
                permit.settled = True
                self._settle_locked(permit, outcome, duration_ns, error)
            return True
        if breaker_faults.CALM_SAID_LATE in self.faults:
            with self._lock:
                if permit.settled:
                    return False
                permit.settled = True
                self._settle_locked(permit, outcome, duration_ns, error)
                live = self._live
                calm = self._is_calm(live.state, live.record)
            if calm:
                live.said_calm = True
                live.calm.value = True
            return True
        mine = breaker_faults.OPENS_TWICE in self.faults or breaker_faults.FAILURE_COUNT_LOST in self.faults
        if mine and outcome is Outcome.FAILURE and self._live.record is not None:
            return self._fail_in_two_steps(permit)
        return super()._settle(permit, outcome, duration_ns, error)

    def _fail_in_two_steps(self, permit: Permit) -> bool:
        with self._lock:
            record = self._live.record
            if permit.settled or record is None or self._is_late_locked(permit.era):
                return False
            permit.settled = True
            row = record.failures_in_row
            if breaker_faults.OPENS_TWICE in self.faults:
                record.failures_in_row = row + 1
        with self._lock:
            self._tally.failures += 1
            record.failures_in_row = row + 1
            if row + 1 >= self.options.failures_in_row:
                self._enter_locked(_S.OPEN, "opened", self._clock.look(), f"{row + 1} failures in a row")
        self._box.tell()
        return True

    def _is_late_locked(self, era: BreakerEra) -> bool:
        if breaker_faults.NO_GENERATION in self.faults:
            return not self._live.admits and self._live.state is not _S.HALF_OPEN
        return super()._is_late_locked(era)

    def _late_locked(self, outcome: Outcome, now_ns: int) -> None:
        super()._late_locked(outcome, now_ns)
        restarts = breaker_faults.LATE_FAILURE_RESTARTS_TIMER in self.faults and outcome is Outcome.FAILURE
        if restarts and self._live.state is _S.OPEN:
            self._live.until_ns = now_ns + self.options.open_for_ns(self._openings)

    def _put_back_locked(self, era: BreakerEra, outcome: Outcome) -> None:
        lost = (
            outcome is Outcome.CANCELLED and breaker_faults.LOST_PERMIT_ON_CANCEL in self.faults,
            outcome is Outcome.IGNORED and breaker_faults.LOST_PERMIT_ON_IGNORED in self.faults,
        )
        if not any(lost):
            super()._put_back_locked(era, outcome)

    def _note_calm_locked(self) -> None:
        if breaker_faults.CALM_SAID_LATE not in self.faults or not self._is_calm(self._live.state, self._live.record):
            super()._note_calm_locked()
