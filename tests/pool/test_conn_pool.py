"""Get, put, remove: turns, the order of idle ones, time-outs that say why, health, handshakes. On both runtimes."""

from __future__ import annotations

import pytest

from coordemu.pool.invariants import check_invariants, check_removed
from coordemu.pool.pool_conn_state import PoolConnState
from coordemu.pool.pool_context import PoolContext
from coordemu.pool.pool_errors import (
    Cancelled,
    DeadlineExceeded,
    NotInHand,
    PoolExhausted,
    PoolOverloaded,
    PoolTimeout,
)
from coordemu.runtime.base import NS_PER_MS, NS_PER_S

S = PoolConnState


def test_a_connection_is_dialed_used_and_used_again(make_pool, dialer, rested):
    pool = make_pool(pool_size=2)
    conn = pool.get()
    assert conn.state is S.IN_USE
    assert conn.resource is dialer.wires[0]
    pool.put(conn)
    assert conn.state is S.IDLE
    again = pool.get()
    assert again.conn is conn.conn
    assert dialer.calls == 1
    statistics = pool.statistics()
    assert (statistics["hits"], statistics["misses"], statistics["in_use"], statistics["total"]) == (1, 1, 1, 1)
    pool.put(again)
    rested(pool)


def test_the_last_given_back_is_taken_first(make_pool, rested):
    pool = make_pool(pool_size=3)
    conns = [pool.get() for _ in range(3)]
    for conn in conns:
        pool.put(conn)
    assert [pool.get().conn for _ in range(3)] == [each.conn for each in conns[::-1]]
    rested(pool)


def test_or_the_first_with_fifo(make_pool, rested):
    pool = make_pool(pool_size=3, fifo=True)
    conns = [pool.get() for _ in range(3)]
    for conn in conns:
        pool.put(conn)
    assert [pool.get().conn for _ in range(3)] == [each.conn for each in conns]
    rested(pool)


@pytest.mark.parametrize("fifo", [False, True])
def test_what_is_unusable_is_passed_over_and_looked_at_last(make_pool, rested, fifo):
    pool = make_pool(pool_size=3, fifo=fifo)
    conns = [pool.get() for _ in range(3)]
    for conn in conns:
        pool.put(conn)
    near = conns[0] if fifo else conns[2]
    assert near.conn.claim("handoff", (S.IDLE,))
    taken = pool.get()
    assert taken.conn is conns[1].conn
    assert list(pool.register.idle)[-1] is near.conn
    pool.put(taken)
    rested(pool)


def test_looking_is_bounded(make_pool, dialer, rested):
    pool = make_pool(pool_size=4, pop_attempts=2)
    conns = [pool.get() for _ in range(4)]
    for conn in conns:
        pool.put(conn)
    for conn in conns[2:]:
        assert conn.conn.claim("handoff", (S.IDLE,))
    extra = pool.get()
    assert dialer.calls == 5
    assert not extra.conn.pooled  # there are as many pooled ones as may be
    pool.put(extra)
    assert pool.removals() == {"unpooled": 1}
    rested(pool)


def test_a_closed_one_in_the_list_is_dropped_on_the_way(make_pool, rested):
    pool = make_pool(pool_size=2)
    one, two = pool.get(), pool.get()
    pool.put(one)
    pool.put(two)
    two.conn.close()
    again = pool.get()
    assert again.conn is one.conn
    assert len(pool.register.idle) == 0
    pool.put(again)
    pool.remove_without_turn(two.conn, "closed")
    rested(pool)


def test_a_removed_connection_makes_room_for_who_waits(make_pool, start, until, rested):
    pool = make_pool(pool_size=10)
    conns = [pool.get() for _ in range(10)]
    call = start(pool.get)
    until(lambda: pool.turns.waiting == 1)
    pool.remove(conns[0], "broken")
    fresh = call.join()
    check_removed(conns[0].conn)
    assert fresh not in conns
    for conn in [*conns[1:], fresh]:
        pool.put(conn)
    rested(pool)
    assert pool.statistics()["total"] == 10


def test_no_turn_in_time_says_why(make_pool, rested):
    pool = make_pool(pool_size=3, pool_timeout_ms=20)
    conns = [pool.get() for _ in range(3)]
    conns[0].conn.claim("handoff")
    with pytest.raises(PoolTimeout, match=r"3 of 3 in use, 0 idle, 0 dialing, 0 unusable, 0 waiting") as caught:
        pool.get()
    assert caught.value.occupancy.in_use == 3
    assert caught.value.waited_ns >= 20 * NS_PER_MS
    statistics = pool.statistics()
    assert (statistics["timeouts"], statistics["pending"], statistics["wait_count"]) == (1, 0, 0)
    conns[0].conn.give_back()
    pool.remove(conns[0])
    for conn in conns[1:]:
        pool.put(conn)
    rested(pool)


