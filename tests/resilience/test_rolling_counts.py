"""Growth of counters over a window, beside a list of everything that was shown."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordemu.resilience.rolling_counts import MOMENTS, RollingCounts


def test_what_was_shown_first_is_where_growth_begins() -> None:
    counts = RollingCounts(100)
    assert counts.growth() == ()
    counts.show(0, (1_000, 7))
    assert counts.growth() == (0, 0)
    counts.show(1, (1_003, 8))
    assert counts.growth() == (3, 1)


def test_what_is_a_window_ago_no_longer_counts() -> None:
    counts = RollingCounts(100)
    counts.show(0, (0,))
    counts.show(50, (5,))
    counts.show(149, (6,))
    assert counts.growth() == (6,)
    counts.show(150, (6,))
    assert counts.growth() == (1,)
    counts.show(1_000, (6,))
    assert counts.growth() == (0,)


def test_a_counter_that_was_started_anew_has_grown_by_all_it_shows() -> None:
    counts = RollingCounts(100)
    counts.show(0, (10, 10))
    counts.show(1, (3, 11))
    assert counts.growth() == (3, 1)


def test_it_keeps_so_many_moments_and_no_more() -> None:
    counts = RollingCounts(6_000)
    for at_ns in range(0, 20_000, 3):
        counts.show(at_ns, (at_ns,))
        assert len(counts) <= MOMENTS + 2
    assert 6_000 <= counts.growth()[0] <= 6_000 + 6_000 // MOMENTS + 3


def test_bounds() -> None:
    with pytest.raises(ValueError, match="window_ns 0"):
        RollingCounts(0)
    assert repr(RollingCounts(10**9)) == "<RollingCounts () in 1 s, 0 moments>"


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 400), st.integers(0, 50), st.integers(0, 50)), max_size=60))
def test_as_a_list_of_everything_has_it(steps: list[tuple[int, int, int]]) -> None:
    """Moments at least a sixtieth of the window apart: the window is exact."""
    counts, at_ns, totals = RollingCounts(MOMENTS), 0, (0, 0)
    counts.show(0, totals)
    shown = [(0, totals)]
    for passed, *more in steps:
        at_ns += passed
        totals = (totals[0] + more[0], totals[1] + more[1])
        shown.append((at_ns, totals))
        counts.show(at_ns, totals)
        past = [each for when, each in shown if when <= at_ns - MOMENTS]
        base = past[-1] if past else (0, 0)
        assert counts.growth() == (totals[0] - base[0], totals[1] - base[1])
