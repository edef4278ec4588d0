"""A circuit breaker from outside, on both runtimes: calls and their ends, time, probes, orders, many callers."""

from __future__ import annotations

from typing import Any

import pytest

from coordemu.pool.pool_errors import Cancelled
from coordemu.resilience.circuit_breaker import (
    BreakerOpen,
    BreakerOptions,
    BreakerState,
    CircuitBreaker,
    counts_as_failure,
)
from coordemu.resilience.resilience_errors import BulkheadFull, RateLimited
from coordemu.runtime.base import NS_PER_MS

S = BreakerState


def make(rt: Any, **chosen: Any) -> CircuitBreaker:
    """Opens after two failures in a row, for 10 ms."""
    return CircuitBreaker(rt, BreakerOptions(**{"failures_in_row": 2, "open_ms": 10, **chosen}), "hub")


def opened(shifted: Any, **chosen: Any) -> CircuitBreaker:
    breaker = make(shifted, **chosen)
    while breaker.state is S.CLOSED:
        breaker.acquire().failure()
    return breaker


def refused(breaker: CircuitBreaker) -> BreakerOpen:
    with pytest.raises(BreakerOpen) as caught:
        breaker.acquire()
    return caught.value


class Panic(BaseException):
    """No Exception."""


# -- calls


def test_the_defaults_are_the_write_ups(shifted) -> None:
    breaker = CircuitBreaker(shifted)
    for _ in range(4):
        breaker.acquire().failure()
    assert breaker.state is S.CLOSED
    breaker.acquire().failure()
    assert breaker.state is S.OPEN
    shifted.pass_ms(29_999)
    error = refused(breaker)
    assert (error.name, error.state, error.retry_after_ns) == ("breaker", S.OPEN, NS_PER_MS)
    shifted.pass_ms(1)
    probe = breaker.acquire()
    assert breaker.state is S.HALF_OPEN
    assert refused(breaker).retry_after_ns == 0
    probe.success()
    assert breaker.state is S.CLOSED


def test_a_call_returns_raises_and_counts(rt) -> None:
    breaker = make(rt, failures_in_row=3)
    assert breaker.call(lambda: 7) == 7

    def fail() -> None:
        raise OSError("no")

    def refuse() -> None:
        raise RateLimited("limiter")

    def panic() -> None:
        raise Panic

    for function, error in ((fail, OSError), (refuse, RateLimited), (panic, Panic)):
        with pytest.raises(error):
            breaker.call(function)
    counts = breaker.statistics()
    assert [counts[name] for name in ("successes", "failures", "ignored", "cancelled")] == [1, 1, 1, 1]
    assert (counts["permitted"], counts["under_way"], counts["failures_in_row"]) == (4, 0, 1)
    for _ in range(2):
        with pytest.raises(OSError, match="no"):
            breaker.call(fail)
    with pytest.raises(BreakerOpen):
        breaker.call(lambda: pytest.fail("it was called"))
    assert breaker.statistics()["refused"] == 1


def test_what_counts_is_for_the_caller_to_say(rt) -> None:
    breaker = CircuitBreaker(rt, BreakerOptions(failures_in_row=1), is_failure=lambda error: "!" in str(error))
    assert breaker.acquire().raised(ValueError("?"))
    assert breaker.state is S.CLOSED
    assert breaker.acquire().raised(ValueError("!"))
    assert breaker.state is S.OPEN
    assert counts_as_failure(OSError())
    for error in (Cancelled(), RateLimited("x"), BulkheadFull("x"), BreakerOpen("inner", "OPEN")):
        assert not counts_as_failure(error)


def test_a_rule_that_raises_costs_no_permit(shifted) -> None:
    def no_idea(error: Exception) -> bool:
        raise ArithmeticError("no idea")

    breaker = CircuitBreaker(shifted, BreakerOptions(failures_in_row=1, open_ms=10), is_failure=no_idea)
    breaker.acquire().failure()
    shifted.pass_ms(10)

    def fail() -> None:
        raise OSError

    for _ in range(2):
        with pytest.raises(ArithmeticError):
            breaker.call(fail)
    assert breaker.statistics()["cancelled"] == 2
    assert breaker.call(lambda: 1) == 1
    assert breaker.state is S.CLOSED


