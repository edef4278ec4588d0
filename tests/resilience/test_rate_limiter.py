"""Token bucket and sliding log: the line, deadlines, cancelling, clocks that jump, bounds. On both runtimes."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from coordemu.pool.pool_context import PoolContext
from coordemu.pool.pool_errors import Cancelled, DeadlineExceeded
from coordemu.resilience.resilience_errors import RateLimited
from coordemu.resilience.sliding_log import SlidingLog
from coordemu.resilience.token_bucket import TokenBucket
from coordemu.runtime import wait_for
from coordemu.runtime.base import NS_PER_MS, NS_PER_S

HOUR_NS = 3600 * NS_PER_S
FAR_NS = 20 * NS_PER_S


def bucket_of(rt, units, unit_ms, max_waiting=0):
    """A bucket of `units` tokens, one more every unit_ms."""
    return TokenBucket(rt, Fraction(1000, unit_ms), units, "limiter", max_waiting)


def log_of(rt, units, unit_ms, max_waiting=0):
    """A log of `units` in a window of unit_ms (so all come back at once)."""
    return SlidingLog(rt, units, unit_ms, "limiter", max_waiting)


KINDS = {"bucket": bucket_of, "log": log_of}


@pytest.fixture(params=sorted(KINDS))
def make(request, rt):
    """`make(units, unit_ms, max_waiting=0)`: a limiter of either kind."""
    return lambda *args, **more: KINDS[request.param](more.pop("rt", rt), *args, **more)


class JumpingTime:
    """A runtime whose clock is the real one's and a jump."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.jump_ns = 0

    def now_ns(self) -> int:
        return self._inner.now_ns() + self.jump_ns

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@pytest.fixture
def jumping(rt):
    return JumpingTime(rt)


def test_what_is_there_is_taken_at_once(make):
    limiter = make(3, 1000)
    assert limiter.acquire() == 0
    assert limiter.acquire(2, 0) == 0
    assert not limiter.try_acquire()
    assert limiter.admitted == 3
    assert limiter.statistics()["waits"] == 0
    assert limiter.broken_rules() == []


def test_a_bucket_fills_again_token_by_token(rt):
    bucket = bucket_of(rt, 2, 20)
    assert bucket.try_acquire(2)
    rt.sleep_ns(25 * NS_PER_MS)
    assert bucket.tokens >= 1
    assert bucket.try_acquire()
    rt.sleep_ns(200 * NS_PER_MS)
    assert bucket.tokens == 2


def test_a_log_gives_all_back_when_the_window_has_passed(rt):
    log = log_of(rt, 3, 20)
    assert log.try_acquire(3)
    assert log.used == 3
    assert not log.try_acquire()
    rt.sleep_ns(20 * NS_PER_MS)
    assert log.used == 0
    assert log.try_acquire(3)


@pytest.mark.parametrize("n", [0, -1, 4])
def test_so_many_units_cannot_be_had(make, n):
    limiter = make(3, 1000)
    for call in (limiter.try_acquire, limiter.acquire, lambda n: limiter.acquire(n, 0)):
        with pytest.raises(ValueError, match=f"{n} units at once; 1 to 3 can be had"):
            call(n)
    assert limiter.admitted == 0
    assert limiter.try_acquire(3)


def test_bounds(rt):
    with pytest.raises(ValueError, match="limiter: max_waiting -1"):
        bucket_of(rt, 1, 1, -1)
    with pytest.raises(ValueError, match="0 units at most"):
        log_of(rt, 0, 1)
    with pytest.raises(ValueError, match="window_ms 0"):
        log_of(rt, 1, 0)
    for rate in (0, -1, Fraction(-1, 2)):
        with pytest.raises(ValueError, match="is not above 0"):
            TokenBucket(rt, rate, 1)
    with pytest.raises(TypeError, match="neither an integer nor a Fraction"):
        TokenBucket(rt, 0.1, 1)


def test_who_waits_is_served_when_its_units_are_due(rt, make):
    limiter = make(1, 10)
    limiter.acquire()
    began_ns = rt.now_ns()
    waited_ns = limiter.acquire(1, FAR_NS)
    assert 0 < waited_ns <= rt.now_ns() - began_ns
    assert limiter.statistics()["waits"] == 1
    assert limiter.statistics()["wait_ns"] == waited_ns


def test_no_waiting_means_no_waiting(rt, make):
    limiter = make(1, 1000)
    limiter.acquire()
    with pytest.raises(RateLimited) as refused:
        limiter.acquire(1, 0)
    assert refused.value.waited_ns == 0
    assert 0 < refused.value.retry_after_ns <= NS_PER_S
    assert limiter.statistics()["turned_away"] == 1
    assert limiter.waiting == 0


