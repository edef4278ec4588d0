"""The clients that `bench.commands` compares: coordemu's two ways, redis-py, and two loops written by hand.

Role: each client runs for a given time against one server and returns commands per second. *Blocking* clients have 12
threads that send one command and wait for its reply; *streaming* ones keep 16 commands in flight on each of 13
connections.

*Deadlines.* Like upstream's, a connection of coordemu has no time limit per command. `_Stream` can keep one for each,
so that its price is known: replies come in the order of the commands, so a queue of due times beside the connection's
queue of callbacks, and a timer that looks at the first of them, are all it takes.

Thread: each client's `run` makes its threads and ends them. Upstream: none. Left out: asyncio (`bench.async_clients`),
C (`bench.hiredis_driver`).
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import hiredis
import redis

from coordemu.coord.cluster import MRCluster
from coordemu.coord.conn import MRConn
from coordemu.coord.conn_handshake import pack_command
from coordemu.coord.endpoint import MREndpoint
from coordemu.coord.io_runtime_ctx import IORuntimeCtx
from coordemu.coord.rmr import MRCtx, fanout
from coordemu.coord.topology import MRClusterNode, MRClusterTopology
from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Address
from coordemu.runtime.threads import ThreadsRuntime

WORKERS = 12
CONNS = 13
IN_FLIGHT = 16
KEY, VALUE = "key", "abc"
COMMAND = pack_command("GET", KEY)
ERRORS_SHOWN = 3
TICK_NS = 100 * NS_PER_MS  # how often deadlines are looked at


class WrongReply(Exception):
    """A client got something else than the key's value."""


class NotHere(Exception):
    """A contender can't be had on this machine, or not on this server. The text is the reason, one line."""


def threads_for(seconds: float, n: int, body: Callable[[int, Callable[[], bool]], int]) -> float:
    """n threads run body(number, ended), which returns how many commands it did; commands per second of all. Blocks.

    Raises WrongReply when a body raised.
    """
    stop = threading.Event()
    counts = [0] * n
    errors: list[str] = []

    def run(number: int) -> None:
        try:
            counts[number] = body(number, stop.is_set)
        except Exception as err:  # the thread must not hide it
            errors.append(repr(err))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(n)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    elapsed_s = time.perf_counter() - began
    if errors:
        raise WrongReply("; ".join(errors[:ERRORS_SHOWN]))
    return sum(counts) / elapsed_s


class OurClient:
    """A cluster of `nodes` nodes that are all the same server. One I/O thread."""

    def __init__(self, address: Address, nodes: int, conns: int) -> None:
        """Connect. Raises RuntimeError when it takes more than ten seconds."""
        self._rt = ThreadsRuntime(seed=1)
        self._nodes = nodes
        topology = MRClusterTopology(tuple(MRClusterNode(f"node-{i}", MREndpoint(address)) for i in range(nodes)))
        self._cluster = MRCluster(self._rt, topology, 1, conns)
        self._cluster.start()
        if not self._rt.poll_until(self._connected(nodes * conns), 1_000_000, "connections", 10 * NS_PER_S):
            self.close()
            raise RuntimeError(f"no connection to {address}")

    def _connected(self, wanted: int) -> Callable[[], bool]:
        return lambda: self._cluster.statistics()["connected"] == wanted

    def close(self) -> None:
        """End the I/O thread."""
        self._cluster.free()

    def blocking(self, seconds: float) -> float:
        """12 workers: fan out, wait for the completion. With several nodes a fan-out is that many commands."""
        rt, cluster, nodes = self._rt, self._cluster, self._nodes

        def body(_number: int, ended: Callable[[], bool]) -> int:
            count = 0
            while not ended():
                done = rt.event("reply")

                def complete(_ctx: MRCtx, done: Any = done) -> None:
                    done.set()

                ctx = fanout(cluster, COMMAND, complete, name="bench")
                done.wait()
                if ctx.replied != nodes:
                    raise WrongReply(f"{ctx!r} {ctx.errors}")
                count += nodes
            return count

        return threads_for(seconds, WORKERS, body)

    def streaming(
        self, seconds: float, pack_each: bool = False, in_flight: int = IN_FLIGHT, timeout_ns: int = 0
    ) -> float:
        """in_flight on each connection; each reply's callback sends the next command, packed anew with pack_each.

        timeout_ns: every command, packed once, has that long for its reply; 0: for ever. Raises ValueError for both at
        once; WrongReply for a wrong or late reply, and when the connections' own statistics don't come to as many
        replies as the callbacks have seen.
        """
        if pack_each and timeout_ns:
            raise ValueError("deadlines are for commands that are packed once")
        stream = _Stream(pack_each, in_flight, timeout_ns, self._rt.now_ns)
        self._cluster.schedule(stream.start, None)
        # Beside busy threads the I/O thread may come to it only when the time would be over.
        if not self._rt.poll_until(lambda: stream.started, 1_000_000, "first commands", 10 * NS_PER_S):
            raise WrongReply("the I/O thread does not start")
        time.sleep(0.02)
        began, before = time.perf_counter(), stream.count
        time.sleep(seconds)
        rate = (stream.count - before) / (time.perf_counter() - began)
        stream.stopping = True
        over = self._rt.poll_until(
            lambda: stream.in_flight == 0 and stream.handed() == stream.count, 1_000_000, "last replies", 10 * NS_PER_S
        )
        if not over or stream.wrong or stream.late:
            raise WrongReply(
                f"{stream.in_flight} replies missing, {stream.wrong} wrong, {stream.late} late, {stream.count} seen, "
                f"{stream.handed()} in the connections' statistics"
            )
        return rate