def test_a_time_out_while_others_dial_says_that(rt, make_pool, dialer, start, until, rested):
    dialer.gate = rt.event("the network")
    pool = make_pool(pool_size=1, pool_timeout_ms=10)
    call = start(pool.get)
    until(lambda: dialer.calls == 1)
    with pytest.raises(PoolTimeout, match=r"0 of 1 in use, 0 idle, 1 dialing"):
        pool.get()
    dialer.gate.set()
    pool.put(call.join())
    rested(pool)


def test_a_wait_is_counted_with_its_length(rt, make_pool, start, until, rested):
    pool = make_pool(pool_size=1)
    conn = pool.get()
    call = start(pool.get)
    until(lambda: pool.turns.waiting == 1)
    assert pool.statistics()["pending"] == 1
    rt.sleep_ns(10 * NS_PER_MS)
    pool.put(conn)
    again = call.join()
    assert again.conn is conn.conn
    statistics = pool.statistics()
    assert (statistics["wait_count"], statistics["pending"]) == (1, 0)
    assert 10 * NS_PER_MS <= statistics["wait_ns"] < 5 * NS_PER_S
    pool.put(again)
    rested(pool)


def test_the_wait_excludes_the_dial(make_pool, dialer, rested):
    dialer.takes_ns = 20 * NS_PER_MS
    pool = make_pool(pool_size=1)
    pool.put(pool.get())
    assert pool.statistics()["wait_ns"] == 0
    rested(pool)


def test_the_pools_time_out_does_not_cover_the_dial(make_pool, dialer, rested):
    dialer.takes_ns = 40 * NS_PER_MS
    pool = make_pool(pool_size=1, pool_timeout_ms=10)
    conn = pool.get()
    with pytest.raises(PoolTimeout):
        pool.get()
    pool.put(conn)
    again = pool.get()
    assert again.conn is conn.conn
    assert pool.statistics()["timeouts"] == 1
    pool.put(again)
    rested(pool)


def test_a_cancelled_caller_leaves_the_line(rt, make_pool, start, until, rested):
    pool = make_pool(pool_size=1)
    conn = pool.get()
    ctx = PoolContext(rt)
    call = start(lambda: pool.get(ctx))
    until(lambda: pool.turns.waiting == 1)
    ctx.cancel()
    assert isinstance(call.failure(), Cancelled)
    assert pool.statistics()["timeouts"] == 0
    pool.put(conn)
    rested(pool)


def test_a_callers_own_deadline_is_not_a_pool_time_out(rt, make_pool, rested):
    pool = make_pool(pool_size=1)
    conn = pool.get()
    with pytest.raises(DeadlineExceeded):
        pool.get(PoolContext.after(rt, 5 * NS_PER_MS))
    assert pool.statistics()["timeouts"] == 0
    pool.put(conn)
    rested(pool)


def test_callers_are_served_in_the_order_of_their_coming(make_pool, start, until, rested):
    pool = make_pool(pool_size=1)
    conn = pool.get()
    order = []

    def caller(number):
        mine = pool.get()
        order.append(number)
        pool.put(mine)

    calls = []
    for number in range(6):
        calls.append(start(lambda number=number: caller(number)))
        until(lambda: pool.turns.waiting == len(calls))
    pool.put(conn)
    for call in calls:
        call.join()
    assert order == list(range(6))
    rested(pool)


def test_back_pressure_a_full_line_turns_away_and_says_so_before(make_pool, start, until, rested):
    told = []
    pool = make_pool(pool_size=1, max_waiting=2, pressure_percent=50, on_pressure=lambda *now: told.append(now))
    conn = pool.get()
    calls = [start(lambda: pool.put(pool.get())) for _ in range(2)]
    until(lambda: pool.turns.waiting == 2)
    assert told
    with pytest.raises(PoolOverloaded):
        pool.get()
    assert pool.statistics()["overloads"] == 1
    pool.put(conn)
    for call in calls:
        call.join()
    rested(pool)
    assert told[-1][0] == 0


def test_a_connection_cannot_be_given_back_twice(make_pool, rested):
    pool = make_pool(pool_size=2)
    conn = pool.get()
    pool.put(conn)
    for again in (pool.put, pool.remove):
        with pytest.raises(NotInHand, match="for a second time; it is in the idle list"):
            again(conn)
    rested(pool)
    other = pool.get()
    pool.remove(other)
    with pytest.raises(NotInHand, match="gone"):
        pool.put(other)
    rested(pool)


