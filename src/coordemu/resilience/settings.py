"""Settings: what a client with a pool, its breaker, its retries and its limits are told to do, as frozen values.

Role: five sections as the write-up has them ([redis], [hub], [breaker], [retry], [alerts]) and one for the worker that
uses them ([backfill]). A field says its bounds where it is declared (`settings_key`); rules between two fields stand
below, in `PAIRS`. The defaults are the write-up's mended form; `profiles` has its other forms.

Units stand in the names: `_ms` are whole milliseconds, `_percent` is 0 to 100, a pressure is 0 to 1 (turns held by the
size of the pool). 0 means "none" or "off" where the meaning says so.

Thread: frozen, any. Upstream: none. Left out: addresses and passwords, which are the command line's. Bounds: each
field's; a longest duration of a day.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

from coordemu.pool.pool_options import PoolOptions
from coordemu.resilience.alert_rule import ERRORS, TIMEOUTS, AlertRule, HeldRule, ShareRule
from coordemu.resilience.blocking_wait import BlockingOptions
from coordemu.resilience.breaker_options import MAX_WINDOW_SIZE, WINDOW_NONE, WINDOWS, BreakerOptions
from coordemu.resilience.pressure_admission import ADMIT, REFUSE, WAIT, AdmissionOptions
from coordemu.resilience.pressure_gauge import PressureOptions
from coordemu.resilience.retry_budget import RetryBudget
from coordemu.resilience.retry_policy import JITTERS, RetryOptions
from coordemu.resilience.settings_key import Key, first_complaint, keys_of, number, switch, whole, word
from coordemu.runtime.base import NS_PER_MS, Runtime

DAY_MS = 86_400_000
MOST = 10_000


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """[redis]: the connection pool of each node, blocking reads, and what pressure does. Raises ValueError outside the
    bounds."""

    pool_size: int = whole(20, 1, MOST, "connections of each node's pool")
    pool_timeout_ms: int = whole(5_000, 0, DAY_MS, "how long a caller waits for a connection; 0: it does not")
    max_waiting: int = whole(0, 0, 1_000_000, "callers that may wait at once; 0: no bound")
    min_idle: int = whole(0, 0, MOST, "connections kept ready; at most pool_size")
    connect_timeout_ms: int = whole(5_000, 0, DAY_MS, "of one attempt to connect; 0: none")
    read_timeout_ms: int = whole(
        5_000, 0, DAY_MS, "for a reply, beside the time that a blocking read asks for; 0: none"
    )
    idle_timeout_ms: int = whole(300_000, 0, DAY_MS, "an idle connection older than this is closed; 0: never")
    lifetime_ms: int = whole(1_800_000, 0, DAY_MS, "a connection older than this is closed; 0: never")
    blocking_ms: int = whole(1_000, 1, DAY_MS, "how long BRPOP and XREADGROUP wait when there is no pressure")
    blocking_pressed_ms: int = whole(500, 1, DAY_MS, "the same under pressure; at most blocking_ms")
    non_blocking_percent: int = whole(20, 0, 99, "share of the connections that blocking reads leave to the others")
    pressure_enter: float = number(0.8, 0.01, 1, "a pressure above this is pressure; 0.8: under 20 % are free")
    pressure_leave: float = number(0.7, 0.01, 1, "a pressure below this ends it; at most pressure_enter")
    pressure_min_ms: int = whole(500, 0, DAY_MS, "shortest time under pressure")
    pressure_look_ms: int = whole(10, 0, 60_000, "the pools are looked at once in so long at most; 0: every time")
    low_priority: str = word(WAIT, (REFUSE, WAIT, ADMIT), "what becomes of low-priority work under pressure")
    low_priority_wait_ms: int = whole(2_000, 0, DAY_MS, "how long it waits before it is refused")

    def __post_init__(self) -> None:
        _check(self, "redis")

    def pool_options(self) -> PoolOptions:
        """Of each node's pool. The attempts of a dial are the pool's defaults. Thread: any."""
        return PoolOptions(
            pool_size=self.pool_size,
            pool_timeout_ms=self.pool_timeout_ms,
            max_waiting=self.max_waiting,
            min_idle_conns=self.min_idle,
            dial_timeout_ms=self.connect_timeout_ms,
            conn_max_idle_time_ms=self.idle_timeout_ms,
            conn_max_lifetime_ms=self.lifetime_ms,
        )

    def pressure_options(self) -> PressureOptions:
        """Of `PoolPressure`. Thread: any."""
        return PressureOptions(
            self.pressure_enter, self.pressure_leave, self.pressure_min_ms, self.pressure_look_ms
        )  # fmt: skip

    def blocking_options(self) -> BlockingOptions:
        """Of `BlockingWait`. Thread: any."""
        return BlockingOptions(
            self.blocking_ms, self.blocking_pressed_ms, self.pool_size, self.non_blocking_percent
        )  # fmt: skip

    def admission_options(self) -> AdmissionOptions:
        """Of `PressureAdmission`. Thread: any."""
        return AdmissionOptions(self.low_priority, self.low_priority_wait_ms)


@dataclass(frozen=True, slots=True)
class HubSettings:
    """[hub]: the web API that is asked, and how gently. Raises ValueError outside the bounds."""

    connections: int = whole(5, 0, MOST, "requests at once; 0: no limit")
    connections_wait_ms: int = whole(30_000, 0, DAY_MS, "how long a request waits for its place among them")
    requests_per_s: int = whole(10, 0, 1_000_000, "requests begun per second; 0: no limit")
    burst: int = whole(1, 1, 1_000_000, "requests that may begin at once after a rest")
    rate_wait_ms: int = whole(60_000, 0, DAY_MS, "how long a request waits for its turn by the rate")
    max_waiting: int = whole(0, 0, 1_000_000, "requests that may wait at once, for either; 0: no bound")
    connect_timeout_ms: int = whole(5_000, 1, DAY_MS, "for a connection")
    request_timeout_ms: int = whole(10_000, 1, DAY_MS, "for a request and its answer")

    def __post_init__(self) -> None:
        _check(self, "hub")


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """[breaker]: the circuit breaker before the Hub. Raises ValueError outside the bounds."""

    enabled: bool = switch(True, "whether there is one")
    failures_in_row: int = whole(5, 0, 1_000_000, "failures in a row that open it; 0: that rule is off")
    window: str = word(WINDOW_NONE, WINDOWS, "what the two rates are taken over")
    window_size: int = whole(100, 1, MAX_WINDOW_SIZE, 'results in the window, when it is "count"')
    window_ms: int = whole(60_000, 1, DAY_MS, 'length of the window, when it is "time"')
    minimum_calls: int = whole(20, 1, 1_000_000, "results in the window before a rate counts")
    failure_rate_percent: int = whole(50, 0, 100, "share of failures in the window that opens it; 0: off")
    slow_call_ms: int = whole(0, 0, DAY_MS, "a call of this length or longer is slow; 0: none is")
    slow_rate_percent: int = whole(100, 0, 100, "share of slow calls in the window that opens it; 0: off")
    open_ms: int = whole(30_000, 1, DAY_MS, "how long it stays open before it tries again")
    half_open_permits: int = whole(1, 1, MOST, "calls that may try at once")
    half_open_successes: int = whole(0, 0, MOST, "successes that close it again; 0: as many as half_open_permits")
    half_open_max_ms: int = whole(60_000, 0, DAY_MS, "longest time that a trial may take; 0: no bound")

    def __post_init__(self) -> None:
        _check(self, "breaker")

    def options(self) -> BreakerOptions | None:
        """Of the breaker; None when there is to be none. Thread: any."""
        if not self.enabled:
            return None
        return BreakerOptions(**{name: getattr(self, name) for name in KEYS["breaker"] if name != "enabled"})


@dataclass(frozen=True, slots=True)
class RetrySettings:
    """[retry]: when and how often a call that failed is made again. Raises ValueError outside the bounds."""

    attempts: int = whole(4, 1, 1_000, "calls in all; 1: it is never made again")
    total_ms: int = whole(30_000, 0, DAY_MS, "no attempt begins later than this after the first; 0: no bound")
    base_ms: int = whole(100, 0, DAY_MS, "the delay before the second attempt, without jitter")
    factor: float = number(2.0, 1, 100, "what the delay grows by each time")
    max_ms: int = whole(10_000, 0, DAY_MS, "longest delay; at least base_ms")
    jitter: str = word("full", JITTERS, "how chance shortens the delays")
    budget_percent: int = whole(20, 0, 1_000, "attempts after the first, per hundred first ones; 0: no such bound")
    budget_min_per_s: int = whole(10, 0, 1_000_000, "that may be made in any case")
    budget_window_ms: int = whole(10_000, 10, DAY_MS, "the time over which both are taken")

    def __post_init__(self) -> None:
        _check(self, "retry")

    def options(self) -> RetryOptions:
        """Of the retry, without its budget. Thread: any."""
        return RetryOptions(
            attempts=self.attempts, total_ms=self.total_ms, base_ms=self.base_ms, factor=self.factor,
            max_ms=self.max_ms, jitter=self.jitter,
        )  # fmt: skip

    def make_budget(self, rt: Runtime, name: str = "retry budget") -> RetryBudget | None:
        """The budget; None when there is to be none. Thread: any."""
        if not self.budget_percent:
            return None
        return RetryBudget(rt, self.budget_percent, self.budget_min_per_s, self.budget_window_ms, name)


@dataclass(frozen=True, slots=True)
class AlertSettings:
    """[alerts]: when somebody is told. Raises ValueError outside the bounds."""

    pressure: float = number(0.8, 0, 1, "a pressure above this ...")
    pressure_for_ms: int = whole(60_000, 0, DAY_MS, "... for longer than this is an alert")
    breaker_open_ms: int = whole(300_000, 0, DAY_MS, "a breaker not closed for longer than this is one")
    timeouts_percent: float = number(5.0, 0, 100, "a larger share of time-outs is one")
    errors_percent: float = number(1.0, 0, 100, "a larger share of errors is one")
    window_ms: int = whole(60_000, 1, DAY_MS, "the time over which the two shares are taken")
    minimum_count: int = whole(20, 1, 1_000_000_000, "operations in it before a share counts")
    clear_ms: int = whole(10_000, 0, DAY_MS, "an alert is over when its reason has been gone for longer than this")
    evaluate_every_ms: int = whole(1_000, 1, DAY_MS, "how often the rules are looked at; at most longest_gap_ms")
    longest_gap_ms: int = whole(
        10_000, 1, DAY_MS, "a longer time between two looks counts as so long; at least evaluate_every_ms"
    )

    def __post_init__(self) -> None:
        _check(self, "alerts")

    def rules(self) -> tuple[AlertRule, ...]:
        """The write-up's four rules. Thread: any."""
        clear_ns, window_ns = self.clear_ms * NS_PER_MS, self.window_ms * NS_PER_MS
        return (
            HeldRule("pressure", "pressure", self.pressure, self.pressure_for_ms * NS_PER_MS, clear_ns),
            HeldRule("breaker-open", "breaker_open", 0, self.breaker_open_ms * NS_PER_MS, clear_ns),
            ShareRule("timeouts", TIMEOUTS, self.timeouts_percent, window_ns, self.minimum_count, clear_ns),
            ShareRule("errors", ERRORS, self.errors_percent, window_ns, self.minimum_count, clear_ns),
        )

    @property
    def longest_gap_ns(self) -> int:
        """Of `Alerts`."""
        return self.longest_gap_ms * NS_PER_MS


