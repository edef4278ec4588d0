"""BackfillProducer: puts messages onto the queues at the rate of the plan.

Role: one task of the producing side. Each message has its moment; who is late hurries. With work that survives, a
producer keeps what it has to put until the server has said that it has it: it tries on, resting in between, and what
was put twice because a reply was lost is found out by the store. In the fragile form a message whose put has failed is
gone, which is what "the queue drops messages" looks like from inside.

Thread: a task of its own. Upstream: the write-up's producers, on the same pool as the workers. Left out: batches.
Bound: one message at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

from coordemu.lab.backfill_queue import BackfillQueue, Ticket
from coordemu.lab.backfill_shop import ENDINGS, OUTBOX_LATE, Workshop
from coordemu.lab.backfill_tally import OpTally
from coordemu.lab.pool_metrics import reason_of


class BackfillProducer:
    """One producer. number: from 0; it puts every message whose number leaves that rest.  queues: a message goes to the
    one of its number."""

    def __init__(self, shop: Workshop, number: int, queues: Sequence[BackfillQueue]) -> None:
        self.name = f"producer {number}"
        self.tally = OpTally()
        self.finished = False
        self._shop = shop
        self._number = number
        self._queues = queues

    def work(self, began_ns: int) -> None:
        """Put all of its messages, or until the run is over. began_ns: the run's start. Thread: its task's. Blocks."""
        shop = self._shop
        last_ns = 0
        for message in range(self._number, shop.plan.messages, shop.plan.producers):
            due_ns = shop.plan.due_ns(message)
            # Never longer than from one message to the next, whatever the clock says: it may have jumped.
            rest_ns = min(began_ns + due_ns - shop.rt.now_ns(), due_ns - last_ns)
            last_ns = due_ns
            if rest_ns > 0:
                shop.rest(rest_ns, "the next message's moment")
            if shop.over() or not self._put(message):
                return
        self.finished = True

    def _put(self, message: int) -> bool:
        """Put one, somehow. False: the run has ended."""
        shop, attempt = self._shop, 0
        queue = self._queues[message % len(self._queues)]
        if OUTBOX_LATE not in shop.faults:
            shop.outbox.note(message)
        while True:
            try:
                shop.system.put(queue, Ticket(message, turn=f"p{attempt}"), self.tally)
            except ENDINGS:
                return False
            except Exception as error:
                if not shop.survives:
                    shop.ledger.lost(message, f"never put: {reason_of(error)}")
                    return True
                attempt += 1
                shop.rest(shop.pause_ns, "a rest after a put that failed")
                if shop.over():
                    return False
            else:
                shop.outbox.note(message)
                shop.ledger.put(message)
                return True

    def __repr__(self) -> str:
        return f"<BackfillProducer {self.name!r}{' finished' if self.finished else ''}>"
