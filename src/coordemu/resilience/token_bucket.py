"""TokenBucket: `rate_per_s` tokens a second into a bucket that holds `burst`; a call takes some out.

Role: bounds calls per second and lets short bursts through: over any stretch of t seconds at most burst + rate * t
tokens are taken. The whole state is one integer: when the bucket will be full again, in units so small that a
nanosecond and a token are both whole numbers of them (the rate is a fraction in lowest terms; nothing is ever rounded,
so nothing drifts). Taking tokens moves that moment on; the bucket needs no refilling.

The fast path is a look at the integer, a look at the clock and one compare-and-swap; it takes no lock, so that a thread
that is interrupted in the middle keeps nobody waiting. The integer is read *before* the clock. Read the other way
round, another caller might have moved it on meanwhile by a later clock, which cannot be told from a clock that went
back. While somebody is in line the shared integer says BARRED, and the real one is under the line's lock.

A clock that went back shows as a bucket more than empty: it counts as empty from now on, so that nobody waits longer
than for a full bucket. One that went far ahead fills the bucket, as that much time would.

Thread: any. Upstream: none; the arithmetic is that of the generic cell rate algorithm. Left out: changing the rate,
giving tokens back. Bounds: one integer, and the line's.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from coordemu.pool.pool_context import PoolContext, check
from coordemu.resilience.rate_limiter import RateLimiter
from coordemu.runtime.base import NS_PER_S, Runtime

# No moment is below 0: a bucket is full at 0 or later.
BARRED = -1


class TokenBucket(RateLimiter):
    """A token bucket, full at first.

    rate_per_s: tokens per second, above 0; a Fraction for slow ones (Fraction(30, 60): 30 a minute).
    burst: tokens that it holds, 1 or more; also the most that one call can take.  max_waiting: places in line, 0: no
    bound.  Raises ValueError outside the bounds, TypeError for a rate that is not exact. Thread: any.
    """

    def __init__(
        self, rt: Runtime, rate_per_s: int | Fraction, burst: int, name: str = "bucket", max_waiting: int = 0
    ) -> None:
        super().__init__(rt, name, burst, max_waiting)
        if not isinstance(rate_per_s, int | Fraction):
            raise TypeError(f"{name}: rate {rate_per_s!r} is neither an integer nor a Fraction")
        if rate_per_s <= 0:
            raise ValueError(f"{name}: rate {rate_per_s} is not above 0")
        self.rate_per_s = rate_per_s
        self.burst = burst
        per_ns = Fraction(rate_per_s) / NS_PER_S
        self._pace = per_ns.numerator  # units per nanosecond
        self._price = per_ns.denominator  # units per token
        self._capacity = burst * self._price
        self._full_at = rt.cell(0, f"{name} full at")
        self._swap: Callable[[int, int], bool] = self._full_at.compare_exchange
        # The real one while the shared one says BARRED.
        self._full_at_in_line = 0

    def try_acquire(self, n: int = 1) -> bool:
        """Take n tokens if they are there and nobody waits. As `RateLimiter.try_acquire`."""
        if not 0 < n <= self.burst:
            self._check(n)
        while True:
            full_at = self._full_at.value
            if full_at == BARRED:
                return False
            now = self._now_ns() * self._pace
            after = (full_at if full_at > now else now) + n * self._price
            if after - now > self._capacity:
                if full_at - now > self._capacity:
                    self._swap(full_at, now + self._capacity)  # the clock went back
                return False
            if self._swap(full_at, after):
                self._admitted += n
                return True

    def acquire(self, n: int = 1, timeout_ns: int | None = None, ctx: PoolContext | None = None) -> int:
        """Take n tokens, in the order of coming. As `RateLimiter.acquire`."""
        if ctx is not None:
            check(ctx)
        full_at = self._full_at.value
        if full_at != BARRED:
            now = self._now_ns() * self._pace
            after = (full_at if full_at > now else now) + n * self._price
            if after - now <= self._capacity and n > 0 and self._swap(full_at, after):
                self._admitted += n
                return 0
        return self._acquire_in_line(n, timeout_ns, ctx)

    def _enter_locked(self, n: int) -> bool:
        while True:
            full_at = self._full_at.value
            if full_at == BARRED:  # an exception came between the swap and the joining
                self._open_locked()
                continue
            now = self._now_ns() * self._pace
            base = self._settled(full_at, now)
            after = base + n * self._price
            if after - now <= self._capacity:
                if self._swap(full_at, after):
                    return True
                continue
            self._full_at_in_line = base
            if self._swap(full_at, BARRED):
                return False

    def _settled(self, full_at: int, now: int) -> int:
        """When the bucket is full, seen from now: not before now, and not later than an empty one's."""
        return min(max(full_at, now), now + self._capacity)

    def _serve_locked(self, n: int) -> int:
        now = self._now_ns() * self._pace
        self._full_at_in_line = self._settled(self._full_at_in_line, now)
        after = self._full_at_in_line + n * self._price
        missing = after - now - self._capacity
        if missing > 0:
            return -(-missing // self._pace)
        self._full_at_in_line = after
        return 0

    def _due_locked(self, units: int) -> int:
        full_at = self._full_at.value
        if full_at == BARRED:
            full_at = self._full_at_in_line
        now = self._now_ns() * self._pace
        missing = self._settled(full_at, now) + units * self._price - now - self._capacity
        return max(0, -(-missing // self._pace))

    def _open_locked(self) -> None:
        self._full_at.value = self._full_at_in_line

    @property
    def tokens(self) -> int:
        """Whole tokens in the bucket now. Thread: any. May block shortly."""
        with self._line.lock:
            full_at = self._full_at.value
            if full_at == BARRED:
                full_at = self._full_at_in_line
            now = self._now_ns() * self._pace
            return (self._capacity + now - self._settled(full_at, now)) // self._price

    def broken_rules(self) -> list[str]:
        """What is wrong with it, at any time: one sentence each, after its rule's letters. Thread: any. May block
        shortly."""
        with self._line.lock:
            barred = self._full_at.value == BARRED
            waiting = len(self._line)
        wrong = self._line.broken_order()
        if barred != bool(waiting):
            wrong.append(f"Q4 {self.name}: {waiting} wait, and the bucket is {'barred' if barred else 'open'}")
        return wrong

    def statistics(self) -> dict[str, int]:
        """burst, tokens, and those of `RateLimiter.statistics`. Thread: any."""
        return {"burst": self.burst, "tokens": self.tokens, **super().statistics()}

    def __repr__(self) -> str:
        return f"<TokenBucket {self.name!r} {self.rate_per_s}/s, burst {self.burst}, {self.waiting} waiting>"
