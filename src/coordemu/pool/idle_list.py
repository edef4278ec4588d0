"""IdleList: the connections that wait for a caller, in the order in which they will be looked at.

Role: a deque under the pool's lock. The near end is where the next is taken: the last given back (LIFO, the default) or
the first (FIFO). What cannot be taken, since a worker owns it, goes to the far end, so that it is looked at last.

Thread: any, under the lock of `ConnRegister`. Upstream: idleConns and popIdle (internal/pool/pool.go). Left out:
nothing. Bound: the pool's size, of which each connection is in it once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from collections.abc import Set as AbstractSet

from coordemu.pool import pool_faults
from coordemu.pool.pool_conn_state import PoolConnState
from coordemu.pool.pooled_conn import PooledConn


class IdleList:
    """Idle connections. fifo: which end is the near one.  pool_size: for the fault pop-last-try."""

    def __init__(self, fifo: bool, pool_size: int, faults: AbstractSet[str] = frozenset()) -> None:
        self._fifo = fifo
        self._pool_size = pool_size
        self._faults = faults
        self._conns: deque[PooledConn] = deque()

    def push(self, conn: PooledConn, usable: bool = True) -> None:
        """Append one that was given back; one that is not usable goes to the far end."""
        if usable or self._fifo:
            self._conns.append(conn)
        else:
            self._conns.appendleft(conn)

    def pop(self, attempts: int) -> PooledConn | None:
        """Take the nearest that can be acquired, of `attempts` (1 or more) that are looked at. None: none of them.

        What is closed is dropped on the way. Upstream: popIdle.
        """
        limit = min(attempts, len(self._conns))
        for tried in range(1, limit + 1):
            conn = self._conns.popleft() if self._fifo else self._conns.pop()
            if conn.machine.acquire():
                if pool_faults.POP_LAST_TRY in self._faults and 1 < tried == limit >= self._pool_size:
                    return None
                return conn
            if conn.machine.state is PoolConnState.CLOSED and pool_faults.ZOMBIE_IDLE not in self._faults:
                continue
            if self._fifo:
                self._conns.append(conn)
            else:
                self._conns.appendleft(conn)
        return None

    def remove(self, conn: PooledConn) -> bool:
        """Take this one out. False: it is not in the list."""
        try:
            self._conns.remove(conn)
        except ValueError:
            return False
        return True

    def __iter__(self) -> Iterator[PooledConn]:
        """From the near end on."""
        return iter(tuple(self._conns) if self._fifo else tuple(reversed(self._conns)))

    def __len__(self) -> int:
        return len(self._conns)

    def __repr__(self) -> str:
        return f"<IdleList {'FIFO' if self._fifo else 'LIFO'} {[conn.conn_id for conn in self]}>"
