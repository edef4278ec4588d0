"""The reduced search against the plain one: on generated programs both see the same classes and the same outcomes.

A program is made of its seed: two or three tasks of one to four operations each, over everything that a runtime has.
Its outcome is all that a task could see: what each has read, how each wait ended, the final values, the virtual time.
"""

from __future__ import annotations

import pytest

from coordemu.explore.dfs import search_all
from coordemu.explore.dpor import exhaust
from coordemu.explore.order import PASSED, Finding, OrderPlan
from coordemu.explore.program import ProgramSubject
from coordemu.explore.signature import failure_of
from coordemu.runtime.runtime_base import Chance

US = 1_000
ORDERS = 1_000  # of a program at most, or it is not compared
COMPARED = 60  # programs at least
# Programs in which something happens by chance.
WITH_PICKS = (34, 170, 175, 194, 231, 244, 251, 290, 303, 349, 381)
# Programs with few orders and yet more classes than one or two; and a few that showed faults of the search once.
# fmt: off
SEEDS = (
    4, 14, 19, 21, 23, 24, 29, 31, 32, 34, 35, 38, 48, 61, 62, 63, 67, 71, 75, 77, 78, 85, 87, 88, 104, 106, 107,
    113, 116, 118, 122, 135, 137, 144, 151, 160, 162, 175, 176, 181, 186, 190, 205, 213, 226, 231, 236, 246, 251,
    258, 268, 270, 271, 277, 290, 298, 303, 306, 311, 318, 323, 342, 346, 348, 349, 351, 355, 361, 364, 366, 367,
    369, 371, 376, 382, 385, 394, 518, 1130, 1457, 2420,
)
# fmt: on


class Things:
    """What the tasks of a program share."""

    def __init__(self, rt):
        self.rt = rt
        self.cells = [rt.cell(0, f"cell {n}") for n in range(2)]
        self.locks = [rt.lock(f"lock {n}") for n in range(2)]
        self.events = [rt.event(f"event {n}") for n in range(2)]
        self.conditions = [rt.condition(self.locks[0], "condition")]
        self.tickets = rt.semaphore(1, "tickets")
        self.barrier = rt.barrier(2, "barrier")
        self.seen = {}
        self.plain = [0, 0]  # guarded by the locks


# Each: (how often it is drawn, name, what is drawn for it)
OPERATIONS = (
    (5, "read"),
    (4, "write"),
    (2, "add"),
    (1, "exchange"),
    (2, "compare"),
    (6, "with"),
    (2, "try"),
    (1, "with limit"),
    (1, "locked"),
    (2, "set"),
    (1, "clear"),
    (1, "test"),
    (2, "await"),
    (1, "await limited"),
    (2, "take"),
    (1, "take limited"),
    (2, "give"),
    (1, "wait"),
    (1, "wait limited"),
    (2, "notify"),
    (1, "notify all"),
    (1, "meet"),
    (1, "spawn"),
    (1, "sleep"),
    (1, "give way"),
    (1, "poll"),
    (1, "fail"),
)
DRAWN = [name for weight, name in OPERATIONS for _ in range(weight)]
NESTING = {"with", "try", "with limit", "spawn"}


def operations(draw, palette, room, depth=0):
    """A list of operations, with `room` of them in all: (name, number, operations inside)."""
    made = []
    while room > 0:
        name = draw.choice(palette)
        inside = []
        room -= 1
        if name in NESTING:
            if depth == 2:
                continue
            inside = operations(draw, palette, min(room, draw.randint(0, 3)), depth + 1)
            room -= len(inside)
        made.append((name, int(draw.random() < 0.3), inside))
    return made


def program(seed):
    draw = Chance(seed)
    calm = draw.random() < 0.8  # the way to the first order that matters
    palette = [draw.choice(DRAWN) for _ in range(4)]  # few, or the tasks never meet
    tasks = [operations(draw, palette, draw.randint(2, 4)) for _ in range(draw.choice((2, 2, 3)))]

    def main(rt, things):
        rt.calm = calm
        for number, listed in enumerate(tasks):
            rt.spawn(run, things, f"t{number}", listed, name=f"t{number}")
        rt.calm = False

    return main, tasks


def run(things, who, listed):
    seen = things.seen.setdefault(who, [])
    for place, (name, number, inside) in enumerate(listed):
        perform(things, f"{who}.{place}", seen, name, number, inside)


