"""Drain completion: the last reply was handed over; how long until the shrink goes on, and the surplus is stopped?

Role: the benchmark that the project is named for. Three nodes with 13 connections each, over real sockets, to
embedded shards in their own process; one query on each of the 12 surplus connections of every node, all of which
answer after the same random time; a shrink to 1 connection. The clock starts when the callback of the last reply
runs. Two tables: when the drain is seen to be complete, and when the surplus is stopped (36 sockets closed; the
receipt's ended_ns). Then the gate alone, see `bench.gate`, idle and beside two busy threads. ``--shards`` has the
shrinks take place on others, also real ones, whose replies come when Redis looks at its blocked clients.

"block-loop", the write-up's code as it stands, is not among the rows, since it has no such time: it sleeps on the
thread that reads the replies, so it waits out its deadline. It is measured apart, with a deadline of 200 ms.

Thread: the caller's asks, the I/O thread of the rig does; "yield" has a main thread too. Upstream:
MRConnManager_Shrink and the write-up's draft of it. Left out: several I/O threads.
"""

from __future__ import annotations

import queue
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from time import monotonic_ns
from typing import Any

from bench.gate import CONTINUATION, POLL_10, WAKE, GateRig
from bench.load_threads import BusyThreads
from bench.measure import US, Case, CaseResult, Contender, Effort, Progress, Report, Row, run_case, silent, tabulate
from coordemu.coord.cluster import MRCluster
from coordemu.coord.conn_handshake import pack_command
from coordemu.coord.drain_receipt import DrainReceipt
from coordemu.coord.endpoint import MREndpoint
from coordemu.coord.host import Host
from coordemu.coord.io_runtime_ctx import IORuntimeCtx
from coordemu.coord.shrink_plan import ShrinkPlan
from coordemu.coord.topology import MRClusterTopology
from coordemu.runtime.base import NS_PER_MS, NS_PER_S
from coordemu.runtime.threads import ThreadsRuntime
from coordemu.shards.shard_fleet import ShardFleet

NODES = 3
CONNS = 13
SERVICE_MS = (3.0, 14.0)
SERVICE_BUSY_MS = (40.0, 60.0)  # long enough for every thread to have come to its place beside busy ones
POLL_MS = 10
WAIT_S = 10
TIMER_10 = "timer, 10 ms poll on the loop"
EVENT = "event: the popping thread goes on"


class Drained:
    """One shrink: how long after the last reply's callback the drain was seen complete, and the surplus stopped."""

    def __init__(self, receipt: DrainReceipt, last_reply_ns: int, seen_ns: int = 0) -> None:
        """seen_ns: when somebody else saw the end; 0: the receipt knows."""
        self.receipt = receipt
        self.complete_us = ((seen_ns or receipt.started_ns + receipt.waited_ns) - last_reply_ns) / 1e3
        self.stopped_us = (receipt.ended_ns - last_reply_ns) / 1e3


