"""HandoffHook: connections move to another endpoint while the pool goes on.

Role: when a server announces that it moves, its connections are marked. One that is given back (or is idle) goes to a
worker, UNUSABLE meanwhile: the worker dials the new endpoint, does the handshake, puts the new resource in the place of
the old one, and gives the connection back. Callers meanwhile pass it over.

The order is what matters. The connection is claimed before a worker can know of it; the mark is cleared before the one
move that makes it IDLE, and that move is a compare-and-swap; one that cannot be moved is removed from where it is,
never made IDLE first. From the announcement on a marked connection's callers have more time for their replies
(`RelaxedTimeout`): a server that is about to move is slow.

Thread: hooks the caller's, the rest on `BackgroundWorkers`. Upstream: maintnotifications' pool hook and handoff worker,
which queues before it claims, stores IDLE twice, and stores it before a removal. Left out: its breaker
(the resilience layer has one). Bounds: those of the workers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from coordemu.pool import pool_faults
from coordemu.pool.background_workers import BackgroundWorkers
from coordemu.pool.conn_pool import ConnPool
from coordemu.pool.handoff_record import HandoffMark
from coordemu.pool.pool_conn_state import InvalidStateTransition, PoolConnState
from coordemu.pool.pool_context import pause
from coordemu.pool.pool_hooks import POOL_IT, PlainHook, PutVerdict
from coordemu.pool.pooled_conn import Place, PooledConn
from coordemu.runtime.base import NS_PER_MS, Runtime

_S = PoolConnState
OWNER = "handoff"
REMOVE_IT = PutVerdict(False, True)


@dataclass(frozen=True, slots=True)
class HandoffOptions:
    """timeout_ms: of one dial, 1 or more.  retries: attempts, 1 or more.  retry_delay_ms: 0 or more.  workers: tasks at
    once, 0: by the pool's size.  max_queued: 0: by the workers.  relaxed_timeout_ms: for replies from the announcement
    on until the connection has moved, 0: as ever. Raises ValueError outside the bounds."""

    timeout_ms: int = 15_000
    retries: int = 3
    retry_delay_ms: int = 500
    workers: int = 0
    max_queued: int = 0
    relaxed_timeout_ms: int = 10_000

    def __post_init__(self) -> None:
        least = min(self.retry_delay_ms, self.workers, self.max_queued, self.relaxed_timeout_ms)
        if min(self.timeout_ms, self.retries) < 1 or least < 0:
            raise ValueError(f"{self} is out of bounds")


class HandoffHook(PlainHook):
    """The handoffs of one pool. dial_to: called with (endpoint, time-out in ns), returns a resource.  handshake: called
    with that."""

    def __init__(
        self,
        rt: Runtime,
        pool: ConnPool,
        dial_to: Callable[[Any, int | None], Any],
        options: HandoffOptions | None = None,
        handshake: Callable[[Any], object] | None = None,
    ) -> None:
        self.options = options = options or HandoffOptions()
        self._rt = rt
        self._pool = pool
        self._dial_to = dial_to
        self._handshake = handshake
        # Why the newest handoff that failed did; a connection that is given up says no more than that it was.
        self.last_error: Exception | None = None
        size = pool.options.pool_size
        workers = options.workers or max(1, min(size // 2, max(10, size // 3)))
        queued = options.max_queued or min(max(20 * workers, size), 5 * size)
        self.workers = BackgroundWorkers(rt, f"{pool.name} handoff", self._hand_over, workers, queued)

    def announce(self, endpoint: Any, sequence: int) -> int:
        """The server moves to `endpoint`: mark all connections, and begin with those that are idle. How many were
        marked.

        sequence: of the announcement; only a later one changes a mark. Thread: any. Upstream: the MOVING handler.
        """
        register = self._pool.register
        with register.lock:
            conns = list(register.conns.values())
        marked = [conn for conn in conns if conn.handoff.set(endpoint, sequence)]
        for conn in marked:
            self._relax(conn)
            self._begin_with(conn)
        return len(marked)

    def _relax(self, conn: PooledConn) -> None:
        options = self.options
        if options.relaxed_timeout_ms:
            # As long as all attempts can take, and once more: it may be in use for a while before they begin.
            lasts_ms = (options.timeout_ms + options.retry_delay_ms) * (options.retries + 1)
            conn.relaxed.relax(options.relaxed_timeout_ms * NS_PER_MS, lasts_ms * NS_PER_MS)

    def _begin_with(self, conn: PooledConn) -> None:
        """An idle one now, and one whose put has asked the hooks already. The others come by their put."""
        with self._pool.register.lock:
            # Under this lock it cannot go into a caller's hand. A fresh one on its way there is CREATED.
            at_hand = conn.place in (Place.IDLE_LIST, Place.HAND_OVER)
            taken = conn.handoff.queue() if at_hand else None
            claimed = taken is not None and conn.claim(OWNER, (_S.IDLE, _S.IN_USE))
        if taken is not None and not claimed:
            conn.handoff.take_back(taken)
        elif claimed and not self.workers.submit(conn):
            self._pool.remove_without_turn(conn, "handoff_queue_full")

    def on_get(self, conn: PooledConn, is_new: bool) -> bool:
        """Not while it is marked; but one whose handshake is still to come moves after its first use. Upstream: refuses
        with an error, so that the pool closes it."""
        return conn.handoff.mark is None or is_new or conn.state is _S.INITIALIZING

    def on_put(self, conn: PooledConn) -> PutVerdict:
        """A marked one goes to a worker."""
        taken = conn.handoff.queue()
        if taken is None:
            return POOL_IT
        if not conn.claim(OWNER):
            # Another worker has it: its next put comes back to this.
            conn.handoff.take_back(taken)
            return POOL_IT
        return POOL_IT if self.workers.submit(conn) else REMOVE_IT

    def _hand_over(self, conn: PooledConn) -> None:
        """A worker's part. The connection is UNUSABLE, and nobody else's."""
        mark = conn.handoff.mark
        resource = self._dial(mark) if mark is not None else None
        if resource is None:
            self._give_up(conn)
            return
        try:
            conn.machine.try_transition((_S.UNUSABLE,), _S.INITIALIZING)
            if self._handshake is not None:
                self._handshake(resource)
        except InvalidStateTransition:
            resource.close()  # the pool has closed it meanwhile
            return
        except Exception as error:
            self.last_error = error
            resource.close()
            self._give_up(conn)
            return
        conn.swap_resource(resource).close()
        if conn.handoff.clear(mark):
            conn.relaxed.clear()
        conn.give_back()

    def _dial(self, mark: HandoffMark) -> Any:
        options = self.options
        for attempt in range(options.retries):
            try:
                return self._dial_to(mark.endpoint, options.timeout_ms * NS_PER_MS)
            except Exception as error:
                self.last_error = error
                last = attempt + 1 == options.retries
                if last or not pause(self._rt, options.retry_delay_ms * NS_PER_MS, self._pool.lifetime, "a handoff"):
                    break
        return None

    def _give_up(self, conn: PooledConn) -> None:
        if pool_faults.FAILED_HANDOFF_IDLE in self._pool.faults:
            conn.handoff.clear(conn.handoff.mark)
            conn.give_back()
            self._pool.close_conn(conn, "handoff_failed")
            return
        self._pool.remove_without_turn(conn, "handoff_failed")

    def __repr__(self) -> str:
        return f"<HandoffHook of {self._pool.name!r} {self.workers!r}>"
