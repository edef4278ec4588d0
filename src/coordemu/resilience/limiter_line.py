"""WaitingLine: who waits for a permit or for tokens, in the order of their coming.

Role: what the rate limiters and the bulkhead have in common once somebody has to wait: places with numbers, a bound,
and the counts of how waits ended. It decides nothing: its owner calls every method under `lock` and says who is served.
Callers that need not wait never come here.

Thread: any, under `lock`; `statistics` and `broken_order` without. Upstream: none; the model's semaphores are channels.
Left out: priorities (who came first is served first, however much he asks for). Bound: `max_waiting` places; 0: none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from coordemu.runtime.base import Event, Holder, Runtime, Task

SERVED, TIMED_OUT, CALLED_OFF = "served", "timed-out", "called-off"


class LineWaiter:
    """One in line. number: its place in the order of coming.  units: what it asks for.  served: whether it has it."""

    __slots__ = ("event", "number", "served", "task", "units")
    event: Event

    def __init__(self, task: Task, number: int, units: int) -> None:
        self.task = task
        self.number = number
        self.units = units
        self.served = False


class WaitingLine:
    """The line of one limiter or bulkhead, whose `name` it has. what: what is waited for, in words.

    max_waiting: places, 0: no bound. Raises ValueError below 0. Thread: any.
    """

    def __init__(self, rt: Runtime, name: str, what: str, max_waiting: int) -> None:
        if max_waiting < 0:
            raise ValueError(f"{name}: max_waiting {max_waiting} is below 0")
        self.name = name
        self.lock = rt.lock(name)
        self.max_waiting = max_waiting
        self.out_of_order = 0
        self._rt = rt
        self._what = f"{what} of {name}"
        self._line: deque[LineWaiter] = deque()
        self._came = 0
        self._last_served = 0
        self._ended = {SERVED: 0, TIMED_OUT: 0, CALLED_OFF: 0}
        self._wait_ns = 0
        self._turned_away = 0
        self._longest = 0

    def __len__(self) -> int:
        return len(self._line)

    def __iter__(self) -> Iterator[LineWaiter]:
        return iter(self._line)

    @property
    def head(self) -> LineWaiter | None:
        """Who is served next; None: nobody waits."""
        return self._line[0] if self._line else None

    @property
    def units(self) -> int:
        """What all in line ask for together."""
        return sum(waiter.units for waiter in self._line)

    @property
    def full(self) -> bool:
        """Whether there is no place left."""
        return 0 < self.max_waiting <= len(self._line)

    def join(self, units: int, owed_by: Callable[[LineWaiter], Sequence[Holder]]) -> LineWaiter:
        """The last place. owed_by: who can serve it, for the wait-for graph."""
        self._came += 1
        waiter = LineWaiter(self._rt.current(), self._came, units)
        waiter.event = self._rt.event(self._what, owed_by=lambda: owed_by(waiter))
        self._line.append(waiter)
        self._longest = max(self._longest, len(self._line))
        return waiter

    def turn_away(self) -> None:
        """Count somebody who was refused a place, or for whom waiting made no sense."""
        self._turned_away += 1

    def serve(self, waiter: LineWaiter) -> LineWaiter | None:
        """It has what it asked for, and leaves the line. Returns who is at the head in its stead, if it was there."""
        waiter.served = True
        if waiter.number < self._last_served:
            self.out_of_order += 1
        self._last_served = max(self._last_served, waiter.number)
        return self.leave(waiter)

    def leave(self, waiter: LineWaiter) -> LineWaiter | None:
        """It leaves the line, served or not. As `serve`; nothing happens when it has left."""
        was_head = waiter is self.head
        if was_head:
            self._line.popleft()
        elif waiter in self._line:
            self._line.remove(waiter)
        return self.head if was_head else None

    def count(self, how: str, waited_ns: int) -> None:
        """Count the end of a wait. how: SERVED, TIMED_OUT, CALLED_OFF."""
        self._ended[how] += 1
        if how == SERVED:
            self._wait_ns += max(0, waited_ns)

    def units_ahead(self, waiter: LineWaiter) -> int:
        """What those before it ask for together."""
        return sum(other.units for other in self._line if other.number < waiter.number)

    def task_ahead(self, waiter: LineWaiter) -> Task | None:
        """Who is at the head; None when it is the waiter. For the wait-for graph: no lock is held. Thread: any."""
        head = next(iter(tuple(self._line)), waiter)
        return None if head is waiter else head.task

    def broken_order(self) -> list[str]:
        """A sentence when somebody was overtaken. Thread: any."""
        if not self.out_of_order:
            return []
        return [f"S8 {self.name}: {self.out_of_order} times somebody was served before one who came earlier"]

    def statistics(self) -> dict[str, int]:
        """waiting, longest_line, and since the start: waits (that were served), wait_ns (of those), timed_out,
        called_off, turned_away (without waiting). Thread: any."""
        return {
            "waiting": len(self._line),
            "longest_line": self._longest,
            "waits": self._ended[SERVED],
            "wait_ns": self._wait_ns,
            "timed_out": self._ended[TIMED_OUT],
            "called_off": self._ended[CALLED_OFF],
            "turned_away": self._turned_away,
        }

    def __repr__(self) -> str:
        return f"<WaitingLine {self.name!r} {len(self._line)} waiting>"
