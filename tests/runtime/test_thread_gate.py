"""The gate of a sleeping thread, and what locks and conditions make of it: no wake-up is lost, none counts twice."""

from __future__ import annotations

import signal
import sys
import threading
import time

import pytest

from coordemu.runtime.base import NS_PER_MS, NS_PER_S
from coordemu.runtime.thread_gate import NO_LIMIT, gate_open, gate_wait, make_gate


@pytest.mark.parametrize("hand_over", [False, True])
def test_an_open_gate_lets_one_wait_pass(hand_over):
    gate = make_gate()
    gate_open(gate, hand_over)
    gate_open(gate, hand_over)  # open is open
    assert gate_wait(gate, NO_LIMIT) == 1
    assert gate_wait(gate, time.monotonic_ns() + NS_PER_MS) == 0


def test_a_shut_gate_is_waited_at_until_the_deadline():
    until_ns = time.monotonic_ns() + 3 * NS_PER_MS
    assert gate_wait(make_gate(), until_ns) == 0
    assert time.monotonic_ns() >= until_ns
    assert gate_wait(make_gate(), 0) == 0


@pytest.mark.parametrize("hand_over", [False, True])
def test_a_sleeper_is_woken_each_time(hand_over):
    there, back, turns = make_gate(), make_gate(), 200
    got = []

    def answer():
        for _ in range(turns):
            got.append(gate_wait(there, time.monotonic_ns() + 10 * NS_PER_S))
            gate_open(back, hand_over)

    thread = threading.Thread(target=answer)
    thread.start()
    for _ in range(turns):
        gate_open(there, hand_over)
        assert gate_wait(back, time.monotonic_ns() + 10 * NS_PER_S) == 1
    thread.join()
    assert got == [1] * turns


def test_a_signal_ends_a_wait_and_the_gate_stays_good():
    seen = []
    gate = make_gate()
    before = signal.signal(signal.SIGALRM, lambda *_: seen.append("signal"))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)  # again and again: the first may come before the wait
        assert gate_wait(gate, time.monotonic_ns() + 10 * NS_PER_S) == -1
        assert seen
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    gate_open(gate, False)
    assert gate_wait(gate, NO_LIMIT) == 1


class Stop(Exception):
    """What a signal's handler raises."""


@pytest.mark.parametrize("what", ["lock", "condition", "event", "semaphore"])
def test_a_handler_that_raises_ends_the_wait_and_leaves_nobody_queued(rt, what):
    lock, event, semaphore = rt.lock("l"), rt.event("e"), rt.semaphore(0, "s")
    condition = rt.condition(lock, "c")

    stopped = []

    def stop(*_):
        if not stopped and rt.current().waiting_on is not None:
            stopped.append(True)
            raise Stop

    if what == "lock":
        rt.spawn(lock.acquire, name="holder").join()
    wait = {"lock": lock.acquire, "condition": condition.wait, "event": event.wait, "semaphore": semaphore.acquire}[
        what
    ]
    if what == "condition":
        lock.acquire()
    before = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
        with pytest.raises(Stop):
            wait()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert rt.current().waiting_on is None
    assert [list(each.waiters()) for each in (lock, condition, event, semaphore)] == [[]] * 4
    assert what != "condition" or lock.owner is rt.current()  # a condition's wait ends with the lock, however it ends


def test_an_opening_that_was_meant_for_an_earlier_wait_ends_none(rt):
    event = rt.event("e")
    gate_open(rt.current().gate, False)
    assert not event.wait(3 * NS_PER_MS)
    lock = rt.lock("l")
    rt.spawn(lock.acquire, name="holder").join()
    gate_open(rt.current().gate, False)
    assert not lock.acquire(3 * NS_PER_MS)
    assert list(lock.waiters()) == []


def test_a_wait_in_a_signals_handler_does_not_eat_up_the_waking_of_the_wait_around_it(rt, eventually):
    outer, inner = rt.event("outer"), rt.event("inner")
    task = rt.current()
    within = []

    def handler(*_):
        if not within and task.waiting_on is outer:
            within.append(True)
            assert inner.wait(10 * NS_PER_S)

    def wake():
        eventually(lambda: task.waiting_on is inner)
        outer.set()  # opens the gate at which the inner wait sleeps
        assert task.waiting_on is inner
        inner.set()

    before = signal.signal(signal.SIGALRM, handler)
    waker = rt.spawn(wake, name="waker")
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
        assert outer.wait(10 * NS_PER_S)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert within
    assert waker.join(10 * NS_PER_S)
    assert waker.error is None


def test_a_notified_waiter_waits_for_the_lock_until_it_is_given_back(rt, eventually):
    """It is moved from the one queue to the other, and woken once."""
    lock = rt.lock("l")
    condition = rt.condition(lock, "c")

    def wait():
        with lock:
            condition.wait()

    tasks = [rt.spawn(wait, name=f"sleeper-{i}") for i in range(3)]
    eventually(lambda: len(condition.waiters()) == 3)
    with lock:
        condition.notify_all()
        assert list(condition.waiters()) == []
        assert {task.waiting_on for task in tasks} == {lock}
        assert set(lock.waiters()) == set(tasks)
    assert all(task.join(10 * NS_PER_S) for task in tasks)
    assert [task.error for task in tasks] == [None] * 3