class DrainRig:
    """A cluster on real sockets that is shrunk under replies in flight, and grown again."""

    def __init__(self, shards: str | None = None, conns: int = CONNS, in_flight: int = 1, seed: int = 1) -> None:
        """Start shards, cluster and main thread. Raises ShardError, RuntimeError when they do not come up.

        shards: as ``--shards`` says it; None: three embedded ones.  in_flight: on each connection of the surplus.
        """
        self.rt = ThreadsRuntime(seed=seed)
        self.receipts: list[DrainReceipt] = []
        self.service_ms = SERVICE_MS
        self._random = random.Random(seed)
        self._conns = conns
        self._in_flight = in_flight
        self._made: queue.SimpleQueue[DrainReceipt] = queue.SimpleQueue()
        self._handed = 0
        self._last_reply_ns = 0
        with ExitStack() as stack:
            fleet = stack.enter_context(ShardFleet.start(self.rt, shards or f"embedded:{NODES}"))
            self._query_command = fleet.query_command
            self.what = f"{len(fleet)} nodes x {conns} -> 1 connections, {in_flight} in flight on each of the surplus"
            self.what += f"; shards {fleet.spec}."
            self.sockets_closed = len(fleet) * (conns - 1)
            topology = MRClusterTopology.of(*(MREndpoint(each.address, each.password) for each in fleet.endpoints))
            self.cluster = MRCluster(self.rt, topology, 1, conns)
            stack.callback(self.cluster.free)
            self.cluster.start()
            self._await_connected()
            self._host = Host(self.rt, lambda level, line: None)
            self._host.start()
            stack.callback(self._host.stop)
            self._stack = stack.pop_all()
        self.io = self.cluster.io_runtimes[0]

    def close(self) -> None:
        """Take everything down."""
        self._stack.close()

    def _await_connected(self) -> None:
        wanted = self._conns * len(self.cluster.topology.nodes)
        if not self.rt.poll_until(lambda: self._connected() == wanted, NS_PER_MS, "connections", WAIT_S * NS_PER_S):
            raise RuntimeError(f"{self._connected()} of {wanted} connections stand after {WAIT_S} s")

    def _connected(self) -> int:
        return self.cluster.statistics()["connected"]

    # ---- one shrink

    def shrink(self, plan: ShrinkPlan, finish: Callable[[ShrinkPlan], int | None] | None = None) -> Drained:
        """Send on the surplus, shrink to 1, await the receipt, grow again.

        finish: carries out the waiting from another thread, and returns when it saw the drain's end. None when it came
        too late for that. Then, and when the replies were there before the shrink began, all is done again, with
        replies that take twice as long, and in the end a RuntimeError.
        """
        low_ms, high_ms = self.service_ms
        for factor in (1, 2, 4, 8, 16):
            self._begin_shrink(plan, self._random.uniform(low_ms, high_ms) * factor)
            seen_ns = finish(plan) if finish is not None else 0
            receipt = self._made.get(timeout=WAIT_S)
            self.receipts.append(receipt)
            if seen_ns is not None and receipt.pending:
                return Drained(receipt, self._last_reply_ns, seen_ns)
        raise RuntimeError("every drain was over before anybody waited")

    def _begin_shrink(self, plan: ShrinkPlan, service_ms: float) -> None:
        self.cluster.update_conn_pool_size(self._conns)
        self._await_connected()
        command = pack_command(*self._query_command("bench", round(service_ms * NS_PER_MS)))
        self.io.schedule(self._send_on_surplus, command)
        self.cluster.update_conn_pool_size(1, plan, self._made.put)

    def _send_on_surplus(self, io: IORuntimeCtx, command: Any) -> None:
        for pool in io.manager.pools.values():
            for conn in pool.conns[1:]:
                for _ in range(self._in_flight):
                    conn.send_command(command, self._on_reply)
        io.request_completed()

    def _on_reply(self, _reply: Any, _error: str | None) -> None:
        self._handed += 1
        self._last_reply_ns = monotonic_ns()

    # ---- who waits, when it is not the I/O thread

    def main_yields(self, plan: ShrinkPlan) -> int:
        """drain "yield": the main thread polls between yields, as `coordemu.coord.resize` has it do."""
        done: queue.SimpleQueue[int] = queue.SimpleQueue()

        def wait_and_finish() -> None:
            def drained() -> bool:
                return self.cluster.shrink_hidden and not self.cluster.pending_total(1)

            _, looks = self._host.yield_until(
                drained, plan.drain_poll_ms * NS_PER_MS, plan.drain_timeout_ms * NS_PER_MS
            )
            done.put(monotonic_ns())
            self.cluster.finish_shrink(looks)

        self._host.post(wait_and_finish)
        return done.get(timeout=WAIT_S)

    def gate_waiter(self, poll_ms: int | None) -> Callable[[ShrinkPlan], int | None]:
        """drain "event", with a further thread (the caller's) at the gate: woken (None), or polling."""

        def wait(plan: ShrinkPlan) -> int | None:
            table = self.io.pending
            while table.draining_from is None:
                if not self._made.empty():
                    return None
                time.sleep(0.0001)
            self.rt.drain_wait(
                table, plan.drain_timeout_ms * NS_PER_MS, None if poll_ms is None else poll_ms * NS_PER_MS
            )
            return monotonic_ns()

        return wait


