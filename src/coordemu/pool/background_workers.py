"""BackgroundWorkers: a few tasks that come when there is work and go when there is none.

Role: what hooks hand connections to. Work waits in a queue with a bound; who finds it full is told. A worker ends when
the queue is empty, so that nothing is left of a pool that is at rest.

Thread: `submit` any; the work runs on the workers' tasks. Upstream: handoffWorkerManager (maintnotifications), whose
workers stay 15 s without work. Left out: waiting for room (upstream waits 100 ms). Bounds: `size` tasks, `max_queued`
items.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from coordemu.pool.pooled_conn import PooledConn
from coordemu.runtime.base import Runtime


class BackgroundWorkers:
    """At most `size` tasks (1 or more) that call `work` with a connection each. max_queued: 1 or more."""

    def __init__(
        self, rt: Runtime, name: str, work: Callable[[PooledConn], object], size: int, max_queued: int
    ) -> None:
        if size < 1 or max_queued < 1:
            raise ValueError(f"{name}: {size} workers, {max_queued} queued")
        self.name = name
        self._rt = rt
        self._work = work
        self._size = size
        self._max_queued = max_queued
        self._lock = rt.lock(name)
        self._queue: deque[PooledConn] = deque()
        self._running = 0
        self._done = 0
        self._refused = 0
        self._failed = 0

    def submit(self, conn: PooledConn) -> bool:
        """Have a worker see to it. False: the queue is full. Thread: any. Never blocks for long."""
        with self._lock:
            if len(self._queue) >= self._max_queued:
                self._refused += 1
                return False
            self._queue.append(conn)
            start = self._running < self._size
            self._running += start
        if start:
            self._rt.spawn(self._run, name=self.name)
        return True

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._queue:
                    self._running -= 1
                    return
                conn = self._queue.popleft()
            failed = True
            try:
                self._work(conn)
                failed = False
            finally:
                with self._lock:
                    self._done += 1
                    self._failed += failed
                    # What the work lets out ends this task; another is started for what still waits.
                    self._running -= failed

    @property
    def busy(self) -> bool:
        """Whether a worker runs."""
        return self._running > 0

    def statistics(self) -> dict[str, int]:
        """queued, running; done, refused and failed since the start. Thread: any."""
        with self._lock:
            return {
                "queued": len(self._queue),
                "running": self._running,
                "done": self._done,
                "refused": self._refused,
                "failed": self._failed,
            }

    def __repr__(self) -> str:
        return f"<BackgroundWorkers {self.name!r} {self._running} running, {len(self._queue)} queued>"
