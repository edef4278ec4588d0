"""Turns: the semaphore that says how many callers may have a connection at once, and the line of those who wait.

Role: a caller holds a turn from before it looks for a connection until after it has given it back; a dial whose caller
has gone holds the turn that the caller left. Where a turn is free and nobody waits, taking one is a look under a lock.
Who waits stands in line, and a turn that is given back goes to the head of the line directly: it is never free in
between, so nobody can come in from the side. Granting and giving up are decided under the same lock, and whichever
comes first stands.

The line may have a bound (`max_waiting`): who would be beyond it is turned away at once. Before that, when the line
reaches `pressure_at` callers, `on_pressure` is told, and again when it has fallen below.

Thread: any. Upstream: FastSemaphore (internal/semaphore.go), a buffered channel: there, a release too many hangs for
ever, and the pool's closing wakes nobody; here it raises, and `close` wakes all. Left out: AcquireBlocking (no
context), FIFOSemaphore (the same without a fast path). Bound of the line: `max_waiting`; 0: none, as upstream's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from coordemu.pool.pool_context import PoolContext, park
from coordemu.pool.pool_errors import PoolClosed, PoolError, PoolOverloaded, TurnsOverfull
from coordemu.runtime.base import Event, Holder, Runtime

Pressure = Callable[[int, int], None]
GRANTED, SHUT = "granted", "shut"


class NoTurn(PoolError):
    """The deadline of the line has passed; the pool makes its own error of it."""


class TurnWaiter:
    """One in line. `outcome`: "" while it waits.  number: its place in the order of coming."""

    __slots__ = ("cancelled", "event", "name", "number", "outcome")

    def __init__(self, name: str, number: int, event: Event) -> None:
        self.name = name
        self.number = number
        self.event = event
        self.outcome = ""
        self.cancelled = False


class Turns:
    """`size` turns. A `Waitable`: a waiter is blocked as long as all holders are."""

    any_suffices = True
    kind = "turns"
    relation = "held by"

    def __init__(
        self,
        rt: Runtime,
        size: int,
        name: str,
        max_waiting: int = 0,
        pressure_at: int = 0,
        on_pressure: Pressure | None = None,
        holders: Callable[[], Sequence[Holder]] | None = None,
    ) -> None:
        """size: 1 or more.  max_waiting: 0 or more, 0: no bound.  pressure_at: 0 or more, 0: never.  on_pressure:
        called
        with (waiting, max_waiting), outside the lock.  holders: who has turns, for the wait-for graph.

        Raises ValueError outside the bounds. Thread: any.
        """
        if size < 1 or max_waiting < 0 or pressure_at < 0:
            raise ValueError(f"{name}: size {size}, max_waiting {max_waiting}, pressure_at {pressure_at}")
        self.name = name
        self.size = size
        self._rt = rt
        self._lock = rt.lock(name)
        self._free = size
        self._line: deque[TurnWaiter] = deque()
        self._max_waiting = max_waiting
        self._pressure_at = pressure_at
        self._on_pressure = on_pressure
        self._under_pressure = False
        self._holders = holders
        self._closed = False
        self._came = 0
        self._served: int = 0
        self._waits = 0
        self._wait_ns = 0
        self._overloads = 0
        self._longest_line = 0
        self._pressures = 0
        self.out_of_order = 0

    # -- taking

    def try_acquire(self) -> bool:
        """Take a turn if one is free and nobody waits. Thread: any. Never blocks for long. Upstream: TryAcquire."""
        with self._lock:
            return self._take_locked()

    def _take_locked(self) -> bool:
        if self._free and not self._line:
            self._free -= 1
            return True
        return False

    def acquire(self, ctx: PoolContext | None = None, deadline_ns: int | None = None) -> int:
        """Take a turn, in the order of coming. How long it waited, ns.

        deadline_ns: on the runtime's clock; None: no limit but the context's.
        Raises NoTurn (the deadline), Cancelled, DeadlineExceeded (the context), PoolOverloaded (no place in line),
        PoolClosed; no turn is held then. Thread: any. May block. Upstream: Acquire.
        """
        error = ctx.error() if ctx is not None else None
        if error is not None:
            raise error
        waiter = self._join()
        if waiter is None:
            return 0
        began_ns = self._rt.now_ns()
        try:
            self._tell_pressure()
            park(self._rt, waiter.event, ctx, deadline_ns)
        finally:
            waited_ns = self._rt.now_ns() - began_ns
            outcome = self._leave(waiter, waited_ns)
        if outcome == GRANTED:
            return waited_ns
        if outcome == SHUT:
            raise PoolClosed(f"{self.name}: closed while {waiter.name} waited for a turn")
        error = ctx.error() if ctx is not None else None
        raise error if error is not None else NoTurn(self.name)

    def _join(self) -> TurnWaiter | None:
        """A turn at once (None), or a place in line."""
        with self._lock:
            if self._closed:
                raise PoolClosed(f"{self.name}: closed")
            return None if self._take_locked() else self._queue_locked()

    def _queue_locked(self) -> TurnWaiter:
        if self._max_waiting and len(self._line) >= self._max_waiting:
            self._overloads += 1
            raise PoolOverloaded(f"{self.name}: {len(self._line)} callers wait already, as many as may")
        self._came += 1
        event = self._rt.event(f"a turn of {self.name}", owed_by=self._owed_by)
        waiter = TurnWaiter(self._rt.current().name, self._came, event)
        self._line.append(waiter)
        self._longest_line = max(self._longest_line, len(self._line))
        return waiter

    def _leave(self, waiter: TurnWaiter, waited_ns: int) -> str:
        with self._lock:
            if not waiter.outcome:
                self._line.remove(waiter)
            else:
                self._count_wait_locked(waiter, waited_ns)
        self._tell_pressure()
        return waiter.outcome

    def _count_wait_locked(self, waiter: TurnWaiter, waited_ns: int) -> None:
        if waiter.outcome == GRANTED:
            self._waits += 1
            self._wait_ns += waited_ns

    # -- giving back

    def release(self) -> None:
        """Give a turn back; the head of the line has it at once.

        Raises TurnsOverfull, and changes nothing, when all are free. Thread: any. Never blocks for long.
        Upstream: Release, which then blocks for ever.
        """
        with self._lock:
            waiter = self._give_locked()
        if waiter is not None:
            waiter.event.set()

    def _give_locked(self) -> TurnWaiter | None:
        if self._free >= self.size:
            raise TurnsOverfull(
                f"{self.name}: {self._rt.current().name} gives back a turn, and all {self.size} are free"
            )
        if not self._line:
            self._free += 1
            return None
        waiter = self._line.popleft()
        waiter.outcome = GRANTED
        self._note_served_locked(waiter)
        return waiter

    def _note_served_locked(self, waiter: TurnWaiter) -> None:
        if waiter.number < self._served:
            self.out_of_order += 1
        self._served = max(self._served, waiter.number)

    def close(self) -> None:
        """Turn away who waits and who comes. Turns that are held are given back as ever. Thread: any."""
        with self._lock:
            self._closed = True
            waiting = list(self._line)
            self._line.clear()
            for waiter in waiting:
                waiter.outcome = SHUT
        for waiter in waiting:
            waiter.event.set()

    # -- back-pressure

    def _tell_pressure(self) -> None:
        """Tell once when the line has grown to the mark, and once when it has fallen below."""
        if not self._pressure_at or self._on_pressure is None:
            return
        with self._lock:
            waiting = len(self._line)
            pressed = waiting >= self._pressure_at
            changed = pressed != self._under_pressure
            self._under_pressure = pressed
            self._pressures += changed and pressed
        if changed:
            self._on_pressure(waiting, self._max_waiting)

    # -- from outside

    @property
    def held(self) -> int:
        """Turns that somebody has."""
        return self.size - self._free

    @property
    def waiting(self) -> int:
        """Callers in line."""
        return len(self._line)

    def holders(self) -> Sequence[Holder]:
        """Who could give a turn back. Thread: any."""
        held = self._holders() if self._holders is not None else ()
        return list(held) or ["whoever holds a turn"]

    def _owed_by(self) -> Sequence[Holder]:
        return [self]

    def broken_rules(self) -> list[str]:
        """What is wrong with them, at any time: one sentence each, after its rule's letters. Thread: any. May block
        shortly."""
        with self._lock:
            free, line = self._free, [waiter.name for waiter in self._line]
        wrong = []
        if not 0 <= free <= self.size:
            wrong.append(f"S1 {self.name}: {free} of {self.size} turns are free")
        if line and free > 0:
            wrong.append(f"Q4 {self.name}: {free} turns are free, and {', '.join(line)} wait for one")
        if self.out_of_order:
            wrong.append(f"S8 {self.name}: {self.out_of_order} times somebody was served before one who came earlier")
        return wrong

    def statistics(self) -> dict[str, int]:
        """size, free, waiting, and since the start: waits (that ended with a turn), wait_ns, overloads, longest_line,
        pressures. Thread: any."""
        return {
            "size": self.size,
            "free": self._free,
            "waiting": len(self._line),
            "waits": self._waits,
            "wait_ns": self._wait_ns,
            "overloads": self._overloads,
            "longest_line": self._longest_line,
            "pressures": self._pressures,
        }

    def __repr__(self) -> str:
        return f"<Turns {self.name!r} {self.held}/{self.size} held, {len(self._line)} waiting>"
