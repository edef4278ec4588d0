"""Dials that outlive their callers, and warm-ups: who has the turn, and where the connection goes. On both runtimes."""

from __future__ import annotations

import pytest

from coordemu.pool.pool_conn_state import PoolConnState
from coordemu.pool.pool_context import PoolContext
from coordemu.pool.pool_errors import Cancelled, DeadlineExceeded, PoolTimeout
from coordemu.runtime.base import NS_PER_MS

S = PoolConnState


@pytest.fixture
def gate(rt, dialer):
    dialer.gate = rt.event("the network")
    return dialer.gate


def test_a_cancelled_callers_dial_goes_on_and_its_connection_is_listed(
    rt, make_pool, dialer, gate, start, until, rested
):
    pool = make_pool(pool_size=2)
    ctx = PoolContext(rt)
    call = start(lambda: pool.get(ctx))
    until(lambda: dialer.calls == 1)
    ctx.cancel()
    assert isinstance(call.failure(), Cancelled)
    assert pool.turns.held == 1  # the dial has it now
    gate.set()
    until(lambda: not pool.turns.held)
    rested(pool)
    assert pool.statistics()["idle"] == 1
    conn = pool.get()
    assert dialer.calls == 1
    assert conn.state is S.IN_USE
    pool.put(conn)
    rested(pool)


def test_a_deadline_in_the_dial_is_the_callers_not_the_pools(rt, make_pool, dialer, gate, until, rested):
    pool = make_pool(pool_size=1)
    with pytest.raises(DeadlineExceeded):
        pool.get(PoolContext.after(rt, 5 * NS_PER_MS))
    assert (pool.turns.held, pool.statistics()["timeouts"]) == (1, 0)
    gate.set()
    until(lambda: not pool.turns.held)
    rested(pool)


def test_an_abandoned_connection_goes_to_another_with_its_turn(rt, make_pool, dialer, start, until, rested):
    """A's connection goes to B: two turns are held, one when B's own dial has landed, none after B's put."""
    gates = [rt.event("A's dial"), rt.event("B's dial")]
    dialer.gate = gates[0]
    pool = make_pool(pool_size=3)
    ctx = PoolContext(rt)
    a = start(lambda: pool.get(ctx))
    until(lambda: dialer.calls == 1)
    until(lambda: len(gates[0].waiters()) == 1)
    dialer.gate = gates[1]
    b = start(pool.get)
    until(lambda: len(gates[1].waiters()) == 1)
    ctx.cancel()
    a.failure()
    gates[0].set()
    conn = b.join()
    until(lambda: pool.dials.slots.held == 1)
    assert pool.turns.held == 2
    gates[1].set()
    until(lambda: pool.turns.held == 1)
    pool.put(conn)
    assert pool.turns.held == 0
    rested(pool)
    assert pool.statistics()["idle"] == 2


def test_a_failed_dial_keeps_its_error_and_frees_everything(make_pool, dialer, rested):
    dialer.broken = ConnectionError("refused by the host")
    pool = make_pool(pool_size=3, dialer_retries=1)
    for _ in range(2):
        with pytest.raises(ConnectionError, match="refused by the host"):
            pool.get()
    rested(pool)
    statistics = pool.statistics()
    assert (statistics["total"], statistics["turns_held"], statistics["wants"]) == (0, 0, 0)
    assert statistics["misses"] == 2
    pool.close()


def test_an_abandoned_dial_that_fails_leaves_no_want(rt, make_pool, dialer, gate, until, rested):
    dialer.broken = ConnectionError("refused")
    pool = make_pool(pool_size=4, dialer_retries=1)
    for _ in range(3):
        with pytest.raises(DeadlineExceeded):
            pool.get(PoolContext.after(rt, NS_PER_MS))
    assert pool.statistics()["wants"] == 3
    gate.set()
    until(lambda: not pool.turns.held)
    rested(pool)
    assert pool.statistics()["wants"] == 0
    pool.close()


