"""Lanes: the last steps in columns that fit, with times where they were noted, and the same as values."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from coordemu.explore.lanes import NETWORK, Timed, lane_rows, lanes, ports_of, route
from coordemu.explore.order import OrderPlan, play
from coordemu.explore.program import ProgramSubject
from coordemu.runtime.sim import SimRuntime
from coordemu.runtime.sim_schedule import RunOn, Schedule


def schedule(*steps: tuple[str, str]) -> Schedule:
    return Schedule("test", "idle", steps)


def test_each_actor_has_a_column() -> None:
    lines = lanes(schedule(("main", "start"), ("worker-0", "acquire queue"), ("main", "join worker-0")))
    assert lines[0].split() == ["step", "main", "worker-0"]
    column = lines[0].index("worker-0")
    assert lines[1] == "   1 start"
    assert lines[2].index("acquire queue") == column
    assert lines[3].endswith("join worker-0")
    assert lines[3].index("join") == lines[0].index("main")


@pytest.mark.parametrize("actors", [1, 2, 5, 8, 13, 25])
@pytest.mark.parametrize("width", [60, 120])
@pytest.mark.parametrize("timed", [False, True])
def test_it_fits(actors: int, width: int, timed: bool) -> None:
    steps = tuple((f"workers-{number % actors}", f"acquire workers: queue of {number}") for number in range(50))
    lines = lanes(schedule(*steps), last=30, times_ns=range(50) if timed else (), width=width)
    assert len(lines) == 31
    assert max(map(len, lines)) <= width
    assert lines[-1].startswith("  50")
    assert all(line == line.rstrip() for line in lines)


def test_many_actors_have_marks_and_the_labels_at_the_right() -> None:
    steps = tuple((f"workers-{number}", f"read cell {number}") for number in range(12))
    lines = lanes(schedule(*steps))
    assert lines[0].split()[1:3] == ["wor0", "wor1"]
    assert lines[-1].endswith("workers-11: read cell 11")
    assert lines[-1].count("*") == 1
    assert lines[-1].index("*") == lines[0].index("wo11")


def test_the_network_has_one_lane_and_a_pick_is_in_its_actors() -> None:
    rows = lane_rows(
        schedule(
            ("main", "start"),
            ("20001 to 127.0.0.1:20000", "deliver data"),
            ("127.0.0.1:20000 to 20001", "deliver end"),
            ("connect to 127.0.0.1:20000", "arrive"),
            ("main", "notify jobs"),
            ("pick", "wake of jobs: 1 of 2"),
            ("the clock", "advance"),
        )
    )
    assert [row.lane for row in rows] == ["main", NETWORK, NETWORK, NETWORK, "main", "main", "the clock"]
    assert rows[1].label == "deliver data 20001 to 127.0.0.1:20000"
    assert rows[5].label == "pick wake of jobs: 1 of 2"
    assert [row.step for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    assert json.loads(json.dumps(rows[4].to_json())) == {
        "step": 5,
        "lane": "main",
        "actor": "main",
        "label": "notify jobs",
        "time_ns": None,
    }


def test_who_stands_behind_a_port_is_named() -> None:
    ports = {"20000": "shard 0", "20003": "client 1"}
    assert route("20003 to 127.0.0.1:20000", ports) == "client 1 to shard 0"
    assert route("127.0.0.1:20000 to 20003~2", ports) == "shard 0 to client 1"
    assert route("delay 127.0.0.1:20000 to 20003", ports) == "delay shard 0 to client 1"
    assert route("connect to 127.0.0.1:20000~3", ports) == "shard 0"
    assert route("127.0.0.1:20001 to unix", ports) == "127.0.0.1:20001 to unix"
    played = play(ProgramSubject(lambda rt: rt.sleep_ns(1)), OrderPlan())
    steps = (("20003 to 127.0.0.1:20000", "deliver data"),)
    shown = replace(played, schedule=schedule(*steps), facts={"ports": ports})
    assert lane_rows(shown)[0].label == "deliver data client 1 to shard 0"
    assert ports_of({"ports": None}) == ports_of({}) == {}


def test_how_many_and_up_to_where() -> None:
    steps = schedule(*((f"t{number}", "x") for number in range(20)))
    assert [row.step for row in lane_rows(steps, last=3)] == [18, 19, 20]
    assert [row.step for row in lane_rows(steps, last=3, before_step=11)] == [8, 9, 10]
    assert [row.step for row in lane_rows(steps, last=3, before_step=2)] == [1]
    assert [row.step for row in lane_rows(steps, last=3, before_step=99)] == [18, 19, 20]
    assert lane_rows(steps, last=0) == []
    assert lanes(steps, last=3, before_step=1) == ["(no steps)"]
    assert lanes(schedule()) == ["(no steps)"]


def test_times_are_virtual_milliseconds() -> None:
    def sleep(rt: SimRuntime) -> None:
        rt.sleep_ns(2_500_000)
        rt.lock("L").acquire()

    timed = Timed(RunOn())
    played = play(ProgramSubject(sleep), OrderPlan(), timed, prepare=timed.attach)
    rows = lane_rows(played, times_ns=timed.times_ns)
    assert [row.label for row in rows] == ["start", "sleep", "acquire L"]
    first = rows[0].time_ns
    assert first is not None
    assert [(row.time_ns or 0) - first for row in rows] == [0, 2_500_000, 2_500_000]
    lines = lanes(played, times_ns=timed.times_ns)
    assert "virtual ms" in lines[0]
    assert "1002.500" in lines[-1]


def test_picks_are_timed_too() -> None:
    def wake(rt: SimRuntime) -> None:
        lock = rt.lock("m")
        some = rt.condition(lock, "some", lambda: ())

        def wait() -> None:
            with lock:
                some.wait(1000)

        tasks = [rt.spawn(wait, name="waiter") for _ in range(3)]
        rt.sleep_ns(10)
        with lock:
            some.notify()
        for task in tasks:
            task.join()

    timed = Timed(RunOn())
    played = play(ProgramSubject(wake), OrderPlan(chances=0.5), timed, prepare=timed.attach)
    assert any(key == "pick" for key, _ in played.schedule.steps)
    assert len(timed.times_ns) == len(played.schedule.steps)
