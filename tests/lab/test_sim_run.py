"""A run of the laboratory in the simulator: the same result as on threads, every time."""

from __future__ import annotations

from typing import Any

import pytest

from coordemu.coord.resize_policy import get_policy
from coordemu.explore.order import OrderPlan
from coordemu.lab.result import Result
from coordemu.lab.run import ShardsUnreachable
from coordemu.lab.scenario import Scenario, ScenarioError, get_scenario
from coordemu.lab.sim_run import SimRunError, run_in_sim

SHORT: dict[str, Any] = {"workers": (3, 0), "clients": 3, "shards": "embedded:2", "warm_ms": 20, "after_ms": 40}
RANDOM = OrderPlan("random", 3, rt_seed=7)


def run(policy: str, plan: OrderPlan = RANDOM, **fields: Any) -> Result:
    return run_in_sim(Scenario(**{**SHORT, **fields}), get_policy(policy), plan)


def test_the_incident_before_and_after_the_fix() -> None:
    before = run("upstream-before", lock_share=1.0)
    assert (before.runtime, before.verdict, before.seed) == ("sim", "deadlocked", 7)
    assert "a cycle" in before.cycle
    assert {edge["waiter"] for edge in before.wait_for} >= {"main", "workers-0"}
    assert any("thpool" in line for line in before.stacks["main"])
    assert before.config_set_ms == (None,)
    assert ("CONFIG SET returns", "never") in [(row.action, row.result) for row in before.timeline]
    after = run("upstream-7410", lock_share=1.0)
    assert after.verdict == "healthy"
    assert after.queries.sent == after.queries.replied > 6
    assert after.ping.answered >= 5
    assert (after.workers, after.connections) == ((3, 0), (4, 1))
    assert after.resources["after"] == after.resources["before"]
    assert after.machine["order"] == RANDOM.to_json()
    assert [step.thread for step in after.chain if step.upstream == "MRConnManager_Shrink"] == ["io 0"]


def test_the_same_plan_gives_the_same_result() -> None:
    first, second = run("writeup-fix"), run("writeup-fix")
    assert first.to_json() == second.to_json()
    assert Result.from_json(first.to_json()) == first
    other = run("writeup-fix", OrderPlan("random", 4, rt_seed=8))
    assert other.chain != first.chain


@pytest.mark.parametrize(
    "policy", ["writeup-before", "shrink-drain-literal", "delay-trigger", "writeup-fix-pool-pause", "coordemu-safe"]
)
def test_the_incidents_verdicts_are_those_of_real_threads(policy: str) -> None:
    result = run_in_sim(get_scenario("mod-11658").override(warm_ms=50, after_ms=100), get_policy(policy), RANDOM)
    assert (result.verdict, result.as_expected) == (get_policy(policy).expected, True)


def test_a_shard_is_killed_and_comes_back() -> None:
    said: list[str] = []
    scenario = Scenario(**SHORT, latency="100ms", kill_shard=0, restart_after_ms=300).override(after_ms=1500)
    result = run_in_sim(scenario, get_policy("upstream-7410"), RANDOM, said.append)
    assert result.verdict == "degraded"
    assert {"a shard is killed", "the shard is back"} <= {row.action for row in result.timeline}
    assert said == ["load", "CONFIG SET WORKERS 0"]


def test_faults_of_the_shards_are_played() -> None:
    with pytest.raises(ShardsUnreachable, match="not every connection stood within 5 s"):
        run("upstream-7410", faults="refuse=listen")


def test_real_shards_are_refused() -> None:
    with pytest.raises(ScenarioError, match="the simulator has embedded shards"):
        run("upstream-7410", shards="redis:1")


def test_a_layer_that_raises_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordemu.coord.host.Host._ping", lambda host, client, args: 1 // 0)
    with pytest.raises(SimRunError, match=r"broke off after .* steps with ZeroDivisionError"):
        run("upstream-7410")
