"""ThreadSemaphore: a counting semaphore, first come first served.

Role: bounds such as "queries in flight". A released unit is handed to the longest waiting task directly, so a
task that comes later cannot take it away.

Thread: any. Bound of the queue: one entry per waiting thread. Upstream: the thread pool's high-priority tickets
and counters. Left out: owners; units have none, so the wait-for graph cannot name who should release, and says so.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Sequence

from coordemu.runtime.base import Holder
from coordemu.runtime.thread_task import Parking, TaskRegistry, ThreadTask
from coordemu.runtime.waitables import SCHEDULER


class ThreadSemaphore:
    """A named semaphore with `value` free units at first (0 or more, ValueError otherwise)."""

    __slots__ = ("_guard", "_parked", "_registry", "_value", "name")

    kind = "semaphore"
    relation = "owed by"

    def __init__(self, registry: TaskRegistry, value: int, name: str) -> None:
        if value < 0:
            raise ValueError(f"semaphore {name!r} with value {value}")
        self.name = name
        self._registry = registry
        self._guard = allocate_lock()
        self._value = value
        self._parked: list[Parking] = []

    @property
    def value(self) -> int:
        """Free units. Thread: any."""
        return self._value

    def acquire(self, timeout_ns: int | None = None) -> bool:
        """Take one unit. True when taken, False after timeout_ns (None: no limit; 0 or less: try).

        Thread: any. May block.
        """
        parking, taken = None, False
        try:
            with self._guard:
                if self._value:
                    self._value -= 1
                    taken = True
                    return True
                if timeout_ns is not None and timeout_ns <= 0:
                    return False
                parking = Parking(self._registry.current(), self)
                self._parked.append(parking)
            parking.enter().park(timeout_ns)
            return self._leave(parking)
        except BaseException:  # a signal's handler raised
            if taken or (parking is not None and self._leave(parking)):
                self.release()
            raise

    def _leave(self, parking: Parking) -> bool:
        """Whether it was given a unit."""
        parking.leave()
        with self._guard:
            if parking not in self._parked:
                return True
            self._parked.remove(parking)
            return False

    def release(self, n: int = 1) -> None:
        """Give n units (1 or more, ValueError otherwise); waiting tasks get them first. Thread: any. Never blocks."""
        if n < 1:
            raise ValueError(f"release of {n} units")
        with self._guard:
            served, self._parked = self._parked[:n], self._parked[n:]
            self._value += n - len(served)
        for parking in served:
            parking.unpark()

    def waiters(self) -> Sequence[ThreadTask]:
        """The tasks that wait, in the order in which they will be served. Thread: any."""
        return [parking.task for parking in list(self._parked)]

    def holders(self) -> Sequence[Holder]:
        """Words only: units have no owner. Thread: any."""
        return (SCHEDULER,) if self._value else ("whoever releases it",)

    def __repr__(self) -> str:
        return f"<ThreadSemaphore {self.name!r} value {self._value}, {len(self._parked)} waiting>"
