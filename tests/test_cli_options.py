"""Options into a scenario and a policy: what each one changes, and how a complaint names it."""

from __future__ import annotations

import json
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from coordemu.cli_options import (
    POLICY_FIELDS,
    SCENARIO_FIELDS,
    DurationMs,
    EnvironmentFailure,
    check_environment,
    make_policy,
    make_scenario,
    policy_options,
    scenario_options,
)
from coordemu.coord.resize_policy import STEPS, ResizePolicy, get_policy
from coordemu.lab.scenario import Scenario, get_scenario


@click.command()
@scenario_options
@policy_options
def show(**given: Any) -> None:
    """A command with all options, which prints what they make of a scenario and a policy."""
    scenario, policy = make_scenario("mod-11658", given), make_policy("upstream-7410", given)
    click.echo(json.dumps({"scenario": scenario.to_json(), "policy": policy.to_json()}))


def made(*args: str) -> tuple[Scenario, ResizePolicy]:
    done = CliRunner().invoke(show, args, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    data = json.loads(done.output)
    policy = data["policy"]
    return Scenario.from_json(data["scenario"]), ResizePolicy(**{**policy, "order": tuple(policy["order"])})


def complaint(*args: str) -> str:
    done = CliRunner().invoke(show, args, catch_exceptions=False)
    assert done.exit_code == 2
    return done.output.splitlines()[-1]


def test_without_options_nothing_changes() -> None:
    assert made() == (get_scenario("mod-11658"), get_policy("upstream-7410"))


SCENARIO_CHANGES = [
    (["--workers", "4:9:2"], "workers", (4, 9, 2)),
    (["--clients", "3"], "clients", 3),
    (["--in-flight", "2"], "in_flight", 2),
    (["--latency", "10ms..30ms"], "latency", "10ms..30ms"),
    (["--work", "1.5ms"], "work_ms", 1.5),
    (["--load-docs", "0.5"], "lock_share", 0.5),
    (["--load-time", "250us"], "load_ms", 0.25),
    (["--open-time", "2ms"], "open_ms", 2.0),
    (["--shards", "embedded:2"], "shards", "embedded:2"),
    (["--faults", "delay=20ms"], "faults", "delay=20ms"),
    (["--conn-per-shard", "5"], "conn_per_shard", 5),
    (["--io-threads", "256"], "io_threads", 256),
    (["--resp", "3"], "protocol", 3),
    (["--warm", "1s"], "warm_ms", 1000),
    (["--pause", "5ms"], "pause_ms", 5.0),
    (["--after", "0"], "after_ms", 0),
    (["--watchdog", "100ms"], "watchdog_ms", 100),
    (["--kill-shard", "2"], "kill_shard", 2),
    (["--restart-after", "1s"], "restart_after_ms", 1000),
    (["--no-limits"], "no_limits", True),
    (["--seed", "-7"], "seed", -7),
]


@pytest.mark.parametrize(("args", "field", "value"), SCENARIO_CHANGES, ids=[each[1] for each in SCENARIO_CHANGES])
def test_each_option_changes_one_field_of_the_scenario(args: list[str], field: str, value: Any) -> None:
    scenario, policy = made(*args)
    assert scenario == get_scenario("mod-11658").override(**{field: value})
    assert getattr(scenario, field) == value
    assert type(getattr(scenario, field)) is type(value)
    assert policy == get_policy("upstream-7410")


POLICY_CHANGES = [
    (["--stop", "drop"], "stop", "drop"),
    (["--drain", "event"], "drain", "event"),
    (["--reduce", "handoff"], "reduce", "handoff"),
    (["--admission", "reject"], "admission", "reject"),
    (["--order", "shrink, reduce"], "order", ("shrink", "reduce")),
    (["--drain-timeout", "300ms"], "drain_timeout_ms", 300),
    (["--drain-poll", "1ms"], "drain_poll_ms", 1),
    (["--at-deadline", "keep"], "at_deadline", "keep"),
    (["--stay", "connected"], "stay", "connected"),
    (["--overlap", "refuse"], "overlap", "refuse"),
    (["--main-mode", "block"], "main_mode", "block"),
    (["--trigger-delay", "10ms"], "trigger_delay_ms", 10),
]


@pytest.mark.parametrize(("args", "field", "value"), POLICY_CHANGES, ids=[each[1] for each in POLICY_CHANGES])
def test_each_option_changes_one_field_of_the_policy(args: list[str], field: str, value: Any) -> None:
    scenario, policy = made(*args)
    assert getattr(policy, field) == value
    assert type(getattr(policy, field)) is type(value)
    assert policy == get_policy("upstream-7410").override(**{field: value})
    assert policy.name.startswith("upstream-7410[")
    assert policy.expected == ""
    assert scenario == get_scenario("mod-11658")


def test_every_field_has_an_option() -> None:
    """Those of a scenario that have none are its name and what only a test has a use for."""
    named = {each[1] for each in SCENARIO_CHANGES}
    assert set(SCENARIO_FIELDS) | {"workers"} == named
    assert {f.name for f in fields(Scenario)} - named == {"name", "summary", "settle_ms", "ping_interval_ms"}
    named = {each[1] for each in POLICY_CHANGES}
    assert set(POLICY_FIELDS) | {"order"} == named
    assert {f.name for f in fields(ResizePolicy)} - named == {"name", "summary", "source", "expected"}


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--load-docs", "-1"], "Error: --load-docs: -1.0 is not within 0..1"),
        (["--load-time", "3601s"], "Error: Invalid value for '--load-time': '3601s' is longer than an hour"),
        (["--workers", "8193:0", "--no-limits"], "Error: WORKERS 8193 is above the limit of 8192"),
        (["--kill-shard", "3"], "Error: --kill-shard: 3 is not within -1..2"),
        (["--drain-poll", "0"], "Error: --drain-poll: 0 is below 1 (in ms)"),
        (["--shards", "redis://h:99999"], "Error: --shards: port 99999 in 'h:99999' is not within 1..65535"),
        (["--in-flight", "10001"], "Error: --in-flight: 10001 is not within 0..10000"),
        (["--watchdog", "0"], "Error: --watchdog: 0 is not within 100..600000 (in ms)"),
        (["--latency", "3ms..1ms"], "Error: --latency: '3ms..1ms': the upper end is below the lower one"),
        (["--order", ""], f"Error: --order: step '' is none of {', '.join(STEPS)}"),
        (["--order", "reduce,shrink,reduce"], "Error: --order: a step stands twice"),
        (
            ["--warm", "soon"],
            "Error: Invalid value for '--warm': 'soon' is no duration; write for example 20ms, 1.5s, 500us or 0",
        ),
        (["--resp", "4"], "Error: Invalid value for '--resp': 4 is not in the range 2<=x<=3."),
        (["--clients", "many"], "Error: Invalid value for '--clients': 'many' is not a valid integer."),
        (
            ["--faults", "delay=1ms", "--shards", "redis:1"],
            "Error: --faults: redis:1 are real servers; a fault plan needs embedded shards",
        ),
    ],
)  # fmt: skip
def test_a_complaint_names_the_option(args: list[str], says: str) -> None:
    assert complaint(*args) == says


