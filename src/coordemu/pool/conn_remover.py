"""ConnRemover: how a connection leaves its pool, and the counts of what went otherwise than wished.

Role: whatever the reason, a connection is crossed out of the books once; whoever does that tells the hooks, closes it,
and has the pool look whether its idle connections must be refilled. No turn is touched here: that is the caller's.

Thread: any. Upstream: removeConn, CloseConn and closeConn (internal/pool/pool.go), of which two forms forgot the hooks.
Left out: nothing. Bound of the reasons: those that the pool's code and its users name.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet

from coordemu.pool import pool_faults
from coordemu.pool.conn_dialer import Log
from coordemu.pool.conn_register import ConnRegister
from coordemu.pool.pool_hooks import PoolHookManager
from coordemu.pool.pool_listener import Teller
from coordemu.pool.pooled_conn import PooledConn
from coordemu.runtime.base import Runtime

COUNTED = ("misses", "timeouts", "stale", "refused", "closes_failed", "hook_errors", "conflicts")


class ConnRemover:
    """Removals and counts of one pool. `refill` is called after each removal; the pool sets it."""

    def __init__(
        self,
        rt: Runtime,
        register: ConnRegister,
        hooks: PoolHookManager,
        name: str,
        log: Log,
        faults: AbstractSet[str],
        teller: Teller | None = None,
    ) -> None:
        self.name = name
        self.refill: Callable[[], None] = lambda: None
        self._register = register
        self._hooks = hooks
        self._log = log
        self._faults = faults
        self._teller = teller
        self._lock = rt.lock(f"{name} counts")
        self._counts = dict.fromkeys(COUNTED, 0)
        self._by_reason: dict[str, int] = {}

    def remove(self, conn: PooledConn, reason: str) -> bool:
        """Cross out, tell the hooks, close, refill. True for the call that did. Thread: any. May block as the close
        does.
        """
        if not self._register.cross_out(conn):
            return False
        self.finish_quietly(conn, reason)
        self.refill()
        return True

    def finish(self, conn: PooledConn, reason: str) -> Exception | None:
        """Tell the hooks of what was crossed out, and close it. What the close raised."""
        with self._lock:
            self._counts["stale"] += 1
            self._by_reason[reason] = self._by_reason.get(reason, 0) + 1
            self._counts["conflicts"] += reason == "bad_state"
        if self._teller is not None:
            self._teller.removed(conn, reason)
        if pool_faults.EVICTION_SKIPS_HOOK not in self._faults or reason not in ("evicted", "stale"):
            conn.removals_told += 1
            for error in self._hooks.on_remove(conn, reason):
                self.count("hook_errors")
                self._log("warning", f"{conn.name}: a hook failed at its removal: {error}")
        try:
            conn.close()
        except Exception as error:
            return error
        return None

    def finish_quietly(self, conn: PooledConn, reason: str) -> None:
        """As `finish`; what the close raised is counted and logged."""
        self._note(conn, self.finish(conn, reason))

    def close_quietly(self, conn: PooledConn) -> None:
        """Close it under whoever has it; it leaves the pool with that one's put."""
        try:
            conn.close()
        except Exception as error:
            self._note(conn, error)

    def _note(self, conn: PooledConn, error: Exception | None) -> None:
        if error is not None:
            self.count("closes_failed")
            self._log("notice", f"{conn.name}: closing it failed: {error}")

    def count(self, what: str) -> None:
        """One more of COUNTED. Thread: any."""
        with self._lock:
            self._counts[what] += 1

    def counts(self) -> dict[str, int]:
        """COUNTED, since the start; stale: all removals; conflicts: states and hands that should not have been. Thread:
        any."""
        with self._lock:
            return dict(self._counts)

    def by_reason(self) -> dict[str, int]:
        """Removals by reason. Thread: any."""
        with self._lock:
            return dict(sorted(self._by_reason.items()))

    def __repr__(self) -> str:
        return f"<ConnRemover {self.name!r} {self._counts['stale']} removed>"
