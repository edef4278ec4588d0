"""The plan of a backfill: its bounds, its poison, and what the speed changes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from coordemu.lab.backfill_plan import BackfillPlan, BackfillPlanError, scaled
from coordemu.lab.hub_plan import HubPlan, Outage, Span
from coordemu.pool.pool_options import PoolOptions
from coordemu.resilience.settings import Settings
from coordemu.runtime.base import NS_PER_MS, NS_PER_S


@pytest.mark.parametrize(
    "wrong",
    [
        {"messages": 0}, {"messages": 1_000_001}, {"concurrency": 0}, {"producers": 65}, {"burst": 0},
        {"store_slots": 0}, {"hub_requests": -1}, {"speed": 0.0}, {"speed": float("inf")}, {"rate_per_s": -1.0},
        {"rate_per_s": float("nan")}, {"poison": 1.1}, {"crash": -0.1}, {"limit_ms": -1.0},
        {"kills": (Span(0, 2), Span(1, 2))},
    ],
)  # fmt: skip
def test_bounds(wrong: dict[str, Any]) -> None:
    with pytest.raises(BackfillPlanError) as error:
        BackfillPlan(**wrong)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("poison", [0.0, 0.01, 0.17, 0.5, 1.0])
def test_poison_is_spread_evenly_and_of_both_kinds(poison: float) -> None:
    plan = BackfillPlan(messages=200, poison=poison)
    refused = [message for message in range(200) if plan.refused(message)]
    garbled = [message for message in range(200) if plan.garbled(message)]
    assert not set(refused) & set(garbled)
    assert len(refused) + len(garbled) == int(200 * poison)
    assert 0 <= len(refused) - len(garbled) <= 1
    hub = plan.hub_plan()
    assert [message for message in range(200) if hub.is_poison(plan.ident(message))] == refused


def test_messages_come_in_bursts_at_the_rate() -> None:
    plan = BackfillPlan(rate_per_s=10.0, burst=4)
    assert [plan.due_ns(message) for message in (0, 3, 4, 7, 8)] == [0, 0, *[400 * NS_PER_MS] * 2, 800 * NS_PER_MS]
    assert BackfillPlan(rate_per_s=0.0).due_ns(1000) == 0


def test_speed_divides_durations_and_multiplies_rates() -> None:
    hub = HubPlan(latency_ns=20 * NS_PER_MS, outages=(Outage(Span(10 * NS_PER_S, 20 * NS_PER_S)),))
    plan = BackfillPlan(speed=10.0, hub=hub, kills=(Span(3 * NS_PER_S, 5 * NS_PER_S),)).scaled()
    assert plan.speed == 1.0
    assert plan.rate_per_s == 90.0
    assert (plan.hub_requests, plan.hub_window_ms) == (10, 100.0)
    assert (plan.hub.latency_ns, str(plan.hub.outages[0])) == (2 * NS_PER_MS, "2s@1s")
    assert [str(span) for span in plan.kills] == ["500ms@300ms"]
    assert plan.due_ns(40) == BackfillPlan().due_ns(40) // 10
    assert plan.scaled() is not None


def test_settings_and_pool_options_are_scaled_alike() -> None:
    fast = scaled(Settings(), 10.0)
    assert (fast.redis.blocking_ms, fast.redis.blocking_pressed_ms, fast.breaker.open_ms) == (100, 50, 3_000)
    assert fast.hub.requests_per_s == 100
    assert (fast.redis.pool_size, fast.redis.pressure_enter, fast.breaker.enabled) == (20, 0.8, True)
    assert scaled(Settings(), 1.0) == Settings()
    # What is not 0 does not become 0, which may mean "for ever".
    assert scaled(PoolOptions(), 1e6).dial_timeout_ms == 1
    assert scaled(PoolOptions(), 1e6).conn_max_lifetime_ms == 0


def test_json() -> None:
    data = json.loads(json.dumps(BackfillPlan(kills=(Span(0, NS_PER_S),)).to_json()))
    assert (data["kills"], data["hub"], data["messages"]) == (["1s@0"], "latency=20ms", 200)
