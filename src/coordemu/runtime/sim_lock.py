"""SimLock and SimCondition: mutual exclusion and its condition variable, one step at a time.

Role: a task that wants a lock announces it. While the lock is free all who want it can go on, and the schedule decides
who takes it, late comers included (barging, as with a mutex); the moment that one has it the others cannot, and wait.
Who was notified on a condition wants the lock from that moment on, and no longer the condition.

Thread: the simulator's one; any of its tasks. Upstream: pthread_mutex_t and pthread_cond_t (deps/thpool), the module
lock. Chances (`SimCore.pick`): a notification wakes another than the longest waiting; a wait ends without one, at once
or when another was meant. Left out: a spurious wake-up in the middle of a wait: it wants the lock like one at the
beginning, and the schedule decides when either gets it.
Bounds: one entry per waiting task.
"""

from __future__ import annotations

from collections.abc import Sequence

from coordemu.runtime.base import Holder, OwedBy
from coordemu.runtime.sim_core import SimCore
from coordemu.runtime.sim_task import ACQUIRE, READ, RELEASE, WRITE, SimTask
from coordemu.runtime.waitables import SCHEDULER


class SimLock:
    """A named lock of one simulated runtime. Not reentrant: its owner's second acquire waits for itself."""

    __slots__ = ("_core", "_try", "_wanting", "acquire_label", "name", "owner", "uid")

    kind = "lock"
    relation = "held by"

    def __init__(self, core: SimCore, name: str) -> None:
        self.name = name
        self.owner: SimTask | None = None
        self.uid = core.new_uid()
        self._core = core
        self._wanting: list[SimTask] = []
        self.acquire_label = f"acquire {name}"
        self._try = f"try {name}"

    def acquire(self, timeout_ns: int | None = None) -> bool:
        """Take it. True when taken, False only after timeout_ns (None: no limit; 0 or less: try). May block."""
        core = self._core
        task = core.current
        if task is core.outside or (timeout_ns is not None and timeout_ns <= 0):
            return self._try_acquire(task, timeout_ns)
        if core.calm and self.owner is None and not core.dead:  # nobody else can go first
            self.take(task)
            return True
        task.waitable = self
        task.since_ns = core.clock.now_ns
        task.granted = task.expired = False
        wanting = self._wanting
        due = None if timeout_ns is None else core.arm_expiry(task, timeout_ns)
        if self.owner is not None:
            core.disable(task)
        wanting.append(task)
        try:
            core.point(self.acquire_label)
        finally:
            wanting.remove(task)
            task.waitable = None
            if due is not None:
                task.deadline_ns = None
                core.clock.cancel(due)
        if self.owner is not None:
            return False
        # As `take`.
        self.owner = task
        if core.log is not None:
            core.log.append((self.uid, ACQUIRE))
        if wanting:
            core.block_all(wanting, core.clock.now_ns)
        return True

    def __enter__(self) -> bool:
        return self.acquire()

    def _try_acquire(self, task: SimTask, timeout_ns: int | None) -> bool:
        core = self._core
        core.point(self._try)
        if self.owner is None:
            self.take(task)
            return True
        if core.log is not None:
            core.log.append((self.uid, READ))
        if timeout_ns is None:
            raise RuntimeError(f"{self.acquire_label!r} would block, outside of any simulated task")
        return False

    def take(self, task: SimTask) -> None:
        """Make the task the owner; the others who want it have to wait."""
        self.owner = task
        core = self._core
        if core.log is not None:
            core.log.append((self.uid, ACQUIRE))
        if self._wanting:
            core.block_all(self._wanting, core.clock.now_ns)

    def release(self) -> None:
        """Give it back. Raises RuntimeError when the caller is not the owner, and changes nothing then."""
        self.__exit__()

    def __exit__(self, *exc: object) -> None:
        owner = self.owner
        if owner is None or owner is not self._core.current:
            caller = self._core.current.name
            raise RuntimeError(f"{caller} releases lock {self.name!r}, held by {owner.name if owner else 'nobody'}")
        self.owner = None
        core = self._core
        if core.log is not None:
            core.log.append((self.uid, RELEASE))
        if self._wanting:
            core.enable_all(self._wanting)

    def locked(self) -> bool:
        """True while somebody holds it."""
        if self._core.log is not None:
            self._core.log.append((self.uid, READ))
        return self.owner is not None

    def queue(self, task: SimTask) -> None:
        """A task that waits for a condition wants the lock instead, from now on."""
        task.waitable = self
        self._wanting.append(task)
        if self.owner is None:
            self._core.enable(task)

    def unqueue(self, task: SimTask) -> None:
        """Undo `queue`, when the task goes on."""
        self._wanting.remove(task)

    def waiters(self) -> Sequence[SimTask]:
        """The tasks that wait for it, in the order of their coming (not that of their getting it)."""
        return [task for task in self._wanting if not task.enabled]

    def holders(self) -> Sequence[Holder]:
        """The owner; the scheduler while the lock is free, for then a waiter only has to run."""
        owner = self.owner
        return (SCHEDULER,) if owner is None else (owner,)

    def __repr__(self) -> str:
        state = f"held by {self.owner.name}" if self.owner else "free"
        return f"<SimLock {self.name!r} {state}, {len(self.waiters())} waiting>"


