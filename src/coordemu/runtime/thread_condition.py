"""ThreadCondition: a condition variable over a `ThreadLock`.

Role: sleepers of the thread pool and of the work queue. Each waiter parks at a gate of its own, in a queue, so
that a notification is the longest waiting one's and no other's. The notified one is moved to the lock's queue, and
from that moment waits for the lock's turn, not for the condition: it would find the lock taken if it were woken
at once, since whoever notifies mostly holds it.

Whoever leaves its wait takes itself out of the queue that it is in, and then takes the lock, whatever ended the wait.
If it is between the two queues just then, the lock drops it, being `gone`. A notification that meets a time-out counts.

Thread: any. Notifying does not need the lock (as in POSIX), though a layer that wants no lost wake-up changes
its predicate under it. Bound of the queue: one entry per waiting thread. Upstream: pthread_cond_t
(deps/thpool). Left out: predicates (wait in a loop).
"""

from __future__ import annotations

from collections.abc import Sequence

from coordemu.runtime.base import Holder, OwedBy
from coordemu.runtime.thread_lock import ThreadLock
from coordemu.runtime.thread_task import Parking, TaskRegistry, ThreadTask


class ThreadCondition:
    """A condition over `lock`. owed_by: names who will notify; without it a wait here looks orphaned."""

    __slots__ = ("_caller", "_lock", "_owed_by", "_parked", "_registry", "name")

    kind = "condition"
    relation = "owed by"

    def __init__(self, registry: TaskRegistry, lock: ThreadLock, name: str, owed_by: OwedBy | None) -> None:
        self.name = name
        self._registry = registry
        self._caller = registry.caller
        self._lock = lock
        self._owed_by = owed_by
        self._parked: list[Parking] = []

    @property
    def lock(self) -> ThreadLock:
        """The lock that a waiter holds when it calls, and again when its wait returns."""
        return self._lock

    def wait(self, timeout_ns: int | None = None) -> bool:
        """Release the lock, wait for a notification, take the lock again. False after timeout_ns (None: no limit).

        Raises RuntimeError when the caller does not hold the lock. Thread: any. May block, also beyond the
        time-out, for the lock. Upstream: pthread_cond_wait, pthread_cond_timedwait.
        """
        lock, task = self._lock, self._caller.task
        if task is None or lock.owner_now is not task:
            task = self._registry.current()
            raise RuntimeError(f"{task.name} waits on condition {self.name!r} without lock {lock.name!r}")
        parking = Parking(task, self)
        notified = False
        try:
            try:
                self._parked.append(parking)
                lock.release()
                task.wait = parking
                parking.park(timeout_ns)
            finally:
                task.wait = parking.outer
                parking.gone = True
                try:
                    self._parked.remove(parking)
                except ValueError:  # a notification took it from the queue; it counts, or it would be lost
                    notified = True
                    try:  # noqa: SIM105 (its context manager costs as much as all the rest)
                        lock.queue.remove(parking)
                    except ValueError:
                        pass  # it is not there yet; being gone, it will be taken out
                if lock.owner_now is not task:
                    lock.acquire()
        finally:
            if lock.owner_now is not task:  # a signal's handler raised just now
                lock.acquire()
        return notified

    def notify(self, n: int = 1) -> None:
        """Have the n (0 or more) that have waited longest, or as many as there are, wait for the lock instead.

        They are woken one after the other as the lock is given back (at once, when it is free). Who is notified alone
        is handed the interpreter lock with it: its waker has done what it had to do. Thread: any. Never blocks.
        Upstream: pthread_cond_signal.
        """
        lock, alone, parking = self._lock, n == 1, None
        try:
            while n > 0:
                # Not a `try` at once: CPython may let a handler run where a loop begins anew, and leaves the first
                # instruction of an inner `try` out of what the outer one covers.
                longest = self._parked[:1]
                if not longest:
                    break
                parking = longest[0]
                try:
                    self._parked.remove(parking)
                except ValueError:  # another notifier, or a time-out, was faster
                    continue
                parking.waitable, parking.hand_over = lock, alone
                lock.queue.append(parking)
                n -= 1
            if lock.owner_now is None:
                lock.wake_first()
        except BaseException:  # a signal's handler raised, perhaps when the waiter was in neither queue
            if parking is not None:
                parking.unpark()
            lock.wake_all()
            raise

    def notify_all(self) -> None:
        """Wake all that wait now. Thread: any. Never blocks. Upstream: pthread_cond_broadcast."""
        self.notify(len(self._parked))

    def waiters(self) -> Sequence[ThreadTask]:
        """The tasks that wait and were not notified yet, the longest waiting first. Thread: any."""
        return [parking.task for parking in list(self._parked)]

    def holders(self) -> Sequence[Holder]:
        """Who owes the notification, as `owed_by` says; nobody without it. Thread: any."""
        return () if self._owed_by is None else self._owed_by()

    def __repr__(self) -> str:
        return f"<ThreadCondition {self.name!r} over {self._lock.name!r}, {len(self._parked)} waiting>"
