"""HandOut: the way of a connection into a caller's hand, and back.

Role: the part of a pool that every command goes through. A get takes a turn, looks for an idle connection that is
healthy and that the hooks accept, has one dialed when there is none, and does the handshake of one that was never used.
A put takes it back into the idle list, or has it removed.

The path of a turn: a get takes one and keeps it as long as its caller has the connection; a get that fails gives it
back itself, unless it left it to a dial.

Thread: any. Upstream: getConn, waitTurn, isHealthyConn and putConn (internal/pool/pool.go), initConn (redis.go).
Left out: what `ConnPool` says. Bounds: `PoolOptions`.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any, NoReturn

from coordemu.pool import pool_faults
from coordemu.pool.conn_dialer import Log
from coordemu.pool.conn_loan import ConnLoan
from coordemu.pool.conn_register import ConnRegister
from coordemu.pool.conn_remover import ConnRemover
from coordemu.pool.pool_conn_state import PoolConnState
from coordemu.pool.pool_context import PoolContext, park
from coordemu.pool.pool_errors import ConnUnusable, HookRefused, PoolClosed, PoolTimeout
from coordemu.pool.pool_hooks import PoolHookManager
from coordemu.pool.pool_listener import USED, Teller
from coordemu.pool.pool_options import PoolOptions
from coordemu.pool.pooled_conn import PooledConn
from coordemu.pool.queued_dials import QueuedDials, TurnLeft
from coordemu.pool.turns import NoTurn, Turns
from coordemu.runtime.base import NS_PER_MS, Event, Runtime

_S = PoolConnState


class HandOut:
    """Gets and puts of one pool, made of its parts."""

    def __init__(
        self,
        rt: Runtime,
        options: PoolOptions,
        register: ConnRegister,
        turns: Turns,
        dials: QueuedDials,
        remover: ConnRemover,
        hooks: PoolHookManager,
        initialize: Callable[[PooledConn], object] | None,
        health_check: Callable[[Any], bool] | None,
        log: Log,
        faults: AbstractSet[str],
        teller: Teller | None = None,
    ) -> None:
        self.name = register.name
        self._rt = rt
        self._options = options
        self._register = register
        self._turns = turns
        self._dials = dials
        self._remover = remover
        self._hooks = hooks
        self._initialize = initialize
        self._health_check = health_check
        self._log = log
        self._faults = faults
        self._teller = teller

    def get(self, ctx: PoolContext | None) -> ConnLoan:
        """A loan of a connection that is IN_USE. Raises as `ConnPool.get`. Thread: any. May block."""
        deadline_ns = self._rt.now_ns() + self._options.pool_timeout_ms * NS_PER_MS
        self.wait_turn(ctx, deadline_ns)
        try:
            conn = self._reuse(ctx, deadline_ns)
            if conn is None:
                conn = self._dial(ctx)
            if conn.machine.state is not _S.IN_USE:
                self.initialize_conn(conn)
        except TurnLeft as left:
            raise left.error from None
        except BaseException:
            self._turns.release()
            raise
        # From here on it can be given back, and by this loan alone.
        conn.loan = loan = ConnLoan(conn)
        return loan

    def wait_turn(self, ctx: PoolContext | None, deadline_ns: int) -> None:
        """A turn. Raises PoolTimeout at the deadline, and as `Turns.acquire`. Upstream: waitTurn."""
        try:
            waited_ns = self._turns.acquire(ctx, deadline_ns)
        except NoTurn:
            raise self._timeout(deadline_ns) from None
        if self._teller is not None:
            self._teller.tell("waited", waited_ns)

    def _timeout(self, deadline_ns: int) -> PoolTimeout:
        self._remover.count("timeouts")
        waited_ns = self._rt.now_ns() - deadline_ns + self._options.pool_timeout_ms * NS_PER_MS
        if self._teller is not None:
            self._teller.tell("timed_out", waited_ns)
        return PoolTimeout(self.name, waited_ns, self._register.occupancy(self._turns.waiting))

    def _reuse(self, ctx: PoolContext | None, deadline_ns: int) -> PooledConn | None:
        """An idle connection that is healthy and that the hooks accept. None: a dial is needed. The turn stays."""
        attempts = 0
        while attempts < self._options.get_attempts:
            conn, borrowed = self._register.pop_idle_or_wait(self._borrow_event)
            self._dials.check_min_idle()
            if borrowed is not None:
                self._wait_for_drainer(borrowed, ctx, deadline_ns)
                continue
            if conn is None:
                return None
            attempts += 1
            if self._teller is not None:
                self._teller.taken()
            if self._usable(conn):
                return conn
        return None

    def _usable(self, conn: PooledConn) -> bool:
        """Whether the caller may have it; otherwise it has been closed, or listed again."""
        if not self.healthy(conn):
            self._drop_popped(conn, "stale")
            return False
        if not len(self._hooks):
            return True
        try:
            accepted = self._hooks.on_get(conn, False)
        except Exception as error:
            self._log("notice", f"{conn.name}: a hook failed: {error}")
            self._drop_popped(conn, "hook_error")
            return False
        if not accepted:
            self._remover.count("refused")
            if conn.machine.state is _S.INITIALIZING:
                # It was never used, and cannot be made so again.
                self._drop_popped(conn, "hook_error")
                return False
            self._unhit()
            with self._register.lock:
                was_out = self._register.take_back_locked(conn)
            self._list_or_remove(conn, was_out)
        return accepted

    def _drop_popped(self, conn: PooledConn, reason: str) -> None:
        self._unhit()
        self._remover.remove(conn, reason)

    def _unhit(self) -> None:
        with self._register.lock:
            self._register.hits -= 1

    def healthy(self, conn: PooledConn) -> bool:
        """Whether it is young enough, and passes the check. Thread: who has it. Upstream: isHealthyConn."""
        now_ns = self._rt.now_ns()
        if conn.expires_ns is not None and now_ns >= conn.expires_ns:
            return False
        unused_ns = now_ns - conn.used_ns
        idle_limit_ms = self._options.conn_max_idle_time_ms
        if idle_limit_ms and unused_ns >= idle_limit_ms * NS_PER_MS:
            return False
        just_used = 0 <= unused_ns < self._options.health_check_after_ms * NS_PER_MS
        if self._health_check is not None and not just_used and not self._health_check(conn.resource):
            return False
        conn.used_ns = now_ns
        return True

    def _borrow_event(self) -> Event:
        return self._rt.event(f"the drainer of {self.name}", owed_by=lambda: [f"the drainer of {self.name}"])

    def _wait_for_drainer(self, event: Event, ctx: PoolContext | None, deadline_ns: int) -> None:
        """All that is idle is with a drainer. Upstream: WaitForDrainer."""
        park(self._rt, event, ctx, deadline_ns)
        # The context sets the event too.
        error = ctx.error() if ctx is not None else None
        if error is not None:
            raise error
        if not event.is_set():
            raise self._timeout(deadline_ns)

    def _dial(self, ctx: PoolContext | None) -> PooledConn:
        """A fresh connection, in the caller's hand and INITIALIZING. Raises as `dial_for`; HookRefused."""
        self._remover.count("misses")
        conn = self._dials.dial_for(ctx)
        if not self._register.hand_out(conn):
            self.fail_hand_over(conn)
        self.tell_used()
        if not len(self._hooks):
            return conn
        try:
            accepted = self._hooks.on_get(conn, True)
        except Exception:
            self._remover.remove(conn, "hook_error")
            raise
        if not accepted:
            self._remover.remove(conn, "hook_error")
            if pool_faults.REFUSAL_LEAKS_TURN in self._faults:
                raise TurnLeft(HookRefused(f"{conn.name}: a hook refused it"))
            raise HookRefused(f"{conn.name}: a hook refused it")
        return conn

    def tell_used(self) -> None:
        """A fresh one is in a hand."""
        if self._teller is not None:
            self._teller.tell("counted", USED, 1)

    def fail_hand_over(self, conn: PooledConn) -> NoReturn:
        """Between its dial and its caller it was closed: with the pool, or by somebody."""
        if not self._remover.remove(conn, "closed"):
            raise PoolClosed(f"{self.name} was closed during a dial")
        self._remover.count("conflicts")
        raise ConnUnusable(f"{conn.name} was closed before its caller had it")

    def initialize_conn(self, conn: PooledConn) -> None:
        """The handshake of a connection that was never used, in its first caller's task. INITIALIZING -> IN_USE."""
        began_ns = self._rt.now_ns()
        try:
            if self._initialize is not None and conn.machine.state is _S.INITIALIZING:
                self._initialize(conn)
        except BaseException:
            # What waits for the connection is told at once; the teardown proper follows.
            conn.machine.close()
            self._remover.remove(conn, "init_error")
            raise
        if pool_faults.INIT_WINDOW in self._faults:
            conn.machine.move(_S.INITIALIZING, _S.IDLE)
            ready = conn.machine.move(_S.IDLE, _S.IN_USE)
        else:
            ready = conn.machine.move(_S.INITIALIZING, _S.IN_USE)
        if not ready and pool_faults.SHARED_CREATED not in self._faults:
            found = conn.machine.state
            self._remover.remove(conn, "init_error")
            self._remover.count("conflicts")
            raise ConnUnusable(f"{conn.name} is {found.value} after its handshake")
        if self._teller is not None:
            self._teller.tell("created", conn, conn.dial_ns + self._rt.now_ns() - began_ns)

    def take_back(self, loan: ConnLoan) -> None:
        """Into the idle list, or out of the pool. Raises NotInHand. The turn stays as it is. Upstream: putConn."""
        if len(self._hooks):
            self._list_or_remove(loan.conn, self._register.end_loan(loan))
            return
        # No hook: one look under the lock is all.
        with self._register.lock:
            was_out = self._register.end_loan_locked(loan)
            reason = self._register.list_locked(loan.conn)
        if reason or self._teller is not None:
            self._end(loan.conn, was_out, reason)

    def _list_or_remove(self, conn: PooledConn, was_out: bool) -> None:
        """What the hooks say, then the list."""
        reason = self._reason_to_remove(conn)
        if not reason:
            with self._register.lock:
                reason = self._register.list_locked(conn)
        self._end(conn, was_out, reason)

    def _end(self, conn: PooledConn, was_out: bool, reason: str) -> None:
        if self._teller is not None and was_out:
            self._teller.given_back(not reason)
        if reason:
            self._remover.remove(conn, reason)

    def _reason_to_remove(self, conn: PooledConn) -> str:
        """What the hooks say of a connection that is given back."""
        if conn.close_on_put:
            return conn.close_on_put
        try:
            verdict = self._hooks.on_put(conn)
        except Exception as error:
            self._log("notice", f"{conn.name}: a hook failed: {error}")
            return "hook_error"
        return "" if verdict.should_pool and not verdict.should_remove else "hook"

    def __repr__(self) -> str:
        return f"<HandOut of {self.name!r}>"
