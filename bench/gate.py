"""The drain's gate alone: the last reply is taken on one thread; when does whoever waits for that go on?

Role: the part of `bench.drain` without sockets and connections. A completer thread takes the last reply at a random
time; the continuation runs on that thread, or on a waiting one, which is woken or polls, by the means of coordemu
(PendingTable) and by those that Python offers. The time runs from just before the count that takes the last reply to
the first line after the wait.

Thread: the caller's waits, one of the rig's own completes. Upstream: the write-up's poll in MRConnManager_Shrink.
Left out: waiters in C.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from time import monotonic_ns

from bench.measure import US, Case, Contender, Effort
from coordemu.native import PendingTable

TIMEOUT_NS = 10_000_000_000
OTHER_REPLIES = 50
POLL_10 = "10 ms poll (the write-up's, time.sleep)"
CONTINUATION = "continuation on the popping thread"
WAKE = "another thread, wait_for_wake"
CONDITION = "another thread, threading.Condition"
EVENTFD = "another thread, os.eventfd"


class GateRig:
    """A table with one reply outstanding, a thread that takes it when told, and the ways to wait for that."""

    def __init__(self, seed: int = 1, shortest_ms: float = 2.0, longest_ms: float = 13.0) -> None:
        """shortest_ms, longest_ms: when the reply is taken, after the wait began."""
        self._random = random.Random(seed)
        self._span_ms = (shortest_ms, longest_ms)
        self._table = PendingTable("bench")
        self._table.attach(0, 1)
        self._table.set_connected(0, 1, True)
        self._table.attach(0, 0)
        self._table.set_connected(0, 0, True)
        self._condition = threading.Condition()
        self._event = threading.Event()
        self._fd = os.eventfd(0, os.EFD_CLOEXEC)
        self._job: Callable[[], None] | None = None
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._taken_ns = 0
        self._gone_on_ns = 0
        self._thread = threading.Thread(target=self._complete, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the completer."""
        self._job = None
        self._go.release()
        self._thread.join()
        os.close(self._fd)

    def _complete(self) -> None:
        while True:
            self._go.acquire()
            if self._job is None:
                return
            time.sleep(self._random.uniform(*self._span_ms) / 1e3)
            # An I/O thread takes the last reply among others: not as the first thing after a sleep, with cold caches.
            for _ in range(OTHER_REPLIES):
                self._table.count(0, 0, 1)
                self._table.count(0, 0, -1)
            self._taken_ns = monotonic_ns()
            if self._table.count(0, 1, -1):
                self._gone_on_ns = monotonic_ns()
            self._job()
            self._done.release()

    def _begin(self, after: Callable[[], None]) -> None:
        table = self._table
        table.end_drain()
        self._event.clear()
        table.count(0, 1, 1)
        table.begin_drain(1)
        self._job = after
        self._go.release()

    def _end(self, seen_ns: int) -> float:
        self._done.acquire()
        return (seen_ns - self._taken_ns) / 1e3

    # ---- the ways; each returns one sample in us

    def continuation(self) -> float:
        """No waiter: the thread that took the last reply goes on."""
        self._begin(_nothing)
        self._done.acquire()
        return (self._gone_on_ns - self._taken_ns) / 1e3

    def wake(self) -> float:
        """PendingTable.wait_for_wake."""
        self._begin(_nothing)
        self._table.wait_for_wake(TIMEOUT_NS)
        return self._end(monotonic_ns())

    def polling(self, interval_ms: int) -> float:
        """PendingTable.wait_by_polling."""
        self._begin(_nothing)
        self._table.wait_by_polling(interval_ms * 1_000_000, TIMEOUT_NS)
        return self._end(monotonic_ns())

    def sleeping(self, interval_ms: int) -> float:
        """Look, sleep, look again, in Python."""
        self._begin(_nothing)
        any_pending = self._table.any_pending
        while any_pending(1):
            time.sleep(interval_ms / 1e3)
        return self._end(monotonic_ns())

    def condition(self) -> float:
        """threading.Condition, notified by the completer."""

        def notify() -> None:
            with self._condition:
                self._condition.notify()

        with self._condition:
            self._begin(notify)
            while self._table.any_pending(1):
                self._condition.wait()
            seen_ns = monotonic_ns()
        return self._end(seen_ns)

    def event(self) -> float:
        """threading.Event, set by the completer."""
        self._begin(self._event.set)
        self._event.wait()
        return self._end(monotonic_ns())

    def eventfd(self) -> float:
        """A raw hand-over: write and read of an eventfd."""
        self._begin(lambda: os.eventfd_write(self._fd, 1))
        os.eventfd_read(self._fd)
        return self._end(monotonic_ns())

    def case(self, title: str, effort: Effort, rounds: int, note: str = "") -> Case:
        """All of them, in turn."""
        contenders = [
            Contender(POLL_10, lambda: self.sleeping(10)),
            Contender("1 ms poll, time.sleep", lambda: self.sleeping(1)),
            Contender(EVENTFD, self.eventfd),
            Contender(CONDITION, self.condition),
            Contender("another thread, threading.Event", self.event),
            Contender(CONTINUATION, self.continuation, ours=True),
            Contender(WAKE, self.wake, ours=True),
            Contender("another thread, wait_by_polling 10 ms", lambda: self.polling(10), ours=True),
            Contender("another thread, wait_by_polling 1 ms", lambda: self.polling(1), ours=True),
        ]
        return Case(title, US, contenders, [POLL_10, CONDITION], rounds, note, limits=[EVENTFD])


def _nothing() -> None:
    """What the completer does after the last reply when nobody needs to be told."""
