"""Whole runs of the backfill, small ones, on both runtimes: whatever goes wrong, every message is accounted for."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import hiredis
import pytest

from coordemu.lab.backfill_measures import BackfillSetup
from coordemu.lab.backfill_plan import BackfillPlan
from coordemu.lab.backfill_result import ENDED, INTERRUPTED, TIME_LIMIT, BackfillResult
from coordemu.lab.backfill_run import BackfillRun, BackfillRunError
from coordemu.lab.backfill_servers import ForgetfulFleet, SideDoor
from coordemu.lab.backfill_sim import in_a_thread_of_its_own, run_in_simulator, small_setup
from coordemu.lab.backfill_system import BackfillSystem, ContentGarbled
from coordemu.lab.backfill_worker import Fate, fate_of
from coordemu.lab.hub_plan import SILENCE, UNAVAILABLE, HubPlan, Outage, Slowness, Span
from coordemu.pool.pool_errors import ConnFailed, Occupancy, PoolTimeout
from coordemu.resilience.error_class import HttpStatusError
from coordemu.resilience.resilience_errors import BreakerOpen, RetriesExhausted
from coordemu.resilience.settings import AlertSettings
from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Address
from coordemu.runtime.sim import SimRuntime
from coordemu.runtime.sim_schedule import make_strategy
from coordemu.runtime.threads import ThreadsRuntime
from coordemu.shards.in_process_fleet import InProcessFleet
from coordemu.shards.shard_fleet import ShardFleet

LATENCY_NS = 20 * NS_PER_MS
CALM = BackfillPlan(
    messages=24, concurrency=8, producers=2, rate_per_s=20.0, hub_requests=0, poison=0.1, speed=20.0,
    limit_ms=600_000.0,
)  # fmt: skip
SETUP = replace(
    small_setup(),
    settings=replace(small_setup().settings, hub=replace(small_setup().settings.hub, requests_per_s=0)),
)
BEFORE = BackfillSetup.load("before")


def span(at_ms: int, for_ms: int) -> Span:
    return Span(at_ms * NS_PER_MS, for_ms * NS_PER_MS)


def hub(*outages: Outage, slow: tuple[Slowness, ...] = ()) -> HubPlan:
    return HubPlan(latency_ns=LATENCY_NS, outages=outages, slow=slow)


Carry = Callable[..., BackfillResult]


@pytest.fixture(params=["threads", "sim"])
def carry(request: pytest.FixtureRequest) -> Carry:
    """`carry(plan, setup=..., forgets=True)`: a run on either runtime, on embedded shards of the same runtime."""

    def on_threads(plan: BackfillPlan, setup: BackfillSetup, forgets: bool, nodes: int) -> BackfillResult:
        rt: ThreadsRuntime = request.getfixturevalue("rt")
        fleet = (ForgetfulFleet if forgets else InProcessFleet)(rt, nodes)
        try:
            return BackfillRun(rt, fleet, plan, setup).carry_out()
        finally:
            fleet.stop()

    def run(plan: BackfillPlan, setup: BackfillSetup = SETUP, forgets: bool = True, nodes: int = 1) -> BackfillResult:
        if request.param == "threads":
            return on_threads(plan, setup, forgets, nodes)
        return run_in_simulator(plan, setup, nodes, forgets)

    return run


FAULTS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "redis killed": {"kills": (span(300, 200), span(800, 100))},
    "hub refuses": {"hub": hub(Outage(span(200, 500)))},
    "hub answers 503": {"hub": hub(Outage(span(200, 500), UNAVAILABLE))},
    "hub is silent": {"hub": hub(Outage(span(200, 500), SILENCE))},
    "hub is slow": {"hub": hub(slow=(Slowness(span(200, 600), 20),))},
    "workers die": {"crash": 0.2},
    "all at once": {"kills": (span(300, 200),), "hub": hub(Outage(span(500, 300))), "crash": 0.1},
}


@pytest.mark.parametrize("forgets", [True, False])
@pytest.mark.parametrize("fault", FAULTS)
def test_work_survives(carry: Carry, fault: str, forgets: bool) -> None:
    plan = replace(CALM, **FAULTS[fault])
    result = carry(plan, forgets=forgets)
    account = result.account
    assert result.how == ENDED, account.left
    assert account.broken == result.crashes == ()
    assert not account.lost
    assert not account.left
    # Poison alone is put aside, unless workers die on the same message again and again.
    poison = {message for message in range(plan.messages) if plan.refused(message) or plan.garbled(message)}
    if not plan.crash:
        assert set(account.dead) == poison
    assert all(account.dead.values())
    assert account.done == plan.messages - len(account.dead)
    assert result.store["done"] == account.done
    if plan.kills and forgets:
        assert result.reaper["restorations"] >= 1
    json.dumps(result.to_json())


def test_poison_is_put_aside_with_its_reason(carry: Carry) -> None:
    result = carry(CALM)
    refused = [message for message in range(CALM.messages) if CALM.refused(message)]
    garbled = [message for message in range(CALM.messages) if CALM.garbled(message)]
    assert refused
    assert garbled
    assert all("HTTP 422" in result.account.dead[message] for message in refused)
    most = SETUP.settings.backfill.max_deliveries
    assert all(f"{most} deliveries" in result.account.dead[message] for message in garbled)
    assert result.account.again == len(garbled) * (most - 1)


def test_several_nodes(carry: Carry) -> None:
    result = carry(CALM, nodes=3)
    assert result.good
    assert result.account.done == CALM.messages - len(result.account.dead)
    assert result.pools["nodes"] == 3


def test_the_fragile_forms_lose_messages_and_say_which(carry: Carry) -> None:
    plan = replace(CALM, kills=(span(300, 300),), crash=0.1, poison=0.2)
    result = carry(plan, setup=BEFORE)
    account = result.account
    assert result.how == ENDED
    assert account.lost
    assert account.conserved  # all of them are named
    assert account.done + len(account.lost) == plan.messages
    assert not account.dead
    assert all(account.lost.values())
    assert result.ops.operations["reap"] == 0


@pytest.mark.parametrize(("concurrency", "nodes"), [(1, 1), (1, 2), (3, 2)])
def test_fewer_workers_than_queues_serve_them_all(carry: Carry, concurrency: int, nodes: int) -> None:
    plan = replace(CALM, messages=12, concurrency=concurrency, poison=0.0)
    result = carry(plan, nodes=nodes)
    assert result.how == ENDED
    assert result.account.done == 12


def test_before_starves_its_own_producers_and_after_does_not() -> None:
    plan = BackfillPlan(messages=40, concurrency=120, limit_ms=12_000.0, poison=0.0)
    before = run_in_simulator(plan, BEFORE)
    after = run_in_simulator(plan, BackfillSetup.load("after"))
    assert before.how == TIME_LIMIT
    assert before.ops.timeout_share > 0.5
    assert {event.name for event in before.fired} == {"timeouts"}
    assert before.longest_wait_ns == 5 * NS_PER_S
    assert after.how == ENDED
    assert after.ops.timeouts == 0
    assert after.account.done == 40 > before.account.done
    assert after.per_s > before.per_s


@pytest.mark.parametrize(("for_s", "alerts"), [(30, {"errors"}), (300, {"errors", "breaker-open"})])
def test_an_outage_of_the_hub_in_virtual_time(for_s: int, alerts: set[str]) -> None:
    outage = Outage(Span(2 * NS_PER_S, for_s * NS_PER_S))
    plan = BackfillPlan(messages=40, concurrency=10, hub=hub(outage), poison=0.0)
    result = run_in_simulator(plan, BackfillSetup.load("after"))
    assert result.good
    assert result.account.done == 40
    assert not result.account.dead
    assert {event.name for event in result.fired} == alerts
    opened = next(event for event in result.breaker if event.kind == "opened")
    for event in result.fired:
        if event.name == "breaker-open":
            late_ns = event.at_ns - opened.at_ns - AlertSettings().breaker_open_ms * NS_PER_MS
            assert 0 < late_ns <= 2 * AlertSettings().evaluate_every_ms * NS_PER_MS


def test_a_fleet_in_a_process_of_its_own_is_killed_and_comes_back(rt: ThreadsRuntime) -> None:
    plan = replace(CALM, kills=(span(300, 300),))
    with ShardFleet.start(rt, "embedded:1") as fleet:
        result = BackfillRun(rt, fleet, plan, SETUP).carry_out()
    assert result.good
    assert [what for _, what in result.happened] == ["Redis killed", "Redis back"]


def test_a_real_redis_forgets_everything_and_nothing_is_lost(rt: ThreadsRuntime) -> None:
    plan = replace(CALM, kills=(span(300, 300), span(1_200, 200)), messages=48)
    with ShardFleet.start(rt, "redis:1", password="secret") as fleet:
        result = BackfillRun(rt, fleet, plan, SETUP).carry_out()
        with SideDoor(rt, fleet.addresses, "secret") as door:
            left: Any = door.execute("KEYS", "*")
    assert result.good
    assert result.how == ENDED
    assert result.reaper["restorations"] >= 1
    assert left == []


def test_the_user_has_had_enough(carry: Carry, rt: ThreadsRuntime) -> None:
    fleet = InProcessFleet(rt, 1)
    looks: list[int] = []
    plan = replace(CALM, messages=10_000)
    try:
        run = BackfillRun(rt, fleet, plan, SETUP, stopped=lambda: len(looks) > 3, watch=lambda look, _: looks.append(1))
        result = run.carry_out()
    finally:
        fleet.stop()
    assert result.how == INTERRUPTED
    assert result.account.left
    assert not result.account.lost
    assert result.account.conserved


def test_no_server_is_one_line(rt: ThreadsRuntime) -> None:
    class Nobody:
        addresses = (Address(port=1),)
        password = None

        def kill(self, index: int) -> None: ...
        def restart(self, index: int) -> None: ...

    with pytest.raises(BackfillRunError, match="refused") as error:
        BackfillRun(rt, Nobody(), CALM, SETUP).carry_out()
    assert "\n" not in str(error.value)


class JumpingSim(SimRuntime):
    """A simulator whose clock jumps when it is told to, forth and back; what sleeps sleeps as long as before."""

    offset_ns = 0

    def now_ns(self) -> int:
        return super().now_ns() + self.offset_ns


@pytest.mark.parametrize("jumps_s", [(3600,), (-3600,), (3600, -7200), (60, -60, 60)])
def test_clock_jumps(jumps_s: tuple[int, ...]) -> None:
    sim = JumpingSim(make_strategy("random", 1))
    sim.offset_ns = 10**15
    results: list[BackfillResult] = []
    steps = list(jumps_s)

    def watch(look: object, plan: object) -> None:
        if steps and results == [] and sim.core.clock.now_ns > NS_PER_S + (len(jumps_s) - len(steps) + 1) * 10**7:
            sim.offset_ns += steps.pop(0) * NS_PER_S

    def main() -> None:
        fleet = ForgetfulFleet(sim, 1)
        try:
            plan = replace(CALM, limit_ms=0.0, kills=(span(400, 100),), look_ms=100.0)
            results.append(BackfillRun(sim, fleet, plan, SETUP, watch=watch).carry_out())
        finally:
            fleet.stop()

    in_a_thread_of_its_own(lambda: sim.run(main).check(), 100)
    assert steps == []
    assert results[0].good
    assert results[0].account.done + len(results[0].account.dead) == CALM.messages
    assert len(results[0].account.dead) == 2


POOL_TIMEOUT = PoolTimeout("p", 1, Occupancy(1, 1, 0, 0, 0, 1))


@pytest.mark.parametrize(
    ("error", "failures", "fate"),
    [
        (HttpStatusError(422), 0, Fate("HttpStatusError: HTTP 422", True, 0)),
        (HttpStatusError(429, 30), 4, Fate("", False, 100)),
        (HttpStatusError(429, 300), 4, Fate("", False, 300)),
        (HttpStatusError(429, 10**15), 4, Fate("", False, 5_000)),
        (BreakerOpen("b", "OPEN", 200), 4, Fate("", False, 200)),
        (POOL_TIMEOUT, 4, Fate("", False, 100)),
        (ConnFailed("connect", "refused"), 4, Fate("", False, 100)),
        (HttpStatusError(500), 0, Fate("", True, 0)),
        (RetriesExhausted(3, 1, HttpStatusError(500)), 0, Fate("", True, 0)),
        (RetriesExhausted(3, 1, BreakerOpen("b", "OPEN", 200)), 4, Fate("", False, 200)),
        (ContentGarbled("x"), 3, Fate("", True, 0)),
        (ContentGarbled("x"), 4, Fate("5 deliveries came to nothing, the last with ContentGarbled", True, 0)),
        (hiredis.ReplyError("WRONGTYPE x"), 0, Fate("reply WRONGTYPE: WRONGTYPE x", True, 0)),
    ],
)
def test_the_fate_of_a_message(error: Exception, failures: int, fate: Fate) -> None:
    assert fate_of(error, failures, 5, 100) == fate


def test_the_system_has_only_the_layers_that_its_setup_asks_for(rt: ThreadsRuntime) -> None:
    for setup, words in ((BEFORE, "nothing"), (BackfillSetup.load("after"), "Retry 'hub retry'")):
        store: Any = None
        ctx: Any = None
        system = BackfillSystem(rt, [Address(port=1)], None, Address(port=1), CALM, setup, store, ctx)
        assert words in repr(system)
        assert (system.breaker is None) == (setup is BEFORE)
        system.close()
