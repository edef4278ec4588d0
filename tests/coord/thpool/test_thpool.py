"""The thread pool: lazy start, who is pulled, what is counted, and jobs that raise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from coordemu.coord.thpool import Thpool
from coordemu.runtime.base import NS_PER_S, Condition, Lock, OwedBy, Runtime, Task

LONG_NS = 30 * NS_PER_S
Until = Callable[..., None]
WaitsFor = Callable[[Task, str], bool]
Check = Callable[[Thpool], bool]
Start = Callable[[Thpool], None]


Make = Callable[..., Thpool]


def test_creating_a_pool_starts_nothing(make: Make, rt: Runtime) -> None:
    before = len(rt.tasks())
    pool = make(3)
    assert len(rt.tasks()) == before
    assert (pool.num_threads, pool.num_threads_alive, pool.is_initialized) == (3, 0, False)
    assert repr(pool) == "<Thpool workers UNINITIALIZED threads=0/3 queued=0 in_progress=0 done=0>"


def test_ten_characters_of_the_name_are_kept_and_name_the_threads(make: Make, start_idle: Start) -> None:
    pool = make(2, name="a-very-long-name")
    start_idle(pool)
    assert pool.name == "a-very-lon"
    assert sorted(task.name for task in pool.tasks()) == ["a-very-lon-0", "a-very-lon-1"]


@pytest.mark.parametrize(("n", "bias"), [(-1, 0), (0, -1)])
def test_numbers_below_none_are_refused(rt: Runtime, n: int, bias: int) -> None:
    with pytest.raises(ValueError, match="-1"):
        Thpool(rt, n, bias, lambda level, line: None, "workers")


@pytest.mark.parametrize("batch", [False, True])
def test_the_first_push_starts_the_threads_and_waits_for_them(make: Make, batch: bool, until: Until) -> None:
    pool = make(3)
    done: list[int] = []
    if batch:
        pool.add_n_work([(done.append, 1), (done.append, 2)])
    else:
        pool.add_work(done.append, 1)
    assert pool.is_initialized
    assert pool.num_threads_alive == 3
    assert all(task.alive for task in pool.tasks())
    assert len(pool.tasks()) == 3
    until(lambda: pool.incomplete_jobs == 0)
    assert sorted(done) == ([1, 2] if batch else [1])


def test_no_jobs_is_no_push(make: Make) -> None:
    pool = make(2)
    pool.add_n_work([])
    assert not pool.is_initialized
    assert pool.num_threads_alive == 0


def test_initialized_is_published_before_any_thread_is_up_and_a_second_push_only_pushes(
    make: Make, rt: Runtime, watched: Any, until: Until
) -> None:
    """Threads of the pool start only when let; what the pool looks like at each start is kept."""
    runtime = watched(rt)
    let = rt.event("let them start")
    seen: list[tuple[bool, int]] = []

    def spawn(target: Callable[..., object], *args: object, name: str) -> Task:
        if name.startswith("workers-"):
            seen.append((pool.is_initialized, pool.incomplete_jobs))
            assert let.wait(LONG_NS)
        return rt.spawn(target, *args, name=name)

    runtime.spawn = spawn
    pool = make(2, runtime=runtime)
    done: list[int] = []
    first = rt.spawn(pool.add_work, done.append, 1, name="first submitter")
    until(lambda: bool(seen))
    assert seen == [(True, 1)]
    pool.add_work(done.append, 2)  # returns, although no thread runs yet
    assert pool.get_stats().total_pending_jobs == 2
    assert first.alive
    let.set()
    assert first.join(LONG_NS)
    until(lambda: sorted(done) == [1, 2])
    assert len(seen) == 2
    assert pool.num_threads_alive == 2


def test_many_first_pushes_at_once_start_the_threads_once(make: Make, rt: Runtime) -> None:
    for _ in range(10):
        pool = make(3)
        done: list[int] = []
        start = rt.barrier(6, "submitters")

        def submit(number: int, pool: Thpool = pool, done: list[int] = done, start: Any = start) -> None:
            start.wait()
            pool.add_work(done.append, number)

        submitters = [rt.spawn(submit, number, name=f"submitter-{number}") for number in range(6)]
        assert all(task.join(LONG_NS) for task in submitters)
        pool.drain(1, None, None, 0)
        assert sorted(done) == list(range(6))
        assert len(pool.tasks()) == pool.num_threads_alive == 3


def test_a_thread_that_cannot_be_started_is_given_back(
    make: Make, rt: Runtime, watched: Any, logs: list[tuple[str, str]], until: Until
) -> None:
    def spawn(target: Callable[..., object], *args: object, name: str) -> Task:
        if name == "workers-2":
            raise RuntimeError("no more threads")
        return rt.spawn(target, *args, name=name)

    runtime = watched(rt)
    runtime.spawn = spawn
    pool = make(4, runtime=runtime)
    done: list[int] = []
    with pytest.raises(RuntimeError, match="no more threads"):
        pool.add_work(done.append, 1)
    assert pool.num_threads_alive == 2
    until(lambda: done == [1])
    assert ("warning", "workers: 2 of 4 threads could not be started: no more threads") in logs
    assert pool.schedule_config_reduce_threads_job(4, when_empty=True) == 0
    until(lambda: pool.num_threads_alive == 0)


def test_a_pool_of_no_threads_keeps_a_job_until_it_has_some_and_a_push(make: Make, until: Until) -> None:
    pool = make(0)
    done: list[int] = []
    pool.add_work(done.append, 1)
    assert not pool.is_initialized
    assert pool.add_threads(1) == 1
    assert pool.num_threads_alive == 0
    pool.add_work(done.append, 2)
    until(lambda: done == [1, 2])


@pytest.mark.parametrize(
    ("bias", "expected"),
    [(0, ["h0", "l0", "h1", "l1", "h2", "l2"]), (1, ["h0", "h1", "h2", "l0", "l1", "l2"])],
)
def test_one_thread_takes_turns_or_prefers_high(make: Make, bias: int, expected: list[str], until: Until) -> None:
    pool = make(1, bias)
    pool.pause_threads_no_wait()
    done: list[str] = []
    pool.add_n_work([(done.append, f"l{i}") for i in range(3)], "low")
    pool.add_n_work([(done.append, f"h{i}") for i in range(3)], "high")
    pool.resume_threads()
    until(lambda: len(done) == 6)
    assert done == expected


def test_a_ticket_is_free_again_after_its_job_even_if_that_raised(make: Make, until: Until) -> None:
    pool = make(1, bias=1)
    order: list[str] = []

    def fail(_: Any) -> None:
        order.append("h0")
        raise ValueError("as asked")

    pool.pause_threads_no_wait()
    pool.add_work(order.append, "l0", "low")
    pool.add_work(fail, None, "high")
    pool.add_work(order.append, "h1", "high")
    pool.resume_threads()
    until(lambda: len(order) == 3)
    assert order == ["h0", "h1", "l0"]


@pytest.mark.parametrize("priority", ["admin", "urgent"])
def test_a_submitter_chooses_low_or_high_only(make: Make, priority: str) -> None:
    pool = make(1)
    with pytest.raises(ValueError, match=priority):
        pool.add_work(print, None, priority)
    with pytest.raises(ValueError, match=priority):
        pool.add_n_work([(print, None)], priority)
    assert (pool.incomplete_jobs, pool.is_initialized) == (0, False)


class CountedWakes:
    """A runtime that keeps what the pool's condition was asked to wake."""

    def __init__(self, rt: Runtime) -> None:
        self.rt = rt
        self.wakes: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rt, name)

    def condition(self, lock: Lock, name: str, owed_by: OwedBy | None = None) -> Any:
        condition: Condition = self.rt.condition(lock, name, owed_by)
        wakes = self.wakes

        class Counted:
            def __getattr__(self, attribute: str) -> Any:
                return getattr(condition, attribute)

            def notify(self, n: int = 1) -> None:
                wakes.append(f"signal {n}")
                condition.notify(n)

            def notify_all(self) -> None:
                wakes.append("wake all")
                condition.notify_all()

        return Counted()


