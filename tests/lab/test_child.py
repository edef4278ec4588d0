"""The child process of a run: its result, its death, its deadline, and that nothing of it is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coordemu.coord.resize_policy import get_policy
from coordemu.lab import child
from coordemu.lab.child import RunError, deadline_ns, run_in_child
from coordemu.lab.scenario import Scenario
from coordemu.runtime.base import NS_PER_MS, NS_PER_S

QUICK = Scenario(workers=(3, 0), clients=3, latency="10ms", warm_ms=20, after_ms=20, seed=7)
POLICY = get_policy("upstream-7410")
LONG = replace(QUICK, after_ms=60_000)


def test_a_run(footprint: Any) -> None:
    said: list[str] = []
    result = run_in_child(QUICK, POLICY, said.append)
    assert (result.verdict, result.seed, result.queries.lost) == ("healthy", 7, 0)
    assert result.scenario == QUICK.to_json()
    assert result.policy == POLICY.to_json()
    assert result.resources["before"]["threads"] == result.resources["after"]["threads"]
    assert said == ["load", "CONFIG SET WORKERS 0"]


def test_a_run_that_hangs_is_told_and_ended(footprint: Any) -> None:
    result = run_in_child(QUICK, get_policy("writeup-before"))
    assert result.verdict == "deadlocked"
    assert result.queries.lost > 0
    assert "main waits for event" in result.cycle
    assert any(edge["waiter"] == "main" for edge in result.wait_for)
    assert all(edge["since_ms"] is None or 0 <= edge["since_ms"] < 60_000 for edge in result.wait_for)
    assert any("_wait_on_main" in frame for frame in result.stacks["main"])


@pytest.mark.parametrize(
    ("scenario", "says"),
    [
        (replace(QUICK, shards="redis://127.0.0.1:1"), "shard 127.0.0.1:1: Connection refused"),
        (replace(QUICK, shards="unix:///nowhere/at/all"), "shard unix:/nowhere/at/all: No such file or directory"),
    ],
)
def test_shards_that_are_not_there(footprint: Any, scenario: Scenario, says: str) -> None:
    with pytest.raises(RunError) as failed:
        run_in_child(scenario, POLICY)
    assert str(failed.value) == says


def test_a_request_that_makes_no_sense(footprint: Any) -> None:
    """A policy that no one can carry out, sent past all checks."""
    bad = object.__new__(type(POLICY))
    for name in POLICY.to_json():
        object.__setattr__(bad, name, getattr(POLICY, name))
    object.__setattr__(bad, "order", ("reduce", "shrink", "dance"))
    with pytest.raises(
        RunError, match="the run's process ended with code 1: ValueError: order: step 'dance' is none of"
    ):
        run_in_child(QUICK, bad)


def run_with_program(monkeypatch: pytest.MonkeyPatch, directory: Path, script: str) -> None:
    """Run with a shell script in the interpreter's place."""
    program = directory / "program"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    run_in_child(QUICK, POLICY)


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("exit 7", "the run's process ended with code 7: it said nothing"),
        ("cat >/dev/null & exit 0", "the run's process ended with code 0: it said nothing"),
        ("echo first >&2; echo last words >&2; exit 3", "the run's process ended with code 3: last words"),
        ("kill -9 $$", "the run's process was killed by SIGKILL: it said nothing"),
        ("printf '{\"progr'; kill -11 $$", "the run's process was killed by SIGSEGV: it said nothing"),
        ('read line; echo \'{"error": "no shards"}\'; cat', "no shards"),
    ],
)
def test_a_child_that_fails(
    footprint: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, says: str
) -> None:
    with pytest.raises(RunError) as failed:
        run_with_program(monkeypatch, tmp_path, script)
    assert str(failed.value) == says


def test_a_child_that_neither_answers_nor_ends(footprint: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(child, "deadline_ns", lambda scenario, policy: 200 * NS_PER_MS)
    with pytest.raises(RunError, match="the run gave no result within 0 s and was ended"):
        run_with_program(monkeypatch, tmp_path, "exec sleep 600")


def test_a_run_that_overruns_its_deadline(footprint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "deadline_ns", lambda scenario, policy: NS_PER_S)
    with pytest.raises(RunError, match="the run gave no result within 1 s and was ended"):
        run_in_child(LONG, POLICY)


@pytest.mark.parametrize("shards", ["embedded-unix:2", "redis:1"])
def test_an_interrupted_parent_leaves_nothing(footprint: Any, shards: str) -> None:
    """As by Ctrl-C: in the middle of the run, from inside the call."""

    def interrupt(line: str) -> None:
        assert footprint.processes("child_main")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_in_child(replace(LONG, shards=shards), POLICY, interrupt)
    assert footprint.processes("child_main") == []


def test_the_child_ends_with_its_stdin(footprint: Any, eventually: Callable[..., Any]) -> None:
    """A parent that was killed closes it too."""
    request = json.dumps({"scenario": LONG.to_json(), "policy": POLICY.to_json()})
    with subprocess.Popen(
        [sys.executable, "-m", "coordemu.lab.child_main"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(request.encode() + b"\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline()) == {"progress": "load"}
        assert footprint.processes("shard_main")
        process.stdin.close()
        assert process.wait(20) == 1


def test_a_killed_child_takes_its_shards_along(footprint: Any, eventually: Callable[..., Any]) -> None:
    def kill(line: str) -> None:
        [process] = footprint.processes("child_main")
        os.kill(process.pid, signal.SIGKILL)

    with pytest.raises(RunError, match="the run's process was killed by SIGKILL: it said nothing"):
        run_in_child(LONG, POLICY, kill)


def test_the_deadline_covers_all_that_a_run_may_take() -> None:
    scenario = Scenario(
        workers=(4, 2, 1), clients=2, latency="10ms", work_ms=3.0, load_ms=2.0, warm_ms=100, after_ms=200, pause_ms=7.0,
        settle_ms=300, watchdog_ms=1000, restart_after_ms=400,
    )  # fmt: skip
    policy = replace(POLICY, drain_timeout_ms=500)
    own_ms = 100 + 200 + 300 + 2 * 7 + 400 + 1000 + 500 * 3 + 15 * 4
    assert deadline_ns(scenario, policy) == own_ms * NS_PER_MS + 30 * NS_PER_S
