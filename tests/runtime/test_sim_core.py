"""The simulator's scheduler: what a strategy is shown, calm stretches, times that are up, chains of one look."""

from __future__ import annotations

import threading

import pytest

from coordemu.runtime import wait_for
from coordemu.runtime.base import NS_PER_MS, NS_PER_S
from coordemu.runtime.sim import SimRuntime
from coordemu.runtime.sim_schedule import make_strategy


def run(scenario, strategy=None, **options):
    rt = SimRuntime(strategy, **options)
    return rt.run(lambda: scenario(rt), name="test")


# ---- what a strategy is shown


class Checked:
    """A strategy that looks at what it is shown, and passes it on."""

    def __init__(self, inner):
        self.name, self.born, self.gave_way, self.pick = inner.name, inner.born, inner.gave_way, inner.pick
        self._inner = inner
        self.most = 0

    def choose(self, enabled, last):
        numbers = [actor.number for actor in enabled]
        assert numbers == sorted(set(numbers))
        assert all(actor.enabled for actor in enabled)
        self.most = max(self.most, len(numbers))
        return self._inner.choose(enabled, last)


@pytest.mark.parametrize("clock", ["idle", "explored"])
@pytest.mark.parametrize("tasks", [2, 3, 4, 5, 12])
def test_a_strategy_is_shown_each_that_can_go_on_once_and_by_number(tasks, clock):
    """Also where many want one lock, with and without a limit, and all of them are let go or stopped at once."""

    def scenario(rt):
        lock, count = rt.lock("L"), rt.cell(0, "count")

        def work(number):
            for limit_ns in (None, 1000 * number, None):
                if lock.acquire(limit_ns):
                    assert lock.owner is rt.current()
                    count.value += 1
                    rt.sleep_ns(1500)
                    lock.release()

        for task in [rt.spawn(work, number, name=f"t{number}") for number in range(tasks)]:
            task.join()
        assert 2 * tasks <= count.value <= 3 * tasks

    for seed in range(10):
        strategy = Checked(make_strategy("random", seed))
        run(scenario, strategy, clock=clock).check()
        assert strategy.most >= tasks


def test_chains_of_one_look_are_those_of_a_look_each():
    def scenario(rt):
        a, b = rt.lock("A"), rt.lock("B")
        never = rt.event("never", owed_by=lambda: ["nobody"])

        def take(first, second):
            with first:
                rt.sleep_ns(1)
                with second:
                    pass

        rt.spawn(take, a, b, name="one")
        rt.spawn(take, b, a, name="two")
        rt.spawn(never.wait, name="three")
        rt.spawn(a.acquire, name="four")
        rt.sleep_ns(2)
        tasks = rt.tasks()
        chains = wait_for.chains_from(rt, tasks)
        assert chains == [wait_for.chain_from(rt, task) for task in tasks]
        assert [chain.kind for chain in chains] == ["runs", "cycle", "cycle", "orphan", "cycle"]
        assert wait_for.render_chains(rt, tasks, chains) == wait_for.render(rt)

    assert run(scenario).kind == "deadlock"


# ---- calm


def test_a_calm_stretch_is_recorded_nowhere_and_keeps_to_a_task_until_it_cannot_go_on():
    order = []

    def scenario(rt):
        lock, event, cell = rt.lock("L"), rt.event("e"), rt.cell(0, "c")

        def work(name):
            for _ in range(3):
                with lock:
                    cell.value += 1
                order.append(name)
            event.wait()

        rt.calm = True
        tasks = [rt.spawn(work, name, name=name) for name in "abc"]
        rt.sleep_ns(NS_PER_MS)
        assert order == list("aaabbbccc")
        assert rt.statistics()["steps"] == 1  # its own start
        event.set()
        for task in tasks:
            task.join()
        rt.calm = False
        cell.value += 1

    outcome = run(scenario, make_strategy("random", 1), clock="explored").check()
    assert outcome.schedule.steps == (("test", "start"), ("test", "read c"), ("test", "write c"))


def test_a_lock_in_a_calm_stretch_is_given_back_to_who_waits():
    def scenario(rt):
        lock, order = rt.lock("L"), []

        def take(name):
            with lock:
                order.append(name)
                rt.sleep_ns(1)

        rt.calm = True
        tasks = [rt.spawn(take, name, name=name) for name in "ab"]
        rt.sleep_ns(1)
        assert [task.name for task in lock.waiters()] == ["b"]
        rt.calm = False
        for task in tasks:
            task.join()
        assert order == ["a", "b"]
        assert lock.owner is None

    for seed in range(10):
        run(scenario, make_strategy("random", seed)).check()


def test_in_a_calm_stretch_time_passes_only_when_nothing_can_go_on():
    def scenario(rt):
        rt.calm = True
        sleeper = rt.spawn(lambda: rt.sleep_ns(NS_PER_S), name="sleeper")
        rt.sleep_ns(1)
        began_ns = rt.now_ns()
        rt.spawn(lambda: None, name="short").join()
        assert rt.now_ns() == began_ns
        sleeper.join()
        assert rt.now_ns() == began_ns + NS_PER_S - 1

    for clock in ("idle", "explored"):
        run(scenario, make_strategy("random", 1), clock=clock).check()


def test_a_time_that_is_up_is_up_even_if_others_took_the_lock_meanwhile():
    """The limited one may go on from the moment of its limit, whoever has the lock then."""
    results = set()

    def scenario(rt, others):
        lock = rt.lock("L")
        limited = []

        def attempt():
            if lock.acquire(1000):
                lock.release()
                results.add("taken")
            else:
                results.add("gave up")

        def take():
            with lock:
                limited[0].join()

        with lock:
            limited.append(rt.spawn(attempt, name="limited"))
            for number in range(others):
                rt.spawn(take, name=f"other {number}")
            rt.sleep_ns(1000)

    for seed in range(60):
        for others in (1, 5):
            run(lambda rt, others=others: scenario(rt, others), make_strategy("random", seed)).check()
    assert results == {"taken", "gave up"}


# ---- stacks


@pytest.mark.parametrize("strategy", ["run-on", "random"])
def test_many_tasks_that_begin_in_the_middle_of_each_other_do_not_pile_up(strategy):
    """On an OS thread of its own, which has no stacks of earlier runs to lend."""
    seen = []

    def scenario(rt):
        lock = rt.lock("counter")

        def work(depth):
            if depth:
                work(depth - 1)
                return
            with lock:
                seen.append(rt.current().name)
            rt.sleep_ns(NS_PER_MS)

        tasks = [rt.spawn(work, 10, name=f"task {number}") for number in range(600)]
        for task in tasks:
            task.join()

    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(run(scenario, make_strategy(strategy, seed=1))))
    thread.start()
    thread.join()
    outcomes[0].check()
    assert len(set(seen)) == 600
