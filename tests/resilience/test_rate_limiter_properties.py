"""Rate limiters by hypothesis, one caller: exact to the nanosecond, never above the rate, as pyrate-limiter decides."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyrate_limiter import Rate, RateItem
from pyrate_limiter.abstracts.algorithm import TokenBucket as OracleBucket
from pyrate_limiter.buckets import InMemoryBucket

from coordemu.resilience.rate_limiter import RateLimiter
from coordemu.resilience.resilience_errors import RateLimited
from coordemu.resilience.sliding_log import SlidingLog
from coordemu.resilience.token_bucket import TokenBucket
from coordemu.runtime.base import NS_PER_MS, NS_PER_S
from coordemu.runtime.sim import SimRuntime

RATES = st.one_of(
    st.sampled_from([1, 3, 7, 10, 1000, 999_999_999, 3_000_000_000]),
    st.fractions(Fraction(1, 3600), 10**6),
).filter(bool)


def set_clock(sim: SimRuntime, now_ns: int) -> None:
    """Outside of a run the simulator's clock is a number; it may go back, too."""
    sim.core.clock.now_ns = now_ns


@given(
    rate=RATES,
    burst=st.integers(1, 20),
    steps=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2 * NS_PER_S), st.integers(1, 20)), max_size=60),
)
@example(rate=3, burst=1, steps=[(0, 333_333_333, 1), (0, 1, 1), (0, 333_333_332, 1), (0, 1, 1), (0, 333_333_333, 1)])
def test_a_bucket_is_exact_and_never_above_burst_and_rate(rate, burst, steps) -> None:
    sim = SimRuntime()
    bucket = TokenBucket(sim, rate, burst)
    per_ns = Fraction(rate) / NS_PER_S
    level, at_ns = Fraction(burst), sim.now_ns()
    taken: list[tuple[int, int]] = []
    for scale, wait, n in steps:
        now_ns = sim.now_ns() + wait // 10 ** (3 * scale)
        set_clock(sim, now_ns)
        level, at_ns = min(Fraction(burst), level + per_ns * (now_ns - at_ns)), now_ns
        assert bucket.tokens == int(level)
        n = 1 + n % burst
        got = bucket.try_acquire(n)
        assert got == (level >= n)
        if got:
            level -= n
            taken.append((now_ns, n))
    for first in range(len(taken)):
        total = 0
        for then_ns, n in taken[first:]:
            total += n
            assert total <= burst + per_ns * (then_ns - taken[first][0])
    assert bucket.admitted == sum(n for _, n in taken)


@given(rate=RATES, burst=st.integers(1, 5), n=st.integers(1, 5), early_ns=st.integers(1, 1000))
def test_a_refusal_says_to_the_nanosecond_when_to_come_again(rate, burst, n, early_ns) -> None:
    sim = SimRuntime()
    bucket = TokenBucket(sim, rate, burst)
    n = min(n, burst)
    bucket.acquire(burst)
    after_ns = refused_for_ns(bucket, n)
    assert after_ns == ceil(n * NS_PER_S / Fraction(rate))
    now_ns = sim.now_ns()
    set_clock(sim, now_ns + max(0, after_ns - early_ns))
    assert bucket.try_acquire(n) == (after_ns == 0)
    set_clock(sim, now_ns + after_ns)
    assert bucket.try_acquire(n) or after_ns == 0


