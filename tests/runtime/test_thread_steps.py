"""Locks, conditions, events, semaphores, stopped at every single step: another thread acts there, or a handler raises.

A tracer is called ahead of each instruction of the interpreter. So what a stress test would have to hit by luck is
tried in order: whatever stands between two instructions, in every function of the primitives that a call runs through.
"""

from __future__ import annotations

import dis
import sys
from contextlib import suppress

import pytest

from coordemu.runtime import thread_condition, thread_event, thread_lock, thread_semaphore, thread_task
from coordemu.runtime.base import NS_PER_S
from coordemu.runtime.thread_lock import ThreadLock

MODULES = (thread_condition, thread_event, thread_lock, thread_semaphore, thread_task)
FILES = {module.__file__ for module in MODULES}
# After these the interpreter looks whether a signal has come (after a call only if it was one into C); on entering a
# function, too.
LOOKS = {each for each in dis.opname if each in ("CALL", "CALL_FUNCTION_EX", "CALL_KW") or "JUMP_BACKWARD" in each}
LONG_NS = 20 * NS_PER_S


class Stepper:
    """Calls fn() with `act` called ahead of one instruction, the number'th in the primitives' functions.

    looks_only: count only where the interpreter would let a signal's handler run.  `reached`: there was such a step.
    """

    def __init__(self, number, act, looks_only=False):
        self._left = number
        self._act = act
        self._looks_only = looks_only
        self._depth = 0
        self._names = {}
        self._previous = {}
        self.reached = False

    def __call__(self, fn, *args):
        sys._getframe().f_trace_opcodes = True  # for CPython 3.12 and later, some frame must ask ahead of settrace
        sys.settrace(self._enter)
        try:
            return fn(*args)
        finally:
            sys.settrace(None)

    def _step(self):
        self._left -= 1
        if self._left == -1:
            self.reached = True
            self._act()

    def _enter(self, frame, _event, _arg):
        if self._previous.get(frame.f_back, "").startswith("CALL"):
            self._previous[frame.f_back] = "a call into Python"
        if frame.f_code.co_filename not in FILES or frame.f_code.co_name.startswith("<"):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if self._looks_only and self._depth:  # what strikes the outermost call at its entry has not begun it
            self._depth += 1
            self._step()
        self._depth += 1
        return self._in_frame

    def _in_frame(self, frame, event, _arg):
        if event == "opcode":
            code = frame.f_code
            if code not in self._names:
                self._names[code] = {each.offset: each.opname for each in dis.get_instructions(code)}
            if not self._looks_only or self._previous.get(frame) in LOOKS:
                self._step()
            self._previous[frame] = self._names[code].get(frame.f_lasti)
        return self._in_frame


class Stop(Exception):
    """What a signal's handler raises."""


def every_step(scenario, most=2_000):
    """Run scenario(number) for 0, 1, ... until it says that there was no such step. Returns how many there were.

    CPython 3.13 shows the instructions of a function only from its second traced call on, and sometimes later.
    """
    reached = misses = 0
    for number in range(most):
        if scenario(max(number - misses, 0)):
            reached, misses = reached + 1, 0
        else:
            misses += 1
        if misses == 3:
            return reached
    pytest.fail(f"no end after {most} steps")


class LooksAndStores(ThreadLock):
    """What would be wrong: two instructions, and a moment between them."""

    __slots__ = ()

    def acquire(self, timeout_ns=None):
        task = self._caller.task or self._registry.current()
        if self.owner_now is None: self.owner_now = task; return True  # fmt: skip  # noqa: E701, E702
        return self._wait(task, timeout_ns)


def steps_with_two_inside(rt, lock, act_on):
    wrong = []

    def scenario(number):
        got = []

        def rival():
            task = rt.spawn(lambda: got.append("rival") if lock.acquire(0) else None, name="rival")
            assert task.join(LONG_NS)

        stepper = Stepper(number, rival)
        if stepper(act_on):
            got.append("first")
        if len(got) > 1:
            wrong.append(number)
        lock.owner_now = None  # given back, whoever has it
        lock._free = True
        return stepper.reached

    assert every_step(scenario) > 5
    return wrong


def test_a_lock_is_one_tasks_wherever_another_tries(rt):
    lock = rt.lock("l")
    assert steps_with_two_inside(rt, lock, lambda: lock.acquire(0)) == []


def test_this_way_of_looking_finds_a_lock_that_is_not_exclusive(rt, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "FILES", FILES | {__file__})
    lock = LooksAndStores(rt.registry, "l")
    assert steps_with_two_inside(rt, lock, lambda: lock.acquire(0)) != []