def _real_shrinks(rig: DrainRig, effort: Effort, progress: Progress, suffix: str, rounds: int) -> list[CaseResult]:
    event, timer = ShrinkPlan("drop", "event"), ShrinkPlan("drop", "timer", drain_poll_ms=POLL_MS)
    ways: list[tuple[str, ShrinkPlan, Callable[[ShrinkPlan], int | None] | None]] = [
        (TIMER_10, timer, None),
        ("timer, 1 ms poll on the loop", ShrinkPlan("drop", "timer", drain_poll_ms=1), None),
        ("yield: main polls every 10 ms", ShrinkPlan("drop", "yield", drain_poll_ms=POLL_MS), rig.main_yields),
        (EVENT, event, None),
        ("another thread woken at the gate", event, rig.gate_waiter(None)),
        ("another thread polls the gate, 10 ms", event, rig.gate_waiter(POLL_MS)),
    ]
    stopped: dict[str, list[float]] = {name: [] for name, _, _ in ways}

    def sampler(name: str, plan: ShrinkPlan, finish: Callable[[ShrinkPlan], int | None] | None) -> Callable[[], float]:
        def sample() -> float:
            one = rig.shrink(plan, finish)
            stopped[name].append(one.stopped_us)
            return one.complete_us

        return sample

    note = rig.what
    if suffix:
        note += (
            " While the I/O thread waits for its turn, replies and timers pile up, and it then sees both at once: that"
            " makes the timer look as quick as the event. What was late is the reply."
        )
    contenders = [Contender(name, sampler(name, plan, finish), ours=name != TIMER_10) for name, plan, finish in ways]
    title = f"last reply handed over -> drain seen complete{suffix}"
    complete = run_case(Case(title, US, contenders, [TIMER_10], rounds, note), progress)
    # The first sample was the warm-up. Whoever watches from another thread sees the same stop as the event.
    rows = [Row(name, name != TIMER_10, stopped[name][1:]) for name, _, _ in ways[:4]]
    title = f"last reply handed over -> surplus stopped, {rig.sockets_closed} sockets closed{suffix}"
    return [complete, tabulate(title, US, rows, [TIMER_10])]


def run(effort: Effort, progress: Progress = silent, shards: str | None = None) -> Report:
    """Measure. shards: see `DrainRig`. Blocks for about a minute. Raises ShardError when the shards can't be had."""
    report = Report("drain")
    rig = DrainRig(shards)
    try:
        report.cases += _real_shrinks(rig, effort, progress, "", effort.pick(100, 15, 1))
        rig.service_ms = SERVICE_BUSY_MS
        with BusyThreads(2):
            report.cases += _real_shrinks(rig, effort, progress, ", beside 2 busy threads", effort.pick(12, 4, 1))
        literal = rig.shrink(ShrinkPlan("graceful", "block-loop", drain_timeout_ms=200, drain_poll_ms=POLL_MS)).receipt
        report.facts["block-loop, deadline 200 ms"] = (
            f"{literal.outcome} after {literal.waited_ns / NS_PER_MS:.0f} ms and {literal.polls} polls, "
            f"with {literal.pending} replies pending"
        )
        report.facts["receipts"] = _sums(rig.receipts)
    finally:
        rig.close()
    gate = GateRig()
    try:
        report.cases.append(
            run_case(gate.case("the gate alone, interpreter idle", effort, effort.pick(150, 30, 1)), progress)
        )
        with BusyThreads(2):
            title = "the gate alone, beside 2 busy threads (switch interval 5 ms)"
            report.cases.append(run_case(gate.case(title, effort, effort.pick(40, 8, 1)), progress))
    finally:
        gate.close()
    real, alone = report.cases[0], report.cases[-2]
    report.conclusion = (
        f"event drain complete {real.row(EVENT).median:.1f} us after the last reply, "
        f"{real.row(EVENT).times_better[TIMER_10]:,.0f} times sooner than the 10 ms poll; the gate alone "
        f"{alone.row(CONTINUATION).median:.2f} us on the popping thread "
        f"({alone.row(CONTINUATION).times_better[POLL_10]:,.0f} times sooner), {alone.row(WAKE).median:.0f} us for "
        f"another thread"
    )
    return report


def _sums(receipts: list[DrainReceipt]) -> dict[str, int]:
    """What all the shrinks together did with the replies; delivered = pending, unless a deadline or a stop came
    between.
    """
    sums = {"shrinks": len(receipts)}
    for receipt in receipts:
        sums[receipt.outcome] = sums.get(receipt.outcome, 0) + 1
        for key in ("pending", "delivered", "failed", "lost"):
            sums[key] = sums.get(key, 0) + getattr(receipt, key)
    return sums
