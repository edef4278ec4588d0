"""ConnState: the states of one connection, as a table.

Role: the rules by which `coordemu.coord.conn.MRConn` moves. A row says: in this state, at this event, go to that
state and do this. What is not in the table is illegal: it raises and changes nothing. Freeing has no row, so it is
terminal, and a second stop of the same connection is the bug that upstream says it is.

The states are today's. Where RESP3 is asked for, ``HELLO 3`` must come before any command; it does what AUTH does
(one command, one answer, nothing else allowed before it) and carries the password too, so it takes AUTH's place in
*Authenticating*, and a refusal (a server without RESP3, or a wrong password) leads to *ReAuth* as a refused AUTH
does. A seventh state would have had the same rows.

Thread: a table, any; the connection moves on the I/O thread. Upstream: MRConnState and MRConn_SwitchState
(src/coord/rmr/conn.c). Left out: the incident's own set (Disconnected, Connecting, ReAuth, Connected, Freeing), in
which a new connection was Disconnected and AUTH had no state of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType


class ConnState(Enum):
    """Where a connection is; the values are upstream's names."""

    CONNECTING = "Connecting"
    RECONNECTING = "Reconnecting"
    AUTHENTICATING = "Authenticating"
    REAUTH = "ReAuth"
    CONNECTED = "Connected"
    FREEING = "Freeing"


class ConnEvent(Enum):
    """What happens to a connection."""

    OPENED = "the transport stands, no handshake is needed"
    OPENED_FOR_HANDSHAKE = "the transport stands, AUTH or HELLO comes first"
    ACCEPTED = "the handshake was accepted"
    REFUSED = "the handshake was refused"
    LOST = "the transport failed or ended"
    RETRY = "the delay has passed"
    STOP = "the pool gives it up"


class ConnAction(Enum):
    """What the connection does on its way into the new state."""

    CONNECT = "connect"
    SEND_HANDSHAKE = "send AUTH or HELLO"
    BECOME_READY = "take commands"
    WAIT_TO_RECONNECT = "fail the waiting replies, detach, wait 250 ms"
    WAIT_TO_REAUTH = "wait 1000 ms"
    DISCONNECT = "detach and disconnect"


class IllegalTransition(RuntimeError):
    """The event has no row in the state; nothing was changed."""


_S, _E, _A = ConnState, ConnEvent, ConnAction

TRANSITIONS: Mapping[tuple[ConnState, ConnEvent], tuple[ConnState, ConnAction]] = MappingProxyType({
    (_S.CONNECTING, _E.OPENED): (_S.CONNECTED, _A.BECOME_READY),
    (_S.CONNECTING, _E.OPENED_FOR_HANDSHAKE): (_S.AUTHENTICATING, _A.SEND_HANDSHAKE),
    (_S.CONNECTING, _E.LOST): (_S.RECONNECTING, _A.WAIT_TO_RECONNECT),
    (_S.CONNECTING, _E.STOP): (_S.FREEING, _A.DISCONNECT),
    (_S.RECONNECTING, _E.RETRY): (_S.CONNECTING, _A.CONNECT),
    (_S.RECONNECTING, _E.STOP): (_S.FREEING, _A.DISCONNECT),
    (_S.AUTHENTICATING, _E.ACCEPTED): (_S.CONNECTED, _A.BECOME_READY),
    (_S.AUTHENTICATING, _E.REFUSED): (_S.REAUTH, _A.WAIT_TO_REAUTH),
    (_S.AUTHENTICATING, _E.LOST): (_S.RECONNECTING, _A.WAIT_TO_RECONNECT),
    (_S.AUTHENTICATING, _E.STOP): (_S.FREEING, _A.DISCONNECT),
    (_S.REAUTH, _E.RETRY): (_S.AUTHENTICATING, _A.SEND_HANDSHAKE),
    (_S.REAUTH, _E.LOST): (_S.RECONNECTING, _A.WAIT_TO_RECONNECT),
    (_S.REAUTH, _E.STOP): (_S.FREEING, _A.DISCONNECT),
    (_S.CONNECTED, _E.LOST): (_S.RECONNECTING, _A.WAIT_TO_RECONNECT),
    (_S.CONNECTED, _E.STOP): (_S.FREEING, _A.DISCONNECT),
})  # fmt: skip


def next_state(state: ConnState, event: ConnEvent) -> tuple[ConnState, ConnAction]:
    """The table's answer. Raises IllegalTransition when it has none. Thread: any. Upstream: MRConn_SwitchState."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition(f"{state.value}: {event.value} is not possible here") from None