def test_one_job_signals_one_sleeper_and_more_jobs_wake_all(
    make: Make, rt: Runtime, until: Until, all_asleep: Check, start_idle: Start
) -> None:
    runtime = CountedWakes(rt)
    pool = make(3, runtime=runtime)
    start_idle(pool)
    runtime.wakes.clear()
    pool.add_work(lambda _: None, None)
    assert runtime.wakes == ["signal 1"]
    until(lambda: all_asleep(pool))
    pool.add_n_work([(lambda _: None, None)])
    assert runtime.wakes == ["signal 1"] * 2
    until(lambda: all_asleep(pool))
    pool.add_n_work([(lambda _: None, None)] * 2)
    assert runtime.wakes == ["signal 1", "signal 1", "wake all"]


def test_queued_and_in_progress_and_done_always_add_up(make: Make, rt: Runtime) -> None:
    pool = make(4, bias=1)
    pool.pause_threads_no_wait()
    jobs = 600
    pool.add_n_work([(lambda _: rt.sleep_ns(0), None)] * (jobs // 2), "low")
    pool.add_n_work([(lambda _: rt.sleep_ns(0), None)] * (jobs // 2), "high")
    pool.resume_threads()
    while True:
        stats = pool.get_stats()
        assert stats.total_jobs_done + stats.incomplete_jobs == jobs
        assert stats.total_pending_jobs == stats.high_priority_pending_jobs + stats.low_priority_pending_jobs
        assert 0 <= stats.num_jobs_in_progress <= 4
        if not stats.incomplete_jobs:
            break
        rt.sleep_ns(0)


def test_admin_jobs_are_in_progress_but_are_not_counted_as_done(
    make: Make, rt: Runtime, until: Until, start_idle: Start
) -> None:
    pool = make(2)
    start_idle(pool)
    gate = rt.event("gate")
    pool.add_work(lambda _: gate.wait(LONG_NS), None)
    until(lambda: pool.num_jobs_in_progress == 1)
    pool.schedule_config_reduce_threads_job(2)
    until(lambda: pool.num_jobs_in_progress == 2)  # the idle thread, at the barrier
    stats = pool.get_stats()
    assert (stats.total_jobs_done, stats.admin_priority_pending_jobs, stats.total_pending_jobs) == (1, 1, 1)
    gate.set()
    until(lambda: pool.num_threads_alive == 0)
    assert pool.get_stats().total_jobs_done == 2
    assert pool.num_jobs_in_progress == 0


def test_a_job_that_raises_is_noted_and_the_thread_lives_on(
    make: Make, logs: list[tuple[str, str]], until: Until
) -> None:
    pool = make(1)

    def fail(number: int) -> None:
        raise ValueError(f"job {number}")

    pool.add_n_work([(fail, number) for number in range(70)])
    done: list[int] = []
    pool.add_work(done.append, 1)
    until(lambda: done == [1])
    until(lambda: pool.get_stats().total_jobs_done == 71)
    assert pool.get_stats().job_errors == 70
    assert len(pool.job_errors) == 64
    assert pool.job_errors[-1].startswith("workers-0: job ")
    assert pool.job_errors[-1].endswith("raised ValueError: job 69")
    assert sum(level == "warning" for level, _ in logs) == 70
    assert pool.num_threads_alive == 1
