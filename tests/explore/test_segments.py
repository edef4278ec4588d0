"""Segments: following those of a recorded run is that run; a list with holes is followed as far as it goes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordemu.explore.order import OrderPlan, Played, play
from coordemu.explore.program import ProgramSubject
from coordemu.explore.segments import Follow, Segment, chosen_in, exactly, picks_of, segments_of
from coordemu.runtime.sim import SimRuntime


def market(rt: SimRuntime) -> None:
    """Every kind of primitive, sleeps, and picks where there are chances."""
    lock = rt.lock("L")
    ready = rt.condition(lock, "ready", lambda: ("main",))
    count, tickets, all_here = rt.cell(0, "count"), rt.semaphore(2, "tickets"), rt.barrier(4, "all here")
    opened = rt.cell(False, "opened")

    def work() -> None:
        with lock:
            while not opened.value:
                ready.wait(2_000_000)
        for _ in range(3):
            tickets.acquire()
            count.value += 1
            rt.sleep_ns(1_000_000)
            tickets.release()
        all_here.wait()

    tasks = [rt.spawn(work, name="worker") for _ in range(4)]
    rt.sleep_ns(0)
    with lock:
        opened.value = True
        ready.notify_all()
    for task in tasks:
        task.join()


def played_by(strategy: str, seed: int, clock: str = "idle", chances: float = 0.0) -> Played:
    return play(ProgramSubject(market), OrderPlan(strategy, seed, clock, 1, chances, 150))


@pytest.mark.parametrize("chances", [0.0, 0.2])
@pytest.mark.parametrize("clock", ["idle", "explored"])
@pytest.mark.parametrize("strategy", ["run-on", "random", "pct3"])
def test_following_a_recorded_run_is_that_run(strategy: str, clock: str, chances: float) -> None:
    for seed in range(10):
        played = played_by(strategy, seed, clock, chances)
        follow = exactly(played.schedule)
        again = play(ProgramSubject(market), played.plan, follow)
        assert again.schedule.steps == played.schedule.steps
        assert follow.used == set(range(len(segments_of(played.schedule.steps))))
        assert follow.turns == len(segments_of(played.schedule.steps))
        assert 0 <= follow.preemptions <= follow.turns
        assert follow.picked == len(picks_of(played.schedule.steps))


def test_there_are_picks_to_follow() -> None:
    assert any(picks_of(played_by("random", seed, chances=0.2).schedule.steps) for seed in range(10))


def test_nobody_is_interrupted_by_an_empty_list() -> None:
    follow = Follow(())
    played = play(ProgramSubject(market), OrderPlan(), follow)
    assert played.failure is None
    assert follow.preemptions == 0
    assert follow.used == set()


def test_the_clock_advances_by_itself_only_when_nobody_can_go_on() -> None:
    idle = play(ProgramSubject(market), OrderPlan(), Follow(()))
    explored = play(ProgramSubject(market), OrderPlan(clock="explored"), Follow(()))
    assert [step for step in explored.schedule.steps if step[0] != "the clock"] == list(idle.schedule.steps)


def test_a_spinning_task_does_not_keep_the_others_from_their_steps() -> None:
    def spin(rt: SimRuntime) -> None:
        done = rt.cell(False, "done")

        def wait() -> None:
            while not done.value:
                rt.sleep_ns(0)

        def finish() -> None:
            rt.sleep_ns(5)
            done.value = True

        for task in [rt.spawn(wait, name="a"), rt.spawn(wait, name="b"), rt.spawn(finish, name="c")]:
            task.join()

    for clock in ("idle", "explored"):
        plan = OrderPlan(clock=clock)
        played = play(ProgramSubject(spin), plan, Follow(()), max_steps=500)
        # On the idle clock time stands still while they spin, whoever chooses.
        assert (played.failure is None) == (clock == "explored")


def segments() -> st.SearchStrategy[list[Segment]]:
    keys = ["main", "worker", "worker~2", "worker~3", "worker~4", "the clock", "nobody"]
    return st.lists(st.tuples(st.sampled_from(keys), st.none() | st.integers(0, 40)), max_size=25)


@given(segments(), st.sampled_from(["idle", "explored"]))
@settings(max_examples=80, deadline=None)
def test_any_list_can_be_followed(listed: list[Segment], clock: str) -> None:
    follow = Follow(listed, {("main", "anything", 3): 2})
    played = play(ProgramSubject(market), OrderPlan(clock=clock, chances=0.1), follow)
    assert played.failure is None
    # What was used is all that mattered.
    again = Follow([listed[at] for at in sorted(follow.used)])
    other = play(ProgramSubject(market), played.plan, again)
    assert other.failure is None


def test_a_segment_taken_out_moves_its_steps_to_the_next_of_its_actor() -> None:
    steps = [("a", "1"), ("b", "1"), ("b", "2"), ("a", "2"), ("b", "3"), ("pick", "x: 1 of 2"), ("b", "4")]
    assert segments_of(steps) == (("a", 1), ("b", 2), ("a", 2), ("b", 4))
    assert picks_of([*steps, ("pick", "x: 0 of 2"), ("pick", "x: 2 of 3")]) == {("b", "x", 0): 1, ("b", "x", 2): 2}


@pytest.mark.parametrize(("text", "number"), [("a: b: 2 of 3", 2), ("a: 0 of 2", 0), ("read x", 0), ("", 0)])
def test_what_a_pick_chose(text: str, number: int) -> None:
    assert chosen_in(text) == number
