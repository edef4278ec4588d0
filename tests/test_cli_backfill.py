"""The backfill's command from end to end: both runtimes, real servers, bad input, Ctrl-C, the metrics page."""

from __future__ import annotations

import json
import re
import socket
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import Cli, Started, cli_fixture

from coordemu.lab.backfill_run import BackfillRun
from coordemu.runtime.threads import ThreadsRuntime
from coordemu.shards.real_redis import RedisServer

SMALL = ("--messages", "20", "--concurrency", "10", "--speed", "40")

cli = cli_fixture("backfill")


def test_a_run_on_embedded_shards(cli: Cli) -> None:
    said = cli("run", *SMALL, "--poison", "0.1")
    assert "20 messages = 18 done + 2 dead-lettered" in said.out
    assert "verdict: conserved" in said.out
    assert said.err == ""


def test_a_run_in_the_simulator_with_everything_going_wrong(cli: Cli) -> None:
    faults = ("--outage", "2s@1s", "--outage", "1s@5s/503", "--kill-redis", "1s@2s", "--poison", "0.1")
    args = ("run", "--runtime", "sim", "--json", "-", "--messages", "60", "--concurrency", "20", *faults)
    data = json.loads(cli(*args).out)
    (result,) = data["results"]
    assert (result["good"], result["how"], result["runtime"]) == (True, "ended", "sim")
    assert result["account"]["done"] + len(result["account"]["dead"]) == 60
    assert [each["what"] for each in result["happened"]].count("Redis back") == 1
    assert {each["kind"] for each in result["breaker"]} >= {"opened", "closed"}
    # The same again is the same.
    assert json.loads(cli(*args).out)["results"] == data["results"]


def test_a_comparison_is_one_table(cli: Cli) -> None:
    said = cli("compare", "--runtime", "sim", "--messages", "60", "--concurrency", "40")
    rows = [line.split("  ")[0].strip() for line in said.out.splitlines()]
    for name in ("before", "after", "after, no share", "pool alone", "share alone", "survival alone"):
        assert name in rows
    assert "share: a share of the connections that blocking reads leave alone" in said.out
    assert re.search(r"fewer time-out errors.*said 95 %, measured \d+", said.out)
    assert re.search(r"more messages done per second: said 40 to 60 %, measured \d+", said.out)


def test_quick_compares_two(cli: Cli) -> None:
    data = json.loads(cli("compare", "--quick", "--profile", "production", "--json", "-", *SMALL).out)
    assert [each["setup"]["name"] for each in data["results"]] == ["before", "production"]
    assert data["results"][1]["setup"]["settings"]["redis"]["pool_size"] == 50
    assert [each["said"] for each in data["promises"]] == ["95 %", "40 to 60 %"]
    assert data["results"][0]["plan"] == data["results"][1]["plan"]


def test_a_real_redis_that_is_killed(cli: Cli) -> None:
    data = json.loads(cli("run", "--shards", "redis:1", "--kill-redis", "2s@1s", "--json", "-", *SMALL).out)
    (result,) = data["results"]
    assert result["good"]
    assert result["reaper"]["restorations"] == 1


def test_servers_that_the_user_names_are_left_as_they_were(cli: Cli) -> None:
    with RedisServer(ThreadsRuntime(), password="pass word") as server:
        said = cli("run", "--addrs", f":pass%20word@{server.address}", "--hub-rate", "50", *SMALL)
        assert "***" in said.out
        assert "50 requests per 1 s" in said.out
        assert server.ask("KEYS", "*") == []
        assert "NOAUTH" in cli("run", *SMALL, "--addrs", str(server.address), code=3).err


