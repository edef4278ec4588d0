"""What the thread pool's tests share: patience, pools that are ended after the test, jobs that wait for one gate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from coordemu.coord.thpool import Thpool
from coordemu.runtime.base import NS_PER_S, NS_PER_US, Event, Runtime, Task

LONG_NS = 30 * NS_PER_S


def until(rt: Runtime, predicate: Callable[[], bool], seconds: float = 20.0) -> None:
    """Look until it is true; fail when that takes too long."""
    deadline_ns = rt.now_ns() + round(seconds * NS_PER_S)
    while not predicate():
        assert rt.now_ns() < deadline_ns, "it never came true"
        rt.sleep_ns(200 * NS_PER_US)


def waits_for(task: Task, name: str) -> bool:
    """Whether the task waits for what has that name."""
    waitable = task.waiting_on
    return waitable is not None and waitable.name == name


class Watched:
    """A runtime of which a test replaces a part."""

    def __init__(self, rt: Runtime) -> None:
        self.rt = rt

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rt, name)


class Crowd:
    """A pool with jobs that wait for one gate."""

    def __init__(self, rt: Runtime, n: int) -> None:
        self.rt = rt
        self.logs: list[tuple[str, str]] = []
        self.pool = Thpool(rt, n, 0, lambda level, line: self.logs.append((level, line)), "workers")
        self.gate: Event = rt.event("gate", owed_by=lambda: ["the test"])
        self.done: list[int] = []

    def work(self, number: int) -> None:
        assert self.gate.wait(LONG_NS)
        self.done.append(number)

    def busy(self, n: int) -> None:
        """n threads, each in a job at the gate."""
        self.pool.add_n_work([(self.work, number) for number in range(n)])
        until(self.rt, lambda: self.pool.num_jobs_in_progress == n)

    def idle(self) -> None:
        """Initialised, and every thread asleep."""
        self.pool.add_work(lambda _: None, None)
        until(self.rt, lambda: self.asleep() == self.pool.num_threads)

    def asleep(self) -> int:
        return sum(waits_for(task, "workers: jobs") for task in self.pool.tasks())

    def settled(self) -> bool:
        return self.pool.incomplete_jobs == 0 and self.pool.num_threads_alive == self.pool.num_threads

    def aside(self, fn: Callable[..., object], *args: object) -> Task:
        """Call something that may block on a task of its own."""
        return self.rt.spawn(fn, *args, name="aside")

    def end(self) -> None:
        self.gate.set()
        if self.pool.paused:
            self.pool.resume_threads()
        self.pool.destroy()


@pytest.fixture(name="until")
def until_fixture(rt: Runtime) -> Callable[..., None]:
    """until(predicate)."""
    return partial(until, rt)


@pytest.fixture(scope="session")
def until_on() -> Callable[..., None]:
    """until_on(rt, predicate), for tests that make their own runtime."""
    return until


@pytest.fixture(scope="session", name="waits_for")
def waits_for_fixture() -> Callable[[Task, str], bool]:
    """waits_for(task, name)."""
    return waits_for


@pytest.fixture(scope="session")
def new_crowd() -> type[Crowd]:
    """For tests that make their own runtime."""
    return Crowd


@pytest.fixture(scope="session")
def watched() -> type[Watched]:
    """watched(rt): the runtime, to be changed in places."""
    return Watched


@pytest.fixture
def crowd(rt: Runtime) -> Iterator[Callable[[int], Crowd]]:
    """crowd(n): a pool of n threads on the fixture's runtime; ended after the test."""
    crowds: list[Crowd] = []

    def make(n: int) -> Crowd:
        crowds.append(Crowd(rt, n))
        return crowds[-1]

    yield make
    for each in crowds:
        each.end()


@pytest.fixture
def logs() -> list[tuple[str, str]]:
    """What the pools of `make` have logged: (level, line)."""
    return []


@pytest.fixture
def make(rt: Runtime, logs: list[tuple[str, str]]) -> Iterator[Callable[..., Thpool]]:
    """make(n, bias, name, runtime): a pool, destroyed after the test."""
    pools: list[Thpool] = []

    def make_pool(n: int, bias: int = 0, name: str = "workers", runtime: Runtime | None = None) -> Thpool:
        pool = Thpool(runtime or rt, n, bias, lambda level, line: logs.append((level, line)), name)
        pools.append(pool)
        return pool

    yield make_pool
    for pool in pools:
        pool.destroy()


def all_asleep(pool: Thpool) -> bool:
    """Whether every thread of the pool sleeps, and there are as many as are wanted."""
    tasks = pool.tasks()
    return len(tasks) == pool.num_threads and all(waits_for(task, f"{pool.name}: jobs") for task in tasks)


def start_idle(rt: Runtime, pool: Thpool) -> None:
    """Initialise the pool and wait until all of its threads sleep."""
    pool.add_work(lambda _: None, None)
    until(rt, lambda: all_asleep(pool))


@pytest.fixture(scope="session", name="all_asleep")
def all_asleep_fixture() -> Callable[[Thpool], bool]:
    """all_asleep(pool)."""
    return all_asleep


@pytest.fixture(name="start_idle")
def start_idle_fixture(rt: Runtime) -> Callable[[Thpool], None]:
    """start_idle(pool)."""
    return partial(start_idle, rt)
