"""ConnShrink: one shrink of one I/O runtime's pools, from hiding the surplus to its receipt.

Role: upstream's shrink is a loop that stops connections n.. of every node. Here it is a state machine, so that
replies can be awaited without blocking the thread that reads them, and so that whatever happens meanwhile has a
defined outcome:

    hiding -> draining -> stopping -> done

*Hiding*: the surplus is out of the round robin (the manager has done so before `begin`); what it owes is counted.
*Draining*: the plan's way of waiting. "block-loop" sleeps and polls on the I/O thread, the literal write-up: the
replies can't be seen, since the loop that would read them is the one that sleeps. "timer" polls from a timer. "event"
arms the pending table and goes on in the thread that takes the last reply, after the callbacks of its batch. "yield"
waits to be told by the main thread (`finish`, `abandon`). *Stopping*: the surplus is cut out of the pools and stopped
as the plan says. A graceful stop still awaits replies, so the receipt is made when the last of these connections has
closed, whose count is then exact.

*Superseded.* Another resize, or a topology change, ends the draining. The new size says how many connections per node
stay with the pools; the others go back to the round robin, or on to the next shrink. Those beyond it are stopped at
once, and always gracefully: their replies were to be awaited, the deadline has not come, and a plan that
stops by "drop" would lose replies for a topology change that has nothing to do with them (the soak run showed it).

*The receipt*, exactly one. delivered + failed + lost = pending, with one exception: on connections that were given
back ("keep", "raise", superseded) some replies may be under way still when the receipt is made; they are in none of
the three sums.

Thread: I/O. Upstream: MRConnManager_Shrink, src/coord/rmr/conn.c, and the write-ups' draft of it. Left out: a bound
on how long a graceful stop awaits a silent shard; hiredis has none. The runtime's shutdown ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from types import MappingProxyType
from typing import Protocol

from coordemu.coord.conn import MRConn
from coordemu.coord.conn_context import ConnContext
from coordemu.coord.conn_pool import MRConnPool
from coordemu.coord.conn_tally import ConnTally, sum_by_node
from coordemu.coord.drain_receipt import DrainReceipt
from coordemu.coord.shrink_plan import ShrinkPlan
from coordemu.runtime.base import NS_PER_MS, Timer


class ShrinkState(Enum):
    """Where a shrink is."""

    HIDING = "hiding"
    DRAINING = "draining"
    STOPPING = "stopping"
    DONE = "done"


class ShrinkEvent(Enum):
    """What happens to a shrink."""

    NOTHING_TO_AWAIT = "nothing is pending, or no drain is asked for"
    AWAIT = "replies are to be awaited"
    DRAINED = "the last reply was handed over"
    DEADLINE = "the time is over: stop all the same"
    GIVEN_BACK = "the time is over: keep the surplus"
    SUPERSEDED = "a resize or a topology change takes over"
    LAST_CLOSED = "the last stopped connection has closed"


class IllegalShrink(RuntimeError):
    """The event has no row in the state; nothing was changed."""


_S, _E = ShrinkState, ShrinkEvent
# Looked up once: a member of an enumeration costs a call of Python, and a drain's end is what people wait for.
DRAINING, DRAINED, NOTHING_TO_AWAIT = _S.DRAINING, _E.DRAINED, _E.NOTHING_TO_AWAIT

TRANSITIONS: Mapping[tuple[ShrinkState, ShrinkEvent], ShrinkState] = MappingProxyType({
    (_S.HIDING, _E.NOTHING_TO_AWAIT): _S.STOPPING,
    (_S.HIDING, _E.AWAIT): _S.DRAINING,
    (_S.DRAINING, _E.DRAINED): _S.STOPPING,
    (_S.DRAINING, _E.DEADLINE): _S.STOPPING,
    (_S.DRAINING, _E.GIVEN_BACK): _S.STOPPING,
    (_S.DRAINING, _E.SUPERSEDED): _S.STOPPING,
    (_S.STOPPING, _E.LAST_CLOSED): _S.DONE,
})  # fmt: skip


def next_shrink_state(state: ShrinkState, event: ShrinkEvent) -> ShrinkState:
    """The table's answer. Raises IllegalShrink when it has none. Thread: any."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalShrink(f"{state.value}: {event.value} is not possible here") from None


class ShrinkOwner(Protocol):
    """What a shrink needs of the connection manager. Thread: I/O."""

    def drain_ended(self, shrink: ConnShrink) -> None:
        """The shrink no longer waits; it stops its surplus next."""
        ...

    def give_back(self, num: int) -> None:
        """Put the hidden connections back into the round robin: `num` per node."""
        ...