def test_more_than_may_be_idle_are_closed(make_pool, rested):
    pool = make_pool(pool_size=4, max_idle_conns=2)
    conns = [pool.get() for _ in range(4)]
    for conn in conns:
        pool.put(conn)
    statistics = pool.statistics()
    assert (statistics["idle"], statistics["total"], statistics["stale"]) == (2, 2, 2)
    assert pool.removals() == {"evicted": 2}
    check_removed(conns[3].conn)
    rested(pool)


def test_a_cap_refuses_at_once(make_pool, rested):
    pool = make_pool(pool_size=2, max_active_conns=1, pool_timeout_ms=60_000)
    conn = pool.get()
    with pytest.raises(PoolExhausted, match="1 connections are open, as many as may be"):
        pool.get()
    pool.put(conn)
    again = pool.get()
    assert again.conn is conn.conn
    pool.put(again)
    rested(pool)


def test_a_herd_does_not_go_beyond_the_cap(make_pool, dialer, start, rested):
    dialer.takes_ns = 5 * NS_PER_MS
    pool = make_pool(pool_size=10, max_active_conns=2)
    calls = [start(lambda: pool.put(pool.get())) for _ in range(10)]
    for call in calls:
        call.task.join()
    assert {type(call.error) for call in calls} <= {PoolExhausted, type(None)}
    assert pool.statistics()["most_open"] <= 2
    assert len(dialer.wires) <= 2
    rested(pool)


def test_a_thousand_gets_do_not_exceed_the_size(make_pool, start, until, rested):
    pool = make_pool(pool_size=20, min_idle_conns=5)
    until(lambda: len(pool.register.idle) == 5)
    until(lambda: not pool.turns.held)
    conns = [pool.get() for _ in range(20)]
    statistics = pool.statistics()
    assert (statistics["idle"], statistics["total"]) == (0, 20)
    for conn in conns:
        pool.put(conn)
    rested(pool)


def test_what_was_idle_too_long_is_closed_at_its_next_get(rt, make_pool, dialer, rested):
    pool = make_pool(pool_size=1, conn_max_idle_time_ms=5)
    conn = pool.get()
    pool.put(conn)
    rt.sleep_ns(6 * NS_PER_MS)
    other = pool.get()
    assert other is not conn
    assert pool.removals() == {"stale": 1}
    assert (pool.statistics()["hits"], pool.statistics()["misses"]) == (0, 2)
    check_removed(conn.conn)
    pool.put(other)
    rested(pool)


def test_use_keeps_it_young(rt, make_pool, rested):
    pool = make_pool(pool_size=1, conn_max_idle_time_ms=60_000)
    conn = pool.get()
    was_ns = conn.conn.used_ns
    rt.sleep_ns(2 * NS_PER_MS)
    conn.conn.touch()
    assert conn.conn.used_ns > was_ns
    pool.put(conn)
    idle_ns = conn.conn.used_ns
    rt.sleep_ns(2 * NS_PER_MS)
    assert conn.conn.used_ns == idle_ns
    again = pool.get()
    assert again.conn is conn.conn
    assert conn.conn.used_ns > idle_ns
    pool.put(again)
    rested(pool)


def test_what_is_too_old_is_closed_however_fresh_its_last_use(rt, make_pool, rested):
    pool = make_pool(pool_size=1, conn_max_lifetime_ms=5)
    conn = pool.get()
    rt.sleep_ns(6 * NS_PER_MS)
    conn.conn.touch()
    pool.put(conn)
    other = pool.get()
    assert other is not conn
    check_removed(conn.conn)
    pool.put(other)
    rested(pool)


def test_a_failed_health_check_closes_it(make_pool, dialer, rested):
    pool = make_pool(pool_size=2, health_check=lambda wire: wire.healthy)
    one, two = pool.get(), pool.get()
    pool.put(one)
    pool.put(two)
    two.resource.healthy = False
    again = pool.get()
    assert again.conn is one.conn
    check_removed(two.conn)
    pool.put(again)
    rested(pool)


def test_one_that_was_in_use_just_now_is_not_checked_again(rt, make_pool, rested):
    checks = []
    pool = make_pool(pool_size=1, health_check=checks.append, health_check_after_ms=60_000)
    loan = pool.get()
    pool.put(loan)
    pool.put(pool.get())
    assert checks == []
    conn = loan.conn
    # Unused for long, or handed out in the future: a clock that has gone back proves nothing.
    for offset_ms in (-120_000, 120_000):
        conn.used_ns = rt.now_ns() + offset_ms * NS_PER_MS
        checks.clear()
        loan = pool.get()
        assert checks == [conn.resource]
        assert loan.conn is not conn  # the check said no
        conn = loan.conn
        pool.put(loan)
    rested(pool)


def test_sick_ones_are_tried_a_few_times_and_then_one_is_dialed(make_pool, dialer, rested):
    pool = make_pool(pool_size=5, health_check=lambda wire: wire.healthy)
    conns = [pool.get() for _ in range(5)]
    for conn in conns:
        conn.resource.healthy = False
        pool.put(conn)
    fresh = pool.get()
    assert dialer.calls == 6
    assert pool.removals() == {"stale": pool.options.get_attempts}
    pool.put(fresh)
    rested(pool)


