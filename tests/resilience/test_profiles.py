"""Profiles: the write-up's two forms, and production and development."""

from __future__ import annotations

import pytest

from coordemu.resilience.profiles import PROFILES, SUMMARIES, UnknownProfile, get_profile
from coordemu.resilience.settings import KEYS
from coordemu.resilience.settings_loader import load_settings


def test_every_profile_says_only_what_there_is() -> None:
    assert set(PROFILES) == set(SUMMARIES) == {"before", "after", "production", "development"}
    for sections in PROFILES.values():
        for section, keys in sections.items():
            for name, value in keys.items():
                assert KEYS[section][name].check(value) == ""


def test_before_has_none_of_the_measures() -> None:
    settings = load_settings("before").settings
    assert settings.redis.pool_size == 5
    assert settings.redis.blocking_ms == settings.redis.blocking_pressed_ms == 1_000
    assert settings.redis.blocking_options().limit == 5
    assert settings.redis.low_priority == "admit"
    assert settings.breaker.options() is None
    assert settings.retry.options().attempts == 1
    assert (settings.hub.connections, settings.hub.requests_per_s, settings.backfill.database_limit) == (0, 0, 0)


def test_after_is_what_the_defaults_are() -> None:
    assert load_settings("after").settings == load_settings().settings


def test_production_and_development_differ_by_the_pool() -> None:
    after = load_settings("after").settings.values()
    for name, size in (("production", 50), ("development", 10)):
        values = load_settings(name).settings.values()
        assert values["redis"].pop("pool_size") == size
        assert values == {**after, "redis": {key: value for key, value in after["redis"].items() if key != "pool_size"}}


def test_alerts_are_the_same_in_all_so_that_before_shows_what_would_have_been_told() -> None:
    rules = [load_settings(name).settings.alerts.rules() for name in PROFILES]
    assert all(each == rules[0] for each in rules)


def test_an_unknown_one() -> None:
    with pytest.raises(UnknownProfile, match=r"'prod'; did you mean 'production'\? \(before, after, production"):
        get_profile("prod")
