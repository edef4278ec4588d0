"""StickyConn: one connection of a pool for several commands that belong together: WATCH, MULTI, EXEC, or a session.

Role: what a command leaves behind on its connection is of use to the next one only if that has the same. The first
command takes a connection from the pool, the following ones have that very one, one at a time in the order in which
they came, and it goes back when this is closed. Nobody puts another in its place: when it has failed, or was marked or
closed by the pool, every command raises BadConn until `reset`, since what the earlier ones left is gone.

Thread: any number of callers, one at a time has the connection. Upstream: StickyConnPool
(internal/pool/pool_sticky.go). Left out: subscriptions. Bound of the line: its callers.
"""

from __future__ import annotations

from typing import Any

from coordemu.pool.conn_loan import ConnLoan
from coordemu.pool.conn_pool import ConnPool
from coordemu.pool.pool_conn_state import PoolConnState
from coordemu.pool.pool_context import PoolContext
from coordemu.pool.pool_errors import BadConn, ConnFailed, NotInHand, PoolClosed, PoolTimeout
from coordemu.pool.turns import NoTurn, Turns
from coordemu.runtime.base import NS_PER_MS


class StickyConn:
    """One connection of `pool`, taken at its first use. Close it when done, or use a with statement: the connection's
    turn is held until then."""

    def __init__(self, pool: ConnPool) -> None:
        self.name = f"{pool.name} sticky"
        self._pool = pool
        self._rt = pool.rt
        self._line = Turns(pool.rt, 1, f"{self.name} line")
        self._lock = pool.rt.lock(self.name)
        self._loan: ConnLoan | None = None
        self._in_use = False
        self._bad = ""
        self._closed = False

    def get(self, ctx: PoolContext | None = None) -> ConnLoan:
        """The connection, for this caller alone until it is put or removed here.

        Raises BadConn, PoolClosed (this, or the pool, was closed), PoolTimeout when another has it for longer than the
        pool's time-out, and as `ConnPool.get`. Thread: any. May block.
        """
        began_ns = self._rt.now_ns()
        timeout_ns = self._pool.options.pool_timeout_ms * NS_PER_MS
        try:
            self._line.acquire(ctx, began_ns + timeout_ns)
        except NoTurn:
            occupancy = self._pool.snapshot().occupancy
            raise PoolTimeout(self.name, self._rt.now_ns() - began_ns, occupancy) from None
        taken = False
        try:
            loan = self._take(ctx)
            taken = True
            return loan
        finally:
            if not taken:
                self._line.release()

    def _take(self, ctx: PoolContext | None) -> ConnLoan:
        with self._lock:
            loan = self._usable_locked()
        if loan is not None:
            return loan
        # Only who has the line's turn comes here.
        fresh = self._pool.get(ctx)
        with self._lock:
            if not self._closed:
                self._loan, self._in_use = fresh, True
                return fresh
        self._pool.put(fresh)
        raise PoolClosed(f"{self.name} was closed")

    def _usable_locked(self) -> ConnLoan | None:
        """The one there is; None: there is none yet. Raises PoolClosed, BadConn."""
        if self._closed:
            raise PoolClosed(f"{self.name} is closed")
        loan = self._loan
        if loan is not None and not self._bad:
            conn = loan.conn
            self._bad = conn.close_on_put or ("closed" if conn.state is PoolConnState.CLOSED else "")
        if self._bad:
            raise BadConn(f"{self.name}: its connection is of no use any more ({self._bad}); reset or close it")
        self._in_use = loan is not None
        return loan

    def put(self, loan: ConnLoan) -> None:
        """The command is done; the connection stays. Raises NotInHand, and changes nothing, for another loan or when
        nobody has it. Thread: any."""
        self._give(loan, "")

    def remove(self, loan: ConnLoan, reason: str = "broken") -> None:
        """As `put`, and the connection has failed: BadConn from now on. Thread: any."""
        self._give(loan, reason or "broken")

    def _give(self, loan: ConnLoan, bad: str) -> None:
        with self._lock:
            if loan is not self._loan or not self._in_use:
                raise NotInHand(f"{self.name}: {loan.name} is given back, and is in nobody's hand")
            self._in_use = False
            self._bad = self._bad or bad
            given = self._take_out_locked() if self._closed else None
        if given is not None:
            self._hand_back(*given)
        self._line.release()

    def call(self, *command: str | bytes | int, timeout_ns: int | None = None, ctx: PoolContext | None = None) -> Any:
        """One command over it; its reply, an error reply as a value. timeout_ns: for the reply, None: no limit.

        Raises ConnFailed (then the connection is bad), and as `get`. Thread: any. Blocks. The pool's connections must
        be `PoolConn`s.
        """
        loan = self.get(ctx)
        try:
            reply = loan.resource.call(*command, timeout_ns=timeout_ns)
        except ConnFailed:
            self.remove(loan)
            raise
        except BaseException:
            self.remove(loan, "interrupted")
            raise
        self.put(loan)
        return reply

    def reset(self) -> bool:
        """Give a bad connection up; the next use takes another. False: it is not bad, or somebody has it. Thread:
        any."""
        with self._lock:
            if self._closed or self._in_use or not self._bad or self._loan is None:
                return False
            given = self._take_out_locked()
            self._bad = ""
        if given is not None:
            self._hand_back(*given)
        return True

    def close(self) -> None:
        """Give the connection back, a bad one to be closed; who has it now gives it back with its put. Idempotent.
        Thread: any."""
        with self._lock:
            self._closed = True
            given = None if self._in_use else self._take_out_locked()
        self._line.close()
        if given is not None:
            self._hand_back(*given)

    def _take_out_locked(self) -> tuple[ConnLoan, str] | None:
        loan, self._loan = self._loan, None
        return None if loan is None else (loan, self._bad)

    def _hand_back(self, loan: ConnLoan, bad: str) -> None:
        if bad:
            self._pool.remove(loan, bad)
        else:
            self._pool.put(loan)

    def __enter__(self) -> StickyConn:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"bad: {self._bad}" if self._bad else "in use" if self._in_use else "free"
        return f"<StickyConn {self.name!r} {state}, {self._loan!r}>"
