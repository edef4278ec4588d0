"""ReauthHook: connections that were authenticated with credentials that have changed are authenticated again.

Role: a change marks every connection that is there. One that is given back (or is idle) gets a task that waits for it
to be IDLE, makes it UNUSABLE, authenticates, and gives it back; one that fails is removed. Callers are not given what
is marked or scheduled. A connection that is marked again while it is scheduled is done twice.

Thread: hooks the caller's; one task per connection that is being authenticated, so many at once as the pool has turns.
Upstream: ReAuthPoolHook (internal/auth/streaming), whose AUTH drives UNUSABLE -> IN_USE -> IDLE, so that the
connection is free before its worker is done. Left out: the provider that streams credentials. Bounds: the pool's size.
"""

from __future__ import annotations

from collections.abc import Callable

from coordemu.pool.conn_pool import ConnPool
from coordemu.pool.pool_conn_state import PoolConnState, StateMachineClosed
from coordemu.pool.pool_errors import PoolError
from coordemu.pool.pool_hooks import POOL_IT, PlainHook, PutVerdict
from coordemu.pool.pooled_conn import Place, PooledConn
from coordemu.pool.turns import Turns
from coordemu.runtime.base import NS_PER_MS, Runtime

_S = PoolConnState
OWNER = "re-authentication"


class ReauthHook(PlainHook):
    """Re-authentication for one pool. authenticate: called with a connection that is the worker's own; raises when it
    was refused."""

    def __init__(self, rt: Runtime, pool: ConnPool, authenticate: Callable[[PooledConn], object]) -> None:
        self._rt = rt
        self._pool = pool
        self._authenticate = authenticate
        self._lock = rt.lock(f"{pool.name} re-authentication")
        self._slots = Turns(rt, pool.options.pool_size, f"{pool.name} re-authentication slots")
        self._marked: set[int] = set()
        self._scheduled: set[int] = set()
        self._done = 0
        self._failed = 0
        # Why the newest that failed did; the connection is removed for it.
        self.last_error: Exception | None = None

    def credentials_changed(self) -> int:
        """Mark every connection there is, and begin with those that are idle. How many were marked. Thread: any."""
        register = self._pool.register
        with register.lock:
            conns = list(register.conns.values())
        with self._lock:
            self._marked.update(conn.conn_id for conn in conns)
        with register.lock:
            # Idle ones, and those whose put has asked the hooks already; the others come by their put. One that was
            # never used waits for its handshake, which will have the new credentials.
            at_hand = [
                conn
                for conn in conns
                if conn.place in (Place.IDLE_LIST, Place.HAND_OVER) and conn.state in (_S.IDLE, _S.IN_USE, _S.UNUSABLE)
            ]
        for conn in at_hand:
            self._schedule(conn)
        return len(conns)

    def on_get(self, conn: PooledConn, is_new: bool) -> bool:
        """Not while it is marked or scheduled; but one whose handshake is still to come has nothing to repeat."""
        if is_new:
            return True
        unused = conn.state is _S.INITIALIZING
        with self._lock:
            if unused:
                self._marked.discard(conn.conn_id)
            return conn.conn_id not in self._marked and conn.conn_id not in self._scheduled

    def on_put(self, conn: PooledConn) -> PutVerdict:
        """A marked one is scheduled: its task waits for the end of this put."""
        self._schedule(conn)
        return POOL_IT

    def on_remove(self, conn: PooledConn, reason: str) -> None:
        """Forget it."""
        with self._lock:
            self._marked.discard(conn.conn_id)
            self._scheduled.discard(conn.conn_id)

    def _schedule(self, conn: PooledConn) -> None:
        with self._lock:
            if conn.conn_id not in self._marked or conn.conn_id in self._scheduled:
                return
            self._marked.discard(conn.conn_id)
            self._scheduled.add(conn.conn_id)
        self._rt.spawn(self._work, conn, name=f"{self._pool.name} {OWNER}")

    def _work(self, conn: PooledConn) -> None:
        self._slots.acquire()
        try:
            self._reauthenticate(conn)
        finally:
            self._slots.release()

    def _reauthenticate(self, conn: PooledConn) -> None:
        """Wait for it, authenticate, give it back; or remove it."""
        deadline_ns = self._rt.now_ns() + self._pool.options.pool_timeout_ms * NS_PER_MS
        try:
            conn.machine.wait_and_transition((_S.IDLE,), _S.UNUSABLE, self._pool.lifetime, deadline_ns)
        except StateMachineClosed:
            self._forget(conn)
            return
        except PoolError:
            # A caller keeps it. It is still to be done: its put will come back to it.
            with self._lock:
                self._marked.add(conn.conn_id)
            self._forget(conn, failed=True)
            return
        conn.owned_by = OWNER
        try:
            self._authenticate(conn)
        except Exception as error:
            self.last_error = error
            self._forget(conn, failed=True)
            self._pool.remove_without_turn(conn, "auth_error")
            return
        # First this, then the move: whoever takes it next is not refused.
        self._forget(conn)
        conn.give_back()
        with self._lock:
            self._done += 1

    def _forget(self, conn: PooledConn, failed: bool = False) -> None:
        with self._lock:
            self._scheduled.discard(conn.conn_id)
            self._failed += failed

    @property
    def busy(self) -> bool:
        """Whether anything is scheduled."""
        return bool(self._scheduled) or self._slots.held > 0

    def statistics(self) -> dict[str, int]:
        """marked, scheduled; done and failed since the start. Thread: any."""
        with self._lock:
            return {
                "marked": len(self._marked),
                "scheduled": len(self._scheduled),
                "done": self._done,
                "failed": self._failed,
            }

    def __repr__(self) -> str:
        return f"<ReauthHook of {self._pool.name!r} {len(self._marked)} marked, {len(self._scheduled)} scheduled>"
