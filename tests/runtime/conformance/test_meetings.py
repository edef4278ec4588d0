"""Events, barriers, semaphores and cells, on every runtime."""

from __future__ import annotations

import pytest

from coordemu.runtime.base import NS_PER_MS, NS_PER_S


def test_an_event_lets_all_waiters_go_and_stays_set(rt, until):
    event = rt.event("started")
    outcome = []
    tasks = [rt.spawn(lambda: outcome.append(event.wait()), name=f"w{i}") for i in range(3)]
    until(lambda: len(event.waiters()) == 3)
    assert not event.is_set()
    assert all(task.waiting_on is event for task in tasks)
    assert set(event.waiters()) == set(tasks)
    event.set()
    assert all(task.join(10 * NS_PER_S) for task in tasks)
    assert outcome == [True] * 3
    assert event.is_set()
    assert event.wait()
    assert event.wait(0)
    assert list(event.waiters()) == []


def test_an_event_wait_gives_up_after_its_time(rt):
    event = rt.event("never")
    before = rt.now_ns()
    assert not event.wait(2 * NS_PER_MS)
    assert rt.now_ns() - before >= 2 * NS_PER_MS
    assert not event.wait(0)
    assert list(event.waiters()) == []


def test_who_waited_when_an_event_was_set_goes_on_even_if_it_is_cleared_at_once(rt, until):
    event = rt.event("pulse")
    outcome = []
    task = rt.spawn(lambda: outcome.append(event.wait()), name="waiter")
    until(lambda: task.waiting_on is event)
    event.set()
    event.clear()
    assert task.join(10 * NS_PER_S)
    assert outcome == [True]
    assert not event.is_set()
    assert not event.wait(0)


def test_an_events_holders_are_its_debtors(rt):
    me = rt.current()
    assert list(rt.event("owed", owed_by=lambda: [me, "shard 1"]).holders()) == [me, "shard 1"]
    assert list(rt.event("owed by nobody").holders()) == []


def test_a_barrier_opens_for_the_last_and_tells_exactly_one(rt, until):
    barrier = rt.barrier(3, "admin jobs", expected=lambda: tasks)
    outcome, tasks = [], []
    assert (barrier.name, barrier.n, barrier.arrived) == ("admin jobs", 3, 0)
    tasks += [rt.spawn(lambda: outcome.append(barrier.wait()), name=f"w{i}") for i in range(2)]
    until(lambda: len(barrier.waiters()) == 2)
    assert barrier.arrived == 2
    assert outcome == []
    assert barrier.wait()
    assert all(task.join(10 * NS_PER_S) for task in tasks)
    assert outcome == [False, False]
    assert list(barrier.waiters()) == []


def test_a_barriers_holders_are_the_expected_that_have_not_come(rt, until):
    go = [rt.event(f"go {i}") for i in range(3)]
    tasks = []
    barrier = rt.barrier(3, "b", expected=lambda: tasks)

    def come(i):
        go[i].wait()
        barrier.wait()

    tasks += [rt.spawn(come, i, name=f"w{i}") for i in range(3)]
    assert list(barrier.holders()) == tasks
    go[1].set()
    until(lambda: tasks[1].waiting_on is barrier)
    assert list(barrier.holders()) == [tasks[0], tasks[2]]
    go[0].set()
    go[2].set()
    assert all(task.join(10 * NS_PER_S) for task in tasks)


def test_a_barrier_of_one_does_not_wait(rt):
    barrier = rt.barrier(1, "alone")
    assert barrier.wait()
    assert barrier.arrived == 1


def test_a_barrier_is_for_one_meeting_of_at_least_one(rt):
    barrier = rt.barrier(1, "alone")
    barrier.wait()
    with pytest.raises(RuntimeError, match="'alone'"):
        barrier.wait()
    assert barrier.arrived == 1
    with pytest.raises(ValueError, match="0"):
        rt.barrier(0, "nobody")


def test_many_come_to_a_barrier_and_one_is_told(rt):
    barrier = rt.barrier(16, "b")
    outcome = []
    tasks = [rt.spawn(lambda: outcome.append(barrier.wait()), name=f"w{i}") for i in range(16)]
    assert all(task.join(10 * NS_PER_S) for task in tasks)
    assert sorted(outcome) == [False] * 15 + [True]


def test_a_semaphore_counts(rt):
    semaphore = rt.semaphore(2, "tickets")
    assert (semaphore.name, semaphore.value) == ("tickets", 2)
    assert semaphore.acquire()
    assert semaphore.acquire(0)
    assert semaphore.value == 0
    assert not semaphore.acquire(0)
    before = rt.now_ns()
    assert not semaphore.acquire(2 * NS_PER_MS)
    assert rt.now_ns() - before >= 2 * NS_PER_MS
    assert list(semaphore.waiters()) == []
    semaphore.release(3)
    assert semaphore.value == 3


def test_a_semaphore_serves_in_the_order_of_coming(rt, until):
    semaphore = rt.semaphore(0, "tickets")
    served = []

    def take(i):
        semaphore.acquire()
        served.append(i)
        if i < 4:
            semaphore.release()  # hands it on: a late comer must not overtake

    tasks = []
    for i in range(5):
        tasks.append(rt.spawn(take, i, name=f"t{i}"))
        until(lambda: len(semaphore.waiters()) == i + 1)  # noqa: B023
    assert list(semaphore.waiters()) == tasks
    semaphore.release()
    assert all(task.join(10 * NS_PER_S) for task in tasks)
    assert served == [0, 1, 2, 3, 4]
    assert semaphore.value == 0


def test_a_released_unit_belongs_to_the_one_that_waited(rt, until):
    semaphore = rt.semaphore(0, "tickets")
    got = rt.event("got it")
    task = rt.spawn(lambda: semaphore.acquire() and got.set(), name="first")
    until(lambda: task.waiting_on is semaphore)
    semaphore.release()
    assert not semaphore.acquire(0)
    assert got.wait(10 * NS_PER_S)


def test_a_semaphore_refuses_nonsense(rt):
    with pytest.raises(ValueError, match="-1"):
        rt.semaphore(-1, "s")
    semaphore = rt.semaphore(1, "s")
    with pytest.raises(ValueError, match="0"):
        semaphore.release(0)
    assert semaphore.value == 1
    assert semaphore.holders()  # it does not claim that nobody will release


def test_a_cell_is_read_stored_exchanged_and_compared(rt):
    cell = rt.cell(1, "flag")
    assert (cell.name, cell.value) == ("flag", 1)
    cell.value = 2
    assert cell.exchange(3) == 2
    assert not cell.compare_exchange(2, 9)
    assert cell.value == 3
    assert cell.compare_exchange(3, 4)
    assert cell.value == 4


def test_a_test_and_set_has_one_winner(rt):
    cell = rt.cell(False, "started")
    barrier = rt.barrier(8, "together")
    winners, swapped = [], []
    topology = rt.cell(None, "pending topology")

    def start(i):
        barrier.wait()
        if cell.compare_exchange(False, True):
            winners.append(i)
        swapped.append(topology.exchange(i))

    tasks = [rt.spawn(start, i, name=f"t{i}") for i in range(8)]
    assert all(task.join(10 * NS_PER_S) for task in tasks)
    assert len(winners) == 1
    assert sorted([*(x for x in swapped if x is not None), topology.value]) == list(range(8))
