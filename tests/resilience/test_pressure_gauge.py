"""The gauge: its two marks and its shortest time, at the edges and over any sequence of looks."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordemu.resilience.pressure_gauge import PressureGauge, PressureLevel, PressureOptions, pressure_of
from coordemu.runtime.base import NS_PER_MS

CALM, PRESSED = PressureLevel.CALM, PressureLevel.PRESSED
MARKS = PressureOptions(enter=0.8, leave=0.7, min_ms=0)


def gauge(options: PressureOptions = MARKS) -> PressureGauge:
    return PressureGauge(options, 0)


@pytest.mark.parametrize(
    ("size", "held", "pressed"),
    [
        (5, 4, False), (5, 5, True), (10, 8, False), (10, 9, True), (20, 16, False), (20, 17, True), (50, 40, False),
        (50, 41, True), (1, 0, False), (1, 1, True), (0, 0, False),
    ],
)  # fmt: skip
def test_pressure_is_when_under_a_fifth_is_free(size: int, held: int, pressed: bool) -> None:
    each = gauge()
    assert each.show(1, pressure_of(held, size)) is pressed
    assert each.level is (PRESSED if pressed else CALM)


def test_it_ends_only_below_the_other_mark() -> None:
    each = gauge()
    assert each.show(1, 1.0)
    for held in (16, 15, 14, 14, 16):
        assert not each.show(2, pressure_of(held, 20))
    assert each.level is PRESSED
    assert each.show(3, pressure_of(13, 20))
    assert each.level is CALM
    for held in (14, 15, 16):
        assert not each.show(4, pressure_of(held, 20))
    assert each.switches == 2


def test_it_lasts_for_its_shortest_time() -> None:
    each = gauge(PressureOptions(min_ms=10))
    each.show(5, 1.0)
    assert not each.show(5 + 10 * NS_PER_MS - 1, 0.0)
    assert each.show(5 + 10 * NS_PER_MS, 0.0)
    assert each.pressed_ns == 10 * NS_PER_MS
    assert each.in_level_ns == 0


def test_a_clock_that_goes_back_takes_no_time() -> None:
    each = gauge(PressureOptions(min_ms=10))
    each.show(10**15, 1.0)
    assert not each.show(0, 0.0)
    assert not each.show(9 * NS_PER_MS, 0.0)
    assert each.show(10 * NS_PER_MS, 0.0)
    assert each.pressed_ns == 10 * NS_PER_MS


@pytest.mark.parametrize(
    "bad",
    [
        {"enter": 1.1}, {"leave": 0}, {"enter": 0.5, "leave": 0.6}, {"min_ms": -1}, {"look_ms": -1},
        {"enter": float("nan")}, {"leave": float("nan")},
    ],
)  # fmt: skip
def test_bounds(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"below 0|marks of pressure"):
        PressureOptions(**bad)


marks = st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted)
steps = st.lists(st.tuples(st.integers(-5, 50), st.floats(0, 1)), max_size=60)


@settings(deadline=None)
@given(marks, st.integers(0, 40), st.lists(st.tuples(st.integers(-5, 50), st.floats(0, 1))), st.booleans())
def test_within_the_band_nothing_ever_changes(low_high, min_ms, looks, pressed) -> None:
    leave, enter = low_high
    each = gauge(PressureOptions(enter, leave, min_ms))
    if pressed and enter < 1:
        each.show(0, 1.0)
    before, now_ns = each.level, 0
    for passed_ms, share in looks:
        now_ns += passed_ms * NS_PER_MS
        assert not each.show(now_ns, min(enter, max(leave, leave + share * (enter - leave))))
    assert each.level is before


@settings(deadline=None)
@given(marks, st.integers(0, 40), steps)
def test_two_changes_have_both_marks_and_the_time_between_them(low_high, min_ms, looks) -> None:
    leave, enter = low_high
    each = gauge(PressureOptions(enter, leave, min_ms))
    now_ns = passed_ns = 0
    changes: list[tuple[PressureLevel, int, float]] = []
    for passed_ms, pressure in looks:
        now_ns += passed_ms * NS_PER_MS
        passed_ns += max(0, passed_ms) * NS_PER_MS
        if each.show(now_ns, pressure):
            changes.append((each.level, passed_ns, pressure))
    for number, (level, at_ns, pressure) in enumerate(changes):
        assert level is (CALM if number % 2 else PRESSED)
        if level is PRESSED:
            assert pressure > enter
        else:
            assert pressure < leave
            assert at_ns - changes[number - 1][1] >= min_ms * NS_PER_MS
    lasted = [(changes[i + 1][1] if i + 1 < len(changes) else passed_ns) - changes[i][1] for i in range(len(changes))]
    assert each.pressed_ns == sum(lasted[::2])
    assert each.switches == len(changes)
