"""SimTimer and SimTimers: the timers of one simulated loop.

Role: what LoopTimer and TimerHeap are on threads, with the run's virtual clock instead of the system's. A loop that
polls sleeps at most until the earliest deadline; due timers run in its turn, in the order of their deadlines, and those
with equal deadlines in the order of their arming.

Thread: the simulator's one; the loop's task, or any while the loop does not run. Upstream: uv_timer_t, libuv's timer
heap. Left out: a clock cached per turn. Bound: twice the armed timers, plus 64.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

from coordemu.runtime.sim_clock import SimClock

STALE_ALLOWED = 64


class SimTimers:
    """Armed timers by deadline."""

    __slots__ = ("_armed", "_check_usable", "_entries", "_made", "clock")

    def __init__(self, clock: SimClock, check_usable: Callable[[], None]) -> None:
        self.clock = clock
        self._check_usable = check_usable
        self._entries: list[tuple[int, int, SimTimer]] = []
        self._made = 0
        self._armed = 0

    def __len__(self) -> int:
        return self._armed

    def check_usable(self) -> None:
        """Raise RuntimeError when the loop is closed, or another task turns it."""
        self._check_usable()

    def arm(self, timer: SimTimer, deadline_ns: int) -> None:
        """(Re)arm for a moment of virtual time."""
        if not timer.key:
            self._armed += 1
        self._made += 1
        timer.key = self._made
        timer.deadline_ns = deadline_ns
        heapq.heappush(self._entries, (deadline_ns, timer.key, timer))
        if len(self._entries) > 2 * self._armed + STALE_ALLOWED:
            self._entries = [entry for entry in self._entries if entry[1] == entry[2].key]
            heapq.heapify(self._entries)

    def disarm(self, timer: SimTimer) -> None:
        """Stop a timer; nothing happens to one that is not armed."""
        if timer.key:
            timer.key = 0
            self._armed -= 1

    def next_ns(self) -> int | None:
        """The earliest deadline; None when no timer is armed."""
        entries = self._entries
        while entries and entries[0][1] != entries[0][2].key:
            heapq.heappop(entries)
        return entries[0][0] if entries else None

    def run_due(self) -> int:
        """Call back the timers that are due; returns how many. What a callback arms is left for the next turn."""
        now_ns, newest, count = self.clock.now_ns, self._made, 0
        while True:
            deadline_ns = self.next_ns()
            if deadline_ns is None or deadline_ns > now_ns or self._entries[0][1] > newest:
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


class SimTimer:
    """One timer. `key` identifies its living entry, 0 when it is not armed; `SimTimers` alone writes it."""

    __slots__ = ("_callback", "_repeat_ns", "_timers", "deadline_ns", "key", "name")

    def __init__(self, timers: SimTimers, callback: Callable[[], None], name: str) -> None:
        self.name = name
        self.key = 0
        self.deadline_ns = 0
        self._timers = timers
        self._callback = callback
        self._repeat_ns = 0

    @property
    def active(self) -> bool:
        """True while it is armed."""
        return self.key != 0

    def start(self, delay_ns: int, repeat_ns: int = 0) -> None:
        """(Re)arm: call back after delay_ns, then every repeat_ns when that is not 0. Both 0 or more.

        Raises ValueError for a negative time, RuntimeError on a closed loop or from another task than the one that
        turns it.
        """
        if delay_ns < 0 or repeat_ns < 0:
            raise ValueError(f"timer {self.name!r} with delay {delay_ns} ns, repeat {repeat_ns} ns")
        self._timers.check_usable()
        self._repeat_ns = repeat_ns
        self._timers.arm(self, self._timers.clock.now_ns + delay_ns)

    def stop(self) -> None:
        """Disarm. Idempotent."""
        self._timers.disarm(self)

    def close(self) -> None:
        """Disarm, for good as far as the caller goes. Idempotent."""
        self._timers.disarm(self)

    def fire(self, now_ns: int) -> None:
        """Rearm a repeating timer, then call back. Called by `SimTimers` alone."""
        if self._repeat_ns:
            next_ns = self.deadline_ns + self._repeat_ns
            self._timers.arm(self, next_ns if next_ns > now_ns else now_ns + self._repeat_ns)
        self._callback()

    def __repr__(self) -> str:
        return f"<SimTimer {self.name!r} {'armed' if self.key else 'stopped'}>"
