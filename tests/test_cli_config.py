"""The settings' command from end to end: what it shows, its JSON, bad input, and the page that lists the keys."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from commands import Cli, cli_fixture

from coordemu.cli_config import settings_from, settings_options
from coordemu.cli_options import EnvironmentFailure
from coordemu.report.config_report import keys_markdown
from coordemu.resilience.settings import all_keys
from coordemu.resilience.settings_file import parse_settings
from coordemu.resilience.settings_loader import load_settings

PAGE = Path(__file__).resolve().parents[1] / "docs" / "configuration.md"


@pytest.fixture(autouse=True)
def no_settings_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own environment sets nothing."""
    for name in os.environ:
        if name.startswith("COORDEMU_"):
            monkeypatch.delenv(name)


cli = cli_fixture("config")


def test_every_value_is_shown_with_its_origin(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "[a].toml"
    path.write_text("[redis]\nmax_waiting = 77\n")
    monkeypatch.setenv("COORDEMU_HUB_BURST", "3")
    said = cli("--show", "--profile", "production", "--config", str(path))
    assert said.err == ""
    rows = dict(re.findall(r"^ ?(\w+) +(\S+ +\S.*?) *$", said.out, re.MULTILINE))
    assert rows["pool_size"].split() == ["50", "profile", "production"]
    assert rows["read_timeout_ms"].split() == ["5000", "default"]
    assert rows["burst"].split() == ["3", "COORDEMU_HUB_BURST"]
    # A long path is folded.
    assert f"max_waiting77{path}:2" in re.sub(r"\s", "", said.out)
    for section in ("redis", "hub", "breaker", "retry", "alerts", "backfill"):
        assert f"[{section}]" in said.out
    for key in all_keys():
        assert re.search(rf"^ *{key.name} ", said.out, re.MULTILINE), key


def test_json_is_all_there_is_on_stdout(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COORDEMU_PROFILE", "before")
    data = json.loads(cli("--show", "--json", "-").out)
    assert (data["schema"], data["profile"], data["file"]) == (1, "before", None)
    assert data["settings"]["redis"]["pool_size"] == {
        "value": 5, "origin": {"kind": "profile", "where": "before", "line": 0},
    }  # fmt: skip
    assert data["settings"] == load_settings("before").to_json()


def test_json_into_a_file_beside_the_table(cli: Cli, tmp_path: Path) -> None:
    target = tmp_path / "settings.json"
    said = cli("--show", "--json", str(target))
    assert "pool_size" in said.out
    assert json.loads(target.read_text())["profile"] is None


def test_without_show_it_only_checks(cli: Cli) -> None:
    said = cli("--profile", "after")
    count = len(list(all_keys()))
    assert re.fullmatch(rf"valid: profile after, no file, {count} values: \d+ profile, \d+ default\n", said.out)


def test_what_there_is_to_be_set(cli: Cli) -> None:
    said = cli("--keys")
    assert said.out == keys_markdown()


def test_the_page_has_the_keys_as_they_are(cli: Cli) -> None:
    page = PAGE.read_text()
    begin, end = "<!-- coordemu config --keys -->\n", "<!-- end -->\n"
    assert page.split(begin)[1].split(end)[0].strip() == keys_markdown().strip(), (
        "docs/configuration.md: put the output of `coordemu config --keys` between the two marks"
    )
    # Its examples are files that are taken.
    for text in re.findall(r"```toml\n(.*?)```", page, re.DOTALL):
        assert parse_settings(text, "example").values
    for variable in re.findall(r"\bCOORDEMU_[A-Z_]+\b", page):
        known = {key.variable for key in all_keys()} | {"COORDEMU_PROFILE"}
        assert variable in known or variable.endswith("_"), variable


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("--profile", "prod"), 2, "no profile is called 'prod'; did you mean 'production'?"),
        (("--profile", ""), 2, "no profile is called ''"),
        (("--config", "/no/such/file.toml"), 3, "can't read /no/such/file.toml: No such file"),
        (("--config", "/"), 3, "Is a directory"),
        (("--config", "/dev/zero"), 2, "more than"),
        (("--keys", "--show"), 2, "--keys goes with no other option"),
        (("--json", "/no/such/place"), 3, "can't write"),
        (("--json",), 2, "--json"),
        (("--sho",), 2, "--sho"),
        (("extra",), 2, "extra"),
    ],
)
def test_bad_input_is_one_line(cli: Cli, args: tuple[str, ...], code: int, words: str) -> None:
    cli(*args, code=code).refuses(words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[redis", "not TOML"),
        ("[redis]\npool_size = -3", ":2: [redis] pool_size -3 is below 1 (1 to 10000)"),
        ("[redis]\npressure_enter = 1.5", ":2: [redis] pressure_enter 1.5 is above 1 (0.01 to 1)"),
        ("[alerts]\npressure = 1.5", ":2: [alerts] pressure 1.5 is above 1 (0 to 1)"),
        ("[redis]\npool_sise = 3", "did you mean 'pool_size'?"),
        ("[rediss]\npool_size = 3", "did you mean [redis]?"),
        ("profile = 'x'", "no profile is called 'x'"),
        ("[redis]\nblocking_ms = 100", "blocking_pressed_ms 500 (default) is above blocking_ms 100"),
    ],
)
@pytest.mark.parametrize("more", [(), ("--show",), ("--json", "-")])
def test_a_bad_file_is_one_line(cli: Cli, tmp_path: Path, text: str, words: str, more: tuple[str, ...]) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    cli("--config", str(path), *more, code=2).refuses(words)


@pytest.mark.parametrize(
    ("variable", "text", "words"),
    [
        ("COORDEMU_REDIS_POOL_SIZE", "-3", "COORDEMU_REDIS_POOL_SIZE: [redis] pool_size -3 is below 1"),
        ("COORDEMU_REDIS_POOL", "3", "did you mean COORDEMU_REDIS_POOL_SIZE?"),
        ("COORDEMU_PROFILE", "x", "COORDEMU_PROFILE: no profile"),
    ],
)
def test_a_bad_variable_is_one_line(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, variable: str, text: str, words: str
) -> None:
    monkeypatch.setenv(variable, text)
    cli(code=2).refuses(words)


def test_as_a_process_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(b"[redis]\npool_size = \xff")
    command = [sys.executable, "-m", "coordemu.cli", "config", "--config", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "not UTF-8 (byte 20)" in done.stderr


def test_other_commands_take_settings_by_the_same_options(tmp_path: Path) -> None:
    @click.command()
    @settings_options
    def other(profile: str | None, config_path: str | None) -> None:
        click.echo(settings_from(profile, config_path).settings.redis.pool_size)

    assert {option for param in other.params for option in param.opts} == {"--profile", "--config"}
    assert settings_from("development", None).settings.redis.pool_size == 10
    with pytest.raises(EnvironmentFailure):
        settings_from(None, str(tmp_path))
    with pytest.raises(click.UsageError):
        settings_from("x", None)
