"""BreakerWindow: the results that a closed breaker remembers, and whether they are reason enough to open it.

Role: one `ClosedRecord` per closed stretch; the breaker adds each result under its lock and asks for the verdict. Two
rules look at it: failures in a row, and the two rates over a window. A window by count is a ring of the last results; a
window by time is a ring of pieces, of which the oldest falls out as a whole. Both keep running totals, so that a result
costs the same however long the window is.

Thread: any, under the breaker's lock. Upstream: none; gobreaker's rolling buckets, resilience4j's
FixedSizeSlidingWindowMetrics and SlidingTimeWindowMetrics. Left out: mean durations. Bounds: window_size bytes, or
window_buckets pieces.
"""

from __future__ import annotations

from typing import Protocol

from coordemu.resilience.breaker_options import WINDOW_COUNT, WINDOW_NONE, BreakerOptions
from coordemu.runtime.base import NS_PER_MS

FAILED, SLOW = 1, 2


class BreakerWindow(Protocol):
    """What the rates are of. `calls`, `failed` and `slow` are what it holds."""

    calls: int
    failed: int
    slow: int

    def add(self, failed: bool, slow: bool, at_ns: int) -> None:
        """Take one result. at_ns: on a clock that never goes back."""
        ...

    def forget(self, at_ns: int) -> None:
        """Drop what is too old at that moment."""
        ...


class CountWindow:
    """The last `size` (1 or more) results."""

    __slots__ = ("_next", "_ring", "calls", "failed", "size", "slow")

    def __init__(self, size: int) -> None:
        self.size = size
        self.calls = self.failed = self.slow = 0
        self._ring = bytearray(size)
        self._next = 0

    def add(self, failed: bool, slow: bool, at_ns: int) -> None:
        """Take one result; the oldest goes when there is no room."""
        place = self._next
        if self.calls == self.size:
            old = self._ring[place]
            self.failed -= old & FAILED
            self.slow -= (old & SLOW) >> 1
        else:
            self.calls += 1
        self._ring[place] = (FAILED if failed else 0) | (SLOW if slow else 0)
        self.failed += failed
        self.slow += slow
        self._next = (place + 1) % self.size

    def forget(self, at_ns: int) -> None:
        """Nothing: results do not age here."""


class TimeWindow:
    """The results of the last `window_ns`, in `buckets` pieces (1 or more)."""

    __slots__ = ("_calls", "_failed", "_newest", "_slow", "bucket_ns", "buckets", "calls", "failed", "slow")

    def __init__(self, window_ns: int, buckets: int) -> None:
        self.buckets = buckets
        self.bucket_ns = max(1, window_ns // buckets)
        self.calls = self.failed = self.slow = 0
        self._calls = [0] * buckets
        self._failed = [0] * buckets
        self._slow = [0] * buckets
        # The number of the piece that is being filled, counted from the clock's origin; None before the first.
        self._newest: int | None = None

    def add(self, failed: bool, slow: bool, at_ns: int) -> None:
        """Take one result into the piece of its moment."""
        self.forget(at_ns)
        place = (self._newest or 0) % self.buckets
        self._calls[place] += 1
        self._failed[place] += failed
        self._slow[place] += slow
        self.calls += 1
        self.failed += failed
        self.slow += slow

    def forget(self, at_ns: int) -> None:
        """Begin the piece of at_ns; every one that it leaves behind by a whole window is dropped."""
        number = at_ns // self.bucket_ns
        if self._newest is None:
            self._newest = number
            return
        for passed in range(self._newest + 1, min(number, self._newest + self.buckets) + 1):
            self._drop(passed % self.buckets)
        self._newest = max(number, self._newest)

    def _drop(self, place: int) -> None:
        self.calls -= self._calls[place]
        self.failed -= self._failed[place]
        self.slow -= self._slow[place]
        self._calls[place] = self._failed[place] = self._slow[place] = 0


class ClosedRecord:
    """What a closed breaker knows of the calls since it closed. `failures_in_row`: since the last success."""

    __slots__ = ("_options", "failures_in_row", "window")

    def __init__(self, options: BreakerOptions) -> None:
        self.failures_in_row = 0
        self.window = make_window(options)
        self._options = options

    def add(self, failed: bool, slow: bool, at_ns: int) -> str:
        """Take one result. Why the breaker must open now, "" when it need not. at_ns: on a clock that never goes
        back."""
        self.failures_in_row = self.failures_in_row + 1 if failed else 0
        options, window = self._options, self.window
        if 0 < options.failures_in_row <= self.failures_in_row:
            return f"{self.failures_in_row} failures in a row"
        if window is None:
            return ""
        window.add(failed, slow, at_ns)
        calls = window.calls
        if calls < _enough(options):
            return ""
        if options.failure_rate_percent and window.failed * 100 >= options.failure_rate_percent * calls:
            return f"{window.failed} of {calls} calls failed"
        if (
            options.slow_call_ms
            and options.slow_rate_percent
            and window.slow * 100 >= options.slow_rate_percent * calls
        ):
            return f"{window.slow} of {calls} calls were slow"
        return ""


def _enough(options: BreakerOptions) -> int:
    if options.window == WINDOW_COUNT:
        return min(options.minimum_calls, options.window_size)
    return options.minimum_calls


def make_window(options: BreakerOptions) -> BreakerWindow | None:
    """The window that the options ask for, empty; None for none. Thread: any."""
    if options.window == WINDOW_NONE:
        return None
    if options.window == WINDOW_COUNT:
        return CountWindow(options.window_size)
    return TimeWindow(options.window_ms * NS_PER_MS, options.window_buckets)
