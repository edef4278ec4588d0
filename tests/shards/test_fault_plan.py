"""FaultPlan: its text form there and back, its bounds, and when it holds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordemu.runtime.base import NS_PER_MS
from coordemu.shards.fault_plan import NO_FAULTS, FaultPlan
from coordemu.shards.shard_errors import ShardUrlError

durations = st.one_of(st.integers(0, 3_600_000), st.floats(0, 3_600_000, allow_nan=False))
counts = st.none() | st.integers(0, 10**9)


@st.composite
def plans(draw: st.DrawFn) -> FaultPlan:
    first, second = sorted((draw(durations), draw(durations)))
    return FaultPlan(
        delay_ms=draw(durations),
        jitter_ms=draw(durations),
        refuse=draw(st.sampled_from(("", "accept", "listen"))),
        close_after_n=draw(counts),
        silence_after_n=draw(counts),
        half_open=draw(st.booleans()),
        slow_bytes=draw(st.none() | st.tuples(st.integers(1, 10**6), durations)),
        from_ms=first,
        until_ms=second if first < second and draw(st.booleans()) else None,
    )


@given(plans())
def test_the_text_form_reads_back_to_the_same_plan(plan: FaultPlan) -> None:
    assert FaultPlan.parse(str(plan)) == plan


def test_the_text_form_as_it_is_documented() -> None:
    text = "delay=20ms,jitter=5ms,from=200ms,until=1000ms,"
    text += "refuse=listen,close=after:100,silence=after:50,half-open,slow=1B/5ms"
    plan = FaultPlan.parse(text)
    assert plan == FaultPlan(20, 5, "listen", 100, 50, True, (1, 5), 200, 1000)
    assert str(plan) == text
    assert FaultPlan.parse("delay=250us, from=1s , jitter=500000ns") == FaultPlan(0.25, 0.5, from_ms=1000)
    assert FaultPlan.parse("") == FaultPlan.parse("none") == NO_FAULTS
    assert str(NO_FAULTS) == "none"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("delay=20", "a number with ns, us, ms or s"),
        ("delay=-1ms", "a number with ns, us, ms or s"),
        ("delay", "a number with ns, us, ms or s"),
        ("delay=2h", "a number with ns, us, ms or s"),
        ("delay=3601s", "delay=3.601e+06ms is not within 0..3600000ms"),
        ("delay=1ms,delay=2ms", "delay is given twice"),
        ("close=100", "expected close=after:N"),
        ("silence=after:x", "expected silence=after:N"),
        ("refuse=never", "refuse=never is neither accept nor listen"),
        ("refuse", "'refuse' is none of"),
        ("half-open=1", "'half-open=1' is none of"),
        ("slow=5ms", "expected slow=BYTESB/INTERVAL"),
        ("slow=0B/5ms", "a piece has at least 1 byte"),
        ("from=2s,until=1s", "until=1000ms is not after from=2000ms"),
        ("explode", "'explode' is none of delay, jitter"),
        ("delay=1ms,,", "'' is none of"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(text: str, says: str) -> None:
    with pytest.raises(ShardUrlError) as caught:
        FaultPlan.parse(text)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"delay_ms": -1},
        {"jitter_ms": float("nan")},
        {"close_after_n": -1},
        {"slow_bytes": (1, -1)},
        {"refuse": "maybe"},
        {"until_ms": 0},
    ],
)
def test_bounds_hold_for_the_constructor_too(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="fault plan"):
        FaultPlan(**fields)


def test_a_plan_holds_in_its_span_only() -> None:
    plan = FaultPlan(delay_ms=1, from_ms=10, until_ms=20)
    at = [plan.at(ms * NS_PER_MS) for ms in (0, 9, 10, 19, 20, 1000)]
    assert at == [NO_FAULTS, NO_FAULTS, plan, plan, NO_FAULTS, NO_FAULTS]
    assert plan.next_change_ns(0) == 10 * NS_PER_MS
    assert plan.next_change_ns(10 * NS_PER_MS) == 10 * NS_PER_MS
    assert plan.next_change_ns(20 * NS_PER_MS) is None
    assert NO_FAULTS.next_change_ns(0) is None


@given(plans(), st.integers(0, 8_000_000 * NS_PER_MS))
def test_nothing_changes_before_the_next_change(plan: FaultPlan, elapsed_ns: int) -> None:
    change_ns = plan.next_change_ns(elapsed_ns)
    if change_ns is None:
        assert plan.at(elapsed_ns) == plan.at(elapsed_ns + 10**18)
    else:
        assert change_ns > 0
        assert plan.at(elapsed_ns) == plan.at(elapsed_ns + change_ns - 1)


def test_emptiness_is_about_faults_not_about_spans() -> None:
    assert NO_FAULTS.is_empty
    assert FaultPlan(from_ms=5, until_ms=9).is_empty
    assert not FaultPlan(close_after_n=0).is_empty
    assert not FaultPlan(half_open=True).is_empty
