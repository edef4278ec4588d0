"""IdleConns: what belongs to connections that stand and do nothing, counted in bytes.

Role: the part of `bench.idle` that makes connections and counts. `count_bytes` is what Python's allocators gave out
(tracemalloc) for a block of code; `heap_bytes_each` what libc's own heap did, which tracemalloc does not see: hiredis'
readers and the counters of `PendingTable` live there. Python's small blocks are not in libc's heap, so the two add up.

`IdleConns` is a connection manager with its loop on the caller's thread, and nodes that all lead to one embedded shard
in a child process, so that whatever an I/O runtime keeps per connection is counted, and nothing of the peer.

Not counted, since it is the kernel's: the socket with its buffers (some KiB on either side), the entry in the epoll.

Thread: the caller's, for all of it. Upstream: none. Left out: memory that an allocator has taken and not given out
(`bench.idle` says the growth of the resident set).
"""

from __future__ import annotations

import ctypes
import gc
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from coordemu.coord.conn import MRConn
from coordemu.coord.conn_handshake import pack_command
from coordemu.coord.conn_manager import MRConnManager
from coordemu.coord.conn_options import ConnOptions
from coordemu.coord.conn_pool import MRConnPool
from coordemu.coord.endpoint import MREndpoint
from coordemu.native import PendingTable
from coordemu.runtime.base import NS_PER_MS, Address
from coordemu.runtime.threads import ThreadsRuntime

PING = pack_command("PING")
WAIT_S = 60
STEP = 8  # connections per node that connect at a time: the shard's backlog is not the question
AT_ONCE = 10
CALLS = 300  # of a used connection: beyond the small numbers that Python keeps ready


class _Mallinfo2(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
    )]  # fmt: skip


def heap_in_use() -> int:
    """Bytes that libc's heap has given out. 0 where libc cannot tell (no mallinfo2: not glibc, or older than 2.33)."""
    libc = ctypes.CDLL(None)
    with suppress(AttributeError):
        libc.mallinfo2.restype = _Mallinfo2
        info = libc.mallinfo2()
        return int(info.uordblks + info.hblkhd)
    return 0


def heap_bytes_each(make: Callable[[int], Any], count: int) -> float:
    """What libc's heap gave out per `make(number)`, whose results are kept meanwhile. Python's small blocks are no
    part of it."""
    kept: list[Any] = [None] * count
    gc.collect()
    before = heap_in_use()
    for number in range(count):
        kept[number] = make(number)
    return max(0, heap_in_use() - before) / count


def count_bytes(make: Callable[[], object]) -> int:
    """Bytes that Python's allocators have given out when `make` is done, and not before; garbage is collected first.

    What `make` returns is kept meanwhile.
    """
    was_tracing = tracemalloc.is_tracing()
    if not was_tracing:
        tracemalloc.start()
    try:
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        kept = make()
        gc.collect()
        got = tracemalloc.get_traced_memory()[0] - before
        del kept
        return got
    finally:
        if not was_tracing:
            tracemalloc.stop()


def _is_idle(pool: MRConnPool) -> bool:
    return not any(conn.outstanding for conn in pool.conns)


class IdleConns:
    """Pools that begin with one connection per node. Raises RuntimeError when connections do not come up."""

    def __init__(self, rt: ThreadsRuntime, address: Address, nodes: int) -> None:
        """address: of a shard that answers PING.  nodes: how many pools lead to it."""
        self.nodes = nodes
        self.loop = rt.loop("idle")
        self.pending = PendingTable("idle")
        self.manager = MRConnManager(rt, self.loop, ConnOptions(), self.pending, 1, lambda level, line: None)
        for number in range(nodes):
            self.manager.add(f"node-{number}", MREndpoint(address))
        self._await(lambda: self.manager.statistics()["connected"] == nodes)

    def grow(self, num: int) -> None:
        """Have num connections per node, all Connected."""
        while self.manager.num < num:
            self.manager.resize(min(num, self.manager.num + STEP))
            self._await(lambda: self.manager.statistics()["connected"] == self.nodes * self.manager.num)

    def use(self, calls: int = CALLS) -> None:
        """Send PING on each connection, several at a time, and take the replies: idle again."""
        for pool in self.manager.pools.values():
            for _ in range(calls // AT_ONCE):
                for conn in pool.conns:
                    for _ in range(AT_ONCE):
                        conn.send_command(PING, lambda reply, error: None)
                self.manager.context.flush_counts()
                self._await(partial(_is_idle, pool))

    def conns(self) -> list[MRConn]:
        """All connections."""
        return [conn for pool in self.manager.pools.values() for conn in pool.conns]

    def bytes_each(self, num: int, used: bool) -> float:
        """Bytes per connection, when each pool grows from 1 to num and the connections are used, or not. Once only:
        the loop's tables stay as long as they were.

        Its share of those tables is in it. The spare inboxes of an I/O thread are not: a bounded number, however many
        connections there are.
        """

        def grow() -> None:
            self.grow(num)
            if used:
                self.use()
                self.manager.context.spare_inboxes.clear()  # not any connection's

        return count_bytes(grow) / (self.nodes * (num - 1)) + self.counters_bytes_each(num)

    def counters_bytes_each(self, num: int) -> float:
        """Bytes of the pending table per connection, for this number of nodes."""
        table = PendingTable()
        return heap_bytes_each(lambda number: table.attach(number % self.nodes, number // self.nodes), self.nodes * num)

    def close(self) -> None:
        """Close everything."""
        self.manager.disconnect_all()
        self.loop.close()

    def _await(self, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not reached():
            if time.monotonic() > deadline:
                raise RuntimeError(f"the connections did not get there in {WAIT_S} s: {self.manager.statistics()}")
            self.loop.run_once(10 * NS_PER_MS)
