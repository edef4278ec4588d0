"""A pool by number, in every order that the simulator comes to: no job is left, no thread too many, nobody waits."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import pytest

from coordemu.coord.thpool import Thpool
from coordemu.coord.thpool_admin import ThpoolError
from coordemu.coord.thpool_by_number import ThpoolByNumber
from coordemu.runtime.base import NS_PER_S, Event, Runtime, Task
from coordemu.runtime.sim import SimRuntime
from coordemu.runtime.sim_schedule import make_strategy

LONG_NS = 30 * NS_PER_S
Until = Callable[..., None]


def quiet(pool: ThpoolByNumber) -> bool:
    return pool.incomplete_jobs == 0 and pool.num_threads_alive <= pool.num_threads


def in_sim(strategy: str, seed: int, scenario: Callable[[SimRuntime], None]) -> None:
    rt = SimRuntime(make_strategy(strategy, seed))
    assert rt.run(lambda: scenario(rt), name="test").check().kind == "done"


def by_number(rt: Runtime, n: int, logs: list[tuple[str, str]] | None = None) -> ThpoolByNumber:
    return ThpoolByNumber(rt, n, 1, lambda *line: None if logs is None else logs.append(line), "workers")


def any_operations(seed: int, rt: SimRuntime) -> None:
    """Two submitters, nested pushes, and a third who changes the number, pauses and resumes, all at once."""
    chance = random.Random(seed)
    pool = by_number(rt, chance.randint(0, 3))
    pushed: list[int] = []
    done: list[int] = []

    def number() -> int:
        pushed.append(len(pushed))
        return pushed[-1]

    def nested(job: int) -> None:
        pool.add_work(done.append, number())
        done.append(job)

    def submit(kinds: list[int]) -> None:
        for kind in kinds:
            if kind == 0:
                pool.add_n_work([(done.append, number()), (nested, number())])
            else:
                pool.add_work(nested if kind == 1 else done.append, number(), chance.choice(("low", "high")))

    tasks = [rt.spawn(submit, [chance.randint(0, 3) for _ in range(4)], name=f"submitter {n}") for n in range(2)]
    for _ in range(chance.randint(1, 6)):
        step = chance.randint(0, 6)
        if step < 5:
            assert pool.set_num_threads(wanted := chance.randint(0, 3)) == wanted
        elif pool.paused:
            pool.resume_threads()
        else:
            pool.pause_threads_no_wait()
    for task in tasks:
        task.join()
    if pool.paused:
        pool.resume_threads()
    assert rt.poll_until(lambda: quiet(pool), 1000, "the pool is quiet", NS_PER_S), pool
    assert sorted(done) == pushed
    # Whoever is left is as many as wanted, or the pool knows that the next push must look.
    assert pool.num_threads_alive == pool.num_threads or not pool.is_initialized
    pool.add_work(done.append, number())
    pool.wait()
    assert done[-1] == pushed[-1]
    pool.destroy()
    assert pool.num_threads_alive == 0
    assert pool.job_errors == ()


@pytest.mark.parametrize("strategy", ["random", "pct2", "pct3", "pct5"])
def test_no_order_of_any_operations_leaves_a_job_or_a_thread_too_many(strategy: str) -> None:
    for seed in range(40):
        in_sim(strategy, seed, partial(any_operations, seed))


def there_and_back(rt: SimRuntime) -> None:
    """The push after 2, 0, 2 comes with a lock held that every old thread needs: upstream's revival waits for ever."""
    pool = by_number(rt, 2)
    lock = rt.lock("module lock")
    done: list[int] = []

    def job(number: int) -> None:
        with lock:
            done.append(number)

    with lock:
        pool.add_n_work([(job, 0), (job, 1)])
        assert rt.poll_until(lambda: pool.num_jobs_in_progress == 2, 1000, "both threads busy", NS_PER_S)
        pool.set_num_threads(0)
        pool.set_num_threads(2)
        pool.add_work(job, 2)
        assert pool.num_threads_alive == 2
        assert done == []
    pool.wait()
    assert sorted(done) == [0, 1, 2]
    assert pool.num_threads_alive == 2
    pool.destroy()


