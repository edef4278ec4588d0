"""QueuedDials: dials that outlive their callers, and the warm-ups that keep some connections ready.

Role: where a caller goes who has a turn and found no idle connection. The dial runs as a task of its own. Its caller
waits for it with a want; a caller that gives up leaves its turn to the dial, whose connection then goes to the first
who still waits for one, or into the idle list.

Whose turn is it? A turn that a caller has goes with the call: the caller gives it back, or its put does. It is left to
the dial in two cases: the caller gave up before anything was delivered, and (the same from the other side) another
dial's connection was delivered to it. In both the dial finds its want done, and gives the turn back when its own
connection went into the idle list; went it to another want, the turn went with it.

Thread: callers, and one task per dial. Upstream: queuedNewConn, newConn, putIdleConn, checkMinIdleConns and addIdleConn
(internal/pool/pool.go). Left out: nothing. Bounds: `dial_slots` dials under way for callers, `min_idle_conns` warm-ups.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from coordemu.pool import pool_faults
from coordemu.pool.conn_dialer import ConnDialer, Log
from coordemu.pool.conn_register import ConnRegister
from coordemu.pool.conn_remover import ConnRemover
from coordemu.pool.pool_context import PoolContext
from coordemu.pool.pool_errors import Cancelled, PoolClosed, PoolExhausted
from coordemu.pool.pool_listener import IDLE, Teller
from coordemu.pool.pool_options import PoolOptions
from coordemu.pool.pooled_conn import Place, PooledConn
from coordemu.pool.turns import Turns
from coordemu.pool.want_conn import WantConn, WantConnQueue
from coordemu.runtime.base import Holder, Runtime


class TurnLeft(Exception):
    """The caller goes without a connection, and its turn stays with the dial. `error` is what to raise."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class QueuedDials:
    """The dials of one pool."""

    def __init__(
        self,
        rt: Runtime,
        register: ConnRegister,
        turns: Turns,
        dialer: ConnDialer,
        options: PoolOptions,
        remover: ConnRemover,
        log: Log,
        faults: AbstractSet[str],
        teller: Teller | None = None,
    ) -> None:
        self.name = register.name
        self.wants = WantConnQueue(rt, self.name)
        self.slots = Turns(rt, options.dial_slots, f"{self.name} dial slots")
        self._rt = rt
        self._register = register
        self._turns = turns
        self._dialer = dialer
        self._options = options
        self._remover = remover
        self._log = log
        self._faults = faults
        self._teller = teller
        self._lock = rt.lock(f"{self.name} warm-ups")
        self._warm_checking = False
        self._warm_again = False
        self.nil_contexts = 0

    # -- one dial, in the caller's own task

    def new_conn(self, ctx: PoolContext | None, poolable: bool, place: Place) -> PooledConn:
        """Dial here and now. Raises PoolClosed, PoolExhausted, and what the dial raises. Blocks. Upstream: newConn."""
        self._register.reserve()
        return self._dial_reserved(ctx, poolable, place, False)

    def _dial_reserved(self, ctx: PoolContext | None, poolable: bool, place: Place, warm_up: bool) -> PooledConn:
        began_ns = self._rt.now_ns()
        try:
            resource = self._dialer.dial(ctx)
        except BaseException:
            self._register.dial_failed(warm_up)
            raise
        dial_ns = self._rt.now_ns() - began_ns
        try:
            conn = self._register.enter(resource, poolable, place, warm_up, dial_ns)
        except PoolExhausted:
            resource.close()
            raise
        if conn is None:
            resource.close()
            raise PoolClosed(f"{self.name} was closed during a dial")
        if self._teller is not None and place is Place.IDLE_LIST:
            self._teller.tell("counted", IDLE, 1)
        return conn

    # -- a dial in a task of its own, with a caller who waits

    def dial_for(self, ctx: PoolContext | None) -> PooledConn:
        """A connection for a caller that holds a turn: its own dial's, or one that an abandoned dial left.

        Raises what the dial raises, Cancelled, DeadlineExceeded, PoolClosed: the caller still holds its turn; TurnLeft:
        it does not. Thread: the caller's. Blocks, as long as the dial does: the pool's time-out does not cover it.
        Upstream: queuedNewConn.
        """
        self.slots.acquire(ctx)
        want = WantConn(self._rt, self._rt.current().name, self._owed_by)
        self.wants.enqueue(want)
        self._rt.spawn(self._run, want, name=f"{self.name} dial")
        delivery = want.wait(ctx)
        if delivery is None:
            error = (ctx.error() if ctx is not None else None) or Cancelled("the wait for a dial was called off")
            delivery = want.cancel()
            if delivery.conn is None and delivery.error is None:
                raise TurnLeft(error)
            if delivery.conn is not None:
                # It came in the same moment. Whoever else waits can have it, and the turn with it.
                if self.put_idle(delivery.conn):
                    raise TurnLeft(error)
                raise error
        if delivery.error is not None:
            if not delivery.from_dial:
                raise TurnLeft(delivery.error)
            raise delivery.error
        assert delivery.conn is not None
        return delivery.conn

    def _run(self, want: WantConn) -> None:
        """The dial's task."""
        try:
            try:
                self._check_context(want)
                conn = self.new_conn(None, True, Place.HAND_OVER)
            except Exception as error:
                self._failed(want, error)
                return
            if want.deliver(conn):
                self.wants.discard(want)
                return
            self.wants.discard(want)
            moved = self.put_idle(conn)
            if not moved or pool_faults.DOUBLE_FREE_TURN in self._faults:
                self._turns.release()
        finally:
            self.slots.release()

    def _check_context(self, want: WantConn) -> None:
        # The mended dial has the pool's own context, which is there as long as the pool is.
        if pool_faults.NIL_CONTEXT in self._faults and not want.dial_ctx.value:
            self.nil_contexts += 1
            raise AttributeError("the dial's context is nil")

    def _failed(self, want: WantConn, error: Exception) -> None:
        delivered = want.deliver(None, error)
        if pool_faults.STALE_WANTS not in self._faults or delivered:
            self.wants.discard(want)
        if not delivered:
            self._turns.release()

    def put_idle(self, conn: PooledConn) -> bool:
        """A connection that nobody has asked for any more: to the first who waits for a dial (True: a turn goes with
        it), or into the idle list (False). Thread: any. Upstream: putIdleConn."""
        if self.wants.serve_first(conn):
            return True
        with self._register.lock:
            reason = self._register.list_locked(conn)
        if reason:
            self._remover.remove(conn, reason)
        elif self._teller is not None:
            self._teller.tell("counted", IDLE, 1)
        return False

    def close(self) -> None:
        """Turn away who waits for a dial or a slot; dials under way find the pool closed. Thread: any."""
        self.slots.close()
        self.wants.fail_all(PoolClosed(f"{self.name} was closed during a dial"))

    def _owed_by(self) -> Sequence[Holder]:
        return [f"a dial of {self.name}"]

    # -- warm-ups

    def check_min_idle(self) -> None:
        """Start warm-ups until enough connections are idle or on their way. One look at a time; who comes meanwhile has
        it look once more. Thread: any. Never blocks for long. Upstream: checkMinIdleConns."""
        if not self._options.min_idle_conns:
            return
        with self._lock:
            self._warm_again = True
            if self._warm_checking:
                return
            self._warm_checking = True
        while True:
            with self._lock:
                if not self._warm_again:
                    self._warm_checking = False
                    return
                self._warm_again = False
            # As many as are needed now, and no more: warm-ups that fail at once would go on for ever.
            for _ in range(self._num_missing()):
                if not self._start_warm_up():
                    break

    def _num_missing(self) -> int:
        with self._register.lock:
            return self._num_missing_locked()

    def _num_missing_locked(self) -> int:
        register, options = self._register, self._options
        room = options.pool_size - register.num_pooled - register.dialing
        wanted = options.min_idle_conns - len(register.idle) - register.warming
        return 0 if register.closed else max(0, min(room, wanted))

    def _start_warm_up(self) -> bool:
        """One more, if one is needed and there is a turn for it. Upstream counts it as idle from here on."""
        register = self._register
        with register.lock:
            if not self._num_missing_locked():
                return False
            try:
                register.check_room_locked()
            except PoolExhausted:
                return False
            register.dialing += 1
            register.warming += 1
        if not self._turns.try_acquire():
            register.dial_failed(warm_up=True)
            return False
        self._rt.spawn(self._warm_up, name=f"{self.name} warm-up")
        return True

    def _warm_up(self) -> None:
        try:
            self._dial_reserved(None, True, Place.IDLE_LIST, True)
        except PoolClosed:
            pass
        except Exception as error:
            self._log("warning", f"{self.name}: a warm-up failed: {error}")
        finally:
            self._turns.release()

    def __repr__(self) -> str:
        return f"<QueuedDials {self.name!r} {len(self.wants)} wants, {self.slots.held} slots held>"