def test_a_time_limit_that_ends_among_the_locks_waiters_counts_as_notified(rt, eventually):
    lock = rt.lock("l")
    condition = rt.condition(lock, "c")
    seen = []

    def wait():
        with lock:
            seen.append(condition.wait(5 * NS_PER_MS))

    task = rt.spawn(wait, name="sleeper")
    eventually(lambda: task.waiting_on is condition)
    with lock:
        condition.notify()
        began_ns = rt.now_ns()
        eventually(lambda: rt.now_ns() > began_ns + 10 * NS_PER_MS)
        assert task.waiting_on is lock
    assert task.join(10 * NS_PER_S)
    assert seen == [True]


def test_no_wake_up_is_lost_between_time_limits_and_notifiers_without_the_lock(rt):
    """Every item is taken, though notifications, time-outs and releases meet at every step."""
    lock = rt.lock("l")
    condition = rt.condition(lock, "c")
    items, taken, over = [], [], []
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    def take(limit_ns):
        while True:
            with lock:
                while not items and not over:
                    condition.wait(limit_ns)
                if not items:
                    return
                taken.append(items.pop())

    def give(outside):
        for number in range(100):
            with lock:
                items.append(number)
                if not outside:
                    condition.notify()
            if outside:
                condition.notify()

    try:
        takers = [rt.spawn(take, limit_ns, name=f"taker-{limit_ns}") for limit_ns in (None, None, 1_000, 30_000)]
        givers = [rt.spawn(give, outside, name=f"giver-{outside}") for outside in (False, True)]
        assert all(task.join(30 * NS_PER_S) for task in givers)
        with lock:
            over.append(True)
            condition.notify_all()
        assert all(task.join(30 * NS_PER_S) for task in takers)
    finally:
        sys.setswitchinterval(before)
    assert [task.error for task in [*takers, *givers]] == [None] * 6
    assert len(taken) == 200


def test_two_are_never_inside_however_often_threads_change(rt):
    lock = rt.lock("l")
    inside, most = [], []
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    def go():
        for number in range(150):
            if number % 3:
                lock.acquire()
            elif not lock.acquire(20_000):
                continue
            inside.append(None)
            most.append(len(inside))
            inside.pop()
            lock.release()

    try:
        tasks = [rt.spawn(go, name=f"t{i}") for i in range(4)]
        assert all(task.join(30 * NS_PER_S) for task in tasks)
    finally:
        sys.setswitchinterval(before)
    assert [task.error for task in tasks] == [None] * 4
    assert set(most) == {1}
    assert not lock.locked()
    assert list(lock.waiters()) == []


def test_a_lock_is_exclusive_under_a_tracer_too(rt):
    """A debugger's or a coverage tool's function runs between lines, and lets other threads run there."""
    lock = rt.lock("l")
    inside, most = [], []

    def trace(frame, event, arg):
        if frame.f_code.co_filename.endswith("thread_lock.py"):
            time.sleep(0)
        return trace

    def go():
        sys.settrace(trace)
        for _ in range(60):
            with lock:
                inside.append(None)
                most.append(len(inside))
                inside.pop()
        sys.settrace(None)

    tasks = [rt.spawn(go, name=f"t{i}") for i in range(3)]
    assert all(task.join(30 * NS_PER_S) for task in tasks)
    assert [task.error for task in tasks] == [None] * 3
    assert set(most) == {1}


@pytest.mark.parametrize("interval_s", [5e-3, 1e-6])
def test_nothing_is_lost_or_shared_with_a_tracer_signals_and_threads_that_change_all_the_time(rt, interval_s):
    """A queue under a lock with a condition; one taker under a tracer, one whose thread signals strike."""
    lock = rt.lock("l")
    condition = rt.condition(lock, "c")
    items, taken, inside, signals = [], [], [], []

    def take(share, traced=False):
        if traced:
            sys.settrace(trace)
        for _ in range(share):
            with lock:
                while not items:
                    condition.wait()
                inside.append(None)
                taken.append((items.pop(0), len(inside)))
                inside.pop()
        sys.settrace(None)

    def trace(frame, _event, _arg):
        if "thread_" in frame.f_code.co_filename:
            frame.f_trace_opcodes = True
            time.sleep(0)
        return trace

    def give():
        for number in range(90):
            with lock:
                items.append(number)
                condition.notify()

    before, interval = signal.signal(signal.SIGALRM, lambda *_: signals.append(1)), sys.getswitchinterval()
    sys.setswitchinterval(interval_s)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        takers = ((70, False), (70, False), (10, True))
        tasks = [rt.spawn(take, *each, name="taker") for each in takers]
        tasks += [rt.spawn(give, name=f"giver-{number}") for number in range(2)]
        take(30)
        assert all(task.join(30 * NS_PER_S) for task in tasks)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        sys.setswitchinterval(interval)
    assert [task.error for task in tasks] == [None] * 5
    assert sorted(item for item, _ in taken) == sorted([*range(90)] * 2)
    assert {many for _, many in taken} == {1}
    assert not lock.queue