@pytest.mark.parametrize("waiting_before", [0, 1])
@pytest.mark.parametrize("by_with", [False, True])
def test_a_release_wakes_who_comes_at_any_of_its_steps(rt, eventually, waiting_before, by_with):
    def scenario(number):
        lock = rt.lock("l")
        waiters = []

        def come():
            task = rt.spawn(take_and_give, lock, name="waiter")
            waiters.append(task)
            eventually(lambda: task.waiting_on is lock or not task.alive)

        lock.acquire()
        for _ in range(waiting_before):
            come()
        stepper = Stepper(number, come)
        stepper(lock.__exit__ if by_with else lock.release)
        assert all(task.join(LONG_NS) for task in waiters)
        assert not lock.locked()
        assert not lock.queue
        return stepper.reached

    assert every_step(scenario) > 5


def take_and_give(lock):
    with lock:
        pass


@pytest.mark.parametrize("timeout_ns", [None, 1, 300_000])
@pytest.mark.parametrize("others", [0, 2])
def test_a_wait_misses_no_release_at_any_of_its_steps(rt, eventually, others, timeout_ns):
    """Nor does one that gives up take the waking with it that another needs."""

    def scenario(number):
        lock = rt.lock("l")
        lock.acquire()
        holds, got, steppers = [True], [], []

        def release():
            if holds:
                holds.clear()
                ask.set()
                assert done.wait(LONG_NS)

        def releaser():
            ask.wait()
            lock.owner_now = rt.current()  # let it pass for the owner's
            lock.release()
            done.set()

        def wait():
            stepper = Stepper(number, release)
            steppers.append(stepper)
            if stepper(lock.acquire, timeout_ns):
                got.append(True)
                lock.release()

        ask, done = rt.event("ask"), rt.event("done")
        tasks = [rt.spawn(take_and_give, lock, name="other") for _ in range(others)]
        eventually(lambda: len(lock.waiters()) == others)
        tasks += [rt.spawn(releaser, name="releaser"), waiter := rt.spawn(wait, name="waiter")]
        if timeout_ns is None:
            eventually(lambda: not waiter.alive or (waiter.waiting_on is lock and steppers))
        else:
            assert waiter.join(LONG_NS)
        if holds:
            holds.clear()
            ask.set()
        assert all(task.join(LONG_NS) for task in tasks)
        assert [task.error for task in tasks] == [None] * len(tasks)
        assert timeout_ns is not None or got
        assert not lock.locked()
        assert not lock.queue
        return steppers[0].reached

    assert every_step(scenario) > 5


@pytest.mark.parametrize("first", [True, False])
def test_a_handler_that_raises_in_a_locks_wait_leaves_the_lock_to_the_others(rt, eventually, first):
    def scenario(number):
        lock = rt.lock("l")
        steppers, ends = [], []

        def wait():
            stepper = Stepper(number, stop, looks_only=True)
            steppers.append(stepper)
            try:
                stepper(lock.acquire)
            except Stop:
                ends.append("stopped")
            if lock.owner_now is rt.current():
                ends.append("owner")
                lock.release()

        def come(fn, *args):
            task = rt.spawn(fn, *args, name="waiter")
            eventually(lambda: task.waiting_on is lock or not task.alive)
            return task

        with lock:
            tasks = [come(wait), come(take_and_give, lock)] if first else [come(take_and_give, lock), come(wait)]
        assert all(task.join(LONG_NS) for task in tasks)
        assert ends == (["stopped"] if steppers[0].reached else ["owner"])  # never both
        assert not lock.locked()
        assert not lock.queue
        assert [task.wait for task in tasks] == [None, None]
        return steppers[0].reached

    assert every_step(scenario) > 3


def stop():
    raise Stop


@pytest.mark.parametrize("waiting", [1, 3])
def test_a_handler_that_raises_in_a_release_lets_all_have_the_lock(rt, eventually, waiting):
    def scenario(number):
        lock = rt.lock("l")
        lock.acquire()
        tasks = [rt.spawn(take_and_give, lock, name="waiter") for _ in range(waiting)]
        eventually(lambda: len(lock.waiters()) == waiting)
        stepper = Stepper(number, stop, looks_only=True)
        try:
            stepper(lock.release)
        except Stop:
            assert lock.owner_now is not rt.current()
        assert all(task.join(LONG_NS) for task in tasks)
        return stepper.reached

    assert every_step(scenario) > 1


@pytest.mark.parametrize("ended_by", ["notification", "time"])
def test_a_handler_that_raises_in_a_conditions_wait_leaves_it_with_the_lock_and_no_trace(rt, eventually, ended_by):
    def scenario(number):
        lock = rt.lock("l")
        condition = rt.condition(lock, "c")
        steppers, ends = [], []

        def other():
            with lock:
                condition.wait()

        def wait():
            with lock:
                stepper = Stepper(number, stop, looks_only=True)
                steppers.append(stepper)
                try:
                    stepper(condition.wait, None if ended_by == "notification" else 1)
                except Stop:
                    ends.append("stopped")
                ends.append(lock.owner_now is rt.current())

        task = rt.spawn(wait, name="waiter")
        eventually(lambda: not task.alive or task.waiting_on is condition)
        second = rt.spawn(other, name="other")
        eventually(lambda: second.waiting_on is condition)
        with lock:
            condition.notify(2)
        assert task.join(LONG_NS)
        assert second.join(LONG_NS)
        assert task.error is None
        assert ends == (["stopped", True] if steppers[0].reached else [True])
        assert not lock.locked()
        assert not lock.queue
        assert not condition._parked
        return steppers[0].reached

    assert every_step(scenario) > 3