def test_settings_from_a_file(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "worker.toml"
    path.write_text('profile = "development"\n[backfill]\nmax_deliveries = 2\n')
    data = json.loads(cli("run", "--config", str(path), "--poison", "0.1", "--json", "-", *SMALL).out)
    (result,) = data["results"]
    assert result["setup"]["settings"]["redis"]["pool_size"] == 10
    assert any("2 deliveries" in reason for reason in result["account"]["dead"].values())


def test_what_is_left_by_a_setup_that_promises_to_survive_is_a_failure(cli: Cli) -> None:
    said = cli("run", "--runtime", "sim", "--messages", "50", "--concurrency", "5", "--time-limit", "2s", code=1)
    assert "messages were left" in said.out
    cli(
        "run", "--runtime", "sim", "--profile", "before", "--messages", "50", "--concurrency", "5", "--time-limit", "2s"
    )


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("walk",), 2, "walk"),
        (("run", "--profile", "befor"), 2, "'before'"),
        (("run", "--config", "/no/such/file"), 3, "can't read"),
        (("run", "--messages", "0"), 2, "--messages"),
        (("run", "--messages", "-3"), 2, "--messages"),
        (("run", "--concurrency", "0"), 2, "--concurrency"),
        (("run", "--concurrency", "2001"), 2, "--concurrency"),
        (("run", "--rate", "-1"), 2, "--rate"),
        (("run", "--rate", "nan"), 2, "rate_per_s"),
        (("run", "--hub-rate", "0"), 2, "--hub-rate"),
        (("run", "--hub-latency", "5"), 2, "no duration"),
        (("run", "--poison", "1.5"), 2, "--poison"),
        (("run", "--outage", "20x"), 2, "no span"),
        (("run", "--outage", "0s@1s"), 2, "--outage"),
        (("run", "--outage", "5s@1s/gone"), 2, "mode"),
        (("run", "--outage", "5s@1s", "--outage", "5s@2s"), 2, "overlap"),
        (("run", "--kill-redis", "5"), 2, "--kill-redis"),
        (("run", "--kill-redis", "5s@1s", "--addrs", "localhost:1"), 2, "not ours"),
        (("run", "--kill-redis", "5s@1s", "--kill-redis", "5s@1s"), 2, "overlap"),
        (("run", "--addrs", "localhost:1", "--shards", "redis:1"), 2, "only one"),
        (("run", "--addrs", "127.0.0.1:1"), 3, "refused"),
        (("run", "--addrs", "a b"), 2, "--addrs"),
        (("run", "--shards", "mystery:1"), 2, "--shards"),
        (("run", "--runtime", "sim", "--shards", "redis:1"), 2, "--runtime sim"),
        (("run", "--speed", "0"), 2, "--speed"),
        (("run", "--metrics", "9109"), 2, "--metrics"),
        (("run", "--metrics", ":99999"), 2, "--metrics"),
        (("run", "--json", "/no/such/place"), 3, "can't write"),
        (("compare", "--profile", "pro"), 2, "'production'"),
        (("compare", "--quick", "--without"), 2, "only one"),
    ],
)
def test_bad_input_is_one_line(cli: Cli, args: tuple[str, ...], code: int, words: str) -> None:
    cli(*args, code=code).refuses(words)


@pytest.mark.parametrize(
    ("text", "words"),
    [("x = [", "not TOML"), ("[redis]\npool_sise = 4\n", "pool_size"), ("[redis]\npool_size = -4\n", "below"),
     ("[alerts]\npressure = 1.5\n", "above 1")],
)  # fmt: skip
def test_bad_settings_are_one_line(cli: Cli, tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "worker.toml"
    path.write_text(text)
    said = cli("run", "--config", str(path), code=2)
    assert words in said.err
    assert said.err.count("\n") == 1


def test_a_port_that_is_taken(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = cli("run", "--metrics", f":{taken.getsockname()[1]}", *SMALL, code=3)
    assert "taken" in said.err
    assert said.err.count("\n") == 1


def test_an_error_of_a_run_is_one_line(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: BackfillRun) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(BackfillRun, "carry_out", full)
    assert cli("run", *SMALL, code=3).err.count("\n") == 1


def test_ctrl_c_names_what_is_left_and_leaves_nothing_running(tmp_path: Path, eventually: Callable[..., Any]) -> None:
    target = tmp_path / "results.json"
    command = Started("backfill", "run", "--messages", "100000", "--metrics", ":0", "--json", str(target))
    url = command.line_with("metrics: ").removeprefix("metrics: ").strip()

    def page() -> str:
        with urllib.request.urlopen(url) as response:
            return str(response.read().decode())

    eventually(lambda: re.search(r'backfill_messages_done\{setup="after"\} [1-9]', page()), "messages are done")
    text = page()
    assert text.endswith("# EOF\n")
    for name in ("backfill_pool_pressure_ratio", "backfill_operations_total", "backfill_breaker_open"):
        assert name in text
    assert "interrupted" in command.interrupt(eventually).out
    (result,) = json.loads(target.read_text())["results"]
    assert result["how"] == "interrupted"
    account = result["account"]
    assert account["done"] + sum(len(account[each]) for each in ("dead", "lost", "left")) == 100_000
    assert account["lost"] == {}
