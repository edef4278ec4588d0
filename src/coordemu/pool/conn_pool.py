"""ConnPool: the connections to one server, shared by many callers.

Role: `get` gives a caller a connection that is its alone, `put` takes it back, `remove` takes it back to be closed. A
get needs a turn (`turns`), then an idle connection (`conn_register`), or else a dial (`queued_dials`); what it returns
is IN_USE, healthy, accepted by all hooks and initialized. Decisions fall under the register's lock; hooks, dials and
closes happen outside of it. The way out and back is `conn_hand_out`, the way out of the pool `conn_remover`; this file
puts the parts together and has what concerns the whole pool.

Thread: any. Upstream: ConnPool (internal/pool/pool.go). What differs: closing wakes who waits, a cap on connections
holds under a herd, a time-out says why, a second `put` is refused whoever has the connection by then (a get returns a
`ConnLoan`, the ticket of that hand-out, and a put wants it back), and what a faulty
form did stands in `pool_faults`. Left out: a pool of pipelines' own.
Bounds: `PoolOptions`; the line of waiting callers has one when max_waiting says so.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from coordemu.pool import pool_faults
from coordemu.pool.conn_dialer import ConnDialer, Dial, Log
from coordemu.pool.conn_hand_out import HandOut
from coordemu.pool.conn_loan import ConnLoan
from coordemu.pool.conn_register import ConnRegister
from coordemu.pool.conn_remover import ConnRemover
from coordemu.pool.faulty_turns import make_turns
from coordemu.pool.pool_conn_state import PoolConnState
from coordemu.pool.pool_context import PoolContext
from coordemu.pool.pool_errors import (
    NotInHand,
    PoolClosed,
    PoolDraining,
)
from coordemu.pool.pool_hooks import PoolHook, PoolHookManager
from coordemu.pool.pool_listener import PoolListener, Teller
from coordemu.pool.pool_options import PoolOptions
from coordemu.pool.pool_snapshot import PoolSnapshot, snapshot_of
from coordemu.pool.pooled_conn import Place, PooledConn
from coordemu.pool.queued_dials import QueuedDials
from coordemu.pool.turns import NoTurn, Pressure
from coordemu.runtime.base import NS_PER_MS, Holder, Runtime

_S = PoolConnState
OPEN, DRAINING, CLOSED = "open", "draining", "closed"


def _no_log(level: str, line: str) -> None:
    """Nowhere."""


class ConnPool:
    """A pool. Close it when done.

    dial: makes a connection: called with a time-out in ns (None: no limit), returns anything that has `close()`.
    initialize: the handshake, called with a connection that was never used; raising closes it.
    health_check: called with the resource of an idle connection that is about to be handed out; False closes it.
    on_pressure: told with (waiting, max_waiting) when the line grows to the mark, and when it has fallen below.
    listener: told of each event as it happens (`pool_listener`).
    faults: names of `POOL_FAULTS`; UnknownPoolFault for another.
    """

    def __init__(
        self,
        rt: Runtime,
        dial: Dial,
        options: PoolOptions | None = None,
        name: str = "pool",
        faults: Collection[str] = (),
        initialize: Callable[[PooledConn], object] | None = None,
        health_check: Callable[[Any], bool] | None = None,
        on_pressure: Pressure | None = None,
        log: Log = _no_log,
        listener: PoolListener | None = None,
    ) -> None:
        self.rt = rt
        self.name = name
        self.options = options = options or PoolOptions()
        self.hooks = PoolHookManager(rt, name)
        self._teller = teller = Teller(listener, log, name) if listener is not None else None
        self._faults = chosen = pool_faults.check_pool_faults(faults)
        self._phase = rt.cell(OPEN, f"{name} phase")
        self.lifetime = PoolContext(rt, name=f"{name} lifetime")
        self.register = ConnRegister(rt, options, name, chosen)
        self.turns = make_turns(
            rt, options.pool_size, f"{name} turns", chosen, options.max_waiting, options.pressure_at, on_pressure,
            self._turn_holders,
        )  # fmt: skip
        self.dialer = ConnDialer(rt, dial, options, self.lifetime, name, log, chosen)
        self.remover = ConnRemover(rt, self.register, self.hooks, name, log, chosen, teller)
        self.dials = QueuedDials(rt, self.register, self.turns, self.dialer, options, self.remover, log, chosen, teller)
        self.remover.refill = self.dials.check_min_idle
        self._hand_out = HandOut(
            rt, options, self.register, self.turns, self.dials, self.remover, self.hooks, initialize, health_check, log,
            chosen, teller,
        )  # fmt: skip
        self.dials.check_min_idle()

    # -- get

    def get(self, ctx: PoolContext | None = None) -> ConnLoan:
        """A connection, IN_USE, for the caller alone until its loan is put or removed.

        ctx: the caller's own deadline and way to cancel; the pool's time-out bounds the wait for a turn besides.
        Raises PoolTimeout, PoolOverloaded, PoolClosed, PoolDraining, PoolExhausted, Cancelled, DeadlineExceeded,
        HookRefused, and what a dial or the handshake raises. Thread: any. May block. Upstream: Get.
        """
        phase = self._phase.value
        if phase == CLOSED:
            raise PoolClosed(f"{self.name} is closed")
        if phase == DRAINING:
            raise PoolDraining(f"{self.name} is being drained")
        return self._hand_out.get(ctx)

    # -- put and remove

    def put(self, loan: ConnLoan) -> None:
        """Give a connection back, to be used again. It is closed instead when a hook, its mark or the pool's size says
        so.

        Raises NotInHand, and changes nothing, when the loan has ended. Thread: any. Never blocks, but for hooks and a
        close. Upstream: Put.
        """
        try:
            self._hand_out.take_back(loan)
        except NotInHand:
            self.remover.count("conflicts")
            raise
        self.turns.release()

    def remove(self, loan: ConnLoan, reason: str = "removed") -> None:
        """Give a connection back, to be closed (it failed, or nobody can tell what state it is in).

        Raises NotInHand, and changes nothing, when the loan has ended. Thread: any. Upstream: Remove.
        """
        try:
            was_out = self.register.end_loan(loan)
        except NotInHand:
            self.remover.count("conflicts")
            raise
        if self._teller is not None and was_out:
            self._teller.given_back(False)
        try:
            self.remover.remove(loan.conn, reason)
        finally:
            self.turns.release()

    def remove_without_turn(self, conn: PooledConn, reason: str) -> bool:
        """A worker closes a connection that it owns. False: it had been removed. Raises NotInHand when a caller has it.

        Thread: any. Upstream: RemoveWithoutTurn.
        """
        with self.register.lock:
            if conn.place is Place.HAND:
                raise NotInHand(f"{conn.name} is in a caller's hand; its turn would be lost")
        return self.remover.remove(conn, reason)

    def new_conn(self, ctx: PoolContext | None = None) -> PooledConn:
        """A connection beside the pool: no turn, never listed; `close_conn` ends it. Raises as `get`. Blocks.

        Upstream: NewConn.
        """
        conn = self.dials.new_conn(ctx, False, Place.HAND_OVER)
        if not self.register.hand_out(conn):
            self._hand_out.fail_hand_over(conn)
        self._hand_out.tell_used()
        self._hand_out.initialize_conn(conn)
        return conn

    def close_conn(self, conn: PooledConn, reason: str = "removed") -> bool:
        """End what `new_conn` made. False: it had been removed. Thread: any. Upstream: CloseConn."""
        return self.remover.remove(conn, reason)

    # -- the whole pool

    def add_hook(self, hook: PoolHook) -> None:
        """From now on it sees what is handed out, given back and removed. Thread: any. Upstream: AddPoolHook."""
        self.hooks.add(hook)

    def remove_hook(self, hook: PoolHook) -> bool:
        """Undo `add_hook`. False: it was not there. Thread: any. Upstream: RemovePoolHook."""
        return self.hooks.remove(hook)

    def retire(self, reason: str = "retired") -> int:
        """Close what is idle now, and the rest as soon as it is given back. How many were idle.

        Thread: any. Upstream: RetireConns.
        """
        return self.filter(lambda conn: True, reason, close_in_use=False)

    def filter(self, matches: Callable[[PooledConn], bool], reason: str = "failover", close_in_use: bool = True) -> int:
        """Close those that match: what is idle leaves at once; what is in use is closed under its caller (or, not
        close_in_use, left to it) and leaves with its put. How many were idle. `matches` is called under the lock.

        Thread: any. Upstream: Filter.
        """
        with self.register.lock:
            chosen = [conn for conn in self.register.conns.values() if matches(conn)]
            idle = [conn for conn in chosen if conn.place is Place.IDLE_LIST]
            # What is on its way from one to the other is marked alone: its receiver knows nothing of it yet.
            in_hand = [conn for conn in chosen if conn.place in (Place.HAND, Place.BORROWED)]
            for conn in chosen:
                if conn.place is Place.IDLE_LIST:
                    self.register.cross_out_locked(conn)
                else:
                    conn.close_on_put = conn.close_on_put or reason
        for conn in idle:
            self.remover.finish_quietly(conn, reason)
        if close_in_use:
            for conn in in_hand:
                self.remover.close_quietly(conn)
        self.dials.check_min_idle()
        return len(idle)

    def drain_idle(self, visit: Callable[[PooledConn], object], ctx: PoolContext | None = None) -> int:
        """Show every connection that is idle now, and was used before, to `visit`, once each. How many were shown.

        Each is borrowed under a turn of its own; a get that finds nothing else waits for it. What `visit` raises closes
        the connection and goes on to the caller. Thread: any. May block. Upstream: DrainIdleConns.
        """
        with self.register.lock:
            snapshot = list(self.register.idle)
        shown = 0
        for conn in snapshot:
            self._hand_out.wait_turn(ctx, self.rt.now_ns() + self.options.pool_timeout_ms * NS_PER_MS)
            try:
                if not self.register.borrow(conn):
                    continue
                if self._teller is not None:
                    self._teller.taken()
                failed = True
                try:
                    visit(conn)
                    failed = False
                finally:
                    if failed:
                        conn.close_on_put = "drain_error"
                    was_out, reason = self.register.end_borrow(conn)
                    if self._teller is not None and was_out:
                        self._teller.given_back(not reason)
                    if reason:
                        self.remover.remove(conn, reason)
                shown += 1
            finally:
                self.turns.release()
        return shown

    def drain(self, timeout_ms: int) -> bool:
        """Take no new callers, and wait until every connection is back; then close all that is idle. True when it came
        to that; False after timeout_ms (0 or more), and the pool is open again.

        Raises PoolDraining when another drain is under way or over, PoolClosed (also when it closes meanwhile).

        Thread: any. May block. Upstream: none.
        """
        if not self._phase.compare_exchange(OPEN, DRAINING):
            if self._phase.value == CLOSED:
                raise PoolClosed(f"{self.name} is closed")
            raise PoolDraining(f"{self.name} is being drained already")
        deadline_ns = self.rt.now_ns() + timeout_ms * NS_PER_MS
        taken = 0
        try:
            while taken < self.turns.size:
                self.turns.acquire(None, deadline_ns)
                taken += 1
        except NoTurn:
            return False
        else:
            self.retire("drained")
            return True
        finally:
            if taken < self.turns.size:
                self._phase.compare_exchange(DRAINING, OPEN)
            for _ in range(taken):
                self.turns.release()

    def resume(self) -> bool:
        """Take callers again after a drain. False: there was none. Thread: any."""
        return self._phase.compare_exchange(DRAINING, OPEN)

    def close(self) -> None:
        """Close every connection, those in use too, and turn away who waits and who comes.

        Raises PoolClosed the second time; the first error of a close otherwise, after all were closed (not of those
        that were too old anyway). Thread: any. Dials under way end by themselves. Upstream: Close.
        """
        if self._phase.exchange(CLOSED) == CLOSED:
            raise PoolClosed(f"{self.name} is closed already")
        with self.register.lock:
            idle = list(self.register.idle)
        stale = {conn.conn_id for conn in idle if not self._hand_out.healthy(conn)}
        conns = self.register.close()
        self.lifetime.cancel()
        self.turns.close()
        self.dials.close()
        first: Exception | None = None
        for conn in conns:
            error = self.remover.finish(conn, "pool_shutdown")
            if error is not None and first is None and conn.conn_id not in stale:
                first = error
        if first is not None:
            raise first

    # -- looks

    def _turn_holders(self) -> Sequence[Holder]:
        conns = list(self.register.conns.values())
        held: list[Holder] = [conn.holder for conn in conns if conn.holder is not None]
        return held + ([f"a dial of {self.name}"] if self.register.dialing else [])

    @property
    def phase(self) -> str:
        """ "open", "draining" or "closed"."""
        return self._phase.value

    @property
    def faults(self) -> frozenset[str]:
        """Those that are on."""
        return self._faults

    def snapshot(self) -> PoolSnapshot:
        """Where everything is, connection by connection. Thread: any. May block shortly."""
        return snapshot_of(self.name, self.phase, self.register, self.turns, self.dials)

    def statistics(self) -> dict[str, int]:
        """hits, misses, timeouts, stale (all removals), refused, conflicts (states and hands that should not be);
        wait_count and wait_ns; pending (callers without a connection yet); total, idle, in_use, unusable, dialing; and
        what turns and dials count. Thread: any."""
        turns, snapshot = self.turns.statistics(), self.snapshot()
        occupancy = snapshot.occupancy
        return {
            "hits": self.register.hits,
            **self.remover.counts(),
            "wait_count": turns["waits"],
            "wait_ns": turns["wait_ns"],
            "pending": snapshot.pending,
            "total": snapshot.total,
            "idle": snapshot.listed,
            "in_use": occupancy.in_use,
            "unusable": occupancy.unusable,
            "dialing": occupancy.dialing,
            "turns_held": snapshot.turns_held,
            "waiting": occupancy.waiting,
            "longest_line": turns["longest_line"],
            "overloads": turns["overloads"],
            "pressures": turns["pressures"],
            "most_open": self.register.most_open,
            "wants": len(self.dials.wants),
            "longest_wants": self.dials.wants.longest,
            **self.dialer.statistics(),
        }

    def removals(self) -> dict[str, int]:
        """How many connections were removed, by reason. Thread: any."""
        return self.remover.by_reason()

    def __repr__(self) -> str:
        return f"<ConnPool {self.name!r} {self.turns!r} {self.register!r}>"