class _Stream:
    """Commands in flight on the connections of one I/O runtime. Runs on its thread."""

    def __init__(self, pack_each: bool, depth: int, timeout_ns: int, now_ns: Callable[[], int]) -> None:
        self.count = 0
        self._depth = depth
        self.wrong = self.late = 0
        self.in_flight = 0
        self.started = self.stopping = False
        self._pack_each = pack_each
        self._timeout_ns, self._now_ns = timeout_ns, now_ns
        # When each connection's outstanding commands are due, in the order of sending. Bound: depth.
        self._due: list[deque[int]] = []
        self._conns: list[MRConn] = []
        self._handed_before = 0

    def start(self, io: IORuntimeCtx, _data: Any) -> None:
        self._conns = [conn for pool in io.manager.pools.values() for conn in pool.conns]
        # Here, not on the caller's thread: a connection counts a batch after the last callback of it has run.
        self._handed_before = self._handed()
        for conn in self._conns:
            again = self._in_time(conn) if self._timeout_ns else self._again(conn)
            for _ in range(self._depth):
                self.in_flight += conn.send_command(COMMAND, again)
        if self._timeout_ns:
            self._watch(io)
        io.request_completed()
        self.started = True

    def handed(self) -> int:
        """Replies that the connections have handed over since the start, by their own count. Thread: any."""
        return self._handed() - self._handed_before

    def _handed(self) -> int:
        return sum(conn.context.handed for conn in self._conns[:1])  # one I/O thread: one context

    def _again(self, conn: MRConn) -> Callable[[Any, str | None], None]:
        send = conn.send_command

        def on_reply(reply: Any, _error: str | None) -> None:
            self.count += 1
            if reply != b"abc":
                self.wrong += 1
            if self.stopping:
                self.in_flight -= 1
            else:
                send(COMMAND, on_reply)

        def on_reply_packing(reply: Any, _error: str | None) -> None:
            self.count += 1
            if reply != b"abc":
                self.wrong += 1
            if self.stopping:
                self.in_flight -= 1
            else:
                send(pack_command("GET", KEY), on_reply_packing)

        return on_reply_packing if self._pack_each else on_reply

    def _in_time(self, conn: MRConn) -> Callable[[Any, str | None], None]:
        """As `_again`, with a deadline for each command."""
        send, now_ns, timeout_ns = conn.send_command, self._now_ns, self._timeout_ns
        due = deque([now_ns() + timeout_ns] * self._depth)
        self._due.append(due)

        def on_reply(reply: Any, _error: str | None) -> None:
            at_ns = now_ns()
            self.count += 1
            if due.popleft() < at_ns:
                self.late += 1
            if reply != b"abc":
                self.wrong += 1
            if self.stopping:
                self.in_flight -= 1
            else:
                due.append(at_ns + timeout_ns)
                send(COMMAND, on_reply)

        return on_reply

    def _watch(self, io: IORuntimeCtx) -> None:
        """Until the last reply has come, look for commands whose time is over without one."""

        def tick() -> None:
            now_ns = self._now_ns()
            self.late += sum(due[0] < now_ns for due in self._due if due)
            if not self.in_flight:
                timer.close()

        timer = io.loop.timer(tick, "bench: deadlines")
        timer.start(TICK_NS, TICK_NS)


