"""Close, retire, failover, drain and a drainer's borrow. On both runtimes."""

from __future__ import annotations

from contextlib import suppress

import pytest

from coordemu.pool.invariants import check_removed
from coordemu.pool.pool_conn_state import PoolConnState
from coordemu.pool.pool_context import PoolContext
from coordemu.pool.pool_errors import Cancelled, ConnUnusable, PoolClosed, PoolDraining, PoolExhausted, PoolTimeout
from coordemu.runtime.base import NS_PER_MS, NS_PER_S

S = PoolConnState


def test_close_closes_what_is_idle_and_what_is_in_use(make_pool):
    pool = make_pool(pool_size=3)
    one, two = pool.get(), pool.get()
    pool.put(one)
    pool.close()
    assert pool.phase == "closed"
    for conn in (one, two):
        check_removed(conn.conn)
    pool.put(two)
    assert pool.turns.held == 0
    with pytest.raises(PoolClosed):
        pool.get()
    with pytest.raises(PoolClosed):
        pool.new_conn()
    assert pool.removals() == {"pool_shutdown": 2}


def test_a_second_close_says_so(make_pool):
    pool = make_pool()
    pool.close()
    with pytest.raises(PoolClosed):
        pool.close()


def test_close_wakes_who_waits_for_a_turn(rt, make_pool, start, until):
    pool = make_pool(pool_size=1, pool_timeout_ms=60_000)
    conn = pool.get()
    calls = [start(pool.get) for _ in range(3)]
    until(lambda: pool.turns.waiting == 3)
    began_ns = rt.now_ns()
    pool.close()
    for call in calls:
        assert isinstance(call.failure(), PoolClosed)
    assert rt.now_ns() - began_ns < 30 * NS_PER_S
    pool.remove(conn)
    assert pool.turns.held == 0


def test_close_wakes_who_waits_for_a_dial_or_a_slot(rt, make_pool, dialer, start, until):
    dialer.gate = rt.event("the network")
    pool = make_pool(pool_size=2, max_concurrent_dials=1)
    dialing = start(pool.get)
    until(lambda: dialer.calls == 1)
    queued = start(pool.get)
    until(lambda: pool.dials.slots.waiting == 1)
    pool.close()
    assert isinstance(dialing.failure(), PoolClosed)
    assert isinstance(queued.failure(), PoolClosed)
    assert pool.turns.held == 1
    dialer.gate.set()
    until(lambda: not pool.turns.held)
    until(lambda: not pool.dials.slots.held)
    assert dialer.wires[0].closes == 1
    assert pool.statistics()["total"] == 0


def test_close_while_warm_ups_hang_leaves_nothing(rt, make_pool, dialer, until):
    dialer.gate = rt.event("the network")
    pool = make_pool(pool_size=10, min_idle_conns=10)
    until(lambda: dialer.calls == 10)
    pool.close()
    dialer.gate.set()
    until(lambda: not pool.turns.held)
    statistics = pool.statistics()
    assert all(statistics[name] == 0 for name in ("total", "idle", "in_use", "dialing", "turns_held", "wants", "hits"))
    assert [wire.closes for wire in dialer.wires] == [1] * 10


def test_close_raises_the_first_error_after_all_are_closed(make_pool):
    pool = make_pool(pool_size=2)
    one, two = pool.get(), pool.get()
    one.resource.close_error = OSError("first")
    two.resource.close_error = OSError("second")
    pool.put(one)
    pool.put(two)
    with pytest.raises(OSError, match="first"):
        pool.close()
    assert (one.resource.closes, two.resource.closes) == (1, 1)


def test_close_says_nothing_of_one_that_was_too_old_anyway(rt, make_pool):
    pool = make_pool(pool_size=1, conn_max_idle_time_ms=2)
    conn = pool.get()
    conn.resource.close_error = OSError("reset by peer")
    pool.put(conn)
    rt.sleep_ns(3 * NS_PER_MS)
    pool.close()
    assert conn.resource.closes == 1


def test_retired_idle_ones_close_now_and_the_others_at_their_put(make_pool, rested):
    pool = make_pool(pool_size=3)
    idle, held = pool.get(), pool.get()
    pool.put(idle)
    assert pool.retire() == 1
    check_removed(idle.conn)
    assert held.state is S.IN_USE
    assert held.resource.closes == 0
    pool.put(held)
    check_removed(held.conn)
    assert (pool.statistics()["total"], pool.statistics()["idle"]) == (0, 0)
    rested(pool)
    pool.put(pool.get())
    rested(pool)


def test_a_failover_closes_what_is_in_use_under_its_caller(make_pool, rested):
    pool = make_pool(pool_size=3)
    idle, held, spared = pool.get(), pool.get(), pool.get()
    pool.put(idle)
    assert pool.filter(lambda conn: conn is not spared.conn) == 1
    check_removed(idle.conn)
    assert held.state is S.CLOSED
    assert held.resource.closes == 1
    pool.put(held)
    check_removed(held.conn)
    pool.put(spared)
    assert pool.removals() == {"failover": 2}
    rested(pool)
    again = pool.get()
    assert again.conn is spared.conn
    pool.put(again)


