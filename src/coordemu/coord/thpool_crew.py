"""Crew: starts the threads of a pool, and sends each of them its admin job.

Role: between the pool's operations (`coordemu.coord.thpool`), which decide under the lock how many threads there
shall be, and the threads (`thpool_thread`). Deciding and doing are apart: `reserve_locked` and `broadcast_locked`
only count and queue; `spawn`, `Starts.event` and `Broadcast.wait` come after the lock has been let go.

One rule is ours. A broadcast to *every* thread is counted when it is queued; a thread started before it has passed
could take a job that was meant for another, which would then never hear that it is to run on (or to leave). So
threads that are decided on meanwhile are started by the last one through that barrier. Upstream gets the same order
by having the caller wait at the barrier before it starts any; that leaves open the caller that must not wait, a
worker of the pool itself.

Thread: any; the pool's lock is held where the name says so.
Upstream: thread_init, redisearch_thpool_broadcast_new_state and redisearch_thpool_verify_init, deps/thpool/thpool.c.
Left out: detached threads; ours are joined when the pool is destroyed.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count, islice

from coordemu.coord.thpool_admin import Broadcast, Starts, ThreadCtx, ThreadState
from coordemu.coord.thpool_state import PoolState
from coordemu.coord.thpool_thread import thread_do
from coordemu.runtime.base import Holder

AdminJob = tuple[Broadcast, ThreadState]


class Crew:
    """The threads of one pool, as something that can be started and told.

    pool: the state that it shares with them.
    """

    def __init__(self, pool: PoolState) -> None:
        self._pool = pool

    def __repr__(self) -> str:
        return f"<Crew {self._pool.name} members={len(self._pool.members)} broadcasts={self._pool.broadcasts!r}>"

    def statistics(self) -> dict[str, int]:
        """members (decided on and not left), not_started, broadcasts (open), leaving. Thread: any; takes the lock."""
        pool = self._pool
        with pool.lock:
            return {
                "members": len(pool.members),
                "not_started": sum(member.task is None for member in pool.members),
                "broadcasts": len(pool.broadcasts),
                "leaving": pool.leaving,
            }

    def reserve_locked(self, num_threads: int) -> Starts:
        """Decide on new threads: from now on they count as alive.

        num_threads: 1 or more.  When `Starts.behind` is None the caller is to `spawn` them; otherwise the last one
        through that broadcast, the newest to every thread, starts them.  Thread: any, lock held.
        """
        pool = self._pool
        taken = {member.ident for member in pool.members}
        idents = islice((ident for ident in count() if ident not in taken), num_threads)
        threads = tuple(ThreadCtx(ident, f"{pool.name}-{ident}") for ident in idents)

        behind = next((broadcast for broadcast in reversed(pool.broadcasts) if broadcast.every), None)

        def who_starts() -> Sequence[Holder]:
            if behind is not None and behind.barrier is not None and behind in pool.broadcasts:
                return [behind.barrier]
            tasks = [thread.task for thread in threads if thread.task is not None]
            return [task for task in tasks if task.ident not in pool.member_tasks] or ["whoever starts the threads"]

        event = pool.rt.event(f"{pool.name}: {num_threads} new threads run", owed_by=who_starts)
        starts = Starts(threads, event, behind)
        pool.members += threads
        pool.num_threads_alive.value += num_threads
        if behind is not None:
            behind.starts.append(starts)
        return starts

    def bring_up(self, starts: Starts, wait: bool) -> None:
        """`spawn` the threads, unless a broadcast must pass first; then, if asked to, wait until each of them runs.
        May block.

        Thread: any, lock not held.
        """
        if starts.behind is None:
            self.spawn(starts)
        if wait:
            starts.event.wait()

    def spawn(self, starts: Starts) -> None:
        """Start the threads. When one can't be started, the rest is given back and the error raised.

        Thread: any, lock not held.  Upstream: thread_init, deps/thpool/thpool.c.
        """
        pool = self._pool
        for position, thread in enumerate(starts.threads):
            try:
                thread.task = pool.rt.spawn(thread_do, pool, thread, starts, name=thread.name)
            except Exception as exc:
                self._give_back(starts, starts.threads[position:], exc)
                raise

    def _give_back(self, starts: Starts, rest: tuple[ThreadCtx, ...], exc: Exception) -> None:
        pool = self._pool
        with pool.lock:
            pool.num_threads_alive.value -= len(rest)
            for thread in rest:
                pool.forget_locked(thread)
            starts.missing -= len(rest)
            all_run = starts.missing == 0
        if all_run:
            starts.event.set()
        pool.log("warning", f"{pool.name}: {len(rest)} of {len(starts.threads)} threads could not be started: {exc}")

    def broadcast_locked(self, what: str, states: Sequence[ThreadState], caller_waits: bool, every: bool) -> Broadcast:
        """Queue one admin job per state, all with one barrier, and wake the threads.

        what: for the barrier's name.  states: what each job sets, 1 or more.  caller_waits: the caller is going to call
        `Broadcast.wait`, and the barrier counts on it.  every: see the top of the file.  Thread: any, lock held.
        Upstream: redisearch_thpool_broadcast_new_state, deps/thpool/thpool.c; there the caller waits for the barrier
        from outside, here it is one more party, so that one primitive shows who waits for whom.
        """
        pool = self._pool
        broadcast = Broadcast(f"{pool.name}: {what}", len(states), every, self._passed)
        broadcast.barrier = pool.rt.barrier(
            len(states) + caller_waits, broadcast.name, expected=lambda: pool.who_must_meet(broadcast)
        )
        pool.broadcasts.append(broadcast)
        pool.leaving += sum(state is ThreadState.TERMINATE_ASAP for state in states)
        pool.queues.push_admin_locked((broadcast, state) for state in states)
        pool.wake_locked(len(states))
        return broadcast

    def _passed(self, broadcast: Broadcast) -> None:
        """The last one through: close the broadcast, start what waited for it. Thread: that one, lock not held."""
        pool = self._pool
        with pool.lock:
            pool.broadcasts.remove(broadcast)
            waiting = tuple(broadcast.starts)
        pool.rt.trace("barrier_wait", "Broadcast.wait", f"{broadcast.name}: all {broadcast.num_jobs} threads came")
        for starts in waiting:
            self.spawn(starts)