@pytest.mark.parametrize("strategy", ["run-on", "random", "pct3"])
def test_a_pool_that_drains_and_is_wanted_again_keeps_its_threads_and_makes_nobody_wait(strategy: str) -> None:
    for seed in range(20):
        in_sim(strategy, seed, there_and_back)


# ---- on either runtime


class Bench:
    """A pool whose jobs wait for one gate."""

    def __init__(self, rt: Runtime, n: int, until: Until) -> None:
        self.rt, self.until = rt, until
        self.logs: list[tuple[str, str]] = []
        self.pool = by_number(rt, n, self.logs)
        self.gate: Event = rt.event("gate", owed_by=lambda: ["the test"])
        self.done: list[int] = []

    def work(self, number: int) -> None:
        assert self.gate.wait(LONG_NS)
        self.done.append(number)

    def busy(self, n: int) -> None:
        self.pool.add_n_work([(self.work, number) for number in range(n)])
        self.until(lambda: self.pool.num_jobs_in_progress == n)


@pytest.fixture
def bench(rt: Runtime, until: Until) -> Iterator[Callable[[int], Bench]]:
    made: list[Bench] = []

    def make(n: int) -> Bench:
        made.append(Bench(rt, n, until))
        return made[-1]

    yield make
    for each in made:
        each.gate.set()
        if each.pool.paused:
            each.pool.resume_threads()
        each.pool.destroy()


def test_nothing_is_started_before_the_first_push(bench: Callable[[int], Bench]) -> None:
    pool = bench(2).pool
    assert pool.add_threads(3) == 5
    assert pool.schedule_config_reduce_threads_job(1) == 4
    assert (pool.num_threads, pool.num_threads_alive, pool.is_initialized) == (4, 0, False)


def test_idle_threads_leave_and_come(bench: Callable[[int], Bench], all_asleep: Callable[[Thpool], bool]) -> None:
    site = bench(4)
    site.pool.add_work(site.done.append, 0)
    for number in (4, 1, 3, 0):
        site.pool.set_num_threads(number)
        site.until(lambda: all_asleep(site.pool))
    assert not site.pool.is_initialized
    site.pool.set_num_threads(2)
    assert site.pool.num_threads_alive == 0
    site.pool.add_work(site.done.append, 1)
    site.until(lambda: site.done == [0, 1] and all_asleep(site.pool))


def test_with_none_wanted_the_threads_finish_what_is_queued(bench: Callable[[int], Bench]) -> None:
    site = bench(2)
    site.busy(2)
    site.pool.add_n_work([(site.done.append, number) for number in (2, 3, 4)])
    site.pool.set_num_threads(0)
    assert site.pool.num_threads_alive == 2
    site.gate.set()
    site.until(lambda: site.pool.num_threads_alive == 0)
    assert sorted(site.done) == [0, 1, 2, 3, 4]


def test_a_push_to_a_pool_of_none_is_done_by_one_thread_that_leaves(bench: Callable[[int], Bench]) -> None:
    site = bench(0)
    site.pool.add_work(site.done.append, 0)
    site.until(lambda: site.done == [0] and site.pool.num_threads_alive == 0)
    assert site.pool.num_threads == 0


def test_fewer_leave_at_once_and_the_rest_does_what_is_queued(bench: Callable[[int], Bench]) -> None:
    site = bench(3)
    site.busy(3)
    site.pool.add_n_work([(site.work, number) for number in (3, 4)])
    site.pool.set_num_threads(1)
    site.gate.set()
    site.until(lambda: quiet(site.pool))
    assert sorted(site.done) == [0, 1, 2, 3, 4]
    assert site.pool.num_threads_alive == 1