def perform(things, who, seen, name, number, inside):
    rt, cell, lock, event = things.rt, things.cells[number], things.locks[number], things.events[number]
    condition = things.conditions[0]

    def within(taken):
        seen.append(taken)
        if taken:
            things.plain[number] += 1
            seen.append(things.plain[number])
            try:
                for place, each in enumerate(inside):
                    perform(things, f"{who}.{place}", seen, *each)
            finally:
                lock.release()

    def held(action):
        if condition.lock.owner is rt.current():
            action()
        else:
            with condition.lock:
                action()

    match name:
        case "read":
            seen.append(cell.value)
        case "write":
            cell.value = who
        case "add":
            cell.value = (cell.value, who)
        case "exchange":
            seen.append(cell.exchange(who))
        case "compare":
            seen.append(cell.compare_exchange(0, who))
        case "with":
            within(lock.acquire())
        case "try":
            within(lock.acquire(0))
        case "with limit":
            within(lock.acquire(3 * US))
        case "locked":
            rt.sleep_ns(0)
            seen.append(lock.locked())
        case "set":
            event.set()
        case "clear":
            event.clear()
        case "test":
            seen.append(event.is_set())
        case "await":
            seen.append(event.wait())
        case "await limited":
            seen.append(event.wait(2 * US))
        case "take":
            seen.append(things.tickets.acquire())
        case "take limited":
            seen.append(things.tickets.acquire(2 * US))
        case "give":
            things.tickets.release()
        case "wait":
            held(lambda: seen.append(condition.wait()))
        case "wait limited":
            held(lambda: seen.append(condition.wait(2 * US)))
        case "notify":
            condition.notify() if number else held(condition.notify)
        case "notify all":
            condition.notify_all() if number else held(condition.notify_all)
        case "meet":
            try:
                seen.append(things.barrier.wait())
            except RuntimeError:
                seen.append("late")
        case "spawn":
            child = rt.spawn(run, things, f"{who}'", inside, name=f"{who}'")
            if number:
                seen.append(child.join(2 * US if inside else None))
        case "sleep":
            rt.sleep_ns((1 + number) * US)
        case "give way":
            rt.sleep_ns(0)
        case "poll":
            seen.append(rt.poll_until(lambda: cell.value != 0, US, "the cell is written", 3 * US))
        case "fail":
            assert cell.value != (who if number else 0), "as planted"


class Program(ProgramSubject):
    """A generated program, whose facts are its outcome."""

    def play(self, sim):
        things = Things(sim)
        outcome = sim.run(lambda: self.function(sim, things))
        failure = failure_of(outcome)
        values = [str(each) for each in things.cells]
        told = sorted(things.seen.items())
        facts = {"outcome": repr((outcome.kind, failure and failure.signature, outcome.now_ns, told, values))}
        return Finding("failed" if failure else PASSED, failure, outcome, facts)


def classes_of(search, subject, **options):
    """class -> outcome, and the result. A class has one outcome."""
    seen = {}

    def on_class(played, found):
        outcome = played.facts["outcome"]
        assert seen.setdefault(found, outcome) == outcome, "two orders of one class end differently"

    result = search(subject, on_class=on_class, **options)
    return seen, result


def comparable(plan, seeds):
    """(subject, class -> outcome, result) of each program that is small enough, by the plain search."""
    for seed in seeds:
        main, tasks = program(seed)
        subject = Program(main, f"program {seed}: {tasks}")
        full, result = classes_of(search_all, subject, plan=plan, limit=ORDERS)
        if result.complete and len(full) > 2:
            yield subject, full, result


@pytest.mark.parametrize(
    ("plan", "seeds", "least"),
    [
        (OrderPlan(), SEEDS, COMPARED),
        (OrderPlan(clock="explored"), SEEDS[::2], 20),
        (OrderPlan(chances=0.1), WITH_PICKS, 10),
    ],
    ids=["idle clock", "explored clock", "chances"],
)
def test_both_searches_see_the_same_classes_and_outcomes_of_generated_programs(plan, seeds, least):
    compared = 0
    orders = classes = blocked = outcomes = 0
    kinds = set()
    for subject, full, plain in comparable(plan, seeds):
        reduced, result = classes_of(exhaust, subject, plan=plan)
        assert result.complete, subject.name
        assert set(reduced) == set(full), subject.name
        assert result.classes == len(full), f"a class came twice in {subject.name}"
        assert set(reduced.values()) == set(full.values()), subject.name
        assert {each.failure.signature for each in result.found} == {each.failure.signature for each in plain.found}
        compared += 1
        orders, classes, blocked = orders + plain.runs, classes + len(full), blocked + result.blocked
        kinds |= {each.failure.kind for each in plain.found}
        outcomes += len(set(full.values()))
    # The comparison is worth something: many orders, many classes, deadlocks, exceptions, few runs in vain.
    assert compared >= least
    assert orders > 50 * compared
    assert classes > 5 * compared
    assert outcomes > 2 * compared
    assert "deadlocked" in kinds
    assert blocked < classes / 10
    if len(seeds) == len(SEEDS):
        assert kinds == {"deadlocked", "error"}
        assert blocked  # repetitions that had to be given up are among them
