"""ThreadBarrier: a meeting of exactly n tasks, once.

Role: the thread pool's admin jobs meet here, each thread taking exactly one; in the incident as upstream
measured it, the main thread waits here with the module lock held. The barrier therefore knows who has come, and,
through `expected`, who is missing: the wait-for graph needs the latter.

Thread: any. Bound of the queue: n. Upstream: the pool's barrier_t (deps/thpool), whose last comer frees it.
Left out: reuse (a second round needs a second barrier), breaking, time-outs.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Callable, Sequence

from coordemu.runtime.base import Holder, Task
from coordemu.runtime.thread_task import Parking, TaskRegistry, ThreadTask
from coordemu.runtime.waitables import SCHEDULER


class ThreadBarrier:
    """A barrier for n tasks (1 or more, ValueError otherwise). expected: the tasks that should come."""

    __slots__ = ("_came", "_expected", "_guard", "_n", "_parked", "_registry", "name")

    kind = "barrier"
    relation = "which misses"

    def __init__(
        self, registry: TaskRegistry, n: int, name: str, expected: Callable[[], Sequence[Task]] | None
    ) -> None:
        if n < 1:
            raise ValueError(f"barrier {name!r} for {n} tasks")
        self.name = name
        self._registry = registry
        self._n = n
        self._expected = expected
        self._guard = allocate_lock()
        self._came: list[ThreadTask] = []
        self._parked: list[Parking] = []

    @property
    def n(self) -> int:
        """How many must come."""
        return self._n

    @property
    def arrived(self) -> int:
        """How many have come. Thread: any."""
        return len(self._came)

    def wait(self) -> bool:
        """Wait until n have called. True for the last to arrive, False for the others.

        Raises RuntimeError, and changes nothing, when n have come already. Thread: any. May block, without limit.
        """
        task = self._registry.current()
        with self._guard:
            if len(self._came) == self._n:
                raise RuntimeError(f"{task.name} comes to barrier {self.name!r} after its {self._n}")
            last = len(self._came) + 1 == self._n
            parking = None if last else Parking(task, self)
            if parking is not None:
                self._parked.append(parking)
            self._came.append(task)
        if parking is None:
            for other in self._parked:
                other.unpark()
            self._parked = []
            return True
        try:
            parking.enter().park(None)
        finally:
            parking.leave()
        return False

    def waiters(self) -> Sequence[ThreadTask]:
        """The tasks that have come and wait. Thread: any."""
        return [parking.task for parking in list(self._parked)]

    def holders(self) -> Sequence[Holder]:
        """The expected tasks that have not come; a plain count when no one was named. Thread: any."""
        came = list(self._came)
        missing = self._n - len(came)
        if not missing:
            return (SCHEDULER,)
        if self._expected is None:
            return (f"{missing} more tasks, not named",)
        return [task for task in self._expected() if task not in came]

    def __repr__(self) -> str:
        return f"<ThreadBarrier {self.name!r} {len(self._came)}/{self._n}>"
