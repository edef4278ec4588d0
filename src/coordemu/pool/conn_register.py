"""ConnRegister: which connections a pool has, where each of them is, and how many more may be dialed.

Role: the pool's books, under one lock. A connection is entered when its dial has succeeded and crossed out once, by
whoever removes it first; in between it is in exactly one place. A dial reserves its place before it begins, so the cap
on open connections holds however many dial at once.

Thread: any; each method says whether it takes the lock. Nothing here calls out but the connections' own state machines,
whose locks are taken inside this one. Upstream: ConnPool's conns, idleConns, poolSize, idleConnsLen and connsMu
(internal/pool/pool.go). Left out: counters beside the lock; they are read from the books. Bound: the cap, where there
is one; the pool's size and the extras in callers' hands otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any

from coordemu.pool import pool_faults
from coordemu.pool.conn_loan import ConnLoan
from coordemu.pool.idle_list import IdleList
from coordemu.pool.pool_conn_state import PoolConnState
from coordemu.pool.pool_errors import NotInHand, Occupancy, PoolClosed, PoolExhausted
from coordemu.pool.pool_options import PoolOptions
from coordemu.pool.pooled_conn import Place, PooledConn
from coordemu.runtime.base import Event, Runtime

_S = PoolConnState


class ConnRegister:
    """The books of one pool."""

    def __init__(self, rt: Runtime, options: PoolOptions, name: str, faults: AbstractSet[str]) -> None:
        self.name = name
        self.lock = rt.lock(f"{name} register")
        self.conns: dict[int, PooledConn] = {}
        self.idle = IdleList(options.fifo, options.pool_size, faults)
        self.num_pooled = 0
        self.dialing = 0
        self.warming = 0
        self.borrowed = 0
        self.closed = False
        self.hits = 0
        self.most_open = 0
        self._rt = rt
        self._options = options
        self._faults = faults
        self._next_id = 1
        self._borrow_waits: list[Event] = []

    # -- dialing: reserve, then enter or give up

    def reserve(self) -> None:
        """Before a dial: a place under the cap. Raises PoolClosed, PoolExhausted. Takes the lock."""
        with self.lock:
            self.check_room_locked()
            self.dialing += 1

    def check_room_locked(self) -> None:
        """Raises PoolClosed or PoolExhausted when no dial may begin."""
        if self.closed:
            raise PoolClosed(f"{self.name} is closed")
        cap = self._options.max_active_conns
        taken = len(self.conns)
        if pool_faults.MAX_ACTIVE_OVERSHOOT not in self._faults:
            taken += self.dialing
        if cap and taken >= cap:
            raise PoolExhausted(
                f"{self.name}: {cap} connections are open, as many as may be: {self.occupancy_locked(0)}"
            )

    def enter(
        self, resource: Any, poolable: bool, place: Place, warm_up: bool = False, dial_ns: int = 0
    ) -> PooledConn | None:
        """After a dial that succeeded: the connection, CREATED; None: the pool was closed, the resource is the
        caller's.

        poolable: whether it may be pooled if there is room.  dial_ns: how long the dial took.

        Raises PoolExhausted (under a fault only). Takes the lock.
        """
        with self.lock:
            self.dialing -= 1
            self.warming -= warm_up
            if self.closed:
                return None
            cap = self._options.max_active_conns
            if pool_faults.MAX_ACTIVE_OVERSHOOT in self._faults and cap and len(self.conns) > cap:
                raise PoolExhausted(f"{self.name}: more than {cap} connections are open")
            pooled = poolable and self.num_pooled < self._options.pool_size
            expires_ns = self._options.expires_ns(self._rt.now_ns(), self._rt.random)
            conn = PooledConn(self._rt, self._next_id, resource, self.name, pooled, expires_ns, self._faults)
            conn.dial_ns = dial_ns
            self._next_id += 1
            self.num_pooled += pooled
            self.conns[conn.conn_id] = conn
            self.most_open = max(self.most_open, len(self.conns))
            conn.place = place
            if place is Place.IDLE_LIST:
                self.idle.push(conn)
            return conn

    def dial_failed(self, warm_up: bool = False) -> None:
        """After a dial that failed: its place is free again. Takes the lock."""
        with self.lock:
            self.dialing -= 1
            self.warming -= warm_up

    # -- the idle list

    def pop_idle(self) -> PooledConn | None:
        """Take an idle connection into the caller's hand: IN_USE, or INITIALIZING when it was never used.

        Raises PoolClosed. Takes the lock. Upstream: popIdle.
        """
        with self.lock:
            return self._pop_locked()

    def _pop_locked(self) -> PooledConn | None:
        if self.closed:
            raise PoolClosed(f"{self.name} is closed")
        conn = self.idle.pop(self._options.pop_attempts)
        if conn is not None:
            conn.place = Place.HAND
            conn.holder = self._rt.current()
            conn.claimed = False
            self.hits += 1
        return conn

    def hand_out(self, conn: PooledConn) -> bool:
        """A fresh connection into the caller's hand, INITIALIZING. False: it was closed meanwhile. Takes the lock."""
        with self.lock:
            if conn.place is Place.GONE or not conn.machine.acquire():
                return False
            conn.place = Place.HAND
            conn.holder = self._rt.current()
            return True

    def pop_idle_or_wait(self, make_event: Callable[[], Event]) -> tuple[PooledConn | None, Event | None]:
        """As `pop_idle`; when there is nothing but a drainer has borrowed something, an event of the end of a
        borrow."""
        with self.lock:
            conn = self._pop_locked()
            if conn is not None or not self.borrowed:
                return conn, None
            event = make_event()
            self._borrow_waits.append(event)
            return None, event

    def end_loan(self, loan: ConnLoan) -> bool:
        """A caller gives a connection back: from its hand into the pool's. False: it was crossed out meanwhile.

        Raises NotInHand, and changes nothing, when the loan has ended: the connection may be in another's hand by then.
        Takes the lock.
        """
        with self.lock:
            return self.end_loan_locked(loan)

    def end_loan_locked(self, loan: ConnLoan) -> bool:
        """As `end_loan`, under the lock."""
        conn = loan.conn
        if conn.loan is not loan and not self._let_through(conn):
            raise NotInHand(f"{conn.name} is given back for a second time; it is {conn.place.value} by now")
        conn.loan = None
        return self.take_back_locked(conn)

    def _let_through(self, conn: PooledConn) -> bool:
        """Faulty forms of the check: none at all, or a look at whether anybody has it."""
        if pool_faults.STALE_PUT in self._faults and conn.loan is not None:
            return True
        return pool_faults.DOUBLE_PUT in self._faults

    def take_back_locked(self, conn: PooledConn) -> bool:
        """What is in a hand is in the pool's again; False: it was crossed out meanwhile. Under the lock."""
        conn.holder = None
        if conn.place is not Place.HAND:
            return False
        conn.place = Place.HAND_OVER
        return True

    def list_locked(self, conn: PooledConn) -> str:
        """Into the idle list, released. Otherwise why it cannot be: its mark, "closed", "unpooled", "evicted",
        "bad_state"."""
        if conn.place is Place.GONE:
            return "closed"
        if conn.close_on_put:
            return conn.close_on_put
        if not conn.pooled:
            return "unpooled"
        if self._options.max_idle_conns and len(self.idle) >= self._options.max_idle_conns:
            return "evicted"
        released = conn.machine.release()
        state = conn.machine.state
        if not released:
            if state is _S.CLOSED:
                return "closed"
            # CREATED: the dial's caller has gone, nobody has used it. UNUSABLE: a hook owns it, and has said so.
            owned = conn.claimed and state in (_S.UNUSABLE, _S.INITIALIZING, _S.IDLE)
            if state is not _S.CREATED and not owned and pool_faults.DOUBLE_PUT not in self._faults:
                return "bad_state"
        self.idle.push(conn, state in (_S.IDLE, _S.CREATED))
        conn.place = Place.IDLE_LIST
        return ""

    # -- crossing out

    def cross_out(self, conn: PooledConn, only_from: Place | None = None) -> bool:
        """It leaves the books. True for the call that did it; that one closes it and tells the hooks.

        only_from: leave it alone unless it is there. Takes the lock.
        """
        with self.lock:
            return (only_from is None or conn.place is only_from) and self.cross_out_locked(conn)

    def cross_out_locked(self, conn: PooledConn) -> bool:
        """As `cross_out`, under the lock."""
        if conn.place is Place.GONE:
            return False
        if conn.place is Place.IDLE_LIST and pool_faults.ZOMBIE_IDLE not in self._faults:
            self.idle.remove(conn)
        if conn.pooled:
            self.num_pooled -= 1
        del self.conns[conn.conn_id]
        conn.left_from = conn.place
        conn.place = Place.GONE
        return True

    def close(self) -> list[PooledConn]:
        """Cross all out, and let nothing in any more. What is to be closed. Takes the lock."""
        with self.lock:
            self.closed = True
            conns = list(self.conns.values())
            for conn in conns:
                self.cross_out_locked(conn)
            waits, self._borrow_waits = self._borrow_waits, []
        for event in waits:
            event.set()
        return conns

    # -- a drainer's borrow

    def borrow(self, conn: PooledConn) -> bool:
        """A drainer takes this one, if it is idle and was used before. Takes the lock."""
        with self.lock:
            if conn.place is not Place.IDLE_LIST or not conn.machine.move(_S.IDLE, _S.IN_USE):
                return False
            self.idle.remove(conn)
            conn.place = Place.BORROWED
            conn.holder = self._rt.current()
            self.borrowed += 1
            return True

    def end_borrow(self, conn: PooledConn) -> tuple[bool, str]:
        """It comes back; whoever waits for that looks again. Whether it had not been crossed out meanwhile; and as
        `list_locked`. Takes the lock."""
        with self.lock:
            self.borrowed -= 1
            conn.holder = None
            still = conn.place is not Place.GONE
            if still:
                conn.place = Place.HAND_OVER
            reason = self.list_locked(conn)
            waits, self._borrow_waits = self._borrow_waits, []
        for event in waits:
            event.set()
        return still, reason

    # -- looks

    def occupancy(self, waiting: int) -> Occupancy:
        """As `occupancy_locked`. Takes the lock."""
        with self.lock:
            return self.occupancy_locked(waiting)

    def occupancy_locked(self, waiting: int) -> Occupancy:
        """Where the connections are. waiting: callers in line."""
        idle = unusable = 0
        for conn in self.idle:
            if conn.machine.state in (_S.UNUSABLE, _S.INITIALIZING):
                unusable += 1
            else:
                idle += 1
        in_use = sum(conn.place in (Place.HAND, Place.BORROWED) for conn in self.conns.values())
        return Occupancy(self._options.pool_size, in_use, idle, self.dialing, unusable, waiting)

    @property
    def num_idle(self) -> int:
        """Connections in the idle list (and, under a fault, those that will be)."""
        early = self.warming if pool_faults.WARM_UP_COUNTS_EARLY in self._faults else 0
        return len(self.idle) + early

    def __repr__(self) -> str:
        return f"<ConnRegister {self.name!r} {len(self.conns)} open, {len(self.idle)} idle, {self.dialing} dialing>"