def test_a_limit_that_cannot_be_met_is_refused_at_once(rt, make):
    limiter = make(1, 3_600_000)
    limiter.acquire()
    with pytest.raises(RateLimited) as refused:
        limiter.acquire(1, 1800 * NS_PER_S)
    assert refused.value.waited_ns == 0
    assert 3500 * NS_PER_S < refused.value.retry_after_ns <= HOUR_NS
    assert limiter.broken_rules() == []


def test_a_deadline_ends_the_wait_behind_another(rt, make, start, until):
    limiter = make(2, 3_600_000)
    limiter.acquire(2)
    ctx = PoolContext(rt)
    first = start(lambda: limiter.acquire(2, None, ctx))
    until(lambda: limiter.waiting == 1)
    second = PoolContext.after(rt, 2 * NS_PER_MS)
    with pytest.raises(DeadlineExceeded):
        limiter.acquire(1, None, second)
    assert limiter.waiting == 1
    ctx.cancel()
    assert isinstance(first.failure(), Cancelled)
    assert limiter.waiting == 0
    assert limiter.broken_rules() == []
    assert limiter.statistics()["called_off"] == 2


def test_the_time_limit_of_one_in_line(rt, start, until):
    # Its token alone would come in time; those of who came before it do not.
    bucket = bucket_of(rt, 100, 1)
    bucket.acquire(100)
    stop = PoolContext(rt)
    first = start(lambda: bucket.acquire(100, None, stop))
    until(lambda: bucket.waiting == 1)
    with pytest.raises(RateLimited) as refused:
        bucket.acquire(1, 5 * NS_PER_MS)
    assert refused.value.waited_ns >= 5 * NS_PER_MS
    assert bucket.statistics()["timed_out"] == 1
    stop.cancel()
    assert isinstance(first.failure(), Cancelled)


def test_a_context_that_has_ended_is_refused_even_if_there_are_units(rt, make):
    limiter = make(1, 1000)
    ctx = PoolContext(rt)
    ctx.cancel()
    with pytest.raises(Cancelled):
        limiter.acquire(1, None, ctx)
    assert limiter.admitted == 0


def test_who_is_cancelled_at_the_head_hands_its_place_on(rt, make, start, until):
    limiter = make(1, 30)
    limiter.acquire()
    ctx = PoolContext(rt)
    first = start(lambda: limiter.acquire(1, None, ctx))
    until(lambda: limiter.waiting == 1)
    second = start(limiter.acquire)
    until(lambda: limiter.waiting == 2)
    ctx.cancel()
    assert isinstance(first.failure(), Cancelled)
    assert second.join() > 0
    assert limiter.admitted == 2
    assert limiter.waiting == 0


def test_an_exception_in_the_middle_of_a_wait_hands_the_place_on(rt, make, start, until):
    class Stop(BaseException):
        pass

    limiter = make(1, 30)
    limiter.acquire()

    class Broken(PoolContext):
        def attach(self, event):
            until(lambda: limiter.waiting == 2)
            raise Stop

    def interrupted():
        with pytest.raises(Stop):
            limiter.acquire(1, None, Broken(rt))

    first = start(interrupted)
    until(lambda: limiter.waiting == 1)
    second = start(limiter.acquire)
    first.join()
    second.join()
    assert limiter.broken_rules() == []


def test_the_line_keeps_its_order_whatever_is_asked_for(rt, make, start, until):
    # Slow enough that all are in line before the first is served.
    slow = make(3, 60)
    slow.acquire(3)
    order = []
    calls = []

    def caller(number, n):
        slow.acquire(n)
        order.append(number)

    for number, n in enumerate((3, 1, 3, 1)):
        calls.append(start(lambda number=number, n=n: caller(number, n)))
        until(lambda: slow.waiting + len(order) == len(calls))
    for call in calls:
        call.join()
    assert order == [0, 1, 2, 3]
    assert slow.broken_rules() == []


def test_a_late_caller_takes_nothing_past_the_line(rt, make, start, until):
    limiter = make(2, 3_600_000)
    limiter.acquire()
    ctx = PoolContext(rt)
    big = start(lambda: limiter.acquire(2, None, ctx))
    until(lambda: limiter.waiting == 1)
    assert not limiter.try_acquire()  # one is there, and not for him
    with pytest.raises(RateLimited):
        limiter.acquire(1, 0)
    ctx.cancel()
    assert isinstance(big.failure(), Cancelled)
    assert limiter.try_acquire()


