"""ThpoolByNumber: a pool whose threads compare themselves with the number that is wanted; nobody is told, nobody waits.

Role: the pool of policy ``coordemu-safe``, in the place of `coordemu.coord.thpool.Thpool`. Upstream tells threads what
to do by admin jobs, and a pool that drains has to be *revived*: whoever pushes first waits until each thread that is
still at work has heard. Main pushes with the module lock held, and a thread may need that lock first: a cycle. Here
there is nothing to hear. `set_num_threads` stores a number; each thread looks at it, under the queues' lock, whenever
it would take a job, and leaves in the same critical section if there are more threads than wanted. A pool that was to
lose all its threads and is wanted again before they have gone simply keeps them.

The rules, all under the one lock:

1. A thread is counted from the critical section that decided on it to the one in which it leaves.
2. It leaves if more are counted than wanted; when none is wanted, only if the queues are empty.
3. Whoever lowers the number wakes every sleeper, so that no surplus sleeps on, and no signal is lost on a thread
   that leaves: those that stay have looked at the queues after it.
4. Whoever raises the number, or pushes, makes up what is missing, and does not wait for it. What a push misses is the
   number wanted, or one thread when none is wanted: a job is never left to nobody.
5. UNINITIALIZED means that a push must look: fewer threads are counted than wanted, or none. As upstream's, a pool that
   has no threads and no job starts none until the first push.

From 2 and 4: a queued job has a thread. While threads are wanted, at least that many are counted, and none of them
sleeps on a job (3); when none is wanted, the last one leaves an empty queue behind it, and the next push, which holds
the lock after it, finds nobody counted and starts one.

A paused pool can be reduced: surplus threads leave, the others sleep; nothing is pulled until it is resumed.

Thread: as `Thpool`. Upstream: none; it would be `redisearch_thpool_verify_init`, `thread_do` and the two functions that
change the number in deps/thpool/thpool.c. Left out: admin jobs, and all that waits for them.
"""

from __future__ import annotations

from collections.abc import Callable

from coordemu.coord.thpool import Startup, Thpool
from coordemu.coord.thpool_admin import Starts, ThpoolError
from coordemu.coord.thpool_state import DESTROYED, INITIALIZED, UNINITIALIZED, Log
from coordemu.runtime.base import Runtime


class ThpoolByNumber(Thpool):
    """A pool that is resized by storing a number. The arguments are those of `coordemu.coord.thpool.Thpool`."""

    def __init__(self, rt: Runtime, n_threads: int, num_high_priority_bias: int, log: Log, name: str) -> None:
        super().__init__(rt, n_threads, num_high_priority_bias, log, name)
        self._pool.by_number = True

    def set_num_threads(self, n: int) -> int:
        """Want n threads from now on. Those missing are started, those too many leave; nobody waits for either.

        n: 0 or more, ValueError below.  Returns n.  Raises ThpoolError when destroyed.  A thread that can't be started
        is logged, and tried again at the next push.  Thread: any.  Never blocks for long.
        Upstream: it would stand for redisearch_thpool_add_threads and
        redisearch_thpool_schedule_config_reduce_threads_job, deps/thpool/thpool.c.
        """
        return self._change(lambda _old: n)

    def _change(self, number: Callable[[int], int]) -> int:
        pool = self._pool
        starts = None
        with pool.lock:
            old = self._check_number_locked(0, None)
            new = number(old)
            if new < 0:
                raise ValueError(f"{pool.name}: {new} threads is below 0")
            pool.num_threads = new
            if len(pool.members) > new:
                pool.wake_all_locked()
            elif pool.state.value == INITIALIZED or pool.queues.length_locked():
                starts = self._make_up_locked()
        pool.rt.trace("redisearch_thpool_set_num_threads", "ThpoolByNumber.set_num_threads", f"{old} -> {new}")
        if starts is not None:
            self._start(starts)
        return new

    def add_threads(self, n: int) -> int:
        """`set_num_threads` with n more. n: 0 or more, ValueError below. Never blocks for long."""
        if n < 0:
            raise ValueError(f"{self.name}: {n} threads is below 0")
        return self._change(lambda old: old + n)

    def schedule_config_reduce_threads_job(self, n: int, when_empty: bool = False) -> int:
        """`set_num_threads` with n fewer; no job is scheduled. n: 0 to the number wanted, ValueError otherwise.

        when_empty: must be said when all go, and only then makes a difference upstream; here rule 2 decides.  Never
        blocks for long.
        """
        if n < 0:
            raise ValueError(f"{self.name}: {n} threads is below 0")
        return self._change(lambda old: old - n)

    def terminate_when_empty(self) -> None:
        """Refused (ThpoolError): it would wait. See `set_num_threads`."""
        raise ThpoolError(f"{self.name}: nobody waits for the threads of a pool by number")

    def remove_threads(self, n: int) -> int:
        """Refused (ThpoolError): it would wait. See `set_num_threads`."""
        raise ThpoolError(f"{self.name}: nobody waits for the threads of a pool by number")

    def terminate_threads(self) -> None:
        """End the pause if there is one, have every thread leave after its current job, wait until all have.

        Queued jobs stay queued; the next push starts threads for them.  For the end of the pool, not for a resize.
        Raises ThpoolError in a worker of this pool.  May block.
        Upstream: redisearch_thpool_terminate_threads, deps/thpool/thpool.c.
        """
        pool = self._pool
        with pool.lock:
            if pool.rt.current().ident in pool.member_tasks:
                raise ThpoolError(f"{pool.name}: a worker can't end its own pool")
            queued = pool.queues.length_locked()
            pool.all_leave = True
            self._unpause_locked()
        if queued:
            pool.log("warning", f"{pool.name}: threads end while {queued} jobs are queued")
        self.wait_until_alive(0)
        with pool.lock:
            pool.all_leave = False
            if pool.state.value == INITIALIZED:
                pool.state.value = UNINITIALIZED

    # --- making up for what is missing ------------------------------------------------------------------------------

    def _verify_init_locked(self) -> Startup | None:
        """A push found the pool UNINITIALIZED: too few threads, or none."""
        if self._pool.state.value == DESTROYED:
            raise ThpoolError(f"{self._pool.name}: the pool has been destroyed")
        return Startup(None, self._make_up_locked(), wait=False)

    def _make_up_locked(self) -> Starts | None:
        pool = self._pool
        missing = max(pool.num_threads, 1) - len(pool.members)
        pool.state.value = INITIALIZED
        return self._crew.reserve_locked(missing) if missing > 0 else None

    def _carry_out(self, startup: Startup) -> None:
        if startup.starts is not None:
            self._start(startup.starts)

    def _start(self, starts: Starts) -> None:
        pool = self._pool
        pool.rt.trace("thread_init", "ThpoolByNumber.start", f"{len(starts.threads)} threads, nobody waits")
        try:
            self._crew.spawn(starts)
        except RuntimeError:
            # The crew has logged it and given the places back; the next push finds the pool UNINITIALIZED.
            return
