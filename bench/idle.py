"""Idle connections: how many bytes each one holds, and whether 1,000 resizes leave anything behind.

Role: a cluster of many nodes has thousands of connections of which most do nothing at any moment. A table of bytes per
connection, everything of ours counted (objects, tables, C), beside what one would write first: an object with slots, a
deque and a reader. Bytes do not depend on the machine's speed, so what was promised is checked here: at most GOAL_B for
a connection of the coordinator, new or used. Below the table: where the bytes are, what the resident set says, and what
the process holds before, amid and after 1,000 resizes of a coordinator, which must be the same.

Thread: the caller's; the coordinator of the second part has its own. Upstream: MRConn and its hiredis context. Left
out: the kernel's memory of a socket (some KiB on either side), which is the same for all.
"""

from __future__ import annotations

import gc
import socket
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

import hiredis
import psutil

from bench.idle_conns import CALLS, IdleConns, count_bytes, heap_bytes_each
from bench.idle_resizes import LARGE, SMALL, Held, resize_often
from bench.measure import BYTES, Case, Contender, Effort, Progress, Report, Sampler, run_case, silent
from coordemu.coord.conn_context import SPARE_INBOXES
from coordemu.coord.reply_fifo import ReplyInbox
from coordemu.pool.pool_conn import PoolConn
from coordemu.pool.pooled_conn import PooledConn
from coordemu.runtime.base import Address
from coordemu.runtime.quick_socket import QuickPoller
from coordemu.runtime.threads import ThreadsRuntime
from coordemu.shards.fd_limit import raise_fd_limit
from coordemu.shards.shard_process import ShardProcess

GOAL_B = 400
FLAT_B = 64  # per resize: what a table that grew once may come to
NODES = 50
SPARE_FDS = 200
POOL_CONNS = 50
BASE = "slots, deque, hiredis.Reader"
USED_BASE = f"the same, after {CALLS} replies in one read"
WITH_SOCKET = "the same, with its socket object"
NEW, USED = "MRConn, new, with all that is its own", "MRConn, used, idle again"
POOLED = "client pool's connection, with its loop"


class Plain:
    """What one would write first: the queue of callbacks, and the reader of replies."""

    __slots__ = ("reader", "replies")

    def __init__(self) -> None:
        self.replies: deque[Any] = deque()
        self.reader = hiredis.Reader()


class PlainWithSocket(Plain):
    """The same, with the socket."""

    __slots__ = ("sock",)

    def __init__(self) -> None:
        super().__init__()
        self.sock = socket.socket()


def _reader(used: bool) -> Callable[[int], hiredis.Reader]:
    def make(_number: int) -> hiredis.Reader:
        reader = hiredis.Reader()
        if used:
            reader.feed(b"+PONG\r\n" * CALLS)
            while reader.gets() is not False:
                pass
        return reader

    return make


def _plain(kind: type[Plain], count: int, used: bool = False) -> Sampler:
    """Python's part of `count` of them, and the part of a reader that is in libc's heap."""

    def sample() -> float:
        objects: list[Any] = [None] * count

        def make() -> object:
            for number in range(count):
                objects[number] = kind()
            return objects

        each = count_bytes(make) / count
        for plain in objects:
            if isinstance(plain, PlainWithSocket):
                plain.sock.close()
        return each + heap_bytes_each(_reader(used), count)

    return sample


def _ours(rt: ThreadsRuntime, address: Address, num: int, used: bool) -> Sampler:
    def sample() -> float:
        conns = IdleConns(rt, address, NODES)
        try:
            return conns.bytes_each(num, used)
        finally:
            conns.close()

    return sample


def _pooled(rt: ThreadsRuntime, address: Address, count: int) -> Sampler:
    def sample() -> float:
        conns: list[PooledConn] = []

        def make() -> None:
            for number in range(count):
                conns.append(PooledConn(rt, number, PoolConn(rt, address), "pool", True, None, frozenset()))

        each = count_bytes(make) / count
        for conn in conns:
            conn.resource.close()
        in_c = heap_bytes_each(_reader(used=False), count) + heap_bytes_each(lambda number: QuickPoller(), count)
        return each + in_c

    return sample


