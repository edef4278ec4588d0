"""Strategies, schedules and replays of the simulator: the same seed is the same run, and a failing order is a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import coordemu
from coordemu.runtime.sim import SimRuntime
from coordemu.runtime.sim_outcome import SimDeadlock
from coordemu.runtime.sim_schedule import (
    STRATEGIES,
    Pct,
    Replay,
    Schedule,
    ScheduleError,
    SimDivergence,
    make_strategy,
)


def two_locks(rt):
    """The classic: two tasks take two locks in opposite orders."""
    a, b = rt.lock("A"), rt.lock("B")

    def take(first, second):
        with first, second:
            pass

    one = rt.spawn(take, a, b, name="one")
    two = rt.spawn(take, b, a, name="two")
    one.join()
    two.join()


def meeting(rt):
    """Tasks over every kind of primitive, a loop and a timer; chance decides a little of it."""
    lock, cell, barrier, tickets = rt.lock("L"), rt.cell(0, "count"), rt.barrier(4, "all"), rt.semaphore(2, "tickets")
    loop = rt.loop("io")
    handle = loop.async_handle(lambda: None, "nudge")
    timer = loop.timer(loop.stop, "stop")

    def work():
        for _ in range(rt.random.randint(1, 3)):
            tickets.acquire()
            with lock:
                cell.value += 1
            handle.send()
            tickets.release()
        barrier.wait()

    tasks = [rt.spawn(work, name="worker") for _ in range(4)]
    timer.start(5_000_000)
    loop.run()
    assert all(task.join() for task in tasks)
    loop.close()


def run(scenario, strategy, **options):
    rt = SimRuntime(strategy, **options)
    return rt.run(lambda: scenario(rt), name="test")


@pytest.mark.parametrize("clock", ["idle", "explored"])
@pytest.mark.parametrize("name", STRATEGIES)
def test_the_same_seed_is_the_same_run(name, clock):
    first = run(meeting, make_strategy(name, 5), clock=clock).check()
    second = run(meeting, make_strategy(name, 5), clock=clock).check()
    assert first.schedule.steps == second.schedule.steps
    assert first.now_ns == second.now_ns
    assert len({step[0] for step in first.schedule.steps} & {"worker", "worker~2", "worker~3", "worker~4"}) == 4


def test_other_seeds_are_other_runs():
    assert len({run(meeting, make_strategy("random", seed)).schedule.steps for seed in range(8)}) == 8


DIGEST = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
from test_sim_schedules import meeting, run
from coordemu.runtime.sim_schedule import make_strategy
kept = [object() for _ in range(int(sys.argv[2]))]
steps = [run(meeting, make_strategy(name, 3)).check().schedule.steps for name in ("run-on", "random", "pct3")]
print(hashlib.sha256(repr(steps).encode()).hexdigest())
"""


