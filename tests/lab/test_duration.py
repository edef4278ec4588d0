"""Durations and distributions: what is read back, what is refused, what can be drawn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordemu.lab.duration import MAX_NS, Latency, format_duration, parse_duration
from coordemu.runtime.base import NS_PER_MS, NS_PER_S
from coordemu.runtime.runtime_base import Chance

durations = st.integers(0, MAX_NS)
UNITS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}


@given(durations)
def test_what_is_written_is_read_back(ns: int) -> None:
    assert parse_duration(format_duration(ns)) == ns


@given(st.integers(0, 3600), st.sampled_from(sorted(UNITS)), st.sampled_from(["", " ", "\t"]))
def test_a_number_and_its_unit(number: int, unit: str, space: str) -> None:
    assert parse_duration(f"{space}{number}{unit}{space}") == number * UNITS[unit]


@pytest.mark.parametrize(
    ("text", "ns"), [("0", 0), ("0.0", 0), ("1.5s", 1_500_000_000), ("0.25ms", 250_000), ("3600s", 3600 * NS_PER_S)]
)
def test_examples(text: str, ns: int) -> None:
    assert parse_duration(text) == ns


@pytest.mark.parametrize("text", ["", "5", "ms", "-5ms", "5 ms", "5m", "1e3ms", ".5s", "5.ms", "nan", "20msx", "2ms 3"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration; write for example 20ms"):
        parse_duration(text)


def test_an_hour_is_the_longest() -> None:
    with pytest.raises(ValueError, match=r"'3600\.1s' is longer than an hour"):
        parse_duration("3600.1s")


@pytest.mark.parametrize(
    ("ns", "text"), [(0, "0"), (20 * NS_PER_MS, "20ms"), (1_500_000, "1500us"), (60 * NS_PER_S, "60s"), (7, "7ns")]
)
def test_the_shortest_text(ns: int, text: str) -> None:
    assert format_duration(ns) == text


latencies = st.one_of(
    st.builds(lambda ns: Latency("fixed", ns), durations),
    st.builds(lambda a, b: Latency("uniform", min(a, b), max(a, b)), durations, durations),
    st.builds(lambda ns: Latency("exp", ns), st.integers(0, MAX_NS // 10)),
)


@given(latencies)
def test_a_distribution_is_read_back(latency: Latency) -> None:
    assert Latency.parse(str(latency)) == latency


@given(latencies, st.integers())
def test_draws_stay_within_bounds_and_repeat(latency: Latency, seed: int) -> None:
    first, second = Chance(seed), Chance(seed)
    low_ns = latency.low_ns if latency.kind != "exp" else 0
    for _ in range(20):
        drawn_ns = latency.draw(first)
        assert low_ns <= drawn_ns <= latency.longest_ns
        assert drawn_ns == latency.draw(second)


def test_a_fixed_one_takes_no_chance() -> None:
    source = Chance(1)
    before = source.getstate()
    assert Latency.parse("20ms").draw(source) == 20 * NS_PER_MS
    assert source.getstate() == before


def test_draws_spread() -> None:
    source = Chance(1)
    uniform = [Latency.parse("10ms..30ms").draw(source) for _ in range(1000)]
    assert min(uniform) < 11 * NS_PER_MS
    assert max(uniform) > 29 * NS_PER_MS
    exponential = [Latency.parse("exp:20ms").draw(source) for _ in range(5000)]
    assert 18 * NS_PER_MS < sum(exponential) / 5000 < 22 * NS_PER_MS


@pytest.mark.parametrize("text", ["", "foo", "exp:", "exp:x", "10ms..", "..10ms", "10ms..5", "1ms..2ms..3ms"])
def test_what_is_no_distribution(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        Latency.parse(text)


def test_bounds_of_distributions() -> None:
    with pytest.raises(ValueError, match="the upper end is below the lower one"):
        Latency.parse("30ms..10ms")
    with pytest.raises(ValueError, match="ten times the mean, and that is longer than an hour"):
        Latency.parse("exp:361s")
    assert Latency.parse("exp:360s").longest_ns == MAX_NS
