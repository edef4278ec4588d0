"""ThpoolResizing: having more threads, or fewer.

Role: the operations that ``CONFIG SET WORKERS`` comes to. Growing starts threads and waits until they run, which
takes as long as starting a thread. Shrinking has two forms, and the difference between them is the incident:

* `terminate_when_empty` and `remove_threads` (before PR 7410) queue admin jobs and wait: until each thread has taken
  one, and then until those told to leave have left. The caller is the main thread, it holds the module lock, and a
  thread that needs that lock to finish its job never comes.
* `schedule_config_reduce_threads_job` (after it) queues the same admin jobs and returns; the last thread through
  closes the barrier.

Thread: changes of size come from one thread at a time (upstream: the main thread).
Upstream: deps/thpool/thpool.c, of both times. Left out: deferring the shrink of a paused pool (added upstream in
2026); it is refused.
"""

from __future__ import annotations

from coordemu.coord.thpool_admin import ThpoolError, ThpoolPaused, ThreadState
from coordemu.coord.thpool_reading import ThpoolReading
from coordemu.coord.thpool_state import DESTROYED, INITIALIZED, UNINITIALIZED
from coordemu.runtime.base import NS_PER_US

POLL_NS = NS_PER_US


class ThpoolResizing(ThpoolReading):
    """The part of a pool that changes the number of its threads. The arguments are those of
    `coordemu.coord.thpool.Thpool`.
    """

    def add_threads(self, n: int) -> int:
        """Have n more threads, and wait until each of them runs; on an UNINITIALIZED pool only the number changes.

        n: 0 or more, ValueError below.  Returns the new number.  Raises ThpoolError when destroyed, what
        `Runtime.spawn` raises when a thread can't be started.  May block.  Upstream: redisearch_thpool_add_threads,
        deps/thpool/thpool.c.
        """
        pool = self._pool
        with pool.lock:
            old = self._check_number_locked(n, None)
            pool.num_threads = old + n
            if pool.state.value == UNINITIALIZED or n == 0:
                return pool.num_threads
            starts = self._crew.reserve_locked(n)
            wait = pool.rt.current().ident not in pool.member_tasks
        pool.rt.trace("redisearch_thpool_add_threads", "Thpool.add_threads", f"{old} -> {old + n}")
        self._crew.bring_up(starts, wait)
        return old + n

    def schedule_config_reduce_threads_job(self, n: int, when_empty: bool = False) -> int:
        """Have n threads fewer, without waiting for them (after PR 7410).

        n: 0 to the number wanted.  when_empty: they leave when the queues are empty, not after their current job; n
        must then be all of them, and the pool is UNINITIALIZED from now on, so that a later push revives it.  On an
        UNINITIALIZED pool only the number changes.  Returns the new number.  Raises ValueError for another n,
        ThpoolPaused on a paused pool, ThpoolError when destroyed.
        Thread: one at a time.  Never blocks.
        Upstream: redisearch_thpool_schedule_config_reduce_threads_job, deps/thpool/thpool.c.
        """
        pool = self._pool
        with pool.lock:
            old = self._check_number_locked(n, pool.num_threads)
            if when_empty and n != old:
                raise ValueError(f"{pool.name}: when empty, all {old} threads must go, not {n}")
            if pool.state.value == INITIALIZED:
                self._refuse_paused_locked()
                if num_jobs := min(n, pool.free_threads_locked()):
                    state = ThreadState.TERMINATE_WHEN_EMPTY if when_empty else ThreadState.TERMINATE_ASAP
                    what = "terminate when empty" if when_empty else f"remove {n} threads"
                    self._crew.broadcast_locked(what, [state] * num_jobs, caller_waits=False, every=when_empty)
                if when_empty:
                    pool.state.value = UNINITIALIZED
            pool.num_threads = old - n
        pool.rt.trace(
            "redisearch_thpool_schedule_config_reduce_threads_job",
            "Thpool.schedule_config_reduce_threads_job",
            f"{old} -> {old - n}{', when empty' if when_empty else ''}, nobody waits",
        )
        return old - n

    def terminate_when_empty(self) -> None:
        """Tell all threads to leave when the queues are empty, wait until each has heard, then UNINITIALIZED (before
        PR 7410).

        Nothing happens on an UNINITIALIZED pool.  Raises ThpoolPaused on a paused one.  May block until every thread
        has finished its current job: for ever, when one needs a lock that the caller holds.  A job that another
        thread pushes between the last one through the barrier and UNINITIALIZED may find no thread left; it waits for
        the next push, as upstream.
        Upstream: redisearch_thpool_terminate_when_empty, deps/thpool/thpool.c.
        """
        pool = self._pool
        broadcast = None
        with pool.lock:
            if pool.state.value != INITIALIZED:
                return
            self._refuse_paused_locked()
            if num_jobs := pool.free_threads_locked():
                states = [ThreadState.TERMINATE_WHEN_EMPTY] * num_jobs
                broadcast = self._crew.broadcast_locked("terminate when empty", states, caller_waits=True, every=True)
        if broadcast is not None:
            pool.rt.trace(
                "redisearch_thpool_terminate_when_empty",
                "Thpool.terminate_when_empty",
                f"waits at the barrier for {broadcast.num_jobs} threads",
            )
            broadcast.wait()
        with pool.lock:
            pool.state.value = UNINITIALIZED

    def remove_threads(self, n: int) -> int:
        """Have n threads fewer, and wait until they have gone (before PR 7410): first at the barrier, then by polling
        every 1 us.

        n: 0 to the number wanted, ValueError otherwise.  On an UNINITIALIZED pool only the number changes.  Returns
        the new number.
        Raises ThpoolPaused on a paused pool, ThpoolError when destroyed.  May block, as `terminate_when_empty`.
        Upstream: redisearch_thpool_remove_threads, deps/thpool/thpool.c (before PR 7410).
        """
        pool = self._pool
        broadcast = None
        with pool.lock:
            old = self._check_number_locked(n, pool.num_threads)
            if pool.state.value == INITIALIZED:
                self._refuse_paused_locked()
                if num_jobs := min(n, pool.free_threads_locked()):
                    states = [ThreadState.TERMINATE_ASAP] * num_jobs
                    what = f"remove {n} threads"
                    broadcast = self._crew.broadcast_locked(what, states, caller_waits=True, every=False)
            pool.num_threads = old - n
        pool.rt.trace("redisearch_thpool_remove_threads", "Thpool.remove_threads", f"{old} -> {old - n}")
        if broadcast is not None:
            broadcast.wait()
            self.wait_until_alive(old - n)
        return old - n

    def wait_until_alive(self, n: int) -> None:
        """Wait until at most n threads are alive, by polling every 1 us. May block.

        Upstream: the loop at the end of redisearch_thpool_remove_threads, deps/thpool/thpool.c.
        """
        pool = self._pool
        alive = pool.num_threads_alive
        why = f"{pool.name}: {n} threads alive"
        pool.rt.poll_until(lambda: alive.value <= n, POLL_NS, why, owed_by=pool.who_leaves)

    def _check_number_locked(self, n: int, most: int | None) -> int:
        pool = self._pool
        if n < 0 or (most is not None and n > most):
            raise ValueError(f"{pool.name}: {n} threads is not within 0..{'' if most is None else most}")
        if pool.state.value == DESTROYED:
            raise ThpoolError(f"{pool.name}: the pool has been destroyed")
        return pool.num_threads

    def _refuse_paused_locked(self) -> None:
        if self._pool.paused:
            raise ThpoolPaused(f"{self._pool.name}: threads can't be reduced while the pool is paused")
