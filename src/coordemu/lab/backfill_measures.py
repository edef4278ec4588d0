"""The measures of the write-up, each of which can be switched on alone, and how the workers of a run are set up.

Role: the write-up mends many things at once. A `BackfillSetup` is the settings of one run and whether its work
survives; `alone` takes one measure from the mended settings and everything else from those of before, so that a
comparison can say which of the measures brings what. Every setting belongs to one measure at most; alerts to none,
since they change nothing.

Thread: frozen, any. Upstream: the write-up of the backfill worker. Left out: pairs of measures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from coordemu.resilience.profiles import BEFORE
from coordemu.resilience.settings import Settings
from coordemu.resilience.settings_loader import LoadedSettings, load_settings

POOL, WAITS, SHARE, RETRY, BREAKER, LIMITER, BULKHEADS, SURVIVAL = (
    "pool", "waits", "share", "retry", "breaker", "limiter", "bulkheads", "survival",
)  # fmt: skip
# By measure: section, and the keys that it sets; "*": all of the section.
MEASURES: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType({
    POOL: {
        "redis": (
            "pool_size", "pool_timeout_ms", "max_waiting", "min_idle", "connect_timeout_ms", "read_timeout_ms",
            "idle_timeout_ms", "lifetime_ms",
        )
    },
    WAITS: {
        "redis": (
            "blocking_ms", "blocking_pressed_ms", "pressure_enter", "pressure_leave", "pressure_min_ms",
            "pressure_look_ms",
        )
    },
    SHARE: {"redis": ("non_blocking_percent", "low_priority", "low_priority_wait_ms")},
    RETRY: {"retry": ("*",)},
    BREAKER: {"breaker": ("*",)},
    LIMITER: {"hub": ("requests_per_s", "burst", "rate_wait_ms", "max_waiting")},
    BULKHEADS: {
        "hub": ("connections", "connections_wait_ms"),
        "backfill": ("database_limit", "database_wait_ms"),
    },
    SURVIVAL: {"backfill": ("max_deliveries", "reclaim_idle_ms")},
})  # fmt: skip
SENTENCES: Mapping[str, str] = MappingProxyType({
    POOL: "a larger pool",
    WAITS: "shorter blocking waits under pressure",
    SHARE: "a share of the connections that blocking reads leave alone, and admission under pressure",
    RETRY: "retries with back-off and jitter",
    BREAKER: "a circuit breaker before the Hub",
    LIMITER: "the Hub's rate kept on our side",
    BULKHEADS: "limits of their own for the database and the Hub",
    SURVIVAL: "work that survives: taken, acknowledged, taken again",
})  # fmt: skip


class UnknownMeasure(ValueError):
    """There is no measure of that name."""


@dataclass(frozen=True, slots=True)
class BackfillSetup:
    """How the workers of one run are set up. name: for the report.  survives: whether work that was taken and not
    acknowledged is taken again."""

    name: str
    settings: Settings
    survives: bool = True

    @classmethod
    def load(
        cls, profile: str | None = None, path: str | None = None, environment: Mapping[str, str] | None = None
    ) -> BackfillSetup:
        """Of a profile, a file and the environment, as `load_settings`, which see for what is raised. The work of the
        profile "before" does not survive, that of any other does."""
        return cls.of(load_settings(profile, path, environment))

    @classmethod
    def of(cls, loaded: LoadedSettings) -> BackfillSetup:
        """Of settings that were loaded already. Thread: any."""
        name = " + ".join(filter(None, (loaded.profile, loaded.path))) or "defaults"
        return cls(name, loaded.settings, loaded.profile != BEFORE)


def alone(measure: str, before: BackfillSetup, after: BackfillSetup) -> BackfillSetup:
    """`before` with one measure of `after`. Raises UnknownMeasure. Thread: any."""
    return with_measures((measure,), before, after, f"{measure} alone")


def with_measures(names: tuple[str, ...], before: BackfillSetup, after: BackfillSetup, label: str) -> BackfillSetup:
    """`before` with some measures of `after`. label: its name. Raises UnknownMeasure. Thread: any."""
    settings = before.settings
    for name in names:
        if name not in MEASURES:
            raise UnknownMeasure(f"no measure is called {name!r} ({', '.join(MEASURES)})")
        for section, keys in MEASURES[name].items():
            old, new = getattr(settings, section), getattr(after.settings, section)
            changed = new if keys == ("*",) else replace(old, **{key: getattr(new, key) for key in keys})
            settings = replace(settings, **{section: changed})
    return BackfillSetup(label, settings, after.survives if SURVIVAL in names else before.survives)
