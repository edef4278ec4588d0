"""BlockedClients: the clients of a shard that wait for a list or a stream to have something for them.

Role: BLPOP, BRPOP, BLMOVE, BRPOPLPUSH, XREAD and XREADGROUP that find nothing leave a `Wait` here. A command that puts
something at a key signals it; once that command has been answered, `serve_ready` goes through the key's waits, the
longest first, and each is served or stays. So an element goes to the one that waited longest, whole, and to one only.
Whoever is served is told by `unblock`; a client that ends before is forgotten, and nothing was taken for it.

Time-outs share one timer of the loop, which is made when the first client waits with one, and stopped when none does.

Thread: the shard's loop. Upstream: blocked.c of a Redis server. Left out: CLIENT UNBLOCK; telling those that wait for a
stream that its key was deleted (6.2 does not, either). Bound: one wait per connection, and as many due times as twice
the waits with a time-out, and 64.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Protocol

from coordemu.runtime.base import Timer
from coordemu.shards.shard_values import Keyspace

SPARE_DUE_TIMES = 64


class WaitingClient(Protocol):
    """A connection whose command waits."""

    def unblock(self, reply: bytes) -> None:
        """It waits no more: this is the reply. Thread: the shard's loop."""
        ...


class Wait:
    """What one client waits for.

    keys: any of them.  serve: asked for a key that may have something; it takes that and returns the reply, or returns
    None.  nothing: the reply when the time is over.  timeout_ns: 0 for never.
    """

    __slots__ = ("client", "due_ns", "keys", "nothing", "serve", "timeout_ns")

    def __init__(
        self, keys: Sequence[bytes], serve: Callable[[bytes], bytes | None], nothing: bytes, timeout_ns: int
    ) -> None:
        self.keys = tuple(dict.fromkeys(keys))
        self.serve = serve
        self.nothing = nothing
        self.timeout_ns = timeout_ns
        self.client: WaitingClient | None = None  # None also when it waits no more
        self.due_ns: int | None = None


class BlockedClients:
    """All waits of a shard. keyspace: whose keys they are.  make_timer: for the time-outs, when first needed."""

    def __init__(self, keyspace: Keyspace, make_timer: Callable[[Callable[[], None]], Timer]) -> None:
        self._keyspace = keyspace
        self._make_timer = make_timer
        self._timer: Timer | None = None
        self._armed_ns: int | None = None
        self._queues: dict[bytes, dict[Wait, None]] = {}  # of each key, in the order of their coming
        self._ready: dict[bytes, None] = {}
        self._due: list[tuple[int, int, Wait]] = []
        self._due_entries = 0
        self._timed = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"<BlockedClients {self._count} at {len(self._queues)} keys>"

    @property
    def ready(self) -> bool:
        """Whether a key was signalled and not looked at since."""
        return bool(self._ready)

    def add(self, client: WaitingClient, wait: Wait) -> None:
        """A client begins to wait, behind those that wait already."""
        wait.client = client
        self._count += 1
        for key in wait.keys:
            self._queues.setdefault(key, {})[wait] = None
        if wait.timeout_ns:
            self._timed += 1
            self._due_entries += 1
            wait.due_ns = self._keyspace.now_ns() + wait.timeout_ns
            heapq.heappush(self._due, (wait.due_ns, self._due_entries, wait))
            self._arm()

    def forget(self, wait: Wait) -> None:
        """It waits no more: its client has ended, or is about to. Does nothing for one that does not wait."""
        if wait.client is None:
            return
        wait.client = None
        self._count -= 1
        for key in wait.keys:
            queue = self._queues[key]
            del queue[wait]
            if not queue:
                del self._queues[key]
        if wait.due_ns is not None:
            self._timed -= 1
            self._drop_due_times()

    def signal(self, key: bytes) -> bool:
        """Something was put at a key. Returns whether anybody waits there, so that `serve_ready` must be called."""
        if key in self._queues:
            self._ready[key] = None
            return True
        return False

    def serve_ready(self) -> None:
        """Serve those that wait at the keys that were signalled, until nothing is left to take or to signal."""
        while self._ready:
            key = next(iter(self._ready))
            del self._ready[key]
            for wait in list(self._queues.get(key, ())):
                if key not in self._keyspace.typed:
                    break
                reply = wait.serve(key)
                if reply is not None:
                    self._release(wait, reply)

    def close(self) -> None:
        """The shard goes down; its connections were ended before."""
        self._ready.clear()
        self._due.clear()
        self._timed = 0
        if self._timer is not None:
            self._timer.close()
        self._timer = self._armed_ns = None

    def _release(self, wait: Wait, reply: bytes) -> None:
        client = wait.client
        self.forget(wait)
        if client is not None:
            client.unblock(reply)

    def _drop_due_times(self) -> None:
        """Of those that wait no more, when they have become many."""
        if not self._timed:
            self._due.clear()
            if self._timer is not None:
                self._timer.stop()
            self._armed_ns = None
        elif len(self._due) > 2 * self._timed + SPARE_DUE_TIMES:
            self._due = [each for each in self._due if each[2].client is not None]
            heapq.heapify(self._due)

    def _arm(self) -> None:
        if not self._due:
            return
        first_ns = self._due[0][0]
        if self._armed_ns is None or first_ns < self._armed_ns:
            if self._timer is None:
                self._timer = self._make_timer(self._on_due)
            self._armed_ns = first_ns
            self._timer.start(max(0, first_ns - self._keyspace.now_ns()))

    def _on_due(self) -> None:
        now_ns = self._keyspace.now_ns()
        self._armed_ns = None
        while self._due and (self._due[0][0] <= now_ns or self._due[0][2].client is None):
            wait = heapq.heappop(self._due)[2]
            if wait.client is not None:
                self._release(wait, wait.nothing)
        self._arm()