def _parts(rt: ThreadsRuntime, address: Address, num: int) -> str:
    """Where the bytes of a new connection are."""
    conns = IdleConns(rt, address, NODES)
    try:
        total = conns.bytes_each(num, used=False)
        conn, transport = conns.conns()[-1], next(iter(conns.loop.transports))
        sizes = {
            "MRConn": float(sys.getsizeof(conn)),
            "its transport": float(sys.getsizeof(transport)),
            "the descriptor's number": 32.0,
            "counters in C": conns.counters_bytes_each(num),
        }
        sizes["tables of pool, loop and poller"] = total - sum(sizes.values())
        return ", ".join(f"{name} {size:.0f} B" for name, size in sizes.items())
    finally:
        conns.close()


def _resident(rt: ThreadsRuntime, address: Address, num: int) -> str:
    """The growth of the resident set, which has also what the allocators keep back."""
    process, conns = psutil.Process(), IdleConns(rt, address, NODES)
    try:
        gc.collect()
        before = process.memory_info().rss
        conns.grow(num)
        gc.collect()
        return f"{(process.memory_info().rss - before) / (NODES * (num - 1)):.0f} B per new connection"
    finally:
        conns.close()


def _judge(report: Report, held: list[Held]) -> None:
    result = report.cases[0]
    for reading in held:
        report.facts[f"after {reading.resizes:,} resizes"] = str(reading)
    start, end = held[0], held[-1]
    growth = (end.traced - start.traced) / end.resizes
    wrong = [
        f"{row.name}: {row.median:.0f} B are more than {GOAL_B}"
        for row in (result.row(NEW), result.row(USED))
        if row.median > GOAL_B
    ]
    wrong += [f"after {each.resizes} resizes: {each}" for each in held if each.counts != start.counts]
    wrong += [f"a resize leaves {growth:.1f} B behind"] if growth > FLAT_B else []
    report.facts["checks"] = "; ".join(wrong) or (
        f"at most {GOAL_B} B each; threads, descriptors and sockets back, {growth:+.1f} B given out per resize"
    )
    report.facts["held"] = not wrong
    new, used = result.row(NEW), result.row(USED)
    report.conclusion = (
        f"an idle connection holds {new.median:.0f} B when it is new and {used.median:.0f} B when it was used, "
        f"{new.times_better[BASE]:.1f} and {used.times_better[USED_BASE]:.1f} times less than the baseline; "
        f"{end.resizes:,} resizes leave {growth:+.1f} B each"
    )


def run(effort: Effort, told: Progress = silent) -> Report:
    """Measure. Blocks for a minute or two. Raises ShardError, RuntimeError."""
    report = Report("idle")
    num = effort.pick(101, 41, 5)
    count = NODES * (num - 1)
    if (limit := raise_fd_limit()) < count + SPARE_FDS:
        raise RuntimeError(f"{count + SPARE_FDS} open files are needed and {limit} allowed (ulimit -n)")
    rt = ThreadsRuntime(seed=1)
    with ShardProcess(rt, 1) as shards:
        (address,) = shards.endpoints
        report.facts["resident set"] = _resident(rt, address, num)  # before the allocators have kept anything back
        case = Case(
            f"an idle connection, of {count:,}: bytes that are not the kernel's", BYTES,
            [
                Contender(BASE, _plain(Plain, count)),
                Contender(USED_BASE, _plain(Plain, count, used=True)),
                Contender(WITH_SOCKET, _plain(PlainWithSocket, count)),
                Contender(NEW, _ours(rt, address, num, used=False), ours=True),
                Contender(USED, _ours(rt, address, num, used=True), ours=True),
                Contender(POOLED, _pooled(rt, address, min(count, POOL_CONNS)), ours=True),
            ],
            [BASE, USED_BASE], effort.pick(3, 2, 1),
            "The first two are without a socket; MRConn's rows have everything but the kernel's. A used reader keeps "
            "its buffer, up to 16 KiB.",
        )  # fmt: skip
        report.cases.append(run_case(case, told))
        report.facts["a new MRConn"] = _parts(rt, address, num)
        inbox = count_bytes(lambda: [ReplyInbox() for _ in range(count)]) / count + heap_bytes_each(
            _reader(used=True), 64
        )
        report.facts["spare inboxes"] = f"at most {SPARE_INBOXES} per I/O thread, {inbox:,.0f} B each when used"
    report.facts["resizes"] = f"{SMALL} to {LARGE} workers and back, at {SMALL} when read"
    _judge(report, resize_often(effort.pick(1000, 200, 20), 2, told))
    return report