def test_the_handshake_is_done_once_by_the_first_caller(make_pool, rested):
    done = []

    def handshake(conn):
        assert conn.state is S.INITIALIZING
        done.append(conn)

    pool = make_pool(pool_size=1, initialize=handshake)
    conn = pool.get()
    pool.put(conn)
    again = pool.get()
    assert again.conn is conn.conn
    assert done == [conn.conn]
    pool.put(again)
    rested(pool)


def test_a_failed_handshake_closes_it_and_frees_the_turn(make_pool, dialer, rested):
    failures = [ConnectionError("NOAUTH")]

    def handshake(conn):
        if failures:
            raise failures.pop()

    pool = make_pool(pool_size=1, initialize=handshake)
    with pytest.raises(ConnectionError, match="NOAUTH"):
        pool.get()
    assert dialer.wires[0].closes == 1
    assert pool.removals() == {"init_error": 1}
    rested(pool)
    pool.put(pool.get())
    rested(pool)


def test_only_one_is_in_the_handshake_of_one_connection(rt, make_pool, start, rested):
    inside = []

    def handshake(conn):
        inside.append(conn.conn_id)
        assert inside.count(conn.conn_id) == 1
        rt.sleep_ns(NS_PER_MS)

    pool = make_pool(pool_size=4, min_idle_conns=2, initialize=handshake)
    calls = [start(lambda: pool.put(pool.get())) for _ in range(8)]
    for call in calls:
        call.join()
    rested(pool)


def test_what_a_close_raises_is_counted_not_raised(make_pool, rested):
    lines = []
    pool = make_pool(pool_size=1, log=lambda *line: lines.append(line))
    conn = pool.get()
    conn.resource.close_error = OSError("bad descriptor")
    pool.remove(conn)
    assert pool.statistics()["closes_failed"] == 1
    assert lines == [("notice", "pool#1: closing it failed: bad descriptor")]
    rested(pool)


def test_one_beside_the_pool_takes_no_turn_and_is_never_listed(make_pool, rested):
    pool = make_pool(pool_size=1)
    beside = pool.new_conn()
    assert (pool.turns.held, pool.statistics()["total"]) == (0, 1)
    conn = pool.get()
    pool.put(conn)
    assert pool.close_conn(beside)
    check_removed(beside)
    rested(pool)


def test_a_worker_cannot_remove_what_a_caller_holds(make_pool, rested):
    pool = make_pool(pool_size=1)
    conn = pool.get()
    with pytest.raises(NotInHand, match="its turn would be lost"):
        pool.remove_without_turn(conn.conn, "handoff")
    pool.put(conn)
    assert conn.conn.claim("handoff", (S.IDLE,))
    assert pool.remove_without_turn(conn.conn, "handoff")
    assert not pool.remove_without_turn(conn.conn, "handoff")
    check_removed(conn.conn)
    rested(pool)


def test_a_snapshot_says_where_every_connection_is(make_pool, rested):
    pool = make_pool(pool_size=3)
    one, two = pool.get(), pool.get()
    pool.put(one)
    look = pool.snapshot()
    assert (look.phase, look.total, look.listed, look.turns_held) == ("open", 2, 1, 1)
    by_id = {conn.conn_id: conn for conn in look.conns}
    assert (by_id[1].state, by_id[1].place, by_id[1].holder) == ("IDLE", "in the idle list", "")
    assert (by_id[2].state, by_id[2].place, by_id[2].holder) == ("IN_USE", "in a caller's hand", "main")
    assert by_id[1].age_ns >= by_id[1].unused_ns >= 0
    assert str(look.occupancy) == "1 of 3 in use, 1 idle, 0 dialing, 0 unusable, 0 waiting"
    assert "1/3 held" in repr(pool)
    pool.put(two)
    rested(pool)


def test_many_callers_with_removals_and_short_lives(make_pool, start, rested):
    pool = make_pool(pool_size=3, conn_max_idle_time_ms=1, max_idle_conns=2)
    busy = set()

    def caller(number):
        for turn in range(30):
            conn = pool.get()
            assert conn.conn_id not in busy
            busy.add(conn.conn_id)
            check_invariants(pool, quiet=False)
            busy.remove(conn.conn_id)
            if (turn + number) % 7:
                pool.put(conn)
            else:
                pool.remove(conn, "broken")

    calls = [start(lambda number=number: caller(number)) for number in range(6)]
    for call in calls:
        call.join()
    rested(pool)
    assert pool.statistics()["in_use"] == 0
    assert pool.removals()["broken"] >= 20
