"""pybreaker as an oracle, where its rules are the same: failures in a row, reset time, success threshold."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from unittest.mock import patch

import pybreaker
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordemu.resilience.circuit_breaker import BreakerOpen, BreakerOptions, CircuitBreaker
from coordemu.runtime.base import NS_PER_S
from coordemu.runtime.sim import SimRuntime

STATES = {"closed": "CLOSED", "open": "OPEN", "half-open": "HALF_OPEN"}
STEPS = st.lists(st.one_of(st.sampled_from(["ok", "ok", "fail", "fail", "fail"]), st.integers(1, 12)), max_size=60)


class Trouble(Exception):
    """What the call raises."""


def fail() -> None:
    raise Trouble


def outcome(call: Callable[[Callable[[], None]], object], what: str, refusal: type[Exception]) -> str:
    try:
        call(fail if what == "fail" else lambda: None)
    except Trouble:
        return "failed"
    except refusal:
        return "refused"
    return "done"


@given(st.integers(1, 4), st.integers(1, 20), st.integers(1, 3), STEPS)
@settings(max_examples=200, deadline=None)
def test_the_same_calls_have_the_same_ends(fail_max: int, reset_s: int, successes: int, steps: list[str | int]) -> None:
    sim = SimRuntime()
    began = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)

    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return began + datetime.timedelta(microseconds=sim.now_ns() // 1000)

    with patch.object(pybreaker, "datetime", Clock):
        theirs = pybreaker.CircuitBreaker(
            fail_max=fail_max, reset_timeout=reset_s, success_threshold=successes, throw_new_error_on_trip=False
        )
        ours = CircuitBreaker(
            sim, BreakerOptions(failures_in_row=fail_max, open_ms=reset_s * 1000, half_open_successes=successes)
        )
        for step in steps:
            if isinstance(step, int):
                sim.core.clock.now_ns += step * NS_PER_S
                continue
            expected = outcome(theirs.call, step, pybreaker.CircuitBreakerError)
            assert outcome(ours.call, step, BreakerOpen) == expected
            assert ours.state.value == STATES[theirs.current_state]
            if ours.state.value == "CLOSED":
                assert ours.statistics()["failures_in_row"] == theirs.fail_counter


def test_where_they_differ(sim) -> None:
    """An error that does not count: there it is a success and forgets the failures, here it says nothing."""
    theirs = pybreaker.CircuitBreaker(fail_max=2, exclude=[KeyError], throw_new_error_on_trip=False)
    ours = CircuitBreaker(
        sim, BreakerOptions(failures_in_row=2), is_failure=lambda error: not isinstance(error, KeyError)
    )

    def unknown_key() -> None:
        raise KeyError

    for breaker in (theirs, ours):
        for function, error in ((fail, Trouble), (unknown_key, KeyError), (fail, Trouble)):
            with pytest.raises(error):
                breaker.call(function)
    assert theirs.current_state == "closed"
    assert ours.state.value == "OPEN"
