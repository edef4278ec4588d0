"""The whole coordinator, its shards and its clients in the simulator: the incident is found, the fix survives."""

from __future__ import annotations

import pytest

from coordemu.coord.conn_handshake import pack_command
from coordemu.coord.coordinator import Coordinator, CoordinatorOptions
from coordemu.coord.endpoint import MREndpoint
from coordemu.coord.resize_policy import get_policy
from coordemu.lab.load import QueryLoad
from coordemu.lab.operator import Operator
from coordemu.lab.result import QuerySums
from coordemu.lab.scenario import Scenario
from coordemu.runtime.base import NS_PER_MS, NS_PER_S
from coordemu.runtime.sim import SimRuntime
from coordemu.runtime.sim_outcome import SimOutcome
from coordemu.runtime.sim_schedule import Replay, Strategy, make_strategy
from coordemu.shards.embedded_shard import EmbeddedShard
from coordemu.shards.shard_command import query_command


def shrink_under_load(rt: SimRuntime, policy: str, lock_share: float, workers: int, shards: int) -> QuerySums:
    """As many clients as workers, then CONFIG SET WORKERS 0; the load's sums once all has ended."""
    plan = Scenario(workers=(workers, 0), clients=workers, latency="1ms", load_ms=0.1, lock_share=lock_share)
    loop = rt.loop("shards")
    servers = [EmbeddedShard(rt, loop) for _ in range(shards)]
    endpoints = [MREndpoint(server.start()) for server in servers]
    shard_task = rt.spawn(loop.run, name="shards")
    coordinator = Coordinator(
        rt,
        CoordinatorOptions(workers=workers),
        endpoints,
        get_policy(policy),
        lambda ident, service_ns: pack_command(*query_command("embedded", ident, service_ns)),
    )
    assert coordinator.start()
    load = QueryLoad(rt, coordinator.host.address, plan, rt.random)
    operator = Operator(rt, coordinator.host.address)
    operator.wait(lambda: load.replied >= workers, lambda: False)
    assert operator.call("CONFIG", "SET", "WORKERS", "0", give_up=lambda: False) == b"OK"
    operator.wait(lambda: False, lambda: False, 3 * NS_PER_MS)
    load.end()
    assert operator.wait(lambda: load.ended, lambda: False, 5 * NS_PER_S)
    sums = load.sums()
    load.stop()
    operator.close()
    coordinator.stop()
    loop.stop()
    shard_task.join()
    for server in servers:
        server.stop()
    loop.close()
    return sums


def run(
    strategy: Strategy,
    policy: str,
    lock_share: float = 1.0,
    workers: int = 2,
    shards: int = 1,
    clock: str = "idle",
) -> tuple[SimOutcome, list[QuerySums]]:
    rt = SimRuntime(strategy, clock=clock)
    sums: list[QuerySums] = []
    outcome = rt.run(lambda: sums.append(shrink_under_load(rt, policy, lock_share, workers, shards)), name="lab")
    return outcome, sums


@pytest.mark.parametrize("strategy", ["run-on", "random", "pct3"])
def test_before_the_fix_main_and_a_worker_wait_for_each_other(strategy: str) -> None:
    outcome, sums = run(make_strategy(strategy, 1), "upstream-before")
    assert sums == []
    assert outcome.kind == "deadlock"
    lines = [line for line in outcome.wait_for.splitlines() if "] main waits" in line]
    assert len(lines) == 1
    assert "main waits for barrier 'workers: terminate when empty', which misses workers-" in lines[0]
    assert lines[0].endswith("waits for lock 'module lock', held by main: a cycle")
    again, _ = run(Replay(outcome.schedule), "upstream-before")
    assert (again.kind, again.schedule.steps) == ("deadlock", outcome.schedule.steps)
    assert again.wait_for == outcome.wait_for


@pytest.mark.parametrize("clock", ["idle", "explored"])
@pytest.mark.parametrize("strategy", ["run-on", "random", "pct3"])
def test_after_the_fix_no_order_hangs_or_loses_a_query(strategy: str, clock: str) -> None:
    for seed in range(1 if strategy == "run-on" else 20):
        outcome, sums = run(make_strategy(strategy, seed), "upstream-7410", clock=clock)
        outcome.check()
        assert outcome.kind == "done"
        assert (sums[0].failed, sums[0].lost) == (0, 0)
        assert sums[0].replied == sums[0].sent >= 2


def test_whether_a_rare_load_of_documents_hangs_it_is_a_matter_of_the_order() -> None:
    """Chance draws the same queries in every run; which of them are under way when main stops is the schedule's."""
    ways = [make_strategy("random", seed) for seed in range(40)]
    kinds = {run(way, "upstream-before", lock_share=0.1, clock="explored")[0].kind for way in ways}
    assert kinds == {"done", "deadlock"}


def test_the_incidents_size() -> None:
    outcome, _ = run(make_strategy("pct3", 1), "upstream-before", lock_share=0.25, workers=12, shards=3)
    assert outcome.kind == "deadlock"
    outcome, sums = run(make_strategy("pct3", 1), "upstream-7410", lock_share=0.25, workers=12, shards=3)
    outcome.check()
    assert sums[0].lost == sums[0].failed == 0


def test_two_runs_of_a_seed_are_the_same_run() -> None:
    first, second = (run(make_strategy("random", 4), "writeup-fix", workers=3, shards=2) for _ in range(2))
    assert first[0].check().schedule.steps == second[0].check().schedule.steps
    assert first[1] == second[1]
