"""ThreadCondition: a condition variable over a `ThreadLock`.

Role: sleepers of the thread pool and of the work queue. Each waiter parks at a gate of its own, in a queue, so
that a notification is the longest waiting one's and no other's. The notified one is moved to the lock's queue, and
from that moment waits for the lock's turn, not for the condition: it would find the lock taken if it were woken
at once, since whoever notifies mostly holds it.

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
        self._parked.append(parking)
        lock.release()
        task.wait = parking
        notified = False
        try:
            notified = parking.park(timeout_ns)
        finally:
            if notified:
                lock.on_its_way = False
            elif not self._withdraw(parking):
                notified = True
                if not lock.withdraw(parking):
                    # Woken in the last moment; or on its way from here to there, where it must not count any more.
                    parking.over = True
                    lock.on_its_way = False
            parking.leave()
            lock.acquire()
        return notified

    def _withdraw(self, parking: Parking) -> bool:
        """False when a notification took it from the queue before; it counts, or it would be lost."""
        try:
            self._parked.remove(parking)
        except ValueError:
            return False
        parking.keep_gate()
        return True

    def notify(self, n: int = 1) -> None:
        """Have the n (0 or more) that have waited longest, or as many as there are, wait for the lock instead.

        They are woken one after the other as the lock is given back (at once, when it is free). Who is notified alone
        is handed the interpreter lock with it: its waker has done what it had to do. Thread: any. Never blocks.
        Upstream: pthread_cond_signal.
        """
        lock, alone = self._lock, n == 1
        while n > 0 and self._parked:
            try:
                parking = self._parked.pop(0)
            except IndexError:  # another notifier, or a time-out, was faster
                break
            parking.waitable, parking.hand_over = lock, alone
            lock.queue.append(parking)
            n -= 1
        if lock.owner_now is None:
            lock.wake_first()

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
