"""One connection for several commands: the same one each time, one caller at a time, and an end of it when it fails."""

from __future__ import annotations

import pytest

from coordemu.pool.invariants import check_removed
from coordemu.pool.pool_context import PoolContext
from coordemu.pool.pool_errors import BadConn, Cancelled, NotInHand, PoolClosed, PoolTimeout
from coordemu.pool.sticky_conn import StickyConn


def test_it_is_the_same_one_each_time_and_goes_back_at_the_end(make_pool, rested):
    pool = make_pool(pool_size=2)
    sticky = StickyConn(pool)
    assert pool.turns.held == 0
    loan = sticky.get()
    sticky.put(loan)
    assert sticky.get() is loan
    assert pool.turns.held == 1
    sticky.put(loan)
    sticky.close()
    sticky.close()
    assert (pool.turns.held, pool.statistics()["idle"]) == (0, 1)
    with pytest.raises(PoolClosed):
        sticky.get()
    assert "closed" in repr(sticky)
    rested(pool)


def test_one_caller_at_a_time_in_the_order_of_coming(rt, make_pool, start, until, rested):
    pool = make_pool(pool_size=2)
    sticky, order = StickyConn(pool), []
    loan = sticky.get()

    def caller(name):
        mine = sticky.get()
        order.append(name)
        sticky.put(mine)

    calls = []
    for name in range(3):
        calls.append(start(lambda name=name: caller(name)))
        until(lambda name=name: sticky._line.waiting == name + 1)
    ctx = PoolContext(rt)
    cancelled = start(lambda: sticky.get(ctx))
    until(lambda: sticky._line.waiting == 4)
    ctx.cancel()
    assert isinstance(cancelled.failure(), Cancelled)
    sticky.put(loan)
    for call in calls:
        call.join()
    assert order == [0, 1, 2]
    sticky.close()
    rested(pool)


@pytest.mark.parametrize("how", ["marked", "failed", "closed"])
def test_one_that_is_of_no_use_is_bad_until_a_reset(make_pool, how, rested):
    pool = make_pool(pool_size=1)
    sticky = StickyConn(pool)
    loan = sticky.get()
    if how == "marked":
        pool.retire()
        sticky.put(loan)
    elif how == "failed":
        sticky.remove(loan)
    else:
        pool.filter(lambda conn: True)
        sticky.put(loan)
    for _ in range(2):
        with pytest.raises(BadConn, match="reset or close it"):
            sticky.get()
    assert "bad" in repr(sticky)
    assert sticky.reset()
    assert not sticky.reset()
    check_removed(loan.conn)
    fresh = sticky.get()
    assert fresh.conn is not loan.conn
    sticky.put(fresh)
    sticky.close()
    rested(pool)


def test_closing_a_bad_one_removes_it_from_the_pool(make_pool, rested):
    pool = make_pool(pool_size=1)
    with StickyConn(pool) as sticky:
        loan = sticky.get()
        pool.retire()
        sticky.put(loan)
        with pytest.raises(BadConn):
            sticky.get()
    check_removed(loan.conn)
    assert pool.removals() == {"retired": 1}
    rested(pool)


def test_closed_while_somebody_has_it_it_goes_back_with_the_put(make_pool, start, until, rested):
    pool = make_pool(pool_size=1)
    sticky = StickyConn(pool)
    loan = sticky.get()
    call = start(sticky.get)
    until(lambda: sticky._line.waiting == 1)
    sticky.close()
    assert isinstance(call.failure(), PoolClosed)
    assert pool.turns.held == 1
    sticky.put(loan)
    assert pool.turns.held == 0
    rested(pool)


def test_closed_while_its_connection_is_dialed_it_keeps_none(rt, make_pool, dialer, start, until, rested):
    pool = make_pool(pool_size=1)
    dialer.gate = rt.event("gate")
    sticky = StickyConn(pool)
    call = start(sticky.get)
    until(lambda: dialer.calls == 1)
    sticky.close()
    dialer.gate.set()
    assert isinstance(call.failure(), PoolClosed)
    assert pool.turns.held == 0
    rested(pool)


def test_who_does_not_have_it_cannot_give_it_back(make_pool, rested):
    pool = make_pool(pool_size=2)
    sticky, other = StickyConn(pool), pool.get()
    loan = sticky.get()
    sticky.put(loan)
    for give in (sticky.put, sticky.remove):
        for mine in (loan, other):
            with pytest.raises(NotInHand):
                give(mine)
    assert sticky.get() is loan
    sticky.put(loan)
    pool.put(other)
    sticky.close()
    rested(pool)


def test_a_failed_dial_leaves_it_as_it_was(make_pool, dialer, rested):
    pool = make_pool(pool_size=1, dialer_retries=1)
    dialer.failures = [ConnectionError("refused")]
    sticky = StickyConn(pool)
    with pytest.raises(ConnectionError):
        sticky.get()
    sticky.put(sticky.get())
    sticky.close()
    rested(pool)


def test_waiting_for_it_has_the_pools_time_out(make_pool, rested):
    pool = make_pool(pool_size=1, pool_timeout_ms=5)
    sticky = StickyConn(pool)
    loan = sticky.get()
    with pytest.raises(PoolTimeout, match="1 of 1 in use"):
        sticky.get()
    assert not sticky.reset()
    sticky.put(loan)
    sticky.close()
    rested(pool)
