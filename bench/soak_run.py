"""SoakRun: a coordinator under load while its size and topology change, and whether every query had an outcome.

Role: what `bench.soak` and the test run. The load is a child process (`bench.soak_load`), so are the shards; this
process is the coordinator and nothing else, apart from a PING prober and an operator, which send the PINGs and the
CONFIG SETs over connections of their own. Resizes are spread evenly over the queries: each begins when its share of
them has been submitted. Sizes are random, never the present one, so that both directions come up; around a part of
them the topology changes (a node leaves, comes back, or moves to the spare shard), some times directly before the
CONFIG SET and sometimes directly behind it, so that one supersedes the other.

What must hold at the end (`SoakResult.wrong` lists what does not): sent = replied + failed, none lost, no reply given
to another query; the coordinator's own sums agree with the clients'; every resize has all of its receipts, and those
say "lost 0"; the pending table is empty and consistent; threads, sockets and descriptors of the process are what they
were at the start.

Thread: the caller's. Blocks for the length of the run. Upstream: none. Left out: judging throughput.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from bench.soak_load import Ledger, LoadSpec
from coordemu.coord.conn_handshake import pack_command
from coordemu.coord.coordinator import Coordinator, CoordinatorOptions
from coordemu.coord.endpoint import MREndpoint
from coordemu.coord.resize_policy import ResizePolicy
from coordemu.coord.resize_record import Resize
from coordemu.coord.topology import MRClusterNode, MRClusterTopology
from coordemu.lab.machine import count_resources, describe_machine
from coordemu.lab.operator import Operator, OperatorError, OperatorGaveUp
from coordemu.lab.prober import PingProber
from coordemu.runtime.base import NS_PER_S
from coordemu.runtime.threads import ThreadsRuntime
from coordemu.runtime.wait_for import render
from coordemu.shards.shard_fleet import ShardFleet

ROOT = Path(__file__).resolve().parents[1]
LARGEST_SIZE = 64
# How long after the end of the load a CONFIG SET may still be answered.
ANSWER_LIMIT_S = 10.0
TELL_S = 2.0
POLL_S = 0.02  # every look costs the coordinator a turn of the interpreter lock
SETTLE_S = 10.0
PING_INTERVAL_MS = 20
COUNTED = ("threads", "fds", "sockets")


class SoakError(Exception):
    """The run could not be carried out; one line for the user."""


@dataclass(frozen=True, slots=True)
class SoakSpec:
    """What to run.

    queries, resizes: how many in all.  clients, depth: see `LoadSpec`.  nodes: shards in the topology; one more is
    started as the spare. io_threads: 1 to 256.  topology_share: share of the resizes that come with a topology
    change.  kind: "embedded" or "redis".  seed: of all draws.
    """

    policy: ResizePolicy
    queries: int = 1_000_000
    resizes: int = 1_000
    clients: int = 24
    depth: int = 2
    nodes: int = 3
    io_threads: int = 1
    topology_share: float = 0.25
    kind: str = "embedded"
    seed: int = 1


@dataclass(slots=True)
class SoakResult:
    """What came of it. wrong: one line for everything that should hold and does not; empty is what one wants."""

    policy: str
    spec: dict[str, Any]
    queries: Ledger = field(default_factory=Ledger)
    coordinator: dict[str, Any] = field(default_factory=dict)
    resizes: dict[str, int] = field(default_factory=dict)
    receipts: dict[str, int] = field(default_factory=dict)
    topologies: int = 0
    ping_max_gap_ms: float = 0.0
    resources_before: dict[str, int] = field(default_factory=dict)
    resources_after: dict[str, int] = field(default_factory=dict)
    rss_kib_under_load: list[int] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False
    wrong: list[str] = field(default_factory=list)
    wait_for: str = ""
    machine: dict[str, object] = field(default_factory=dict)

    @property
    def queries_per_s(self) -> float:
        """Outcomes per second of load."""
        return (self.queries.replied + self.queries.failed) / self.queries.seconds if self.queries.seconds else 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "queries_per_s": self.queries_per_s, "ok": not self.wrong and not self.interrupted}


class SoakRun:
    """One run. Make it, call `carry_out` once."""

    def __init__(self, spec: SoakSpec, progress: Callable[[str], None] | None = None) -> None:
        """progress: called with a line about every two seconds."""
        self._spec = spec
        self._progress = progress or (lambda line: None)
        self._random = random.Random(spec.seed)
        self._rt = ThreadsRuntime(seed=spec.seed)
        self._told = self._began = time.monotonic()
        shown = {**asdict(spec), "policy": spec.policy.name}
        self._result = SoakResult(spec.policy.name, shown, machine=describe_machine())
        self._unsettled: list[Resize] = []
        self._process = psutil.Process()
        self.clean = True
        self._counts = {"asked": 0, "grown": 0, "shrunk": 0, "refused": 0, "unanswered": 0, "incomplete": 0}
        self._receipts: dict[str, int] = {}

    def carry_out(self) -> SoakResult:
        """Run it all. Ctrl-C ends the load early and is noted in the result.

        When queries were lost, the threads that wait for their replies wait for ever: then `clean` is False, they are
        left, and the caller ends the process. Raises SoakError, ShardError, OSError. Blocks.
        """
        result = self._result
        result.resources_before = count_resources()
        with ExitStack() as stack:
            fleet = ShardFleet.start(self._rt, f"{self._spec.kind}:{self._spec.nodes + 1}")
            stack.callback(fleet.stop)
            coordinator = self._start_coordinator(fleet)
            stack.callback(lambda: coordinator.stop() if self.clean else None)
            prober = PingProber(self._rt, coordinator.host.address, PING_INTERVAL_MS)
            stack.callback(prober.stop)
            operator = Operator(self._rt, coordinator.host.address)
            stack.callback(operator.close)
            load = self._start_load(coordinator)
            stack.callback(_end_load, load)
            try:
                self._resize_under_load(coordinator, operator, load)
                self._await_load(coordinator, load)
            except KeyboardInterrupt:
                result.interrupted = True
                self._await_load(coordinator, load)
            self._settle(coordinator)
            result.ping_max_gap_ms = prober.sums().max_gap_ms
            self._judge(coordinator)
        if self.clean:
            self._judge_resources()
        result.resizes, result.receipts = self._counts, self._receipts
        result.seconds = time.monotonic() - self._began
        return result

    # ---- parts

    def _start_coordinator(self, fleet: ShardFleet) -> Coordinator:
        spec = self._spec
        self._endpoints = [MREndpoint(shard.address, shard.password) for shard in fleet.endpoints]
        make = fleet.query_command
        coordinator = Coordinator(
            self._rt,
            CoordinatorOptions(workers=4, io_threads=spec.io_threads, no_limits=True),
            self._endpoints[: spec.nodes],
            spec.policy,
            lambda query_id, service_ns: pack_command(*make(query_id, service_ns)),
        )
        if not coordinator.start(10 * NS_PER_S):
            states = coordinator.cluster.fill_state_dict()
            coordinator.stop()
            raise SoakError(f"no connection to every shard: {states}")
        return coordinator

    def _start_load(self, coordinator: Coordinator) -> subprocess.Popen[str]:
        spec, address = self._spec, coordinator.host.address
        order = LoadSpec(address.host, address.port, spec.queries, spec.clients, spec.depth, seed=spec.seed)
        load = subprocess.Popen(
            [sys.executable, "-m", "bench.soak_load"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True,
        )  # fmt: skip
        assert load.stdin is not None
        load.stdin.write(json.dumps(asdict(order)) + "\n")
        load.stdin.flush()
        return load

    def _resize_under_load(self, coordinator: Coordinator, operator: Operator, load: subprocess.Popen[str]) -> None:
        spec = self._spec
        for number in range(spec.resizes):
            if not self._await_queries(coordinator, load, (number + 1) * spec.queries // (spec.resizes + 1)):
                return
            change = self._random.random() < spec.topology_share
            first = self._random.random() < 0.5
            if change and first:
                self._change_topology(coordinator)
            self._resize(coordinator, operator, load)
            if change and not first:
                self._change_topology(coordinator)

    def _await_queries(self, coordinator: Coordinator, load: subprocess.Popen[str], due: int) -> bool:
        """False when the load has ended before: it does so when no reply comes any more."""
        last = -1
        while (submitted := coordinator.queries.statistics()["submitted"]) < due:
            if submitted == last and load.poll() is not None:
                return False
            last = submitted
            if time.monotonic() - self._told >= TELL_S:
                self._tell(coordinator)
            time.sleep(POLL_S)
        return True

    def _tell(self, coordinator: Coordinator) -> None:
        self._told = time.monotonic()
        queries, process = coordinator.queries.statistics(), self._process
        rss_kib = process.memory_info().rss // 1024
        self._result.rss_kib_under_load.append(rss_kib)
        self._progress(
            f"{self._told - self._began:6.1f} s  {queries['submitted']:>9,} queries  {queries['failed']} failed  "
            f"{self._counts['asked']:>5} resizes  {self._result.topologies:>4} topologies  "
            f"{process.num_threads():>3} threads  {process.num_fds():>4} fds  {rss_kib // 1024} MB"
        )

    def _resize(self, coordinator: Coordinator, operator: Operator, load: subprocess.Popen[str]) -> None:
        counts, old = self._counts, coordinator.config.workers
        new = self._random.randint(1, LARGEST_SIZE - 1)
        new += new >= old
        counts["asked"] += 1
        try:
            operator.call("CONFIG", "SET", "WORKERS", str(new), give_up=self._patience(load))
        except OperatorError:
            counts["refused"] += 1
        except OperatorGaveUp:
            counts["unanswered"] += 1
        else:
            counts["grown" if new > old else "shrunk"] += 1
            self._unsettled.append(coordinator.resizer.history[-1])
        self._collect_receipts()

    def _patience(self, load: subprocess.Popen[str]) -> Callable[[], bool]:
        """Says when to give up: the load may end on its own just now, so an answer has its time after that."""
        ended: list[float] = []

        def give_up() -> bool:
            if load.poll() is None:
                return False
            ended.append(time.monotonic())
            return ended[-1] - ended[0] > ANSWER_LIMIT_S

        return give_up

    def _collect_receipts(self) -> None:
        waiting = []
        sums = self._receipts
        for resize in self._unsettled:
            if not resize.complete:
                waiting.append(resize)
                continue
            for receipt in resize.receipts:
                sums[receipt.outcome] = sums.get(receipt.outcome, 0) + 1
                for key in ("pending", "delivered", "failed", "lost", "connections_stopped"):
                    sums[key] = sums.get(key, 0) + getattr(receipt, key)
        self._unsettled = waiting

    def _change_topology(self, coordinator: Coordinator) -> None:
        """One node leaves, or comes back, or one is at the spare shard's endpoint, or all is as in the beginning."""
        nodes = list(enumerate(self._endpoints[: self._spec.nodes]))
        change = self._random.choice(("all", "leave", "move"))
        if change == "leave" and len(nodes) > 1:
            del nodes[self._random.randrange(len(nodes))]
        elif change == "move":
            number = self._random.randrange(len(nodes))
            nodes[number] = (number, self._endpoints[-1])
        topology = MRClusterTopology(tuple(MRClusterNode(f"node-{number}", endpoint) for number, endpoint in nodes))
        coordinator.cluster.update_topology(topology)
        self._result.topologies += 1

    def _await_load(self, coordinator: Coordinator, load: subprocess.Popen[str]) -> None:
        assert load.stdin is not None
        assert load.stdout is not None
        if self._result.interrupted:
            load.stdin.close()
        while load.poll() is None:
            if time.monotonic() - self._told >= TELL_S:
                self._tell(coordinator)
            time.sleep(0.01)
        line = load.stdout.readline()
        if not line:
            raise SoakError(f"the load's process ended with status {load.returncode} and left no ledger")
        self._result.queries = Ledger(**json.loads(line))

    def _settle(self, coordinator: Coordinator) -> None:
        """Wait for the drains and threads that are still on their way out."""

        def settled() -> bool:
            self._collect_receipts()
            return (
                not self._unsettled
                and not coordinator.resizer.under_way
                and not coordinator.cluster.statistics()["closing"]
            )

        deadline = time.monotonic() + SETTLE_S
        while not settled() and time.monotonic() < deadline:
            time.sleep(0.01)
        self._counts["incomplete"] = len(self._unsettled)

    # ---- verdict

    def _judge(self, coordinator: Coordinator) -> None:
        result, wrong = self._result, self._result.wrong
        ledger, own = result.queries, coordinator.queries.statistics()
        result.coordinator = {
            **own, "by_reason": coordinator.queries.failures(), "cluster": coordinator.cluster.statistics(),
            "workers": coordinator.workers.num_threads_alive,
        }  # fmt: skip
        if ledger.lost or own["in_flight"]:
            self.clean = False
            result.wait_for = render(self._rt)
            wrong.append(f"{ledger.lost} queries were lost; wait_for says who waits for what")
        if ledger.mismatched:
            wrong.append(f"{ledger.mismatched} replies belonged to other queries")
        if not result.interrupted and ledger.sent != self._spec.queries:
            wrong.append(f"{ledger.sent} of {self._spec.queries} queries were sent")
        for name, theirs in (("submitted", ledger.sent), ("replied", ledger.replied), ("failed", ledger.failed)):
            if own[name] != theirs:
                wrong.append(f"{name}: {theirs} by the clients, {own[name]} by the coordinator")
        if own["in_flight"] or own["held"]:
            wrong.append(f"{own['in_flight']} queries are in flight and {own['held']} held at the end")
        if self._unsettled:
            wrong.append(f"{len(self._unsettled)} resizes lack a receipt")
        if self._receipts.get("lost"):
            wrong.append(f"receipts tell of {self._receipts['lost']} lost replies")
        self._judge_connections(coordinator)

    def _judge_connections(self, coordinator: Coordinator) -> None:
        wrong, cluster = self._result.wrong, coordinator.cluster
        numbers = cluster.statistics()
        nodes = len(cluster.topology.nodes)
        wanted = nodes * cluster.conns_per_node * cluster.num_io_threads
        if numbers["owned"] != wanted or numbers["closing"] or numbers["outstanding"]:
            wrong.append(f"{wanted} connections are wanted on {nodes} nodes; {numbers}")
        workers = coordinator.config.workers
        if coordinator.workers.num_threads_alive != workers:
            wrong.append(f"{coordinator.workers.num_threads_alive} worker threads are alive, {workers} are wanted")
        for io in cluster.io_runtimes:
            table = io.pending.statistics()
            if table["replies"] or table["sub_replies"] or not io.pending.consistent():
                wrong.append(
                    f"the pending table of io {io.index} at the end: {table}, consistent {io.pending.consistent()}"
                )

    def _judge_resources(self) -> None:
        result, deadline = self._result, time.monotonic() + SETTLE_S
        while True:
            after = count_resources()
            leaked = [name for name in COUNTED if after[name] > result.resources_before[name]]
            if not leaked or time.monotonic() > deadline:
                break
            time.sleep(0.01)
        result.resources_after = after
        result.wrong.extend(f"{name}: {result.resources_before[name]} before, {after[name]} after" for name in leaked)


def _end_load(load: subprocess.Popen[str]) -> None:
    assert load.stdin is not None
    assert load.stdout is not None
    load.stdin.close()
    try:
        load.wait(1)
    except subprocess.TimeoutExpired:
        load.kill()
        load.wait()
    load.stdout.close()
