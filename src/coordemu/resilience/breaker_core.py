"""BreakerCore: what a circuit breaker decides, all of it under its lock.

Role: the inner half of `CircuitBreaker`: which trigger it is, the table's line (`breaker_state`), the move, the permit,
the count. Each decision is one stretch under the lock, with the clock read there. A probe's permit is looked for and
taken in one step; a permit comes back with every end of a call, whether that counts or not; a result of an era that is
over changes nothing.

Thread: any. Upstream: gobreaker (generations, permits), resilience4j (windows, half-open time limit, back-off of the
open time). Left out: what callers see; that is `circuit_breaker`. Bounds: one era, and the record's window.
"""

from __future__ import annotations

from collections.abc import Callable

from coordemu.resilience import breaker_events as kinds
from coordemu.resilience.breaker_clock import BreakerClock
from coordemu.resilience.breaker_events import BreakerEvent
from coordemu.resilience.breaker_options import BreakerOptions
from coordemu.resilience.breaker_permit import ADMITTING, BreakerEra, BreakerTally, Outcome, Permit
from coordemu.resilience.breaker_state import BreakerAction, BreakerState, BreakerTrigger, line_for
from coordemu.resilience.breaker_window import ClosedRecord
from coordemu.resilience.event_box import EventBox
from coordemu.resilience.resilience_errors import BreakerOpen
from coordemu.runtime.base import Runtime

_S, _T, _A = BreakerState, BreakerTrigger, BreakerAction
_ORDER_KINDS = {
    _T.FORCE_OPEN: kinds.FORCED_OPEN,
    _T.FORCE_CLOSED: kinds.CLOSED,
    _T.DISABLE: kinds.DISABLED,
    _T.RESET: kinds.RESET,
}
_MOVE_KINDS = {_S.OPEN: kinds.OPENED, _S.HALF_OPEN: kinds.HALF_OPENED, _S.CLOSED: kinds.CLOSED}


