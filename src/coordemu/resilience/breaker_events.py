"""BreakerEvent: what a breaker tells its listeners: its moves and, to who wants them, single calls.

Role: a value. Who moves a breaker writes one into the breaker's `EventBox` under its lock, and has it told after it.

Thread: frozen, any. Upstream: the hook of gobreaker, which knows moves alone. Left out: the calls' results.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from coordemu.resilience.breaker_state import BreakerState

OPENED, HALF_OPENED, CLOSED = "opened", "half-opened", "closed"
FORCED_OPEN, DISABLED, RESET = "forced-open", "disabled", "reset"
REFUSED, SUCCESS, FAILURE = "refused", "success", "failure"
IGNORED, CANCELLED, LATE = "ignored", "cancelled", "late"
MOVE_KINDS = frozenset({OPENED, HALF_OPENED, CLOSED, FORCED_OPEN, DISABLED, RESET})
CALL_KINDS = frozenset({REFUSED, SUCCESS, FAILURE, IGNORED, CANCELLED, LATE})


@dataclass(frozen=True, slots=True)
class BreakerEvent:
    """at_ns: on the runtime's clock.  kind: of MOVE_KINDS or CALL_KINDS.  source, target: the state before and after.
    why: a sentence without its full stop."""

    at_ns: int
    kind: str
    source: BreakerState
    target: BreakerState
    why: str


Listener = Callable[[BreakerEvent], object]


def is_move(event: BreakerEvent) -> bool:
    """Whether it is of the breaker, and not of a single call. Thread: any."""
    return event.kind in MOVE_KINDS
