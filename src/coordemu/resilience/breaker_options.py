"""BreakerOptions: when a breaker opens, for how long, and what it takes to close it again.

Role: a value that goes into `CircuitBreaker`. Every duration says its unit; 0 means "off" where a line says so. The
defaults are the write-up's: open after 5 failures in a row, try again after 30 s with one call.

Thread: frozen, any. Upstream: none; resilience4j's CircuitBreakerConfig and gobreaker's Settings have most of these.
Left out: a function in place of a rule (which errors count is the breaker's `is_failure`), and chance in the open time:
breakers that open together try again together, with one call each.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from coordemu.runtime.base import NS_PER_MS

YEAR_MS = 366 * 24 * 3_600_000
WINDOW_NONE, WINDOW_COUNT, WINDOW_TIME = "none", "count", "time"
WINDOWS = (WINDOW_NONE, WINDOW_COUNT, WINDOW_TIME)
MAX_WINDOW_SIZE = 1_000_000
MAX_BUCKETS = 1_000


@dataclass(frozen=True, slots=True)
class BreakerOptions:
    """Options of one breaker; integers of 0 or more unless a line says otherwise. Raises ValueError outside the bounds.

    failures_in_row: it opens with that many, no success between them; 0: off.
    window: what the two rates are of: "none" (they are off), "count" (the last window_size results) or "time" (those of
    the last window_ms).
    window_size: 1 to a million.  window_ms: 1 or more, kept in window_buckets (1 to 1,000) pieces: the oldest falls out
    as a whole, so that the window is up to one piece shorter than window_ms.
    failure_rate_percent: 0 to 100, it opens when so many of the window's results are failures, or more; 0: off.
    slow_call_ms: a call that takes as long or longer is slow; 0: none is.  slow_rate_percent: as failure_rate_percent,
    of slow ones.  A slow failure is both.
    minimum_calls: 1 or more, no rate counts before the window holds so many results; with "count" at most window_size
    (more counts as that).
    open_ms: 1 or more, how long it stays open at least.  open_backoff_factor: 1.0 or more; it stays open so many times
    longer each time that its probes fail.  open_max_ms: the longest with that, at least open_ms; read with a factor
    above 1 alone.
    half_open_permits: 1 or more, probes under way at once.  half_open_successes: how many probes must succeed to close
    it, 0: as many as there are permits.
    half_open_max_ms: how long all the permits may be out at a stretch: beyond, the probes count as failed when the next
    caller comes; 0: for ever.
    """

    failures_in_row: int = 5
    window: str = WINDOW_NONE
    window_size: int = 100
    window_ms: int = 60_000
    window_buckets: int = 60
    failure_rate_percent: int = 50
    slow_call_ms: int = 0
    slow_rate_percent: int = 100
    minimum_calls: int = 20
    open_ms: int = 30_000
    open_backoff_factor: float = 1.0
    open_max_ms: int = 300_000
    half_open_permits: int = 1
    half_open_successes: int = 0
    half_open_max_ms: int = 60_000

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and not 0 <= value < float("inf"):
                raise ValueError(f"{field.name} {value} is below 0, or no number")
            if field.name.endswith("_ms") and value > YEAR_MS:
                raise ValueError(f"{field.name} {value} is more than a year")
            if field.name.endswith("_percent") and value > 100:
                raise ValueError(f"{field.name} {value} is above 100")
        for name in ("window_size", "window_ms", "window_buckets", "minimum_calls", "open_ms", "half_open_permits"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is below 1")
        if self.window not in WINDOWS:
            raise ValueError(f"window {self.window!r} is none of {', '.join(WINDOWS)}")
        if self.window_size > MAX_WINDOW_SIZE or self.window_buckets > MAX_BUCKETS:
            raise ValueError(f"window_size {self.window_size} or window_buckets {self.window_buckets} is too large")
        if self.open_backoff_factor < 1:
            raise ValueError(f"open_backoff_factor {self.open_backoff_factor} is below 1")
        if self.open_backoff_factor > 1 and self.open_max_ms < self.open_ms:
            raise ValueError(f"open_max_ms {self.open_max_ms} is below open_ms {self.open_ms}")

    @property
    def slow_call_ns(self) -> int:
        """From which duration on a call is slow, ns; 0: none is."""
        return self.slow_call_ms * NS_PER_MS

    @property
    def slow_rule(self) -> bool:
        """Whether slow calls can open it."""
        return self.window != WINDOW_NONE and self.slow_call_ms > 0 and self.slow_rate_percent > 0

    @property
    def successes_to_close(self) -> int:
        """How many probes must succeed."""
        return self.half_open_successes or self.half_open_permits

    @property
    def half_open_max_ns(self) -> int:
        """How long all permits may be out, ns; 0: for ever."""
        return self.half_open_max_ms * NS_PER_MS

    def open_for_ns(self, opening: int) -> int:
        """How long it stays open for the opening'th time (1 or more) since it was last closed, ns."""
        base_ns = self.open_ms * NS_PER_MS
        if self.open_backoff_factor == 1 or opening <= 1:
            return base_ns
        top_ns = self.open_max_ms * NS_PER_MS
        # A year of milliseconds is 2**65 ns: beyond so many doublings the exact power is of no interest.
        power = 64 if self.open_backoff_factor >= 2 else 10_000
        try:
            return min(round(base_ns * self.open_backoff_factor ** min(opening - 1, power)), top_ns)
        except OverflowError:
            return top_ns