class BreakerCore:
    """The arguments are those of `CircuitBreaker`."""

    def __init__(
        self, rt: Runtime, options: BreakerOptions | None, name: str, is_failure: Callable[[Exception], bool]
    ) -> None:
        self.name = name
        self.options = options or BreakerOptions()
        self._rt = rt
        self._lock = rt.lock(name)
        self._clock = BreakerClock(rt)
        self._box: EventBox[BreakerEvent] = EventBox(self._lock)
        self._is_failure = is_failure
        self._timed = self.options.slow_call_ms > 0
        self._tally = BreakerTally()
        # Openings since it was last closed, for the back-off.
        self._openings = 0
        self._moves = dict.fromkeys(sorted(kinds.MOVE_KINDS), 0)
        self._unclosed_since_ns: int | None = None
        self._live = self._new_era(_S.CLOSED, 1)
        # The same for who has not got the lock.
        self._era = rt.cell(self._live, f"era of {name}")

    # -- a caller comes

    def _trigger_for_call_locked(self, now_ns: int) -> BreakerTrigger:
        era = self._live
        if era.state is _S.OPEN:
            return _T.CALL_DUE if now_ns >= era.until_ns else _T.CALL
        if era.state is not _S.HALF_OPEN or era.out < self.options.half_open_permits:
            return _T.CALL
        limit_ns = self.options.half_open_max_ns
        return _T.CALL_STUCK if limit_ns and now_ns - era.full_since_ns >= limit_ns else _T.CALL_FULL

    def _answer_locked(self, trigger: BreakerTrigger, now_ns: int) -> Permit | BreakerOpen:
        """What the caller gets. trigger: of those that begin with CALL."""
        refuser = self._live
        action = self._follow_locked(trigger, now_ns, trigger.value)
        if action is _A.REFUSE:
            return self._refuse_locked(refuser, now_ns)
        return self._let_through_locked(action, now_ns)

    def _refuse_locked(self, refuser: BreakerEra, now_ns: int) -> BreakerOpen:
        self._tally.refused += 1
        if self._box.wants_all:
            self._write_locked(kinds.REFUSED, refuser.state, self._live.state, refuser.state.value)
        return BreakerOpen(self.name, self._live.state, self._retry_after_locked(now_ns))

    def _retry_after_locked(self, now_ns: int) -> int:
        era = self._live
        return max(0, era.until_ns - now_ns) if era.state is _S.OPEN else 0

    def _let_through_locked(self, action: BreakerAction, now_ns: int) -> Permit:
        era = self._live
        era.tally.permitted += 1
        if action is _A.TAKE:
            self._take_locked(era, now_ns)
        return Permit(era)

    def _take_locked(self, era: BreakerEra, now_ns: int) -> None:
        era.out += 1
        if era.out >= self.options.half_open_permits:
            era.full_since_ns = now_ns

    # -- results

    def _settle(self, permit: Permit, outcome: Outcome, duration_ns: int | None, error: BaseException | None) -> bool:
        """Take a result that may matter. False when the permit was settled before."""
        with self._lock:
            if permit.settled:
                return False
            permit.settled = True
            self._settle_locked(permit, outcome, duration_ns, error)
        self._box.tell()
        return True

    def _settle_locked(
        self, permit: Permit, outcome: Outcome, duration_ns: int | None, error: BaseException | None
    ) -> None:
        now_ns = self._clock.look()
        late = self._is_late_locked(permit.era)
        if self._box.wants_all:
            kind = kinds.LATE if late else outcome.value
            state = self._live.state
            self._write_locked(kind, state, state, type(error).__name__ if error is not None else kind)
        if late:
            self._late_locked(outcome, now_ns)
        elif outcome is Outcome.SUCCESS or outcome is Outcome.FAILURE:
            slow = self._timed and self._took_ns(permit, duration_ns) >= self.options.slow_call_ns
            self._result_locked(outcome is Outcome.FAILURE, slow, now_ns, error)
        else:
            self._give_back_locked(outcome, now_ns)

    def _took_ns(self, permit: Permit, duration_ns: int | None) -> int:
        return max(0, self._rt.now_ns() - permit.began_ns if duration_ns is None else duration_ns)

    def _is_late_locked(self, era: BreakerEra) -> bool:
        return era is not self._live

    def _late_locked(self, outcome: Outcome, now_ns: int) -> None:
        self._follow_locked(_T.LATE, now_ns, _T.LATE.value)
        self._tally.late += 1

    def _give_back_locked(self, outcome: Outcome, now_ns: int) -> None:
        action = self._follow_locked(_T.GIVE_BACK, now_ns, outcome.value)
        if outcome is Outcome.IGNORED:
            self._tally.ignored += 1
        else:
            self._tally.cancelled += 1
        if action is _A.PUT_BACK:
            self._put_back_locked(self._live, outcome)

    def _put_back_locked(self, era: BreakerEra, outcome: Outcome) -> None:
        era.out -= 1

    def _result_locked(self, failed: bool, slow: bool, now_ns: int, error: BaseException | None) -> None:
        """Count a result of the live era, and move if that is reason to."""
        era, tally = self._live, self._tally
        trigger, why = self._trigger_for_result_locked(failed, slow, now_ns)
        if why and error is not None:
            why += f", the last with {type(error).__name__}"
        if failed:
            tally.failures += 1
        else:
            tally.successes += 1
        tally.slow += slow
        if era.state is _S.HALF_OPEN:
            era.succeeded += trigger in (_T.SUCCESS, _T.LAST_SUCCESS)
            self._put_back_locked(era, Outcome.FAILURE if failed else Outcome.SUCCESS)
        self._follow_locked(trigger, now_ns, why)
        self._note_calm_locked()

    def _trigger_for_result_locked(self, failed: bool, slow: bool, now_ns: int) -> tuple[BreakerTrigger, str]:
        """The trigger, and why the breaker moves if it does."""
        era = self._live
        if era.record is not None:
            why = era.record.add(failed, slow, now_ns)
            return (_T.TRIP, why) if why else (_T.FAILURE if failed else _T.SUCCESS, "")
        if era.state is _S.HALF_OPEN:
            if failed:
                return _T.FAILURE, "a probe failed"
            if slow and self.options.slow_rule:
                return _T.FAILURE, "a probe was slow"
            wanted = self.options.successes_to_close
            if era.succeeded + 1 >= wanted:
                return _T.LAST_SUCCESS, f"{wanted} of {wanted} probes succeeded"
        return (_T.FAILURE if failed else _T.SUCCESS), ""

    # -- moves

    def _follow_locked(self, trigger: BreakerTrigger, now_ns: int, why: str) -> BreakerAction:
        """Move as the table says, and return what else is to be done."""
        state = self._live.state
        line = line_for(self.name, state, trigger)
        if line.target is not state or line.action is _A.ENTER:
            self._enter_locked(line.target, _ORDER_KINDS.get(trigger) or _MOVE_KINDS[line.target], now_ns, why)
        return line.action

    def _enter_locked(self, target: BreakerState, kind: str, now_ns: int, why: str) -> None:
        old = self._live
        era = self._new_era(target, old.generation + 1)
        if target is _S.OPEN:
            self._openings += 1
            era.until_ns = now_ns + self.options.open_for_ns(self._openings)
        elif target is not _S.HALF_OPEN:
            self._openings = 0
        if era.admits:
            self._unclosed_since_ns = None
        elif self._unclosed_since_ns is None:
            self._unclosed_since_ns = era.since_ns
        self._moves[kind] += 1
        # First no success counts for the old one without the lock, then all see the new one.
        if old.said_calm:
            old.calm.value = False
        self._live = era
        self._era.value = era
        self._write_locked(kind, old.state, target, why)

    def _new_era(self, state: BreakerState, generation: int) -> BreakerEra:
        record = ClosedRecord(self.options) if state is _S.CLOSED else None
        calm = self._is_calm(state, record)
        era = BreakerEra(
            state, generation, self._rt.now_ns(), self._rt.cell(calm, f"calm {generation} of {self.name}"),
            self._tally, self._settle, self._is_failure,
        )  # fmt: skip
        era.record, era.said_calm = record, calm
        return era

    def _is_calm(self, state: BreakerState, record: ClosedRecord | None) -> bool:
        """Whether a success changes nothing but a count."""
        if state not in ADMITTING or self._timed or self._box.wants_all:
            return False
        return record is None or (record.window is None and not record.failures_in_row)

    def _note_calm_locked(self) -> None:
        era = self._live
        calm = self._is_calm(era.state, era.record)
        if era.said_calm != calm:
            era.said_calm = calm
            era.calm.value = calm

    def _write_locked(self, kind: str, source: BreakerState, target: BreakerState, why: str) -> None:
        self._box.write_locked(BreakerEvent(self._rt.now_ns(), kind, source, target, why))