@dataclass(frozen=True, slots=True)
class BackfillSettings:
    """[backfill]: the worker's own limits. Raises ValueError outside the bounds."""

    database_limit: int = whole(8, 0, MOST, "writes into the database at once; 0: no limit")
    database_wait_ms: int = whole(30_000, 0, DAY_MS, "how long a write waits for its place among them")
    max_deliveries: int = whole(5, 1, 1_000, "times that a message is taken before it is put aside as dead")
    reclaim_idle_ms: int = whole(30_000, 1, DAY_MS, "a message taken and not acknowledged for so long is taken again")

    def __post_init__(self) -> None:
        _check(self, "backfill")


@dataclass(frozen=True, slots=True)
class Settings:
    """All sections. The defaults are the write-up's mended form."""

    redis: RedisSettings = field(default_factory=RedisSettings)
    hub: HubSettings = field(default_factory=HubSettings)
    breaker: BreakerSettings = field(default_factory=BreakerSettings)
    retry: RetrySettings = field(default_factory=RetrySettings)
    alerts: AlertSettings = field(default_factory=AlertSettings)
    backfill: BackfillSettings = field(default_factory=BackfillSettings)

    def values(self) -> dict[str, dict[str, Any]]:
        """By section and key, in order; for a report or a file. Thread: any."""
        return {
            section: {name: getattr(getattr(self, section), name) for name in keys} for section, keys in KEYS.items()
        }


