"""The I/O thread's part of a policy: what it takes, what it refuses."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, asdict
from itertools import product
from typing import Any

import pytest

from coordemu.coord.shrink_plan import AT_DEADLINE, DRAIN_MODES, STOP_MODES, ShrinkPlan


def test_as_it_stands_it_is_upstream_today() -> None:
    assert asdict(ShrinkPlan()) == {
        "stop": "graceful",
        "drain": "none",
        "drain_timeout_ms": 5000,
        "drain_poll_ms": 10,
        "at_deadline": "force",
        "stay": "first",
    }


def test_every_combination_of_the_words_is_a_plan() -> None:
    plans = {ShrinkPlan(*words[:2], at_deadline=words[2]) for words in product(STOP_MODES, DRAIN_MODES, AT_DEADLINE)}
    assert len(plans) == len(STOP_MODES) * len(DRAIN_MODES) * len(AT_DEADLINE) == 45


def test_the_smallest_numbers() -> None:
    plan = ShrinkPlan(drain_timeout_ms=0, drain_poll_ms=1)
    assert (plan.drain_timeout_ms, plan.drain_poll_ms) == (0, 1)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("stop", "Graceful", "stop 'Graceful' is none of graceful, fail, drop"),
        ("stop", "", "stop '' is none of"),
        ("drain", "poll", "drain 'poll' is none of none, block-loop, timer, yield, event"),
        ("at_deadline", "wait", "at_deadline 'wait' is none of force, keep, raise"),
        ("stay", "last", "stay 'last' is none of first, connected"),
        ("drain_timeout_ms", -1, "drain_timeout_ms -1 is below 0"),
        ("drain_poll_ms", 0, "drain_poll_ms 0 is below 1"),
    ],
)
def test_what_it_refuses(field: str, value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ShrinkPlan(**{field: value})


def test_it_can_not_be_changed() -> None:
    plan: Any = ShrinkPlan()
    with pytest.raises(FrozenInstanceError):
        plan.stop = "drop"
