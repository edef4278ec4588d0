"""Bulkhead: the fast path, the line, hand-over in order, ends of waits, names. On both runtimes."""

from __future__ import annotations

import pytest

from coordemu.pool.pool_context import PoolContext
from coordemu.pool.pool_errors import Cancelled, DeadlineExceeded
from coordemu.resilience.bulkhead import Bulkhead, BulkheadOverfull, Bulkheads, UnknownBulkhead
from coordemu.resilience.resilience_errors import BulkheadFull
from coordemu.runtime import wait_for
from coordemu.runtime.base import NS_PER_MS, NS_PER_S


@pytest.fixture
def bulkhead(rt):
    return Bulkhead(rt, 1, "hub")


def test_a_free_permit_is_taken_at_once(bulkhead):
    assert bulkhead.acquire() == 0
    assert bulkhead.held == 1
    assert not bulkhead.try_acquire()
    bulkhead.release()
    assert bulkhead.try_acquire()
    bulkhead.release()
    assert bulkhead.held == 0
    assert bulkhead.statistics()["waits"] == 0


def test_bounds(rt):
    with pytest.raises(ValueError, match="hub: limit 0"):
        Bulkhead(rt, 0, "hub")
    with pytest.raises(ValueError, match="max_waiting -1"):
        Bulkhead(rt, 1, "hub", -1)


def test_inside_a_block(rt, bulkhead):
    with bulkhead.enter(0):
        assert bulkhead.held == 1
        with pytest.raises(BulkheadFull):
            bulkhead.enter(0)
    assert bulkhead.held == 0
    with pytest.raises(KeyError), bulkhead.enter():
        raise KeyError
    assert bulkhead.held == 0
    ended = PoolContext(rt)
    ended.cancel()
    with pytest.raises(Cancelled):
        bulkhead.enter(None, ended)
    assert bulkhead.held == 0


def test_no_waiting_means_no_waiting(bulkhead):
    bulkhead.acquire()
    for timeout_ns in (0, -1):
        with pytest.raises(BulkheadFull) as refused:
            bulkhead.acquire(timeout_ns)
        assert (refused.value.waited_ns, refused.value.limit, refused.value.waiting) == (0, 1, 0)
    assert bulkhead.statistics()["turned_away"] == 2
    bulkhead.release()
    assert bulkhead.broken_rules() == []
    assert bulkhead.held == 0


def test_a_deadline_ends_the_wait(bulkhead):
    bulkhead.acquire()
    with pytest.raises(BulkheadFull) as refused:
        bulkhead.acquire(2 * NS_PER_MS)
    assert refused.value.waited_ns >= 2 * NS_PER_MS
    assert bulkhead.waiting == 0
    assert bulkhead.held == 1
    assert bulkhead.statistics()["timed_out"] == 1
    bulkhead.release()
    assert bulkhead.held == 0


def test_a_context_that_has_ended_is_refused_even_if_a_permit_is_free(rt, bulkhead):
    ctx = PoolContext(rt)
    ctx.cancel()
    with pytest.raises(Cancelled):
        bulkhead.acquire(None, ctx)
    assert bulkhead.held == 0


def test_a_contexts_deadline_ends_the_wait(rt, bulkhead):
    bulkhead.acquire()
    with pytest.raises(DeadlineExceeded):
        bulkhead.acquire(10 * NS_PER_S, PoolContext.after(rt, 2 * NS_PER_MS))
    assert bulkhead.statistics()["called_off"] == 1


def test_cancel_ends_the_wait_and_the_next_one_is_served(rt, bulkhead, start, until):
    bulkhead.acquire()
    ctx = PoolContext(rt)
    first = start(lambda: bulkhead.acquire(None, ctx))
    until(lambda: bulkhead.waiting == 1)
    second = start(bulkhead.acquire)
    until(lambda: bulkhead.waiting == 2)
    ctx.cancel()
    assert isinstance(first.failure(), Cancelled)
    bulkhead.release()
    assert second.join() >= 0
    assert bulkhead.held == 1
    bulkhead.release()
    assert bulkhead.broken_rules() == []


def test_a_permit_that_came_in_the_moment_of_an_exception_is_not_lost(rt, bulkhead, start, until):
    class Stop(BaseException):
        pass

    class Broken(PoolContext):
        def attach(self, event):
            bulkhead.release()  # the permit comes, and so does this
            raise Stop

    bulkhead.acquire()

    def interrupted():
        with pytest.raises(Stop):
            bulkhead.acquire(None, Broken(rt))

    start(interrupted).join()
    assert bulkhead.held == 0
    assert bulkhead.waiting == 0
    assert bulkhead.broken_rules() == []


