"""Dividing a search between processes of this machine, or doing it in this one, piece by piece.

Role: `explore_here` and `explore_in_processes` carry out a `Work` and merge what comes back, so that the result is the
same whatever the division. Ctrl-C or a time limit is a function `stop` that is asked between pieces: then no more are
given out, those under way end after the order they are at, and what was found is kept.

A worker is a child process (`worker_main`) that talks in lines of JSON over its pipes, in a session of its own, so that
Ctrl-C reaches this process alone. Its stdin is the tie: when this process ends in whatever way, so does the worker. One
that dies is replaced, and its piece given out again (`ranges`).

Thread: the caller's; blocks for the length of the search. Upstream: none. Left out: other machines (`dask_jobs`).
Bound: a piece per worker is under way.
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
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from coordemu.explore.order import Subject
from coordemu.explore.ranges import Explored, JobsError, Piece, Work
from coordemu.explore.search import SearchResult, search_range
from coordemu.runtime.threads import ThreadsRuntime

MAX_JOBS = 256
# How often the stop is asked for while workers work.
LOOK_S = 0.1
# How long a worker that was told to stop may take to end the order that it is at.
LAST_ORDER_S = 5.0
ENDING_S = 2.0
MAX_FALSE_STARTS = 2

Stop = Callable[[], bool]
Progress = Callable[[SearchResult], None]


def never() -> bool:
    """For who is never asked to stop."""
    return False


def explore_here(
    work: Work,
    subject: Subject | None = None,
    stop: Stop = never,
    progress: Progress | None = None,
    size: int | None = None,
) -> Explored:
    """Carry it out in this process. subject: instead of what the factory makes.  progress: called with all so far.

    size: orders in a piece, 1 or more; None: as fits. Raises JobsError, and ValueError for an unknown strategy. Blocks.
    """
    played = subject or work.make_subject()
    now_ns = ThreadsRuntime().now_ns
    ranges = work.ranges(1, size)
    while not stop() and (piece := ranges.take()) is not None:
        began_ns = now_ns()
        result = search_range(played, work.strategy, work.seed, piece.first, piece.count, work.length, stop=stop)
        ranges.came_back(piece, result, now_ns() - began_ns)
        if progress is not None:
            progress(ranges.result)
    return ranges.explored()


def explore_in_processes(
    work: Work, jobs: int, stop: Stop = never, progress: Progress | None = None, size: int | None = None
) -> Explored:
    """Carry it out in `jobs` child processes, 1 to 256 (ValueError). Otherwise as `explore_here`.

    Raises JobsError also when workers can't start. Leaves no process behind. Blocks.
    """
    if not 1 <= jobs <= MAX_JOBS:
        raise ValueError(f"jobs {jobs} is not within 1..{MAX_JOBS}")
    crew = _Crew(work, jobs, size)
    try:
        return crew.carry_out(stop, progress)
    finally:
        crew.end()


class _Worker:
    """One child process, and the piece that it has."""

    def __init__(self, work: Work) -> None:
        self.piece: Piece | None = None
        self.ready = False
        self._rest = b""
        descriptor, path = tempfile.mkstemp(prefix="coordemu-worker-")
        os.unlink(path)
        self._stderr = os.fdopen(descriptor, "w+b")
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "coordemu.explore.worker_main"],
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            start_new_session=True,
            bufsize=0,
        )
        assert self.process.stdout is not None
        self.outlet = self.process.stdout.fileno()
        self.say(
            {
                "subject": dict(work.subject),
                "factory": work.factory,
                "strategy": work.strategy,
                "seed": work.seed,
                "length": work.length,
                "path": sys.path,
            }
        )

    def say(self, message: dict[str, Any]) -> None:
        """One line to it; nothing when it has died, which its outlet will show."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(message).encode() + b"\n")

    def hear(self) -> list[dict[str, Any]] | None:
        """What it said since, None when it has ended. Blocks unless its outlet is readable."""
        data = os.read(self.outlet, 1 << 18)
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def how_it_ended(self) -> str:
        """In words. Blocks until it has."""
        code = self.process.wait()
        self._stderr.seek(0)
        said = self._stderr.read().decode(errors="replace").strip().splitlines()
        last = f": {said[-1]}" if said else ""
        if code >= 0:
            return f"a worker ended with code {code}{last}"
        with suppress(ValueError):
            return f"a worker was killed by {signal.Signals(-code).name}{last}"
        return f"a worker was killed by signal {-code}{last}"

    def end(self) -> None:
        """By the end of its stdin, or else by force."""
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()
        try:
            self.process.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        finally:
            self._stderr.close()


class _Crew:
    """The workers of one search."""

    def __init__(self, work: Work, jobs: int, size: int | None) -> None:
        self._work = work
        self._jobs = jobs
        self._ranges = work.ranges(jobs, size)
        self._workers: list[_Worker] = []
        self._false_starts = 0

    def carry_out(self, stop: Stop, progress: Progress | None) -> Explored:
        self._workers += [_Worker(self._work) for _ in range(self._jobs)]
        stopped_at_ns = 0
        now_ns = ThreadsRuntime().now_ns
        while True:
            if not stopped_at_ns and stop():
                stopped_at_ns = now_ns()
                for worker in self._workers:
                    worker.say({"stop": True})
            if stopped_at_ns and (not self._ranges.out or now_ns() - stopped_at_ns > LAST_ORDER_S * 1e9):
                return self._ranges.explored()
            if not stopped_at_ns and not self._give_out():
                return self._ranges.explored()
            ready = wait([worker.outlet for worker in self._workers], LOOK_S)
            for worker in [worker for worker in self._workers if worker.outlet in ready]:
                if self._listen(worker, replace=not stopped_at_ns) and progress is not None:
                    progress(self._ranges.result)

    def _give_out(self) -> bool:
        """Give a piece to each that has none. Whether anything is still under way."""
        for worker in self._workers:
            if worker.ready and worker.piece is None:
                worker.piece = self._ranges.take()
                if worker.piece is None:
                    break
                worker.say({"first": worker.piece.first, "count": worker.piece.count})
        if self._ranges.out:
            return True
        # Nobody works: is anybody about to, and is there anything to do?
        return self._ranges.left and any(not worker.ready for worker in self._workers)

    def _listen(self, worker: _Worker, replace: bool) -> bool:
        """What it has to say. Whether results have come."""
        messages = worker.hear()
        if messages is None:
            self._bury(worker, replace)
            return False
        came = False
        for message in messages:
            if "error" in message:
                raise JobsError(message["error"])
            if "result" in message:
                assert worker.piece is not None
                piece, worker.piece = worker.piece, None
                self._ranges.came_back(piece, SearchResult.from_json(message["result"]), message["took_ns"])
                came = True
            else:
                worker.ready = True
        return came

    def _bury(self, worker: _Worker, replace: bool) -> None:
        self._workers.remove(worker)
        why = worker.how_it_ended()
        worker.end()
        if worker.piece is not None:
            self._ranges.died(worker.piece, why)
        elif not worker.ready:
            self._false_starts += 1
            if self._false_starts > MAX_FALSE_STARTS:
                raise JobsError(why)
        if replace:
            self._workers.append(_Worker(self._work))

    def end(self) -> None:
        for worker in self._workers:
            if worker.process.poll() is None and worker.piece is not None:
                worker.process.kill()  # in the middle of an order that nobody waits for
        while self._workers:
            self._workers.pop().end()


def _environment() -> dict[str, str]:
    source = str(Path(__file__).resolve().parents[2])
    if os.path.basename(source) in ("site-packages", "dist-packages"):
        return dict(os.environ)
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))}
