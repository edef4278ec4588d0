"""PendingTable: how many replies each connection still owes, and the gate at which a drain waits for the last one.

Role: the Python side of the C module as far as it counts (the runtime has two files of its own). The connections of one
I/O runtime count here what they send and what comes back, once per batch; the connection manager asks whether anything
is pending at index >= num before it takes those connections away. The replies' callbacks are not here: they wait in
each connection's deque, where CPython is faster than any border. Arguments are checked here and by cffi; the arithmetic
is in csrc/pending_table.c, the wait in csrc/drain_gate.c.

Words. A connection is known by its node (a dense number per shard) and its index in that node's pool. It is *eligible*
when it has a context (`attach`) and is Connected (`set_connected`). Only eligible connections have pending operations,
in the write-up's order of questions: no context: no; not Connected: no; a reply outstanding: yes; a sub-reply
outstanding: yes. What a connection that is not eligible owes is kept, and counts again when it becomes eligible.

A drain. `begin_drain(num)` arms the gate with what is outstanding at index >= num; it counts down with the replies and
is *drained* when nothing is left (also because a connection was lost). It is a level, not an edge: a reply that becomes
outstanding there afterwards closes the gate again. `end_drain` or `supersede` ends it: if it had drained, the gate is
open from then on, and if not, it was called off, and whoever waits for it is told "superseded". A gate at which no
drain has begun is open. A new `begin_drain` supersedes the drain before it, also for those of its waiters that had been
woken but have not looked yet.

Thread: the changes belong to the I/O thread, by contract. Every call keeps the interpreter lock, so it is one step to
every Python thread, and any thread may read. The two waits let go of the lock and touch nothing but the gate; they keep
the table alive. Bound: 2^20 nodes, 2^16 indices, 2^24 connections, 2^31 - 1 replies outstanding on each.
Numbers below 0 or beyond 32 bits for a node, an index or `num` raise OverflowError, other types TypeError.

Upstream: ac->replies and ac->sub.replies of hiredis' asynchronous context; MRConnManager_Shrink (src/coord/rmr/conn.c)
asks nothing of the kind, the write-up's version does. Left out: free-threaded interpreters, see _build_native.py.
"""

from __future__ import annotations

from typing import Final

from coordemu._native import ffi, lib
from coordemu.runtime.base import DrainWait

OUTCOMES: Final = ("drained", "deadline", "superseded")
_INTERRUPTED: Final = 3
_DRAINED: Final = 1
_NO_MEMORY: Final = -1
_REFUSALS: Final = {
    -2: "the table's bounds do not reach so far",
    -3: "it is attached already",
    -4: "it has no context",
    -5: "a count would fall below 0",
    -6: "a count would pass 2147483647",
}
MAX_DURATION_NS: Final = 2**63 - 1

# Taken from `lib` once: cffi makes a function or type at its first use, which is better done by the importing thread.
_any = lib.pending_table_any
_attach = lib.pending_table_attach
_consistent = lib.pending_table_consistent
_count = lib.pending_table_count
_detach = lib.pending_table_detach
_draining_from = lib.pending_table_draining_from
_drained = lib.pending_table_drained
_begin_drain = lib.pending_table_begin_drain
_end_drain = lib.pending_table_end_drain
_free = lib.pending_table_free
_has_pending_operations = lib.pending_table_has_pending_operations
_new = lib.pending_table_new
_replies = lib.pending_table_replies
_scan = lib.pending_table_scan
_set_connected = lib.pending_table_set_connected
_statistics = lib.pending_table_statistics
_sub_replies = lib.pending_table_sub_replies
_total = lib.pending_table_total
_wait = lib.native_wait
_wait_start = lib.pending_table_wait_start
for _declaration in ("drain_wait *", "int64_t *", "pending_statistics *"):
    ffi.typeof(_declaration)

STATISTICS: Final = (
    "nodes", "indices", "attached", "connected", "batches", "replies", "sub_replies", "drains_begun",
    "drains_completed", "waiting", "waits", "polls", "wake_ups", "begun_at_ns", "drained_at_ns",
)  # fmt: skip