def test_unknown_names() -> None:
    with pytest.raises(click.UsageError, match="no scenario is called 'mod'; did you mean 'mod-11658'"):
        make_scenario("mod", {})
    with pytest.raises(click.UsageError, match="no policy is called 'upstream'; did you mean 'upstream-"):
        make_policy("upstream", {})


def test_a_duration_that_is_a_number_already() -> None:
    assert DurationMs().convert(20, None, None) == 20.0


def test_an_environment_that_is_as_it_should_be(tmp_path: Path) -> None:
    old, new, pipe = tmp_path / "old", tmp_path / "new", tmp_path / "pipe"
    old.write_text("as it was")
    os.mkfifo(pipe)
    check_environment(Scenario(), (None, "-", str(old), str(new), str(pipe), "/dev/null"))
    assert old.read_text() == "as it was"
    assert not new.exists()
    assert pipe.is_fifo()


@pytest.mark.parametrize("path", ["", ".", "/proc/none", "missing/x"])
def test_files_that_can_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EnvironmentFailure, match=f"^can't write '{path}': ") as failure:
        check_environment(Scenario(), (path,))
    assert failure.value.exit_code == 3
    assert "\n" not in failure.value.message


def test_the_same_file_twice() -> None:
    with pytest.raises(click.UsageError, match="can't go to the same place"):
        check_environment(Scenario(), ("x", "x"))
    check_environment(Scenario(), (None, None))


def test_shards_that_can_not_be_reached() -> None:
    with pytest.raises(EnvironmentFailure, match=r"^shard 127\.0\.0\.1:1: Connection refused$"):
        check_environment(Scenario(shards="redis://127.0.0.1:1"), ())


@pytest.mark.parametrize(
    ("scenario", "needed"),
    [
        (Scenario(), 3 * 13 + 24 + 18 + 50),
        (Scenario(conn_per_shard=10, io_threads=4), 3 * 12 + 24 + 27 + 50),
        (Scenario(workers=(2, 7, 0), shards="embedded:1000", clients=5), 1000 * 8 + 10 + 18 + 50),
    ],
)
def test_the_descriptors_that_a_run_needs(monkeypatch: pytest.MonkeyPatch, scenario: Scenario, needed: int) -> None:
    monkeypatch.setattr("coordemu.cli_options.raise_fd_limit", lambda: needed)
    check_environment(scenario, ())
    monkeypatch.setattr("coordemu.cli_options.raise_fd_limit", lambda: needed - 1)
    with pytest.raises(
        EnvironmentFailure, match=f"needs about {needed} file descriptors, and the limit is {needed - 1}"
    ):
        check_environment(scenario, ())
    monkeypatch.setattr("coordemu.cli_options.raise_fd_limit", lambda: -1)  # no limit
    check_environment(scenario, ())
