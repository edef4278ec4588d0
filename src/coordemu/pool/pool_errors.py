"""Errors of the pool: each says what was wanted, what was found, and (a time-out) who has what the caller waited for.

Role: what `ConnPool.get` and its kin raise. All are `PoolError`s, so that a caller can tell them from those of its own
commands. A pool time-out carries the counts that explain it, as plain attributes and in its text.

Thread: plain values, any. Upstream: internal/pool/pool.go (ErrClosed, ErrPoolExhausted, ErrPoolTimeout), conn_state.go
(ErrInvalidStateTransition, ErrStateMachineClosed), want_conn.go. Left out: nothing.
"""

from __future__ import annotations

from dataclasses import dataclass


class PoolError(Exception):
    """Anything that the pool itself has to say."""


class PoolClosed(PoolError):
    """The pool was closed, before the call or while it waited. Upstream: ErrClosed."""


class PoolDraining(PoolError):
    """The pool takes no new callers: it is being drained. Upstream: none."""


class PoolExhausted(PoolError):
    """As many connections are open as may be. Upstream: ErrPoolExhausted."""


class PoolOverloaded(PoolError):
    """The waiting line has no place left; the caller was turned away without waiting. Upstream: none."""


class HookRefused(PoolError):
    """A hook did not accept a fresh connection. Upstream: hands out a nil connection without an error."""


class NotInHand(PoolError):
    """A connection was given back by somebody who does not hold it any more. Upstream: pools it as it is."""


class ConnUnusable(PoolError):
    """The connection was taken by a worker before its caller could have it. Upstream: "connection is not usable"."""


class BadConn(PoolError):
    """The one connection that several commands share has failed; it takes a reset. Upstream: BadConnError."""


class ConnFailed(PoolError):
    """The connection is of no use any more. kind: "connect", "timeout", "closed" or "protocol".  sent: whether commands
    had left already, of which nobody knows now whether they were carried out."""

    def __init__(self, kind: str, text: str, sent: bool = False) -> None:
        super().__init__(text)
        self.kind = kind
        self.sent = sent


class NoSlotMap(PoolError):
    """Somebody else asks the nodes for the first slot map, and has no answer in time. Upstream: none."""


class Cancelled(PoolError):
    """The caller's context was cancelled. Upstream: context.Canceled."""


class DeadlineExceeded(PoolError):
    """The caller's own deadline has passed. Upstream: context.DeadlineExceeded."""


class TurnsOverfull(PoolError):
    """A turn was given back that nobody had. Upstream: the second release hangs for ever."""


@dataclass(frozen=True, slots=True)
class Occupancy:
    """Where a pool's turns and connections are at one moment.

    pool_size: turns in all.  in_use: connections in callers' hands.  idle: ready ones.  dialing: dials under way, those
    of warm-ups included.  unusable: connections that a worker owns.  waiting: callers parked for a turn.
    """

    pool_size: int
    in_use: int
    idle: int
    dialing: int
    unusable: int
    waiting: int

    def __str__(self) -> str:
        return (
            f"{self.in_use} of {self.pool_size} in use, {self.idle} idle, {self.dialing} dialing, "
            f"{self.unusable} unusable, {self.waiting} waiting"
        )


class PoolTimeout(PoolError):
    """No turn came free within the pool's time-out. Upstream: ErrPoolTimeout, which does not say why."""

    def __init__(self, pool: str, waited_ns: int, occupancy: Occupancy) -> None:
        super().__init__(f"{pool}: no turn within {waited_ns / 1e6:.0f} ms: {occupancy}")
        self.waited_ns = waited_ns
        self.occupancy = occupancy
