"""SimEvent, SimBarrier and SimSemaphore: hand-overs, meetings and counts, one step at a time.

Role: each operation is one step; who finds what it waits for goes on, who does not is not enabled until somebody grants
it. A grant is the waiter's own: an event that is cleared again before the waiter's step has been seen all the same, and
a semaphore's unit cannot be taken away.

Thread: the simulator's one; any of its tasks. Upstream: MRCtx' unblocking, the pool's barrier_t, its tickets. Left out:
what the threads runtime leaves out. Bounds: one entry per waiting task.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from coordemu.runtime.base import Holder, OwedBy, Task
from coordemu.runtime.sim_core import SimCore
from coordemu.runtime.sim_task import READ, WRITE, SimTask
from coordemu.runtime.waitables import SCHEDULER


class _Touched:
    """What knows its uid and its core."""

    __slots__ = ()
    uid: int
    _core: SimCore

    def _touch(self, how: int) -> None:
        log = self._core.log
        if log is not None:
            log.append((self.uid, how))


class SimEvent(_Touched):
    """A named flag, clear at first. owed_by: names who will set it; without it a wait here looks orphaned."""

    __slots__ = ("_clear", "_core", "_flag", "_owed_by", "_set", "_test", "_wait", "_waiting", "name", "uid")

    kind = "event"
    relation = "owed by"

    def __init__(self, core: SimCore, name: str, owed_by: OwedBy | None) -> None:
        self.name = name
        self.uid = core.new_uid()
        self._core = core
        self._owed_by = owed_by
        self._flag = False
        self._waiting: list[SimTask] = []
        self._test, self._set, self._clear, self._wait = f"test {name}", f"set {name}", f"clear {name}", f"wait {name}"

    def is_set(self) -> bool:
        """True while it is set."""
        self._core.point(self._test)
        self._touch(READ)
        return self._flag

    def set(self) -> None:
        """Set it and let all that wait go; they return True even if it is cleared before they run."""
        self._core.point(self._set)
        self._touch(WRITE)
        self._flag = True
        waiting, self._waiting = self._waiting, []
        for task in waiting:
            self._core.grant(task)

    def clear(self) -> None:
        """Clear it."""
        self._core.point(self._clear)
        self._touch(WRITE)
        self._flag = False

    def wait(self, timeout_ns: int | None = None) -> bool:
        """Wait until it is set. True when it was, False after timeout_ns (None: no limit; 0 or less: only look)."""
        core = self._core
        label = self._wait
        if self._flag or (timeout_ns is not None and timeout_ns <= 0):
            core.point(label)
            self._touch(READ)
            if self._flag or (timeout_ns is not None and timeout_ns <= 0):
                return self._flag
        self._waiting.append(core.current)
        task = core.current
        self._touch(READ)
        try:
            core.block(label, self, timeout_ns)
            self._touch(READ)
        finally:
            if not task.granted and task in self._waiting:
                self._waiting.remove(task)
        return task.granted

    def waiters(self) -> Sequence[SimTask]:
        """The tasks that wait, the longest waiting first."""
        return list(self._waiting)

    def holders(self) -> Sequence[Holder]:
        """Who owes the setting, as `owed_by` says; the scheduler when it is set; nobody otherwise."""
        if self._flag:
            return (SCHEDULER,)
        return () if self._owed_by is None else self._owed_by()

    def __repr__(self) -> str:
        return f"<SimEvent {self.name!r} {'set' if self._flag else 'clear'}, {len(self._waiting)} waiting>"


class SimBarrier(_Touched):
    """A barrier for n tasks (1 or more, ValueError otherwise). expected: the tasks that should come."""

    __slots__ = ("_arrive", "_came", "_core", "_expected", "_pass", "_waiting", "n", "name", "uid")

    kind = "barrier"
    relation = "which misses"

    def __init__(self, core: SimCore, n: int, name: str, expected: Callable[[], Sequence[Task]] | None) -> None:
        if n < 1:
            raise ValueError(f"barrier {name!r} for {n} tasks")
        self.name = name
        self.n = n
        self.uid = core.new_uid()
        self._core = core
        self._expected = expected
        self._came: list[SimTask] = []
        self._arrive, self._pass = f"arrive {name}", f"pass {name}"
        self._waiting: list[SimTask] = []

    @property
    def arrived(self) -> int:
        """How many have come."""
        return len(self._came)

    def wait(self) -> bool:
        """Wait until n have called. True for the last to arrive, False for the others.

        Raises RuntimeError, and changes nothing, when n have come already. May block, without limit.
        """
        core = self._core
        core.point(self._arrive)
        self._touch(WRITE)
        task = core.current
        if len(self._came) == self.n:
            raise RuntimeError(f"{task.name} comes to barrier {self.name!r} after its {self.n}")
        self._came.append(task)
        if len(self._came) == self.n:
            waiting, self._waiting = self._waiting, []
            for other in waiting:
                core.grant(other)
            return True
        self._waiting.append(task)
        core.block(self._pass, self)
        self._touch(READ)
        return False

    def waiters(self) -> Sequence[SimTask]:
        """The tasks that have come and wait."""
        return list(self._waiting)

    def holders(self) -> Sequence[Holder]:
        """The expected tasks that have not come; a plain count when no one was named."""
        missing = self.n - len(self._came)
        if not missing:
            return (SCHEDULER,)
        if self._expected is None:
            return (f"{missing} more tasks, not named",)
        return [task for task in self._expected() if task not in self._came]

    def __repr__(self) -> str:
        return f"<SimBarrier {self.name!r} {len(self._came)}/{self.n}>"


class SimSemaphore(_Touched):
    """A named semaphore with `value` free units at first (0 or more, ValueError otherwise)."""

    __slots__ = ("_core", "_give", "_take", "_waiting", "name", "uid", "value")

    kind = "semaphore"
    relation = "owed by"

    def __init__(self, core: SimCore, value: int, name: str) -> None:
        if value < 0:
            raise ValueError(f"semaphore {name!r} with value {value}")
        self.name = name
        self.value = value
        self._take, self._give = f"take {name}", f"give {name}"
        self.uid = core.new_uid()
        self._core = core
        self._waiting: list[SimTask] = []

    def acquire(self, timeout_ns: int | None = None) -> bool:
        """Take one unit. True when taken, False after timeout_ns (None: no limit; 0 or less: try). May block."""
        core = self._core
        label = self._take
        core.point(label)
        self._touch(WRITE)
        if self.value:
            self.value -= 1
            return True
        if timeout_ns is not None and timeout_ns <= 0:
            return False
        task = core.current
        self._waiting.append(task)
        try:
            core.block(label, self, timeout_ns)
            self._touch(WRITE)
        finally:
            if not task.granted and task in self._waiting:
                self._waiting.remove(task)
        return task.granted

    def release(self, n: int = 1) -> None:
        """Give n units (1 or more, ValueError otherwise); waiting tasks get them first. Never blocks."""
        if n < 1:
            raise ValueError(f"release of {n} units")
        self._core.point(self._give)
        self._touch(WRITE)
        served, self._waiting = self._waiting[:n], self._waiting[n:]
        self.value += n - len(served)
        for task in served:
            self._core.grant(task)

    def waiters(self) -> Sequence[SimTask]:
        """The tasks that wait, in the order in which they will be served."""
        return list(self._waiting)

    def holders(self) -> Sequence[Holder]:
        """Words only: units have no owner."""
        return (SCHEDULER,) if self.value else ("whoever releases it",)

    def __repr__(self) -> str:
        return f"<SimSemaphore {self.name!r} value {self.value}, {len(self._waiting)} waiting>"
