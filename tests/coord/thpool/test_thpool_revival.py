"""A push to a pool that drains, and the incident in small: both end at a barrier."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from coordemu.coord.thpool import Thpool
from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Runtime, Task
from coordemu.runtime.wait_for import Chain, chain_from

LONG_NS = 30 * NS_PER_S
Until = Callable[..., None]
WaitsFor = Callable[[Task, str], bool]
Make = Callable[[int], Any]


@pytest.mark.parametrize("wanted", [1, 2, 3, 5])
def test_a_push_revives_a_draining_pool_with_the_number_wanted(
    crowd: Make, wanted: int, until: Until, waits_for: WaitsFor
) -> None:
    """3 threads alive: for 1 and 2 some of them leave, for 3 all run on, for 5 two new ones come."""
    crew = crowd(3)
    crew.busy(3)
    before = {task.ident for task in crew.pool.tasks()}
    crew.pool.schedule_config_reduce_threads_job(3, when_empty=True)
    crew.pool.add_threads(wanted)
    assert crew.pool.num_threads_alive == 3
    pusher = crew.aside(crew.pool.add_work, crew.done.append, 10)
    until(lambda: waits_for(pusher, "workers: run again"))
    assert crew.pool.is_initialized
    crew.gate.set()
    assert pusher.join(LONG_NS)
    until(crew.settled)
    assert sorted(crew.done) == [0, 1, 2, 10]
    assert crew.pool.num_threads_alive == wanted
    still_there = before & {task.ident for task in crew.pool.tasks()}
    assert len(still_there) == min(wanted, 3)
    until(lambda: crew.asleep() == wanted)  # all of them RUNNING: they sleep, and do not leave, on an empty queue


@pytest.mark.parametrize("wanted", [1, 2, 4])
def test_a_worker_that_revives_its_own_pool_does_not_wait_for_itself(crowd: Make, wanted: int, until: Until) -> None:
    crew = crowd(2)
    crew.gate.set()
    hold = crew.rt.event("hold")

    def push_from_inside(_: Any) -> None:
        hold.wait(LONG_NS)
        crew.pool.add_work(crew.done.append, 1)
        crew.done.append(0)

    crew.pool.add_n_work([(push_from_inside, None), (lambda _: hold.wait(LONG_NS), None)])
    until(lambda: crew.pool.num_jobs_in_progress == 2)
    crew.pool.schedule_config_reduce_threads_job(2, when_empty=True)
    crew.pool.add_threads(wanted)
    hold.set()
    until(crew.settled)
    assert sorted(crew.done) == [0, 1]
    assert crew.pool.num_threads_alive == wanted
    until(lambda: crew.asleep() == wanted)


def test_threads_decided_on_during_a_revival_start_after_it(crowd: Make, until: Until, waits_for: WaitsFor) -> None:
    """A new thread must not take a "run again" that was counted for a thread that drains."""
    crew = crowd(2)
    crew.gate.set()
    hold = crew.rt.event("hold")
    inside = crew.rt.event("inside")

    def push_from_inside(_: Any) -> None:
        hold.wait(LONG_NS)
        crew.pool.add_work(crew.done.append, 1)
        inside.set()

    last = crew.rt.event("last", owed_by=lambda: ["the test"])
    crew.pool.add_n_work([(push_from_inside, None), (lambda _: last.wait(LONG_NS), None)])
    until(lambda: crew.pool.num_jobs_in_progress == 2)
    crew.pool.schedule_config_reduce_threads_job(2, when_empty=True)
    crew.pool.add_threads(3)
    hold.set()
    assert inside.wait(LONG_NS)  # revived by a worker that went on; the other has not heard yet
    grower = crew.aside(crew.pool.add_threads, 1)
    until(lambda: waits_for(grower, "workers: 1 new threads run"))
    chain = chain_from(crew.rt, grower)
    assert chain.kind == "waits"
    assert "workers: run again" in chain.steps
    assert crew.pool.num_threads_alive == 4
    assert len(crew.pool.tasks()) == 2
    last.set()
    assert grower.join(LONG_NS)
    until(crew.settled)
    until(lambda: crew.asleep() == 4)
    assert crew.done == [1]


def test_threads_told_to_leave_now_are_not_counted_by_a_revival(crowd: Make, until: Until, waits_for: WaitsFor) -> None:
    """Some told to leave now, the rest when empty, then more wanted and a push, all while every thread is busy."""
    crew = crowd(4)
    crew.busy(4)
    crew.pool.schedule_config_reduce_threads_job(2)
    crew.pool.schedule_config_reduce_threads_job(2, when_empty=True)
    crew.pool.add_threads(3)
    pusher = crew.aside(crew.pool.add_work, crew.done.append, 10)
    until(lambda: waits_for(pusher, "workers: run again"))
    crew.gate.set()
    assert pusher.join(LONG_NS)
    until(crew.settled)
    assert sorted(crew.done) == [0, 1, 2, 3, 10]
    assert crew.pool.num_threads_alive == 3


def test_the_last_push_of_a_draining_pool_of_none_is_done_by_who_drains(crowd: Make, until: Until) -> None:
    crew = crowd(1)
    crew.busy(1)
    crew.pool.schedule_config_reduce_threads_job(1, when_empty=True)
    crew.pool.add_work(crew.done.append, 10)
    assert not crew.pool.is_initialized
    crew.gate.set()
    until(lambda: crew.pool.num_threads_alive == 0)
    assert crew.done == [0, 10]


class Incident:
    """Main holds the module lock and resizes, while a worker needs that lock to finish its job."""

    def __init__(self, rt: Runtime, n: int) -> None:
        self.rt = rt
        self.pool = Thpool(rt, n, 0, lambda level, line: None, "workers")
        self.module_lock = rt.lock("module lock")
        self.give_up = rt.event("give up")
        self.returned = rt.event("returned")
        self.jobs_done = rt.cell(0, "jobs done")

    def job(self, _: Any) -> None:
        while not self.module_lock.acquire(timeout_ns=100 * NS_PER_MS):
            if self.give_up.is_set():
                return
        self.jobs_done.value += 1
        self.module_lock.release()

    def needed(self) -> bool:
        return any(getattr(task.waiting_on, "name", "") == "module lock" for task in self.pool.tasks())

    def main(self, resize: Callable[[Thpool], object]) -> None:
        with self.module_lock:
            self.pool.add_work(self.job, None)
            self.rt.poll_until(self.needed, NS_PER_MS, "a worker that needs the module lock", LONG_NS)
            resize(self.pool)
            self.returned.set()

    def run(self, resize: Callable[[Thpool], object]) -> Task:
        return self.rt.spawn(self.main, resize, name="main")


def terminate_then_remove(pool: Thpool) -> None:
    pool.terminate_when_empty()
    pool.remove_threads(2)


def to_nothing_and_back(pool: Thpool) -> None:
    pool.schedule_config_reduce_threads_job(2, when_empty=True)
    pool.add_threads(2)
    pool.add_work(lambda _: None, None)


@pytest.mark.parametrize(
    ("resize", "barrier"),
    [
        (terminate_then_remove, "workers: terminate when empty"),
        (lambda pool: pool.remove_threads(2), "workers: remove 2 threads"),
        (to_nothing_and_back, "workers: run again"),
    ],
    ids=["to-0-before-7410", "fewer-before-7410", "to-0-and-back-after-7410"],
)
def test_main_with_the_module_lock_waits_for_a_worker_that_waits_for_it(
    rt: Runtime, resize: Callable[[Thpool], object], barrier: str, until: Until, waits_for: WaitsFor
) -> None:
    """The third case: shrinking no longer waits, but a revival still does, at a barrier and with the lock held."""
    incident = Incident(rt, 2)
    main = incident.run(resize)
    looks: list[Chain] = []

    def in_a_cycle() -> bool:
        looks.append(chain_from(rt, main))
        return looks[-1].kind == "cycle"

    until(in_a_cycle)
    assert waits_for(main, barrier)
    chain = looks[-1]
    assert chain.steps[0] == chain.steps[-1] == "main"
    assert barrier in chain.steps
    assert "module lock" in chain.steps
    assert not incident.returned.is_set()
    incident.give_up.set()
    assert main.join(LONG_NS)
    assert incident.returned.is_set()
    assert incident.jobs_done.value == 0
    incident.pool.destroy()


@pytest.mark.parametrize(("number", "kind"), [(1, "waits"), (2, "waits"), (3, "cycle")])
def test_a_barrier_that_others_can_fill_is_no_cycle(rt: Runtime, until: Until, number: int, kind: str) -> None:
    """One of three needs the module lock; the two others are busy with something else, and are enough for two."""
    incident = Incident(rt, 3)
    gate = rt.event("gate", owed_by=lambda: ["the test"])

    def resize(pool: Thpool) -> None:
        pool.add_n_work([(lambda _: gate.wait(LONG_NS), None)] * 2)
        rt.poll_until(lambda: pool.num_jobs_in_progress == 3, NS_PER_MS, "three busy threads", LONG_NS)
        pool.remove_threads(number)

    main = incident.run(resize)
    looks: list[Chain] = []

    def as_expected() -> bool:
        look = chain_from(rt, main)
        if look.steps[1:2] != (f"workers: remove {number} threads",):
            return False
        looks.append(look)
        return (look.kind, look.steps[-1]) == (kind, "main" if kind == "cycle" else "the test")

    until(as_expected)
    assert {look.kind for look in looks} <= {kind, "waits"}
    incident.give_up.set()
    gate.set()
    assert main.join(LONG_NS)
    assert incident.pool.num_threads_alive == 3 - number
    incident.pool.destroy()


def test_two_barriers_that_lead_to_each_other_can_be_looked_at(rt: Runtime, until: Until, crowd: Make) -> None:
    """One worker needs the first caller, one the second, one neither: a look at either barrier must end."""
    pool = crowd(3).pool
    removers: list[Task] = []
    gates = [
        rt.event("needs remover-0", owed_by=lambda: removers[:1]),
        rt.event("needs remover-1", owed_by=lambda: removers[1:]),
        rt.event("free", owed_by=lambda: ["the test"]),
    ]
    pool.add_n_work([(lambda gate: gate.wait(LONG_NS), gate) for gate in gates])
    until(lambda: pool.num_jobs_in_progress == 3)
    removers += [rt.spawn(pool.remove_threads, 1, name=f"remover-{number}") for number in range(2)]
    until(lambda: all(getattr(task.waiting_on, "name", "") == "workers: remove 1 threads" for task in removers))
    for task in removers:
        assert chain_from(rt, task).steps[1::2] == ("workers: remove 1 threads", "free")
        assert chain_from(rt, task).steps[-1] == "the test"
    for gate in gates:
        gate.set()
    assert all(task.join(LONG_NS) for task in removers)
    assert pool.num_threads_alive == 1


@pytest.mark.parametrize("when_empty", [True, False])
def test_the_scheduled_form_returns_at_once_in_the_same_situation(rt: Runtime, when_empty: bool, until: Until) -> None:
    incident = Incident(rt, 2)

    def resize(pool: Thpool) -> None:
        pool.schedule_config_reduce_threads_job(2, when_empty=when_empty)
        assert incident.jobs_done.value == 0  # the worker still waits for the lock
        assert pool.num_threads_alive == 2

    main = incident.run(resize)
    assert main.join(LONG_NS)
    assert main.error is None
    until(lambda: incident.pool.num_threads_alive == 0)
    assert incident.jobs_done.value == 1
    incident.pool.destroy()
