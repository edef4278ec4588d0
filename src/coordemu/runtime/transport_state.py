"""The life of a transport as a table.

Role: `SockTransport` moves only by it. "ended" is the network's doing (refused, timed out, reset, closed by the
peer), "flushed" the leaving of the last byte after the owner's close; "close" and "abort" are the owner's.

Thread: constants, any. Upstream: hiredis' flags (REDIS_CONNECTED, REDIS_DISCONNECTING, REDIS_FREEING). Left out:
authentication and reconnecting, which are a connection's states, not its transport's.
"""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """Where a transport is in its life."""

    CONNECTING = "connecting"
    OPEN = "open"
    FLUSHING = "flushing"
    CLOSED = "closed"


# (state, event) -> state. "ended" is the network's doing, "flushed" the last byte's leaving, the rest the owner's.
TRANSITIONS: dict[tuple[State, str], State] = {
    (State.CONNECTING, "connected"): State.OPEN,
    (State.CONNECTING, "ended"): State.CLOSED,
    (State.CONNECTING, "close"): State.CLOSED,
    (State.CONNECTING, "abort"): State.CLOSED,
    (State.OPEN, "ended"): State.CLOSED,
    (State.OPEN, "close"): State.FLUSHING,
    (State.OPEN, "abort"): State.CLOSED,
    (State.FLUSHING, "flushed"): State.CLOSED,
    (State.FLUSHING, "ended"): State.CLOSED,
    (State.FLUSHING, "close"): State.FLUSHING,
    (State.FLUSHING, "abort"): State.CLOSED,
    (State.CLOSED, "close"): State.CLOSED,
    (State.CLOSED, "abort"): State.CLOSED,
}


def next_state(state: State, event: str) -> State:
    """Where `event` leads from `state`. Raises RuntimeError when it does not fit. Thread: any."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise RuntimeError(f"{event!r} does not fit a {state.value} transport") from None


class NoHandler:
    """Stands in until the handler is known, and again when the transport has ended, to part the two objects."""

    def on_connect(self) -> None:
        """Nothing. Thread: the loop's."""

    def on_data(self, data: bytes) -> None:
        """Nothing. Thread: the loop's."""

    def on_close(self, reason: str | None) -> None:
        """Nothing. Thread: the loop's."""


NO_HANDLER = NoHandler()
