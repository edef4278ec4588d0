"""The reduced search: one order of each class, on programs whose classes are known."""

from __future__ import annotations

import pytest

from coordemu.explore.dfs import search_all
from coordemu.explore.dpor import exhaust
from coordemu.explore.order import OrderPlan, play
from coordemu.explore.program import ProgramSubject
from coordemu.runtime.sim_schedule import Replay


def counters(rt):
    cell = rt.cell(0, "counter")

    def add():
        cell.value = cell.value + 1

    for n in range(3):
        rt.spawn(add, name=f"adder {n}")


def readers_and_writer(rt):
    cells = [rt.cell(0, f"cell {n}") for n in range(3)]

    def read(cell):
        _ = cell.value

    def write():
        for cell in cells:
            cell.value = 1

    for n in range(3):
        rt.spawn(read, cells[n], name=f"reader {n}")
    rt.spawn(write, name="writer")


def philosophers(count):
    def dine(rt):
        forks = [rt.lock(f"fork {n}") for n in range(count)]

        def eat(n):
            with forks[n], forks[(n + 1) % count]:
                pass

        for n in range(count):
            rt.spawn(eat, n, name=f"philosopher {n}")

    return dine


@pytest.mark.parametrize(
    ("function", "classes", "deadlocks", "blocked"),
    [
        (counters, 36, 0, 0),
        (readers_and_writer, 8, 0, 0),
        (philosophers(3), 7, 1, 0),
        (philosophers(5), 31, 1, 19),
        (philosophers(7), 127, 1, 172),
    ],
)
def test_the_number_of_classes_is_the_known_one(function, classes, deadlocks, blocked):
    seen = set()
    result = exhaust(ProgramSubject(function), on_class=lambda played, found: seen.add(found))
    assert result.complete
    assert result.classes == len(seen) == classes
    assert result.runs == result.classes + result.blocked
    assert result.blocked <= blocked  # as was measured once; more would be wasted
    assert result.verdicts.get("failed", 0) == deadlocks
    assert result.sentence == f"complete: {classes} classes"


def counted(function, **options):
    result = exhaust(ProgramSubject(function), **options)
    assert result.complete
    return result


def in_calm(rt, *targets):
    """Spawn without searching the ways to do it."""
    rt.calm = True
    for n, target in enumerate(targets):
        rt.spawn(target, name=f"task {n}")
    rt.calm = False


def before(found, key, own):
    """What comes before one event in a class."""
    return next(dict(event[3]) for event in found if event[:2] == (key, own))


def test_who_is_let_go_on_comes_after_who_let_it():
    """Spawned; notified without the lock, while another has it; let on by time."""

    def program(rt):
        lock, other = rt.lock("lock"), rt.cell(0, "cell")
        condition = rt.condition(lock, "condition")

        def wait():
            with lock:
                condition.wait()

        def tell():
            rt.sleep_ns(1)
            condition.notify()

        def nap():
            other.value = 1
            rt.sleep_ns(2)

        for target in (wait, tell, nap):
            rt.spawn(target, name=target.__name__)

    seen = []
    exhaust(ProgramSubject(program), on_class=lambda played, found: seen.append(found))
    (found,) = seen
    assert before(found, "wait", 0) == {"main": 2}
    assert before(found, "tell", 0) == {"main": 3}
    assert before(found, "nap", 0) == {"main": 4}
    asleep = {"main": 4, "wait": 3, "tell": 1, "nap": 2}
    assert before(found, "tell", 1) == asleep
    assert before(found, "tell", 2) == {**asleep, "tell": 2}
    # Notified in its own third step, which nothing but the notification allows.
    assert before(found, "wait", 3) == {**asleep, "tell": 3}
    assert before(found, "nap", 2) == {**asleep, "tell": 3, "wait": 4}


def test_a_try_may_come_before_and_after_and_while_a_lock_is_held():
    seen = set()

    def program(rt):
        lock, cell = rt.lock("lock"), rt.cell(0, "cell")

        def hold():
            with lock:
                cell.value = 1

        def attempt():
            taken = lock.acquire(0)
            seen.add((taken, rt.core.current.name))
            if taken:
                lock.release()

        in_calm(rt, hold, attempt)

    # Before the lock is taken, while it is held, and after its release.
    assert counted(program).classes == 3
    assert {taken for taken, _ in seen} == {True, False}


