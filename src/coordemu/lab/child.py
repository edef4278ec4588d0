"""Running in a child process, with a deadline: what `run` and `compare` call.

Role: starts `coordemu.lab.child_main` for each run, passes its progress on, returns its `Result`, and sees to it
that nothing of it is left: not after a hang, not after Ctrl-C. The child's stdin is the tie: when it ends, so does
the child, and its shards with it. So nothing is left either when this process is killed.

Thread: the caller's, and one that watches the deadline. Blocks for the length of the run. Upstream: none.
Left out: running several at once; two cores measure one run at a time.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from typing import IO

from coordemu.coord.resize_policy import ResizePolicy
from coordemu.lab.result import Result
from coordemu.lab.scenario import Scenario
from coordemu.runtime.base import NS_PER_MS, NS_PER_S
from coordemu.runtime.threads import ThreadsRuntime
from coordemu.shards.shard_process import child_environment

ENDING_S = 10  # longer than shards take to end at the very most


class RunError(Exception):
    """The environment did not allow the run, or the child gave no result; one line for the user."""


def run_in_child(scenario: Scenario, policy: ResizePolicy, progress: Callable[[str], None] | None = None) -> Result:
    """One run in a process of its own.

    Raises RunError when the environment does not allow it, or when the child died or overran its deadline. Blocks.
    """
    rt = ThreadsRuntime()
    ended = rt.event("child has ended")
    limit_ns = deadline_ns(scenario, policy)
    overran: list[bool] = []
    with tempfile.TemporaryFile() as stderr:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "coordemu.lab.child_main"],
            env=child_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
        )

        def watch_deadline() -> None:
            if not ended.wait(limit_ns):
                overran.append(True)
                _kill_group(child)

        watcher = rt.spawn(watch_deadline, name="deadline")
        try:
            result = _converse(child, scenario, policy, progress)
            if result is None:
                if overran:
                    raise RunError(f"the run gave no result within {limit_ns // NS_PER_S} s and was ended")
                raise RunError(f"the run's process {_ending(child.wait())}: {_last_line(stderr)}")
            return result
        finally:
            _end(child)
            ended.set()
            watcher.join()


def deadline_ns(scenario: Scenario, policy: ResizePolicy) -> int:
    """An upper bound for a run's whole time, the watchdog's and drains' times included, and half a minute for the
    machine."""
    steps = max(1, len(scenario.workers) - 1)
    own_ms = (
        scenario.warm_ms
        + scenario.after_ms
        + scenario.settle_ms
        + scenario.pause_ms * steps
        + scenario.restart_after_ms
    )
    waits_ms = scenario.watchdog_ms + policy.drain_timeout_ms * (steps + 1)
    queries_ns = scenario.longest_query_ns * (2 + scenario.clients)
    return round((own_ms + waits_ms) * NS_PER_MS) + queries_ns + 30 * NS_PER_S


def _converse(
    child: subprocess.Popen[bytes], scenario: Scenario, policy: ResizePolicy, progress: Callable[[str], None] | None
) -> Result | None:
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        child.stdin.write(json.dumps({"scenario": scenario.to_json(), "policy": policy.to_json()}).encode() + b"\n")
        child.stdin.flush()
    except BrokenPipeError:
        return None
    for line in child.stdout:
        if not line.endswith(b"\n"):
            return None  # it died in the middle of a line
        message = json.loads(line)
        if "result" in message:
            return Result.from_json(message["result"])
        if "error" in message:
            raise RunError(message["error"])
        if progress is not None:
            progress(message["progress"])
    return None


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _last_line(stderr: IO[bytes]) -> str:
    stderr.seek(0)
    lines = stderr.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # it has ended, and so has whatever it started


def _end(child: subprocess.Popen[bytes]) -> None:
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            with suppress(BrokenPipeError):  # closing sends what a write could not
                stream.close()
    try:
        child.wait(ENDING_S)
    except subprocess.TimeoutExpired:
        _kill_group(child)
        child.wait()
