"""PoolConnState: the six states of a pooled connection and the moves between them, as a table.

Role: the rules by which `ConnStateMachine` moves. A pair that is not in the table is illegal: it raises and changes
nothing. CLOSED has no way out.

    CREATED -> INITIALIZING -> IDLE <-> IN_USE      UNUSABLE: a worker (handoff, re-authentication) owns it
    any -> CLOSED                                   CREATED, IDLE, IN_USE -> UNUSABLE -> INITIALIZING, IDLE

Two rows differ from the model's list. Whoever takes a connection that was never used moves it to INITIALIZING at once:
there, taking it leaves it CREATED, and two callers can both succeed. And INITIALIZING goes to IN_USE directly when the
one who did the handshake keeps the connection: there, it is IDLE for a moment, in which a worker may take it away.

Thread: a table, any. Upstream: internal/pool/conn_state.go, where the table is a comment and nothing enforces it.
Left out: UNKNOWN(n); a state here is a member of the enumeration or it is nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

from coordemu.pool.pool_errors import PoolError


class PoolConnState(Enum):
    """Where a connection is; the values are upstream's names."""

    CREATED = "CREATED"
    INITIALIZING = "INITIALIZING"
    IDLE = "IDLE"
    IN_USE = "IN_USE"
    UNUSABLE = "UNUSABLE"
    CLOSED = "CLOSED"

    # Members are singletons; the default hash goes through the name, and costs on every look into the table.
    __hash__ = object.__hash__


_S = PoolConnState

MOVES: Mapping[PoolConnState, frozenset[PoolConnState]] = MappingProxyType({
    _S.CREATED: frozenset({_S.INITIALIZING, _S.UNUSABLE, _S.CLOSED}),
    _S.INITIALIZING: frozenset({_S.IDLE, _S.IN_USE, _S.CLOSED}),
    _S.IDLE: frozenset({_S.IN_USE, _S.INITIALIZING, _S.UNUSABLE, _S.CLOSED}),
    _S.IN_USE: frozenset({_S.IDLE, _S.UNUSABLE, _S.CLOSED}),
    _S.UNUSABLE: frozenset({_S.IDLE, _S.INITIALIZING, _S.CLOSED}),
    _S.CLOSED: frozenset(),
})  # fmt: skip

USABLE = frozenset({_S.CREATED, _S.IDLE, _S.IN_USE})
INITED = frozenset({_S.IDLE, _S.IN_USE, _S.UNUSABLE})


class IllegalMove(PoolError):
    """The table has no such move; nothing was changed. `source` and `target` say which."""

    def __init__(self, name: str, source: PoolConnState, target: PoolConnState) -> None:
        super().__init__(f"{name}: {source.value} -> {target.value} is no move of the table")
        self.source = source
        self.target = target


class InvalidStateTransition(PoolError):
    """The move is legal, but the connection is in another state. Upstream: ErrInvalidStateTransition."""

    def __init__(
        self, name: str, sources: tuple[PoolConnState, ...], target: PoolConnState, found: PoolConnState
    ) -> None:
        wanted = " or ".join(source.value for source in sources)
        super().__init__(f"{name}: {wanted} -> {target.value} was asked for, but it is {found.value}")
        self.sources = sources
        self.target = target
        self.found = found


class StateMachineClosed(PoolError):
    """The connection was closed while somebody waited to move it. Upstream: ErrStateMachineClosed."""


def check_moves(name: str, sources: tuple[PoolConnState, ...], target: PoolConnState) -> None:
    """Raises IllegalMove when the table lacks one of the moves, ValueError when there is no source. Thread: any."""
    if not sources:
        raise ValueError(f"{name}: a move to {target.value} from nowhere")
    for source in sources:
        if target not in MOVES[source]:
            raise IllegalMove(name, source, target)
