"""ThreadLock: a mutual exclusion lock that knows its owner and its waiters.

Role: the module lock, the queues' locks and every other lock of the layers. Only a task that finds it taken makes a
`Parking` and joins the queue, so the wait-for graph costs nothing where nobody waits (bench/ measures it).

What makes it exclusive. A free lock has an attribute `_free`, and to take the lock is to delete it: one instruction
of the interpreter (DELETE_ATTR, on a slot), which fails where it is gone already and runs no Python. So there is no
moment between a look and a store, on no version of CPython, under no tracer or monitor: all that is asked for is the
interpreter lock. `owner_now` is stored next and is for others to see: while it is None, the lock may be free or just
changing hands. A method call in the place of the deletion (`list.pop`, a raw lock's `acquire`) would be as exclusive,
but when a call returns, a signal's handler may raise, and then the lock is taken and nobody knows.

Who waits. The queue holds those that found the lock taken and those that a condition has let go: a notification moves
its waiter here, and the lock's release wakes it, rather than that it wakes only to wait again. A release wakes the
first, unless that one was woken before (`over`) and has not come yet: it will look at the lock, and its own release
goes on to the next. So a lock in great demand is not slowed down by wakings that lead to nothing. To be woken is no
promise of the lock, only of a look at it.

Why no wake-up is lost.

* A task joins the queue and then tries to take the lock; a release frees the lock and then looks at the queue. One
  of them sees the other.
* Only the task itself takes its parking out of the queue. It does so ahead of its look at the lock; so the first in
  the queue, when it is `over`, is one whose look is still to come, and whoever relies on that may.
* A time-out: the task takes itself out and then reads `over`; the waker stores `over` and then looks at the queue
  again. Either the task counts as woken, and looks at the lock, or the waker finds another first, and wakes that.
* An exception (a signal's handler raised, in the sleep or at any other step of the wait): whoever leaves the
  queue so wakes the first in its place. One that strikes a release between freeing the lock and waking the first has
  it wake them all, which is always allowed.

Thread: any. Upstream: pthread_mutex_t; for the module lock RedisModule_ThreadSafeContextLock. Left out: reentrance,
fairness (whoever gets there first has it, as with a mutex), priority inheritance; a release that a signal's handler
forestalls by raising at its very first instruction, as with every lock that is written in Python: the lock stays taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from time import monotonic_ns
from typing import Self

from coordemu.runtime.base import Holder
from coordemu.runtime.thread_gate import gate_open
from coordemu.runtime.thread_task import Parking, TaskRegistry, ThreadTask
from coordemu.runtime.waitables import SCHEDULER


class ThreadLock:
    """A named lock of one runtime. Not reentrant: its owner's second acquire waits for itself."""

    __slots__ = ("_caller", "_free", "_registry", "name", "owner_now", "queue")

    kind = "lock"
    relation = "held by"

    def __init__(self, registry: TaskRegistry, name: str) -> None:
        self.name = name
        self._registry = registry
        self._caller = registry.caller
        self._free = True
        # The task that holds it, and those that wait for it, also by way of a condition (which alone writes here, too).
        self.owner_now: ThreadTask | None = None
        self.queue: list[Parking] = []

    @property
    def owner(self) -> ThreadTask | None:
        """The task that holds it; None when it is free or just changing hands. Thread: any."""
        return self.owner_now

    def acquire(self, timeout_ns: int | None = None) -> bool:
        """Take it. True when taken, False only after timeout_ns (None: no limit; 0 or less: try).

        Thread: any. May block. Upstream: pthread_mutex_lock, pthread_mutex_trylock.
        """
        task = self._caller.task or self._registry.current()
        if self.owner_now is None:
            try:
                del self._free
                self.owner_now = task
                return True
            except AttributeError:
                pass  # another was faster
        return self._wait(task, timeout_ns)

    def _wait(self, task: ThreadTask, timeout_ns: int | None) -> bool:
        if timeout_ns is not None and timeout_ns <= 0:
            return False
        deadline_ns = None if timeout_ns is None else monotonic_ns() + timeout_ns
        woken = taken = False
        while True:
            parking = Parking(task, self)
            try:
                try:
                    if woken:  # somebody was faster: keep the place
                        self.queue.insert(0, parking)
                    else:
                        self.queue.append(parking)
                    try:
                        del self._free
                        taken = True
                        self.owner_now = task
                    except AttributeError:
                        task.wait = parking
                    if not taken:
                        parking.park(timeout_ns)
                finally:
                    task.wait = parking.outer
                    self.queue.remove(parking)
            except BaseException:
                if taken:
                    self.owner_now = None
                    self._free = True
                self.wake_first()
                raise
            if taken:
                return True
            woken = parking.over
            if not woken:
                return False
            if self.owner_now is None:
                try:
                    del self._free
                    self.owner_now = task
                    return True
                except AttributeError:
                    pass
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
        self._free = True
        if self.queue:
            try:
                self.wake_first()
            except BaseException:
                self.wake_all()
                raise

    def _refuse(self) -> None:
        caller = self._registry.current().name
        owner = self.owner_now
        raise RuntimeError(f"{caller} releases lock {self.name!r}, held by {owner.name if owner else 'nobody'}")

    # -- for a condition over this lock

    def wake_first(self) -> None:
        """Wake the first in the queue, unless it was woken, or the lock taken, meanwhile: then it is for the owner's
        release to do so. For when the lock is free. Thread: any. Never blocks."""
        while self.owner_now is None:
            try:
                first = self.queue[0]
            except IndexError:
                return
            if first.gone:
                with suppress(ValueError):  # another was faster
                    self.queue.remove(first)
            elif first.over:
                return
            else:
                first.over = True  # as unpark, without the price of a call
                gate_open(first.gate, first.hand_over)

    def wake_all(self) -> None:
        """Wake all, those that were woken before once more. Thread: any. Never blocks."""
        for parking in self.queue[:]:
            parking.unpark()

    # -- to look at

    def locked(self) -> bool:
        """True while somebody holds it. Thread: any."""
        return self.owner_now is not None

    def waiters(self) -> Sequence[ThreadTask]:
        """The tasks that wait for it, in the order of their coming (not that of their getting it). Thread: any."""
        return [parking.task for parking in list(self.queue) if not parking.over and not parking.gone]

    def holders(self) -> Sequence[Holder]:
        """The owner; the scheduler while the lock is free, for then a waiter only has to run. Thread: any."""
        owner = self.owner_now
        return (SCHEDULER,) if owner is None else (owner,)

    def __enter__(self) -> Self:
        task = self._caller.task or self._registry.current()
        if self.owner_now is None:  # as acquire, without the price of a call
            try:
                del self._free
                self.owner_now = task
                return self
            except AttributeError:
                pass
        self._wait(task, None)
        return self

    def __exit__(self, _kind: object = None, _error: object = None, _traceback: object = None, *_more: object) -> None:
        owner = self.owner_now  # as release, without the price of a call
        if owner is None or owner is not self._caller.task:
            self._refuse()
        self.owner_now = None
        self._free = True
        if self.queue:
            try:
                self.wake_first()
            except BaseException:
                self.wake_all()
                raise

    def __repr__(self) -> str:
        owner = self.owner_now
        state = f"held by {owner.name}" if owner else "free"
        return f"<ThreadLock {self.name!r} {state}, {len(self.waiters())} waiting>"