def test_those_in_line_are_served_in_the_order_of_their_coming(bulkhead, start, until):
    bulkhead.acquire()
    order = []

    def caller(number):
        bulkhead.acquire()
        order.append(number)
        bulkhead.release()

    calls = []
    for number in range(8):
        calls.append(start(lambda number=number: caller(number)))
        until(lambda: bulkhead.waiting == len(calls))
    bulkhead.release()
    for call in calls:
        call.join()
    assert order == list(range(8))
    assert bulkhead.broken_rules() == []


def test_a_permit_that_is_given_back_is_never_free_while_somebody_waits(bulkhead, start, until):
    bulkhead.acquire()
    call = start(bulkhead.acquire)
    until(lambda: bulkhead.waiting == 1)
    bulkhead.release()
    assert bulkhead.held == 1
    assert not bulkhead.try_acquire()
    call.join()
    bulkhead.release()
    assert bulkhead.held == 0


def test_one_too_many_releases_raises_and_changes_nothing(bulkhead):
    with pytest.raises(BulkheadOverfull, match="all 1 are free"):
        bulkhead.release()
    assert bulkhead.held == 0
    assert bulkhead.try_acquire()


def test_the_line_has_a_bound(rt, start, until):
    bulkhead = Bulkhead(rt, 1, "hub", max_waiting=2)
    bulkhead.acquire()
    calls = [start(bulkhead.acquire) for _ in range(2)]
    until(lambda: bulkhead.waiting == 2)
    with pytest.raises(BulkheadFull) as refused:
        bulkhead.acquire()
    assert (refused.value.waited_ns, refused.value.waiting) == (0, 2)
    assert bulkhead.statistics()["turned_away"] == 1
    for _ in calls:
        bulkhead.release()
    for call in calls:
        call.join()
    assert bulkhead.statistics()["longest_line"] == 2
    bulkhead.release()
    assert bulkhead.held == 0


def test_many_short_limits_lose_no_permit_and_let_no_more_in(rt, start):
    bulkhead = Bulkhead(rt, 2, "hub")
    lock = rt.lock("inside")
    inside = [0, 0]

    def hurried():
        got = 0
        for _ in range(40):
            try:
                bulkhead.acquire(1000)
            except BulkheadFull:
                continue
            got += 1
            with lock:
                inside[0] += 1
                inside[1] = max(inside)
            with lock:
                inside[0] -= 1
            bulkhead.release()
        return got

    calls = [start(hurried) for _ in range(5)]
    assert sum(call.join() for call in calls) > 0
    assert inside[1] <= 2
    assert bulkhead.held == 0
    assert bulkhead.waiting == 0
    assert bulkhead.broken_rules() == []


def test_the_wait_for_graph_goes_through_the_bulkhead_to_who_is_inside(rt, start, until):
    inside = []
    bulkhead = Bulkhead(rt, 1, "hub", holders=lambda: inside)
    bulkhead.acquire()
    stop = rt.event("stop")
    held = start(stop.wait, "the one inside")
    inside.append(held.task)
    call = start(bulkhead.acquire, "the waiter")
    until(lambda: bulkhead.waiting == 1)
    until(lambda: call.task.waiting_on is not None)
    assert wait_for.chain_from(rt, call.task).steps[:4:3] == ("the waiter", "the one inside")
    inside.clear()
    assert bulkhead.holders() == ["whoever is inside"]
    stop.set()
    held.join()
    bulkhead.release()
    call.join()


def test_limits_have_names_and_share_nothing(rt):
    limits = Bulkheads(rt, {"database": 8, "hub": 5})
    assert list(limits) == ["database", "hub"]
    assert len(limits) == 2
    for _ in range(5):
        limits["hub"].acquire(0)
    with pytest.raises(BulkheadFull):
        limits["hub"].acquire(0)
    assert limits["database"].acquire(0) == 0
    assert limits.statistics()["hub"]["held"] == 5
    assert repr(limits) == "<Bulkheads database 1/8, hub 5/5>"
    assert repr(limits["hub"]) == "<Bulkhead 'hub' 5/5 inside, 0 waiting>"
    with pytest.raises(UnknownBulkhead, match="did you mean 'database'"):
        limits["databse"]
    with pytest.raises(UnknownBulkhead, match=r"no bulkhead is called 'hub'$"):
        Bulkheads(rt, {})["hub"]
    with pytest.raises(ValueError, match="hub: limit 0"):
        Bulkheads(rt, {"hub": 0})
