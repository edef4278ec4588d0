"""Thpool: the thread pool, three priority queues and a number of threads that can change while it works.

Role: `WorkersThreadPool` owns the one pool of the coordinator; the host submits queries to it, and ``CONFIG SET
WORKERS`` changes its size. The parts: `thpool_queue` (which job next), `thpool_state` (what is shared, under one
lock), `thpool_thread` (a thread's life), `thpool_admin` (how a thread is told), `thpool_crew` (starting and telling
threads), `thpool_reading` (the numbers), `thpool_resizing` (more threads or fewer). This file is the rest:
submitting, pausing, waiting, the end.

Creating a pool starts no thread; the first job does (lazy initialisation). Push, look at the state and decide are one
critical section, and INITIALIZED is published in it, before any thread is up: a second submitter then only pushes. A
pool whose threads were all told to leave when the queues are empty is UNINITIALIZED again while they still work; the
next push *revives* it, with whatever is left of them.

Where the port departs from upstream, and why: threads that have been told to leave now and are still there are not
counted as threads that a revival can tell to run on (upstream's revival counts every living thread, which makes a
barrier of more than will ever come: reduce some, reduce the rest, grow, push, all while the threads are busy; we have
read that, not run it); a push to a pool of 0 threads starts and tells nobody. Both are marked where they stand.

Thread: any may submit and read; changes of size come from one thread at a time (upstream: the main thread).
Upstream: deps/thpool/thpool.c. Left out: allocation failures. The queues have no bound, as upstream's have none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from coordemu.coord.history import NO_WORKER_MARK, STATE_READ_OUTSIDE_LOCK
from coordemu.coord.thpool_admin import Broadcast, Starts, ThpoolError, ThreadState
from coordemu.coord.thpool_queue import LOW, Job
from coordemu.coord.thpool_resizing import POLL_NS, ThpoolResizing
from coordemu.coord.thpool_state import DESTROYED, INITIALIZED, UNINITIALIZED, Log
from coordemu.runtime.base import NS_PER_MS, Runtime

WAIT_MS = 100


@dataclass(frozen=True, slots=True)
class Startup:
    """What a push that found the pool UNINITIALIZED has to do once the lock is free.

    broadcast: to wait at, None when nobody was told.  starts: threads to bring up, None for none.  wait: the caller
    waits for both.  undecided: nothing was decided under the lock (fault "state-read-outside-lock").
    """

    broadcast: Broadcast | None
    starts: Starts | None
    wait: bool
    undecided: bool = False


class Thpool(ThpoolResizing):
    """A pool of threads.

    rt: the runtime.  n_threads: wanted, 0 or more; none is started yet.  num_high_priority_bias: how many
    high-priority jobs may run before high and low take turns, 0 or more.  log: called with (level, line), from any
    thread; levels "debug", "verbose", "notice", "warning".  name: the first 10 characters are kept.
    faults: historical faults that are on, see `coordemu.coord.history`.
    Raises ValueError for a number below 0.  Thread: any.  Upstream: redisearch_thpool_create, deps/thpool/thpool.c.
    """

    def __init__(
        self,
        rt: Runtime,
        n_threads: int,
        num_high_priority_bias: int,
        log: Log,
        name: str,
        faults: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(rt, n_threads, num_high_priority_bias, log, name)
        self._faults = faults

    # --- work -------------------------------------------------------------------------------------------------------

    def add_work(self, fn: Callable[[Any], object], arg: Any, priority: str = LOW) -> None:
        """Queue ``fn(arg)``; the first job starts the threads.

        priority: "low" or "high".  Raises ValueError for another, ThpoolError when destroyed.  Thread: any.
        May block: only when the pool is UNINITIALIZED, until its threads have been revived or started; never a worker
        of this pool.  On a paused pool whose threads have yet to hear that they leave, that lasts until somebody
        resumes it.
        Upstream: redisearch_thpool_add_work, deps/thpool/thpool.c.
        """
        pool = self._pool
        queue = pool.queues.queue_of(priority)
        lock = pool.lock
        startup = None
        lock.acquire()
        try:
            if pool.state.value != INITIALIZED:
                startup = self._verify_init_locked()
            queue.append((fn, arg))
            if pool.sleepers:
                pool.sleepers -= 1
                pool.has_jobs.notify()
        finally:
            lock.release()
        if startup is not None:
            self._carry_out(startup)

    def add_n_work(self, jobs: Iterable[Job], priority: str = LOW) -> None:
        """Queue several (fn, arg) in order, as one step; no job, no effect. Otherwise as `add_work`.

        Upstream: redisearch_thpool_add_n_work, deps/thpool/thpool.c.
        """
        pool = self._pool
        queue = pool.queues.queue_of(priority)
        batch = list(jobs)
        if not batch:
            return
        startup = None
        with pool.lock:
            if pool.state.value != INITIALIZED:
                startup = self._verify_init_locked()
            queue.extend(batch)
            pool.wake_locked(len(batch))
        if startup is not None:
            self._carry_out(startup)

    def _verify_init_locked(self) -> Startup | None:
        """Decide how an UNINITIALIZED pool comes to its threads, and publish INITIALIZED.

        Upstream: redisearch_thpool_verify_init, deps/thpool/thpool.c. Two departures. Upstream sends an admin job to
        every thread that is alive; one that has been told to leave now will not come for it, so here it is not
        counted. And with 0 threads wanted upstream would tell those alive to leave at once, over the job just pushed;
        here they go on draining, and a job that nobody is left for waits until the pool has threads and a push.
        """
        pool = self._pool
        if pool.state.value == DESTROYED:
            raise ThpoolError(f"{pool.name}: the pool has been destroyed")
        wanted, alive = pool.num_threads, pool.free_threads_locked()
        if wanted == 0:
            return None
        wait = pool.rt.current().ident not in pool.member_tasks or NO_WORKER_MARK in self._faults
        if STATE_READ_OUTSIDE_LOCK in self._faults:
            return Startup(None, None, wait, undecided=True)
        pool.state.value = INITIALIZED
        broadcast = None
        if alive:
            again = min(alive, wanted)
            states = [ThreadState.RUNNING] * again + [ThreadState.TERMINATE_ASAP] * (alive - again)
            broadcast = self._crew.broadcast_locked("run again", states, caller_waits=wait, every=True)
        starts = self._crew.reserve_locked(wanted - alive) if alive < wanted else None
        return Startup(broadcast, starts, wait)

    def _verify_init_outside(self, wait: bool) -> None:
        """Fault "state-read-outside-lock": decide after the push, without the lock; INITIALIZED comes last.

        Upstream: redisearch_thpool_verify_init before PR 10671, deps/thpool/thpool.c. A thread is alive there from its
        first instruction.
        """
        pool, crew = self._pool, self._crew
        if pool.state.value == INITIALIZED:
            return
        wanted, alive = pool.num_threads, len(pool.member_tasks)
        if alive:
            again = min(alive, wanted)
            states = [ThreadState.RUNNING] * again + [ThreadState.TERMINATE_ASAP] * (alive - again)
            with pool.lock:
                broadcast = crew.broadcast_locked("run again", states, caller_waits=wait, every=False)
            if wait:
                broadcast.wait()
        if alive < wanted:
            with pool.lock:
                starts = crew.reserve_locked(wanted - alive)
            crew.bring_up(starts, wait)
        pool.state.value = INITIALIZED

    def _carry_out(self, startup: Startup) -> None:
        if startup.undecided:
            self._verify_init_outside(startup.wait)
            return
        pool, broadcast, starts = self._pool, startup.broadcast, startup.starts
        told = broadcast.num_jobs if broadcast else 0
        new = len(starts.threads) if starts else 0
        pool.rt.trace("redisearch_thpool_verify_init", "Thpool.add_work", f"{told} threads told, {new} new ones")
        if broadcast is not None and startup.wait:
            broadcast.wait()
        if starts is not None:
            self._crew.bring_up(starts, startup.wait)
        pool.log("verbose", f"{pool.name}: initialised, {told} threads told, {new} new ones")

    # --- pausing, waiting, the end ----------------------------------------------------------------------------------

    def pause_threads(self) -> None:
        """Have no more jobs pulled, and wait until none is in progress, polling every 1 us. May block.

        Threads that leave when the queues are empty go on all the same.  Upstream: redisearch_thpool_pause_threads,
        deps/thpool/thpool.c.
        """
        pool = self._pool
        self.pause_threads_no_wait()
        in_progress = pool.num_jobs_in_progress
        why = f"{pool.name}: nothing in progress"
        pool.rt.poll_until(lambda: in_progress.value == 0, POLL_NS, why, owed_by=pool.who_works)

    def pause_threads_no_wait(self) -> None:
        """Have no more jobs pulled; those in progress go on. Never blocks.

        The caller counts as the one who owes the resume. Upstream: redisearch_thpool_pause_threads_no_wait,
        deps/thpool/thpool.c.
        """
        pool = self._pool
        with pool.lock:
            pool.paused_by = pool.rt.current()
            pool.paused = True

    def resume_threads(self) -> None:
        """Let jobs be pulled again, and wake all. Raises ThpoolError when not paused. Never blocks.

        Upstream: redisearch_thpool_resume_threads, deps/thpool/thpool.c.
        """
        pool = self._pool
        with pool.lock:
            if not pool.paused:
                raise ThpoolError(f"{pool.name}: the pool is not paused")
            self._unpause_locked()

    def _unpause_locked(self) -> None:
        pool = self._pool
        pool.paused = False
        pool.paused_by = None
        pool.wake_all_locked()

    def drain(self, timeout_ms: int, yield_cb: Callable[[Any], object] | None, ctx: Any, threshold: int) -> None:
        """While more than `threshold` jobs are queued or in progress: sleep timeout_ms, then call ``yield_cb(ctx)``.

        timeout_ms: 1 or more.  yield_cb: None to only wait.  threshold: 0 or more.  Raises ValueError otherwise.  May
        block: for ever on a paused pool.  Upstream: redisearch_thpool_drain, deps/thpool/thpool.c.
        """
        if timeout_ms < 1 or threshold < 0:
            raise ValueError(f"timeout_ms {timeout_ms} must be 1 or more, threshold {threshold} 0 or more")
        rt, pool = self._pool.rt, self._pool
        why = f"{pool.name}: {threshold or 'no'} jobs left"
        interval_ns = timeout_ms * NS_PER_MS

        def few_enough() -> bool:
            return self.incomplete_jobs <= threshold

        if yield_cb is None:
            rt.poll_until(few_enough, interval_ns, why, owed_by=pool.who_works)
            return
        while not few_enough():
            rt.poll_until(few_enough, interval_ns, why, timeout_ns=interval_ns, owed_by=pool.who_works)
            yield_cb(ctx)

    def wait(self) -> None:
        """Wait until no job is queued or in progress, looking every 100 ms. May block.

        Upstream: redisearch_thpool_wait, deps/thpool/thpool.c.
        """
        self.drain(WAIT_MS, None, None, 0)

    def terminate_threads(self) -> None:
        """End the pause if there is one, have every thread leave after its current job, wait until all have, then
        UNINITIALIZED.

        Queued jobs stay queued; the next push starts threads for them.  Raises ThpoolError in a worker of this pool.
        May block.
        Upstream: redisearch_thpool_terminate_threads, deps/thpool/thpool.c.
        """
        pool = self._pool
        broadcast = None
        with pool.lock:
            if pool.rt.current().ident in pool.member_tasks:
                raise ThpoolError(f"{pool.name}: a worker can't end its own pool")
            queued = pool.queues.length_locked()
            self._unpause_locked()
            if num_jobs := pool.free_threads_locked():
                states = [ThreadState.TERMINATE_ASAP] * num_jobs
                broadcast = self._crew.broadcast_locked("terminate threads", states, caller_waits=True, every=True)
        if queued:
            pool.log("warning", f"{pool.name}: threads end while {queued} jobs are queued")
        if broadcast is not None:
            broadcast.wait()
        self.wait_until_alive(0)
        with pool.lock:
            if pool.state.value == INITIALIZED:
                pool.state.value = UNINITIALIZED

    def destroy(self) -> None:
        """Wait until the jobs are done, end the threads, throw away what nobody is left to do. Idempotent. May block.

        A paused pool, or one without threads, is not waited for: its jobs would never be done.
        Upstream: redisearch_thpool_destroy, deps/thpool/thpool.c.
        """
        pool = self._pool
        if not pool.paused and pool.num_threads_alive.value:
            self.wait()
        self.terminate_threads()
        with pool.lock:
            pool.state.value = DESTROYED
            dropped = pool.queues.clear_locked()
            ended = pool.ended
            pool.ended = []
        if dropped:
            pool.log("warning", f"{pool.name}: {dropped} jobs were never run")
        for task in ended:
            task.join()
