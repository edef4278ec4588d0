"""Commuting: the same steps in an order with fewer switches, with the same outcome."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from coordemu.explore.commute import Births, commuted
from coordemu.explore.order import OrderPlan, Played, play
from coordemu.explore.program import ProgramSubject
from coordemu.explore.segments import Follow, Segment, exactly, segments_of
from coordemu.runtime.sim import SimRuntime


def counters(rt: SimRuntime) -> None:
    """Three tasks, each with a counter of its own and a common one, which may lose an update."""
    common = rt.cell(0, "common")

    def count(number: int) -> None:
        own = rt.cell(0, f"own {number}")
        for _ in range(5):
            own.value += 1
        common.value += 1

    for task in [rt.spawn(count, number, name=f"counter-{number}") for number in range(3)]:
        task.join()
    assert common.value == 3, f"common is {common.value}"


def sleepers(rt: SimRuntime) -> None:
    """Time passes in the middle; spawns, locks, and an event across it."""
    lock, morning = rt.lock("L"), rt.event("morning", lambda: ("main",))
    seen: list[str] = []

    def sleep(name: str) -> None:
        with lock:
            seen.append(name)
        rt.sleep_ns(1000)
        morning.wait()
        with lock:
            seen.append(name)

    tasks = [rt.spawn(sleep, f"s{number}", name="sleeper") for number in range(3)]
    rt.sleep_ns(5000)
    morning.set()
    for task in tasks:
        task.join()
    raise ValueError(" ".join(seen))  # what everybody saw, for the test


def recorded(
    program: Callable[[SimRuntime], object], seed: int, strategy: str = "random", clock: str = "idle"
) -> tuple[Played, Births]:
    subject = ProgramSubject(program)
    first = play(subject, OrderPlan(strategy, seed, clock, length=60))
    births = Births(first.schedule)
    return play(subject, first.plan, births, footprints=True), births


def rearranged(played: Played, births: Births, only_needed: bool = False) -> tuple[Segment, ...]:
    return commuted(
        played.schedule.steps, played.footprints, played.time_passed_at, births.born_in, only_needed=only_needed
    )


@pytest.mark.parametrize("clock", ["idle", "explored"])
@pytest.mark.parametrize("program", [counters, sleepers])
def test_the_outcome_is_the_same_and_the_switches_are_fewer(program: object, clock: str) -> None:
    fewer = 0
    for seed in range(25):
        played, births = recorded(program, seed, clock=clock)
        order = rearranged(played, births)
        before = segments_of(played.schedule.steps)
        assert len(order) <= len(before)
        fewer += len(order) < len(before)
        again = play(ProgramSubject(program), played.plan, Follow(order))  # type: ignore[arg-type]
        # Exactly what was planned, of exactly the same steps.
        assert segments_of(again.schedule.steps) == order
        assert Counter(again.schedule.steps) == Counter(played.schedule.steps)
        assert again.verdict == played.verdict
        assert str(again.outcome.error) == str(played.outcome.error)
        assert again.outcome.now_ns == played.outcome.now_ns
    assert fewer >= 20


def test_steps_that_all_touch_one_thing_stay_where_they_are() -> None:
    def rivals(rt: SimRuntime) -> None:
        cell = rt.cell(0, "cell")

        def write() -> None:
            for _ in range(6):
                cell.value = 1

        for task in [rt.spawn(write, name="a"), rt.spawn(write, name="b")]:
            task.join()

    played, births = recorded(rivals, 3)
    order = rearranged(played, births)
    again = play(ProgramSubject(rivals), played.plan, Follow(order))

    def writes(run: Played) -> list[tuple[str, str]]:
        return [step for step in run.schedule.steps if step[1] == "write cell"]

    assert writes(again) == writes(played)


def test_readers_change_places() -> None:
    def readers(rt: SimRuntime) -> None:
        cell = rt.cell(0, "cell")

        def read() -> None:
            for _ in range(6):
                assert cell.value == 0

        for task in [rt.spawn(read, name="a"), rt.spawn(read, name="b")]:
            task.join()

    played, births = recorded(readers, 3)
    assert len(segments_of(played.schedule.steps)) > 6
    assert [key for key, _ in rearranged(played, births)] in (["main", "a", "b", "main"], ["main", "b", "a", "main"])


def test_what_the_last_step_does_not_need_is_left_out() -> None:
    def fail(rt: SimRuntime) -> None:
        noise = rt.cell(0, "noise")

        def make_noise() -> None:
            for _ in range(20):
                noise.value += 1

        def raise_it() -> None:
            noise_of_its_own = rt.cell(0, "its own")
            for _ in range(3):
                noise_of_its_own.value += 1
            raise ValueError("planted")

        for task in [rt.spawn(make_noise, name="noise"), rt.spawn(raise_it, name="raiser")]:
            task.join()

    played, births = recorded(fail, 2)
    assert any(key == "noise" for key, _ in played.schedule.steps)
    order = rearranged(played, births, only_needed=True)
    assert {key for key, _ in order} == {"main", "raiser"}
    again = play(ProgramSubject(fail), played.plan, Follow(order))
    assert again.failure == played.failure


def test_births_are_noted() -> None:
    played, births = recorded(sleepers, 1)
    spawns = {label for key, label in played.schedule.steps if key == "main" and label.startswith("spawn")}
    assert {f"spawn {key}" for key, _, index in births.born_in if index >= 0 and key != "the clock"} == spawns
    assert [key for key, name, _ in births.born_in if name == "sleeper"] == ["sleeper", "sleeper~2", "sleeper~3"]
    exact = play(ProgramSubject(sleepers), played.plan, exactly(played.schedule))
    assert exact.schedule.steps == played.schedule.steps
