"""thread_do: the life of one thread of the pool.

Role: pull a job, run it, pull the next, until its state says that it leaves. Its place in the chain: the main thread
submits a query, this thread runs it, and it is here that it waits for the module lock and for replies.

One critical section per job. The lock is taken once between two jobs; in it the thread reports the job that it has
finished, looks at its state, and pulls the next. So a job moves from queued to in progress, and a finished one out of
it, within the same critical section, and queued + in progress is right for whoever holds the lock. When one job
follows another the count of jobs in progress stays as it is, and is not written at all.

A thread that leaves because the queues are empty finds them empty, leaves the count of living threads and the list of
threads within one critical section: whoever counts threads under the lock, to send each an admin job, never counts
one too many.

In a pool by number (`coordemu.coord.thpool_by_number`) there are no admin jobs and no states: in the place of its state
the thread looks at the number of threads wanted. What was said of the critical section holds there too.

Thread: the pool's own; `coordemu.coord.thpool_crew` spawns it.
Upstream: thread_do, deps/thpool/thpool.c.
Left out: upstream's random number in the thread's name, its debug line per iteration.
"""

from __future__ import annotations

from typing import Any

from coordemu.coord.thpool_admin import Starts, ThreadCtx, ThreadState
from coordemu.coord.thpool_queue import KIND_ADMIN, KIND_PLAIN, KIND_TICKET
from coordemu.coord.thpool_state import PoolState


def thread_do(pool: PoolState, ctx: ThreadCtx, starts: Starts) -> None:
    """Run jobs until told to leave.

    ctx: this thread's own.  starts: the batch that it was started with, told that it runs.
    A job that raises an Exception is noted on the pool and the thread goes on; anything else ends the thread.
    Thread: a new one. May block.  Upstream: thread_do, deps/thpool/thpool.c.
    """
    with pool.lock:
        pool.enter_locked(ctx, pool.rt.current())
        starts.missing -= 1
        all_run = starts.missing == 0
    if all_run:
        starts.event.set()
    pool.log("verbose", f"thread {ctx.name} runs")
    if pool.by_number:
        _pull_while_wanted(pool, ctx)
    else:
        _pull_and_execute(pool, ctx)
    pool.log("verbose", f"thread {ctx.name} has left: {'surplus' if pool.by_number else ctx.state.value}")


def _pull_and_execute(pool: PoolState, ctx: ThreadCtx) -> None:
    running = ThreadState.RUNNING
    leave_now = ThreadState.TERMINATE_ASAP
    queues, in_progress = pool.queues, pool.num_jobs_in_progress
    pull, acquire, release, sleep = queues.pull_locked, pool.lock.acquire, pool.lock.release, pool.has_jobs.wait
    admin, high, low = queues.admin, queues.high, queues.low
    counted = False  # is a job of this thread counted as in progress?
    job: Any
    acquire()
    while True:
        # Here the lock is held, and a job that was counted is finished.
        if low and not high and not admin and queues.free_tickets and not pool.paused and ctx.state is running:
            # As `pull` would decide, without the price of a call: the usual case of a pool that has much to do.
            kind = KIND_PLAIN
            job, arg = low.popleft()
        else:
            pulled = None
            if ctx.state is not leave_now and (not pool.paused or ctx.state is not running):
                pulled = pull()
            if pulled is None:
                if counted:
                    in_progress.value -= 1
                    counted = False
                if ctx.state is not running:
                    break
                while pulled is None:
                    pool.sleepers += 1
                    sleep()
                    if not pool.paused:
                        pulled = pull()
            kind, (job, arg) = pulled
        if not counted:
            in_progress.value += 1
            counted = True
        release()
        try:
            if kind:
                job(arg)
            else:
                job.meet(ctx, arg)
        except Exception as exc:
            pool.job_failed(ctx, job, exc)
        acquire()
        if kind != KIND_ADMIN:
            pool.total_jobs_done += 1
            if kind == KIND_TICKET:
                queues.done_locked(kind)
    pool.leave_locked(ctx)
    release()


def _pull_while_wanted(pool: PoolState, ctx: ThreadCtx) -> None:
    queues, in_progress = pool.queues, pool.num_jobs_in_progress
    pull, acquire, release, sleep = queues.pull_locked, pool.lock.acquire, pool.lock.release, pool.has_jobs.wait
    counted = False  # is a job of this thread counted as in progress?
    acquire()
    while True:
        # Here the lock is held, and a job that was counted is finished.
        pulled = None
        while not pool.surplus_locked():
            if not pool.paused and (pulled := pull()) is not None:
                break
            if counted:
                in_progress.value -= 1
                counted = False
            pool.sleepers += 1
            sleep()
        if pulled is None:
            break
        if not counted:
            in_progress.value += 1
            counted = True
        release()
        kind, (job, arg) = pulled
        try:
            job(arg)
        except Exception as exc:
            pool.job_failed(ctx, job, exc)
        acquire()
        pool.total_jobs_done += 1
        if kind == KIND_TICKET:
            queues.done_locked(kind)
    if counted:
        in_progress.value -= 1
    pool.leave_locked(ctx)
    release()
