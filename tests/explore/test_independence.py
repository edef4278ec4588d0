"""What the search takes for the same is the same: other orders of a class, played, are of that class and end alike.

Whatever a step reads or changes without noting it makes the search skip orders that matter; this is how it shows.
"""

from __future__ import annotations

import pytest
from orders import another_order

from coordemu.coord.thpool import Thpool
from coordemu.explore.dpor import exhaust
from coordemu.explore.order import OrderPlan, play
from coordemu.explore.program import ProgramSubject
from coordemu.explore.watcher import Watcher
from coordemu.runtime.runtime_base import Chance
from coordemu.runtime.sim_schedule import make_strategy


class Sampled(Watcher):
    """Notes of an order that another strategy chooses."""

    def __init__(self, name, seed):
        super().__init__()
        self.inner = make_strategy(name, seed, 60)

    def born(self, actor):
        super().born(actor)
        self.inner.born(actor)

    def gave_way(self, actor):
        super().gave_way(actor)
        self.inner.gave_way(actor)

    def decide(self, step, enabled, last):
        return self.inner.choose(enabled, last)


class Given(Watcher):
    """Notes of an order that is given."""

    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def decide(self, step, enabled, last):
        key, label = self.steps[step]
        for actor in enabled:
            if (actor.key, actor.label) == (key, label):
                return actor
        raise self.misfit(step)


def played(subject, watcher):
    found = play(subject, OrderPlan(), watcher, footprints=True, prepare=watcher.attach)
    return found, watcher.fingerprint(found.schedule.steps)


def pool_program(end, jobs=2):
    """Two threads that run, some jobs that take one lock, and the threads are told to go."""

    def program(rt):
        rt.calm = True
        pool = Thpool(rt, 2, 1, lambda level, line: None, "pool")
        module_lock, done = rt.lock("module lock"), []

        def job(number):
            with module_lock:
                done.append(number)

        for number in range(jobs):
            pool.add_work(job, number)
        rt.calm = False
        end(pool, module_lock)

    return program


def everything(rt):
    """Tasks over every kind of primitive; what they do depends on what they see."""
    lock, cell, barrier, tickets = rt.lock("lock"), rt.cell(0, "cell"), rt.barrier(3, "all"), rt.semaphore(1, "tickets")
    condition, event = rt.condition(lock, "condition"), rt.event("event")

    def work(me):
        if tickets.acquire(1_000):
            cell.value = (cell.value, me)
            tickets.release()
        with lock:
            if event.is_set():
                condition.notify()
            else:
                event.set()
                condition.wait(2_000)
        if lock.acquire(0):
            cell.exchange(me)
            lock.release()
        barrier.wait()
        assert rt.poll_until(lambda: cell.value != 0, 1_000, "the cell is written", 9_000)

    rt.calm = True
    tasks = [rt.spawn(work, n, name=f"worker {n}") for n in range(1, 4)]
    rt.calm = False
    for task in tasks:
        task.join()


def terminate(pool, module_lock):
    pool.terminate_when_empty()


def terminate_under_the_lock(pool, module_lock):
    with module_lock:
        pool.terminate_when_empty()


def reduce(pool, module_lock):
    pool.schedule_config_reduce_threads_job(2)


PROGRAMS = {
    "everything": everything,
    "terminate": pool_program(terminate),
    "terminate under the lock": pool_program(terminate_under_the_lock),
    "reduce": pool_program(reduce),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_other_orders_of_a_class_end_alike(name):
    subject = ProgramSubject(PROGRAMS[name], name)
    draw = Chance(1)
    others = set()
    for seed in range(40):
        watcher = Sampled(("random", "pos", "pct3", "pct9")[seed % 4], seed)
        first, found = played(subject, watcher)
        steps = first.schedule.steps
        for _ in range(4):
            given = Given([steps[at] for at in another_order(watcher.past, draw)])
            again, found_again = played(subject, given)
            given.check()
            assert (again.verdict, again.failure, again.outcome.now_ns) == (
                first.verdict,
                first.failure,
                first.outcome.now_ns,
            )
            assert found_again == found
            others.add(again.schedule.steps != steps)
    assert True in others


@pytest.mark.parametrize(
    ("name", "verdicts"),
    [
        ("terminate", {"passed"}),
        ("terminate under the lock", {"passed", "failed"}),
        ("reduce", {"passed"}),
    ],
)
def test_a_small_pool_is_exhausted_and_no_sampled_order_is_of_another_class(name, verdicts):
    subject = ProgramSubject(PROGRAMS[name], name)
    seen = {}
    result = exhaust(subject, on_class=lambda played, found: seen.setdefault(found, played.verdict))
    assert result.complete
    assert result.classes == len(seen) > 20
    assert set(result.verdicts) == verdicts
    for failure in result.found:
        assert failure.failure.kind == "deadlocked"
        assert any("module lock" in line for line in failure.failure.signature)
    for seed in range(200):
        order, found = played(subject, Sampled(("random", "pos", "pct3", "pct9")[seed % 4], seed))
        assert seen[found] == order.verdict