@pytest.mark.parametrize("first", ["success", "failure", "ignore", "cancel"])
@pytest.mark.parametrize("state", [S.CLOSED, S.HALF_OPEN])
def test_a_permit_is_settled_once(shifted, first: str, state: BreakerState) -> None:
    breaker = make(shifted, half_open_successes=9, half_open_permits=2)
    if state is S.HALF_OPEN:
        breaker = opened(shifted, half_open_successes=9, half_open_permits=2)
        shifted.pass_ms(10)
    permit = breaker.acquire()
    assert not permit.settled
    assert getattr(permit, first)() is True
    assert permit.settled
    before = breaker.statistics()
    assert [permit.success(), permit.failure(), permit.ignore(), permit.cancel()] == [False] * 4
    assert permit.raised(OSError()) is False
    assert breaker.statistics() == before
    assert "settled" in repr(permit)


def test_a_call_in_a_calm_closed_breaker_takes_no_lock(rt) -> None:
    breaker = make(rt)
    with breaker._lock:  # a second acquire by the same task would hang
        assert breaker.acquire().success()
        assert breaker.call(lambda: 3) == 3
    breaker.acquire().failure()
    breaker.acquire().success()  # this one forgets the failure, and the next are calm again
    with breaker._lock:
        assert breaker.acquire().success()
    breaker.disable()
    with breaker._lock:
        assert breaker.acquire().success()


# -- time


def test_the_clock_may_go_back_and_the_open_time_ends(shifted) -> None:
    breaker = opened(shifted)
    shifted.pass_ms(4)
    assert refused(breaker).retry_after_ns == 6 * NS_PER_MS
    shifted.pass_ms(-3_600_000)
    assert refused(breaker).retry_after_ns == 6 * NS_PER_MS
    shifted.pass_ms(5)
    assert refused(breaker).retry_after_ns == NS_PER_MS
    shifted.pass_ms(1)
    assert breaker.acquire().success()


def test_the_clock_may_jump_ahead(shifted) -> None:
    breaker = opened(shifted)
    shifted.pass_ms(10**12)
    assert breaker.acquire().failure()
    assert breaker.retry_after_ns == 10 * NS_PER_MS
    shifted.pass_ms(-(10**12))
    assert breaker.retry_after_ns == 10 * NS_PER_MS
    assert breaker.statistics()["unclosed_ns"] == 0  # never below


def test_a_slow_call_whose_clock_goes_back_is_not_slow(shifted) -> None:
    breaker = make(shifted, slow_call_ms=5)
    permit = breaker.acquire()
    shifted.pass_ms(-100)
    permit.success()
    assert breaker.statistics()["slow"] == 0
    permit = breaker.acquire()
    shifted.pass_ms(5)
    permit.success()
    breaker.acquire().success(duration_ns=5 * NS_PER_MS - 1)
    breaker.acquire().success(duration_ns=5 * NS_PER_MS)
    breaker.acquire().failure(duration_ns=5 * NS_PER_MS)
    assert breaker.statistics()["slow"] == 3


def test_slow_calls_open_it_and_a_slow_probe_opens_it_again(shifted) -> None:
    breaker = make(shifted, window="count", window_size=4, minimum_calls=4, slow_call_ms=5, slow_rate_percent=50)
    for duration_ms in (0, 5, 0, 9):
        breaker.acquire().success(duration_ns=duration_ms * NS_PER_MS)
    assert breaker.state is S.OPEN
    shifted.pass_ms(10)
    permit = breaker.acquire()
    shifted.pass_ms(5)
    permit.success()
    assert breaker.state is S.OPEN
    shifted.pass_ms(10)
    breaker.acquire().success()
    assert breaker.state is S.CLOSED
    assert breaker.statistics()["window_calls"] == 0
    # Where slowness is measured and no rule, a slow probe is as good as any.
    breaker = opened(shifted, slow_call_ms=5)
    shifted.pass_ms(10)
    breaker.acquire().success(duration_ns=10**12)
    assert breaker.state is S.CLOSED


