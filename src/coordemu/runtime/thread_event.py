"""ThreadEvent: a flag that can be set, cleared and waited for.

Role: one-shot hand-overs, such as "the reply is there" or "the thread has started". No lock is taken: a waiter
first queues itself and then reads the flag again, the setter first sets the flag and then reads the queue, so one of
the two always sees the other (each step is one operation under the interpreter lock). A waiter takes itself out.

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
        if self._parked:
            try:
                self._wake_all()
            except BaseException:  # a signal's handler raised
                self._wake_all()
                raise

    def _wake_all(self) -> None:
        for parking in self._parked[:]:
            parking.hand_over = True
            parking.unpark()

    def clear(self) -> None:
        """Clear it. Thread: any."""
        self._flag = False

    def wait(self, timeout_ns: int | None = None) -> bool:
        """Wait until it is set. True when it was, False after timeout_ns (None: no limit; 0 or less: only look).

        Thread: any. May block.
        """
        set_already: bool = self._flag
        if set_already or (timeout_ns is not None and timeout_ns <= 0):
            return set_already
        parking = Parking(self._registry.current(), self)
        try:
            self._parked.append(parking)
            if self._flag:
                return True
            parking.enter().park(timeout_ns)
        finally:
            parking.task.wait = parking.outer
            self._parked.remove(parking)
        return parking.over

    def waiters(self) -> Sequence[ThreadTask]:
        """The tasks that wait, the longest waiting first. Thread: any."""
        return [parking.task for parking in list(self._parked) if not parking.over]

    def holders(self) -> Sequence[Holder]:
        """Who owes the setting, as `owed_by` says; the scheduler when it is set; nobody otherwise. Thread: any."""
        if self._flag:
            return (SCHEDULER,)
        return () if self._owed_by is None else self._owed_by()

    def __repr__(self) -> str:
        return f"<ThreadEvent {self.name!r} {'set' if self._flag else 'clear'}, {len(self.waiters())} waiting>"