def test_the_line_has_a_bound(rt, make, start, until):
    limiter = make(1, 3_600_000, max_waiting=2)
    limiter.acquire()
    ctx = PoolContext(rt)
    calls = [start(lambda: limiter.acquire(1, None, ctx)) for _ in range(2)]
    until(lambda: limiter.waiting == 2)
    with pytest.raises(RateLimited) as refused:
        limiter.acquire()
    assert refused.value.waited_ns == 0
    # The third after this one: two more hours.
    assert 2 * HOUR_NS < refused.value.retry_after_ns <= 3 * HOUR_NS
    assert limiter.statistics()["turned_away"] == 1
    assert limiter.statistics()["longest_line"] == 2
    ctx.cancel()
    for call in calls:
        assert isinstance(call.failure(), Cancelled)


def test_a_clock_that_went_back_keeps_nobody_out_for_long(shifted, make):
    limiter = make(2, 10, rt=shifted)
    shifted.pass_ms(10 * 3600 * 1000)
    assert limiter.try_acquire(2)
    shifted.pass_ms(-9 * 3600 * 1000)
    assert not limiter.try_acquire()
    shifted.pass_ms(20)
    assert limiter.try_acquire(2)
    assert not limiter.try_acquire()
    assert limiter.broken_rules() == []


def test_a_clock_that_jumped_and_came_back_gives_no_second_burst(shifted, make):
    limiter = make(2, 10, rt=shifted)
    assert limiter.try_acquire(2)
    shifted.pass_ms(3600 * 1000)
    assert limiter.try_acquire(2)
    shifted.pass_ms(-3600 * 1000)
    for _ in range(9):
        assert not limiter.try_acquire(2)
        shifted.pass_ms(1)
    assert limiter.admitted == 4


@pytest.mark.parametrize("jump_ns", [-HOUR_NS, HOUR_NS, -3 * NS_PER_MS, 3 * NS_PER_MS])
def test_a_clock_that_jumps_while_somebody_waits(jumping, make, start, until, jump_ns):
    limiter = make(1, 150, rt=jumping)
    limiter.acquire()
    calls = [start(lambda: limiter.acquire(1, HOUR_NS * 2)) for _ in range(2)]
    until(lambda: limiter.waiting == 2)
    jumping.jump_ns = jump_ns
    for call in calls:
        assert call.join() >= 0
    assert limiter.admitted == 3
    assert limiter.broken_rules() == []


def test_many_short_limits_lose_no_place(rt, make, start):
    limiter = make(2, 1)

    def hurried():
        got = 0
        for _ in range(20):
            try:
                limiter.acquire(2, 3 * NS_PER_MS)
            except RateLimited:
                continue
            got += 2
        return got

    calls = [start(hurried) for _ in range(4)]
    assert sum(call.join() for call in calls) == limiter.admitted > 0
    assert limiter.waiting == 0
    assert limiter.broken_rules() == []


def test_the_wait_for_graph_goes_to_the_head_and_from_there_to_the_time(rt, make, start, until):
    limiter = make(1, 3_600_000)
    limiter.acquire()
    ctx = PoolContext(rt)
    head = start(lambda: limiter.acquire(1, None, ctx), "the head")
    until(lambda: limiter.waiting == 1)
    next_one = start(lambda: limiter.acquire(1, None, ctx), "the next")
    until(lambda: limiter.waiting == 2)
    until(lambda: head.task.waiting_on is not None and next_one.task.waiting_on is not None)
    chain = wait_for.chain_from(rt, next_one.task)
    assert chain.kind == "waits"
    assert "the head" in chain.steps
    assert chain.steps[-1] == "the time: limiter has units again"
    ctx.cancel()
    for call in (head, next_one):
        assert isinstance(call.failure(), Cancelled)


def test_repr_and_statistics(rt):
    bucket = TokenBucket(rt, 10, 5, "hub")
    log = SlidingLog(rt, 5, 1000, "hub")
    assert repr(bucket) == "<TokenBucket 'hub' 10/s, burst 5, 0 waiting>"
    assert repr(log) == "<SlidingLog 'hub' 5 per 1000 ms, 0 waiting>"
    assert bucket.statistics()["tokens"] == bucket.statistics()["burst"] == 5
    assert log.statistics()["used"] == 0
    assert set(bucket.statistics()) >= {"admitted", "waiting", "waits", "wait_ns", "timed_out", "called_off"}