def test_whatever_a_dialer_raises_is_delivered(make_pool, dialer, rested):
    dialer.failures = [ZeroDivisionError("a bug in a dialer")] * 3
    pool = make_pool(pool_size=4, dialer_retries=1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            pool.get()
    rested(pool)
    pool.put(pool.get())
    rested(pool)
    pool.close()


def test_no_slot_to_dial_in_and_the_caller_gives_up(rt, make_pool, dialer, gate, start, until, rested):
    pool = make_pool(pool_size=2, max_concurrent_dials=1)
    first = start(pool.get)
    until(lambda: dialer.calls == 1)
    with pytest.raises(DeadlineExceeded):
        pool.get(PoolContext.after(rt, 2 * NS_PER_MS))
    assert pool.turns.held == 1
    gate.set()
    pool.put(first.join())
    rested(pool)


def test_one_slot_serves_many_dials_one_after_the_other(make_pool, dialer, start, rested):
    dialer.takes_ns = NS_PER_MS
    pool = make_pool(pool_size=4, max_concurrent_dials=1)
    conns = [call.join() for call in [start(pool.get) for _ in range(4)]]
    assert len({conn.conn_id for conn in conns}) == 4
    for conn in conns:
        pool.put(conn)
    rested(pool)
    assert pool.statistics()["idle"] == 4


def test_who_waits_while_the_pool_is_full_gets_what_is_put(make_pool, start, until, rested):
    pool = make_pool(pool_size=1)
    conn = pool.get()
    call = start(pool.get)
    until(lambda: pool.turns.waiting == 1)
    pool.put(conn)
    again = call.join()
    assert again.conn is conn.conn
    pool.put(again)
    rested(pool)


def test_a_short_wait_fails_and_the_background_dial_is_used_later(rt, make_pool, dialer, gate, until, rested):
    pool = make_pool(pool_size=1, pool_timeout_ms=5)
    with pytest.raises(DeadlineExceeded):
        pool.get(PoolContext.after(rt, 2 * NS_PER_MS))
    with pytest.raises(PoolTimeout):
        pool.get()
    gate.set()
    until(lambda: not pool.turns.held)
    pool.put(pool.get())
    assert dialer.calls == 1
    rested(pool)


def test_many_callers_in_a_hurry_leave_nothing_behind(rt, make_pool, dialer, start, until, rested):
    dialer.takes_ns = 2 * NS_PER_MS
    pool = make_pool(pool_size=5)

    def hurried():
        try:
            pool.put(pool.get(PoolContext.after(rt, NS_PER_MS)))
        except (DeadlineExceeded, PoolTimeout):
            return 0
        return 1

    calls = [start(hurried) for _ in range(30)]
    for call in calls:
        call.join()
    until(lambda: not pool.turns.held)
    rested(pool)
    statistics = pool.statistics()
    assert statistics["total"] == statistics["idle"] == len(dialer.wires)
    assert statistics["longest_wants"] <= 2 * pool.options.pool_size


def test_failures_in_between_leave_nothing_behind(rt, make_pool, dialer, start, until, rested):
    dialer.failures = [ConnectionError("refused")] * 10
    pool = make_pool(pool_size=4, dialer_retries=1, probe_interval_ms=1)

    def caller():
        for _ in range(5):
            try:
                pool.put(pool.get())
            except ConnectionError:
                continue

    for call in [start(caller) for _ in range(6)]:
        call.join()
    until(lambda: not pool.turns.held)
    until(lambda: not pool.statistics()["probing"])
    rested(pool)
    assert pool.statistics()["longest_wants"] <= 2 * pool.options.pool_size
    pool.close()


@pytest.mark.parametrize("count", [1, 8])
def test_as_many_as_asked_for_are_ready(make_pool, dialer, until, rested, count):
    pool = make_pool(pool_size=10, min_idle_conns=count)
    until(lambda: len(pool.register.idle) == count)
    rested(pool)
    statistics = pool.statistics()
    assert (statistics["total"], statistics["idle"], dialer.calls) == (count, count, count)
    until(lambda: not pool.turns.held)


def test_a_get_has_another_made_and_a_remove_too(make_pool, until, rested):
    pool = make_pool(pool_size=10, min_idle_conns=3)
    until(lambda: len(pool.register.idle) == 3)
    conn = pool.get()
    until(lambda: len(pool.register.idle) == 3)
    assert pool.statistics()["total"] == 4
    pool.remove(conn)
    until(lambda: not pool.register.dialing)
    statistics = pool.statistics()
    assert (statistics["total"], statistics["idle"]) == (3, 3)
    until(lambda: not pool.turns.held)
    rested(pool)


def test_all_given_back_stay_and_all_removed_leave_as_many_as_asked_for(make_pool, until, rested):
    pool = make_pool(pool_size=10, min_idle_conns=3)

    def take_all():
        until(lambda: not pool.register.dialing and not pool.turns.held)
        return [pool.get() for _ in range(10)]

    for conn in take_all():
        pool.put(conn)
    assert (pool.statistics()["total"], pool.statistics()["idle"]) == (10, 10)
    for conn in take_all():
        pool.remove(conn)
    until(lambda: len(pool.register.idle) == 3)
    until(lambda: not pool.turns.held)
    rested(pool)
    assert pool.statistics()["total"] == 3


def test_warm_ups_that_fail_leave_nothing_counted(make_pool, dialer, until, rested):
    dialer.broken = ZeroDivisionError("a bug in a dialer")
    lines = []
    pool = make_pool(pool_size=10, min_idle_conns=3, dialer_retries=1, log=lambda *line: lines.append(line[1]))
    until(lambda: not pool.turns.held and not pool.register.warming)
    rested(pool)
    assert (pool.statistics()["total"], pool.statistics()["idle"]) == (0, 0)
    assert "pool: a warm-up failed: a bug in a dialer" in lines
    pool.close()


def test_what_is_being_warmed_up_does_not_count_as_idle(make_pool, dialer, gate, until, rested):
    pool = make_pool(pool_size=10, min_idle_conns=3)
    until(lambda: dialer.calls == 3)
    statistics = pool.statistics()
    assert (statistics["idle"], statistics["total"], statistics["dialing"], statistics["pending"]) == (0, 0, 3, 0)
    gate.set()
    until(lambda: not pool.turns.held)
    rested(pool)


def test_warm_ups_respect_the_cap_and_the_size(make_pool, dialer, until, rested):
    capped = make_pool(pool_size=10, min_idle_conns=5, max_active_conns=2)
    until(lambda: not capped.turns.held)
    rested(capped)
    assert capped.statistics()["total"] == 2
    small = make_pool(pool_size=2, min_idle_conns=5)
    until(lambda: not small.turns.held)
    rested(small)
    assert small.statistics()["total"] == 2


def test_a_warmed_up_connection_is_unused_until_it_is_taken(make_pool, until):
    pool = make_pool(pool_size=2, min_idle_conns=1)
    until(lambda: not pool.turns.held)
    assert [conn.state for conn in pool.register.idle] == [S.CREATED]
    conn = pool.get()
    assert conn.state is S.IN_USE
    pool.put(conn)
    until(lambda: not pool.turns.held)