def test_a_paused_pool_can_be_reduced(bench: Callable[[int], Bench], all_asleep: Callable[[Thpool], bool]) -> None:
    site = bench(3)
    site.pool.add_work(site.done.append, 0)
    site.until(lambda: all_asleep(site.pool))
    site.pool.pause_threads()
    site.pool.add_work(site.done.append, 1)
    site.pool.set_num_threads(1)
    site.until(lambda: all_asleep(site.pool))
    site.pool.set_num_threads(0)  # a job is queued: the last thread stays for it
    site.until(lambda: all(task.waiting_on is not None for task in site.pool.tasks()))
    assert (site.pool.num_threads_alive, site.done) == (1, [0])
    site.pool.resume_threads()
    site.until(lambda: site.pool.num_threads_alive == 0)
    assert site.done == [0, 1]


def test_what_would_wait_is_refused(bench: Callable[[int], Bench]) -> None:
    pool = bench(2).pool
    for refused in (pool.terminate_when_empty, lambda: pool.remove_threads(1)):
        with pytest.raises(ThpoolError, match="nobody waits for the threads"):
            refused()
    for wrong in (lambda: pool.set_num_threads(-1), lambda: pool.add_threads(-1)):
        with pytest.raises(ValueError, match="threads is below 0"):
            wrong()
    for n in (-1, 3):
        with pytest.raises(ValueError, match="threads is below 0"):
            pool.schedule_config_reduce_threads_job(n)
    assert pool.num_threads == 2
    pool.destroy()
    for late in (lambda: pool.set_num_threads(1), lambda: pool.add_work(lambda _: None, None)):
        with pytest.raises(ThpoolError, match="has been destroyed"):
            late()


def test_a_worker_can_not_end_its_own_pool(bench: Callable[[int], Bench]) -> None:
    site = bench(1)
    site.pool.add_work(lambda _: site.pool.terminate_threads(), None)
    site.until(lambda: bool(site.pool.job_errors))
    assert "can't end its own pool" in site.pool.job_errors[0]


def test_terminated_with_jobs_queued_they_wait_for_the_next_push(bench: Callable[[int], Bench]) -> None:
    site = bench(1)
    site.busy(1)
    site.pool.add_work(site.done.append, 1)
    ending = site.rt.spawn(site.pool.terminate_threads, name="ending")
    site.until(lambda: ending.waiting_on is not None)
    holders = ending.waiting_on.holders() if ending.waiting_on is not None else ()
    assert [holder.name for holder in holders if not isinstance(holder, str)] == ["workers-0"]
    site.gate.set()
    assert ending.join(LONG_NS)
    assert (site.done, site.pool.num_threads_alive, site.pool.is_initialized) == ([0], 0, False)
    assert ("warning", "workers: threads end while 1 jobs are queued") in site.logs
    site.pool.add_work(site.done.append, 2)
    site.until(lambda: site.done == [0, 1, 2])


class NoThreads:
    """A runtime that can't start tasks for a while."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self.left = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rt, name)

    def spawn(self, target: Callable[..., object], *args: object, name: str) -> Task:
        if self.left == 0:
            raise RuntimeError("can't start new thread")
        self.left -= 1
        return self._rt.spawn(target, *args, name=name)


def test_threads_that_can_not_be_started_are_tried_again_at_the_next_push(rt: Runtime, until: Until) -> None:
    poor = NoThreads(rt)
    logs: list[tuple[str, str]] = []
    pool = by_number(cast(Runtime, poor), 3, logs)
    done: list[int] = []
    pool.add_work(done.append, 0)
    assert (pool.num_threads_alive, pool.is_initialized) == (0, False)
    assert ("warning", "workers: 3 of 3 threads could not be started: can't start new thread") in logs
    poor.left = 1
    pool.add_work(done.append, 1)
    until(lambda: done == [0, 1])
    assert (pool.num_threads_alive, pool.is_initialized) == (1, False)
    poor.left = 10
    pool.add_work(done.append, 2)
    until(lambda: len(done) == 3 and pool.num_threads_alive == 3)
    assert pool.is_initialized
    pool.destroy()
