"""The nearest passing order: the last choice at which the run could still be helped, and the words for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from orders import two_locks

from coordemu.explore.nearest import Choices, Nearest, nearest
from coordemu.explore.order import OrderPlan, Played, play
from coordemu.explore.program import ProgramSubject
from coordemu.explore.segments import Follow, Segment
from coordemu.runtime.sim import SimRuntime
from coordemu.runtime.sim_schedule import Schedule, Strategy

Program = Callable[[SimRuntime], None]


def time_limit(rt: SimRuntime) -> None:
    answer = rt.event("answer", lambda: ("server",))

    def ask() -> None:
        assert answer.wait(1000), "no answer"

    client = rt.spawn(ask, name="client")
    server = rt.spawn(answer.set, name="server")
    client.join()
    server.join()


def doomed(rt: SimRuntime) -> None:
    for name in ("some", "other"):
        rt.spawn(lambda: None, name=name)
    rt.event("never").wait()


def alone(rt: SimRuntime) -> None:
    rt.event("never").wait()


def look(
    program: Program, plan: OrderPlan, segments: list[Segment], limit: int = 100
) -> tuple[Played, Nearest, list[Played]]:
    subject = ProgramSubject(program)
    failing = play(subject, plan, Follow(segments))
    assert failing.failure is not None
    choices = Choices(failing.schedule)
    play(subject, plan, choices)
    runs: list[Played] = []

    def run(strategy: Strategy) -> Played:
        runs.append(play(subject, plan, strategy))
        return runs[-1]

    found = nearest(run, failing.schedule, failing.failure, limit, choices.others)
    assert found.runs == len(runs) <= limit
    return failing, found, runs


def common(a: Schedule, b: Schedule) -> int:
    """How many steps are the same from the beginning."""
    return next(
        (at for at, (x, y) in enumerate(zip(a.steps, b.steps, strict=False)) if x != y), min(len(a.steps), len(b.steps))
    )


def test_it_names_the_switch_and_both_labels() -> None:
    failing, found, _ = look(two_locks, OrderPlan(), [("main", None), ("one", 2), ("two", None)])
    assert found.passing is not None
    at = common(failing.schedule, found.passing)
    assert failing.schedule.steps[at] == ("two", "start")
    assert found.sentence == (
        f"it hangs because at step {at + 1} two ran ('start' to 'acquire B') while one was about to 'acquire B'; "
        "had one gone first, it would have passed"
    )


def test_the_latest_switch_is_the_one() -> None:
    segments: list[Segment] = [("main", None), ("two", 1), ("one", 2), ("two", None)]
    failing, found, _ = look(two_locks, OrderPlan(), segments)
    assert found.passing is not None
    at = common(failing.schedule, found.passing)
    assert failing.schedule.steps[at] == ("two", "acquire B")
    assert "two ran ('acquire B') while one was about to 'acquire B'" in found.sentence


def test_time_is_a_choice_on_the_explored_clock() -> None:
    plan = OrderPlan(clock="explored")
    segments: list[Segment] = [("main", None), ("client", 1), ("the clock", 1), ("client", None)]
    failing, found, _ = look(time_limit, plan, segments)
    assert found.passing is not None
    assert found.sentence.startswith("it fails because at step ")
    assert "server" in found.sentence
    assert failing.failure is not None
    assert failing.failure.sentence.startswith("AssertionError: no answer")


def test_what_nothing_helps_is_said_so() -> None:
    failing, found, runs = look(doomed, OrderPlan(), [])
    assert found.passing is None
    assert found.sentence == f"it hangs, and no single other choice in this order helps ({len(runs)} were tried)"
    assert failing.failure is not None


def test_where_there_was_no_choice_it_says_so() -> None:
    _, found, _ = look(alone, OrderPlan(), [])
    assert found == Nearest(None, "it hangs, and nothing could have come in another order", 0)


@pytest.mark.parametrize("limit", [0, 1])
def test_the_limit_is_kept_to(limit: int) -> None:
    _, found, runs = look(doomed, OrderPlan(), [], limit)
    assert len(runs) == limit
    assert found.sentence == f"it hangs in this order; none that passes was found in {limit} others"


def test_what_else_could_have_gone_is_noted() -> None:
    subject = ProgramSubject(two_locks)
    played = play(subject, OrderPlan())
    choices = Choices(played.schedule)
    again = play(subject, OrderPlan(), choices)
    assert again.schedule.steps == played.schedule.steps
    after_spawn = next(at for at, step in enumerate(played.schedule.steps) if step[1] == "spawn two") + 1
    assert ("two", "start") in [*choices.others[after_spawn], played.schedule.steps[after_spawn]]
    assert all(others for others in choices.others.values())
