"""Wishes for a connection and their queue: one delivery or one giving up, first come first served. On both runtimes."""

from __future__ import annotations

import pytest

from coordemu.pool.pool_context import PoolContext
from coordemu.pool.pool_options import PoolOptions
from coordemu.pool.pooled_conn import PooledConn
from coordemu.pool.want_conn import GIVEN_UP, WantConn, WantConnQueue


@pytest.fixture
def make_want(rt):
    return lambda name="caller": WantConn(rt, name, lambda: ["a dial"])


@pytest.fixture
def conn(rt):
    return PooledConn(rt, 1, object(), "pool", True, None, frozenset())


@pytest.fixture
def queue(rt):
    return WantConnQueue(rt, "pool")


def test_a_delivery_reaches_who_waits(make_want, conn):
    want = make_want()
    assert not want.done
    assert want.deliver(conn)
    assert want.done
    assert want.wait(None).conn is conn


def test_an_error_is_a_delivery(make_want):
    want, error = make_want(), ConnectionError("refused")
    assert want.deliver(None, error)
    assert want.wait(None).error is error


def test_of_two_deliveries_the_second_changes_nothing(make_want, conn):
    want = make_want()
    assert want.deliver(conn)
    assert not want.deliver(None, ConnectionError("late"))
    assert want.wait(None).conn is conn


def test_giving_up_first_refuses_the_delivery(make_want, conn):
    want = make_want()
    assert want.cancel() is GIVEN_UP
    assert want.done
    assert not want.deliver(conn)


def test_giving_up_after_a_delivery_hands_it_out(make_want, conn):
    want = make_want()
    want.deliver(conn)
    assert want.cancel().conn is conn


def test_who_waits_under_a_cancelled_context_gets_nothing(rt, make_want, start):
    want, ctx = make_want(), PoolContext(rt)
    call = start(lambda: want.wait(ctx))
    ctx.cancel()
    assert call.join() is None


def test_giving_up_against_delivering_one_of_them_stands(make_want, conn, start):
    for _ in range(50):
        want = make_want()
        give = start(lambda want=want: want.deliver(conn))
        leave = start(want.cancel)
        assert give.join() == (leave.join().conn is conn)


def test_the_queue_is_first_in_first_out(queue, make_want):
    wants = [make_want(str(number)) for number in range(4)]
    for want in wants:
        queue.enqueue(want)
    assert len(queue) == 4
    assert [queue.dequeue() for _ in range(5)] == [*wants, None]


def test_items_put_in_by_many_come_out_once(queue, make_want, start):
    def put():
        for _ in range(20):
            queue.enqueue(make_want())

    def take():
        return sum(queue.dequeue() is not None for _ in range(20))

    putters = [start(put) for _ in range(4)]
    takers = [start(take) for _ in range(4)]
    for call in putters:
        call.join()
    taken = sum(call.join() for call in takers)
    while queue.dequeue() is not None:
        taken += 1
    assert taken == 80
    assert len(queue) == 0


@pytest.mark.parametrize(
    ("pattern", "dropped", "left"), [("", 0, 0), ("ddd", 3, 0), ("ll", 0, 2), ("ddldl", 2, 3), ("dl", 1, 1)]
)
def test_finished_wants_at_the_front_are_dropped(queue, make_want, pattern, dropped, left):
    for letter in pattern:
        want = make_want()
        if letter == "d":
            want.cancel()
        queue.enqueue(want)
    assert queue.drop_front_done() == dropped
    assert queue.drop_front_done() == 0
    assert len(queue) == left


def test_the_first_who_still_waits_is_served(queue, make_want, conn):
    gone, first, second = make_want(), make_want(), make_want()
    gone.cancel()
    for want in (gone, first, second):
        queue.enqueue(want)
    assert queue.serve_first(conn)
    assert first.wait(None).conn is conn
    assert not second.done
    assert len(queue) == 1


def test_nobody_waits_and_nobody_is_served(queue, make_want, conn):
    want = make_want()
    want.cancel()
    queue.enqueue(want)
    assert not queue.serve_first(conn)
    assert len(queue) == 0


