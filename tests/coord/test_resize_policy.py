"""Policies as values: those with names, what overrides do, and every value that is refused."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, fields, replace
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordemu.coord.resize_policy import (
    ADMISSION_MODES,
    MAIN_MODES,
    OVERLAP_MODES,
    POLICIES,
    REDUCE_MODES,
    STEPS,
    ResizePolicy,
    UnknownPolicy,
    get_policy,
)
from coordemu.coord.shrink_plan import AT_DEADLINE, DRAIN_MODES, STAY_MODES, STOP_MODES, ShrinkPlan

# The fields in which each named policy differs from `ResizePolicy(name)`: the histories of the incident in short.
DIFFERENCES: dict[str, dict[str, Any]] = {
    "writeup-before": {"reduce": "handoff", "stop": "drop", "main_mode": "block"},
    "writeup-fix": {
        "reduce": "sync",
        "stop": "drop",
        "drain": "yield",
        "admission": "pause",
        "order": ("pause", "drain", "shrink", "reduce", "resume"),
        "main_mode": "block",
    },
    "writeup-fix-pool-pause": {
        "stop": "drop",
        "drain": "yield",
        "order": ("pause-pool", "drain", "shrink", "reduce", "resume"),
        "main_mode": "block",
    },
    "shrink-drain-literal": {"stop": "drop", "drain": "block-loop"},
    "shrink-drain-timer": {"stop": "drop", "drain": "timer"},
    "shrink-drain-event": {"stop": "drop", "drain": "event"},
    "wait-workers-first": {"stop": "drop", "order": ("reduce", "wait-workers", "shrink"), "main_mode": "block"},
    "delay-trigger": {"stop": "drop", "trigger_delay_ms": 10},
    "upstream-before": {"reduce": "sync"},
    "upstream-7193": {"overlap": "refuse"},
    "upstream-7194": {"reduce": "sync-unlocked"},
    "upstream-7410": {},
    "coordemu-safe": {"reduce": "by-number", "drain": "event", "stay": "connected"},
}


@pytest.mark.parametrize("name", POLICIES)
def test_each_named_policy(name: str) -> None:
    policy = get_policy(name)
    texts = {"summary": policy.summary, "source": policy.source, "expected": policy.expected}
    assert policy == ResizePolicy(name, **texts, **DIFFERENCES[name])
    assert len(policy.summary.split()) > 10
    assert "  " not in policy.summary
    assert policy.source
    assert policy.expected in ("healthy", "degraded", "unresponsive", "deadlocked", "lost", "refused")


def test_the_names() -> None:
    assert list(POLICIES) == list(DIFFERENCES)
    assert all(name == policy.name for name, policy in POLICIES.items())


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("upstream-7411", "upstream-7410"),
        ("writeup-fixed", "writeup-fix"),
        ("shrink-drain-evnt", "shrink-drain-event"),
        ("delay", "delay-trigger"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(wrong: str, near: str) -> None:
    with pytest.raises(UnknownPolicy, match=rf"^no policy is called '{wrong}'; did you mean '{near}'\?"):
        get_policy(wrong)


@given(st.text(max_size=30).filter(lambda name: name not in POLICIES))
def test_however_far_a_name_is_suggested(name: str) -> None:
    with pytest.raises(UnknownPolicy) as err:
        get_policy(name)
    said = str(err.value)
    assert said.startswith(f"no policy is called {name!r}; did you mean ")
    assert any(said.endswith(f"{known!r}? (see: coordemu policies)") for known in POLICIES)


# ---- overrides


def test_an_override_says_in_the_name_what_was_changed_and_expects_nothing() -> None:
    policy = get_policy("upstream-7410").override(stop="drop", drain="timer", drain_poll_ms=5)
    assert policy.name == "upstream-7410[drain=timer,drain_poll_ms=5,stop=drop]"
    assert (policy.stop, policy.drain, policy.drain_poll_ms, policy.expected) == ("drop", "timer", 5, "")
    assert policy.summary == get_policy("upstream-7410").summary


def test_an_order_is_written_with_arrows() -> None:
    policy = get_policy("upstream-7410").override(order=("shrink", "reduce"))
    assert policy.name == "upstream-7410[order=shrink>reduce]"


def test_what_changes_nothing_is_no_override() -> None:
    policy = get_policy("writeup-fix")
    assert policy.override() is policy
    assert policy.override(stop=None, drain="yield", drain_timeout_ms=5000, order=policy.order) is policy


def test_a_name_of_its_own() -> None:
    policy = get_policy("upstream-7410").override(name="mine", stop="fail")
    assert (policy.name, policy.stop, policy.expected) == ("mine", "fail", "")


def test_overrides_are_checked() -> None:
    policy = get_policy("upstream-7410")
    with pytest.raises(TypeError, match="has no field 'stopp'"):
        policy.override(stopp="drop")
    with pytest.raises(ValueError, match="stop 'halt' is none of graceful, fail, drop"):
        policy.override(stop="halt")


# ---- what is refused


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("reduce", "later", "reduce 'later' is none of sync, sync-unlocked, async, by-number, handoff"),
        ("stop", "halt", "stop 'halt' is none of graceful, fail, drop"),
        ("drain", "poll", "drain 'poll' is none of none, block-loop, timer, yield, event"),
        ("admission", "closed", "admission 'closed' is none of open, pause, reject"),
        ("stay", "last", "stay 'last' is none of first, connected"),
        ("at_deadline", "wait", "at_deadline 'wait' is none of force, keep, raise"),
        ("overlap", "queue", "overlap 'queue' is none of supersede, refuse"),
        ("main_mode", "Block", "main_mode 'Block' is none of block, async"),
        ("order", ("reduce", "shrink", "nap"), "order: step 'nap' is none of pause, pause-pool, drain,"),
        ("order", ("reduce",), "order: step 'shrink' is missing"),
        ("order", ("shrink",), "order: step 'reduce' is missing"),
        ("order", (), "order: step 'reduce' is missing"),
        ("order", ("reduce", "shrink", "reduce"), "order: a step stands twice"),
        ("order", ("wait-workers", "reduce", "shrink"), "order: 'reduce' must stand before 'wait-workers'"),
        ("order", ("shrink", "drain", "reduce"), "order: 'drain' must stand before 'shrink'"),
        (
            "order",
            ("reduce", "pause-pool", "wait-workers", "shrink"),
            "order: 'wait-workers' must stand before 'pause-pool'",
        ),
        ("trigger_delay_ms", -1, "trigger_delay_ms -1 is below 0"),
        ("drain_timeout_ms", -1, "drain_timeout_ms -1 is below 0"),
        ("drain_poll_ms", 0, "drain_poll_ms 0 is below 1"),
    ],
)
def test_every_illegal_value(field: str, value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ResizePolicy("x", **{field: value})
    with pytest.raises(ValueError, match=said):
        get_policy("writeup-before").override(**{field: value})


def test_what_main_does_in_the_command_can_not_be_put_off() -> None:
    with pytest.raises(ValueError, match="trigger_delay_ms: with drain 'yield'"):
        ResizePolicy("x", drain="yield", trigger_delay_ms=1)
    with pytest.raises(ValueError, match="trigger_delay_ms: with drain 'yield'"):
        get_policy("delay-trigger").override(drain="yield")
    assert ResizePolicy("x", drain="yield", trigger_delay_ms=0).trigger_delay_ms == 0


def test_it_can_not_be_changed() -> None:
    policy: Any = get_policy("upstream-7410")
    with pytest.raises(FrozenInstanceError):
        policy.stop = "drop"


# ---- as values


orders = st.sampled_from([
    order
    for length in range(2, len(STEPS) + 1)
    for order in permutations(STEPS, length)
    if {"reduce", "shrink"} <= set(order)
])  # fmt: skip
policies = st.fixed_dictionaries({
    "reduce": st.sampled_from(REDUCE_MODES),
    "stop": st.sampled_from(STOP_MODES),
    "drain": st.sampled_from(DRAIN_MODES),
    "admission": st.sampled_from(ADMISSION_MODES),
    "overlap": st.sampled_from(OVERLAP_MODES),
    "main_mode": st.sampled_from(MAIN_MODES),
    "at_deadline": st.sampled_from(AT_DEADLINE),
    "stay": st.sampled_from(STAY_MODES),
    "drain_timeout_ms": st.integers(0, 10**6),
    "drain_poll_ms": st.integers(1, 10**6),
})  # fmt: skip


@given(policies)
def test_every_combination_of_the_words_is_a_policy_and_survives_json(words: dict[str, Any]) -> None:
    policy = ResizePolicy("x", **words)
    data = json.loads(json.dumps(policy.to_json()))
    assert set(data) == {field.name for field in fields(ResizePolicy)}
    assert ResizePolicy(**{**data, "order": tuple(data["order"])}) == policy
    plan = policy.shrink_plan()
    assert plan == ShrinkPlan(
        words["stop"],
        words["drain"],
        words["drain_timeout_ms"],
        words["drain_poll_ms"],
        words["at_deadline"],
        words["stay"],
    )


@given(orders)
def test_an_order_is_accepted_or_the_rule_that_it_breaks_is_named(order: tuple[str, ...]) -> None:
    def before(first: str, second: str) -> bool:
        return not {first, second} <= set(order) or order.index(first) < order.index(second)

    can_end = before("reduce", "wait-workers") and before("wait-workers", "pause-pool") and before("drain", "shrink")
    said = ""
    try:
        replace(get_policy("upstream-7410"), order=order)
    except ValueError as err:
        said = str(err)
    assert bool(said) is not can_end
    assert can_end or "must stand before" in said
