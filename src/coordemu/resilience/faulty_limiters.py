"""FaultyBulkhead, FaultyTokenBucket, FaultySlidingLog: each with the faults of `limiter_faults` that are asked for.

Role: what the `make_` functions hand out when a fault is asked for; without one they hand out the real ones, whose fast
path knows nothing of faults.

Thread: any. Upstream: see `limiter_faults`. Left out: two faults of one limiter at once, where they are ways to do the
same thing. Bounds: as the real ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from collections.abc import Set as AbstractSet
from fractions import Fraction

from coordemu.pool.pool_context import PoolContext, check
from coordemu.resilience import limiter_faults as faults_of
from coordemu.resilience.bulkhead import LINE, Bulkhead
from coordemu.resilience.limiter_line import CALLED_OFF, LineWaiter, WaitingLine
from coordemu.resilience.resilience_errors import check_faults
from coordemu.resilience.sliding_log import SlidingLog
from coordemu.resilience.token_bucket import BARRED, TokenBucket
from coordemu.runtime.base import NS_PER_S, Cell, Holder, Runtime


def make_bulkhead(
    rt: Runtime, limit: int, name: str = "bulkhead", max_waiting: int = 0, faults: Collection[str] = ()
) -> Bulkhead:
    """A bulkhead, or one with those of `faults` that concern it. Raises UnknownFault for a name that there is not."""
    mine = _known(faults, name) & faults_of.BULKHEAD_FAULTS
    return FaultyBulkhead(mine, rt, limit, name, max_waiting) if mine else Bulkhead(rt, limit, name, max_waiting)


def make_token_bucket(
    rt: Runtime,
    rate_per_s: int | Fraction,
    burst: int,
    name: str = "bucket",
    max_waiting: int = 0,
    faults: Collection[str] = (),
) -> TokenBucket:
    """A token bucket, or one with those of `faults` that concern it. As `make_bulkhead`."""
    mine = _known(faults, name) & faults_of.BUCKET_FAULTS
    if mine:
        return FaultyTokenBucket(mine, rt, rate_per_s, burst, name, max_waiting)
    return TokenBucket(rt, rate_per_s, burst, name, max_waiting)


def make_sliding_log(
    rt: Runtime, limit: int, window_ms: int, name: str = "log", max_waiting: int = 0, faults: Collection[str] = ()
) -> SlidingLog:
    """A sliding log, or one with those of `faults` that concern it. As `make_bulkhead`."""
    mine = _known(faults, name) & faults_of.LOG_FAULTS
    kind = FaultySlidingLog if mine else SlidingLog
    return kind(rt, limit, window_ms, name, max_waiting)


def _known(faults: Collection[str], name: str) -> frozenset[str]:
    return check_faults(faults, faults_of.LIMITER_FAULTS, name)


def _look_then_store(cell: Cell[int]) -> Callable[[int, int], bool]:
    """A compare-and-swap in two steps."""

    def swap(expected: int, new: int) -> bool:
        if cell.value != expected:
            return False
        cell.value = new
        return True

    return swap


class FaultyBulkhead(Bulkhead):
    """A bulkhead with faults: of BULKHEAD_FAULTS; the other arguments are those of `Bulkhead`."""

    def __init__(
        self, faults: AbstractSet[str], rt: Runtime, limit: int, name: str = "bulkhead", max_waiting: int = 0
    ) -> None:
        super().__init__(rt, limit, name, max_waiting)
        self.faults = frozenset(faults)
        self._gone: set[LineWaiter] = set()
        if faults_of.PERMIT_BY_STORE in faults:
            self._swap = _look_then_store(self._free)

    def _join(self, timeout_ns: int | None) -> LineWaiter | None:
        if faults_of.PERMIT_WAKE_LOST in self.faults:
            if self.try_acquire():
                return None
            # A release between here and there finds nobody in line.
            with self._line.lock:
                self._swap(0, LINE)
                return self._line.join(1, self._owed_by)
        return super()._join(timeout_ns)

    def _take_or_bar_locked(self, timeout_ns: int | None) -> bool:
        if faults_of.PERMIT_STOLEN in self.faults:
            return self.try_acquire()
        return super()._take_or_bar_locked(timeout_ns)

    def _leave(self, waiter: LineWaiter, waited_ns: int, otherwise: str) -> bool:
        line = self._line
        if faults_of.PERMIT_STOLEN in self.faults:
            with line.lock:
                line.leave(waiter)
                return waiter.event.is_set() and self.try_acquire()
        if faults_of.PERMIT_DOUBLE_RELEASE in self.faults:
            with line.lock:
                still_there = waiter in self._line
                line.leave(waiter)
                if still_there and not line:
                    self._free.value = 0
                if not waiter.served:
                    self._gone.add(waiter)
            if not still_there and not waiter.served:
                self.release()
            return waiter.served
        served = super()._leave(waiter, waited_ns, otherwise)
        if faults_of.PERMIT_LOST_ON_CANCEL in self.faults:
            return served and otherwise != CALLED_OFF
        return served

    def release(self) -> None:
        """permit-stolen: the permit is free, and the head of the line is woken."""
        if faults_of.PERMIT_STOLEN not in self.faults:
            super().release()
            return
        while not self._swap(free := self._free.value, free + 1):
            pass
        with self._line.lock:
            waiter = self._line.head
        if waiter is not None:
            waiter.event.set()

    def _hand_over(self) -> bool:
        if faults_of.PERMIT_DOUBLE_RELEASE not in self.faults:
            return super()._hand_over()
        line = self._line
        with line.lock:
            waiter = line.head
            if waiter is None:
                return False
            if line.leave(waiter) is None:
                self._free.value = 0
        with line.lock:
            gone = waiter in self._gone
            waiter.served = not gone
        if gone:
            self.release()
        waiter.event.set()
        return True


class _LineBySize(WaitingLine):
    """Who asks for least is served first."""

    def join(self, units: int, owed_by: Callable[[LineWaiter], Sequence[Holder]]) -> LineWaiter:
        """The place that its size gives it."""
        waiter = super().join(units, owed_by)
        self._line = deque(sorted(self._line, key=lambda each: (each.units, each.number)))
        return waiter


class FaultyTokenBucket(TokenBucket):
    """A token bucket with faults: of BUCKET_FAULTS; the other arguments are those of `TokenBucket`."""

    def __init__(
        self,
        faults: AbstractSet[str],
        rt: Runtime,
        rate_per_s: int | Fraction,
        burst: int,
        name: str = "bucket",
        max_waiting: int = 0,
    ) -> None:
        super().__init__(rt, rate_per_s, burst, name, max_waiting)
        self.faults = frozenset(faults)
        self._level = burst
        self._looked_ns = self._now_ns()
        if faults_of.SPEND_BY_STORE in faults:
            self._swap = _look_then_store(self._full_at)
        if faults_of.SMALL_FIRST in faults:
            self._line = _LineBySize(rt, name, "units", max_waiting)

    def try_acquire(self, n: int = 1) -> bool:
        """tokens-stolen, clock-before-state, refill-drifts: see `limiter_faults`."""
        if faults_of.TOKENS_STOLEN in self.faults and self._full_at.value == BARRED:
            with self._line.lock:
                if not self._line or self._serve_locked(n):
                    return False
                self._line.out_of_order += 1
                self._admitted += n
                return True
        if faults_of.CLOCK_BEFORE_STATE in self.faults:
            return self._spend_by(self._now_ns() * self._pace, n)
        if faults_of.REFILL_DRIFTS in self.faults:
            return self._refill_and_spend(n)
        return super().try_acquire(n)

    def acquire(self, n: int = 1, timeout_ns: int | None = None, ctx: PoolContext | None = None) -> int:
        """As `TokenBucket.acquire`, by way of this `try_acquire`."""
        if ctx is not None:
            check(ctx)
        return 0 if self.try_acquire(n) else self._acquire_in_line(n, timeout_ns, ctx)

    def _spend_by(self, now: int, n: int) -> bool:
        full_at = self._full_at.value
        if full_at == BARRED:
            return False
        after = self._settled(full_at, now) + n * self._price
        enough = after - now <= self._capacity
        taken = self._swap(full_at, after if enough else self._settled(full_at, now)) and enough
        self._admitted += n * taken
        return taken

    def _refill_and_spend(self, n: int) -> bool:
        with self._line.lock:
            now_ns = self._now_ns()
            fresh = -(-(now_ns - self._looked_ns) * self.rate_per_s // NS_PER_S)
            self._looked_ns = now_ns
            self._level = min(self.burst, self._level + int(fresh))
            if self._level < n:
                return False
            self._level -= n
            self._admitted += n
            return True

    def _leave(self, waiter: LineWaiter, how: str, waited_ns: int) -> LineWaiter | None:
        if faults_of.CANCEL_REFUNDS in self.faults and how == CALLED_OFF:
            with self._line.lock:
                self._full_at_in_line -= waiter.units * self._price
        next_one = super()._leave(waiter, how, waited_ns)
        return None if faults_of.PLACE_NOT_HANDED_ON in self.faults else next_one


class FaultySlidingLog(SlidingLog):
    """A sliding log with log-looks-then-notes; the arguments are those of `SlidingLog`."""

    def try_acquire(self, n: int = 1) -> bool:
        """log-looks-then-notes: two sections under the lock, where one should be."""
        self._check(n)
        with self._lock:
            time_ns = self._time_locked()
            if self._line or self._used + n > self.limit:
                return False
        with self._lock:
            self._log.append((time_ns, n))
            self._used += n
            self._admitted += n
        return True
