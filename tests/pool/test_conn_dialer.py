"""One dial: attempts, their time-outs and delays, a dead address and its prober. On both runtimes; delays are short."""

from __future__ import annotations

import pytest

from coordemu.pool.conn_dialer import ConnDialer
from coordemu.pool.pool_context import PoolContext
from coordemu.pool.pool_errors import DeadlineExceeded
from coordemu.pool.pool_options import PoolOptions
from coordemu.runtime.base import NS_PER_MS, NS_PER_S

REFUSED = ConnectionError("refused")


@pytest.fixture
def lifetime(rt):
    return PoolContext(rt)


@pytest.fixture
def make_dialer(rt, dialer, lifetime):
    logs = []

    def make(**options):
        made = ConnDialer(rt, dialer, PoolOptions(**{"dialer_retry_timeout_ms": 1, **options}), lifetime, "pool", log)
        made.logs = logs
        return made

    def log(level, line):
        logs.append((level, line))

    return make


def test_the_first_attempt_succeeds(make_dialer, dialer):
    wire = make_dialer().dial()
    assert wire is dialer.wires[0]
    assert dialer.timeouts_ns == [5 * NS_PER_S]


def test_without_a_dial_time_out_the_dialer_sees_none(make_dialer, dialer):
    make_dialer(dial_timeout_ms=0).dial()
    assert dialer.timeouts_ns == [None]


def test_failed_attempts_are_repeated(make_dialer, dialer):
    dialer.failures = [REFUSED, REFUSED]
    made = make_dialer(dialer_retries=3)
    made.dial()
    assert dialer.calls == 3
    assert made.statistics()["failed_dials"] == 0


def test_the_last_error_is_raised_and_said_once(make_dialer, dialer):
    dialer.failures = [ConnectionError("one"), ConnectionError("two"), ConnectionError("three")]
    made = make_dialer(dialer_retries=3)
    with pytest.raises(ConnectionError, match="three"):
        made.dial()
    assert made.logs == [("warning", "pool: failed to dial after 3 attempts: three")]
    assert made.statistics()["failed_dials"] == 1


def test_there_is_no_delay_after_the_last_attempt(rt, make_dialer, dialer):
    dialer.failures = [REFUSED]
    began_ns = rt.now_ns()
    with pytest.raises(ConnectionError):
        make_dialer(dialer_retries=1, dialer_retry_timeout_ms=60_000).dial()
    assert rt.now_ns() - began_ns < 30 * NS_PER_S


def test_attempts_are_apart_by_the_delay(make_dialer, dialer):
    dialer.failures = [REFUSED, REFUSED]
    make_dialer(dialer_retries=3, dialer_retry_timeout_ms=5).dial()
    gaps = [b - a for a, b in zip(dialer.at_ns, dialer.at_ns[1:], strict=False)]
    assert all(gap >= 5 * NS_PER_MS for gap in gaps)


def test_each_attempt_has_its_own_time_out(make_dialer, dialer):
    dialer.takes_ns, dialer.honour_timeout = 60 * NS_PER_S, True
    made = make_dialer(dialer_retries=3, dial_timeout_ms=10)
    with pytest.raises(TimeoutError):
        made.dial()
    assert dialer.timeouts_ns == [10 * NS_PER_MS] * 3


def test_an_earlier_deadline_of_the_caller_wins(rt, make_dialer, dialer):
    dialer.takes_ns, dialer.honour_timeout = 60 * NS_PER_S, True
    ctx = PoolContext.after(rt, 10 * NS_PER_MS)
    with pytest.raises(TimeoutError):
        make_dialer(dialer_retries=3, dial_timeout_ms=50_000).dial(ctx)
    assert dialer.calls == 1
    assert dialer.timeouts_ns[0] <= 10 * NS_PER_MS


def test_a_deadline_that_has_passed_is_no_attempt(rt, make_dialer, dialer):
    with pytest.raises(DeadlineExceeded):
        make_dialer().dial(PoolContext(rt, rt.now_ns()))
    assert dialer.calls == 0


def test_cancelling_in_a_delay_ends_the_dial_with_its_last_error(rt, make_dialer, dialer, start, until):
    dialer.broken = REFUSED
    ctx = PoolContext(rt)
    call = start(lambda: make_dialer(dialer_retries=5, dialer_retry_timeout_ms=60_000).dial(ctx))
    until(lambda: dialer.calls == 1)
    ctx.cancel()
    assert call.failure() is REFUSED
    assert dialer.calls == 1


def test_closing_the_pool_ends_a_delay(make_dialer, dialer, lifetime, start, until):
    dialer.broken = REFUSED
    call = start(make_dialer(dialer_retry_timeout_ms=60_000).dial)
    until(lambda: dialer.calls == 1)
    lifetime.cancel()
    assert call.failure() is REFUSED


def test_a_dead_address_is_left_alone_until_a_probe_gets_through(make_dialer, dialer, until):
    dialer.broken = REFUSED
    made = make_dialer(pool_size=2, dialer_retries=1, probe_interval_ms=1)
    for _ in range(2):
        with pytest.raises(ConnectionError):
            made.dial()
    with pytest.raises(ConnectionError):
        made.dial()
    assert made.statistics()["refused_dials"] == 1
    until(lambda: made.statistics()["probes"] >= 2)
    dialer.broken = None
    until(lambda: not made.statistics()["probing"])
    assert dialer.wires[0].closes == 1  # the probe's own
    assert made.dial().number == 2


def test_the_prober_ends_with_the_pool(make_dialer, dialer, lifetime, until):
    dialer.broken = REFUSED
    made = make_dialer(pool_size=1, dialer_retries=1, probe_interval_ms=60_000)
    with pytest.raises(ConnectionError):
        made.dial()
    until(lambda: made.statistics()["probes"] == 1)
    lifetime.cancel()
    until(lambda: not made.statistics()["probing"])


def test_there_is_one_prober_at_a_time(make_dialer, dialer, lifetime, start, until):
    dialer.broken = REFUSED
    made = make_dialer(pool_size=1, dialer_retries=1, probe_interval_ms=60_000)
    calls = [start(made.dial) for _ in range(5)]
    for call in calls:
        call.failure()
    until(lambda: made.statistics()["probes"] == 1)
    statistics = made.statistics()
    assert statistics["failed_dials"] + statistics["refused_dials"] == 5
    assert dialer.calls == statistics["failed_dials"] + 1
    lifetime.cancel()
