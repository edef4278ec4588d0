"""Policy coordemu-safe in the simulator: no plan and no order hangs it, loses or fails a query, or leaves a surplus."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from coordemu.coord.conn_handshake import pack_command
from coordemu.coord.coordinator import Coordinator, CoordinatorOptions
from coordemu.coord.endpoint import MREndpoint
from coordemu.coord.resize_policy import ResizePolicy, get_policy
from coordemu.coord.topology import MRClusterNode, MRClusterTopology
from coordemu.lab.load import QueryLoad
from coordemu.lab.operator import Operator
from coordemu.lab.result import QuerySums
from coordemu.lab.scenario import Scenario
from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Address
from coordemu.runtime.sim import SimRuntime
from coordemu.runtime.sim_outcome import SimOutcome
from coordemu.runtime.sim_schedule import make_strategy
from coordemu.shards.embedded_shard import EmbeddedShard
from coordemu.shards.shard_command import query_command

Step = int | str
CLIENTS = 3
SAFE = get_policy("coordemu-safe")


def never() -> bool:
    return False


@dataclass
class Site:
    """A coordinator, its shards, a spare one, its clients; `step` does one thing of a plan.

    A number sets WORKERS; "c2" sets CONN_PER_SHARD; "2,0" sets WORKERS twice in one go; "w0.4" waits, in ms; "swap",
    "add" and "remove" change the topology; "kill" and "restart" the last shard.
    """

    rt: SimRuntime
    policy: ResizePolicy
    workers: int
    shards: int
    faults: frozenset[str] = frozenset()
    sums: QuerySums | None = None
    quiet: bool = False
    shard_steps: list[Callable[[], object]] = field(default_factory=list)

    def run(self, plan: Sequence[Step]) -> None:
        rt = self.rt
        loop = rt.loop("shards")
        self.servers = [EmbeddedShard(rt, loop) for _ in range(self.shards + 1)]
        *self.endpoints, self.spare = [MREndpoint(server.start()) for server in self.servers]
        self.wake = loop.async_handle(lambda: self.shard_steps.pop(0)(), "shard step")
        shard_task = rt.spawn(loop.run, name="shards")
        self.coordinator = Coordinator(
            rt,
            CoordinatorOptions(workers=self.workers, faults=self.faults),
            self.endpoints,
            self.policy,
            lambda ident, service_ns: pack_command(*query_command("embedded", ident, service_ns)),
        )
        assert self.coordinator.start()
        scenario = Scenario(workers=(self.workers, 0), clients=CLIENTS, latency="1ms", load_ms=0.1, lock_share=1.0)
        load = QueryLoad(rt, self.coordinator.host.address, scenario, rt.random)
        self.operator = Operator(rt, self.coordinator.host.address)
        self.operator.wait(lambda: load.replied >= CLIENTS, never)
        for step in plan:
            self.step(step)
        self.operator.wait(never, never, 3 * NS_PER_MS)
        load.end()
        self.operator.wait(lambda: load.ended, never, 40 * NS_PER_S)
        self.quiet = self.operator.wait(self.at_rest, never, 20 * NS_PER_S)
        self.sums = load.sums()
        load.stop()
        self.operator.close()
        self.coordinator.stop()
        loop.stop()
        shard_task.join()
        for server in self.servers:
            server.stop()
        loop.close()

    def step(self, step: Step) -> None:
        if isinstance(step, int):
            self.set("WORKERS", str(step))
        elif step[0] == "c":
            self.set("CONN_PER_SHARD", step[1:])
        elif step[0] == "w":
            self.operator.wait(never, never, int(float(step[1:]) * NS_PER_MS))
        elif "," in step:
            self.set("WORKERS", *step.split(","))
        elif step in ("kill", "restart"):
            server = self.servers[self.shards - 1]
            self.shard_steps.append(server.stop if step == "kill" else server.start)
            self.wake.send()
        else:
            endpoints = {
                "swap": [*self.endpoints[:-1], self.spare],
                "add": [*self.endpoints, self.spare],
                "remove": self.endpoints,
            }[step]
            nodes = tuple(MRClusterNode(f"node-{n}", endpoint) for n, endpoint in enumerate(endpoints))
            self.coordinator.cluster.update_topology(MRClusterTopology(nodes))

    def set(self, name: str, *values: str) -> None:
        for value in values:
            self.operator.send("CONFIG", "SET", name, value, give_up=never)
        for value in values:
            assert self.operator.answer(f"{name} {value}", never) == b"OK"

    def at_rest(self) -> bool:
        """No thread too many, and exactly the connections that are wanted."""
        coordinator = self.coordinator
        cluster = coordinator.cluster.statistics()
        wanted = len(coordinator.cluster.topology.nodes) * coordinator.cluster.conns_per_node
        return (
            not coordinator.resizer.under_way
            and coordinator.workers.num_threads_alive <= coordinator.config.workers
            and (cluster["owned"], cluster["closing"], cluster["outstanding"]) == (wanted, 0, 0)
        )


def explore(
    plan: Sequence[Step],
    strategy: str,
    seed: int,
    policy: ResizePolicy = SAFE,
    clock: str = "idle",
    faults: frozenset[str] = frozenset(),
) -> tuple[SimOutcome, Site]:
    first, *rest = plan
    rt = SimRuntime(make_strategy(strategy, seed, 3000), clock=clock)
    site = Site(rt, policy, int(first), 1 + seed % 2, faults)
    return rt.run(lambda: site.run(rest), name="lab"), site


# 12, 9 and 4 of the plans that people run are 3, 2 and 1 here: fewer threads, the same order of steps.
PLANS: dict[str, tuple[Step, ...]] = {
    "to none": (3, 0),
    "to fewer": (3, 1),
    "from none": (0, 3),
    "there and back": (3, 0, 2),
    "there and back, after a while": (3, 0, "w0.4", 2, "w0.4"),
    "up and down": (2, 3, 1, 3, 1),
    "the same": (3, 3, 0, 0),
    "connections apart": (3, "c5", "c2", 0, "c1", 3, "c0", 1),
    "two in flight": (3, "0,2", "3,0", "0,3"),
    "a node more in mid-drain": (3, 0, "add", "w0.3", 3, "remove", 1),
    "another node in mid-drain": (3, 0, "swap", "w0.3", 2),
    "another node, then fewer": (3, "swap", 0),
}


@pytest.mark.parametrize("clock", ["idle", "explored"])
@pytest.mark.parametrize("plan", PLANS)
def test_every_plan_is_healthy_in_every_order(plan: str, clock: str) -> None:
    for strategy in ("random", "pct2", "pct3", "pct5"):
        for seed in range(3):
            outcome, site = explore(PLANS[plan], strategy, seed, clock=clock)
            assert outcome.check().kind == "done"
            assert site.sums is not None
            assert (site.sums.failed, site.sums.lost) == (0, 0), site.sums
            assert site.sums.replied == site.sums.sent > CLIENTS
            assert site.quiet, site.coordinator.statistics()
            if clock == "idle":
                # There, time passes only while nobody can go on: CONFIG SET has waited for nobody.
                assert {resize.returned_ns - resize.started_ns for resize in site.coordinator.resizer.history} <= {0}


def test_at_the_deadline_the_surplus_is_stopped_and_its_replies_come_all_the_same() -> None:
    at_once = SAFE.override(drain_timeout_ms=0)
    outcomes = set()
    for strategy in ("random", "pct3"):
        for seed in range(5):
            outcome, site = explore(PLANS["there and back, after a while"], strategy, seed, policy=at_once)
            assert outcome.check().kind == "done"
            assert site.sums is not None
            assert (site.sums.failed, site.sums.lost) == (0, 0)
            assert site.quiet
            receipts = [receipt for resize in site.coordinator.resizer.history for receipt in resize.receipts]
            assert all(receipt.delivered == receipt.pending for receipt in receipts)
            outcomes |= {receipt.outcome for receipt in receipts}
    assert "deadline" in outcomes


@pytest.mark.parametrize(
    "plan",
    [(3, 0, "w0.3", "kill", "w2", "restart", "w300", 2), (3, 0, "kill", "w0.2", 2, "restart", "w300", 0)],
    ids=["then restarted", "and back meanwhile"],
)
def test_a_node_that_is_lost_in_mid_drain_fails_its_own_queries_and_nothing_else(plan: tuple[Step, ...]) -> None:
    for strategy in ("random", "pct3"):
        for seed in range(2):
            outcome, site = explore(plan, strategy, seed)
            assert outcome.check().kind == "done"
            assert site.sums is not None
            assert site.sums.lost == 0
            node = str(site.endpoints[-1])
            said = (f"{node}: connection", f"{node}: connect failed", "no connection to ")
            assert all(reason.removeprefix("ERR query failed: ").startswith(said) for reason in site.sums.by_reason)
            assert site.quiet, site.coordinator.statistics()


def test_upstreams_revival_is_found_where_this_policy_has_none() -> None:
    kinds = [
        explore(PLANS["there and back"], "pct3", seed, policy=get_policy("upstream-7410"))[0].kind for seed in range(10)
    ]
    assert "deadlock" in kinds
    outcomes = [explore(PLANS["there and back"], "pct3", seed)[0] for seed in range(10)]
    assert {outcome.check().kind for outcome in outcomes} == {"done"}


@pytest.mark.parametrize("policy", ["coordemu-safe", "upstream-7410"])
def test_the_switch_makes_any_policy_wait_again(policy: str) -> None:
    faults = frozenset({"sync-reduce"})
    outcomes = [explore((3, 0), "random", seed, policy=get_policy(policy), faults=faults)[0] for seed in range(5)]
    hung = [outcome for outcome in outcomes if outcome.kind == "deadlock"]
    assert hung
    assert all("main waits for barrier 'workers: terminate when empty'" in outcome.wait_for for outcome in hung)


def test_a_policy_that_needs_another_pool_can_not_be_put_in_its_place() -> None:
    def swap(rt: SimRuntime) -> None:
        coordinator = Coordinator(
            rt, CoordinatorOptions(), [MREndpoint(Address(port=1))], get_policy("coordemu-safe"), lambda *_: b""
        )
        with pytest.raises(ValueError, match="policy upstream-7410: reduce 'async' needs another pool of workers"):
            coordinator.resizer.policy = get_policy("upstream-7410")
        coordinator.resizer.policy = get_policy("coordemu-safe").override(drain="none")
        coordinator.stop()

    rt = SimRuntime(make_strategy("run-on"))
    rt.run(lambda: swap(rt), name="lab").check()
