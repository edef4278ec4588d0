"""What only real threads have: adopted threads, dead ones, hand-overs in flight, uncontended locks."""

from __future__ import annotations

import _thread
import gc
import sys
import threading

import pytest

from coordemu.runtime import thread_condition, thread_event, thread_lock, thread_semaphore, thread_task, wait_for
from coordemu.runtime.base import NS_PER_S
from coordemu.runtime.threads import ThreadsRuntime
from coordemu.runtime.trace_ring import TraceRing


def in_thread(start, body):
    """Run body in a thread that the runtime does not spawn; return a function that ends it and waits for its end."""
    begun, end, ended = threading.Event(), threading.Event(), threading.Event()

    def run():
        body()
        begun.set()
        end.wait(10)
        ended.set()

    start(run)
    assert begun.wait(10)

    def finish():
        end.set()
        assert ended.wait(10)

    return finish


def test_a_foreign_thread_is_adopted_under_its_own_name_until_it_ends(rt, eventually):
    seen = []
    threads = []

    def start(run):
        threads.append(threading.Thread(target=run, name="prober"))
        threads[0].start()

    finish = in_thread(start, lambda: seen.append(rt.current()))
    assert [task for task in rt.tasks() if task.name == "prober"] == seen
    assert seen[0].adopted
    assert seen[0].ident == threads[0].ident
    assert "run" in seen[0].call_stack()[-1] or len(seen[0].call_stack()) > 1
    assert not seen[0].join(0)
    finish()
    assert seen[0].join(10 * NS_PER_S)
    assert not seen[0].alive
    assert seen[0].call_stack() == []
    assert "prober" not in [task.name for task in rt.tasks()]


def test_a_thread_that_threading_did_not_make_is_adopted_too_but_cannot_be_joined(rt, eventually):
    seen = []
    finish = in_thread(lambda run: _thread.start_new_thread(run, ()), lambda: seen.append(rt.current()))
    assert seen[0].alive
    assert seen[0] in rt.tasks()
    with pytest.raises(RuntimeError, match="foreign"):
        seen[0].join(0)
    finish()
    eventually(lambda: not seen[0].alive, "the end of the thread")
    assert seen[0] not in rt.tasks()


def test_a_lock_adopts_whoever_takes_it_first(rt):
    lock = rt.lock("l")
    finish = in_thread(lambda run: threading.Thread(target=run, name="taker").start(), lock.acquire)
    assert lock.owner.name == "taker"
    with pytest.raises(RuntimeError, match="MainThread releases lock 'l', held by taker"):
        lock.release()
    finish()


def test_two_runtimes_do_not_mix_their_tasks(rt):
    other = ThreadsRuntime(seed=1)
    assert rt.current() is not other.current()
    assert rt.current() is rt.current()
    done = other.spawn(lambda: None, name="theirs")
    assert done.join()
    assert [task.name for task in rt.tasks()] == ["MainThread"]


def test_a_task_cannot_join_itself(rt):
    task = rt.spawn(lambda: rt.current().join(), name="self")
    assert task.join(10 * NS_PER_S)
    assert isinstance(task.error, RuntimeError)


