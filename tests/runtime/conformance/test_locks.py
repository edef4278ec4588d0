"""Locks and conditions, on every runtime."""

from __future__ import annotations

import pytest

from coordemu.runtime.base import NS_PER_MS, NS_PER_S


def test_a_lock_knows_its_owner_its_waiters_and_its_holders(rt, until):
    lock = rt.lock("module lock")
    me = rt.current()
    assert (lock.name, lock.owner, lock.locked()) == ("module lock", None, False)
    with lock:
        assert lock.owner is me
        assert lock.locked()
        assert list(lock.holders()) == [me]
        task = rt.spawn(lock.acquire, name="second")
        until(lambda: task.waiting_on is lock)
        assert list(lock.waiters()) == [task]
        assert not task.join(0)
    assert task.join(10 * NS_PER_S)
    assert lock.owner is task  # it ended without giving it back
    assert list(lock.waiters()) == []


def test_a_free_lock_is_not_held_by_nobody(rt):
    holders = list(rt.lock("free").holders())
    assert holders  # no holder at all would read as: nobody will ever let a waiter go on
    assert not str(holders[0]).startswith("nobody")


def test_only_one_task_at_a_time_is_inside(rt):
    lock = rt.lock("counter")
    count = rt.cell(0, "count")

    def add():
        for _ in range(200):
            with lock:
                seen = count.value
                if seen % 10 == 0:
                    rt.sleep_ns(0)
                count.value = seen + 1

    tasks = [rt.spawn(add, name=f"adder-{i}") for i in range(4)]
    assert all(task.join(20 * NS_PER_S) for task in tasks)
    assert count.value == 800


@pytest.mark.parametrize("timeout_ns", [0, 2 * NS_PER_MS, -5])
def test_an_acquire_gives_up_after_its_time(rt, timeout_ns):
    lock = rt.lock("held")
    assert lock.acquire(timeout_ns)
    outcome = []

    def try_it():
        before = rt.now_ns()
        outcome.append(lock.acquire(timeout_ns))
        outcome.append(rt.now_ns() - before >= timeout_ns)

    rt.spawn(try_it, name="second").join()
    assert outcome == [False, True]
    assert list(lock.waiters()) == []
    assert lock.owner is rt.current()
    lock.release()
    assert not lock.locked()


def test_a_time_limit_does_not_stop_an_acquire_that_gets_the_lock(rt, until):
    lock = rt.lock("held")
    lock.acquire()
    outcome = []
    task = rt.spawn(lambda: outcome.append(lock.acquire(10 * NS_PER_S)), name="second")
    until(lambda: task.waiting_on is lock)
    lock.release()
    task.join()
    assert outcome == [True]
    assert lock.owner is task


def test_a_stranger_cannot_release_a_lock(rt):
    lock = rt.lock("mine")
    with pytest.raises(RuntimeError, match="'mine'"):
        lock.release()
    lock.acquire()
    task = rt.spawn(lock.release, name="stranger")
    task.join()
    assert isinstance(task.error, RuntimeError)
    assert "stranger" in str(task.error)
    assert lock.owner is rt.current()
    lock.release()


def test_a_lock_is_given_back_when_the_block_raises(rt):
    lock = rt.lock("l")
    with pytest.raises(ZeroDivisionError), lock:
        raise ZeroDivisionError
    assert not lock.locked()


def test_a_second_acquire_by_the_owner_waits_for_itself(rt):
    lock = rt.lock("l")
    with lock:
        assert not lock.acquire(NS_PER_MS)
        assert not lock.acquire(0)


def test_a_condition_is_waited_for_without_the_lock_and_left_with_it(rt, until):
    lock = rt.lock("queue lock")
    condition = rt.condition(lock, "queue", owed_by=lambda: [main])
    main = rt.current()
    owners = []

    def sleeper():
        with lock:
            owners.append(condition.wait())
            owners.append(lock.owner)

    task = rt.spawn(sleeper, name="sleeper")
    until(lambda: task.waiting_on is condition)
    assert (condition.name, condition.lock) == ("queue", lock)
    assert list(condition.waiters()) == [task]
    assert list(condition.holders()) == [main]
    with lock:
        condition.notify()
        assert list(condition.waiters()) == []
        until(lambda: task.waiting_on is lock)  # woken, but the lock is ours
    assert task.join(10 * NS_PER_S)
    assert owners == [True, task]
    assert not lock.locked()


def test_without_a_debtor_a_condition_has_no_holders(rt):
    assert list(rt.condition(rt.lock("l"), "c").holders()) == []


def test_a_condition_wait_gives_up_after_its_time_and_has_the_lock_again(rt):
    lock = rt.lock("l")
    condition = rt.condition(lock, "c")
    with lock:
        before = rt.now_ns()
        assert not condition.wait(2 * NS_PER_MS)
        assert rt.now_ns() - before >= 2 * NS_PER_MS
        assert lock.owner is rt.current()
        assert not condition.wait(0)
        assert list(condition.waiters()) == []


def test_a_notification_wakes_the_longest_waiting(rt, until):
    lock = rt.lock("l")
    condition = rt.condition(lock, "c")
    woken = []

    def sleeper(i):
        with lock:
            condition.wait()
            woken.append(i)

    tasks = []
    for i in range(4):
        tasks.append(rt.spawn(sleeper, i, name=f"s{i}"))
        until(lambda: len(condition.waiters()) == i + 1)  # noqa: B023
    with lock:
        condition.notify()
    until(lambda: woken)
    assert woken == [0]
    with lock:
        condition.notify(2)
    until(lambda: len(woken) == 3)
    assert sorted(woken) == [0, 1, 2]
    assert list(condition.waiters()) == [tasks[3]]
    with lock:
        condition.notify(0)
        assert len(condition.waiters()) == 1
        condition.notify_all()
    assert all(task.join(10 * NS_PER_S) for task in tasks)
    condition.notify()
    condition.notify_all()


def test_a_condition_is_waited_for_by_the_locks_owner_only(rt):
    lock = rt.lock("l")
    condition = rt.condition(lock, "c")
    with pytest.raises(RuntimeError, match="'c'"):
        condition.wait(0)
    assert list(condition.waiters()) == []


def test_a_bounded_queue_over_two_conditions_loses_nothing(rt):
    lock = rt.lock("queue")
    not_empty = rt.condition(lock, "not empty")
    not_full = rt.condition(lock, "not full")
    queue, taken = [], []

    def produce(base):
        for i in range(100):
            with lock:
                while len(queue) == 2:
                    not_full.wait()
                queue.append(base + i)
                not_empty.notify()

    def consume():
        for _ in range(100):
            with lock:
                while not queue:
                    not_empty.wait()
                taken.append(queue.pop(0))
                not_full.notify()

    tasks = [rt.spawn(produce, 1000 * i, name=f"p{i}") for i in range(2)]
    tasks += [rt.spawn(consume, name=f"c{i}") for i in range(2)]
    assert all(task.join(20 * NS_PER_S) for task in tasks)
    assert sorted(taken) == [*range(100), *range(1000, 1100)]
    assert [x for x in taken if x < 1000] == list(range(100))
