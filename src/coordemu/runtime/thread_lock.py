"""ThreadLock: a mutual exclusion lock that knows its owner and its waiters.

Role: the module lock, the queues' locks and every other lock of the layers. The uncontended path is a
non-blocking acquire of a raw `_thread` lock and one store of the caller's task; the release compares and clears
that. Only a task that finds the lock taken registers as a waiter, so that the wait-for graph costs nothing
where nobody waits (bench/ measures it).

Thread: any. Upstream: pthread_mutex_t; for the module lock RedisModule_ThreadSafeContextLock. Left out:
reentrance, fairness (whoever gets there first has it, as with a mutex), priority inheritance.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Sequence
from typing import Self

from coordemu.runtime.base import Holder
from coordemu.runtime.thread_task import TaskRegistry, ThreadTask, Wait, wait_limit_s
from coordemu.runtime.waitables import SCHEDULER

# Positional for speed: a keyword would add half to the uncontended path.
NO_WAIT = False
WAIT = True


class ThreadLock:
    """A named lock of one runtime. Not reentrant: its owner's second acquire waits for itself."""

    __slots__ = ("_caller", "_give", "_owner", "_raw", "_registry", "_take", "_waiters", "name")

    kind = "lock"
    relation = "held by"

    def __init__(self, registry: TaskRegistry, name: str) -> None:
        self.name = name
        self._registry = registry
        self._caller = registry.caller
        self._raw = allocate_lock()
        self._take = self._raw.acquire
        self._give = self._raw.release
        self._owner: ThreadTask | None = None
        self._waiters: list[ThreadTask] = []

    @property
    def owner(self) -> ThreadTask | None:
        """The task that holds it; None when it is free or just changing hands. Thread: any."""
        return self._owner

    def acquire(self, timeout_ns: int | None = None) -> bool:
        """Take it. True when taken, False only after timeout_ns (None: no limit; 0 or less: try).

        Thread: any. May block. Upstream: pthread_mutex_lock, pthread_mutex_trylock.
        """
        if self._take(NO_WAIT):
            self._owner = self._caller.task or self._registry.current()
            return True
        if timeout_ns is not None and timeout_ns <= 0:
            return False
        return self._acquire_slow(timeout_ns)

    def _acquire_slow(self, timeout_ns: int | None) -> bool:
        task = self._registry.current()
        wait = Wait(task, self).enter()
        self._waiters.append(task)
        try:
            taken = self._take(WAIT, wait_limit_s(timeout_ns))
        finally:
            self._waiters.remove(task)
            wait.leave()
        if taken:
            self._owner = task
        return taken

    def release(self) -> None:
        """Give it back. Raises RuntimeError when the caller is not the owner, and changes nothing then.

        Thread: the owner's. Never blocks. Upstream: pthread_mutex_unlock.
        """
        owner = self._owner
        if owner is None or owner is not self._caller.task:
            self._refuse()
        self._owner = None
        self._give()

    def _refuse(self) -> None:
        caller = self._registry.current().name
        owner = self._owner
        raise RuntimeError(f"{caller} releases lock {self.name!r}, held by {owner.name if owner else 'nobody'}")

    def locked(self) -> bool:
        """True while somebody holds it. Thread: any."""
        return self._raw.locked()

    def waiters(self) -> Sequence[ThreadTask]:
        """The tasks that wait for it, in the order of their coming (not that of their getting it). Thread: any."""
        return list(self._waiters)

    def holders(self) -> Sequence[Holder]:
        """The owner; the scheduler while the lock is free, for then a waiter only has to run. Thread: any."""
        owner = self._owner
        return (SCHEDULER,) if owner is None else (owner,)

    def __enter__(self) -> Self:
        if self._take(NO_WAIT):
            self._owner = self._caller.task or self._registry.current()
        else:
            self._acquire_slow(None)
        return self

    def __exit__(self, *exc: object) -> None:
        owner = self._owner  # as release, without the price of a call
        if owner is None or owner is not self._caller.task:
            self._refuse()
        self._owner = None
        self._give()

    def __repr__(self) -> str:
        owner = self._owner
        state = f"held by {owner.name}" if owner else "free"
        return f"<ThreadLock {self.name!r} {state}, {len(self._waiters)} waiting>"
