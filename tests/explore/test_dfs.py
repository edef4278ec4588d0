"""Plain depth-first search: every order once, few preemptions first."""

from __future__ import annotations

from itertools import pairwise
from math import factorial

import pytest

from coordemu.explore.dfs import search_all
from coordemu.explore.order import OrderPlan, play
from coordemu.explore.program import ProgramSubject
from coordemu.runtime.sim_schedule import Replay


def writers(count, times):
    """So many tasks write their own cells so often: nothing between them matters."""

    def program(rt):
        cells = [rt.cell(0, f"cell {n}") for n in range(count)]

        def write(cell):
            for value in range(times):
                cell.value = value

        rt.calm = True
        for n in range(count):
            rt.spawn(write, cells[n], name=f"writer {n}")
        rt.calm = False

    return ProgramSubject(program, f"{count} writers")


def interleavings(*lengths):
    """Of sequences so long."""
    product = factorial(sum(lengths))
    for length in lengths:
        product //= factorial(length)
    return product


@pytest.mark.parametrize(("count", "times"), [(2, 2), (2, 3), (3, 1), (3, 2)])
def test_every_order_comes_once(count, times):
    orders = []
    result = search_all(writers(count, times), on_order=lambda played: orders.append(played.schedule.steps))
    # Each task has its start and its writes; main has its start.
    assert len(orders) == len(set(orders)) == result.runs == result.classes
    assert result.runs == interleavings(*[times + 1] * count)
    assert result.complete
    assert result.sentence == f"complete: {result.runs} classes"


def preemptions(steps, lengths):
    """Of an order of tasks that never wait."""
    left = dict(lengths)
    count = 0
    for (before, _), (after, _) in pairwise(steps):
        left[before] -= 1
        count += before != after and left[before] > 0
    return count


def test_orders_with_few_preemptions_come_first():
    subject = writers(3, 2)
    lengths = {"main": 1, **{f"writer {n}": 3 for n in range(3)}}
    every = []
    search_all(subject, on_order=lambda played: every.append(preemptions(played.schedule.steps, lengths)))
    levels = []
    for bound in range(4):
        seen = []
        result = search_all(
            subject, preemptions=bound, on_order=lambda played, seen=seen: seen.append(played.schedule.steps)
        )
        counts = [preemptions(steps, lengths) for steps in seen]
        assert counts == sorted(counts)
        assert len(set(seen)) == len(seen) == result.classes
        assert result.complete
        levels.append(len(seen))
    assert levels == [sum(count <= bound for count in every) for bound in range(4)]
    assert levels[0] == 6
    assert search_all(subject, preemptions=1000).classes == len(every)


def test_it_can_be_limited_and_stopped():
    subject = writers(3, 2)
    result = search_all(subject, limit=10)
    assert (result.runs, result.complete) == (10, False)
    assert result.sentence == "not complete: 10 classes seen in 10 runs"
    seen = []
    assert search_all(subject, on_order=seen.append, stop=lambda: len(seen) == 5).runs == 5
    with pytest.raises(ValueError, match="-1 preemptions"):
        search_all(subject, preemptions=-1)
    with pytest.raises(ValueError, match="limit of -1"):
        search_all(subject, limit=-1)


def race(rt):
    cell = rt.cell(0, "cell")

    def add():
        cell.value += 1

    tasks = [rt.spawn(add, name=f"adder {n}") for n in range(2)]
    for task in tasks:
        task.join()
    assert cell.value == 2, "an update was lost"


def test_a_race_needs_one_preemption_and_its_order_replays():
    subject = ProgramSubject(race, "race")
    assert search_all(subject, preemptions=0).found == ()
    result = search_all(subject, preemptions=1, stop_at_first=True)
    (found,) = result.found
    assert found.number == result.classes - 1
    assert not result.complete
    again = play(subject, OrderPlan(), Replay(found.schedule))
    assert again.failure == found.failure


def late(rt):
    """The answer is on its way when the time runs out."""
    event = rt.event("answer")

    def answer():
        event.set()

    task = rt.spawn(answer, name="answerer")
    assert event.wait(1_000), "no answer in time"
    task.join()


def test_the_explored_clock_is_an_actor_like_others():
    subject = ProgramSubject(late, "late")
    assert search_all(subject).found == ()
    found = search_all(subject, OrderPlan(clock="explored"), preemptions=1).found
    assert [each.failure.kind for each in found] == ["error"]


def test_picks_have_all_their_values_tried():
    def woken(rt):
        lock = rt.lock("lock")
        condition = rt.condition(lock, "condition")
        woken = []

        def wait(n):
            with lock:
                condition.wait()
                woken.append(n)
                condition.notify()

        rt.calm = True
        for n in range(2):
            rt.spawn(wait, n, name=f"waiter {n}")
        rt.sleep_ns(1)
        rt.calm = False
        with lock:
            condition.notify()
        rt.sleep_ns(1)
        assert woken != [1, 0], "the second first"

    subject = ProgramSubject(woken, "woken")
    assert {found.failure.sentence for found in search_all(subject, limit=2000).found} == set()
    found = search_all(subject, OrderPlan(chances=0.1), limit=5000).found
    assert "AssertionError: the second first" in {each.failure.sentence.split("\n")[0] for each in found}


def test_a_program_that_is_not_repeatable_is_no_result():
    turns = []

    def unlike(rt):
        turns.append(1)
        cell = rt.cell(0, "cell")
        for n in range(2 if len(turns) % 2 else 1):
            rt.spawn(lambda: cell.value, name=f"reader {n}")

    with pytest.raises(RuntimeError, match="not repeatable"):
        search_all(ProgramSubject(unlike, "unlike"))
