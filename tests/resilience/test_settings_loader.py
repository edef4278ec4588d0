"""Default, profile, file and environment on top of each other, each value with where it comes from."""

from __future__ import annotations

from pathlib import Path

import pytest
from any_settings import UNHURRIED, any_values, toml_text
from hypothesis import given
from hypothesis import strategies as st

from coordemu.resilience.profiles import PROFILES
from coordemu.resilience.settings import KEYS, Settings, all_keys
from coordemu.resilience.settings_file import SettingsError, SettingsFileUnreadable
from coordemu.resilience.settings_loader import load_settings
from coordemu.resilience.settings_origin import PRECEDENCE


@pytest.fixture
def file(tmp_path: Path):
    """`file(text)`: its path."""

    def write(text: str) -> str:
        path = tmp_path / "settings.toml"
        path.write_text(text)
        return str(path)

    return write


def refusal(*given_: object) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(*given_)
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_nothing_is_the_defaults() -> None:
    loaded = load_settings()
    assert loaded.settings == Settings()
    assert {origin.kind for keys in loaded.origins.values() for origin in keys.values()} == {"default"}
    assert (loaded.profile, loaded.path) == ("", "")


def test_each_overrides_the_one_before(file) -> None:
    path = file("[redis]\npool_size = 33\nmin_idle = 1\nmax_waiting = 9\n")
    environment = {"COORDEMU_REDIS_MIN_IDLE": " 2 ", "COORDEMU_BREAKER_ENABLED": "FALSE", "PATH": "x"}
    loaded = load_settings("production", path, environment)
    redis, origins = loaded.settings.redis, loaded.origins["redis"]
    assert (redis.pool_size, redis.min_idle, redis.max_waiting, redis.blocking_ms) == (33, 2, 9, 1_000)
    assert not loaded.settings.breaker.enabled
    expected = {
        "pool_size": f"{path}:2",
        "min_idle": "COORDEMU_REDIS_MIN_IDLE",
        "max_waiting": f"{path}:4",
        "blocking_ms": "profile production",
        "read_timeout_ms": "default",
    }
    assert {name: str(origins[name]) for name in expected} == expected
    assert (loaded.profile, loaded.path) == ("production", path)


def test_the_profile_asked_for_wins_over_the_environment_s_and_that_over_the_file_s(file) -> None:
    path, environment = file('profile = "before"'), {"COORDEMU_PROFILE": "development"}
    sizes = [
        load_settings(profile, where, surroundings).settings.redis.pool_size
        for profile, where, surroundings in (
            ("production", path, environment), (None, path, environment), (None, path, None), (None, None, None),
        )
    ]  # fmt: skip
    assert sizes == [50, 10, 5, 20]


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_is_taken(name: str) -> None:
    loaded = load_settings(name)
    said = PROFILES[name]
    for section, keys in loaded.settings.values().items():
        for key, value in keys.items():
            assert value == said.get(section, {}).get(key, KEYS[section][key].default)
            assert (loaded.origins[section][key].kind == "profile") is (key in said.get(section, {}))


@UNHURRIED
@given(any_values, st.sampled_from([None, *PROFILES]))
def test_any_valid_file_is_loaded_and_comes_back(tmp_path: Path, values, profile) -> None:
    path = tmp_path / "any.toml"
    path.write_text(toml_text(values))
    loaded = load_settings(profile, str(path))
    again = tmp_path / "again.toml"
    again.write_text(toml_text(loaded.settings.values()))
    assert load_settings(None, str(again)).settings == loaded.settings
    for section, keys in values.items():
        for name, value in keys.items():
            assert getattr(getattr(loaded.settings, section), name) == value
            assert loaded.origins[section][name].kind == "file"


@UNHURRIED
@given(any_values)
def test_any_value_can_come_from_the_environment(values) -> None:
    environment = {
        KEYS[section][name].variable: str(value) for section, keys in values.items() for name, value in keys.items()
    }
    loaded = load_settings(environment=environment)
    for section, keys in values.items():
        for name, value in keys.items():
            assert getattr(getattr(loaded.settings, section), name) == value
            assert str(loaded.origins[section][name]) == KEYS[section][name].variable


