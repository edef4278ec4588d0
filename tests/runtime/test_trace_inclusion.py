"""Every order of operations that real threads produce is one that the simulator can produce, with the same outcome."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from recording import Entry, Follow, RecordedLock, RecordingRuntime
from small_programs import PROGRAMS

from coordemu.runtime.base import NS_PER_S
from coordemu.runtime.sim import SimRuntime
from coordemu.runtime.sim_outcome import SimOutcome

RUNS = 12
MOST_RUNS = 400


def record(program: Any, seed: int) -> tuple[Any, list[Entry]]:
    """A real run: its final state, and its order."""
    rt = RecordingRuntime(seed)
    state = rt.run(lambda: program(rt), 20 * NS_PER_S)
    return state, rt.recorder.entries


def follow(program: Any, entries: Sequence[Entry]) -> tuple[SimOutcome, list[Any]]:
    """The same program in the simulator, in that order: how it ended, and its final state."""
    strategy = Follow(entries)
    rt = SimRuntime(strategy, clock="explored")
    states: list[Any] = []
    outcome = rt.run(lambda: states.append(program(rt)))
    if outcome.ok:
        assert all(left_out for _, _, left_out in entries[strategy.at :]), "the record goes on"
    return outcome, states


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_simulator_accepts_what_real_threads_did(name: str) -> None:
    program = PROGRAMS[name]
    orders: set[tuple[Entry, ...]] = set()
    seed = 0
    while seed < RUNS or (len(orders) < 2 and seed < MOST_RUNS):
        state, entries = record(program, seed)
        outcome, states = follow(program, entries)
        assert outcome.kind == "done", f"seed {seed}: {outcome.error}"
        assert states == [state]
        orders.add(tuple(entries))
        seed += 1
    assert len(orders) > 1  # otherwise nothing was compared but one order


def refused(program: Any, entries: Sequence[Entry]) -> str:
    outcome, _ = follow(program, entries)
    assert outcome.kind == "diverged"
    return str(outcome.error)


def enter_one_by_one(rt: Any) -> None:
    lock, cell = rt.lock("lock"), rt.cell(0, "cell")

    def enter() -> None:
        with lock:
            cell.value = 1

    for task in [rt.spawn(enter, name=name) for name in "ab"]:
        task.join()


def test_two_owners_of_a_lock_are_refused() -> None:
    steps = "main start,main spawn a,main spawn b,a start,b start,a acquire lock,{},main join a,main join b"
    in_turn, both = "a write cell,b acquire lock,b write cell", "b acquire lock,a write cell,b write cell"
    order, wrong = (
        [(*step.split(" ", 1), False) for step in steps.format(middle).split(",")] for middle in (in_turn, both)
    )
    assert follow(enter_one_by_one, order)[0].kind == "done"
    assert "b: 'acquire lock' is impossible" in refused(enter_one_by_one, wrong)


@pytest.mark.parametrize(
    ("name", "early", "late"), [("relay", "wait leg 0", "set leg 0"), ("two_meetings", "pass first", "arrive first")]
)
def test_a_wait_that_ends_before_its_cause_is_refused(name: str, early: str, late: str) -> None:
    _, entries = record(PROGRAMS[name], 3)
    key = next(key for key, label, _ in entries if label == early)
    ends = entries.index((key, early, False))
    cause = max(at for at, (_, label, _) in enumerate(entries[:ends]) if label == late)
    # The waiter's own steps up to its end come right before the cause.
    own = [entry for entry in entries[cause:ends] if entry[0] == key]
    others = [entry for entry in entries[cause:ends] if entry[0] != key]
    wrong = [*entries[:cause], *own, entries[ends], *others, *entries[ends + 1 :]]
    assert f"{key}: {early!r} is impossible" in refused(PROGRAMS[name], wrong)


def test_a_unit_that_nobody_gave_back_is_refused() -> None:
    _, entries = record(PROGRAMS["tickets"], 3)
    wrong = [entry for entry in entries if entry[1] != "give units"]
    # The visitor's own, or the first step that it takes with a unit that it cannot have.
    assert " is impossible" in refused(PROGRAMS["tickets"], wrong)


class BrokenLock(RecordedLock):
    def acquire(self, timeout_ns: int | None = None) -> bool:
        with self.recorder.step(f"acquire {self.real.name}"):
            return True

    def __exit__(self, *exc: object) -> None:
        """Nothing to give back."""


def test_a_lock_that_does_not_exclude_is_found_out() -> None:
    """The whole way: real threads, on a lock that is broken, do what the simulator says cannot be."""

    def program(rt: Any) -> None:
        lock, inside = rt.lock("lock"), rt.barrier(2, "both inside")

        def enter() -> None:
            with lock:
                inside.wait()

        for task in [rt.spawn(enter, name=name) for name in "ab"]:
            task.join()

    rt = RecordingRuntime(1)
    rt.make_lock = BrokenLock
    rt.run(lambda: program(rt), 20 * NS_PER_S)
    outcome, _ = follow(program, rt.recorder.entries)
    # Where the first has arrived at the barrier before the second took the lock, there the simulator has nobody left.
    impossible = outcome.kind == "diverged" and "'acquire lock' is impossible" in str(outcome.error)
    assert impossible or outcome.kind == "deadlock"
