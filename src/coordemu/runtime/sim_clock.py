"""SimClock: virtual time, and what is due when.

Role: sleeps, time limits, timers of loops and deliveries are entries of one heap. Nothing here moves by itself: the
core advances to the next entry when nothing can run (mode "idle"), or when the strategy chooses the clock (mode
"explored"). Everything that is due at the same instant is due together; which of it comes first is the schedule's
choice, not the clock's.

An entry may be *soft*: a look of a sleeping loop that changes nothing. When soft entries are all that is left, nothing
will ever happen but looking.

Thread: the simulator's one. Upstream: none (the kernel's clock, libuv's timer heap). Left out: clocks that differ
between machines, and time that passes while tasks compute. Bound: none; an entry per sleeper, time limit and armed
timer, plus cancelled ones that have not come up yet.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

from coordemu.runtime.base import NS_PER_S

# Not 0, which in the seam means "no such moment".
ORIGIN_NS = NS_PER_S


class Due:
    """One entry. `call` is None once it was cancelled or has happened."""

    __slots__ = ("at_ns", "call", "soft")

    def __init__(self, at_ns: int, call: Callable[[], None], soft: bool) -> None:
        self.at_ns = at_ns
        self.call: Callable[[], None] | None = call
        self.soft = soft


class SimClock:
    """The time of one run, and the entries. `now_ns` never goes back; `hard` counts entries that are not soft."""

    __slots__ = ("_entries", "_made", "hard", "now_ns")

    def __init__(self) -> None:
        self.now_ns = ORIGIN_NS
        self.hard = 0
        self._entries: list[tuple[int, int, Due]] = []
        self._made = 0

    def arm(self, at_ns: int, call: Callable[[], None], soft: bool = False) -> Due:
        """Have `call` run when time comes to at_ns (a moment that has passed counts as now)."""
        due = Due(at_ns, call, soft)
        self._made += 1
        if not soft:
            self.hard += 1
        heapq.heappush(self._entries, (at_ns, self._made, due))
        return due

    def cancel(self, due: Due) -> None:
        """Forget an entry. Idempotent."""
        if due.call is not None:
            due.call = None
            if not due.soft:
                self.hard -= 1

    def next_ns(self) -> int | None:
        """When the next entry is due; None when there is none."""
        entries = self._entries
        while entries and entries[0][2].call is None:
            heapq.heappop(entries)
        return entries[0][0] if entries else None

    def advance(self) -> bool:
        """Move to the next entry and run all that is due then. False when there is none."""
        at_ns = self.next_ns()
        if at_ns is None:
            return False
        self.now_ns = max(self.now_ns, at_ns)
        entries = self._entries
        while entries and entries[0][0] <= self.now_ns:
            due = heapq.heappop(entries)[2]
            call = due.call
            if call is not None:
                self.cancel(due)
                call()
        return True

    def __repr__(self) -> str:
        return f"<SimClock {self.now_ns} ns, {len(self._entries)} entries>"