@pytest.mark.parametrize(
    ("variable", "text", "words"),
    [
        ("COORDEMU_REDIS_POOL_SIZE", "-1", "COORDEMU_REDIS_POOL_SIZE: [redis] pool_size -1 is below 1 (1 to 10000)"),
        ("COORDEMU_REDIS_POOL_SIZE", "many", "'many' is not a whole number (1 to 10000)"),
        ("COORDEMU_REDIS_POOL_SIZE", "", "'' is not a whole number"),
        ("COORDEMU_REDIS_POOL_SIZE", "1.0", "'1.0' is not a whole number"),
        ("COORDEMU_REDIS_POOL_SIZE", "9" * 5_000, "is not a whole number"),
        ("COORDEMU_REDIS_PRESSURE_ENTER", "1.2", "is above 1"),
        ("COORDEMU_REDIS_PRESSURE_ENTER", "nan", "nan is not a number"),
        ("COORDEMU_BREAKER_ENABLED", "yes", "'yes' is not a switch (true or false)"),
        ("COORDEMU_RETRY_JITTER", "ful\n", "'ful' is not"),
        ("COORDEMU_REDIS_POOLSIZE", "5", "no setting is called 'COORDEMU_REDIS_POOLSIZE'; did you mean COORDEMU_REDIS"),
        ("COORDEMU_HUB_", "5", "no setting is called 'COORDEMU_HUB_'; did you mean COORDEMU_HUB"),
        ("COORDEMU_REDSI_POOL_SIZE", "5", "did you mean COORDEMU_REDIS_POOL_SIZE?"),
        ("COORDEMU_PROFIL", "before", "did you mean COORDEMU_PROFILE?"),
        ("COORDEMU_PROFILE", "befor", "COORDEMU_PROFILE: no profile is called 'befor'; did you mean 'before'?"),
    ],
)
def test_a_variable_that_is_wrong(variable: str, text: str, words: str) -> None:
    assert words in refusal(None, None, {variable: text})


def test_variables_of_others_are_left_alone() -> None:
    others = {"COORDEMU_SANITIZED": "1", "COORDEMU_DRAIN_GATE_H": "", "REDIS_POOL_SIZE": "x", "coordemu_redis_x": "1"}
    assert load_settings(environment=others).settings == Settings()


def test_two_keys_against_each_other_are_both_named_with_their_origin(file) -> None:
    path = file("[redis]\nblocking_ms = 400\n")
    assert refusal("after", path) == (
        f"{path}:2: [redis] blocking_pressed_ms 500 (profile after) is above blocking_ms 400 ({path}:2)"
    )
    assert refusal(None, None, {"COORDEMU_REDIS_MIN_IDLE": "21"}).startswith("COORDEMU_REDIS_MIN_IDLE: ")
    # What the environment mends is no error.
    assert load_settings("after", path, {"COORDEMU_REDIS_BLOCKING_PRESSED_MS": "400"}).settings.redis.blocking_ms == 400


def test_a_profile_that_is_none_and_a_file_that_is_none(file) -> None:
    assert "did you mean 'production'?" in refusal("prodution")
    assert len(refusal("x" * 10_000)) < 300
    with pytest.raises(SettingsFileUnreadable, match="No such file"):
        load_settings(None, "/no/such/file.toml")


def test_every_value_has_an_origin_for_a_report(file) -> None:
    loaded = load_settings("before", file("[hub]\nburst = 2\n"), {"COORDEMU_HUB_MAX_WAITING": "3"})
    data = loaded.to_json()
    assert {key.name for key in all_keys()} == {name for keys in data.values() for name in keys}
    assert data["hub"]["burst"]["origin"] == {"kind": "file", "where": loaded.path, "line": 2}
    kinds = [each["origin"]["kind"] for keys in data.values() for each in keys.values()]
    assert set(kinds) == set(PRECEDENCE)
