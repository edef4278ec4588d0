"""WorkersThreadPool: the one pool of worker threads, sized by the configuration.

Role: between the setter of WORKERS (`coordemu.coord.config`) and the thread pool (`coordemu.coord.thpool`). It
compares the number that is wanted with the number that the pool has, and chooses the operation; it says so in the
log; and it drains the pool in a way that lets the server answer PING meanwhile.

How the difference is carried out is the `reduce` argument:

    wanted        "sync" (before PR 7410)                      "async" (PR 7410)
    0, from n     terminate_when_empty, remove_threads(n)      schedule_config_reduce_threads_job(n, when_empty)
    fewer         remove_threads(difference)                   schedule_config_reduce_threads_job(difference)
    more          add_threads(difference)                      add_threads(difference)

A third, "by-number", is not upstream's: it needs a pool of its own (`coordemu.coord.thpool_by_number`), in which every
change is one number stored, up or down, paused or not, and nobody waits.

Thread: main, but for `add_work`, the numbers and `threads` (any).
Upstream: src/util/workers.c. Left out: the notice to the vector library of the pool's size, the deferred shrink after
an operation and that of a paused pool (both 2026; a paused pool refuses to shrink here), MIN_MAINTENANCE_WORKERS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from coordemu.coord.config import Config
from coordemu.coord.history import SYNC_REDUCE
from coordemu.coord.thpool import Thpool
from coordemu.coord.thpool_admin import ThpoolError, ThpoolPaused
from coordemu.coord.thpool_by_number import ThpoolByNumber
from coordemu.coord.thpool_queue import HIGH
from coordemu.coord.thpool_state import Log
from coordemu.coord.thpool_stats import ThpoolStats
from coordemu.runtime.base import Runtime, Task

POOL_NAME = "workers"
DRAIN_YIELD_MS = 100
YIELDS_PER_LOG = 10

REDUCE_SYNC = "sync"
REDUCE_ASYNC = "async"
REDUCE_BY_NUMBER = "by-number"


class WorkersThreadPool:
    """The workers.

    rt: the runtime.  config: WORKERS and MIN_OPERATION_WORKERS are read at each change, the tickets once.  log:
    called with (level, line) from any thread.  yield_cb: lets the server process client commands, called with the
    drain's ctx; None: the drain only waits.  by_number: have the pool whose threads obey a number.  faults: historical
    faults that are on (`coordemu.coord.history`); with any of them the pool is upstream's.
    Upstream: workersThreadPool_CreatePool, src/util/workers.c.
    """

    def __init__(
        self,
        rt: Runtime,
        config: Config,
        log: Log,
        yield_cb: Callable[[Any], object] | None = None,
        by_number: bool = False,
        faults: frozenset[str] = frozenset(),
    ) -> None:
        self._rt = rt
        self._config = config
        self._log = log
        self._yield_cb = yield_cb
        self._yields = 0
        self._events = 0
        self._changes = 0
        self.faults = faults
        size, tickets = config.workers, config.workers_priority_bias_threshold
        self._by_number = ThpoolByNumber(rt, size, tickets, log, POOL_NAME) if by_number and not faults else None
        self._pool: Thpool = self._by_number or Thpool(rt, size, tickets, log, POOL_NAME, faults)
        if config.workers:
            log("notice", f"workers threadpool enabled, size {config.workers}")
        else:
            log("notice", "workers threadpool disabled, size 0")

    def __repr__(self) -> str:
        return f"<WorkersThreadPool {self._pool!r} events={self._events}>"

    @property
    def pool(self) -> Thpool:
        """The pool itself."""
        return self._pool

    @property
    def by_number(self) -> bool:
        """Whether the pool's threads obey a number, rather than admin jobs."""
        return self._by_number is not None

    @property
    def num_threads(self) -> int:
        """Threads wanted. Upstream: workersThreadPool_NumThreads."""
        return self._pool.num_threads

    @property
    def num_threads_alive(self) -> int:
        """Threads that exist, those that are to leave included."""
        return self._pool.num_threads_alive

    @property
    def num_jobs_in_progress(self) -> int:
        """Upstream: workersThreadPool_WorkingThreadCount."""
        return self._pool.num_jobs_in_progress

    @property
    def paused(self) -> bool:
        """Upstream: workerThreadPool_isPaused."""
        return self._pool.paused

    @property
    def in_operation_event(self) -> bool:
        """Whether an operation event is open."""
        return self._events > 0

    def threads(self) -> Sequence[Task]:
        """The threads that exist now. Thread: any. Never blocks."""
        return self._pool.tasks()

    def stats(self) -> ThpoolStats:
        """The pool's numbers in one reading. Upstream: workersThreadPool_getStats."""
        return self._pool.get_stats()

    def statistics(self) -> dict[str, int | str | bool]:
        """The pool's statistics, and: changes (of size), events (open), yields (of the drain under way)."""
        return {**self._pool.statistics(), "changes": self._changes, "events": self._events, "yields": self._yields}

    def target_num_workers(self) -> int:
        """The number wanted now: WORKERS, and while an operation event is open no less than MIN_OPERATION_WORKERS.

        Upstream: targetNumWorkers, src/util/workers.c.
        """
        workers = self._config.workers
        return max(workers, self._config.min_operation_workers) if self._events else workers

    def set_num_workers(self, reduce: str = REDUCE_ASYNC) -> int:
        """Bring the pool to the number wanted. Returns that number.

        reduce: "sync", "async" or "by-number", see the table above; ValueError otherwise.  A pool by number is changed
        in its own way whatever is said here; upstream's takes "by-number" for "async", and fault "sync-reduce" makes
        everything "sync".  Raises ThpoolPaused when threads would have to go from a paused pool of upstream's; nothing
        is changed then.  Thread: main.  May block, but for a pool by number: growing until the new threads run;
        shrinking only with "sync", until every thread concerned has finished its current job.
        Upstream: workersThreadPool_SetNumWorkers, src/util/workers.c.
        """
        if reduce not in (REDUCE_SYNC, REDUCE_ASYNC, REDUCE_BY_NUMBER):
            raise ValueError(f"reduce {reduce!r} is none of {REDUCE_SYNC!r}, {REDUCE_ASYNC!r}, {REDUCE_BY_NUMBER!r}")
        if SYNC_REDUCE in self.faults:
            reduce = REDUCE_SYNC
        pool, by_number = self._pool, self._by_number
        how = reduce if by_number is None else REDUCE_BY_NUMBER
        wanted, now = self.target_num_workers(), pool.num_threads
        if wanted == now:
            return now
        if wanted < now and pool.paused and pool.is_initialized and by_number is None:
            raise ThpoolPaused("the workers are paused: their number can't be reduced")
        what = f"{now} -> {wanted}, {how}"
        self._rt.trace("workersThreadPool_SetNumWorkers", "WorkersThreadPool.set_num_workers", what)
        self._log("notice", f"changing the workers threadpool from {now} to {wanted} threads")
        self._changes += 1
        if by_number is not None:
            by_number.set_num_threads(wanted)
        elif wanted > now:
            pool.add_threads(wanted - now)
        elif reduce == REDUCE_SYNC:
            if wanted == 0:
                pool.terminate_when_empty()
            pool.remove_threads(now - wanted)
        else:
            pool.schedule_config_reduce_threads_job(now - wanted, when_empty=wanted == 0)
        if wanted == 0:
            self._log("notice", f"workers threadpool disabled, size was {now}")
        elif now == 0:
            self._log("notice", f"workers threadpool enabled, size {wanted}")
        return wanted

    def add_work(self, fn: Callable[[Any], object], arg: Any, priority: str = HIGH) -> None:
        """Queue ``fn(arg)``; as `Thpool.add_work`, high priority unless said otherwise.

        Thread: any. May block: when the pool has to be started or revived. Upstream: workersThreadPool_AddWork.
        """
        self._pool.add_work(fn, arg, priority)

    def drain(self, threshold: int = 0, ctx: Any = None) -> bool:
        """Wait until at most `threshold` jobs are left, with a yield every 100 ms. False, at once, on a paused pool.

        threshold: 0 or more, ValueError below.  ctx: handed to the yield callback.  Every tenth yield is logged.
        Thread: main. May block. Upstream: workersThreadPool_Drain, src/util/workers.c.
        """
        if self._pool.paused:
            return False
        self._log("notice", f"draining the workers threadpool down to {threshold} jobs")
        self._pool.drain(DRAIN_YIELD_MS, self._yield, ctx, threshold)
        self._yields = 0
        return True

    def _yield(self, ctx: Any) -> None:
        self._yields += 1
        if self._yields % YIELDS_PER_LOG == 0:
            self._log("verbose", f"yield {self._yields} while the workers finish, one every {DRAIN_YIELD_MS} ms")
        if self._yield_cb is not None:
            self._yield_cb(ctx)

    def pause(self, wait: bool = True) -> None:
        """Have the threads take no more jobs. wait: until none is in progress (may block).

        Raises ThpoolError when there are no workers, or when paused already.
        Thread: main. Upstream: workersThreadPool_pause, a debug command.
        """
        if self._pool.num_threads == 0:
            raise ThpoolError("there are no workers to pause")
        if self._pool.paused:
            raise ThpoolError("the workers are paused already")
        if wait:
            self._pool.pause_threads()
        else:
            self._pool.pause_threads_no_wait()

    def resume(self) -> None:
        """Have the threads take jobs again. Raises ThpoolError when not paused.

        Not refused for 0 workers, as upstream's is not: what is paused can be resumed.  Thread: main. Never blocks.
        Upstream: workersThreadPool_resume, a debug command.
        """
        if not self._pool.paused:
            raise ThpoolError("the workers are not paused")
        self._pool.resume_threads()

    def operation_event_begin(self, reduce: str = REDUCE_ASYNC) -> int:
        """An operation such as an RDB load begins; events may overlap. Returns the number of workers wanted now.

        Thread: main. May block, as `set_num_workers`. Upstream: workersThreadPool_OnEventStart.
        """
        self._events += 1
        return self.set_num_workers(reduce)

    def operation_event_end(self, reduce: str = REDUCE_ASYNC) -> int:
        """One such operation has ended. Returns the number of workers wanted now.

        Raises ThpoolError when none is open; ThpoolPaused, and the event stays open, when a paused pool would have to
        shrink.
        Thread: main. May block, as `set_num_workers`. Upstream: workersThreadPool_OnEventEnd.
        """
        if not self._events:
            raise ThpoolError("no operation event is open")
        self._events -= 1
        try:
            return self.set_num_workers(reduce)
        except ThpoolError:
            self._events += 1
            raise

    def destroy(self) -> None:
        """Wait for the jobs, end the threads. Idempotent. Thread: main. May block. Upstream:
        workersThreadPool_Destroy.
        """
        self._pool.destroy()
