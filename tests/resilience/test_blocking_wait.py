"""Blocking reads: their time under pressure, and the connections that they leave to others. On both runtimes."""

from __future__ import annotations

import pytest
from counted_pools import CountedPool, Wire
from hypothesis import given, settings
from hypothesis import strategies as st

from coordemu.pool.conn_pool import ConnPool
from coordemu.pool.pool_context import PoolContext
from coordemu.pool.pool_errors import Cancelled
from coordemu.pool.pool_options import PoolOptions
from coordemu.resilience.blocking_wait import BlockingOptions, BlockingWait, blocking_ns
from coordemu.resilience.node_turns import NodeTurns
from coordemu.resilience.pool_pressure import PoolPressure
from coordemu.resilience.pressure_gauge import PressureLevel, PressureOptions
from coordemu.resilience.resilience_errors import BulkheadFull
from coordemu.runtime.base import NS_PER_MS, NS_PER_S

CALM, PRESSED = PressureLevel.CALM, PressureLevel.PRESSED
MARKS = PressureOptions()
AT_ONCE = PressureOptions(min_ms=0, look_ms=0)


@pytest.mark.parametrize(
    ("pressure", "level", "expected_ms"),
    [
        (0, CALM, 1_000), (0.7, CALM, 1_000), (0.75, CALM, 750), (0.8, CALM, 500), (0.9, CALM, 500), (1, CALM, 500),
        (0, PRESSED, 500), (0.75, PRESSED, 500), (1, PRESSED, 500),
    ],
)  # fmt: skip
def test_the_write_up_s_times(pressure: float, level: PressureLevel, expected_ms: int) -> None:
    assert blocking_ns(pressure, level, BlockingOptions(), MARKS) == pytest.approx(expected_ms * NS_PER_MS)


options = st.tuples(st.integers(1, 10_000), st.integers(1, 10_000)).map(
    lambda pair: BlockingOptions(blocking_ms=max(pair), pressed_ms=min(pair))
)
marks = st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(lambda pair: PressureOptions(max(pair), min(pair)))


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), options, marks)
def test_it_is_bounded_and_never_longer_at_a_higher_pressure(one, other, chosen, where) -> None:
    low, high = sorted((one, other))
    for level in PressureLevel:
        at_low, at_high = (blocking_ns(each, level, chosen, where) for each in (low, high))
        assert chosen.pressed_ms * NS_PER_MS <= at_high <= at_low <= chosen.blocking_ms * NS_PER_MS
    assert blocking_ns(low, PRESSED, chosen, where) <= blocking_ns(low, CALM, chosen, where)


@pytest.mark.parametrize(
    ("size", "percent", "limit"),
    [(20, 20, 16), (5, 20, 4), (5, 1, 4), (5, 0, 5), (1, 20, 1), (2, 99, 1), (50, 20, 40), (3, 50, 1)],
)
def test_what_is_kept_is_rounded_up_and_one_read_may_always_be(size: int, percent: int, limit: int) -> None:
    assert BlockingOptions(pool_size=size, non_blocking_percent=percent).limit == limit


@settings(deadline=None)
@given(st.integers(1, 1_000), st.integers(0, 99))
def test_the_stated_share_is_kept(size: int, percent: int) -> None:
    limit = BlockingOptions(pool_size=size, non_blocking_percent=percent).limit
    assert 1 <= limit <= size
    assert limit == 1 or 100 * (size - limit) >= percent * size


@pytest.mark.parametrize(
    "bad",
    [
        {"pressed_ms": 0}, {"pressed_ms": 1_001}, {"blocking_ms": 0}, {"pool_size": 0}, {"non_blocking_percent": 100},
        {"non_blocking_percent": -1},
    ],
)  # fmt: skip
def test_bounds(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"pressed_ms|non_blocking"):
        BlockingOptions(**bad)


