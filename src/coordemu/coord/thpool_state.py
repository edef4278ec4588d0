"""PoolState: what a thread pool and its threads share, and the lock over it.

Role: one lock guards everything here: the queues, the list of threads, the counts, the pause. The pool
(`coordemu.coord.thpool`), the crew that starts and tells threads (`thpool_crew`) and the threads themselves
(`thpool_thread`) hold the same PoolState. It also answers the question that the wait-for graph asks: whoever waits
for this pool, who could end the wait?

Two counts of threads matter. `num_threads_alive` counts a thread from the critical section in which it was decided on
to the one in which it leaves; upstream counts it from its first instruction. `leaving` counts those that have been
told to leave now, by an admin job done or still queued. The difference is the number of threads that will still take
an admin job; see `free_threads_locked`.

Thread: any; the methods say what must be held. The `holders` functions may be called by a watchdog at any time, so
they read only immutable snapshots and take no lock.
Upstream: redisearch_thpool_t and priorityJobqueue in deps/thpool/thpool.c.
Left out: a second lock for statistics; one reading under the one lock is consistent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from coordemu.coord.thpool_admin import Broadcast, ThreadCtx, ThreadState
from coordemu.coord.thpool_queue import PriorityQueues
from coordemu.runtime.base import Barrier, Holder, Runtime, Task, Waitable

Log = Callable[[str, str], None]

NAME_MAX = 10
JOB_ERRORS_KEPT = 64
HOLDERS_LOOKED_AT = 1_000

UNINITIALIZED = "UNINITIALIZED"
INITIALIZED = "INITIALIZED"
DESTROYED = "DESTROYED"


class PoolState:
    """The shared part of one thread pool.

    rt: the runtime.  num_tickets: see `PriorityQueues`.  log: called with a level ("debug", "verbose", "notice",
    "warning") and a line; from any thread.  name: the first 10 characters are kept.
    Upstream: redisearch_thpool_t, deps/thpool/thpool.c.
    """

    def __init__(self, rt: Runtime, num_tickets: int, log: Log, name: str) -> None:
        self.rt = rt
        self.log = log
        self.name = name[:NAME_MAX]
        self.queues = PriorityQueues(num_tickets)
        self.lock = rt.lock(f"{self.name}: queues")
        self.has_jobs = rt.condition(self.lock, f"{self.name}: jobs", owed_by=self.who_brings_jobs)
        self.state = rt.cell(UNINITIALIZED, f"{self.name}: state")
        self.num_threads_alive = rt.cell(0, f"{self.name}: threads alive")
        self.num_jobs_in_progress = rt.cell(0, f"{self.name}: jobs in progress")
        # Everything below is guarded by the lock; the tuples may be read without it.
        self.num_threads = 0
        self.leaving = 0
        # Threads that sleep and have not been woken: whoever sleeps adds one, whoever wakes takes away. After a
        # spurious wake-up it may be too high, which costs a signal to nobody, never too low.
        self.sleepers = 0
        self.paused = False
        self.paused_by: Task | None = None
        # Of a pool by number (`thpool_by_number`) only; all_leave: its end has come.
        self.by_number = False
        self.all_leave = False
        self.total_jobs_done = 0
        self.members: tuple[ThreadCtx, ...] = ()
        self.member_tasks: frozenset[int] = frozenset()
        self.ended: list[Task] = []
        self.broadcasts: list[Broadcast] = []
        self.job_errors: deque[str] = deque(maxlen=JOB_ERRORS_KEPT)
        self.num_job_errors = 0

    def __repr__(self) -> str:
        return f"<PoolState {self.name} {self.state.value} {self.queues!r} members={self.members!r}>"

    def free_threads_locked(self) -> int:
        """How many threads will still take an admin job: alive, and not told to leave now. Thread: any, lock held."""
        return self.num_threads_alive.value - self.leaving

    def incomplete_jobs_locked(self) -> int:
        """Queued and in progress. Thread: any, lock held."""
        return self.queues.length_locked() + self.num_jobs_in_progress.value

    def wake_locked(self, num_jobs: int) -> None:
        """Tell sleeping threads of that many new jobs: one signals one thread, more wake all. Thread: any, lock held.

        Upstream: priority_queue_push_chain_unsafe, deps/thpool/thpool.c.
        """
        if self.sleepers:
            if num_jobs > 1:
                self.wake_all_locked()
            else:
                self.sleepers -= 1
                self.has_jobs.notify()

    def wake_all_locked(self) -> None:
        """Have every sleeping thread look again. Thread: any, lock held."""
        self.sleepers = 0
        self.has_jobs.notify_all()

    def surplus_locked(self) -> bool:
        """Whether a thread of a pool by number leaves instead of taking a job: there are more than wanted, and if none
        is wanted, nothing is queued. Thread: any, lock held.
        """
        if self.all_leave:
            return True
        if len(self.members) <= self.num_threads:
            return False
        return self.num_threads > 0 or not self.queues.length_locked()

    def enter_locked(self, ctx: ThreadCtx, task: Task) -> None:
        """A thread has begun to run: from now on it counts as a worker of this pool. Thread: that one, lock held."""
        ctx.task = task
        self.member_tasks = self.member_tasks | {task.ident}

    def leave_locked(self, ctx: ThreadCtx) -> None:
        """A thread goes, in the same critical section in which it decided to. Thread: that one, lock held."""
        self.num_threads_alive.value -= 1
        if ctx.state is ThreadState.TERMINATE_ASAP:
            self.leaving -= 1
        self.forget_locked(ctx)

    def forget_locked(self, ctx: ThreadCtx) -> None:
        """Take a context off the list of threads. Thread: any, lock held."""
        self.members = tuple(member for member in self.members if member is not ctx)
        if self.by_number and len(self.members) < max(self.num_threads, 1) and self.state.value == INITIALIZED:
            self.state.value = UNINITIALIZED
        if ctx.task is not None:
            self.member_tasks = self.member_tasks - {ctx.task.ident}
            self.ended = [task for task in self.ended if task.alive]
            self.ended.append(ctx.task)

    def job_failed(self, ctx: ThreadCtx, job: object, exc: Exception) -> None:
        """A job raised, which is a bug of the layer that made it: note it, log it, and let the thread live on. Takes
        the lock.
        """
        said = f"{ctx.name}: job {getattr(job, '__qualname__', None) or job!r} raised {type(exc).__name__}: {exc}"
        with self.lock:
            self.num_job_errors += 1
            self.job_errors.append(said)
        self.log("warning", said)

    # --- who could end a wait for this pool -------------------------------------------------------------------------

    def who_brings_jobs(self) -> Sequence[Holder]:
        """What a sleeping thread waits for: the task that paused the pool, or whoever submits the next job."""
        if not self.paused:
            return ["whoever submits a job"]
        by = self.paused_by
        if by is None or not by.alive:
            return ["nobody: the task that paused the pool has ended"]
        return [by]

    def who_works(self) -> Sequence[Holder]:
        """What a wait for jobs to be finished waits for: the threads that do not sleep, or whoever could wake them."""
        tasks = self._tasks(self.members)
        if not tasks:
            return ["nobody: the pool has no threads"]
        busy = [task for task in tasks if task.waiting_on is not self.has_jobs]
        if busy:
            return busy
        return self.who_brings_jobs() if self.paused else list(tasks)

    def who_leaves(self) -> Sequence[Holder]:
        """What a wait for threads to leave waits for: those that have been told to."""
        by_number = self.by_number
        told = self._tasks(tuple(m for m in self.members if by_number or m.state is not ThreadState.RUNNING))
        return told or ["nobody: no thread has been told to leave"]

    def who_must_meet(self, broadcast: Broadcast) -> Sequence[Task]:
        """What a wait at a broadcast's barrier waits for: threads that have not come and may, as many as are missing.

        When more may come than are needed (three of five are to leave), any of them will do. So those come first that
        are not themselves held up by somebody who waits at this barrier; if they are enough, there is no cycle.
        """
        tasks = self._may_come(broadcast)
        missing = max(broadcast.num_jobs - len(broadcast.arrived), 0)
        if missing < len(tasks):
            tasks.sort(key=lambda task: self._is_held_up_at(task, broadcast.barrier))
        return tasks[:missing]

    def _may_come(self, broadcast: Broadcast) -> list[Task]:
        here = broadcast.arrived.copy()
        return self._tasks(
            tuple(
                member
                for member in self.members
                if member not in here and member.state is not ThreadState.TERMINATE_ASAP
            )
        )

    def _is_held_up_at(self, task: Task, barrier: Barrier | None) -> bool:
        """Whether the task waits, over any number of steps, for a task that waits at the barrier."""
        # The pool's own barriers are not asked for their holders: their answer comes from here.
        own = {id(broadcast.barrier): broadcast for broadcast in tuple(self.broadcasts)}
        seen: dict[int, Holder] = {}
        todo: list[Holder] = [task]
        while todo and len(seen) < HOLDERS_LOOKED_AT:
            holder = todo.pop()
            if isinstance(holder, str) or id(holder) in seen:
                continue
            seen[id(holder)] = holder
            if not isinstance(holder, Waitable):
                waiting_on = holder.waiting_on
                if waiting_on is not None:
                    if waiting_on is barrier:
                        return True
                    todo.append(waiting_on)
            elif id(holder) in own:
                todo += self._may_come(own[id(holder)])
            else:
                todo += holder.holders()
        return False

    @staticmethod
    def _tasks(members: tuple[ThreadCtx, ...]) -> list[Task]:
        return [member.task for member in members if member.task is not None]
