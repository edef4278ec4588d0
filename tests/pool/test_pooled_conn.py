"""One connection of a pool: closed once by however many, swapped or closed but not both, claimed by one. On both
runtimes."""

from __future__ import annotations

import pytest

from coordemu.pool.pool_conn_state import PoolConnState
from coordemu.pool.pool_errors import PoolClosed, PoolDraining
from coordemu.pool.pooled_conn import PooledConn

S = PoolConnState


class Wire:
    """Counts its closes."""

    def __init__(self):
        self.closes = 0

    def close(self):
        self.closes += 1


@pytest.fixture
def make_conn(rt):
    return lambda: PooledConn(rt, 1, Wire(), "pool", True, None, frozenset())


def test_of_many_closers_one_closes(make_conn, start):
    conn = make_conn()
    calls = [start(conn.close) for _ in range(32)]
    assert sum(call.join() for call in calls) == 1
    assert conn.resource.closes == conn.closes == 1
    assert conn.state is S.CLOSED


def test_the_socket_is_closed_also_when_the_state_was_closed_before(make_conn):
    conn = make_conn()
    conn.machine.close()
    assert conn.close()
    assert conn.resource.closes == 1


def test_what_a_close_raises_goes_to_the_one_that_closed(make_conn):
    conn = make_conn()

    def fail():
        raise OSError("bad descriptor")

    conn.resource.close = fail
    with pytest.raises(OSError, match="bad descriptor"):
        conn.close()
    assert not conn.close()


def test_swapped_or_closed_every_resource_is_closed_once(make_conn, start):
    for _ in range(40):
        conn, fresh = make_conn(), Wire()
        old = conn.resource
        swap = start(lambda conn=conn, fresh=fresh: conn.swap_resource(fresh).close())
        close = start(conn.close)
        swap.join()
        close.join()
        assert (old.closes, fresh.closes) == (1, 1)


def test_of_many_who_claim_it_one_has_it(make_conn, start):
    conn = make_conn()
    calls = [start(lambda number=number: conn.claim(f"worker {number}")) for number in range(10)]
    assert sum(call.join() for call in calls) == 1
    assert conn.state is S.UNUSABLE
    assert conn.owned_by.startswith("worker")
    assert conn.snapshot().owned_by == conn.owned_by
    assert conn.give_back()
    assert conn.owned_by == ""
    assert "IDLE" in repr(conn)


def test_what_was_closed_cannot_be_given_back(make_conn):
    conn = make_conn()
    assert conn.claim("worker")
    conn.close()
    assert not conn.give_back()
    assert conn.state is S.CLOSED


def test_one_drain_at_a_time_and_none_of_a_closed_pool(make_pool):
    pool = make_pool()
    assert pool.drain(1000)
    with pytest.raises(PoolDraining, match="already"):
        pool.drain(1000)
    pool.close()
    with pytest.raises(PoolClosed):
        pool.drain(1000)
    assert not pool.resume()


def test_close_ends_a_drain_that_waits(make_pool, start, until):
    pool = make_pool(pool_size=1)
    conn = pool.get()
    drain = start(lambda: pool.drain(20_000))
    until(lambda: pool.turns.waiting == 1)
    pool.close()
    assert isinstance(drain.failure(), PoolClosed)
    pool.put(conn)
    assert pool.turns.held == 0


def test_a_borrow_that_ended_in_time_is_seen_even_late(make_pool):
    pool = make_pool(pool_size=2, pool_timeout_ms=0)
    conn = pool.get()
    pool.put(conn)
    assert pool.drain_idle(lambda conn: None) == 1
    again = pool.get()
    assert again.conn is conn.conn
    pool.put(again)
