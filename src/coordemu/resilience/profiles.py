"""Profiles: sets of settings that have a name.

Role: what the write-up compares is two forms of one worker: `before`, in which it failed, and `after`, the mended one;
`production` and `development` are the mended form with other pools. A profile says every value that the write-up
says, also those that are the defaults, so that a listing shows where they come from; what a profile does not say is
the default.

Thread: constants, any. Upstream: none. Left out: profiles of the user's own; a file is one. Bounds: four.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from coordemu.resilience.pressure_admission import ADMIT
from coordemu.resilience.settings_key import Value, nearest

Sections = Mapping[str, Mapping[str, Value]]

_AFTER: dict[str, dict[str, Value]] = {
    "redis": {
        "pool_size": 20,
        "pool_timeout_ms": 5_000,
        "connect_timeout_ms": 5_000,
        "idle_timeout_ms": 300_000,
        "lifetime_ms": 1_800_000,
        "blocking_ms": 1_000,
        "blocking_pressed_ms": 500,
        "pressure_enter": 0.8,
    },
    "hub": {"connections": 5, "requests_per_s": 10},
    "breaker": {"enabled": True, "failures_in_row": 5, "open_ms": 30_000},
    "retry": {"attempts": 4, "base_ms": 100, "factor": 2.0, "jitter": "full"},
    "alerts": {
        "pressure": 0.8,
        "pressure_for_ms": 60_000,
        "breaker_open_ms": 300_000,
        "timeouts_percent": 5.0,
        "errors_percent": 1.0,
    },
    "backfill": {"database_limit": 8},
}  # fmt: skip
# The alerts are the same: what would have been told, had there been any.
_BEFORE: dict[str, dict[str, Value]] = {
    "redis": {
        "pool_size": 5,
        "pool_timeout_ms": 5_000,
        "connect_timeout_ms": 5_000,
        "idle_timeout_ms": 0,
        "lifetime_ms": 0,
        "blocking_ms": 1_000,
        "blocking_pressed_ms": 1_000,
        "non_blocking_percent": 0,
        "low_priority": ADMIT,
    },
    "hub": {"connections": 0, "requests_per_s": 0},
    "breaker": {"enabled": False},
    "retry": {"attempts": 1},
    "alerts": _AFTER["alerts"],
    "backfill": {"database_limit": 0},
}  # fmt: skip


def _with_pool(pool_size: int) -> dict[str, dict[str, Value]]:
    return {**_AFTER, "redis": {**_AFTER["redis"], "pool_size": pool_size}}


BEFORE, AFTER, PRODUCTION, DEVELOPMENT = "before", "after", "production", "development"
PROFILES: Mapping[str, Sections] = MappingProxyType({
    BEFORE: _BEFORE,
    AFTER: _AFTER,
    PRODUCTION: _with_pool(50),
    DEVELOPMENT: _with_pool(10),
})  # fmt: skip
SUMMARIES: Mapping[str, str] = MappingProxyType({
    BEFORE: "the worker that failed: 5 connections, fixed blocking waits, no breaker, no limits, no retries",
    AFTER: "the mended one: 20 connections, shorter waits under pressure, limits, breaker, retries",
    PRODUCTION: "the mended one with 50 connections",
    DEVELOPMENT: "the mended one with 10 connections",
})  # fmt: skip


class UnknownProfile(ValueError):
    """There is no profile of that name; the message names the nearest one."""


def get_profile(name: str) -> Sections:
    """The values of a profile. Raises UnknownProfile. Thread: any."""
    if name not in PROFILES:
        raise UnknownProfile(
            f"no profile is called {name[:60]!r}; did you mean {nearest(name, PROFILES)!r}? ({', '.join(PROFILES)})"
        )
    return PROFILES[name]