class SimCondition:
    """A condition over `lock`. owed_by: names who will notify; without it a wait here looks orphaned."""

    __slots__ = ("_core", "_notify", "_owed_by", "_wait", "_waiting", "lock", "name", "uid")

    kind = "condition"
    relation = "owed by"

    def __init__(self, core: SimCore, lock: SimLock, name: str, owed_by: OwedBy | None) -> None:
        self.name = name
        self.lock = lock
        self.uid = core.new_uid()
        self._core = core
        self._owed_by = owed_by
        self._waiting: list[SimTask] = []
        self._wait = f"wait {name}"
        self._notify = f"notify {name}"

    def wait(self, timeout_ns: int | None = None) -> bool:
        """Release the lock, wait for a notification, take the lock again. False after timeout_ns (None: no limit).

        Raises RuntimeError when the caller does not hold the lock. May block, also beyond the time-out, for the lock.
        """
        core = self._core
        task = core.current
        if self.lock.owner is not task:
            raise RuntimeError(f"{task.name} waits on condition {self.name!r} without lock {self.lock.name!r}")
        # Notifying needs no lock, so here a notification can still come too early.
        core.point(self._wait)
        if core.log is not None:
            core.log.append((self.uid, WRITE))
        spurious = core.chances and self._by_chance(1, self._wait)
        core.begin_wait(task, self)
        core.disable(task)
        self._waiting.append(task)
        due = None
        if timeout_ns is not None:
            task.deadline_ns = core.clock.now_ns + timeout_ns
            due = core.arm(task.deadline_ns, lambda: self._expire(task))
        self.lock.release()
        if spurious:
            self._wake(-1)
        try:
            core.point(self.lock.acquire_label)
        finally:
            if due is not None:
                core.clock.cancel(due)
            if task in self._waiting:  # only at the end of a run
                self._waiting.remove(task)
            else:
                self.lock.unqueue(task)
            task.waitable = None
            task.deadline_ns = None
        self.lock.take(task)
        return task.granted

    def _expire(self, task: SimTask) -> None:
        if task in self._waiting:
            if self._core.log is not None:
                self._core.log.append((self.uid, WRITE))
            self._waiting.remove(task)
            self.lock.queue(task)

    def notify(self, n: int = 1) -> None:
        """Wake the n (0 or more) that have waited longest, or as many as there are. Never blocks."""
        self._core.point(self._notify)
        if self._core.log is not None:
            self._core.log.append((self.uid, WRITE))
        chances = self._core.chances
        while n > 0 and self._waiting:
            self._wake(self._core.pick(len(self._waiting), self._notify) if chances else 0)
            n -= 1
        if chances and self._waiting:
            extra = self._by_chance(len(self._waiting), self._notify)
            if extra:
                self._wake(extra - 1)

    def _wake(self, at: int) -> None:
        task = self._waiting.pop(at)
        task.granted = True
        self.lock.queue(task)

    def _by_chance(self, count: int, cause: str) -> int:
        """0, or which of so many waiters wakes without having been notified."""
        core = self._core
        if not core.spurious_left:
            return 0
        which = core.pick(count + 1, f"spurious at {cause}")
        if which:
            core.spurious_left -= 1
        return which

    def notify_all(self) -> None:
        """Wake all that wait now. Never blocks."""
        self._core.point(self._notify)
        if self._core.log is not None:
            self._core.log.append((self.uid, WRITE))
        for task in self._waiting:
            task.granted = True
            self.lock.queue(task)
        self._waiting.clear()

    def waiters(self) -> Sequence[SimTask]:
        """The tasks that wait and were not notified yet, the longest waiting first."""
        return list(self._waiting)

    def holders(self) -> Sequence[Holder]:
        """Who owes the notification, as `owed_by` says; nobody without it."""
        return () if self._owed_by is None else self._owed_by()

    def __repr__(self) -> str:
        return f"<SimCondition {self.name!r} over {self.lock.name!r}, {len(self._waiting)} waiting>"