@pytest.mark.parametrize("holding", [True, False])
def test_a_handler_that_raises_in_a_notification_loses_no_waiter(rt, eventually, holding):
    def scenario(number):
        lock = rt.lock("l")
        condition = rt.condition(lock, "c")

        def wait():
            with lock:
                condition.wait()

        tasks = [rt.spawn(wait, name="waiter") for _ in range(3)]
        eventually(lambda: len(condition.waiters()) == 3)
        stepper = Stepper(number, stop, looks_only=True)
        if holding:
            lock.acquire()
        with suppress(Stop):
            stepper(condition.notify, 2)
        if holding:
            lock.release()
        eventually(lambda: not lock.queue)  # whoever was moved there has come out
        with lock:
            condition.notify_all()
        assert all(task.join(LONG_NS) for task in tasks)
        return stepper.reached

    assert every_step(scenario) > 1


@pytest.mark.parametrize("timeout_ns", [None, 1])
def test_a_condition_is_notified_or_not_at_any_step_of_its_wait(rt, eventually, timeout_ns):
    """A notification without the lock, at each step: whatever it meets, nobody stays behind in a queue."""

    def scenario(number):
        lock = rt.lock("l")
        condition = rt.condition(lock, "c")
        steppers, ends = [], []

        def notify():
            task = rt.spawn(condition.notify, name="notifier")
            assert task.join(LONG_NS)

        def wait():
            with lock:
                stepper = Stepper(number, notify)
                steppers.append(stepper)
                ends.append(stepper(condition.wait, timeout_ns))

        task = rt.spawn(wait, name="waiter")
        eventually(lambda: not task.alive or (task.waiting_on is condition and steppers))
        condition.notify_all()
        assert task.join(LONG_NS)
        assert task.error is None
        assert len(ends) == 1
        assert not lock.locked()
        assert not lock.queue
        assert not condition._parked
        return steppers[0].reached

    assert every_step(scenario) > 5


@pytest.mark.parametrize("looks_only", [True, False])
def test_an_event_that_is_set_wakes_all_even_when_a_handler_raises_or_others_come(rt, eventually, looks_only):
    def scenario(number):
        event = rt.event("e")
        tasks = []

        def come():
            task = rt.spawn(event.wait, name="waiter")
            tasks.append(task)
            eventually(lambda: task.waiting_on is event or not task.alive)

        come()
        come()
        stepper = Stepper(number, stop if looks_only else come, looks_only)
        with suppress(Stop):
            stepper(event.set)
        assert event.is_set()
        assert all(task.join(LONG_NS) for task in tasks)
        assert not event._parked
        return stepper.reached

    assert every_step(scenario) > 1


@pytest.mark.parametrize("looks_only", [True, False])
def test_an_events_wait_sees_the_setting_at_any_step_and_leaves_no_trace_when_a_handler_raises(
    rt, eventually, looks_only
):
    def scenario(number):
        event = rt.event("e")
        steppers, ends = [], []

        def wait():
            stepper = Stepper(number, stop if looks_only else event.set, looks_only)
            steppers.append(stepper)
            try:
                ends.append(stepper(event.wait))
            except Stop:
                ends.append("stopped")

        task = rt.spawn(wait, name="waiter")
        eventually(lambda: not task.alive or (task.waiting_on is event and steppers))
        event.set()
        assert task.join(LONG_NS)
        assert ends == ["stopped" if looks_only and steppers[0].reached else True]
        assert not event._parked
        assert task.wait is None
        return steppers[0].reached

    assert every_step(scenario) > 3


@pytest.mark.parametrize("value", [0, 1])
def test_no_unit_of_a_semaphore_is_lost_when_a_handler_raises(rt, eventually, value):
    def scenario(number):
        semaphore = rt.semaphore(value, "s")
        steppers, ends = [], []

        def wait():
            stepper = Stepper(number, stop, looks_only=True)
            steppers.append(stepper)
            try:
                ends.append(stepper(semaphore.acquire))
            except Stop:
                ends.append("stopped")

        task = rt.spawn(wait, name="waiter")
        eventually(lambda: not task.alive or (task.waiting_on is semaphore and steppers))
        semaphore.release()
        assert task.join(LONG_NS)
        assert semaphore.value == value + 1 - (ends == [True])
        assert list(semaphore.waiters()) == []
        return steppers[0].reached

    assert every_step(scenario) > 0
