"""OrderScenario: what it refuses, what follows from it, and that every smaller one is a scenario too."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from coordemu.lab.order_scenario import ORDER_SCENARIOS, OrderScenario, get_order_scenario
from coordemu.lab.scenario import SCENARIOS, Scenario, ScenarioError


@pytest.mark.parametrize("name", ORDER_SCENARIOS)
def test_each_named_one_is_a_value_that_survives_json_and_pickle(name: str) -> None:
    scenario = get_order_scenario(name)
    assert scenario.name == name
    assert scenario.summary.endswith(".")
    assert OrderScenario.from_json(json.loads(json.dumps(scenario.to_json()))) == scenario
    assert pickle.loads(pickle.dumps(scenario)) == scenario
    assert hash(scenario) == hash(get_order_scenario(name))


@pytest.mark.parametrize("name", ORDER_SCENARIOS)
def test_smaller_ones_are_different_and_come_to_an_end(name: str) -> None:
    scenario = get_order_scenario(name)
    seen = {scenario}
    steps = 0
    while found := [each for each in scenario.smaller() if each not in seen]:
        assert scenario not in scenario.smaller()
        scenario = found[0]
        seen.add(scenario)
        steps += 1
        assert steps < 60
    assert max(scenario.workers) <= 1 or name == "conn-per-shard"
    assert scenario.clients <= 1
    assert scenario.pings == scenario.late_queries == 0


def test_the_smallest_comes_first_and_keeps_the_shape() -> None:
    found = get_order_scenario("sawtooth").smaller()
    assert found[0].workers == (1, 1, 1, 1, 1)
    assert found[2].workers == (1, 2, 1, 2, 1)
    assert [verb for verb, _ in found[0].events] == [verb for verb, _ in get_order_scenario("sawtooth").events]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"workers": ()}, "at least one size"),
        ({"workers": (12, 17)}, "WORKERS 17 is not within 0..16"),
        ({"clients": 65}, "clients 65 is not within 0..64"),
        ({"nodes": 0}, "nodes 0"),
        ({"latency": "20"}, "latency: '20' is no duration"),
        ({"hop": "x"}, "hop: 'x' is no duration"),
        ({"moment": "never"}, "moment 'never' is none of start, flight, any"),
        ({"protocol": 4}, "protocol 4"),
        ({"events": (("workers", 3),)}, r"the events set WORKERS to \[3\], but the plan is \[12, 0\]"),
        ({"events": (("jump", 3), ("workers", 0))}, "event 'jump' is none of"),
        ({"events": (("pause", -1), ("workers", 0))}, "event 'pause' takes no -1"),
        ({"events": (("kill", 0.5), ("workers", 0))}, "event 'kill' takes no 0.5"),
        ({"events": (("kill", 1), ("workers", 0))}, "no shard 1 to kill"),
        ({"events": (("topology", "+2"), ("workers", 0))}, "topology '\\+2' is none of"),
        ({"events": (("topology", "-1"), ("workers", 0))}, "the last node can't be taken away"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ScenarioError, match=said) as caught:
        OrderScenario(**fields)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [{"colour": 1}, {"workers": 3}, {"events": [1]}, {"clients": "many"}])
def test_json_of_something_else_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(ScenarioError):
        OrderScenario.from_json(data)


def test_an_unknown_name_is_told_the_nearest() -> None:
    with pytest.raises(ScenarioError, match="did you mean 'mod-11658'"):
        get_order_scenario("mod-1165")


def test_a_new_plan_of_workers_keeps_the_other_events() -> None:
    scenario = get_order_scenario("topology-in-drain").override(workers=(4, 2, 3), clients=None)
    assert scenario.workers == (4, 2, 3)
    assert [verb for verb, _ in scenario.events] == ["workers", "within", "topology", "workers"]
    assert scenario.override() is scenario


def test_what_follows_from_the_events() -> None:
    assert get_order_scenario("topology-grows-in-drain").shards == 2
    assert get_order_scenario("topology-in-drain").shards == 2
    assert get_order_scenario("node-lost-in-drain").killed == {1}
    assert get_order_scenario("there-and-back").commands == 2


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_of_the_real_thing_has_a_lean_form(name: str) -> None:
    scenario = SCENARIOS[name]
    lean = OrderScenario.from_scenario(scenario)
    assert (lean.workers, lean.clients, lean.nodes) == (scenario.workers, scenario.clients, 3)
    assert get_order_scenario(name) == ORDER_SCENARIOS.get(name, lean)
    assert ("kill", 0) in lean.events or scenario.kill_shard < 0


def test_real_servers_have_none() -> None:
    with pytest.raises(ScenarioError, match="the simulator has embedded shards"):
        OrderScenario.from_scenario(Scenario(shards="redis:3"))
