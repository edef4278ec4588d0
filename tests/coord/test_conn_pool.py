"""MRConnPool: the round robin over connected connections, and the surplus that it does not see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordemu.coord.conn_context import ConnContext
from coordemu.coord.conn_options import ConnOptions
from coordemu.coord.conn_pool import MRConnPool
from coordemu.coord.conn_state import ConnState
from coordemu.coord.endpoint import MREndpoint
from coordemu.native import PendingTable
from coordemu.runtime.base import Address

HERE = MREndpoint(Address("127.0.0.1", 7001))


def make_pool(loop: Any, num: int, connected: bool = True) -> MRConnPool:
    context = ConnContext(loop.rt, loop, ConnOptions(), PendingTable(), lambda _level, _line: None)
    pool = MRConnPool(context, "node-0", HERE, 0, num)
    if connected:
        for transport in list(loop.transports):
            transport.open()
    return pool


def picked(pool: MRConnPool, times: int) -> list[int | None]:
    conns = [pool.get() for _ in range(times)]
    return [None if conn is None else conn.index for conn in conns]


def test_it_takes_turns(stub_loop: Any) -> None:
    pool = make_pool(stub_loop, 3)
    assert picked(pool, 7) == [0, 1, 2, 0, 1, 2, 0]
    assert repr(pool) == "<MRConnPool node-0 127.0.0.1:7001 num=3 rr=1 hidden=0>"


def test_connections_that_are_not_connected_lose_their_turn(stub_loop: Any) -> None:
    pool = make_pool(stub_loop, 4)
    for index in (1, 2):
        list(stub_loop.transports)[1].lose()
        assert pool.conns[index].state is ConnState.RECONNECTING
    assert picked(pool, 4) == [0, 3, 0, 3]
    assert pool.connected


def test_without_a_connected_one_it_tries_each_once_and_gives_none(stub_loop: Any) -> None:
    pool = make_pool(stub_loop, 3, connected=False)
    pool.rr = 1
    assert pool.get() is None
    assert pool.rr == 1, "num tries bring it round"
    assert not pool.connected


def test_the_surplus_is_not_picked_and_still_owned(stub_loop: Any) -> None:
    pool = make_pool(stub_loop, 5)
    picked(pool, 4)
    pool.hide(2)
    assert pool.rr == 0
    assert picked(pool, 4) == [0, 1, 0, 1]
    assert [conn.index for conn in pool.surplus] == [2, 3, 4]
    assert pool.states() == ["Connected"] * 5
    assert pool.statistics() == {"num": 2, "rr": 0, "owned": 5, "connected": 5, "outstanding": 0}


def test_connected_does_not_count_the_surplus(stub_loop: Any) -> None:
    pool = make_pool(stub_loop, 2)
    pool.hide(1)
    next(iter(stub_loop.transports)).lose()
    assert not pool.connected
    assert pool.get() is None


def test_hidden_ones_come_back_before_any_is_created(stub_loop: Any) -> None:
    pool = make_pool(stub_loop, 5)
    conns = list(pool.conns)
    pool.hide(1)
    pool.show(3)
    assert pool.num == 3
    gone = pool.cut(3)
    assert [conn.index for conn in gone] == [3, 4]
    for conn in gone:
        conn.stop()
    assert pool.conns == conns[:3]
    assert pool.grow(3) == 0
    assert pool.grow(6) == 3
    assert pool.conns[:3] == conns[:3]
    assert [conn.index for conn in pool.conns] == list(range(6))


def test_show_never_creates_and_never_hides(stub_loop: Any) -> None:
    pool = make_pool(stub_loop, 3)
    pool.show(10)
    assert pool.num == 3
    pool.show(1)
    assert pool.num == 3


def test_a_cut_never_goes_into_the_round_robin(stub_loop: Any) -> None:
    pool = make_pool(stub_loop, 3)
    assert pool.cut(1) == []
    assert len(pool.conns) == 3


def test_an_emptied_pool_owns_nothing(stub_loop: Any) -> None:
    pool = make_pool(stub_loop, 3)
    pool.hide(2)
    assert len(pool.empty()) == 3
    assert pool.get() is None
    assert not pool.connected


@pytest.mark.parametrize("num", [0, -1])
def test_a_size_below_one_is_refused_and_changes_nothing(stub_loop: Any, num: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        make_pool(stub_loop, num)
    assert not stub_loop.transports
    pool = make_pool(stub_loop, 2)
    pool.get()
    with pytest.raises(ValueError, match="at least 1"):
        pool.hide(num)
    assert (pool.num, pool.rr) == (2, 1)


@settings(max_examples=100, deadline=None)
@given(connected=st.lists(st.booleans(), min_size=1, max_size=8), steps=st.lists(st.integers(1, 8), max_size=20))
def test_the_round_robin_against_a_model(
    make_stub_loop: Callable[[str], Any], runtime_kind: str, connected: list[bool], steps: list[int]
) -> None:
    """Between gets the pool is hidden to any smaller size and shown again; the model advances a number."""
    loop = make_stub_loop(runtime_kind)
    pool = make_pool(loop, len(connected), connected=False)
    for transport, opens in zip(list(loop.transports), connected, strict=True):
        if opens:
            transport.open()
    rr = 0
    for step in steps:
        num = min(step, len(connected))
        pool.hide(num)
        rr %= num
        expected = None
        for _ in range(num):
            index, rr = rr, (rr + 1) % num
            if connected[index]:
                expected = index
                break
        assert picked(pool, 1) == [expected]
        assert pool.rr == rr
        pool.show(len(connected))
