"""PoolOptions: how a pool behaves, with the model's defaults.

Role: a value that goes into `ConnPool`. Every duration says its unit; 0 means "no limit" or "off" where a line says so.

Thread: frozen, any. Upstream: internal/pool/pool.go (Options) and options.go of the client, as of August 2026.
Left out: read and write buffers, TLS, what the client alone uses (retries of commands). pool_size is 10 per processor
there; here it is 10: what a run shows must not depend on the machine.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from coordemu.runtime.base import NS_PER_MS, Random

MINUTE_MS = 60_000
DAY_MS = 24 * 60 * MINUTE_MS
CONSTANT, EXPONENTIAL = "constant", "exponential"


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """Options of one pool; integers of 0 or more unless a line says otherwise. Raises ValueError outside the bounds.

    pool_size: turns, 1 or more: callers that may hold a connection at once.
    fifo: whether the idle connection that was given back first is taken first (the default: the last).
    pool_timeout_ms: how long a caller waits for a turn; 0: it does not.
    pop_attempts: idle connections looked at per search, 1 or more.  get_attempts: searches per call, 1 or more.
    min_idle_conns: kept ready by warm-ups; at most pool_size.  max_idle_conns: kept at most; 0: no bound.
    max_active_conns: connections open at most, dials counted; 0: no bound. Beyond: PoolExhausted, at once.
    max_concurrent_dials: 0: pool_size; at most pool_size.
    health_check_after_ms: a connection that was handed out less long ago is not checked again; 0: each is, every time.
    conn_max_idle_time_ms: 0: off.  conn_max_lifetime_ms: 0: off.  conn_max_lifetime_jitter_ms: to either side, at most
    the lifetime.
    dial_timeout_ms: of one attempt; 0: none.  dialer_retries: attempts per dial, 1 or more.
    dialer_retry_timeout_ms: the delay between attempts (its base, when exponential).  dialer_retry_backoff: "constant"
    or "exponential" (doubling, with jitter).  dialer_retry_max_ms: the longest delay.
    probe_interval_ms: 1 or more, how often a dead address is tried once so many dials failed as there are turns.
    max_waiting: places in the line for a turn; 0: no bound.  pressure_percent: 0 to 100, how full the line is (of
    max_waiting, or of pool_size without one) when on_pressure is told; 0: never.
    """

    pool_size: int = 10
    fifo: bool = False
    pool_timeout_ms: int = 6_000
    pop_attempts: int = 50
    get_attempts: int = 3
    min_idle_conns: int = 0
    max_idle_conns: int = 0
    max_active_conns: int = 0
    max_concurrent_dials: int = 0
    health_check_after_ms: int = 0
    conn_max_idle_time_ms: int = 30 * MINUTE_MS
    conn_max_lifetime_ms: int = 0
    conn_max_lifetime_jitter_ms: int = 0
    dial_timeout_ms: int = 5_000
    dialer_retries: int = 5
    dialer_retry_timeout_ms: int = 100
    dialer_retry_backoff: str = CONSTANT
    dialer_retry_max_ms: int = 10_000
    probe_interval_ms: int = 1_000
    max_waiting: int = 0
    pressure_percent: int = 80

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int) and not isinstance(value, bool) and value < 0:
                raise ValueError(f"{field.name} {value} is below 0")
            if field.name.endswith("_ms") and value > 366 * DAY_MS:
                raise ValueError(f"{field.name} {value} is more than a year")
        for name in ("pool_size", "pop_attempts", "get_attempts", "dialer_retries", "probe_interval_ms"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is below 1")
        if self.pressure_percent > 100:
            raise ValueError(f"pressure_percent {self.pressure_percent} is above 100")
        if self.dialer_retry_backoff not in (CONSTANT, EXPONENTIAL):
            raise ValueError(f"dialer_retry_backoff {self.dialer_retry_backoff!r} is neither constant nor exponential")

    @property
    def dial_slots(self) -> int:
        """Dials that may be under way at once."""
        return min(self.max_concurrent_dials or self.pool_size, self.pool_size)

    @property
    def pressure_at(self) -> int:
        """Callers in line at which on_pressure is told; 0: never."""
        if not self.pressure_percent:
            return 0
        return max(1, -(-(self.max_waiting or self.pool_size) * self.pressure_percent // 100))

    def expires_ns(self, now_ns: int, random: Random) -> int | None:
        """When a connection dialed now is too old; None: never. Upstream: calcConnExpiresAt."""
        if not self.conn_max_lifetime_ms:
            return None
        jitter_ms = min(self.conn_max_lifetime_jitter_ms, self.conn_max_lifetime_ms)
        drawn_ms = random.uniform(-jitter_ms, jitter_ms) if jitter_ms else 0.0
        return now_ns + round((self.conn_max_lifetime_ms + drawn_ms) * NS_PER_MS)

    def retry_delay_ns(self, attempt: int, random: Random) -> int:
        """The delay after attempt `attempt` (from 0 on) has failed. Upstream: DialerRetryBackoff."""
        base_ns = self.dialer_retry_timeout_ms * NS_PER_MS
        if self.dialer_retry_backoff == CONSTANT:
            return base_ns
        top_ns = min(base_ns << min(attempt, 32), self.dialer_retry_max_ms * NS_PER_MS)
        return round(top_ns * (0.5 + random.random() / 2))
