"""PriorityQueues: the three job queues of a thread pool, and the rule by which a thread picks the next job.

Role: the thread pool (`coordemu.coord.thpool`) pushes, its threads pull. This file is the discipline alone: it takes no
lock, starts nothing and wakes nobody, so it can be checked against a model job by job.

The rule. Admin jobs come first, always. Among the others a *ticket* decides: there are `num_tickets` of them
(upstream's high-priority bias), and while one is free a high-priority job is preferred, taken first come first
served, and holds a ticket until it is done. With no ticket free (or none at all), the pulls take turns: a counter
that grows by one per job so pulled says whose turn it is, even for high, odd for low, and the other queue is taken
when the one whose turn it is is empty. So at most `num_tickets` threads are reserved for high-priority jobs, and
neither queue can starve the other.

Thread: any, with the pool's lock held (the `_locked` suffix).
Upstream: priority_queue_pull_from_queues_unsafe and its neighbours in deps/thpool/thpool.c.
Left out: the lock and the condition, which belong to the pool. No queue has a bound, as upstream's have none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

LOW = "low"
HIGH = "high"
ADMIN = "admin"

# What a pulled job is; the thread gives it back to `done_locked`.
KIND_ADMIN = 0
KIND_PLAIN = 1
KIND_TICKET = 2

Job = tuple[Callable[[Any], object], Any]
AdminJob = tuple[Any, Any]


class PriorityQueues:
    """Three FIFO queues, the tickets, and the turn counter.

    num_tickets: how many high-priority jobs may run before the queues take turns; 0 or more. Raises ValueError below 0.
    Thread: any, with the pool's lock held for every method. Nothing here blocks.
    Upstream: priorityJobqueue, deps/thpool/thpool.c.
    """

    __slots__ = ("_by_priority", "admin", "alternating_pulls", "free_tickets", "high", "low", "num_tickets")

    def __init__(self, num_tickets: int) -> None:
        if num_tickets < 0:
            raise ValueError(f"num_tickets {num_tickets} is below 0")
        self.admin: deque[AdminJob] = deque()
        self.high: deque[Job] = deque()
        self.low: deque[Job] = deque()
        self._by_priority = {LOW: self.low, HIGH: self.high}
        self.num_tickets = num_tickets
        self.free_tickets = num_tickets
        self.alternating_pulls = 0

    def __repr__(self) -> str:
        return (
            f"<PriorityQueues admin={len(self.admin)} high={len(self.high)} low={len(self.low)} "
            f"tickets={self.free_tickets}/{self.num_tickets} turn={self.alternating_pulls}>"
        )

    def queue_of(self, priority: str) -> deque[Job]:
        """The queue of that priority, LOW or HIGH; the same one for ever. Raises ValueError for another.

        Thread: any, the lock need not be held; appending to what it returns needs it.
        """
        queue = self._by_priority.get(priority)
        if queue is None:
            raise ValueError(f"priority {priority!r} is neither {LOW!r} nor {HIGH!r}")
        return queue

    def push_locked(self, job: Job, priority: str) -> None:
        """Append one job to the queue of that priority, LOW or HIGH. Raises ValueError for another, and changes
        nothing.
        """
        self.queue_of(priority).append(job)

    def push_n_locked(self, jobs: Iterable[Job], priority: str) -> None:
        """Append jobs in order, as `push_locked`. The iterable must not touch the pool: the lock is held."""
        self.queue_of(priority).extend(jobs)

    def push_admin_locked(self, jobs: Iterable[AdminJob]) -> None:
        """Append admin jobs in order; only the pool itself makes them."""
        self.admin.extend(jobs)

    def pull_locked(self) -> tuple[int, Any] | None:
        """Take the next job: (kind, job), or None when all three queues are empty.

        kind: KIND_ADMIN, KIND_TICKET (a high-priority job that holds a ticket) or KIND_PLAIN; to be given to
        `done_locked` after the job has run.
        Upstream: priority_queue_pull_from_queues_unsafe, deps/thpool/thpool.c.
        """
        if self.admin:
            return KIND_ADMIN, self.admin.popleft()
        high, low = self.high, self.low
        if self.free_tickets:
            if high:
                self.free_tickets -= 1
                return KIND_TICKET, high.popleft()
            if low:
                return KIND_PLAIN, low.popleft()
            return None
        if self.alternating_pulls & 1:
            first, second = low, high
        else:
            first, second = high, low
        if first:
            self.alternating_pulls += 1
            return KIND_PLAIN, first.popleft()
        if second:
            self.alternating_pulls += 1
            return KIND_PLAIN, second.popleft()
        return None

    def done_locked(self, kind: int) -> None:
        """A pulled job of that kind is done: its ticket, if it held one, is free again."""
        if kind == KIND_TICKET:
            self.free_tickets += 1

    def length_locked(self) -> int:
        """Jobs queued, admin jobs included."""
        return len(self.admin) + len(self.high) + len(self.low)

    def lengths_locked(self) -> tuple[int, int, int]:
        """Jobs queued: (admin, high, low)."""
        return len(self.admin), len(self.high), len(self.low)

    def clear_locked(self) -> int:
        """Throw every queued job away; returns how many they were. Tickets held by running jobs stay held."""
        dropped = self.length_locked()
        self.admin.clear()
        self.high.clear()
        self.low.clear()
        return dropped
