"""BreakerState: the five states of a circuit breaker and what moves it between them, as a table.

Role: the rules by which `CircuitBreaker` moves. Whoever asks it something decides under its lock which trigger that is
(a caller comes while the breaker is open: is the open time over, or not?), and the table says the rest: where the
breaker is then, and what is done for the caller. A pair that is not in the table is illegal: it raises and changes
nothing.

    CLOSED --trip--> OPEN --the open time is over, and a caller comes--> HALF_OPEN --enough probes succeed--> CLOSED
                      ^------- a probe fails, is slow, or none comes back in time ----|
    any -> FORCED_OPEN (refuses all), DISABLED (lets all through, counts no failures), CLOSED (on demand)

Every move to a state, also to the one it is in (`ENTER`), begins a new generation: results of calls that were let
through before it are LATE, and change nothing in any state.

Thread: a table, any. Upstream: none; gobreaker, resilience4j and Polly agree on the three states, the other two are
resilience4j's FORCED_OPEN and DISABLED. Left out: METRICS_ONLY (a closed breaker whose rules are all off is that).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from coordemu.resilience.resilience_errors import ResilienceError


class BreakerState(Enum):
    """Where a breaker is."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"
    FORCED_OPEN = "FORCED_OPEN"
    DISABLED = "DISABLED"

    # Members are singletons; the default hash goes through the name, and costs on every look into the table.
    __hash__ = object.__hash__


class BreakerTrigger(Enum):
    """What happens to a breaker; the values are for readers."""

    CALL = "a caller comes"
    CALL_DUE = "a caller comes, and the open time is over"
    CALL_FULL = "a caller comes, and all permits are out"
    CALL_STUCK = "a caller comes, and all permits have been out for too long"
    SUCCESS = "a call has succeeded"
    LAST_SUCCESS = "a probe has succeeded, the last that was wanted"
    FAILURE = "a call has failed"
    TRIP = "a call has ended, and with it a rule is met"
    GIVE_BACK = "a call was cancelled, or its error does not count"
    LATE = "a call has ended that an earlier generation let through"
    FORCE_OPEN = "somebody opens it until further notice"
    FORCE_CLOSED = "somebody closes it"
    DISABLE = "somebody switches it off"
    RESET = "somebody lets it begin again"

    __hash__ = object.__hash__


class BreakerAction(Enum):
    """What is done besides the move."""

    ADMIT = "let the caller through"
    TAKE = "let the caller through with one of the permits"
    REFUSE = "turn the caller away"
    COUNT = "the result counts"
    PUT_BACK = "the permit is there for another"
    ENTER = "begin the state anew"
    NOTHING = "nothing"

    __hash__ = object.__hash__


@dataclass(frozen=True, slots=True)
class BreakerLine:
    """One line of the table. target: the state afterwards; another than before begins anew.  action: see there."""

    target: BreakerState
    action: BreakerAction


class IllegalTrigger(ResilienceError):
    """The table has no such line; nothing was changed. `state` and `trigger` say which."""

    def __init__(self, name: str, state: BreakerState, trigger: BreakerTrigger) -> None:
        super().__init__(name, state, trigger)
        self.name = name
        self.state = state
        self.trigger = trigger

    def __str__(self) -> str:
        return f"{self.name}: {self.state.value} knows nothing of {self.trigger.name} ({self.trigger.value})"


_S, _T, _A = BreakerState, BreakerTrigger, BreakerAction


def _with_orders(state: BreakerState, own: Mapping[BreakerTrigger, BreakerLine]) -> dict[BreakerTrigger, BreakerLine]:
    """The lines of one state: its own, the late result, and what can be ordered in every state. An order to be what it
    is changes nothing where there is nothing to forget."""
    orders = {
        _T.LATE: BreakerLine(state, _A.NOTHING),
        _T.FORCE_OPEN: BreakerLine(_S.FORCED_OPEN, _A.NOTHING if state is _S.FORCED_OPEN else _A.ENTER),
        _T.DISABLE: BreakerLine(_S.DISABLED, _A.NOTHING if state is _S.DISABLED else _A.ENTER),
        _T.FORCE_CLOSED: BreakerLine(_S.CLOSED, _A.ENTER),
        _T.RESET: BreakerLine(_S.CLOSED, _A.ENTER),
    }
    return {**own, **orders}


_LINES: dict[BreakerState, dict[BreakerTrigger, BreakerLine]] = {
    _S.CLOSED: {
        _T.CALL: BreakerLine(_S.CLOSED, _A.ADMIT),
        _T.SUCCESS: BreakerLine(_S.CLOSED, _A.COUNT),
        _T.FAILURE: BreakerLine(_S.CLOSED, _A.COUNT),
        _T.TRIP: BreakerLine(_S.OPEN, _A.COUNT),
        _T.GIVE_BACK: BreakerLine(_S.CLOSED, _A.NOTHING),
    },
    _S.OPEN: {
        _T.CALL: BreakerLine(_S.OPEN, _A.REFUSE),
        _T.CALL_DUE: BreakerLine(_S.HALF_OPEN, _A.TAKE),
    },
    _S.HALF_OPEN: {
        _T.CALL: BreakerLine(_S.HALF_OPEN, _A.TAKE),
        _T.CALL_FULL: BreakerLine(_S.HALF_OPEN, _A.REFUSE),
        _T.CALL_STUCK: BreakerLine(_S.OPEN, _A.REFUSE),
        _T.SUCCESS: BreakerLine(_S.HALF_OPEN, _A.COUNT),
        _T.LAST_SUCCESS: BreakerLine(_S.CLOSED, _A.COUNT),
        _T.FAILURE: BreakerLine(_S.OPEN, _A.COUNT),
        _T.GIVE_BACK: BreakerLine(_S.HALF_OPEN, _A.PUT_BACK),
    },
    _S.FORCED_OPEN: {
        _T.CALL: BreakerLine(_S.FORCED_OPEN, _A.REFUSE),
    },
    _S.DISABLED: {
        _T.CALL: BreakerLine(_S.DISABLED, _A.ADMIT),
        _T.SUCCESS: BreakerLine(_S.DISABLED, _A.NOTHING),
        _T.FAILURE: BreakerLine(_S.DISABLED, _A.NOTHING),
        _T.GIVE_BACK: BreakerLine(_S.DISABLED, _A.NOTHING),
    },
}  # fmt: skip

BREAKER_TABLE: Mapping[tuple[BreakerState, BreakerTrigger], BreakerLine] = MappingProxyType({
    (state, trigger): line
    for state, own in _LINES.items()
    for trigger, line in _with_orders(state, own).items()
})  # fmt: skip


def line_for(name: str, state: BreakerState, trigger: BreakerTrigger) -> BreakerLine:
    """The table's line. Raises IllegalTrigger when there is none. name: the breaker's, for the message. Thread: any."""
    line = BREAKER_TABLE.get((state, trigger))
    if line is None:
        raise IllegalTrigger(name, state, trigger)
    return line