def test_who_waits_for_ever_could_have_been_first():
    def program(rt):
        lock, event = rt.lock("lock"), rt.event("never")

        def keep():
            lock.acquire()
            event.wait()

        def want():
            with lock:
                event.set()

        in_calm(rt, keep, want)

    result = counted(program)
    assert result.verdicts == {"failed": 1, "passed": 1}


def test_who_waits_while_time_passes_could_have_been_first():
    def program(rt):
        lock, order = rt.lock("lock"), []

        def work(n):
            with lock:
                order.append(n)
                rt.sleep_ns(1000)
            assert order != [1, 0], "the second first"

        in_calm(rt, lambda: work(0), lambda: work(1))

    assert counted(program).verdicts == {"failed": 1, "passed": 1}


def test_an_exception_is_found_behind_another():
    """Each ends the run; what the other task had done by then makes the classes."""

    def program(rt):
        cells = [rt.cell(0, f"cell {n}") for n in range(2)]

        def fail(n):
            cells[n].value = 1
            raise ValueError(f"of {n}") if n else KeyError(f"of {n}")

        in_calm(rt, lambda: fail(0), lambda: fail(1))

    result = counted(program)
    assert {found.failure.signature[1] for found in result.found} == {"ValueError", "KeyError"}
    assert result.classes == 4  # one fails before the other's start, or after it


def test_a_wait_that_may_end_by_chance_has_all_its_cases():
    def program(rt):
        lock, told = rt.lock("lock"), []
        condition = rt.condition(lock, "condition")

        def wait():
            with lock:
                condition.wait(1000)
                assert told, "woken for nothing"

        def tell():
            with lock:
                told.append(1)
                condition.notify()

        in_calm(rt, wait, tell)

    calm = counted(program)
    assert calm.verdicts == {"passed": calm.classes}  # told before the wait, or woken
    spurious = exhaust(ProgramSubject(program), OrderPlan(chances=0.1))
    assert spurious.complete
    assert spurious.classes > calm.classes
    assert "AssertionError: woken for nothing" in {found.failure.sentence.split("\n")[0] for found in spurious.found}


def test_on_the_explored_clock_time_may_run_out_while_the_answer_is_on_its_way():
    def program(rt):
        answer = rt.event("answer")

        def wait():
            assert answer.wait(1_000), "too late"

        def tell():
            answer.set()

        in_calm(rt, wait, tell)

    assert counted(program).verdicts == {"passed": 2}
    result = exhaust(ProgramSubject(program), OrderPlan(clock="explored"))
    assert result.complete
    assert [found.failure.kind for found in result.found] == ["error"]


def test_a_found_order_replays():
    result = exhaust(ProgramSubject(philosophers(3)), stop_at_first=True)
    (found,) = result.found
    assert not result.complete
    again = play(ProgramSubject(philosophers(3)), OrderPlan(), Replay(found.schedule))
    assert again.failure == found.failure
    assert again.failure.kind == "deadlocked"


def test_it_can_be_limited_watched_and_stopped():
    subject = ProgramSubject(philosophers(5))
    seen = []
    result = exhaust(subject, limit=8, on_order=seen.append)
    assert (result.runs, result.complete) == (8, False)
    assert len(seen) == result.classes == 8 - result.blocked
    assert exhaust(subject, stop=lambda: True).runs == 0
    assert result.steps >= sum(played.steps for played in seen)


def test_a_poll_without_end_is_cut_and_then_not_complete():
    def program(rt):
        cell = rt.cell(0, "cell")

        def wait():
            while not cell.value:
                pass

        in_calm(rt, wait)

    result = exhaust(ProgramSubject(program), limit=1)
    assert (result.runs, result.cut, result.classes, result.complete) == (1, 1, 0, False)
    assert result.found == ()
    assert search_all(ProgramSubject(program), limit=3).cut == 1


def test_nonsense_is_refused():
    subject = ProgramSubject(counters)
    with pytest.raises(ValueError, match="limit of -1"):
        exhaust(subject, limit=-1)
    turns = []

    def unlike(rt):
        turns.append(1)
        names = ["one", "two"] if len(turns) % 2 else ["one"]
        cell = rt.cell(0, "cell")
        for name in names:
            rt.spawn(lambda: cell.exchange(1), name=name)

    with pytest.raises(RuntimeError, match="not repeatable"):
        exhaust(ProgramSubject(unlike))
