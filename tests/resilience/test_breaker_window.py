"""What a closed breaker remembers: rows, windows by count and by time against plain lists, and when they are reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordemu.resilience.breaker_options import BreakerOptions
from coordemu.resilience.breaker_window import ClosedRecord, CountWindow, TimeWindow, make_window

RESULT = st.tuples(st.booleans(), st.booleans(), st.integers(0, 40))


@given(st.integers(1, 7), st.lists(RESULT, max_size=60))
def test_a_window_by_count_holds_the_last(size: int, results: list[tuple[bool, bool, int]]) -> None:
    window = CountWindow(size)
    for number, (failed, slow, _) in enumerate(results, 1):
        window.add(failed, slow, 0)
        window.forget(10**12)
        last = results[max(0, number - size) : number]
        assert window.calls == len(last)
        assert window.failed == sum(each[0] for each in last)
        assert window.slow == sum(each[1] for each in last)


@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 100), st.lists(RESULT, max_size=60))
def test_a_window_by_time_holds_what_is_young_enough(
    buckets: int, bucket_ns: int, at_ns: int, results: list[tuple[bool, bool, int]]
) -> None:
    window = TimeWindow(buckets * bucket_ns, buckets)
    assert window.bucket_ns == bucket_ns
    seen: list[tuple[bool, bool, int]] = []
    for failed, slow, passed_ns in results:
        at_ns += passed_ns
        window.add(failed, slow, at_ns)
        seen.append((failed, slow, at_ns))
        for _ in range(2):
            window.forget(at_ns)
            young = [each for each in seen if each[2] // bucket_ns > at_ns // bucket_ns - buckets]
            assert window.calls == len(young)
            assert window.failed == sum(each[0] for each in young)
            assert window.slow == sum(each[1] for each in young)
            at_ns += bucket_ns // 2  # a look later, without a result


def test_a_window_by_time_survives_any_gap_and_a_clock_that_stands() -> None:
    window = TimeWindow(100, 10)
    window.add(True, True, 5)
    window.forget(10**18)
    assert (window.calls, window.failed, window.slow) == (0, 0, 0)
    window.add(True, False, 10**18)
    window.add(True, False, 7)  # earlier than the newest: into the newest
    assert window.calls == 2


def verdicts(options: BreakerOptions, results: str, step_ns: int = 0) -> list[str]:
    """One letter per result: "." success, "x" failure, "s" slow, "X" slow failure."""
    record = ClosedRecord(options)
    return [record.add(each in "xX", each in "sX", number * step_ns) for number, each in enumerate(results)]


def test_failures_in_a_row() -> None:
    options = BreakerOptions(failures_in_row=3)
    assert verdicts(options, "xx.xx.xxx") == [""] * 8 + ["3 failures in a row"]
    assert not any(verdicts(BreakerOptions(failures_in_row=0), "x" * 1000))


def test_the_failure_rate_counts_from_the_minimum_on_and_at_a_success_too() -> None:
    options = BreakerOptions(failures_in_row=0, window="count", window_size=10, minimum_calls=4)
    assert verdicts(options, "xx..") == ["", "", "", "2 of 4 calls failed"]
    assert verdicts(options, "x...x.x") == [""] * 7
    # More than the window holds is all that it holds.
    many = BreakerOptions(failures_in_row=0, window="count", window_size=3, minimum_calls=50, failure_rate_percent=100)
    assert verdicts(many, "xxx")[-1] == "3 of 3 calls failed"
    # A share that is no whole number of calls: 34 % of 3 are more than one.
    third = BreakerOptions(failures_in_row=0, window="count", window_size=3, minimum_calls=3, failure_rate_percent=34)
    assert verdicts(third, "..x") == ["", "", ""]
    assert verdicts(third, ".xx")[-1] == "2 of 3 calls failed"
    off = BreakerOptions(failures_in_row=0, window="count", window_size=3, minimum_calls=1, failure_rate_percent=0)
    assert not any(verdicts(off, "xxxx"))


def test_the_slow_rate_counts_failures_that_are_slow_too() -> None:
    options = BreakerOptions(
        failures_in_row=0, window="count", window_size=4, minimum_calls=4, failure_rate_percent=0, slow_call_ms=1,
        slow_rate_percent=75,
    )  # fmt: skip
    assert verdicts(options, "sX.s")[-1] == "3 of 4 calls were slow"
    assert not any(verdicts(options, "sX.."))
    assert options.slow_rule
    assert not BreakerOptions(slow_call_ms=1).slow_rule
    assert not BreakerOptions(window="count").slow_rule


def test_a_rate_over_time_forgets() -> None:
    options = BreakerOptions(failures_in_row=0, window="time", window_ms=1000, window_buckets=10, minimum_calls=3)
    assert verdicts(options, "xxx", step_ns=100_000_000)[-1] == "3 of 3 calls failed"
    assert not any(verdicts(options, "x" * 100, step_ns=500_000_000))
    assert isinstance(make_window(options), TimeWindow)
    assert make_window(BreakerOptions()) is None


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"failures_in_row": -1}, "failures_in_row -1 is below 0"),
        ({"window": "calls"}, "window 'calls' is none of none, count, time"),
        ({"window_size": 0}, "window_size 0 is below 1"),
        ({"window_size": 1_000_001}, "too large"),
        ({"window_buckets": 1_001}, "too large"),
        ({"window_ms": 0}, "window_ms 0 is below 1"),
        ({"minimum_calls": 0}, "minimum_calls 0 is below 1"),
        ({"failure_rate_percent": 101}, "failure_rate_percent 101 is above 100"),
        ({"slow_rate_percent": -3}, "slow_rate_percent -3 is below 0"),
        ({"open_ms": 0}, "open_ms 0 is below 1"),
        ({"open_ms": 10**12}, "more than a year"),
        ({"open_backoff_factor": 0.5}, "open_backoff_factor 0.5 is below 1"),
        ({"open_backoff_factor": float("nan")}, "open_backoff_factor nan is below 0, or no number"),
        ({"open_backoff_factor": float("inf")}, "no number"),
        ({"open_backoff_factor": 2, "open_max_ms": 5}, "open_max_ms 5 is below open_ms 30000"),
        ({"half_open_permits": 0}, "half_open_permits 0 is below 1"),
    ],
)
def test_options_have_bounds(chosen: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        BreakerOptions(**chosen)


def test_the_open_time_grows_to_its_limit() -> None:
    ms = 1_000_000
    plain = BreakerOptions(open_ms=7, open_max_ms=1)
    assert [plain.open_for_ns(opening) for opening in (1, 2, 10**6)] == [7 * ms] * 3
    options = BreakerOptions(open_ms=100, open_backoff_factor=1.5, open_max_ms=300)
    assert [options.open_for_ns(opening) // ms for opening in (1, 2, 3, 4, 10**9)] == [100, 150, 225, 300, 300]
    huge = BreakerOptions(open_ms=1, open_backoff_factor=1e300, open_max_ms=5)
    assert huge.open_for_ns(10**9) == 5 * ms
    slow = BreakerOptions(open_ms=1, open_backoff_factor=1.9, open_max_ms=300_000)
    assert slow.open_for_ns(10**9) == 300_000 * ms
    assert BreakerOptions(half_open_permits=3).successes_to_close == 3
    assert BreakerOptions(half_open_permits=3, half_open_successes=1).successes_to_close == 1
