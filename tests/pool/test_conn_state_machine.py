"""The state machine under several tasks: waits in order, ends of waits, and what is never lost. On both runtimes."""

from __future__ import annotations

import pytest

from coordemu.pool.conn_state_machine import ConnStateMachine
from coordemu.pool.pool_conn_state import PoolConnState, StateMachineClosed
from coordemu.pool.pool_context import PoolContext
from coordemu.pool.pool_errors import Cancelled, DeadlineExceeded
from coordemu.runtime.base import NS_PER_MS

S = PoolConnState


@pytest.fixture
def machine(rt):
    return ConnStateMachine(rt, "conn")


@pytest.fixture
def in_use(machine):
    machine.try_transition((S.CREATED,), S.INITIALIZING)
    machine.try_transition((S.INITIALIZING,), S.IN_USE)
    return machine


@pytest.fixture
def idle(in_use):
    assert in_use.release()
    return in_use


def waiting(machine):
    return len(machine.snapshot().waiting)


def test_the_fast_path_moves_at_once(idle):
    idle.wait_and_transition((S.IDLE,), S.UNUSABLE)
    assert idle.state is S.UNUSABLE
    assert idle.snapshot().moves == 0


def test_a_deadline_ends_a_wait_and_says_what_it_waited_for(rt, in_use):
    with pytest.raises(DeadlineExceeded, match="IDLE -> UNUSABLE; it is IN_USE"):
        in_use.wait_and_transition((S.IDLE,), S.UNUSABLE, deadline_ns=rt.now_ns() + 5 * NS_PER_MS)
    assert in_use.check_quiet() == []
    assert waiting(in_use) == 0


def test_a_context_that_ended_before_is_refused_before_any_move(rt, idle):
    ctx = PoolContext(rt)
    ctx.cancel()
    with pytest.raises(Cancelled):
        idle.wait_and_transition((S.IDLE,), S.UNUSABLE, ctx)
    assert idle.state is S.IDLE


def test_a_contexts_deadline_ends_a_wait(rt, in_use):
    with pytest.raises(DeadlineExceeded, match="deadline has passed"):
        in_use.wait_and_transition((S.IDLE,), S.UNUSABLE, PoolContext.after(rt, 5 * NS_PER_MS))


def test_cancelling_wakes_a_waiter(rt, in_use, start, until):
    ctx = PoolContext(rt)
    call = start(lambda: in_use.wait_and_transition((S.IDLE,), S.UNUSABLE, ctx))
    until(lambda: waiting(in_use) == 1)
    ctx.cancel()
    assert isinstance(call.failure(), Cancelled)
    assert in_use.release()
    assert in_use.state is S.IDLE


def test_a_release_wakes_a_waiter(in_use, start, until):
    call = start(lambda: in_use.wait_and_transition((S.IDLE,), S.UNUSABLE))
    until(lambda: waiting(in_use) == 1)
    assert in_use.release()
    call.join()
    assert in_use.state is S.UNUSABLE
    assert in_use.snapshot().moves == 1


def test_a_waiter_whose_states_do_not_come_is_passed_over(in_use, start, until):
    first = start(lambda: in_use.wait_and_transition((S.UNUSABLE,), S.INITIALIZING))
    until(lambda: waiting(in_use) == 1)
    second = start(lambda: in_use.wait_and_transition((S.IDLE,), S.UNUSABLE))
    until(lambda: waiting(in_use) == 2)
    in_use.release()
    second.join()
    first.join()
    assert in_use.state is S.INITIALIZING


def test_waiters_that_queue_one_by_one_are_served_in_that_order(in_use, start, until):
    order = []

    def worker(number):
        in_use.wait_and_transition((S.IDLE,), S.UNUSABLE)
        order.append(number)
        in_use.return_from_work()

    calls = []
    for number in range(10):
        calls.append(start(lambda number=number: worker(number)))
        until(lambda: waiting(in_use) == len(calls))
    in_use.release()
    for call in calls:
        call.join()
    assert order == list(range(10))
    assert in_use.state is S.IDLE


def test_racing_waiters_all_get_their_turn_once(idle, start):
    inside = []

    def worker(number):
        idle.wait_and_transition((S.IDLE,), S.INITIALIZING)
        inside.append(number)
        assert len(inside) == 1, "two are inside"
        inside.pop()
        idle.return_from_work()
        return number

    calls = [start(lambda number=number: worker(number)) for number in range(10)]
    assert sorted(call.join() for call in calls) == list(range(10))
    assert idle.state is S.IDLE
    assert idle.check_quiet() == []


def test_of_ten_who_want_one_idle_connection_one_wins(idle, start):
    calls = [start(idle.acquire) for _ in range(10)]
    assert sum(call.join() for call in calls) == 1
    assert idle.state is S.IN_USE


def test_of_ten_who_want_an_unused_one_one_wins_and_has_the_handshake(machine, start):
    calls = [start(machine.acquire) for _ in range(10)]
    assert sum(call.join() for call in calls) == 1
    assert machine.state is S.INITIALIZING


def test_many_moves_at_once_neither_lose_nor_double_any(idle, start):
    def worker():
        won = 0
        for _ in range(50):
            if idle.move(S.IDLE, S.UNUSABLE):
                won += 1
                assert idle.return_from_work()
        return won

    calls = [start(worker) for _ in range(6)]
    assert sum(call.join() for call in calls) > 0
    assert idle.state is S.IDLE


def test_close_tells_everybody_who_waits_whatever_for(in_use, start, until):
    first = start(lambda: in_use.wait_and_transition((S.IDLE,), S.UNUSABLE))
    second = start(lambda: in_use.wait_and_transition((S.UNUSABLE,), S.INITIALIZING))
    until(lambda: waiting(in_use) == 2)
    assert in_use.close()
    for call in (first, second):
        assert isinstance(call.failure(), StateMachineClosed)
    assert "IDLE -> UNUSABLE is not possible any more" in str(first.failure())
    assert in_use.snapshot().waiting == ()


def test_who_comes_to_a_closed_machine_does_not_wait(machine):
    machine.close()
    with pytest.raises(StateMachineClosed):
        machine.wait_and_transition((S.IDLE,), S.UNUSABLE)


def test_of_two_closers_one_closed_it(in_use, start):
    calls = [start(in_use.close) for _ in range(4)]
    assert sum(call.join() for call in calls) == 1


def test_a_snapshot_names_who_waits(in_use, start, until, rt):
    ctx = PoolContext(rt)
    call = start(lambda: in_use.wait_and_transition((S.IDLE,), S.UNUSABLE, ctx), "re-auth worker")
    until(lambda: waiting(in_use) == 1)
    assert in_use.snapshot().waiting == ("re-auth worker",)
    assert "1 waiting" in repr(in_use)
    ctx.cancel()
    call.failure()


def test_a_second_acquire_takes_the_next_state_of_the_connection(idle):
    assert idle.acquire()
    assert not idle.acquire()
    assert idle.release()
    assert not idle.release()


def test_unusable_goes_round_by_the_handshake(idle):
    idle.try_transition((S.IDLE,), S.UNUSABLE)
    idle.try_transition((S.CREATED, S.IDLE, S.UNUSABLE), S.INITIALIZING)
    assert idle.return_from_work()
    assert idle.state is S.IDLE