def test_fresh_processes_with_other_hash_seeds_make_the_same_run():
    source = str(Path(coordemu.__file__).parents[1])
    digests = {
        subprocess.run(
            [sys.executable, "-c", DIGEST, str(Path(__file__).parent), str(seed * 1000)],
            env={**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": source},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in (0, 1, 77)
    }
    assert len(digests) == 1


def first_deadlock(name, seeds=200):
    for seed in range(seeds):
        outcome = run(two_locks, make_strategy(name, seed, 20))
        if not outcome.ok:
            return outcome
    raise AssertionError(f"{name} never found it")


@pytest.mark.parametrize("name", ["random", "pct2", "pct3"])
def test_the_two_lock_deadlock_is_found_and_replayed_from_its_file(name):
    outcome = first_deadlock(name)
    assert outcome.kind == "deadlock"
    assert "one waits for lock 'B', held by two; two waits for lock 'A', held by one: a cycle" in outcome.wait_for
    assert any("take" in frame for frame in outcome.stacks["one"])
    with pytest.raises(SimDeadlock, match="a cycle"):
        outcome.check()
    saved = json.dumps(outcome.schedule.to_json())
    replay = Replay(Schedule.from_json(json.loads(saved)))
    again = run(two_locks, replay)
    assert again.kind == "deadlock"
    assert again.schedule.steps == outcome.schedule.steps
    assert again.wait_for == outcome.wait_for
    assert replay.left == 0


def test_keeping_to_one_task_finds_no_deadlock_between_two():
    outcome = run(two_locks, make_strategy("run-on")).check()
    assert outcome.kind == "done"
    assert outcome.schedule.switches < 8


def planted(rt):
    """Fails only when the writer stops early, the reader between its two looks, and the writer goes on to its end."""
    x, noise = rt.cell(0, "x"), rt.cell(0, "noise")

    def write():
        for value in (1, 2, 3):
            x.value = value
            for _ in range(8):
                noise.value = value

    def read():
        assert (x.value, x.value) != (1, 3), "the planted race"

    for task in [rt.spawn(write, name="writer"), rt.spawn(read, name="reader")]:
        task.join()


def test_pct_finds_a_planted_race_of_three_steps():
    assert run(planted, make_strategy("run-on")).ok
    outcomes = [run(planted, Pct(seed, depth=3, length=45)) for seed in range(300)]
    found = [outcome for outcome in outcomes if not outcome.ok]
    assert found
    assert {outcome.kind for outcome in found} == {"error"}
    assert "the planted race" in str(found[0].error)
    again = run(planted, Replay(found[0].schedule))
    assert again.kind == "error"
    assert again.schedule.steps == found[0].schedule.steps


def test_a_replay_names_the_first_step_that_differs():
    schedule = first_deadlock("random").schedule
    at = next(number for number, (_, label) in enumerate(schedule.steps) if label == "acquire B")
    changed = list(schedule.steps)
    changed[at] = (changed[at][0], "acquire C")
    outcome = run(two_locks, Replay(Schedule("random", "idle", tuple(changed))))
    assert outcome.kind == "diverged"
    assert isinstance(outcome.error, SimDivergence)
    assert outcome.error.step == at + 1
    assert f"step {at + 1}: the schedule has {changed[at][0]}: 'acquire C'" in str(outcome.error)
    assert f"{changed[at][0]} is at 'acquire B'" in str(outcome.error)
    assert outcome.schedule.steps == schedule.steps[:at]

    changed[at] = ("three", "acquire B")
    outcome = run(two_locks, Replay(Schedule("random", "idle", tuple(changed))))
    assert "the schedule has three: 'acquire B', but possible are [" in str(outcome.error)

    outcome = run(two_locks, Replay(Schedule("random", "idle", schedule.steps[:4])))
    assert "step 5: the schedule ends after 4 steps" in str(outcome.error)


def test_another_scenario_is_refused_at_its_first_step_that_differs():
    outcome = run(meeting, Replay(first_deadlock("random").schedule))
    assert outcome.kind == "diverged"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "version 1 .found version 2."),
        ({"labels": None}, "step 1 of the schedule"),
        ({"steps": [[0, 0], [0, 999]]}, "step 2 of the schedule is .0, 999."),
        ({"steps": [[0]]}, "step 1 of the schedule"),
        ({"steps": [[-1, 0]]}, "step 1 of the schedule"),
    ],
)
def test_a_bad_schedule_is_one_line(change, words):
    data = {**first_deadlock("random").schedule.to_json(), **change}
    with pytest.raises(ScheduleError, match=words) as info:
        Schedule.from_json(data)
    assert "\n" not in str(info.value)


def test_a_truncated_schedule_says_so():
    data = first_deadlock("random").schedule.to_json()
    del data["steps"]
    with pytest.raises(ScheduleError, match="truncated"):
        Schedule.from_json(data)
    with pytest.raises(ScheduleError, match="version"):
        Schedule.from_json([])


def test_strategies_refuse_nonsense():
    with pytest.raises(ValueError, match="depth 0"):
        Pct(1, depth=0)
    with pytest.raises(ValueError, match="length 0"):
        Pct(1, length=0)
    with pytest.raises(ValueError, match="no strategy is called 'best'"):
        make_strategy("best")
