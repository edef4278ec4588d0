"""Dividing a search between the machines of a dask.distributed cluster.

Role: the same as `jobs.explore_in_processes`, with the same result, for who has a cluster. Each piece is one of its
tasks, one per thread is under way, and a piece whose worker dies is handed to another one by the scheduler. One that
has twice outlived as many workers as the cluster allows is put down as lost. The workers must have coordemu installed,
in the same version.

Thread: the caller's, and dask's own; blocks for the length of the search. Upstream: none. Left out: starting a cluster.
Needs the extra ``coordemu[dask]``; nothing else does.
"""

from __future__ import annotations

import logging
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from coordemu import __version__
from coordemu.explore.jobs import Progress, Stop, never
from coordemu.explore.ranges import Explored, JobsError, Piece, Work
from coordemu.explore.search import SearchResult, search_range
from coordemu.runtime.base import NS_PER_S
from coordemu.runtime.threads import ThreadsRuntime

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECT_LIMIT_S = 10
LOOK_S = 0.2
# How long pieces under way may take after a stop.
LAST_PIECES_NS = 5 * NS_PER_S
# How long a cluster may be without any worker: it may only now be growing.
NO_WORKERS_LIMIT_NS = 30 * NS_PER_S

_rt = ThreadsRuntime()
# A cluster's worker process may have many threads. They would only take the interpreter from each other, and the rest
# that the garbage collector is given while an order is played is the whole process'.
_one_at_a_time = _rt.lock("a search on a dask worker")


class DaskError(JobsError):
    """There is no dask here, or no cluster there; one line for the user."""


def search_piece(version: str, work: Work, first: int, count: int) -> dict[str, Any]:
    """What a cluster's worker does: {"result": …, "took_ns": …} or {"error": one line}. Blocks."""
    if version != __version__:
        return {"error": f"a dask worker has coordemu {__version__}, this is {version}"}
    with _one_at_a_time:
        began_ns = _rt.now_ns()
        try:
            result = search_range(work.make_subject(), work.strategy, work.seed, first, count, work.length)
        except (JobsError, ValueError) as err:
            return {"error": str(err)}
        return {"result": result.to_json(), "took_ns": _rt.now_ns() - began_ns}


def explore_on_dask(
    work: Work, address: str, stop: Stop = never, progress: Progress | None = None, size: int | None = None
) -> Explored:
    """Carry it out on the cluster whose scheduler listens at `address` ("tcp://host:8786"). Otherwise as
    `explore_in_processes`.

    When it is asked to stop, pieces under way have five seconds to end. Raises DaskError and JobsError. Blocks.
    """
    try:
        from distributed import Client
    except ImportError:
        raise DaskError("--dask needs dask.distributed: pip install 'coordemu[dask]'") from None
    # What goes wrong is said in one line, here.
    logger = logging.getLogger("distributed.client")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        client = Client(address, timeout=CONNECT_LIMIT_S, set_as_default=False)
        try:
            return _Cluster(work, client, size).carry_out(stop, progress)
        finally:
            client.close()
    except (OSError, ValueError, TypeError) as err:
        raise DaskError(f"no dask scheduler at {address!r}: {_one_line(err)}") from None
    finally:
        logger.setLevel(level)


class _Cluster:
    """One search on a cluster."""

    def __init__(self, work: Work, client: Client, size: int | None) -> None:
        self._work = work
        self._client = client
        self._ranges = work.ranges(1, size)
        self._pieces: dict[Future[dict[str, Any]], Piece] = {}
        # Those of them that have ended, in whatever way; dask's own thread puts them here.
        self._ended: SimpleQueue[Future[dict[str, Any]]] = SimpleQueue()
        self._had_workers_at_ns = _rt.now_ns()

    def carry_out(self, stop: Stop, progress: Progress | None) -> Explored:
        stopped_at_ns = 0
        try:
            while True:
                if not stopped_at_ns and stop():
                    stopped_at_ns = _rt.now_ns()
                threads = self._threads()
                if not stopped_at_ns:
                    self._give_out(threads)
                if not self._pieces or (stopped_at_ns and _rt.now_ns() - stopped_at_ns > LAST_PIECES_NS):
                    return self._ranges.explored()
                if self._listen() and progress is not None:
                    progress(self._ranges.result)
        except _ClusterGone as gone:
            if not self._ranges.result.orders:
                raise DaskError(str(gone)) from None
            return replace(self._ranges.explored(), broken_off=str(gone))

    def _threads(self) -> int:
        try:
            threads: int = sum(self._client.nthreads().values())
        except (OSError, CancelledError) as err:
            raise _ClusterGone(f"the dask cluster has gone: {_one_line(err)}") from None
        if threads:
            self._had_workers_at_ns = _rt.now_ns()
        elif _rt.now_ns() - self._had_workers_at_ns > NO_WORKERS_LIMIT_NS:
            raise _ClusterGone(f"the dask cluster has no worker for {NO_WORKERS_LIMIT_NS // NS_PER_S} s")
        return threads

    def _give_out(self, threads: int) -> None:
        self._ranges.workers = max(1, threads)
        while len(self._pieces) < self._ranges.workers:
            piece = self._ranges.take()
            if piece is None:
                return
            future = self._client.submit(search_piece, __version__, self._work, piece.first, piece.count, pure=False)
            self._pieces[future] = piece
            future.add_done_callback(self._ended.put)

    def _listen(self) -> bool:
        """Wait a little for results. Whether any have come."""
        ended = []
        with suppress(Empty):
            ended.append(self._ended.get(timeout=LOOK_S))
            while True:
                ended.append(self._ended.get_nowait())
        came = [self._take_in(future) for future in ended]
        return any(came)

    def _take_in(self, future: Future[dict[str, Any]]) -> bool:
        from distributed import KilledWorker

        try:
            answer = future.result(timeout=LOOK_S)
        except TimeoutError:
            # Its worker died with the answer: it is played again.
            future.add_done_callback(self._ended.put)
            return False
        except KilledWorker:
            # Or it only was at the same worker as one that did: once more.
            self._ranges.died(self._pieces.pop(future), "every dask worker that played it died")
            return False
        except CancelledError as err:
            raise _ClusterGone(f"the dask cluster has gone: {_one_line(err)}") from None
        except Exception as err:  # of the cluster, or a worker's that has no coordemu
            raise JobsError(f"a dask worker can't play a piece: {_one_line(err)}") from None
        if "error" in answer:
            raise JobsError(answer["error"])
        piece = self._pieces.pop(future)
        self._ranges.came_back(piece, SearchResult.from_json(answer["result"]), answer["took_ns"])
        return True


class _ClusterGone(Exception):
    """Nothing more is to be expected of the cluster."""


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
