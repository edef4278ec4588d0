"""The pool's tests on embedded shards, small: every operation has an outcome, and nothing is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from coordemu.lab import pool_work
from coordemu.lab.machine import count_resources
from coordemu.lab.pool_modes import POOL_TESTS, PoolTest, mode_tests
from coordemu.lab.pool_run import NO_COUNT, NO_PUBLISH, PoolLook, PoolRun, PoolRunError, Stopped
from coordemu.lab.pool_verdict import BROKEN, WARNING
from coordemu.lab.pool_work import PoolHand
from coordemu.pool.cluster_client import ClusterClient, ClusterOptions
from coordemu.pool.pool_options import PoolOptions
from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Address
from coordemu.runtime.threads import ThreadsRuntime
from coordemu.shards.fault_plan import NO_FAULTS, FaultPlan
from coordemu.shards.shard_fleet import ShardFleet

PATIENCE_NS = 10 * NS_PER_S


@pytest.fixture(scope="module")
def one_fleet() -> Iterator[ShardFleet]:
    with ShardFleet.start(ThreadsRuntime(), "embedded:3") as started:
        yield started


@pytest.fixture
def fleet(one_fleet: ShardFleet) -> Iterator[ShardFleet]:
    before = count_resources()
    yield one_fleet
    one_fleet.set_faults(NO_FAULTS)
    after = count_resources()
    assert after["fds"] <= before["fds"]
    assert after["threads"] <= before["threads"] + 1


def small(name: str, tasks: int = 4, operations: int = 3, **changes: Any) -> PoolTest:
    test = POOL_TESTS[name]
    changes.setdefault("operations", operations if test.operations > 1 else test.operations)
    if test.duration_ms:
        changes.setdefault("duration_ms", 60)
    return replace(test, tasks=tasks, rest_ms=0, **changes)


@pytest.mark.parametrize("name", list(POOL_TESTS))
def test_every_test_ends_with_an_outcome_for_each_operation(rt: ThreadsRuntime, fleet: ShardFleet, name: str) -> None:
    test = small(name)
    (result,) = PoolRun(rt, fleet.addresses, [test]).carry_out()
    metrics = result.metrics
    assert result.verdict.level != BROKEN, result.verdict
    assert (metrics.failed, metrics.unaccounted, result.crashes, result.broken_rules) == (0, 0, (), ())
    if test.operations:
        assert metrics.total == test.planned == test.tasks * test.operations * test.rounds
    else:
        assert metrics.total >= test.tasks
    assert sum(metrics.histogram) == metrics.successful
    nodes = result.nodes.values()
    assert all(counts["turns_held"] == counts["in_use"] == counts["waiting"] == 0 for counts in nodes)
    assert sum(counts["hits"] + counts["misses"] for counts in nodes) >= metrics.total / max(1, test.batch)
    assert not result.cut_short


def test_embedded_shards_count_and_publish(rt: ThreadsRuntime, fleet: ShardFleet) -> None:
    three, pubsub = PoolRun(rt, fleet.addresses, [small("advanced.3"), small("advanced.5")]).carry_out()
    assert (three.notes, pubsub.notes) == ((), ())
    facts = pubsub.facts
    assert facts["received"] == facts["published"] * pubsub.test.subscribers > 0
    assert facts["subscribe_errors"] == 0
    assert facts["published"] + facts["get_set"] == pubsub.metrics.successful


def test_servers_that_lack_some_commands_are_named_in_the_notes(
    rt: ThreadsRuntime, fleet: ShardFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordemu.lab.pool_run.find_abilities", lambda client: pool_work.Abilities())
    three, pubsub = PoolRun(rt, fleet.addresses, [small("advanced.3"), small("advanced.5")]).carry_out()
    assert three.notes == (NO_COUNT,)
    assert pubsub.notes == (NO_PUBLISH,)
    assert sum(pubsub.facts.values()) == pubsub.metrics.successful


def test_a_pool_that_is_too_small_times_out_and_is_excused_where_that_is_expected(
    rt: ThreadsRuntime, fleet: ShardFleet
) -> None:
    fleet.set_faults(FaultPlan(delay_ms=60))
    pool = PoolOptions(pool_size=1, pool_timeout_ms=1)
    test = small("basic.1", tasks=12, operations=1, pool=pool)
    expected = replace(test, name="basic.2", timeouts_expected=True)
    result, excused = PoolRun(rt, fleet.addresses, [test, expected]).carry_out()
    for each in (result, excused):
        assert each.metrics.pool_timeouts == each.metrics.failed > 0
        assert each.metrics.total == 12
        assert each.detected.pool_exhaustion == each.metrics.failed
        # A call that times out has tried four times.
        assert sum(counts["timeouts"] for counts in each.nodes.values()) >= 4 * each.metrics.failed
        assert "in use" in each.metrics.reasons[0].example
    assert result.verdict.level == WARNING
    assert not any("pool time-outs" in reason for reason in excused.verdict.reasons)


def test_a_fresh_client_per_round_sums_its_pools_up(rt: ThreadsRuntime, fleet: ShardFleet) -> None:
    (result,) = PoolRun(rt, fleet.addresses, [small("detect.3", tasks=3)]).carry_out()
    assert result.metrics.total == 30
    assert result.client["maps"] >= 10
    assert sum(counts["misses"] for counts in result.nodes.values()) >= 10


def test_errors_of_the_server_are_outcomes(
    rt: ThreadsRuntime, fleet: ShardFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PoolHand, "set_command", lambda self, key: ("NO.SUCH", key))
    (result,) = PoolRun(rt, fleet.addresses, [small("basic.1")]).carry_out()
    assert (result.metrics.failed, result.metrics.total) == (12, 12)
    assert result.metrics.reasons[0].name == "reply ERR"
    assert result.detected.longest_failure_row == 3


def test_a_fault_of_ours_is_no_outcome(rt: ThreadsRuntime, fleet: ShardFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(self: PoolHand, key: str) -> tuple[str, ...]:
        raise KeyError(key)

    monkeypatch.setattr(PoolHand, "set_command", crash)
    (result,) = PoolRun(rt, fleet.addresses, [small("basic.1")]).carry_out()
    assert result.verdict.level == BROKEN
    assert (result.metrics.unaccounted, result.crashes) == (4, ("KeyError",) * 4)


def test_a_time_limit_cuts_a_test_short(rt: ThreadsRuntime, fleet: ShardFleet) -> None:
    test = small("basic.1", operations=1_000_000)
    (result,) = PoolRun(rt, fleet.addresses, [test], time_limit_ns=NS_PER_MS).carry_out()
    assert result.cut_short
    assert 0 < result.metrics.total < test.planned
    assert result.metrics.unaccounted == 0


def test_it_can_be_stopped_while_callers_are_parked(rt: ThreadsRuntime, fleet: ShardFleet) -> None:
    looks: list[PoolLook] = []

    def watch(look: PoolLook) -> None:
        looks.append(look)
        if len(looks) == 1:
            fleet.set_faults(FaultPlan(silence_after_n=0))

    def stopped() -> bool:
        waiting = [snapshot.occupancy.waiting for look in looks[-1:] for snapshot in look.snapshot().values()]
        return len(looks) > 1 and sum(waiting) > 0

    told: list[Any] = []
    test = small("basic.1", tasks=30, operations=1_000_000)
    with pytest.raises(Stopped):
        PoolRun(rt, fleet.addresses, [small("detect.1"), test], None, stopped, watch, tell=told.append).carry_out()
    assert [result.test.name for result in told] == ["detect.1"]
    assert looks[-1].number == 2


def test_looks_tell_how_far_it_is(rt: ThreadsRuntime, fleet: ShardFleet) -> None:
    fleet.set_faults(FaultPlan(delay_ms=30))
    looks: list[PoolLook] = []
    test = small("basic.1", tasks=20, operations=5)
    PoolRun(rt, fleet.addresses, [test], watch=looks.append).carry_out()
    assert looks
    assert [look.done for look in looks] == sorted(look.done for look in looks)
    assert all((look.planned, look.number, look.count) == (100, 1, 1) for look in looks)


def test_no_server_is_one_line(rt: ThreadsRuntime, free_address: Address) -> None:
    with pytest.raises(PoolRunError, match="no node would have it"):
        PoolRun(rt, [free_address], mode_tests("detect")).carry_out()


@pytest.fixture
def free_address(fleet: ShardFleet, rt: ThreadsRuntime) -> Iterator[Address]:
    """An address where nobody listens."""
    loop = rt.loop("nobody")
    listener = loop.listen(Address(), lambda transport: pytest.fail("nobody connects"))
    address = listener.address
    listener.close()
    yield address
    loop.close()


def test_threads_that_cannot_be_had_are_one_line(
    rt: ThreadsRuntime, fleet: ShardFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    spawn: Callable[..., Any] = rt.spawn

    def few(target: Callable[..., object], *args: object, name: str) -> Any:
        if name == "basic.1 task 2":
            raise RuntimeError("can't start new thread")
        return spawn(target, *args, name=name)

    monkeypatch.setattr(rt, "spawn", few)
    with pytest.raises(PoolRunError, match="2 of 4 tasks could be started: can't start new thread"):
        PoolRun(rt, fleet.addresses, [small("basic.1")]).carry_out()


def test_abilities_are_those_of_the_server(rt: ThreadsRuntime, fleet: ShardFleet) -> None:
    assert not pool_work.Abilities().expire
    with closing(ClusterClient(rt, fleet.addresses, ClusterOptions())) as client:
        assert pool_work.find_abilities(client) == pool_work.Abilities(count=True, publish=True, expire=True)
    run = PoolRun(rt, fleet.addresses, [])
    assert run.carry_out() == []
