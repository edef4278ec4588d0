"""BackfillWorker: takes a message, asks the Hub, writes the store, acknowledges; and what becomes of it otherwise.

Role: one task of the fleet. What becomes of a message whose work failed is a decision by the error's class:

    PERMANENT       a dead letter, with the reason: the Hub refuses it for good
    RECOVERABLE     back onto the queue; this delivery counts, and the last one that may be makes a dead letter. What
                    says nothing of the message (the Hub could not be reached) does not count
    BACK_PRESSURE   back onto the queue, nothing counts, and the worker rests for as long as it was told

With the fragile forms of the queues there is no way back: the message is lost, and this says so.

While the breaker before the Hub is open a worker takes nothing: a message is better off in the queue. What workers
have in hand is in the register `Hands`, so that the reaper renews it instead of giving it to somebody else; a worker
that dies (`BackfillPlan.crash`) takes its entry along.

Thread: a task of its own. Upstream: the write-up's worker. Left out: more than one message at a time. Bound: one
message in hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from coordemu.lab.backfill_queue import BackfillQueue, Taken
from coordemu.lab.backfill_shop import ACK_FIRST, ENDINGS, Workshop
from coordemu.lab.backfill_store import DUPLICATE
from coordemu.lab.backfill_system import ContentGarbled, classify_here
from coordemu.lab.backfill_tally import OpTally
from coordemu.lab.pool_metrics import reason_of
from coordemu.pool.pool_errors import ConnFailed
from coordemu.resilience.error_class import ErrorClass
from coordemu.resilience.resilience_errors import RetriesExhausted

LONGEST_REST_PAUSES = 50


@dataclass(frozen=True, slots=True)
class Fate:
    """What is to become of a message whose work failed. dead: a reason, or "".  counts: whether the delivery does.
    rest_ns: for the worker."""

    dead: str
    counts: bool
    rest_ns: int


def fate_of(error: Exception, failures: int, most: int, pause_ns: int) -> Fate:
    """The table above. failures: deliveries that came to nothing before this one.  most: deliveries that may be.
    Thread: any."""
    cause = error
    while isinstance(cause, RetriesExhausted) and isinstance(cause.last, Exception):
        cause = cause.last
    said = classify_here(cause)
    if said.error_class is ErrorClass.BACK_PRESSURE:
        return Fate("", False, min(max(said.delay_ns, pause_ns), LONGEST_REST_PAUSES * pause_ns))
    if said.error_class is ErrorClass.PERMANENT:
        return Fate(f"{reason_of(cause)}: {cause}", True, 0)
    if isinstance(cause, ConnFailed) and not said.unanswered:
        return Fate("", False, pause_ns)
    if failures + 1 >= most:
        return Fate(f"{failures + 1} deliveries came to nothing, the last with {reason_of(cause)}", True, 0)
    return Fate("", True, 0)


class BackfillWorker:
    """One worker. number: from 0.  places: the queues that it takes from in turn, each with its node; 1 or more."""

    def __init__(self, shop: Workshop, number: int, places: Sequence[tuple[BackfillQueue, str]]) -> None:
        self.name = f"worker {number}"
        self.tally = OpTally()
        self._shop = shop
        self._system = shop.system
        self._places = tuple(places)
        self._queue, self._node = self._places[0]
        self._consumer = f"w{number}"

    def work(self) -> None:
        """Until the run is over. Thread: its task's. Blocks."""
        shop, turn = self._shop, 0
        while not shop.over():
            closed_ns = self._system.hub_closed_for_ns()
            if closed_ns:
                shop.rest(min(closed_ns, LONGEST_REST_PAUSES * shop.pause_ns), "the breaker")
                continue
            self._queue, self._node = self._places[turn % len(self._places)]
            turn += 1
            try:
                taken = self._system.take(self._queue, self._node, self._consumer, self.tally)
            except Exception:  # counted with its reason
                shop.rest(shop.pause_ns, "a rest after a take that failed")
                continue
            if taken is not None:
                self._process(taken)

    # -- one message

    def _process(self, taken: Taken) -> None:
        shop, message = self._shop, taken.ticket.message
        shop.hands.take(taken.packed)
        shop.ledger.taken(message, self.name)
        how = "dropped by an error of the laboratory"
        try:
            how = self._work_on(taken)
        finally:
            shop.hands.drop(taken.packed)
            shop.ledger.let_go(message, how)

    def _work_on(self, taken: Taken) -> str:
        """Where it went, in words."""
        shop, message = self._shop, taken.ticket.message
        if ACK_FIRST in shop.faults:
            self._finish(taken)
        if shop.plan.crash and shop.rt.random.random() < shop.plan.crash:
            return self._forget(taken)
        most = self._system.settings.backfill.max_deliveries
        if shop.survives and taken.ticket.failures >= most:
            return self._bury(taken, f"{taken.ticket.failures} deliveries came to nothing, the last without a word")
        try:
            content = self._content_of(message)
            answer = self._system.write(message, content, self.tally)
        except Exception as error:
            return self._failed(taken, error)
        self._finish(taken)
        return "done by another" if answer == DUPLICATE else "done"

    def _content_of(self, message: int) -> bytes:
        plan = self._shop.plan
        found = self._system.fetch(plan.ident(message), self.tally)
        digest = found.get("digest")
        if plan.garbled(message) or not isinstance(digest, str):
            raise ContentGarbled(f"message {message}: what the Hub has cannot be read")
        return digest.encode()

    def _forget(self, taken: Taken) -> str:
        """The worker dies, and another takes its place."""
        if not self._shop.survives:
            self._shop.ledger.lost(taken.ticket.message, f"{self.name} died with it in hand")
        return f"forgotten: {self.name} died"

    def _failed(self, taken: Taken, error: Exception) -> str:
        shop, message = self._shop, taken.ticket.message
        if isinstance(error, ENDINGS):
            return "in hand when the run ended"
        if not shop.survives:
            shop.ledger.lost(message, f"taken, then {reason_of(error)}")
            return f"lost: {reason_of(error)}"
        most = self._system.settings.backfill.max_deliveries
        fate = fate_of(error, taken.ticket.failures, most, shop.pause_ns)
        if fate.dead:
            return self._bury(taken, fate.dead)
        try:
            self._system.give_back(self._queue, taken, fate.counts, self.tally)
        except Exception as trouble:  # the reaper will see to it
            return f"out, since giving it back failed: {reason_of(trouble)}"
        finally:
            if fate.rest_ns:
                shop.rest(fate.rest_ns, "a rest after back-pressure")
        return f"given back: {reason_of(error)}"

    def _bury(self, taken: Taken, reason: str) -> str:
        self._shop.store.bury(taken.ticket.message, reason)
        self._finish(taken)
        return f"dead-lettered: {reason}"

    def _finish(self, taken: Taken) -> None:
        try:
            self._system.finish(self._queue, taken, self.tally)
        except Exception:  # it stays out, is delivered again, and found done
            return

    def __repr__(self) -> str:
        return f"<BackfillWorker {self.name!r} of {self._queue!r}>"