class RedisPy:
    """redis-py with a pool of 13 connections."""

    def __init__(self, address: Address) -> None:
        make: Any = redis.BlockingConnectionPool
        pool = make(max_connections=CONNS, host=address.host, port=address.port)
        self._client = redis.Redis(connection_pool=pool)

    def close(self) -> None:
        """Close the connections."""
        self._client.connection_pool.disconnect()

    def blocking(self, seconds: float) -> float:
        """12 threads, one GET at a time each."""

        def body(_number: int, ended: Callable[[], bool]) -> int:
            get, count = self._client.get, 0
            while not ended():
                if get(KEY) != b"abc":
                    raise WrongReply("redis-py")
                count += 1
            return count

        return threads_for(seconds, WORKERS, body)

    def pipelines(self, seconds: float, n: int, size: int = IN_FLIGHT) -> float:
        """n threads, pipelines of that size."""

        def body(_number: int, ended: Callable[[], bool]) -> int:
            count = 0
            while not ended():
                pipe = self._client.pipeline(transaction=False)
                for _ in range(size):
                    pipe.get(KEY)
                if pipe.execute()[-1] != b"abc":
                    raise WrongReply("redis-py pipeline")
                count += size
            return count

        return threads_for(seconds, n, body)


class ByHand:
    """Sockets and hiredis.Reader, and nothing around them."""

    def __init__(self, address: Address) -> None:
        self._address = (address.host, address.port)

    def blocking(self, seconds: float) -> float:
        """12 threads, a socket of its own each: no pool, no I/O thread, nobody who could resize anything."""

        def body(_number: int, ended: Callable[[], bool]) -> int:
            count = 0
            reader = hiredis.Reader()
            with socket.create_connection(self._address) as sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while not ended():
                    sock.sendall(COMMAND)
                    while (reply := reader.gets()) is False:
                        reader.feed(sock.recv(65_536))
                    if reply != b"abc":
                        raise WrongReply("by hand")
                    count += 1
            return count

        return threads_for(seconds, WORKERS, body)

    def streaming(self, seconds: float, conns: int = CONNS, in_flight: int = IN_FLIGHT) -> float:
        """One thread, an epoll loop over that many sockets, in_flight on each, a deque of callbacks each."""
        return threads_for(seconds, 1, lambda _number, ended: self._loop(ended, conns, in_flight))

    def _loop(self, ended: Callable[[], bool], n_conns: int, in_flight: int) -> int:
        epoll = select.epoll()
        conns: dict[int, tuple[socket.socket, hiredis.Reader, deque[Callable[[Any], None]]]] = {}
        count = wrong = 0

        def on_reply(reply: Any) -> None:
            nonlocal count, wrong
            count += 1
            wrong += reply != b"abc"

        for _ in range(n_conns):
            sock = socket.create_connection(self._address)
            sock.setblocking(False)
            epoll.register(sock, select.EPOLLIN)
            conns[sock.fileno()] = (sock, hiredis.Reader(), deque([on_reply] * in_flight))
            sock.sendall(COMMAND * in_flight)
        try:
            while not ended():
                for fd, _mask in epoll.poll(0.1):
                    sock, reader, callbacks = conns[fd]
                    reader.feed(sock.recv(65_536))
                    out = []
                    while (reply := reader.gets()) is not False:
                        callbacks.popleft()(reply)
                        out.append(COMMAND)
                        callbacks.append(on_reply)
                    sock.sendall(b"".join(out))
        finally:
            for sock, _, _ in conns.values():
                sock.close()
            epoll.close()
        if wrong:
            raise WrongReply(f"by hand: {wrong}")
        return count
