"""Settings as values: bounds, pairs, and what the parts of a client make of them."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
from any_settings import UNHURRIED, any_values
from hypothesis import given

from coordemu.resilience.alerts import Alerts
from coordemu.resilience.settings import KEYS, SECTIONS, RedisSettings, RetrySettings, Settings, all_keys
from coordemu.resilience.settings_key import WHOLE, nearest, shown
from coordemu.runtime.base import NS_PER_MS
from coordemu.runtime.threads import ThreadsRuntime


def test_the_defaults_are_the_write_up_s() -> None:
    settings = Settings()
    pool = settings.redis.pool_options()
    assert (pool.pool_size, pool.pool_timeout_ms, pool.dial_timeout_ms) == (20, 5_000, 5_000)
    assert (pool.conn_max_idle_time_ms, pool.conn_max_lifetime_ms) == (5 * 60_000, 30 * 60_000)
    assert (settings.redis.blocking_options().blocking_ms, settings.redis.blocking_options().pressed_ms) == (1_000, 500)
    assert settings.redis.pressure_options().enter == 0.8
    assert (settings.hub.connections, settings.hub.requests_per_s, settings.backfill.database_limit) == (5, 10, 8)
    breaker = settings.breaker.options()
    assert breaker is not None
    assert (breaker.failures_in_row, breaker.open_ms) == (5, 30_000)
    assert settings.retry.options().jitter == "full"
    pressure, breaker_open, timeouts, errors = settings.alerts.rules()
    assert (pressure.over, pressure.for_ns) == (0.8, 60_000 * NS_PER_MS)
    assert breaker_open.for_ns == 300_000 * NS_PER_MS
    assert (timeouts.over_percent, errors.over_percent) == (5, 1)


@UNHURRIED
@given(any_values)
def test_whatever_is_within_the_bounds_every_part_takes_it(values) -> None:
    settings = Settings(**{section: kind(**values.get(section, {})) for section, kind in SECTIONS.items()})
    rt = ThreadsRuntime()
    redis = settings.redis
    assert redis.pool_options().pool_size == redis.pool_size
    assert redis.blocking_options().limit <= redis.pool_size
    assert redis.admission_options().low == redis.low_priority
    assert redis.pressure_options().look_ms == redis.pressure_look_ms
    assert (settings.breaker.options() is None) is not settings.breaker.enabled
    assert settings.retry.options().attempts == settings.retry.attempts
    assert (settings.retry.make_budget(rt) is None) is (settings.retry.budget_percent == 0)
    alerts = Alerts(rt, settings.alerts.rules(), settings.alerts.longest_gap_ns)
    assert len(alerts.rules) == 4
    said = settings.values()
    for section, keys in values.items():
        assert {name: said[section][name] for name in keys} == keys


@pytest.mark.parametrize("key", tuple(all_keys()), ids=lambda key: key.variable)
def test_every_key_has_bounds_that_hold_and_a_meaning(key) -> None:
    assert key.check(key.default) == ""
    assert key.meaning
    assert key.name.isidentifier()
    kind = SECTIONS[key.section]
    wrong: list[object] = [None, [], {}, "neither", float("nan"), float("inf"), 1j]
    if key.words:
        wrong += [True, 1, ""]
    elif isinstance(key.default, bool):
        wrong += [1, 0, "true"]
    else:
        wrong += [key.low - 1, key.high + 1, True, "1", -(10**5_000)] + ([1.0] if key.kind == WHOLE else [])
    for value in wrong:
        complaint = key.check(value)
        assert complaint, value
        assert "\n" not in complaint
        assert len(complaint) < 250
        with pytest.raises(ValueError, match=rf"^\[{key.section}\] {key.name} "):
            kind(**{key.name: value})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: RedisSettings(blocking_pressed_ms=1_001), "blocking_pressed_ms 1001 is above blocking_ms 1000"),
        (lambda: RedisSettings(pressure_leave=0.9), "pressure_leave 0.9 is above pressure_enter 0.8"),
        (lambda: RedisSettings(min_idle=21), "min_idle 21 is above pool_size 20"),
        (lambda: RetrySettings(max_ms=99), "base_ms 100 is above max_ms 99"),
        (lambda: RedisSettings(pressure_enter=1.2), "1.2 is above 1 .0.01 to 1."),
    ],
)
def test_bounds_between_keys(make, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_they_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().redis.pool_size = 3


def test_no_two_keys_have_one_variable() -> None:
    variables = [key.variable for key in all_keys()]
    assert len(set(variables)) == len(variables)
    assert "COORDEMU_REDIS_POOL_SIZE" in variables
    assert not any(key.name.startswith(section) for section, keys in KEYS.items() for key in keys.values())


def test_a_value_in_an_error_is_short_and_on_one_line() -> None:
    assert shown("a\nb") == r"'a\nb'"
    assert len(shown("x" * 1_000)) == 60
    assert shown(True) == "true"
    assert shown(10**5_000) == "a number of thousands of digits"


def test_the_nearest_name() -> None:
    assert nearest("pool_sise", KEYS["redis"]) == "pool_size"
    assert nearest("x" * 10**6, KEYS["redis"])
    assert nearest("zzz", ["abc"], 0.5) is None
