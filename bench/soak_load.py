"""The soak's clients, in a process of their own: they keep queries under way and judge every reply.

Role: `bench.soak` starts this as a child, so that the load takes no share of the coordinator's interpreter lock. Each
client has one connection and keeps `depth` commands on their way over it (the host works on one of them at a time,
the rest wait in its input, so it never waits for a client). A reply must carry the id of the oldest query of its
connection: a reply that was lost, doubled or given to the wrong query is seen here and nowhere else.

The conversation with the parent: a `LoadSpec` as one line of JSON on stdin; a `Ledger` as one line of JSON on stdout
at the end. When stdin ends before that, no more queries are sent, and those under way are awaited.

Thread: the only one of its process. Upstream: memtier_benchmark. Left out: reconnecting; a connection that ends fails
its queries.
"""

from __future__ import annotations

import json
import random
import select
import signal
import socket
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any

import hiredis

READ_BYTES = 65_536
REASONS_KEPT = 64


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """What to send, and to whom.

    queries: how many in all.  clients: connections.  depth: commands under way on each.  service_share,
    service_max_us: that share of queries takes up to that long on each shard.  load_share, load_us: that share takes
    the module lock late, for that long. patience_s: how long without any reply before the queries under way count as
    lost.  seed: of all draws.
    """

    host: str
    port: int
    queries: int
    clients: int = 24
    depth: int = 2
    service_share: float = 0.05
    service_max_us: int = 3000
    load_share: float = 0.01
    load_us: int = 50
    patience_s: float = 15.0
    seed: int = 1


@dataclass(slots=True)
class Ledger:
    """What became of them: sent = replied + failed + lost.

    mismatched: replies that were not the one that was due; each makes its query failed.
    """

    sent: int = 0
    replied: int = 0
    failed: int = 0
    lost: int = 0
    mismatched: int = 0
    seconds: float = 0.0
    max_gap_ms: float = 0.0
    by_reason: dict[str, int] = field(default_factory=dict)

    def fail(self, reason: str, count: int = 1) -> None:
        """Count failures under a reason; at most 64 reasons are told apart."""
        self.failed += count
        key = reason if reason in self.by_reason or len(self.by_reason) < REASONS_KEPT else "other reasons"
        self.by_reason[key] = self.by_reason.get(key, 0) + count


class LoadClient:
    """One connection: the ids under way on it, oldest first."""

    __slots__ = ("due", "gets", "reader", "sock")

    def __init__(self, host: str, port: int) -> None:
        self.sock = socket.create_connection((host, port), timeout=10)
        self.sock.setblocking(False)
        self.reader = hiredis.Reader()
        self.gets = self.reader.gets
        self.due: deque[bytes] = deque()


class Load:
    """All clients of the process."""

    def __init__(self, spec: LoadSpec) -> None:
        """Connect. Raises OSError."""
        self.ledger = Ledger()
        self._spec = spec
        self._random = random.Random(spec.seed)
        self._epoll = select.epoll()
        self._clients: dict[int, LoadClient] = {}
        for _ in range(spec.clients):
            client = LoadClient(spec.host, spec.port)
            self._clients[client.sock.fileno()] = client
            self._epoll.register(client.sock, select.EPOLLIN)
        self._epoll.register(sys.stdin, select.EPOLLIN)
        self._to_send = spec.queries

    def run(self) -> Ledger:
        """Send everything and await it. Returns the ledger. Blocks for the length of the load."""
        ledger, patience_s, stdin_fd = self.ledger, self._spec.patience_s, sys.stdin.fileno()
        began = last = time.monotonic()
        max_gap_s = 0.0
        for client in list(self._clients.values()):
            self._send(client, self._spec.depth)
        while self._clients and (self._to_send or ledger.sent > ledger.replied + ledger.failed):
            events = self._epoll.poll(1.0)
            now = time.monotonic()
            if now - last > max_gap_s:
                max_gap_s = now - last
            if not events and now - last > patience_s:
                break
            for fd, _ in events:
                if fd == stdin_fd:
                    self._to_send = 0
                    self._epoll.unregister(fd)
                else:
                    self._receive(self._clients[fd])
                    last = now
        ledger.seconds = time.monotonic() - began
        ledger.max_gap_ms = max_gap_s * 1e3
        ledger.lost = ledger.sent - ledger.replied - ledger.failed
        return ledger

    def _receive(self, client: LoadClient) -> None:
        try:
            data = client.sock.recv(READ_BYTES)
        except OSError as err:
            self._drop(client, str(err))
            return
        if not data:
            self._drop(client, "closed by the host")
            return
        client.reader.feed(data)
        gets, due, ledger = client.gets, client.due, self.ledger
        count = 0
        while True:
            reply: Any = gets()
            if reply is False:
                break
            wanted = due.popleft()
            if type(reply) is list and reply[0] == wanted:
                ledger.replied += 1
            elif isinstance(reply, hiredis.ReplyError):
                ledger.fail(str(reply))
            else:
                ledger.mismatched += 1
                ledger.fail("a reply that belongs to another query")
            count += 1
        if self._to_send:
            self._send(client, count)

    def _send(self, client: LoadClient, count: int) -> None:
        count = min(count, self._to_send)
        if not count:
            return
        self._to_send -= count
        first = self.ledger.sent
        self.ledger.sent += count
        out = []
        for number in range(first, first + count):
            ident = b"q%d" % number
            client.due.append(ident)
            out.append(self._command(ident))
        try:
            client.sock.sendall(b"".join(out))
        except OSError as err:
            self._drop(client, str(err))

    def _command(self, ident: bytes) -> bytes:
        spec, chance = self._spec, self._random.random
        options: list[bytes] = []
        if chance() < spec.service_share:
            options += [b"SERVICE", b"%d" % int(1 + chance() * spec.service_max_us)]
        if chance() < spec.load_share:
            options += [b"LOAD", b"%d" % spec.load_us]
        if not options:
            return b"*3\r\n$9\r\nFT.SEARCH\r\n$3\r\nidx\r\n$%d\r\n%b\r\n" % (len(ident), ident)
        pack: Any = hiredis.pack_command
        packed: bytes = pack((b"FT.SEARCH", b"idx", ident, *options))
        return packed

    def _drop(self, client: LoadClient, reason: str) -> None:
        del self._clients[client.sock.fileno()]
        self._epoll.unregister(client.sock)
        client.sock.close()
        self.ledger.fail(f"client connection: {reason}", len(client.due))
        client.due.clear()

    def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            client.sock.close()
        self._epoll.close()


def main() -> int:
    """Converse with the parent. Returns the exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends stdin
    load = Load(LoadSpec(**json.loads(sys.stdin.readline())))
    try:
        ledger = load.run()
    finally:
        load.close()
    print(json.dumps(asdict(ledger)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