def test_a_rate_over_time_in_a_breaker(shifted) -> None:
    breaker = make(shifted, failures_in_row=0, window="time", window_ms=1000, window_buckets=10, minimum_calls=2)
    breaker.acquire().failure()
    counts = breaker.statistics()
    assert (counts["window_calls"], counts["window_failed"], counts["window_slow"]) == (1, 1, 0)
    shifted.pass_ms(1000)
    assert breaker.statistics()["window_calls"] == 0
    breaker.acquire().failure()
    assert breaker.state is S.CLOSED
    breaker.acquire().success()
    assert breaker.state is S.OPEN


def test_the_open_time_grows_with_each_failed_probe_and_is_short_again_after(shifted) -> None:
    breaker = opened(shifted, open_backoff_factor=2.0, open_max_ms=35)
    for wait_ms in (10, 20, 35, 35):
        assert breaker.retry_after_ns == wait_ms * NS_PER_MS
        shifted.pass_ms(wait_ms)
        breaker.acquire().failure()
    shifted.pass_ms(35)
    breaker.acquire().success()
    breaker.acquire().failure()
    breaker.acquire().failure()
    assert breaker.retry_after_ns == 10 * NS_PER_MS


def test_late_failures_do_not_prolong_and_late_successes_do_not_close(shifted) -> None:
    breaker = make(shifted)
    late = [breaker.acquire() for _ in range(6)]
    for permit in late[:2]:
        permit.failure()
    shifted.pass_ms(5)
    late[2].failure()
    late[3].success()
    assert breaker.state is S.OPEN
    assert breaker.retry_after_ns == 5 * NS_PER_MS
    shifted.pass_ms(5)
    probe = breaker.acquire()
    late[4].success()
    late[5].cancel()
    assert breaker.state is S.HALF_OPEN
    assert breaker.statistics()["probes_out"] == 1
    probe.failure()
    assert breaker.state is S.OPEN
    counts = breaker.statistics()
    assert (counts["late"], counts["opened"], counts["half_opened"], counts["under_way"]) == (4, 2, 1, 0)


# -- probes


def test_probes_go_together_up_to_the_permits_and_as_many_must_succeed(shifted) -> None:
    breaker = opened(shifted, half_open_permits=3)
    shifted.pass_ms(10)
    probes = [breaker.acquire() for _ in range(3)]
    refused(breaker)
    assert probes[0].ignore()
    probes[0] = breaker.acquire()
    refused(breaker)
    probes[0].success()
    probes[1].success()
    assert breaker.state is S.HALF_OPEN
    counts = breaker.statistics()
    assert (counts["probes_out"], counts["probes_succeeded"]) == (1, 2)
    probes[2].success()
    assert breaker.state is S.CLOSED


def test_one_failed_probe_is_enough_whatever_the_others_say_later(shifted) -> None:
    breaker = opened(shifted, half_open_permits=3)
    shifted.pass_ms(10)
    probes = [breaker.acquire() for _ in range(3)]
    probes[0].success()
    probes[1].failure()
    assert breaker.state is S.OPEN
    probes[2].success()
    assert breaker.state is S.OPEN
    assert breaker.statistics()["late"] == 1


def test_probes_that_never_come_back_count_as_failed(shifted) -> None:
    breaker = opened(shifted, half_open_permits=2, half_open_max_ms=100)
    shifted.pass_ms(10)
    lost = [breaker.acquire() for _ in range(2)]
    shifted.pass_ms(99)
    assert refused(breaker).state is S.HALF_OPEN
    lost[0].ignore()  # one has come back: the time counts from when all are out again
    shifted.pass_ms(1)
    lost[0] = breaker.acquire()
    shifted.pass_ms(99)
    assert refused(breaker).state is S.HALF_OPEN
    shifted.pass_ms(1)
    error = refused(breaker)
    assert (error.state, error.retry_after_ns) == (S.OPEN, 10 * NS_PER_MS)
    assert [permit.success() for permit in lost] == [True, True]
    assert breaker.state is S.OPEN
    shifted.pass_ms(10)
    assert breaker.acquire().success()