def test_a_thread_that_cannot_start_leaves_no_task(rt, monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start"):
        rt.spawn(lambda: None, name="late")
    assert [task.name for task in rt.tasks()] == ["MainThread"]


def test_even_a_system_exit_only_ends_its_task(rt):
    def leave():
        raise SystemExit(3)

    task = rt.spawn(leave, name="leaver")
    assert task.join(10 * NS_PER_S)
    assert isinstance(task.error, SystemExit)


def test_a_woken_task_counts_as_running_before_it_runs(rt, eventually):
    """The waker's very next look must not see the old wait: the woken one may need milliseconds to run."""
    event, semaphore, lock = rt.event("e"), rt.semaphore(0, "s"), rt.lock("l")
    condition = rt.condition(lock, "c")

    def wait_on_condition():
        with lock:
            condition.wait()

    cases = [(event, event.wait, event.set), (semaphore, semaphore.acquire, semaphore.release)]
    cases.append((condition, wait_on_condition, condition.notify))
    for waitable, wait, wake in cases:
        task = rt.spawn(wait, name="sleeper")
        eventually(lambda: task.waiting_on is waitable)  # noqa: B023
        wake()
        assert task.waiting_on is not waitable
        assert task.join(10 * NS_PER_S)


def test_no_task_is_seen_waiting_for_what_it_has_or_holding_what_it_gives_away(rt, eventually, monkeypatch):
    """Between two steps a task may stand still for long; each order of steps must be harmless to a watchdog."""
    seen = []

    class Probe(thread_lock.ThreadLock):
        @property
        def owner_now(self):
            return self.held_by

        @owner_now.setter
        def owner_now(self, task):
            self.held_by = task
            seen.append((task, rt.current().waiting_on))

    class Arrivals(list):
        def append(self, task):
            super().append(task)
            seen.append((task, task.waiting_on))

    lock = Probe(rt.registry, "l")
    condition = rt.condition(lock, "c")
    barrier = rt.barrier(2, "b")
    barrier._came = Arrivals()

    def work():
        with lock:  # contended
            condition.wait()
        barrier.wait()

    with lock:
        task = rt.spawn(work, name="t")
        eventually(lambda: task.waiting_on is lock)
    eventually(lambda: task.waiting_on is condition)
    with lock:
        condition.notify()
    eventually(lambda: task.waiting_on is barrier)
    barrier.wait()
    assert task.join(10 * NS_PER_S)
    assert len([owner for owner, _ in seen if owner is task]) == 3  # twice the lock, once the barrier
    assert {waiting_on for _, waiting_on in seen} == {None}


def test_a_wake_up_that_comes_as_the_time_runs_out_counts(rt, monkeypatch):
    """It was taken from the queue, so nobody else will get it: a waiter that ignored it would lose it."""

    class LastMoment(thread_task.Parking):
        def park(self, timeout_ns):
            wake()
            return False

    for module in (thread_condition, thread_event, thread_semaphore):
        monkeypatch.setattr(module, "Parking", LastMoment)
    lock, event, semaphore = rt.lock("l"), rt.event("e"), rt.semaphore(0, "s")
    condition = rt.condition(lock, "c")
    with lock:
        wake = condition.notify
        assert condition.wait(1)
        wake = lambda: None  # noqa: E731
        assert not condition.wait(1)
    wake = event.set
    assert event.wait(1)
    wake = semaphore.release
    assert semaphore.acquire(1)
    assert semaphore.value == 0


def test_an_event_that_is_set_just_before_the_waiter_queues_is_not_missed(rt, monkeypatch):
    class TooLate(thread_task.Parking):
        def __init__(self, *args):
            super().__init__(*args)
            event.set()

    monkeypatch.setattr(thread_event, "Parking", TooLate)
    event = rt.event("e")
    assert event.wait()
    assert list(event.waiters()) == []


def test_an_uncontended_lock_registers_nothing(rt, monkeypatch):
    def refuse(*args):
        raise AssertionError("a wait was registered")

    monkeypatch.setattr(thread_lock, "Parking", refuse)
    lock = rt.lock("l")
    lock.acquire()
    lock.release()
    with lock:
        assert lock.owner is rt.current()
        assert not lock.acquire(0)


def test_a_wait_inside_a_polls_predicate_gives_back_the_outer_wait(rt, eventually):
    lock, go = rt.lock("l"), rt.cell(False, "go")
    lock.acquire()

    def predicate():
        with lock:
            return go.value

    task = rt.spawn(lambda: rt.poll_until(predicate, 100_000, "the outer wait"), name="poller")
    eventually(lambda: task.waiting_on is lock)  # its first look, before it began to poll
    lock.release()
    eventually(lambda: task.waiting_on is not None and task.waiting_on.name == "the outer wait")
    lock.acquire()
    eventually(lambda: task.waiting_on is lock)  # a later look, inside the poll
    lock.release()
    eventually(lambda: task.waiting_on is not None and task.waiting_on.name == "the outer wait")
    go.value = True
    assert task.join(10 * NS_PER_S)


@pytest.mark.parametrize("collecting", [True, False])
def test_frames_are_read_while_the_collector_is_off(rt, monkeypatch, collecting):
    """CPython 3.11 would stand still if it collected a thread-local variable at that moment."""
    seen = []
    read = sys._current_frames
    monkeypatch.setattr(sys, "_current_frames", lambda: seen.append(gc.isenabled()) or read())
    try:
        if not collecting:
            gc.disable()
        assert rt.current().call_stack()
        assert gc.isenabled() == collecting
    finally:
        gc.enable()
    assert seen
    assert not any(seen)


def test_a_condition_needs_a_lock_of_this_runtime(rt):
    with pytest.raises(TypeError, match="'c'"):
        rt.condition(threading.Lock(), "c")


def test_chance_repeats_with_its_seed():
    first, second = ThreadsRuntime(seed=7).random, ThreadsRuntime(seed=7).random
    assert [first.random() for _ in range(5)] == [second.random() for _ in range(5)]


def test_time_limits_become_the_seconds_that_raw_locks_take():
    assert thread_task.wait_limit_s(None) == -1
    assert thread_task.wait_limit_s(-NS_PER_S) == 0  # not -1, which would be for ever
    assert thread_task.wait_limit_s(NS_PER_S // 2) == 0.5
    assert thread_task.wait_limit_s(10**30) == threading.TIMEOUT_MAX


def test_everything_long_lived_says_what_it_is(rt):
    lock = rt.lock("module lock")
    assert repr(lock) == "<ThreadLock 'module lock' free, 0 waiting>"
    with lock:
        assert repr(lock) == "<ThreadLock 'module lock' held by MainThread, 0 waiting>"
    assert repr(rt.condition(lock, "queue")) == "<ThreadCondition 'queue' over 'module lock', 0 waiting>"
    assert repr(rt.event("e")) == "<ThreadEvent 'e' clear, 0 waiting>"
    assert repr(rt.barrier(2, "b")) == "<ThreadBarrier 'b' 0/2>"
    assert repr(rt.semaphore(2, "s")) == "<ThreadSemaphore 's' value 2, 0 waiting>"
    assert repr(rt.cell(None, "c")) == "<ThreadCell 'c' None>"
    assert repr(rt.current()) == "<ThreadTask MainThread running>"
    assert repr(rt) == "<ThreadsRuntime seed 1, 1 tasks>"
    rt.spawn(lambda: None, name="t").join()
    rt.trace("a", "b")
    rt.loop("io").close()
    assert rt.statistics() == {"tasks": 1, "spawned": 1, "loops": 1, "trace_kept": 1, "trace_recorded": 1}


def test_the_trace_ring_forgets_the_oldest():
    ring = TraceRing(capacity=2)
    for i in range(3):
        ring.record(i, "task", "upstream", "ours", "")
    assert [event.at_ns for event in ring.events()] == [1, 2]
    assert ring.statistics() == {"kept": 2, "recorded": 3, "capacity": 2}
    assert repr(ring) == "<TraceRing 2/2>"
    with pytest.raises(ValueError, match="0"):
        TraceRing(capacity=0)


def test_a_watchdog_reads_the_graph_while_everything_moves(rt):
    """Nothing raises, and no cycle is seen among tasks that take two locks in the same order."""
    over = rt.cell(False, "over")
    locks = [rt.lock("A"), rt.lock("B")]
    lock = rt.lock("C")
    condition = rt.condition(lock, "c", owed_by=lambda: [rt.current()])

    def work():
        while not over.value:
            with locks[0], locks[1]:
                rt.sleep_ns(0)
            with lock:
                condition.notify()
                condition.wait(50_000)

    tasks = [rt.spawn(work, name=f"w{i}") for i in range(4)]
    kinds = set()
    for _ in range(300):
        kinds |= {wait_for.chain_from(rt, task).kind for task in tasks}
        wait_for.edges(rt)
        wait_for.render(rt)
    over.value = True
    assert all(task.join(10 * NS_PER_S) for task in tasks)
    assert [task.error for task in tasks] == [None] * 4
    assert "cycle" not in kinds