@given(rate=st.sampled_from([1, 3, 7, 11, 999, 123_457]), seconds=st.integers(1, 50), look_ns=st.integers(1, 10**8))
def test_many_looks_do_not_drift(rate, seconds, look_ns) -> None:
    """As many tokens as the rate says, to the token, however often one looks (it never gets full meanwhile)."""
    sim = SimRuntime()
    bucket = TokenBucket(sim, rate, 2)
    bucket.acquire(2)
    began_ns = sim.now_ns()
    got = 0
    for number in range(min(seconds * rate, 200)):
        due_ns = began_ns + -(-(number + 1) * NS_PER_S // rate)
        set_clock(sim, max(sim.now_ns(), due_ns - look_ns % max(1, NS_PER_S // rate)))
        early = sim.now_ns() < due_ns
        assert not (early and bucket.try_acquire())
        set_clock(sim, due_ns)
        got += bucket.try_acquire()
    assert got == min(seconds * rate, 200)


@given(
    burst=st.integers(1, 5),
    steps=st.lists(st.tuples(st.sampled_from([-(10**15), -1, 0, 1, 10**15]), st.integers(0, 10**9)), max_size=30),
)
def test_a_clock_that_jumps_about_costs_at_most_a_full_buckets_time(burst, steps) -> None:
    sim = SimRuntime()
    bucket = TokenBucket(sim, 10, burst)
    log = SlidingLog(sim, burst, 100 * burst)
    full_ns = burst * NS_PER_S // 10
    for jump_ns, wait_ns in steps:
        set_clock(sim, max(1, sim.now_ns() + jump_ns))
        bucket.try_acquire()
        log.try_acquire()
        set_clock(sim, sim.now_ns() + wait_ns)
        bucket.try_acquire()
        log.try_acquire()
    set_clock(sim, sim.now_ns() + full_ns)
    assert bucket.try_acquire(burst)
    assert log.try_acquire(burst)


@given(
    limit=st.integers(1, 8),
    window_ms=st.integers(2, 50),
    steps=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 8)), max_size=80),
)
def test_a_log_decides_as_the_oracles_sliding_window(limit, window_ms, steps) -> None:
    """The oracle counts the end of its window in, so its window is a millisecond shorter on this grid."""
    sim = SimRuntime()
    log = SlidingLog(sim, limit, window_ms)
    oracle = InMemoryBucket([Rate(limit, window_ms - 1)])
    taken: list[tuple[int, int]] = []
    for wait_ms, n in steps:
        n = 1 + n % limit
        now_ns = sim.now_ns() + wait_ms * NS_PER_MS
        set_clock(sim, now_ns)
        oracle.leak(now_ns // NS_PER_MS)
        got = log.try_acquire(n)
        assert got == oracle.put(RateItem("x", now_ns // NS_PER_MS, n))
        if got:
            taken.append((now_ns, n))
        else:
            assert refused_for_ns(log, n) == (oracle.waiting(RateItem("x", now_ns // NS_PER_MS, n))) * NS_PER_MS
    for last in range(len(taken)):
        window_ns = taken[last][0] - window_ms * NS_PER_MS
        assert sum(n for at_ns, n in taken[: last + 1] if at_ns > window_ns) <= limit
    assert log.broken_rules() == []


def refused_for_ns(limiter: RateLimiter, n: int) -> int:
    with pytest.raises(RateLimited) as refused:
        limiter.acquire(n, 0)
    return refused.value.retry_after_ns


@given(
    rate=st.sampled_from([1, 2, 4, 5, 8, 10, 20, 50, 100, 500, 1000]),
    burst=st.integers(1, 8),
    steps=st.lists(st.tuples(st.integers(0, 400), st.integers(1, 8)), max_size=80),
)
def test_a_bucket_decides_as_the_oracles_token_bucket(rate, burst, steps) -> None:
    """Where a token takes a whole number of microseconds, to which the oracle rounds."""
    sim = SimRuntime()
    bucket = TokenBucket(sim, rate, burst)
    oracle, rates = OracleBucket(), [Rate(rate, 1000, burst)]
    state = oracle.initial(rates)
    for wait_ms, n in steps:
        n = 1 + n % burst
        now_ns = sim.now_ns() + wait_ms * NS_PER_MS
        set_clock(sim, now_ns)
        state, decision = oracle.step(rates, state, now_ns // NS_PER_MS, n)
        if decision.allowed:
            assert bucket.acquire(n, 0) == 0
        else:
            assert decision.retry_after_ms == ceil(refused_for_ns(bucket, n) / NS_PER_MS)