def test_the_time_follows_the_node_s_pressure(rt) -> None:
    pools = {"a": CountedPool(), "b": CountedPool()}
    wait = BlockingWait(rt, PoolPressure(rt, lambda: pools, AT_ONCE))
    assert wait.timeout_ns() == NS_PER_S
    assert (wait.timeout_ms(), wait.timeout_text()) == (1_000, "1")
    pools["a"].turns.held = 17
    assert wait.timeout_text("a") == "0.5"
    assert wait.timeout_text("b") == "1"
    # Where it will go is not known: as at the worst.
    assert wait.timeout_text() == wait.timeout_text("c") == "0.5"
    pools["a"].turns.held = 15
    assert wait.timeout_ms("a") == 500
    pools["a"].turns.held = 13
    assert wait.timeout_ms("a") == 1_000
    pools["a"].turns.held = 15
    assert wait.timeout_ms("a") == 750


def test_blocking_reads_cannot_have_all_connections(rt, start, until) -> None:
    pool = ConnPool(rt, lambda timeout_ns: Wire(), PoolOptions(pool_size=5))
    pressure = PoolPressure(rt, lambda: {"a": pool}, AT_ONCE)
    wait = BlockingWait(rt, pressure, BlockingOptions(pool_size=5))
    over = rt.event("data")

    def read() -> None:
        with wait.hold("a"):
            conn = pool.get()
            over.wait()
            pool.put(conn)

    calls = [start(read) for _ in range(12)]
    try:
        until(lambda: pool.turns.held == 4 and wait.statistics()["waiting"] == 8)
        # The one that is left is for those who do not block; nobody is before them.
        for _ in range(20):
            pool.put(pool.get())
            assert pool.turns.statistics()["waits"] == 0
    finally:
        over.set()
    for call in calls:
        call.join()
    assert wait.statistics() == {
        "limit": 4, "nodes": 1, "held": 0, "waiting": 0, "waits": 8, "longest_line": 8,
        "wait_ns": wait.statistics()["wait_ns"],
    }  # fmt: skip
    pool.close()


def test_places_are_had_in_the_order_of_coming(rt, start, until) -> None:
    places = NodeTurns(rt, 1, "places")
    order: list[int] = []

    def caller(number: int) -> None:
        with places.hold("a"):
            order.append(number)

    first, _ = places.acquire("a")
    calls = []
    for number in range(6):
        calls.append(start(lambda number=number: caller(number)))
        until(lambda: first.waiting == len(calls))
    first.release()
    for call in calls:
        call.join()
    assert order == list(range(6))


def test_a_place_that_does_not_come_in_time(rt) -> None:
    places = NodeTurns(rt, 1, "places")
    with places.hold("a"):
        with pytest.raises(BulkheadFull, match="places a: no slot of 1") as caught, places.hold("a", timeout_ns=1_000):
            pass
        assert caught.value.waited_ns >= 1_000
        with pytest.raises(BulkheadFull), places.hold("a", timeout_ns=0):
            pass
        with places.hold("b", timeout_ns=0):
            assert places.statistics()["held"] == 2
    assert places.statistics()["held"] == 0


def test_a_wait_for_a_place_can_be_cancelled(rt, start, until) -> None:
    places = NodeTurns(rt, 1, "places")
    ctx = PoolContext(rt)
    with places.hold():
        call = start(lambda: places.acquire(ctx=ctx))
        until(lambda: places.statistics()["waiting"] == 1)
        ctx.cancel()
        assert isinstance(call.failure(), Cancelled)
    assert places.statistics()["held"] == 0


def test_a_place_comes_back_whatever_happens(rt) -> None:
    wait = BlockingWait(rt, PoolPressure(rt, dict), BlockingOptions(pool_size=1))
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), wait.hold():
            raise error
    assert wait.statistics()["held"] == 0
    assert repr(wait) == "<BlockingWait 'blocking reads' 1 per node>"


def test_a_limit_of_nothing_is_refused(rt) -> None:
    with pytest.raises(ValueError, match="size 0 is below 1"):
        NodeTurns(rt, 0, "places")