def test_a_want_is_taken_out_from_anywhere(queue, make_want):
    wants = [make_want() for _ in range(3)]
    for want in wants:
        queue.enqueue(want)
    queue.discard(wants[1])
    queue.discard(wants[1])
    assert [queue.dequeue(), queue.dequeue()] == [wants[0], wants[2]]
    assert queue.longest == 3


def test_all_are_told_of_the_end(queue, make_want):
    wants = [make_want() for _ in range(3)]
    for want in wants:
        queue.enqueue(want)
    queue.fail_all(RuntimeError("closed"))
    assert all(str(want.wait(None).error) == "closed" and not want.wait(None).from_dial for want in wants)
    assert len(queue) == 0


def test_the_defaults_are_the_models() -> None:
    options = PoolOptions()
    assert (options.pool_size, options.fifo, options.pool_timeout_ms) == (10, False, 6000)
    assert (options.dial_timeout_ms, options.dialer_retries, options.dialer_retry_timeout_ms) == (5000, 5, 100)
    assert (options.min_idle_conns, options.max_idle_conns, options.max_active_conns) == (0, 0, 0)
    assert options.conn_max_idle_time_ms == 30 * 60_000
    assert options.dial_slots == 10
    assert (options.pop_attempts, options.get_attempts) == (50, 3)


@pytest.mark.parametrize(
    "bad",
    [
        {"pool_size": 0},
        {"pool_timeout_ms": -1},
        {"pop_attempts": 0},
        {"get_attempts": 0},
        {"dialer_retries": 0},
        {"pressure_percent": 101},
        {"dialer_retry_backoff": "random"},
        {"dial_timeout_ms": 400 * 24 * 3_600_000},
        {"max_waiting": -1},
    ],
)
def test_options_have_bounds(bad) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        PoolOptions(**bad)


@pytest.mark.parametrize(
    ("max_waiting", "percent", "mark"), [(0, 80, 8), (100, 80, 80), (3, 50, 2), (0, 0, 0), (1, 1, 1)]
)
def test_the_mark_of_pressure(max_waiting, percent, mark) -> None:
    assert PoolOptions(max_waiting=max_waiting, pressure_percent=percent).pressure_at == mark


def test_more_dials_at_once_than_turns_are_not_granted() -> None:
    assert PoolOptions(pool_size=3, max_concurrent_dials=9).dial_slots == 3
    assert PoolOptions(pool_size=3, max_concurrent_dials=2).dial_slots == 2


def test_when_a_connection_is_too_old(rt) -> None:
    hour_ms = 3_600_000
    assert PoolOptions().expires_ns(5, rt.random) is None
    assert PoolOptions(conn_max_lifetime_ms=hour_ms).expires_ns(5, rt.random) == 5 + hour_ms * 10**6
    jittered = PoolOptions(conn_max_lifetime_ms=hour_ms, conn_max_lifetime_jitter_ms=360_000)
    drawn = [jittered.expires_ns(0, rt.random) / 6e10 for _ in range(200)]
    assert min(drawn) >= 54
    assert max(drawn) <= 66
    assert max(drawn) - min(drawn) > 6
    capped = PoolOptions(conn_max_lifetime_ms=1000, conn_max_lifetime_jitter_ms=99_000)
    assert all(0 <= capped.expires_ns(0, rt.random) <= 2 * 10**9 for _ in range(100))


def test_delays_between_attempts(rt) -> None:
    constant = PoolOptions(dialer_retry_timeout_ms=100)
    assert [constant.retry_delay_ns(n, rt.random) for n in range(3)] == [10**8] * 3
    growing = PoolOptions(dialer_retry_backoff="exponential", dialer_retry_timeout_ms=100, dialer_retry_max_ms=300)
    for attempt, top_ms in enumerate((100, 200, 300, 300)):
        for _ in range(20):
            assert top_ms / 2 <= growing.retry_delay_ns(attempt, rt.random) / 1e6 <= top_ms
    assert growing.retry_delay_ns(10_000, rt.random) <= 3 * 10**8
