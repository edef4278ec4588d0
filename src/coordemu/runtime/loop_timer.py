"""LoopTimer and TimerHeap: the timers of one loop.

Role: reconnect delays, connect time-outs, a drain's deadline and poll. A timer that is stopped or armed anew
leaves its old entry in the heap, where it is recognised as stale when its turn comes; the heap is rebuilt when
more than half of it is stale. Bound: twice the armed timers, plus 64.

The clock is the heap's maker's: the system's on threads, virtual time in the simulator.

Thread: the loop's, or any while the loop does not run. Upstream: uv_timer_t, and libuv's timer heap. Left out:
a coarse clock cached per turn (deadlines are read from the clock itself, in nanoseconds).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Protocol

STALE_ALLOWED = 64


class TimerOwner(Protocol):
    """What a timer needs of its loop."""

    def check_usable(self) -> None:
        """Raise RuntimeError when the loop is closed, or runs on another thread."""
        ...


class TimerHeap:
    """Armed timers by deadline; those with equal deadlines in the order of their arming. Thread: the loop's.

    now_ns: reads the clock.
    """

    __slots__ = ("_armed", "_entries", "_next_key", "now_ns")

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self.now_ns = now_ns
        self._entries: list[tuple[int, int, LoopTimer]] = []
        self._armed = 0
        self._next_key = 1

    def __len__(self) -> int:
        return self._armed

    def arm(self, timer: LoopTimer, deadline_ns: int) -> None:
        """(Re)arm a timer for an absolute time."""
        if not timer.key:
            self._armed += 1
        timer.key = self._next_key
        timer.deadline_ns = deadline_ns
        self._next_key += 1
        heapq.heappush(self._entries, (deadline_ns, timer.key, timer))
        if len(self._entries) > 2 * self._armed + STALE_ALLOWED:
            self._entries = [entry for entry in self._entries if entry[1] == entry[2].key]
            heapq.heapify(self._entries)

    def disarm(self, timer: LoopTimer) -> None:
        """Stop a timer; nothing happens to one that is not armed."""
        if timer.key:
            timer.key = 0
            self._armed -= 1

    def next_deadline_ns(self) -> int | None:
        """The earliest deadline, None when no timer is armed."""
        entries = self._entries
        while entries and entries[0][1] != entries[0][2].key:
            heapq.heappop(entries)
        return entries[0][0] if entries else None

    def run_due(self) -> int:
        """Call back the timers that are due now. Returns how many.

        One that a callback arms is left for the next turn, even with no delay; one that a callback stops is not
        called. May be nested.
        """
        if self.next_deadline_ns() is None:
            return 0
        now_ns = self.now_ns()
        newest = self._next_key
        count = 0
        while True:
            deadline_ns = self.next_deadline_ns()
            if deadline_ns is None or deadline_ns > now_ns or self._entries[0][1] >= newest:
                return count
            timer = heapq.heappop(self._entries)[2]
            self.disarm(timer)
            timer.fire(now_ns)
            count += 1

    def clear(self) -> None:
        """Disarm all."""
        for _, _, timer in self._entries:
            self.disarm(timer)
        self._entries.clear()


class LoopTimer:
    """One timer. `key` identifies its living heap entry (0: not armed); the heap alone writes it."""

    __slots__ = ("_callback", "_heap", "_owner", "_repeat_ns", "deadline_ns", "key", "name")

    def __init__(self, owner: TimerOwner, heap: TimerHeap, callback: Callable[[], None], name: str) -> None:
        self.name = name
        self.key = 0
        self.deadline_ns = 0
        self._owner = owner
        self._heap = heap
        self._callback = callback
        self._repeat_ns = 0

    @property
    def active(self) -> bool:
        """True while it is armed. A timer that fires once is not, from inside its callback on."""
        return self.key != 0

    def start(self, delay_ns: int, repeat_ns: int = 0) -> None:
        """(Re)arm: call back after delay_ns, then every repeat_ns when that is not 0. Both 0 or more.

        A repeating timer that comes late does not catch up: its next turn is a full repeat_ns away. Raises
        ValueError for a negative time, RuntimeError on a closed loop or another thread than the running loop's.
        Upstream: uv_timer_start.
        """
        if delay_ns < 0 or repeat_ns < 0:
            raise ValueError(f"timer {self.name!r} with delay {delay_ns} ns, repeat {repeat_ns} ns")
        self._owner.check_usable()
        self._repeat_ns = repeat_ns
        heap = self._heap
        heap.arm(self, heap.now_ns() + delay_ns)

    def stop(self) -> None:
        """Disarm. Idempotent. Upstream: uv_timer_stop."""
        self._heap.disarm(self)

    def close(self) -> None:
        """Disarm, for good as far as the caller goes. Idempotent. Upstream: uv_close."""
        self._heap.disarm(self)

    def fire(self, now_ns: int) -> None:
        """Rearm a repeating timer, then call back. Thread: the loop's; called by the heap alone."""
        if self._repeat_ns:
            next_ns = self.deadline_ns + self._repeat_ns
            self._heap.arm(self, next_ns if next_ns > now_ns else now_ns + self._repeat_ns)
        self._callback()

    def __repr__(self) -> str:
        return f"<LoopTimer {self.name!r} {'armed' if self.key else 'stopped'}>"
