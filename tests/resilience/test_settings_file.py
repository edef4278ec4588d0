"""Files of settings: what is taken, and what is refused with one line that says where and why."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from any_settings import UNHURRIED, any_values, toml_text
from hypothesis import given
from hypothesis import strategies as st

from coordemu.resilience.settings import KEYS
from coordemu.resilience.settings_file import (
    MOST_BYTES,
    SettingsError,
    SettingsFileUnreadable,
    parse_settings,
    read_settings_file,
)
from coordemu.resilience.settings_origin import Origin

NAME = "a.toml"


def refusal(text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        parse_settings(text, NAME)
    said = str(caught.value)
    assert "\n" not in said
    assert said.isprintable()
    assert len(said) < 400
    return said


def test_values_and_where_they_stand() -> None:
    text = (
        '# mine\nprofile = "before"\n\n[redis]  # the pool\npool_size=7\n"min_idle" = 2\r\n[ alerts ]\npressure = 1\n'
    )
    file = parse_settings(text, NAME)
    assert file.values == {"redis": {"pool_size": 7, "min_idle": 2}, "alerts": {"pressure": 1.0}}
    assert isinstance(file.values["alerts"]["pressure"], float)
    assert file.profile == "before"
    assert {name: str(origin) for name, origin in file.origins["redis"].items()} == {
        "pool_size": "a.toml:5", "min_idle": "a.toml:6",
    }  # fmt: skip
    assert file.origins["alerts"]["pressure"] == Origin("file", NAME, 8)


def test_other_ways_to_write_it_are_taken_without_a_line() -> None:
    file = parse_settings('redis.pool_size = 7\nhub = {connections = 3}\nretry.jitter = """\nnone"""\n', NAME)
    assert file.values == {"redis": {"pool_size": 7}, "hub": {"connections": 3}, "retry": {"jitter": "none"}}
    assert str(file.origins["redis"]["pool_size"]) == NAME


def test_an_empty_file_says_nothing() -> None:
    for text in ("", "\n# nothing\n", "[redis]\n"):
        assert not any(parse_settings(text, NAME).values.values())


@UNHURRIED
@given(any_values)
def test_any_valid_file_is_taken_as_it_is(values) -> None:
    file = parse_settings(toml_text(values), NAME)
    assert file.values == values
    lines = toml_text(values).split("\n")
    for section, keys in file.origins.items():
        for name, origin in keys.items():
            assert lines[origin.line - 1].startswith(f"{name} = "), (section, origin)


names = st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyz_-0123456789"), min_size=1, max_size=30)


@UNHURRIED
@given(any_values, st.sampled_from(list(KEYS)), names)
def test_any_unknown_key_is_refused(values, section: str, name: str) -> None:
    if name in KEYS[section]:
        name += "_"
    said = refusal(toml_text({**values, section: {**values.get(section, {}), name: 1}}))
    assert f"[{section}] has no key '{name}'; did you mean " in said


@UNHURRIED
@given(any_values, names)
def test_any_unknown_section_is_refused(values, section: str) -> None:
    if section in KEYS or section == "profile":
        section += "_"
    assert f"no section is called '{section}'; did you mean [" in refusal(toml_text({**values, section: {"x": 1}}))


@UNHURRIED
@given(st.text(max_size=80))
def test_any_text_is_taken_or_refused_in_one_line(text: str) -> None:
    try:
        file = parse_settings(text, NAME)
    except SettingsError:
        refusal(text)
    else:
        assert set(file.values) <= set(KEYS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[redis", "not TOML: "),
        ("[redis]\npool_size = 3\npool_size = 4", "not TOML: Cannot overwrite a value"),
        ("[redis]\npool_size = \n", "line 2"),
        ("a = " + "[" * 20_000, "not TOML"),
        ("[redis]\npool_size = 1" + "0" * 5_000, "not TOML"),
        ("[redis]\npool_size = -1", "a.toml:2: [redis] pool_size -1 is below 1 (1 to 10000)"),
        ("[redis]\n\npool_size = 10001", "a.toml:3: [redis] pool_size 10001 is above 10000 (1 to 10000)"),
        ("[redis]\npool_size = 5.0", "5.0 is not a whole number"),
        ("[redis]\npool_size = true", "true is not a whole number"),
        ('[redis]\npool_size = "5"', "'5' is not a whole number"),
        ("[redis]\npool_size = 2026-11-21", "is not a whole number"),
        ("[redis]\npressure_enter = 1.2", "[redis] pressure_enter 1.2 is above 1 (0.01 to 1)"),
        ("[redis]\npressure_enter = nan", "nan is not a number"),
        ("[redis]\npressure_enter = inf", "inf is not a number"),
        ("[redis]\npool_sise = 3", "a.toml:2: [redis] has no key 'pool_sise'; did you mean 'pool_size'?"),
        ("[redis]\nopen_ms = 3", "did you mean [breaker] open_ms?"),
        ("[redis]\nredis.pool_size = 3", "[redis] has no key 'redis'"),
        ("[redis.pool]\nsize = 3", "[redis] has no key 'pool'"),
        ("[Redis]\npool_size = 3", "a.toml:1: no section is called 'Redis'; did you mean [redis]?"),
        ("[[redis]]\npool_size = 3", "redis is a section: write [redis]"),
        ("redis = 3", "a.toml:1: redis is a section"),
        ("pool_size = 3", "a.toml:1: 'pool_size' stands in no section; did you mean [redis] pool_size?"),
        ("profil = 'before'", "'profil' stands in no section; did you mean 'profile'?"),
        ("max_waiting = 3", "did you mean [redis] max_waiting or [hub] max_waiting?"),
        ("profile = 'befor'", "a.toml:1: no profile is called 'befor'; did you mean 'before'?"),
        ("profile = ''", "no profile is called ''"),
        ("profile = 3", "profile 3 is no name of a profile"),
        ("[retry]\njitter = 'ful'", "did you mean 'full'?"),
        ("[retry]\njitter = 3", '3 is not "none" or "full"'),
        ("[breaker]\nenabled = 1", "1 is neither true nor false"),
        ('[redis]\n"pool\\nsize" = 1', r"[redis] has no key 'pool\nsize'"),
        ('["\\u001b[31m"]\nx = 1', "no section is called"),
        ("\ufeff[redis]", "not TOML"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, words: str) -> None:
    assert words in refusal(text)


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text("[redis]\npool_size = 3\n")
    file = read_settings_file(str(path))
    assert file.values == {"redis": {"pool_size": 3}}
    assert str(file.origins["redis"]["pool_size"]) == f"{path}:2"


def test_a_file_that_is_none(tmp_path: Path) -> None:
    cases = {"none.toml": "No such file", ".": "Is a directory", "a\0b": "null byte"}
    for name, words in cases.items():
        with pytest.raises(SettingsFileUnreadable, match=words) as caught:
            read_settings_file(str(tmp_path / name))
        assert str(caught.value).isprintable()
    (tmp_path / "latin").write_bytes(b"# caf\xe9")
    with pytest.raises(SettingsError, match=r"not UTF-8 \(byte 5\)"):
        read_settings_file(str(tmp_path / "latin"))
    (tmp_path / "large").write_bytes(b"#" * (MOST_BYTES + 1))
    with pytest.raises(SettingsError, match="more than"):
        read_settings_file(str(tmp_path / "large"))
    with pytest.raises(SettingsError, match="more than"):
        read_settings_file(os.devnull.replace("null", "zero"))


def test_a_path_with_a_line_break_is_named_on_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a\nb.toml"
    path.write_text("x = 1")
    with pytest.raises(SettingsError) as caught:
        read_settings_file(str(path))
    assert "\n" not in str(caught.value)
