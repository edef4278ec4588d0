"""Admin jobs: how the threads of a pool are told to run, to leave when the queues are empty, or to leave now.

Role: nobody but a thread itself ever changes its state. The pool queues n admin jobs that share one barrier; each job
receives the context of the thread that pulled it, sets the new state and waits at the barrier. A thread that waits
there cannot pull a second one, so each of n threads takes exactly one of the n jobs. The price: a thread that came
early stands idle until the slowest of them has finished its job. Who queues the jobs may wait at the barrier too;
that wait, made by the main thread with the module lock held, is half of the incident's cycle.

The states, and what a thread does in each:

    state                  paused?        queues empty?            after a job
    RUNNING                sleeps         sleeps                   goes on
    TERMINATE_WHEN_EMPTY   pulls anyway   leaves, under the lock   goes on
    TERMINATE_ASAP         -              -                        leaves

`TRANSITIONS` says which change an admin job may make. Nothing leads out of TERMINATE_ASAP: such a thread pulls no more.

Thread: `meet` runs on the pool's threads; the rest is made and read under the pool's lock.
Upstream: admin_job_change_state, SignalThreadCtx and threadCtx in deps/thpool/thpool.c, and its barrier.c.
Left out: freeing the barrier by hand. The last one through takes it off the pool's list; the garbage collector does
the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from coordemu.runtime.base import Barrier, Event, Task


class ThpoolError(RuntimeError):
    """An operation that the pool's state does not allow. Nothing was changed."""


class ThpoolPaused(ThpoolError):
    """A paused pool's threads would never take the admin jobs. Upstream: an assertion."""


class ThreadState(Enum):
    """What a thread of the pool does next; see the table above."""

    RUNNING = "running"
    TERMINATE_WHEN_EMPTY = "terminate when empty"
    TERMINATE_ASAP = "terminate asap"


TRANSITIONS: dict[ThreadState, frozenset[ThreadState]] = {
    ThreadState.RUNNING: frozenset(ThreadState),
    ThreadState.TERMINATE_WHEN_EMPTY: frozenset(ThreadState),
    ThreadState.TERMINATE_ASAP: frozenset(),
}


class ThreadCtx:
    """One thread of a pool, from the moment it is decided on until it has left.

    ident: the smallest number that no living thread of the pool has.  name: pool name and number, "workers-0".
    task: None until it has been spawned.
    Upstream: threadCtx, deps/thpool/thpool.c.
    """

    __slots__ = ("ident", "name", "state", "task")

    def __init__(self, ident: int, name: str) -> None:
        self.ident = ident
        self.name = name
        self.state = ThreadState.RUNNING
        self.task: Task | None = None

    def __repr__(self) -> str:
        return f"<ThreadCtx {self.name} {self.state.value}{'' if self.task else ', not started'}>"


class Starts:
    """Threads that are to be started together, and the event that says that each of them runs.

    missing: how many do not run yet; guarded by the pool's lock.  behind: the broadcast that must pass before they are
    started, None when nothing must.
    """

    __slots__ = ("behind", "event", "missing", "threads")

    def __init__(self, threads: tuple[ThreadCtx, ...], event: Event, behind: Broadcast | None) -> None:
        self.threads = threads
        self.missing = len(threads)
        self.event = event
        self.behind = behind

    def __repr__(self) -> str:
        return f"<Starts {len(self.threads)} threads, {self.missing} missing>"


class Broadcast:
    """n admin jobs and their barrier.

    name: what it is for, with the pool's name in front.  barrier: of n threads, and one more when the caller waits too.
    every: it is meant for every thread that exists, so no thread may be started before all have passed: a new one
        could take a job that was counted for another.  starts: those that wait for that; guarded by the pool's lock.
    on_passed: called by the last one through.
    """

    __slots__ = ("arrived", "barrier", "every", "name", "num_jobs", "on_passed", "starts")

    def __init__(self, name: str, num_jobs: int, every: bool, on_passed: Callable[[Broadcast], None]) -> None:
        self.name = name
        self.num_jobs = num_jobs
        self.every = every
        self.on_passed = on_passed
        self.arrived: set[ThreadCtx] = set()
        self.starts: list[Starts] = []
        self.barrier: Barrier | None = None

    def __repr__(self) -> str:
        return f"<Broadcast {self.name!r} {len(self.arrived)}/{self.num_jobs}{' every' if self.every else ''}>"

    def meet(self, ctx: ThreadCtx, new_state: ThreadState) -> None:
        """The admin job: take on the state, wait for the others.

        Raises ThpoolError for a change that `TRANSITIONS` does not allow. Thread: that of `ctx`. May block.
        Upstream: admin_job_change_state, deps/thpool/thpool.c.
        """
        if new_state not in TRANSITIONS[ctx.state]:
            raise ThpoolError(f"{ctx.name}: no way leads from {ctx.state.value!r} to {new_state.value!r}")
        ctx.state = new_state
        self.arrived.add(ctx)
        self.wait()

    def wait(self) -> None:
        """Wait at the barrier; the last one through closes the broadcast. May block.

        Upstream: barrier_wait and barrier_wait_for_threads_and_destroy, deps/thpool/barrier.c.
        """
        if self.barrier is not None and self.barrier.wait():
            self.on_passed(self)
