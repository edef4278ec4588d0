"""Subjects from descriptions: there and back, and one line for what can't be made."""

from __future__ import annotations

import json
from typing import Any

import pytest

from coordemu.coord.resize_policy import get_policy
from coordemu.explore.order import OrderPlan, play
from coordemu.lab.order_run import CoordinatorSubject
from coordemu.lab.order_scenario import get_order_scenario
from coordemu.lab.subjects import ORDER_SCENARIOS, subject_from
from coordemu.runtime.sim_schedule import ScheduleError


def test_a_description_makes_the_same_subject_again() -> None:
    policy = get_policy("upstream-7410").override(stop="fail")
    subject = CoordinatorSubject(ORDER_SCENARIOS["small"], policy, ("sync-reduce",))
    again = subject_from(json.loads(json.dumps(subject.describe())))
    assert again.name == subject.name
    assert again.describe() == subject.describe()
    plan = OrderPlan("random", 3)
    assert play(again, plan).schedule == play(subject, plan).schedule


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "program", "name": "test_me"}, "the program 'test_me': only its test can play it"),
        ({"kind": "pytest", "name": "test_it.py::test_me"}, "pytest test_it.py::test_me --coordemu-replay=FILE"),
        ({"kind": "cake"}, "kind 'cake', which is none of"),
        ({"scenario": None}, "the subject can't be made"),
        ({"scenario": {"workers": [99]}}, "WORKERS 99 is not within"),
        ({"policy": {}}, "has no 'order'"),
        ({"policy": {"name": "x", "order": ["fly"]}}, "step 'fly' is none of"),
        ({"faults": ["gremlins"]}, "no historical fault is called 'gremlins'"),
    ],
)
def test_what_can_not_be_made_is_said_in_one_line(change: dict[str, Any], said: str) -> None:
    description = CoordinatorSubject(get_order_scenario("small"), get_policy("upstream-7410")).describe()
    with pytest.raises(ScheduleError, match=said) as caught:
        subject_from({**description, **change})
    assert "\n" not in str(caught.value)


def test_a_missing_part_is_named() -> None:
    with pytest.raises(ScheduleError, match="has no 'scenario'"):
        subject_from({"kind": "coordinator", "policy": get_policy("upstream-7410").to_json()})
    with pytest.raises(ScheduleError, match="kind None"):
        subject_from({})
