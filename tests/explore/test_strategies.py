"""The strategies that sample: what each is good at, their fairness, the explored clock among priorities."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from coordemu.explore.order import OrderPlan, play
from coordemu.explore.program import ProgramSubject
from coordemu.runtime.sim import SimRuntime
from coordemu.runtime.sim_pct import Pct
from coordemu.runtime.sim_pos import Pos
from coordemu.runtime.sim_schedule import make_strategy
from coordemu.runtime.sim_strategy import FairTail, RunOn, step_limit, unfair_steps
from coordemu.runtime.sim_task import Actor


def orders_of(function, make, count=400, **options):
    """How often each outcome came up. The function returns it."""
    seen = Counter()
    for seed in range(count):
        sim = SimRuntime(make(seed), **options)
        kept = []
        sim.run(lambda sim=sim, kept=kept: kept.append(function(sim))).check()
        seen[kept[0]] += 1
    return seen


def pending(label, number, priority):
    actor = Actor(f"task {number}", None)
    actor.number, actor.label, actor.priority, actor.enabled = number, label, priority, True
    return actor


def test_pos_draws_anew_for_what_is_after_the_same_object():
    strategy = Pos(1)
    first, rival, other, idle = (
        pending("acquire the lock", 0, 0.9),
        pending("try the lock", 1, 0.1),
        pending("acquire another", 2, 0.2),
        pending("start", 3, 0.3),
    )
    assert strategy.choose([first, rival, other, idle], first) is first
    assert first.priority != 0.9  # its next operation is another
    assert rival.priority != 0.1
    assert (other.priority, idle.priority) == (0.2, 0.3)
    first.priority, rival.priority, idle.label = 0.0, 0.1, "look"
    first.label, idle.priority = "start", 0.9
    assert strategy.choose([first, rival, other, idle], first) is idle
    assert (first.priority, rival.priority, other.priority) == (0.0, 0.1, 0.2)  # nothing is after no object
    strategy.gave_way(first)
    assert first.priority < 0


def deep(rt):
    """Fails only when two tasks take turns, each time."""
    cell, turns = rt.cell(0, "cell"), []

    def work(me):
        for _ in range(3):
            if cell.value != me:
                cell.value = me
                turns.append(me)

    for task in [rt.spawn(work, n, name=f"worker {n}") for n in (1, 2)]:
        task.join()
    return len(turns)


def test_pos_finds_what_needs_many_decisions():
    assert orders_of(deep, Pos, 2_000)[6] > 3
    assert orders_of(deep, lambda seed: Pct(seed, 2, 20), 2_000)[6] == 0
    assert orders_of(deep, lambda seed: RunOn(), 1)[6] == 0


@pytest.mark.parametrize("name", ["pct3", "pos", "random"])
def test_a_time_limit_fires_early_on_the_explored_clock_and_the_answer_comes_in_time_too(name):
    def race(rt):
        answer, noise = rt.event("answer"), rt.cell(0, "noise")

        def tick():  # time limits before the one that matters
            for _ in range(3):
                rt.sleep_ns(100)

        def work():
            for _ in range(10):
                noise.value = 1
            answer.set()

        tasks = [rt.spawn(tick, name="ticker"), rt.spawn(work, name="worker")]
        in_time = answer.wait(1_000)
        for task in tasks:
            task.join()
        return in_time

    seen = orders_of(race, lambda seed: make_strategy(name, seed, 40), clock="explored")
    assert min(seen[True], seen[False]) > 5
    assert set(orders_of(race, lambda seed: make_strategy(name, seed, 40), 50)) == {True}


@pytest.mark.parametrize("name", ["pct2", "pos", "run-on"])
def test_who_gives_way_does_not_keep_others_from_their_steps(name):
    def polite(rt):
        cell, turns = rt.cell(0, "cell"), []

        def wait():
            while not cell.value:
                turns.append(1)
                rt.sleep_ns(0)

        def write():
            for value in range(5):
                cell.value = value

        for task in [rt.spawn(wait, name="waiter"), rt.spawn(write, name="writer")]:
            task.join()
        return len(turns)

    assert max(orders_of(polite, lambda seed: make_strategy(name, seed, 40), 50)) < 20


def test_a_fair_tail_takes_over_after_so_many_steps():
    class First:
        name = "first"

        def __init__(self):
            self.asked = 0

        def born(self, actor):
            pass

        def gave_way(self, actor):
            pass

        def choose(self, enabled, last):
            self.asked += 1
            return enabled[0]

        def pick(self, count, label, share):
            return 0

    def busy(rt):
        cell = rt.cell(0, "cell")

        def work():
            for value in range(50):
                cell.value = value

        for task in [rt.spawn(work, name=f"worker {n}") for n in range(2)]:
            task.join()

    inner = First()
    strategy = FairTail(inner, 1, 30)
    sim = SimRuntime(strategy)
    outcome = sim.run(lambda: busy(sim)).check()
    assert strategy.name == "first"
    assert inner.asked == 30
    begin = [key for key, _ in outcome.schedule.steps[:30]]
    rest = [key for key, _ in outcome.schedule.steps[30:90]]
    assert sum(a != b for a, b in pairwise(begin)) < 6
    assert sum(a != b for a, b in pairwise(rest)) > 15
    with pytest.raises(ValueError, match="after -1 steps"):
        FairTail(inner, 1, -1)


def test_the_bounds_of_a_run_grow_with_its_length():
    assert unfair_steps(10) == 10_000
    assert unfair_steps(1_000) == 20_000
    assert step_limit(1_000) == 200_000


def test_an_unknown_name_is_told_with_the_nearest():
    with pytest.raises(ValueError, match=r"no strategy is called 'pop'; .* did you mean 'pos'"):
        make_strategy("pop")
    assert play(ProgramSubject(deep), OrderPlan("pos", 3)).schedule.strategy == "pos 3"
