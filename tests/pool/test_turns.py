"""Turns: the fast path, the line, hand-over in order, ends of waits, the bound of the line. On both runtimes."""

from __future__ import annotations

import pytest

from coordemu.pool.pool_context import PoolContext
from coordemu.pool.pool_errors import Cancelled, DeadlineExceeded, PoolClosed, PoolOverloaded, TurnsOverfull
from coordemu.pool.turns import NoTurn, Turns
from coordemu.runtime import wait_for
from coordemu.runtime.base import NS_PER_MS, NS_PER_S


@pytest.fixture
def turns(rt):
    return Turns(rt, 1, "turns")


def test_a_free_turn_is_taken_at_once(turns):
    assert turns.acquire() == 0
    assert turns.held == 1
    assert not turns.try_acquire()
    turns.release()
    assert turns.try_acquire()
    assert turns.statistics()["waits"] == 0


@pytest.mark.parametrize("bad", [{"size": 0}, {"max_waiting": -1}, {"pressure_at": -1}])
def test_bounds(rt, bad):
    with pytest.raises(ValueError, match="turns: size"):
        Turns(rt, **{"size": 1, "name": "turns", **bad})


def test_a_deadline_ends_the_wait(rt, turns):
    turns.acquire()
    with pytest.raises(NoTurn):
        turns.acquire(deadline_ns=rt.now_ns() + 2 * NS_PER_MS)
    assert turns.waiting == 0
    assert turns.held == 1


def test_a_context_that_has_ended_is_refused_even_if_a_turn_is_free(rt, turns):
    ctx = PoolContext(rt)
    ctx.cancel()
    with pytest.raises(Cancelled):
        turns.acquire(ctx)
    assert turns.held == 0


def test_a_contexts_deadline_ends_the_wait(rt, turns):
    turns.acquire()
    with pytest.raises(DeadlineExceeded):
        turns.acquire(PoolContext.after(rt, 2 * NS_PER_MS), rt.now_ns() + 10 * NS_PER_S)


def test_cancel_ends_the_wait(rt, turns, start, until):
    turns.acquire()
    ctx = PoolContext(rt)
    call = start(lambda: turns.acquire(ctx))
    until(lambda: turns.waiting == 1)
    ctx.cancel()
    assert isinstance(call.failure(), Cancelled)
    turns.release()
    assert turns.held == 0


def test_those_in_line_are_served_in_the_order_of_their_coming(turns, start, until):
    turns.acquire()
    order = []

    def caller(number):
        turns.acquire()
        order.append(number)
        turns.release()

    calls = []
    for number in range(8):
        calls.append(start(lambda number=number: caller(number)))
        until(lambda: turns.waiting == len(calls))
    turns.release()
    for call in calls:
        call.join()
    assert order == list(range(8))
    assert turns.broken_rules() == []


def test_a_turn_that_is_given_back_is_never_free_while_somebody_waits(turns, start, until):
    turns.acquire()
    call = start(turns.acquire)
    until(lambda: turns.waiting == 1)
    turns.release()
    assert turns.held == 1
    assert not turns.try_acquire()
    call.join()
    turns.release()


def test_one_too_many_releases_raises_and_changes_nothing(turns):
    with pytest.raises(TurnsOverfull, match="all 1 are free"):
        turns.release()
    assert turns.held == 0
    assert turns.try_acquire()


def test_close_turns_away_who_waits_and_who_comes(turns, start, until):
    turns.acquire()
    call = start(turns.acquire)
    until(lambda: turns.waiting == 1)
    turns.close()
    assert isinstance(call.failure(), PoolClosed)
    with pytest.raises(PoolClosed):
        turns.acquire()
    turns.release()
    assert turns.held == 0


def test_the_line_has_a_bound(rt, start, until):
    turns = Turns(rt, 1, "turns", max_waiting=2)
    turns.acquire()
    calls = [start(turns.acquire) for _ in range(2)]
    until(lambda: turns.waiting == 2)
    with pytest.raises(PoolOverloaded, match="2 callers wait already"):
        turns.acquire()
    assert turns.statistics()["overloads"] == 1
    for _ in calls:
        turns.release()
    for call in calls:
        call.join()
    assert turns.statistics()["longest_line"] == 2


def test_pressure_is_told_before_the_line_is_full_and_when_it_is_over(rt, start, until):
    told = []
    turns = Turns(rt, 1, "turns", max_waiting=4, pressure_at=2, on_pressure=lambda *now: told.append(now))
    turns.acquire()
    calls = []
    for number in (1, 2, 3):
        calls.append(start(turns.acquire))
        until(lambda number=number: turns.waiting == number)
    until(lambda: told)
    assert len(told) == 1
    assert told[0] in ((2, 4), (3, 4))
    for _ in range(3):
        turns.release()
    for call in calls:
        call.join()
    assert len(told) == 2
    assert told[1][0] < 2
    assert turns.statistics()["pressures"] == 1


def test_waits_are_counted_only_when_they_ended_with_a_turn(rt, turns, start, until):
    turns.acquire()
    with pytest.raises(NoTurn):
        turns.acquire(deadline_ns=rt.now_ns() + NS_PER_MS)
    assert turns.statistics()["waits"] == 0
    call = start(turns.acquire)
    until(lambda: turns.waiting == 1)
    rt.sleep_ns(5 * NS_PER_MS)
    turns.release()
    assert call.join() >= 5 * NS_PER_MS
    assert turns.statistics()["waits"] == 1
    assert turns.statistics()["wait_ns"] >= 5 * NS_PER_MS


def test_many_short_time_outs_lose_no_turn(rt, turns, start):
    def hurried():
        got = 0
        for _ in range(40):
            try:
                turns.acquire(deadline_ns=rt.now_ns() + 1000)
            except NoTurn:
                continue
            got += 1
            turns.release()
        return got

    calls = [start(hurried) for _ in range(4)]
    assert sum(call.join() for call in calls) > 0
    assert turns.held == 0
    assert turns.waiting == 0
    assert turns.broken_rules() == []


def test_a_turn_that_comes_in_time_never_looks_like_a_time_out(rt, turns, start, until):
    turns.acquire()
    with pytest.raises(NoTurn):
        turns.acquire(deadline_ns=rt.now_ns() + NS_PER_MS)
    call = start(lambda: turns.acquire(deadline_ns=rt.now_ns() + 20 * NS_PER_S))
    until(lambda: turns.waiting == 1)
    turns.release()
    call.join()


def test_the_wait_for_graph_goes_through_the_turns_to_who_holds_them(rt, start, until):
    holder = []
    turns = Turns(rt, 1, "turns", holders=lambda: holder)
    turns.acquire()
    stop = rt.event("stop")
    held = start(stop.wait, "the holder")
    holder.append(held.task)
    call = start(turns.acquire, "the waiter")
    until(lambda: turns.waiting == 1)
    until(lambda: call.task.waiting_on is not None)
    assert wait_for.chain_from(rt, call.task).steps[:4:3] == ("the waiter", "the holder")
    stop.set()
    held.join()
    turns.release()
    call.join()
