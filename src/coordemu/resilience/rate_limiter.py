"""RateLimiter: what token bucket and sliding log have in common: asking, standing in line, giving up.

Role: who finds what he asks for takes it and goes on; that is the subclasses' business and their fast path. Who does
not stands in line. Only the head of the line looks at the clock: it sleeps until its units are due, takes them, and
wakes the one behind it, who is the head from then on. So nobody grants anything to anybody: there is no moment at which
a waiter has been served and does not know it, and who gives up (deadline, cancelled context, an exception in the middle
of the wait) only has to hand his place on. While anybody is in line nobody comes in from the side: a big request gets
the next units that there are, and small ones behind it wait.

A caller whose time limit ends before his units could be due, even with nobody before him, is turned away at once.

Thread: any. Upstream: none; rate limiters of the field are in the reference's section 7 (one there serves small
requests first, another keeps no order). Left out: giving units back; several rates at once (ask two limiters).
Bound of the line: `max_waiting`; 0: none.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from coordemu.pool.pool_context import PoolContext, park
from coordemu.resilience.limiter_line import CALLED_OFF, SERVED, TIMED_OUT, LineWaiter, WaitingLine
from coordemu.resilience.resilience_errors import RateLimited
from coordemu.runtime.base import Holder, Runtime


class RateLimiter(ABC):
    """The part that stands in line. largest: units that one call may ask for, 1 or more.

    Raises ValueError outside the bounds. Thread: any.
    """

    kind = "limiter"

    def __init__(self, rt: Runtime, name: str, largest: int, max_waiting: int) -> None:
        if largest < 1:
            raise ValueError(f"{name}: {largest} units at most, which is below 1")
        self.name = name
        self.largest = largest
        self._rt = rt
        self._now_ns = rt.now_ns
        self._line = WaitingLine(rt, name, "units", max_waiting)
        self._admitted = 0

    # -- what a kind of limiter has of its own

    @abstractmethod
    def try_acquire(self, n: int = 1) -> bool:
        """Take n units if they are there and nobody waits.

        n: 1 to `largest`, ValueError otherwise. Thread: any. Never blocks for long.
        """

    @abstractmethod
    def acquire(self, n: int = 1, timeout_ns: int | None = None, ctx: PoolContext | None = None) -> int:
        """Take n units, in the order of coming. How long it waited, ns; 0: not at all.

        n: 1 to `largest`, ValueError otherwise.  timeout_ns: None: no limit but the context's; 0 or less: do not wait.
        Raises RateLimited (the time limit, or no place in line), Cancelled, DeadlineExceeded (the context); nothing is
        taken then. Thread: any. May block.
        """

    @abstractmethod
    def _enter_locked(self, n: int) -> bool:
        """Nobody waits: take n units (True), or see to it that nobody comes in from the side any more (False)."""

    @abstractmethod
    def _serve_locked(self, n: int) -> int:
        """Somebody waits: take n units (0), or say in how many ns they are due."""

    @abstractmethod
    def _due_locked(self, units: int) -> int:
        """In how many ns there will be so many units, if nobody else takes any; 0: now. units: may be above
        `largest`."""

    @abstractmethod
    def _open_locked(self) -> None:
        """Nobody waits any more."""

    # -- standing in line

    def _acquire_in_line(self, n: int, timeout_ns: int | None, ctx: PoolContext | None) -> int:
        """The slow path of `acquire`."""
        self._check(n)
        if timeout_ns is not None and timeout_ns <= 0:
            if self.try_acquire(n):
                return 0
            with self._line.lock:
                self._line.turn_away()
                raise RateLimited(self.name, 0, self._due_locked(self._line.units + n))
        began_ns = self._now_ns()
        waiter = self._join(n, timeout_ns)
        if waiter is None:
            return 0
        how = CALLED_OFF
        try:
            self._wait(waiter, timeout_ns, ctx)
            how = SERVED
        except RateLimited:
            how = TIMED_OUT
            raise
        finally:
            waited_ns = max(0, self._now_ns() - began_ns)
            self._hand_on(self._leave(waiter, how, waited_ns))
        return waited_ns

    def _check(self, n: int) -> None:
        if not 0 < n <= self.largest:
            raise ValueError(f"{self.name}: {n} units at once; 1 to {self.largest} can be had")

    def _join(self, n: int, timeout_ns: int | None) -> LineWaiter | None:
        """The units at once (None), or a place in line."""
        line = self._line
        with line.lock:
            if not line and self._enter_locked(n):
                self._admitted += n
                return None
            hopeless = timeout_ns is not None and timeout_ns < self._due_locked(n)
            if hopeless or line.full:
                retry_after_ns = self._due_locked(line.units + n)
                line.turn_away()
                if not line:
                    self._open_locked()
                raise RateLimited(self.name, 0, retry_after_ns)
            return line.join(n, self._owed_by)

    def _wait(self, waiter: LineWaiter, timeout_ns: int | None, ctx: PoolContext | None) -> None:
        """Until it is served. Raises RateLimited at the deadline, and what the context has ended with."""
        began_ns = self._now_ns()
        while True:
            error = ctx.error() if ctx is not None else None
            if error is not None:
                raise error
            due_ns = self._look(waiter)
            if due_ns == 0:
                return
            now_ns = self._now_ns()
            limits_ns = [] if due_ns is None else [due_ns]
            if timeout_ns is not None:
                left_ns = began_ns + timeout_ns - now_ns
                if left_ns <= 0:
                    raise RateLimited(self.name, now_ns - began_ns, self._retry_after(waiter))
                # A clock that has gone back makes no wait longer than was asked for.
                limits_ns.append(min(left_ns, timeout_ns))
            park(self._rt, waiter.event, ctx, now_ns + min(limits_ns) if limits_ns else None)
            # Before the next look: what is set after this is looked at again.
            waiter.event.clear()

    def _look(self, waiter: LineWaiter) -> int | None:
        """0: it is served. Otherwise in how many ns it is due; None: it is not the head."""
        line = self._line
        with line.lock:
            if waiter is not line.head:
                return None
            due_ns = self._serve_locked(waiter.units)
            if due_ns:
                return due_ns
            self._admitted += waiter.units
            next_one = line.serve(waiter)
            if next_one is None:
                self._open_locked()
        self._hand_on(next_one)
        return 0

    def _hand_on(self, next_one: LineWaiter | None) -> None:
        """Wake who is at the head of the line now."""
        if next_one is not None:
            next_one.event.set()

    def _retry_after(self, waiter: LineWaiter) -> int:
        with self._line.lock:
            return self._due_locked(self._line.units_ahead(waiter) + waiter.units)

    def _leave(self, waiter: LineWaiter, how: str, waited_ns: int) -> LineWaiter | None:
        """The end of a wait. Who is at the head, in the place of one who was not served."""
        line = self._line
        with line.lock:
            line.count(how, waited_ns)
            if waiter.served:
                return None
            next_one = line.leave(waiter)
            if not line:
                self._open_locked()
            return next_one

    # -- from outside

    @property
    def waiting(self) -> int:
        """Callers in line."""
        return len(self._line)

    @property
    def admitted(self) -> int:
        """Units that were taken since the start."""
        return self._admitted

    def _owed_by(self, waiter: LineWaiter) -> Sequence[Holder]:
        ahead = self._line.task_ahead(waiter)
        return (f"the time: {self.name} has units again",) if ahead is None else (ahead,)

    def statistics(self) -> dict[str, int]:
        """admitted (units), and those of the line (`WaitingLine.statistics`). Thread: any."""
        return {"admitted": self._admitted, **self._line.statistics()}
