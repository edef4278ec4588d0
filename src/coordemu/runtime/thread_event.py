"""ThreadEvent: a flag that can be set, cleared and waited for.

Role: one-shot hand-overs, such as "the reply is there" or "the thread has started". No lock is taken: a waiter
first queues itself and then reads the flag again, the setter first sets the flag and then empties the queue, so
one of the two always sees the other (each step is one operation under the interpreter lock).

Thread: any. Bound of the queue: one entry per waiting thread. Upstream: its pairs of a condition and a flag
(MRCtx' unblocking, IORuntimeCtx' start). Left out: counting; a flag set twice is set.
"""

from __future__ import annotations

from collections.abc import Sequence

from coordemu.runtime.base import Holder, OwedBy
from coordemu.runtime.thread_task import Parking, TaskRegistry, ThreadTask
from coordemu.runtime.waitables import SCHEDULER


class ThreadEvent:
    """A named flag, clear at first. owed_by: names who will set it; without it a wait here looks orphaned."""

    __slots__ = ("_flag", "_owed_by", "_parked", "_registry", "name")

    kind = "event"
    relation = "owed by"

    def __init__(self, registry: TaskRegistry, name: str, owed_by: OwedBy | None) -> None:
        self.name = name
        self._registry = registry
        self._owed_by = owed_by
        self._flag = False
        self._parked: list[Parking] = []

    def is_set(self) -> bool:
        """True while it is set. Thread: any."""
        return self._flag

    def set(self) -> None:
        """Set it and wake all that wait; they return True even if it is cleared before they run. Thread: any.

        Each is handed the interpreter lock: whoever sets one event after another (the I/O thread, one per query) would
        only have the woken threads stand in its way, awake and waiting for that lock.
        """
        self._flag = True
        while self._parked:
            try:
                parking = self._parked.pop(0)
            except IndexError:  # another setter, or a time-out, was faster
                return
            parking.hand_over = True
            parking.unpark()

    def clear(self) -> None:
        """Clear it. Thread: any."""
        self._flag = False

    def wait(self, timeout_ns: int | None = None) -> bool:
        """Wait until it is set. True when it was, False after timeout_ns (None: no limit; 0 or less: only look).

        Thread: any. May block.
        """
        if self._flag:
            return True
        if timeout_ns is not None and timeout_ns <= 0:
            return False
        parking = Parking(self._registry.current(), self)
        self._parked.append(parking)
        woken: bool = self._flag
        try:
            if not woken:
                woken = parking.enter().park(timeout_ns)
        finally:
            parking.leave()
            try:
                self._parked.remove(parking)
            except ValueError:  # a setter took it from the queue, so it was set
                woken = True
            else:
                parking.keep_gate()
        return woken

    def waiters(self) -> Sequence[ThreadTask]:
        """The tasks that wait, the longest waiting first. Thread: any."""
        return [parking.task for parking in list(self._parked)]

    def holders(self) -> Sequence[Holder]:
        """Who owes the setting, as `owed_by` says; the scheduler when it is set; nobody otherwise. Thread: any."""
        if self._flag:
            return (SCHEDULER,)
        return () if self._owed_by is None else self._owed_by()

    def __repr__(self) -> str:
        return f"<ThreadEvent {self.name!r} {'set' if self._flag else 'clear'}, {len(self._parked)} waiting>"