class ConnShrink:
    """A shrink under way."""

    def __init__(
        self,
        context: ConnContext,
        owner: ShrinkOwner,
        pools: Sequence[MRConnPool],
        plan: ShrinkPlan,
        num_from: int,
        num_to: int,
        io_runtime: int,
        on_receipt: Callable[[DrainReceipt], object] | None,
    ) -> None:
        """pools: all of the manager's, with their surplus hidden.  on_receipt: called once. Nothing happens until
        `begin`."""
        self._context = context
        self._owner = owner
        self._pools = tuple(pools)
        self._io_runtime = io_runtime
        self._on_receipt = on_receipt
        self.plan = plan
        self.num_from = num_from
        self.num_to = num_to
        self.state = ShrinkState.HIDING
        self.pending_at_start = 0
        self._tallies: dict[MRConn, ConnTally] = {}
        self._outcome = "nothing-pending"
        self._timer: Timer | None = None
        self._still_open = 0
        self._stopping_now = False
        self._started_ns = self._ended_ns = self._waited_ns = self._last_reply_ns = 0
        self._deadline_ns = 0
        self._polls = self._wake_ups = 0

    # ---- begin

    def begin(self) -> None:
        """Count what the surplus owes, and drain or stop. May block: with drain "block-loop", for the plan's
        timeout."""
        context, plan = self._context, self.plan
        self._started_ns = context.rt.now_ns()
        context.flush_counts()
        for pool in self._pools:
            for conn in pool.surplus:
                conn.watch = self
                self._tallies[conn] = ConnTally(conn)
        pending = self.pending_at_start = sum(tally.pending for tally in self._tallies.values())
        context.rt.trace(
            "MRConnManager_Shrink", "MRConnManager.shrink",
            f"{self.num_from} -> {self.num_to} on {len(self._pools)} nodes, {pending} replies pending, "
            f"drain {plan.drain}, stop {plan.stop}",
        )  # fmt: skip
        if plan.drain == "none" or (not pending and plan.drain != "yield"):
            self._end_drain(NOTHING_TO_AWAIT, "deadline" if pending else "nothing-pending", self.num_to)
            return
        self.state = next_shrink_state(self.state, ShrinkEvent.AWAIT)
        self._deadline_ns = self._started_ns + plan.drain_timeout_ms * NS_PER_MS
        if plan.drain == "block-loop":
            self._block_loop()
        elif plan.drain == "timer":
            self._timer = context.loop.timer(self._poll, "shrink: poll")
            self._arm_poll()
        elif plan.drain == "event":
            context.pending.begin_drain(self.num_to)
            self._timer = context.loop.timer(self._deadline, "shrink: deadline")
            self._timer.start(plan.drain_timeout_ms * NS_PER_MS)

    @property
    def pending(self) -> int:
        """Replies outstanding now on the connections that the shrink began with."""
        return sum(tally.outstanding for tally in self._tallies.values())

    # ---- the ways of draining

    def _block_loop(self) -> None:
        plan, table = self.plan, self._context.pending
        table.begin_drain(self.num_to)
        wait = self._context.rt.drain_wait(table, plan.drain_timeout_ms * NS_PER_MS, plan.drain_poll_ms * NS_PER_MS)
        self._polls += wait.polls
        self._wake_ups += wait.wake_ups
        if wait.outcome == "drained":
            self._drained()
        elif wait.outcome == "deadline":
            self._deadline()
        else:
            self.supersede(self.num_to)

    def _arm_poll(self) -> None:
        left_ns = self._deadline_ns - self._context.rt.now_ns()
        assert self._timer is not None
        self._timer.start(max(0, min(left_ns, self.plan.drain_poll_ms * NS_PER_MS)))

    def _poll(self) -> None:
        self._polls += 1
        if not self._context.pending.any_pending(self.num_to):
            self._drained()
        elif self._context.rt.now_ns() >= self._deadline_ns:
            self._deadline()
        else:
            self._arm_poll()

    def finish(self, polls: int = 0) -> bool:
        """Yield: the main thread waits no longer. Stops the surplus, or does what the plan says when replies are
        outstanding.

        polls: how often main looked.  False, and nothing is done, unless this is a yield drain under way.
        """
        if self.state is not DRAINING or self.plan.drain != "yield":
            return False
        self._polls += polls
        if self.pending:
            self._deadline()
        else:
            self._drained()
        return True

    def abandon(self) -> bool:
        """Yield: the main thread gives up; the surplus goes back to the round robin. False as in `finish`."""
        if self.state is not DRAINING or self.plan.drain != "yield":
            return False
        self._give_back()
        return True

    def _drained(self) -> None:
        outcome = "drained" if self.pending_at_start else "nothing-pending"
        self._end_drain(DRAINED, outcome, self.num_to)

    def _deadline(self) -> None:
        plan = self.plan
        then = "stopping all the same" if plan.at_deadline == "force" else "giving the connections back"
        self._context.log(
            "warning",
            f"shrink {self.num_from} -> {self.num_to}: {self.pending} of {self.pending_at_start} replies outstanding "
            f"after {plan.drain_timeout_ms} ms; {then}",
        )
        if plan.at_deadline == "force":
            self._end_drain(ShrinkEvent.DEADLINE, "deadline", self.num_to)
        else:
            self._give_back()

    def _give_back(self) -> None:
        self._owner.give_back(self.num_from)
        self._end_drain(ShrinkEvent.GIVEN_BACK, "deadline", self.num_from)

    def supersede(self, keep: int) -> None:
        """Another resize or a topology change takes over: stop what lies beyond `keep` per node, let go of the rest.

        Raises IllegalShrink unless the shrink is draining.
        """
        self._end_drain(ShrinkEvent.SUPERSEDED, "superseded", keep, stop="graceful")

    # ---- stopping

    def _end_drain(self, event: ShrinkEvent, outcome: str, keep: int, now_ns: int = 0, stop: str = "") -> None:
        stop = stop or self.plan.stop
        rt = self._context.rt
        now_ns = now_ns or rt.now_ns()
        self.state = next_shrink_state(self.state, event)
        self._outcome = outcome
        if event is not NOTHING_TO_AWAIT:
            self._waited_ns = now_ns - self._started_ns
        self._disarm()
        self._owner.drain_ended(self)
        # Cut first, everywhere: with stop "fail" callbacks run, and they must not find a pool half cut.
        gone = [(pool, pool.cut(keep)) for pool in self._pools]
        stopped = {conn for _, conns in gone for conn in conns}
        for conn, tally in self._tallies.items():
            if conn not in stopped:
                tally.update()
                conn.watch = None
        self.num_to = min(keep, self.num_from)
        self._still_open = len(stopped)
        self._stopping_now = True
        for pool, conns in gone:
            if conns:
                rt.trace("MRConn_Stop", "MRConn.stop", f"{pool.endpoint}: {len(conns)} connections, {stop}")
            for conn in conns:
                self._tallies[conn].stopped = True
                conn.stop(stop)
        self._stopping_now = False
        self._ended_ns = rt.now_ns()
        self._finish_when_closed()

    def _disarm(self) -> None:
        if self.plan.drain in ("event", "block-loop"):
            self._context.pending.end_drain()
        if self._timer is not None:
            self._timer.close()
            self._timer = None

    def on_replies(self, conn: MRConn, drained: bool) -> None:
        """See `ConnWatch`. The way of a drain's end is short, and every reply before the last has warmed it: calls
        that nobody had made for some milliseconds took as long as all of this."""
        now_ns = self._context.rt.now_ns()
        if self._tallies[conn].update():
            self._last_reply_ns = now_ns
        if drained and self.state is DRAINING:
            now_ns = self._context.rt.now_ns()
            self._wake_ups += 1
            self._end_drain(DRAINED, "drained", self.num_to, now_ns)

    def on_closed(self, conn: MRConn) -> None:
        """See `ConnWatch`."""
        if self._tallies[conn].update():
            self._last_reply_ns = self._context.rt.now_ns()
        self._still_open -= 1
        self._finish_when_closed()

    def _finish_when_closed(self) -> None:
        if self._still_open or self._stopping_now:
            return
        self.state = next_shrink_state(self.state, ShrinkEvent.LAST_CLOSED)
        receipt = self._receipt()
        self._context.rt.trace(
            "", "ConnShrink.receipt",
            f"{receipt.outcome}: {receipt.pending} pending, {receipt.delivered} delivered, {receipt.failed} failed, "
            f"{receipt.lost} lost",
        )  # fmt: skip
        if self._on_receipt is not None:
            self._on_receipt(receipt)

    def _receipt(self) -> DrainReceipt:
        by_node = sum_by_node(self._tallies.values())
        return DrainReceipt(
            outcome=self._outcome,
            num_from=self.num_from,
            num_to=self.num_to,
            started_ns=self._started_ns,
            ended_ns=self._ended_ns,
            waited_ns=self._waited_ns,
            last_reply_ns=self._last_reply_ns,
            pending=sum(node.pending for node in by_node.values()),
            delivered=sum(node.delivered for node in by_node.values()),
            failed=sum(node.failed for node in by_node.values()),
            lost=sum(node.lost for node in by_node.values()),
            polls=self._polls,
            wake_ups=self._wake_ups,
            connections_stopped=sum(node.connections_stopped for node in by_node.values()),
            by_node=by_node,
            io_runtime=self._io_runtime,
        )

    def statistics(self) -> dict[str, int]:
        """connections, pending at the start, pending now, polls, wake_ups. Thread: I/O."""
        return {
            "connections": len(self._tallies),
            "pending_at_start": self.pending_at_start,
            "pending": self.pending,
            "polls": self._polls,
            "wake_ups": self._wake_ups,
        }

    def __repr__(self) -> str:
        plan = self.plan
        return f"<ConnShrink {self.num_from} -> {self.num_to} {self.state.value} drain={plan.drain} stop={plan.stop}>"


def nothing_stopped(num_from: int, num_to: int, started_ns: int, ended_ns: int, io_runtime: int) -> DrainReceipt:
    """The receipt of a resize that took nothing away. Thread: any."""
    return DrainReceipt(
        outcome="nothing-pending",
        num_from=num_from,
        num_to=num_to,
        started_ns=started_ns,
        ended_ns=ended_ns,
        waited_ns=0,
        last_reply_ns=0,
        pending=0,
        delivered=0,
        failed=0,
        lost=0,
        polls=0,
        wake_ups=0,
        connections_stopped=0,
        io_runtime=io_runtime,
    )