def test_a_retirement_against_puts_leaves_no_closed_one_behind(make_pool, start, rested):
    pool = make_pool(pool_size=3)

    def caller():
        for _ in range(15):
            with suppress(ConnUnusable):  # closed under its caller during the handshake
                pool.put(pool.get())

    def operator():
        for _ in range(10):
            pool.filter(lambda conn: True)

    for call in [start(caller), start(caller), start(operator)]:
        call.join()
    rested(pool)
    assert all(conn.state is not S.CLOSED for conn in pool.register.idle)


def test_drain_waits_for_all_that_is_out_and_takes_nobody_new(make_pool, start, until, rested):
    pool = make_pool(pool_size=2)
    conn = pool.get()
    call = start(lambda: pool.drain(20_000))
    until(lambda: pool.phase == "draining")
    with pytest.raises(PoolDraining):
        pool.get()
    pool.put(conn)
    assert call.join()
    assert pool.removals() == {"drained": 1}
    assert pool.turns.held == 0
    assert pool.resume()
    assert not pool.resume()
    pool.put(pool.get())
    rested(pool)


def test_a_drain_that_comes_to_no_end_opens_the_pool_again(make_pool, rested):
    pool = make_pool(pool_size=2)
    conn = pool.get()
    assert not pool.drain(5)
    assert pool.phase == "open"
    other = pool.get()
    pool.put(conn)
    pool.put(other)
    rested(pool)


def test_who_waits_when_a_drain_begins_is_still_served(make_pool, start, until):
    pool = make_pool(pool_size=1)
    conn = pool.get()
    waiter = start(lambda: pool.put(pool.get()))
    until(lambda: pool.turns.waiting == 1)
    drain = start(lambda: pool.drain(20_000))
    until(lambda: pool.turns.waiting == 2)
    pool.put(conn)
    waiter.join()
    assert drain.join()
    pool.close()


def test_a_drainer_sees_each_idle_connection_once(make_pool, rested):
    for fifo in (False, True):
        pool = make_pool(pool_size=8, fifo=fifo)
        conns = [pool.get() for _ in range(8)]
        for conn in conns:
            pool.put(conn)
        seen = []
        assert pool.drain_idle(seen.append) == 8
        assert sorted(conn.conn_id for conn in seen) == list(range(1, 9))
        rested(pool)


def test_a_drainer_passes_over_what_was_never_used(make_pool, until):
    pool = make_pool(pool_size=8, min_idle_conns=8)
    until(lambda: len(pool.register.idle) == 8)
    assert pool.drain_idle(lambda conn: pytest.fail("it was never used")) == 0
    until(lambda: not pool.turns.held)


def test_a_drainer_holds_a_turn_and_the_connection(make_pool):
    pool = make_pool(pool_size=2)
    pool.put(pool.get())
    seen = []

    def visit(conn):
        look = pool.snapshot()
        seen.append((conn.state, look.turns_held, look.listed, look.conns[0].place))

    assert pool.drain_idle(visit) == 1
    assert seen == [(S.IN_USE, 1, 0, "borrowed by a drainer")]
    assert pool.turns.held == 0


def test_a_get_waits_for_the_drainer_instead_of_failing_at_the_cap(rt, make_pool, start, until, rested):
    pool = make_pool(pool_size=2, max_active_conns=1)
    conn = pool.get()
    pool.put(conn)
    go = rt.event("go")
    drainer = start(lambda: pool.drain_idle(lambda conn: go.wait()))
    until(lambda: pool.register.borrowed == 1)
    call = start(pool.get)
    until(lambda: pool.turns.held == 2)
    go.set()
    again = call.join()
    assert again.conn is conn.conn
    drainer.join()
    pool.put(again)
    rested(pool)


def test_a_get_whose_drainer_never_ends_times_out(rt, make_pool, start, until, rested):
    pool = make_pool(pool_size=2, max_active_conns=1, pool_timeout_ms=10)
    pool.put(pool.get())
    go = rt.event("go")
    drainer = start(lambda: pool.drain_idle(lambda conn: go.wait()))
    until(lambda: pool.register.borrowed == 1)
    with pytest.raises(PoolTimeout):
        pool.get()
    assert (pool.statistics()["timeouts"], pool.statistics()["pending"]) == (1, 0)
    go.set()
    drainer.join()
    pool.put(pool.get())
    rested(pool)


def test_cancelling_is_told_rather_than_a_time_out_at_a_drainer(rt, make_pool, start, until):
    pool = make_pool(pool_size=2, pool_timeout_ms=60_000)
    pool.put(pool.get())
    go = rt.event("go")
    drainer = start(lambda: pool.drain_idle(lambda conn: go.wait()))
    until(lambda: pool.register.borrowed == 1)
    ctx = PoolContext(rt)
    call = start(lambda: pool.get(ctx))
    until(lambda: pool.turns.held == 2)
    ctx.cancel()
    assert isinstance(call.failure(), Cancelled)
    go.set()
    drainer.join()


def test_what_a_drainer_fails_on_is_closed(make_pool, rested):
    pool = make_pool(pool_size=2)
    conn = pool.get()
    pool.put(conn)

    def visit(conn):
        raise ValueError("not a push")

    with pytest.raises(ValueError, match="not a push"):
        pool.drain_idle(visit)
    check_removed(conn.conn)
    assert pool.removals() == {"drain_error": 1}
    rested(pool)


def test_at_the_cap_without_a_drainer_nobody_waits(make_pool):
    pool = make_pool(pool_size=2, max_active_conns=1, pool_timeout_ms=60_000)
    pool.get()
    with pytest.raises(PoolExhausted):
        pool.get()