def test_without_a_limit_probes_may_take_for_ever(shifted) -> None:
    breaker = opened(shifted, half_open_max_ms=0)
    shifted.pass_ms(10)
    probe = breaker.acquire()
    shifted.pass_ms(10**9)
    assert refused(breaker).state is S.HALF_OPEN
    probe.success()
    assert breaker.state is S.CLOSED


# -- orders and counts


def test_orders(shifted) -> None:
    breaker = make(shifted)
    breaker.force_open()
    assert refused(breaker).retry_after_ns == 0
    shifted.pass_ms(10**9)
    assert refused(breaker).state is S.FORCED_OPEN
    breaker.disable()
    for _ in range(10):
        breaker.acquire().failure()
    assert breaker.state is S.DISABLED
    assert breaker.statistics()["failures"] == 10
    breaker.force_closed()
    breaker.acquire().failure()
    breaker.force_closed()
    breaker.acquire().failure()
    assert breaker.state is S.CLOSED


def test_a_reset_forgets_all_but_the_calls_under_way(shifted) -> None:
    breaker = opened(shifted)
    shifted.pass_ms(10)
    probe = breaker.acquire()
    breaker.reset()
    counts = breaker.statistics()
    assert (counts["state"], counts["permitted"], counts["under_way"], counts["failures"]) == ("CLOSED", 1, 1, 0)
    assert (counts["opened"], counts["reset"]) == (0, 1)
    probe.failure()
    counts = breaker.statistics()
    assert (counts["late"], counts["under_way"], counts["failures_in_row"]) == (1, 0, 0)


def test_how_long_it_has_not_let_all_through(shifted) -> None:
    breaker = make(shifted)
    assert breaker.unclosed_since_ns is None
    shifted.pass_ms(5)
    breaker.acquire().failure()
    breaker.acquire().failure()
    since_ns = breaker.since_ns
    shifted.pass_ms(10)
    breaker.acquire().failure()
    assert breaker.since_ns == since_ns + 10 * NS_PER_MS
    shifted.pass_ms(1)
    breaker.force_open()
    assert breaker.unclosed_since_ns == since_ns
    assert breaker.statistics()["unclosed_ns"] == 11 * NS_PER_MS
    breaker.disable()
    assert breaker.unclosed_since_ns is None
    assert breaker.statistics()["unclosed_ns"] == 0


def test_it_says_what_it_is(shifted) -> None:
    breaker = opened(shifted)
    assert repr(breaker) == "<CircuitBreaker 'hub' OPEN, generation 2>"
    assert breaker.name == "hub"
    assert breaker.options.open_ms == 10
    permit = make(shifted).acquire()
    assert repr(permit) == "<Permit of <BreakerEra 1 CLOSED>>"


# -- many at once


def test_many_callers_keep_every_rule(rt, start) -> None:
    """Callers of every kind on a breaker that opens all the time; no more probes at once than permits, none lost."""
    permits = 2
    breaker = make(rt, open_ms=1, half_open_permits=permits, half_open_max_ms=0)
    lock = rt.lock("gauge")
    inside: dict[int, int] = {}
    worst: list[int] = []

    def caller(number: int) -> None:
        for round_number in range(30):
            try:
                permit = breaker.acquire()
            except BreakerOpen:
                rt.sleep_ns(300_000)
                continue
            era = permit.era
            probe = era.state is S.HALF_OPEN
            with lock:
                inside[era.generation] = inside.get(era.generation, 0) + 1
                if probe and era.generation == breaker.generation:
                    worst.append(inside[era.generation])
            rt.sleep_ns(0)
            with lock:
                inside[era.generation] -= 1
            ends = (permit.success, permit.failure, permit.failure, permit.ignore, permit.cancel)
            assert ends[(number + round_number) % len(ends)]()
            assert breaker.broken_rules() == []

    for call in [start(lambda number=number: caller(number)) for number in range(6)]:
        call.join()
    assert max(worst, default=0) <= permits
    counts = breaker.statistics()
    assert counts["under_way"] == counts["probes_out"] == 0
    assert counts["opened"] > 0
    rt.sleep_ns(NS_PER_MS)
    assert breaker.acquire().success()