class PendingTable:
    """Counts of outstanding replies for the connections of one I/O runtime; a `coordemu.runtime.base.DrainGate`.

    name: for reports.  Raises MemoryError.
    Thread: see the file's opening.  May block: no, except in the two waits.
    Upstream: the reply lists of hiredis' contexts, reached through MRConnManager (src/coord/rmr/conn.c).
    """

    __slots__ = ("__weakref__", "_name", "_superseded", "_table")

    def __init__(self, name: str = "pending") -> None:
        table = _new()
        if table == ffi.NULL:
            raise MemoryError("no memory for a pending table")
        self._table = ffi.gc(table, _free)
        self._name = name
        self._superseded = 0

    @property
    def name(self) -> str:
        """The name given at creation."""
        return self._name

    def __repr__(self) -> str:
        numbers = self.statistics()
        start = self.draining_from
        drain = "no drain" if start is None else f"draining from {start}, {self.pending_total(start)} pending"
        return (
            f"<PendingTable {self._name}: {numbers['connected']} of {numbers['attached']} connected, "
            f"{numbers['replies']} replies and {numbers['sub_replies']} sub-replies outstanding, {drain}>"
        )

    def attach(self, node: int, index: int) -> None:
        """A connection has a context now; it is not Connected and owes nothing. Grows the table as needed.

        node, index: 0 or more, best dense.  Raises ValueError when attached already or out of bounds; MemoryError.
        Thread: I/O.  May block: no.  Upstream: redisAsyncConnect in MRConn_Connect, conn.c.
        """
        self._settle(_attach(self._table, node, index), node, index)

    def detach(self, node: int, index: int) -> int:
        """Its context is gone, and with it what was outstanding: returns how many replies and sub-replies that were.

        Raises ValueError when it has no context. May complete a drain: look at `drained`.
        Thread: I/O.  May block: no.  Upstream: the detach in MRConn_Stop and on disconnect, conn.c.
        """
        thrown_away = ffi.new("int64_t *")
        self._settle(_detach(self._table, node, index, thrown_away), node, index)
        return int(thrown_away[0])

    def set_connected(self, node: int, index: int, connected: bool) -> bool:
        """Its state became Connected, or something else; the same value again changes nothing.

        Returns True when this completed an armed drain.  Raises ValueError when it has no context.
        Thread: I/O.  May block: no.  Upstream: MRConn_SwitchState, conn.c.
        """
        return self._settle(_set_connected(self._table, node, index, connected), node, index)

    def count(self, node: int, index: int, replies: int, sub_replies: int = 0) -> bool:
        """Add to what the connection owes: commands sent are positive, replies taken negative. Once per batch.

        Returns True when this completed an armed drain: the caller, on the thread that took the last reply, goes on
        with the resize. Raises ValueError, and changes nothing, when a count would fall below 0 or pass 2^31 - 1, or
        when there is no context.
        Thread: I/O.  May block: no.  Upstream: __redisPushCallback and __redisShiftCallback, hiredis' async.c.
        """
        code = _count(self._table, node, index, replies, sub_replies)
        if code < 0:
            self._settle(code, node, index, f" (change {replies:+d} and {sub_replies:+d})")
        return code == _DRAINED

    def replies(self, node: int, index: int) -> int:
        """Replies outstanding, Connected or not; 0 without a context. Thread: any."""
        return _replies(self._table, node, index)

    def sub_replies(self, node: int, index: int) -> int:
        """Sub-replies outstanding, Connected or not; 0 without a context. Thread: any."""
        return _sub_replies(self._table, node, index)

    def has_pending_operations(self, node: int, index: int) -> bool:
        """The write-up's check of one connection: context, Connected, replies, sub-replies. Thread: any."""
        return _has_pending_operations(self._table, node, index)

    def any_pending(self, num: int) -> bool:
        """Whether any connection at index >= num has pending operations. One comparison, at any size. Thread: any."""
        return _any(self._table, num)

    def scan_pending(self, num: int) -> int:
        """How many connections at index >= num have pending operations: reads every flag. The oracle of `any_pending`.

        Thread: any.  May block: no, but it takes time in proportion to the number of connections.
        """
        return _scan(self._table, num)

    def pending_total(self, num: int) -> int:
        """Replies and sub-replies outstanding on eligible connections at index >= num.

        Thread: any.  May block: no; one addition per index.
        """
        return _total(self._table, num)

    def begin_drain(self, num: int) -> int:
        """Arm the gate with what is outstanding at index >= num, and return that. A drain under way is superseded.

        num: the connections per node that stay, 0 or more.
        Thread: I/O.  May block: no.  Upstream: none; the write-up's drain loop starts here.
        """
        self.supersede()
        return _begin_drain(self._table, num)

    def end_drain(self) -> None:
        """Disarm the gate: the drain is over. Waiters are told "drained" if it had, else "superseded". Idempotent.

        Thread: I/O.  May block: no.  Upstream: none.
        """
        self.supersede()

    def supersede(self) -> bool:
        """Call the drain off, as another resize takes its place. True when something was outstanding still.

        What has drained stays drained: then, or when no drain is armed, nobody is told "superseded", and this is False.
        Thread: I/O.  May block: no.  Upstream: none.
        """
        called_off = _end_drain(self._table)
        self._superseded += called_off
        return called_off

    @property
    def draining_from(self) -> int | None:
        """The `num` of the drain that is armed (drained or not), None without one. Thread: any."""
        start = _draining_from(self._table)
        return None if start < 0 else start

    @property
    def drained(self) -> bool:
        """Whether the gate is open now: armed with nothing outstanding, or ended so, or never armed. Thread: any."""
        return _drained(self._table)

    def wait_by_polling(self, interval_ns: int, timeout_ns: int) -> DrainWait:
        """Wait for the drain that is armed now, reading the count every interval_ns, and at the deadline once more.

        interval_ns: 1 or more.  timeout_ns: 0 or more (0: one look).  Raises ValueError outside these bounds.
        A drain that is called off is noticed at the next poll.
        Thread: any but the one that takes the replies: on the I/O thread nothing can arrive meanwhile.
        May block: for timeout_ns, without the interpreter lock.  Upstream: none; the write-up's 10 ms and 5000 ms loop.
        """
        if not 1 <= interval_ns <= MAX_DURATION_NS:
            raise ValueError(f"interval_ns {interval_ns} is not within 1..{MAX_DURATION_NS}")
        return self._wait_at_gate(interval_ns, timeout_ns)

    def wait_for_wake(self, timeout_ns: int) -> DrainWait:
        """Wait for the drain that is armed now, asleep until the last reply, the end of the drain, or the deadline.

        timeout_ns: 0 or more (0: one look).  Raises ValueError outside this bound.
        Thread: any but the one that takes the replies.  May block: for timeout_ns, without the interpreter lock.
        Upstream: none.
        """
        return self._wait_at_gate(0, timeout_ns)

    def consistent(self) -> bool:
        """Recompute every sum and flag and compare. Slow; for tests and for finding a fault. Thread: any."""
        return _consistent(self._table)

    def statistics(self) -> dict[str, int]:
        """Numbers of now (attached, connected, replies, sub_replies, waiting) and since creation (all others).

        nodes, indices: ever used.  batches: successful calls of `count`.  superseded: drains called off with something
        outstanding.  begun_at_ns, drained_at_ns: the newest drain, on the monotonic clock, 0 for not yet.  Thread: any.
        """
        out = ffi.new("pending_statistics *")
        _statistics(self._table, out)
        numbers: dict[str, int] = {key: getattr(out, key) for key in STATISTICS}
        numbers["superseded"] = self._superseded
        return numbers

    def _wait_at_gate(self, interval_ns: int, timeout_ns: int) -> DrainWait:
        if not 0 <= timeout_ns <= MAX_DURATION_NS:
            raise ValueError(f"timeout_ns {timeout_ns} is not within 0..{MAX_DURATION_NS}")
        wait = ffi.new("drain_wait *")
        wait.interval_ns = interval_ns
        wait.timeout_ns = timeout_ns
        _wait_start(self._table, wait)
        outcome = _wait(self._table, wait)
        # A signal ends the C wait early, so that its Python handler runs here, and may raise (Ctrl-C).
        while outcome == _INTERRUPTED:
            outcome = _wait(self._table, wait)
        return DrainWait(OUTCOMES[outcome], wait.waited_ns, wait.polls, wait.wake_ups)

    def _settle(self, code: int, node: int, index: int, detail: str = "") -> bool:
        if code < 0:
            if code == _NO_MEMORY:
                raise MemoryError(f"{self._name}: no memory for connection {node}#{index}")
            raise ValueError(f"{self._name}: connection {node}#{index}: {_REFUSALS[code]}{detail}")
        return code == _DRAINED
