"""Replays: the same run again, a divergence at the first step that differs, and the state at a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from orders import two_locks

from coordemu.explore.lanes import Timed
from coordemu.explore.order import OrderPlan, Played, play
from coordemu.explore.program import ProgramSubject
from coordemu.explore.replay import STOPPED, difference, replay
from coordemu.explore.schedule_file import ScheduleFile
from coordemu.runtime.sim import SimRuntime
from coordemu.runtime.sim_schedule import Replay, SimDivergence


def woken_for_nothing(rt: SimRuntime) -> None:
    """Waits without a loop: wrong only when the wake-up is spurious."""
    lock = rt.lock("m")
    full = rt.condition(lock, "full", lambda: ("producer",))
    box = rt.cell(0, "box")

    def consume() -> None:
        with lock:
            if not box.value:
                full.wait()
            assert box.value, "woken for nothing"

    def produce() -> None:
        with lock:
            box.value = 1
            full.notify()

    tasks = [rt.spawn(consume, name="consumer"), rt.spawn(produce, name="producer")]
    for task in tasks:
        task.join()


def shorter(rt: SimRuntime) -> None:
    task = rt.spawn(lambda: None, name="one")
    task.join()


def never(rt: SimRuntime) -> None:
    while True:
        rt.sleep_ns(1)


def first_failure(program: Callable[[SimRuntime], None], plan: OrderPlan) -> tuple[ProgramSubject, ScheduleFile]:
    subject = ProgramSubject(program)
    for seed in range(2000):
        played = play(subject, replace(plan, seed=seed), max_steps=400)
        if played.failure is not None:
            return subject, file_of(subject, played)
    raise AssertionError("no order fails")


def file_of(subject: ProgramSubject, played: Played) -> ScheduleFile:
    return ScheduleFile(subject.describe(), played.plan, played.verdict, played.failure, played.schedule)


@pytest.fixture
def deadlock() -> tuple[ProgramSubject, ScheduleFile]:
    return first_failure(two_locks, OrderPlan("random"))


def error_of(played: Played) -> SimDivergence:
    assert played.verdict == played.outcome.kind == "diverged"
    assert played.failure is None
    assert isinstance(played.outcome.error, SimDivergence)
    return played.outcome.error


def test_it_is_the_same_run_every_time(deadlock: tuple[ProgramSubject, ScheduleFile]) -> None:
    subject, file = deadlock
    file = ScheduleFile.parse(file.text())
    for _ in range(50):
        played = replay(subject, file)
        assert (played.verdict, played.failure) == (file.verdict, file.failure)
        assert played.schedule.steps == file.schedule.steps
        assert difference(file, played) == ""


def test_picks_are_replayed_too() -> None:
    subject, file = first_failure(woken_for_nothing, OrderPlan("random", chances=0.2))
    assert any(key == "pick" for key, _ in file.schedule.steps)
    assert difference(file, replay(subject, ScheduleFile.parse(file.text()))) == ""


def test_a_run_that_did_not_end_is_stopped_where_it_was() -> None:
    subject, file = first_failure(never, OrderPlan())
    assert file.failure is not None
    assert file.failure.kind == "livelock"
    assert difference(file, replay(subject, file)) == ""


def test_a_label_that_differs_is_named(deadlock: tuple[ProgramSubject, ScheduleFile]) -> None:
    subject, file = deadlock
    steps = list(file.schedule.steps)
    at = next(number for number, (_, label) in enumerate(steps) if label == "acquire B")
    steps[at] = (steps[at][0], "acquire C")
    played = replay(subject, replace(file, schedule=replace(file.schedule, steps=tuple(steps))))
    error = error_of(played)
    assert error.step == at + 1
    assert "'acquire C'" in str(error)
    assert "'acquire B'" in str(error)
    assert difference(file, played) == f"the schedule does not fit: {error}"


def test_a_schedule_that_ends_first_is_a_divergence(deadlock: tuple[ProgramSubject, ScheduleFile]) -> None:
    subject, file = deadlock
    cut = replace(file, schedule=replace(file.schedule, steps=file.schedule.steps[:5]))
    error = error_of(replay(subject, cut))
    assert error.step == 6
    assert "ends after 5 steps, the run goes on" in str(error)


def test_a_run_that_ends_first_is_a_divergence(deadlock: tuple[ProgramSubject, ScheduleFile]) -> None:
    subject, file = deadlock
    more = replace(file, schedule=replace(file.schedule, steps=(*file.schedule.steps, ("one", "acquire B"))))
    error = error_of(replay(subject, more))
    assert error.step == len(file.schedule.steps) + 1
    assert f"the run ends after {len(file.schedule.steps)} steps (failed)" in str(error)
    assert "one: 'acquire B'" in str(error)


def test_another_program_is_a_divergence(deadlock: tuple[ProgramSubject, ScheduleFile]) -> None:
    _, file = deadlock
    assert error_of(replay(ProgramSubject(shorter), file)).step >= 2


def test_the_same_steps_with_another_end_are_told(deadlock: tuple[ProgramSubject, ScheduleFile]) -> None:
    subject, file = deadlock
    text = difference(replace(file, verdict="passed", failure=None), replay(subject, file))
    assert "steps fit, but the file says passed (no failure), and this run is failed (deadlocked" in text


def test_the_state_at_a_step(deadlock: tuple[ProgramSubject, ScheduleFile]) -> None:
    subject, file = deadlock
    for step in range(len(file.schedule.steps)):
        played = replay(subject, file, until_step=step)
        assert played.verdict == played.outcome.kind == STOPPED
        assert played.outcome.error is None
        assert played.schedule.steps == file.schedule.steps[:step]
        assert played.outcome.stacks
    last = replay(subject, file, until_step=len(file.schedule.steps) - 1)
    assert any("take" in frame for frame in last.outcome.stacks["one"])
    assert "main" in last.outcome.wait_for


def test_a_step_beyond_the_end_stops_nothing(deadlock: tuple[ProgramSubject, ScheduleFile]) -> None:
    subject, file = deadlock
    assert difference(file, replay(subject, file, until_step=9999)) == ""
    with pytest.raises(ValueError, match="step -1"):
        replay(subject, file, until_step=-1)


def test_a_divergence_before_the_step_is_still_one(deadlock: tuple[ProgramSubject, ScheduleFile]) -> None:
    subject, file = deadlock
    steps = (("nobody", "nothing"), *file.schedule.steps)
    other = replace(file, schedule=replace(file.schedule, steps=steps))
    assert error_of(replay(subject, other, until_step=5)).step == 1


def test_timed_does_not_change_what_it_watches(deadlock: tuple[ProgramSubject, ScheduleFile]) -> None:
    subject, file = deadlock
    timed = Timed(Replay(file.schedule))
    played = play(subject, file.plan, timed, prepare=timed.attach)
    assert played.schedule.steps == file.schedule.steps
    assert len(timed.times_ns) == len(file.schedule.steps)
    assert timed.times_ns == sorted(timed.times_ns)
