"""Scenarios: every bound, overriding, the JSON form, and the names."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordemu.lab.scenario import SCENARIOS, Scenario, ScenarioError, get_scenario, parse_plan
from coordemu.runtime.base import NS_PER_MS


@given(st.lists(st.integers(), min_size=2, max_size=6))
def test_a_plan_is_read(sizes: list[int]) -> None:
    assert parse_plan(":".join(map(str, sizes))) == tuple(sizes)


@pytest.mark.parametrize("text", ["", "12"])
def test_a_plan_needs_two_sizes(text: str) -> None:
    with pytest.raises(ScenarioError, match="at least one more, for example 12:0"):
        parse_plan(text)


@pytest.mark.parametrize("text", ["a:b", "12:", ":", "12:0.5", "12:0x1"])
def test_a_plan_is_of_whole_numbers(text: str) -> None:
    with pytest.raises(ScenarioError, match="sizes are whole numbers separated by colons"):
        parse_plan(text)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"workers": ()}, "at least one size"),
    ({"workers": (12, -1)}, "WORKERS -1 is below 0"),
    ({"workers": (17, 0)}, r"WORKERS 17 is above the limit of 16 \(--no-limits lifts upstream's limit\)"),
    ({"workers": (8193, 0), "no_limits": True}, "WORKERS 8193 is above the limit of 8192$"),
    ({"clients": 0}, r"clients 0 is not within 1\.\.10000"),
    ({"clients": 10_001}, "clients"),
    ({"in_flight": -1}, "in_flight"),
    ({"lock_share": 1.01}, "lock_share"),
    ({"lock_share": float("nan")}, "lock_share"),
    ({"io_threads": 0}, "io_threads"),
    ({"io_threads": 257}, r"io_threads 257 is not within 1\.\.256"),
    ({"conn_per_shard": -1}, "conn_per_shard"),
    ({"ping_interval_ms": 0}, "ping_interval_ms"),
    ({"watchdog_ms": 99}, "watchdog_ms"),
    ({"work_ms": -0.1}, "work_ms"),
    ({"load_ms": float("inf")}, "load_ms"),
    ({"open_ms": -1}, "open_ms"),
    ({"warm_ms": 3_600_001}, "warm_ms"),
    ({"pause_ms": -1}, "pause_ms"),
    ({"after_ms": -1}, "after_ms"),
    ({"settle_ms": -1}, "settle_ms"),
    ({"restart_after_ms": -1}, "restart_after_ms"),
    ({"protocol": 4}, "protocol 4 is neither 2 nor 3"),
    ({"latency": "soon"}, "latency: 'soon' is no duration"),
    ({"shards": "foo"}, "shards: 'foo' is none of"),
    ({"shards": "redis://h:99999"}, "port 99999"),
    ({"faults": "foo"}, "fault plan: 'foo' is none of"),
    ({"faults": "delay=1ms", "shards": "redis:3"}, "a fault plan needs embedded shards"),
    ({"kill_shard": -2}, r"kill_shard -2 is not within -1\.\.2"),
    ({"kill_shard": 3}, r"kill_shard 3 is not within -1\.\.2"),
    ({"kill_shard": 0, "shards": "redis://127.0.0.1:7001"}, "not ours to kill"),
]


@pytest.mark.parametrize(("changes", "says"), REFUSED, ids=[str(changes) for changes, _ in REFUSED])
def test_what_is_out_of_bounds(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ScenarioError, match=says) as refused:
        Scenario().override(**changes)
    assert "\n" not in str(refused.value)


ACCEPTED: list[dict[str, Any]] = [
    {"workers": (16, 0)},
    {"workers": (8192, 17), "no_limits": True},
    {"io_threads": 256},
    {"clients": 10_000},
    {"in_flight": 10_000},
    {"kill_shard": 2},
    {"kill_shard": 1, "shards": "redis:2"},
    {"faults": "delay=1ms,jitter=1ms"},
    {"faults": "none", "shards": "redis:3"},
    {"protocol": 3},
]


@pytest.mark.parametrize("changes", ACCEPTED, ids=str)
def test_what_is_within_bounds(changes: dict[str, Any]) -> None:
    scenario = Scenario().override(**changes)
    assert {name: getattr(scenario, name) for name in changes} == changes


def test_overriding_with_nothing_is_the_same_value() -> None:
    scenario = Scenario()
    assert scenario.override(clients=None, latency=None) is scenario
    assert scenario.override(clients=3) != scenario


@given(
    st.builds(
        Scenario,
        workers=st.lists(st.integers(0, 16), min_size=1, max_size=5).map(tuple),
        clients=st.integers(1, 10_000),
        latency=st.sampled_from(["0", "20ms", "1ms..2ms", "exp:3ms"]),
        lock_share=st.floats(0, 1),
        work_ms=st.floats(0, 3_600_000),
        seed=st.integers(),
        no_limits=st.booleans(),
    )
)
def test_the_json_form_is_read_back(scenario: Scenario) -> None:
    assert Scenario.from_json(json.loads(json.dumps(scenario.to_json()))) == scenario


def test_json_is_checked_like_everything_else() -> None:
    data = Scenario().to_json()
    with pytest.raises(ScenarioError, match="unknown scenario fields: colour, size"):
        Scenario.from_json({**data, "size": 1, "colour": 2})
    with pytest.raises(ScenarioError, match="clients"):
        Scenario.from_json({**data, "clients": 0})


def test_the_longest_query() -> None:
    scenario = Scenario(latency="10ms..30ms", work_ms=2.5, load_ms=1.5, open_ms=1.0)
    assert scenario.longest_query_ns == 35 * NS_PER_MS
    hours = Scenario(latency="3600s", work_ms=3_600_000, load_ms=3_600_000, open_ms=3_600_000)
    assert hours.longest_query_ns == 4 * 3_600_000 * NS_PER_MS


def test_names() -> None:
    assert {"mod-11658", "partial-shrink", "sawtooth", "slow-shard", "shard-killed"} <= set(SCENARIOS)
    for name, scenario in SCENARIOS.items():
        assert get_scenario(name) is scenario
        assert scenario.name == name
        assert scenario.summary
    incident = get_scenario("mod-11658")
    assert (incident.workers, incident.clients, incident.conn_per_shard) == ((12, 0), 12, 0)


@pytest.mark.parametrize(("name", "near"), [("mod-1165", "mod-11658"), ("SAWTOOTH", ""), ("nope", "")])
def test_the_nearest_name_is_suggested(name: str, near: str) -> None:
    with pytest.raises(ScenarioError, match=f"no scenario is called '{name}'; did you mean '{near}") as unknown:
        get_scenario(name)
    assert "see: coordemu scenarios" in str(unknown.value)
