"""Measures: each setting belongs to one at most, and all of them together are the mended form."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from coordemu.lab.backfill_compare import BOTH_ONLY, EACH_MISSING, setups_to_compare
from coordemu.lab.backfill_measures import (
    MEASURES,
    SENTENCES,
    SURVIVAL,
    BackfillSetup,
    UnknownMeasure,
    alone,
    with_measures,
)
from coordemu.resilience.settings import KEYS

BEFORE, AFTER = BackfillSetup.load("before"), BackfillSetup.load("after")


def keys_of(measure: str) -> list[tuple[str, str]]:
    return [
        (section, key)
        for section, keys in MEASURES[measure].items()
        for key in (KEYS[section] if keys == ("*",) else keys)
    ]


def test_every_setting_in_which_the_profiles_differ_belongs_to_one_measure() -> None:
    counted = Counter(key for measure in MEASURES for key in keys_of(measure))
    assert max(counted.values()) == 1
    before, after = BEFORE.settings.values(), AFTER.settings.values()
    differ = {
        (section, key) for section in before for key in before[section] if before[section][key] != after[section][key]
    }
    assert differ <= set(counted)
    assert all(key in KEYS[section] for section, key in counted)
    assert set(SENTENCES) == set(MEASURES)


def test_all_measures_together_are_after() -> None:
    both = with_measures(tuple(MEASURES), BEFORE, AFTER, "all")
    assert replace(both, name="after") == AFTER
    assert with_measures((), BEFORE, AFTER, "before") == BEFORE


@pytest.mark.parametrize("measure", MEASURES)
def test_a_measure_alone_changes_its_own_settings_only(measure: str) -> None:
    setup = alone(measure, BEFORE, AFTER)
    before, after, changed = (each.settings.values() for each in (BEFORE, AFTER, setup))
    own = set(keys_of(measure))
    for section, keys in changed.items():
        for key, value in keys.items():
            assert value == (after if (section, key) in own else before)[section][key]
    assert setup.survives == (measure == SURVIVAL)


def test_unknown_measure() -> None:
    with pytest.raises(UnknownMeasure, match="'speed'"):
        alone("speed", BEFORE, AFTER)


def test_what_is_compared() -> None:
    assert [each.name for each in setups_to_compare(BEFORE, AFTER, BOTH_ONLY)] == ["before", "after"]
    setups = setups_to_compare(BEFORE, AFTER)
    assert [each.name for each in setups[:3]] == ["before", "after", "after, no share"]
    assert setups[2].settings.redis.non_blocking_percent == 0
    assert setups[2].settings.redis.pool_size == 20
    assert len(setups) == 3 + len(MEASURES)
    missing = setups_to_compare(BEFORE, AFTER, EACH_MISSING)[2:]
    assert [each.name for each in missing] == [f"after, no {name}" for name in MEASURES]
    assert [each.survives for each in missing] == [name != SURVIVAL for name in MEASURES]
