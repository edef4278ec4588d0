"""SlidingLog: at most `limit` units in any window of `window_ms`, exactly, by keeping when each was taken.

Role: for a peer that counts that way itself ("100 requests per minute"), where a token bucket would let through up to
burst + rate in a window. A unit taken at t counts until just before t + window. It costs a lock and an entry per call
that is still in the window, where the bucket costs one integer.

Time here is the limiter's own: it goes on with the clock, and stands still where the clock goes back. So a clock that
went back an hour keeps nobody waiting for an hour, and lets nobody through too early.

Thread: any. Upstream: none; pyrate-limiter's sliding window log counts the end of the window in, to the millisecond.
Left out: giving units back. Bounds: `limit` entries, and the line's.
"""

from __future__ import annotations

from collections import deque

from coordemu.pool.pool_context import PoolContext, check
from coordemu.resilience.rate_limiter import RateLimiter
from coordemu.runtime.base import NS_PER_MS, Runtime


class SlidingLog(RateLimiter):
    """A sliding log, empty at first.

    limit: units per window, 1 or more; also the most that one call can take.  window_ms: 1 or more.
    max_waiting: places in line, 0: no bound.  Raises ValueError outside the bounds. Thread: any.
    """

    def __init__(self, rt: Runtime, limit: int, window_ms: int, name: str = "log", max_waiting: int = 0) -> None:
        super().__init__(rt, name, limit, max_waiting)
        if window_ms < 1:
            raise ValueError(f"{name}: window_ms {window_ms} is below 1")
        self.limit = limit
        self.window_ms = window_ms
        self._window_ns = window_ms * NS_PER_MS
        self._log: deque[tuple[int, int]] = deque()
        self._used = 0
        self._last_ns = rt.now_ns()
        self._gone_back_ns = 0
        self._lock = self._line.lock

    def try_acquire(self, n: int = 1) -> bool:
        """Take n units if they are there and nobody waits. As `RateLimiter.try_acquire`."""
        if not 0 < n <= self.limit:
            self._check(n)
        self._lock.acquire()
        try:
            if self._line or not self._take_locked(n):
                return False
            self._admitted += n
            return True
        finally:
            self._lock.release()

    def acquire(self, n: int = 1, timeout_ns: int | None = None, ctx: PoolContext | None = None) -> int:
        """Take n units, in the order of coming. As `RateLimiter.acquire`."""
        if ctx is not None:
            check(ctx)
        return 0 if self.try_acquire(n) else self._acquire_in_line(n, timeout_ns, ctx)

    def _time_locked(self) -> int:
        """The limiter's own time. What is out of the window by now is forgotten."""
        now_ns = self._now_ns()
        if now_ns < self._last_ns:
            self._gone_back_ns += self._last_ns - now_ns
        self._last_ns = now_ns
        time_ns = now_ns + self._gone_back_ns
        log = self._log
        over_ns = time_ns - self._window_ns
        while log and log[0][0] <= over_ns:
            self._used -= log.popleft()[1]
        return time_ns

    def _take_locked(self, n: int) -> bool:
        time_ns = self._time_locked()
        if self._used + n > self.limit:
            return False
        self._log.append((time_ns, n))
        self._used += n
        return True

    def _enter_locked(self, n: int) -> bool:
        return self._take_locked(n)

    def _serve_locked(self, n: int) -> int:
        return 0 if self._take_locked(n) else self._due_locked(n)

    def _due_locked(self, units: int) -> int:
        # The unit so many limits further on comes as many windows later.
        windows, units = divmod(units - 1, self.limit)
        time_ns = self._time_locked()
        missing = self._used + units + 1 - self.limit
        due_ns = 0
        for taken_ns, taken in self._log:
            if missing <= 0:
                break
            missing -= taken
            due_ns = taken_ns + self._window_ns - time_ns
        return due_ns + windows * self._window_ns

    def _open_locked(self) -> None:
        """Nothing: `try_acquire` looks at the line."""

    @property
    def used(self) -> int:
        """Units taken within the window that ends now. Thread: any. May block shortly."""
        with self._lock:
            self._time_locked()
            return self._used

    def broken_rules(self) -> list[str]:
        """What is wrong with it, at any time: one sentence each, after its rule's letters. Thread: any. May block
        shortly."""
        with self._lock:
            used, kept = self._used, sum(units for _, units in self._log)
        wrong = self._line.broken_order()
        if not 0 <= used <= self.limit or used != kept:
            wrong.append(f"S1 {self.name}: {used} units of {self.limit} are in the window, {kept} are noted")
        return wrong

    def statistics(self) -> dict[str, int]:
        """limit, used, and those of `RateLimiter.statistics`. Thread: any."""
        return {"limit": self.limit, "used": self.used, **super().statistics()}

    def __repr__(self) -> str:
        return f"<SlidingLog {self.name!r} {self.limit} per {self.window_ms} ms, {self.waiting} waiting>"