SECTIONS: Mapping[str, type] = MappingProxyType({
    "redis": RedisSettings,
    "hub": HubSettings,
    "breaker": BreakerSettings,
    "retry": RetrySettings,
    "alerts": AlertSettings,
    "backfill": BackfillSettings,
})  # fmt: skip
KEYS: Mapping[str, Mapping[str, Key]] = MappingProxyType({
    section: keys_of(section, settings) for section, settings in SECTIONS.items()
})  # fmt: skip
assert tuple(each.name for each in fields(Settings)) == tuple(SECTIONS)

# Section, the smaller key, the larger key: rules between two keys of a section.
PAIRS: tuple[tuple[str, str, str], ...] = (
    ("redis", "blocking_pressed_ms", "blocking_ms"),
    ("redis", "pressure_leave", "pressure_enter"),
    ("redis", "min_idle", "pool_size"),
    ("retry", "base_ms", "max_ms"),
    ("alerts", "evaluate_every_ms", "longest_gap_ms"),
)


def all_keys() -> Iterator[Key]:
    """Every key, section by section. Thread: any."""
    for keys in KEYS.values():
        yield from keys.values()


def broken_pairs(section: str, value_of: Callable[[str], Any]) -> Iterator[tuple[str, str]]:
    """The pairs of a section, smaller key first, whose smaller value is above the larger one. Thread: any."""
    for where, small, large in PAIRS:
        if where == section and value_of(small) > value_of(large):
            yield small, large


def _check(settings: object, section: str) -> None:
    wrong = first_complaint(KEYS[section], settings)
    if wrong is not None:
        raise ValueError(f"[{section}] {wrong[0]} {wrong[1]}")
    for small, large in broken_pairs(section, lambda name: getattr(settings, name)):
        low, high = getattr(settings, small), getattr(settings, large)
        raise ValueError(f"[{section}] {small} {low} is above {large} {high}")
