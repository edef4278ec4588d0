"""BackfillReaper: sees to it that work survives: what was taken and not acknowledged, and what a server has forgotten.

Role: a task of the surviving form. Every round it has each queue give back what was taken too long ago by somebody who
is not there any more. And it asks each node whether it is still the same one: a key with a token stands there from the
start on. A server that keeps nothing on disk comes back from a kill without its queues, and without that key; then the
key is set again *first*, under a new token, the queues are made again, and every message without an outcome that was
put before, or may have been, is put once more, from the producers' outbox. When the server dies in
the middle of that, the next round finds the key missing again and begins anew; when it does not, nothing more is to be
done. What was still somewhere all the same is found done by the store's idempotency keys.

Thread: a task of its own; it remembers between rounds. Upstream: none: in the write-up the work was lost. Left out: a
list of one's own for the outbox; the messages are numbers. Bounds: those of the queues.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from coordemu.lab.backfill_queue import BackfillQueue, Ticket
from coordemu.lab.backfill_shop import MARKER_LAST, Workshop
from coordemu.lab.backfill_tally import OpTally
from coordemu.runtime.base import NS_PER_MS

ROUNDS_PER_IDLE = 4
# So many rests at most between two rounds: a server that has forgotten everything should not wait long.
LONGEST_REST_PAUSES = 10


class BackfillReaper:
    """The reaper. queues: all, those of a node next to each other, as many per node.  tags: of the nodes."""

    def __init__(self, shop: Workshop, queues: Sequence[BackfillQueue], tags: Sequence[str]) -> None:
        self.name = "reaper"
        self.tally = OpTally()
        self.reaped = 0
        self.restored = 0
        self.restorations = 0
        self._shop = shop
        self._queues = tuple(queues)
        self._of_node = len(queues) // len(tags)
        self._keys = tuple(marker_of(tag) for tag in tags)
        # By node: the token that its key must have, and whether all was put again under it.
        self._tokens = [0 for _ in tags]
        self._whole = [True for _ in tags]

    def work(self) -> None:
        """Rounds, until the run is over. Thread: its task's. Blocks."""
        shop = self._shop
        idle_ns = shop.system.settings.backfill.reclaim_idle_ms * NS_PER_MS
        while not shop.over():
            rest_ns = min(idle_ns // ROUNDS_PER_IDLE, LONGEST_REST_PAUSES * shop.pause_ns)
            shop.rest(max(NS_PER_MS, rest_ns), "the reaper's next round")
            if not shop.over():
                self.round(idle_ns)

    def round(self, idle_ns: int) -> None:
        """One round. idle_ns: how long a ticket may be out. Thread: one. Blocks."""
        for node in range(len(self._keys)):
            try:
                self._look_after(node)
                for queue in self._queues_of(node):
                    reap = partial(queue.reap, idle_ns, self._shop.hands.has)
                    self.reaped += self._shop.system.reap(reap, self.tally)
            except Exception:  # counted with its reason; the next round is soon
                continue

    def _queues_of(self, node: int) -> Sequence[BackfillQueue]:
        return self._queues[node * self._of_node : (node + 1) * self._of_node]

    def _look_after(self, node: int) -> None:
        system, key = self._shop.system, self._keys[node]
        found = system.reap(lambda: system.execute(b"GET", key), self.tally)
        if found != token_of(self._tokens[node]):
            self.restorations += 1
            self._tokens[node] += 1
            self._whole[node] = False
            if MARKER_LAST not in self._shop.faults:
                self._mark(node)
        if not self._whole[node]:
            self._restore(node)
            if MARKER_LAST in self._shop.faults:
                self._mark(node)
            self._whole[node] = True

    def _mark(self, node: int) -> None:
        system, key, token = self._shop.system, self._keys[node], token_of(self._tokens[node])
        system.reap(lambda: system.execute(b"SET", key, token), self.tally)

    def _restore(self, node: int) -> None:
        """Put again what was put and has no outcome. Raises what the system does; then nothing is whole yet."""
        shop, first, count = self._shop, node * self._of_node, len(self._queues)
        for queue in self._queues_of(node):
            shop.system.reap(queue.prepare, self.tally)
        for message in shop.outbox.messages():
            if shop.over():
                return
            if first <= message % count < first + self._of_node and not shop.store.has(message):
                ticket = Ticket(message, turn=f"r{self._tokens[node]}")
                shop.system.put(self._queues[message % count], ticket, self.tally)
                shop.ledger.put(message)
                self.restored += 1

    def statistics(self) -> dict[str, int]:
        """reaped: tickets given back.  restorations: servers that had forgotten.  restored: messages put again."""
        return {"reaped": self.reaped, "restorations": self.restorations, "restored": self.restored}

    def __repr__(self) -> str:
        return f"<BackfillReaper {self.statistics()}>"


def marker_of(tag: str) -> bytes:
    """The key that says that a node is still the same."""
    return b"{%s}:marker" % tag.encode()


def token_of(number: int) -> bytes:
    """What stands there."""
    return b"token %d" % number
