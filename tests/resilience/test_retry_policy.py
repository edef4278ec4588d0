"""The delays as functions: bounds of every rule, and tenacity as an oracle where its rules are the same."""

from __future__ import annotations

import random
from typing import Any
from unittest import mock

import pytest
import tenacity
from hypothesis import given
from hypothesis import strategies as st

from coordemu.resilience.retry_policy import JITTERS, RetryOptions, backoff_ns, ceiling_ns, with_suggestion
from coordemu.runtime.base import NS_PER_MS, NS_PER_S

attempts = st.integers(1, 2000)
seeds = st.integers(0, 2**32)


@st.composite
def options(draw: Any, jitter: str | None = None) -> RetryOptions:
    base_ms = draw(st.integers(0, 60_000))
    return RetryOptions(
        attempts=draw(st.integers(1, 50)),
        base_ms=base_ms,
        factor=draw(st.sampled_from([1.0, 1.5, 2.0, 3.0, 10.0, 1e300])),
        max_ms=base_ms + draw(st.integers(0, 600_000)),
        jitter=jitter or draw(st.sampled_from(JITTERS)),
    )


@given(options(), attempts, st.integers(0, 10**12), seeds)
def test_every_back_off_is_within_its_bounds(chosen: RetryOptions, attempt: int, previous: int, seed: int) -> None:
    delay_ns = backoff_ns(chosen, attempt, previous, random.Random(seed))
    top_ns = ceiling_ns(chosen, attempt)
    base_ns, max_ns = chosen.base_ms * NS_PER_MS, chosen.max_ms * NS_PER_MS
    assert isinstance(delay_ns, int)
    assert 0 <= delay_ns <= max_ns
    if chosen.jitter == "none":
        assert delay_ns == top_ns
    elif chosen.jitter == "full":
        assert delay_ns <= top_ns
    elif chosen.jitter == "equal":
        assert top_ns // 2 <= delay_ns <= top_ns
    else:
        assert base_ns <= delay_ns <= max(base_ns, 3 * previous, 3 * base_ns)


@given(options(), attempts)
def test_the_ceiling_grows_from_base_to_max(chosen: RetryOptions, attempt: int) -> None:
    assert ceiling_ns(chosen, 1) == chosen.base_ms * NS_PER_MS
    assert ceiling_ns(chosen, attempt) <= ceiling_ns(chosen, attempt + 1) <= chosen.max_ms * NS_PER_MS
    if chosen.base_ms and chosen.factor >= 1.5:
        assert ceiling_ns(chosen, 2000) == chosen.max_ms * NS_PER_MS


class HighOrLow:
    """Chance at one of its ends."""

    def __init__(self, high: bool) -> None:
        self.high = high

    def uniform(self, a: float, b: float) -> float:
        return b if self.high else a


def test_the_ends_of_each_jitter_are_reached() -> None:
    ends = {}
    for jitter in JITTERS:
        chosen = RetryOptions(base_ms=100, factor=2, max_ms=1000, jitter=jitter)
        ends[jitter] = [
            [backoff_ns(chosen, attempt, 200 * NS_PER_MS, HighOrLow(high)) // NS_PER_MS for attempt in (1, 3, 9)]
            for high in (False, True)
        ]
    assert ends == {
        "none": [[100, 400, 1000], [100, 400, 1000]],
        "full": [[0, 0, 0], [100, 400, 1000]],
        "equal": [[50, 200, 500], [100, 400, 1000]],
        "decorrelated": [[100, 100, 100], [600, 600, 600]],
    }


def test_decorrelated_grows_by_what_it_was_and_never_beyond_max() -> None:
    chosen = RetryOptions(base_ms=100, max_ms=5_000, jitter="decorrelated")
    delays, previous = [], 0
    for attempt in range(1, 7):
        previous = backoff_ns(chosen, attempt, previous, HighOrLow(True))
        delays.append(previous // NS_PER_MS)
    assert delays == [300, 900, 2700, 5000, 5000, 5000]


# Of no delay tenacity makes the highest one, from about the thousandth doubling on, where the power overflows.
def has_delay(chosen: RetryOptions) -> bool:
    return chosen.base_ms > 0


def state_of(attempt: int) -> tenacity.RetryCallState:
    state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    state.attempt_number = attempt
    return state


def near(delay_ns: int, seconds: float) -> bool:
    return abs(delay_ns - seconds * NS_PER_S) <= 1 + seconds


@given(options("none").filter(has_delay), st.integers(1, 900))
def test_without_jitter_it_is_wait_exponential(chosen: RetryOptions, attempt: int) -> None:
    oracle = tenacity.wait_exponential(chosen.base_ms / 1000, chosen.max_ms / 1000, chosen.factor)
    assert near(backoff_ns(chosen, attempt, 0, random.Random()), oracle(state_of(attempt)))


@given(options("full").filter(has_delay), st.integers(1, 900), seeds)
def test_full_jitter_is_wait_random_exponential_draw_for_draw(chosen: RetryOptions, attempt: int, seed: int) -> None:
    oracle = tenacity.wait_random_exponential(chosen.base_ms / 1000, chosen.max_ms / 1000, chosen.factor)
    with mock.patch("tenacity.wait.random", random.Random(seed)):
        seconds = oracle(state_of(attempt))
    assert near(backoff_ns(chosen, attempt, 0, random.Random(seed)), seconds)


@given(options(), st.integers(0, 10**11), st.integers(0, 10**12), st.booleans(), seeds)
def test_nobody_comes_before_what_was_said(
    chosen: RetryOptions, backoff: int, suggested: int, told: bool, seed: int
) -> None:
    delay_ns = with_suggestion(chosen, backoff, suggested, told, random.Random(seed))
    spread_ns = 0 if chosen.jitter == "none" else chosen.base_ms * NS_PER_MS
    assert delay_ns >= suggested
    if not suggested:
        assert delay_ns == backoff
    elif told:
        assert delay_ns <= suggested + spread_ns
    else:
        assert min(backoff, suggested) <= delay_ns <= max(backoff, suggested + spread_ns)


def test_told_wins_in_either_direction_and_suggested_is_a_floor() -> None:
    chosen = RetryOptions(jitter="none")
    chance = random.Random(1)
    assert with_suggestion(chosen, 5_000, 1_000, True, chance) == 1_000
    assert with_suggestion(chosen, 5_000, 9_000, True, chance) == 9_000
    assert with_suggestion(chosen, 5_000, 1_000, False, chance) == 5_000
    assert with_suggestion(chosen, 5_000, 9_000, False, chance) == 9_000


@pytest.mark.parametrize(
    "bad",
    [
        {"attempts": 0}, {"total_ms": -1}, {"base_ms": -1}, {"max_ms": 99}, {"factor": 0.5}, {"factor": float("nan")},
        {"factor": float("inf")}, {"jitter": "some"}, {"total_ms": 10**12}, {"base_ms": 1, "max_ms": 10**12},
    ],
)  # fmt: skip
def test_bounds(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad)) if len(bad) == 1 else "max_ms"):
        RetryOptions(**bad)
