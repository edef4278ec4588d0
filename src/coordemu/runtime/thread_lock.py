"""ThreadLock: a mutual exclusion lock that knows its owner and its waiters.

Role: the module lock, the queues' locks and every other lock of the layers. Taking a free lock is a look at its owner
and a store of the caller's task; giving it back is a comparison and a store. Nothing below them is needed: between
the look and the store there is no point at which CPython lets another thread run (it does so at calls, at jumps back,
and where a trace function is called, which is between lines; so the two stand in one line). Only a task that finds
the lock taken makes a `Parking` and joins the queue, so the wait-for graph costs nothing where nobody waits (bench/
measures it).

Who waits. The queue holds those that found the lock taken and those that a condition has let go: a notification moves
its waiter here, and the lock's release wakes it, rather than that it wakes only to wait again. A release wakes the
first, unless one that was woken before is still on its way: that one looks at the lock when it comes, and its own
release goes on to the next. So a lock in great demand is not slowed down by wakings that lead to nothing.

Why no wake-up is lost. A task joins the queue and then looks at the lock again; a release frees the lock and then looks
at the queue. `on_its_way` is set before a task is woken, and cleared by that task before it looks at the lock; a
release that relied on it comes before that look. All are single steps under the interpreter lock.

Thread: any. Upstream: pthread_mutex_t; for the module lock RedisModule_ThreadSafeContextLock. Left out: reentrance,
fairness (whoever gets there first has it, as with a mutex), priority inheritance.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic_ns
from typing import Self

from coordemu.runtime.base import Holder
from coordemu.runtime.thread_gate import gate_open
from coordemu.runtime.thread_task import Parking, TaskRegistry, ThreadTask
from coordemu.runtime.waitables import SCHEDULER


class ThreadLock:
    """A named lock of one runtime. Not reentrant: its owner's second acquire waits for itself."""

    __slots__ = ("_caller", "_registry", "name", "on_its_way", "owner_now", "queue")

    kind = "lock"
    relation = "held by"

    def __init__(self, registry: TaskRegistry, name: str) -> None:
        self.name = name
        self._registry = registry
        self._caller = registry.caller
        # The task that holds it, those in the queue, and whether one of them was woken and has not looked yet. Written
        # by this class and by the conditions over this lock.
        self.owner_now: ThreadTask | None = None
        self.queue: list[Parking] = []
        self.on_its_way = False

    @property
    def owner(self) -> ThreadTask | None:
        """The task that holds it; None when it is free or just changing hands. Thread: any."""
        return self.owner_now

    def acquire(self, timeout_ns: int | None = None) -> bool:
        """Take it. True when taken, False only after timeout_ns (None: no limit; 0 or less: try).

        Thread: any. May block. Upstream: pthread_mutex_lock, pthread_mutex_trylock.
        """
        task = self._caller.task or self._registry.current()
        if self.owner_now is None: self.owner_now = task; return True  # fmt: skip  # noqa: E701, E702
        return self._wait(task, timeout_ns)

    def _wait(self, task: ThreadTask, timeout_ns: int | None) -> bool:
        if timeout_ns is not None and timeout_ns <= 0:
            return False
        deadline_ns = None if timeout_ns is None else monotonic_ns() + timeout_ns
        place = len(self.queue)
        while True:
            parking = Parking(task, self)
            parking.enter()
            self.queue.insert(place, parking)
            in_time = True
            try:
                # Given back before it stood in the queue? Then nobody may wake it.
                if self.owner_now is not None or not self.withdraw(parking):
                    in_time = parking.park(timeout_ns) or not self.withdraw(parking)
            except BaseException:
                if not self.withdraw(parking):
                    self.on_its_way = False
                    if self.owner_now is None:
                        self.wake_first()
                raise
            finally:
                parking.leave()
            if not in_time:
                return False
            self.on_its_way = False
            if self.owner_now is None: self.owner_now = task; return True  # fmt: skip  # noqa: E701, E702
            place = 0  # somebody was faster
            if deadline_ns is not None:
                timeout_ns = deadline_ns - monotonic_ns()

    def release(self) -> None:
        """Give it back. Raises RuntimeError when the caller is not the owner, and changes nothing then.

        Thread: the owner's. Never blocks. Upstream: pthread_mutex_unlock.
        """
        owner = self.owner_now
        if owner is None or owner is not self._caller.task:
            self._refuse()
        self.owner_now = None
        if self.queue:
            self.wake_first()

    def _refuse(self) -> None:
        caller = self._registry.current().name
        owner = self.owner_now
        raise RuntimeError(f"{caller} releases lock {self.name!r}, held by {owner.name if owner else 'nobody'}")

    # -- for a condition over this lock

    def wake_first(self) -> None:
        """Wake the first in the queue, unless another is on its way. For when the lock is free. Thread: any.
        Never blocks."""
        while not self.on_its_way:
            self.on_its_way = True
            try:
                while (parking := self.queue.pop(0)).over:
                    pass  # it left, while a notification moved it here
            except IndexError:
                self.on_its_way = False
                if self.queue:
                    continue  # a release relied on this one meanwhile
                return
            parking.over = True  # as unpark, without the price of a call
            gate_open(parking.gate, parking.hand_over)
            return

    def withdraw(self, parking: Parking) -> bool:
        """Take it from the queue. False when it was woken before, and so must look at the lock. Thread: its task's."""
        try:
            self.queue.remove(parking)
        except ValueError:
            return False
        parking.keep_gate()
        return True

    # -- to look at

    def locked(self) -> bool:
        """True while somebody holds it. Thread: any."""
        return self.owner_now is not None

    def waiters(self) -> Sequence[ThreadTask]:
        """The tasks that wait for it, in the order of their coming (not that of their getting it). Thread: any."""
        return [parking.task for parking in list(self.queue)]

    def holders(self) -> Sequence[Holder]:
        """The owner; the scheduler while the lock is free, for then a waiter only has to run. Thread: any."""
        owner = self.owner_now
        return (SCHEDULER,) if owner is None else (owner,)

    def __enter__(self) -> Self:
        task = self._caller.task or self._registry.current()
        if self.owner_now is None: self.owner_now = task; return self  # fmt: skip  # noqa: E701, E702
        self._wait(task, None)
        return self

    def __exit__(self, _kind: object = None, _error: object = None, _traceback: object = None, *_more: object) -> None:
        owner = self.owner_now  # as release, without the price of a call
        if owner is None or owner is not self._caller.task:
            self._refuse()
        self.owner_now = None
        if self.queue:
            self.wake_first()

    def __repr__(self) -> str:
        owner = self.owner_now
        state = f"held by {owner.name}" if owner else "free"
        return f"<ThreadLock {self.name!r} {state}, {len(self.queue)} waiting>"
