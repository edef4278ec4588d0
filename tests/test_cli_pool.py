"""The pool's command from end to end: embedded shards, a real cluster, bad input, Ctrl-C."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import Cli, Started, cli_fixture

from coordemu import cli_pool
from coordemu.lab.pool_modes import POOL_TESTS
from coordemu.lab.pool_run import PoolRun
from coordemu.runtime.threads import ThreadsRuntime
from coordemu.shards.real_redis import RedisServer
from coordemu.shards.redis_cluster import RedisCluster

SMALL = ("--goroutines-scale", "0.05", "--commands", "30", "--service-time", "0")

cli = cli_fixture("pool")


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    with RedisCluster(ThreadsRuntime()) as started:
        yield started


def test_a_mode_on_embedded_shards(cli: Cli) -> None:
    said = cli("detect", *SMALL)
    for number in range(1, 5):
        assert f"detect.{number}: " in said.out
    assert said.out.count("detector: ") >= 4
    assert said.out.count("verdict: ") == 4
    assert "All tests completed" in said.out
    assert said.err == ""


def test_json_is_all_there_is_on_stdout(cli: Cli) -> None:
    data: dict[str, Any] = json.loads(cli("detect", "--json", "-", *SMALL).out)
    assert [each["test"]["name"] for each in data["results"]] == [f"detect.{number}" for number in range(1, 5)]
    assert data["servers"] == {"shards": "embedded:3", "service_ms": 0.0}
    for each in data["results"]:
        assert each["metrics"]["begun"] == each["metrics"]["successful"] > 0
        assert len(each["nodes"]) <= 3


def test_a_real_cluster_that_the_user_names(cli: Cli, cluster: RedisCluster) -> None:
    addrs = str(cluster.addresses[0])
    small = ("--goroutines-scale", "0.05", "--commands", "60", "--time-limit", "4s")
    data: dict[str, Any] = json.loads(cli("advanced", "--addrs", addrs, "--json", "-", *small).out)
    results = {each["test"]["name"]: each for each in data["results"]}
    assert len(results) == 5
    for each in results.values():
        assert each["metrics"]["begun"] == each["metrics"]["successful"] > 0
    # One node was named; the others were found.
    assert len(results["advanced.5"]["nodes"]) == 3
    facts = results["advanced.5"]["facts"]
    assert facts["received"] == facts["published"] * results["advanced.5"]["test"]["subscribers"] > 0
    assert facts["subscribe_errors"] == 0
    assert results["advanced.3"]["notes"] == []
    assert keys_without_expiry(cluster) == []


def keys_without_expiry(cluster: RedisCluster) -> list[Any]:
    """What a run would leave behind for good."""
    found = []
    for server in cluster.servers:
        keys: Any = server.ask("KEYS", "*")
        found += [key for key in keys if server.ask("TTL", key) == -1]
    return found


def test_a_server_with_a_password(cli: Cli) -> None:
    with RedisServer(ThreadsRuntime(), password="pass word") as server:
        data = json.loads(cli("detect", "--addrs", f":pass%20word@{server.address}", "--json", "-", *SMALL[:4]).out)
        assert "***" in data["servers"]["shards"]
        assert all(each["metrics"]["failed"] == 0 for each in data["results"])
        said = cli("detect", "--addrs", str(server.address), code=3)
    assert said.err.count("\n") == 1
    assert "NOAUTH" in said.err


@pytest.fixture
def only_the_herd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every mode has one test."""
    monkeypatch.setattr(cli_pool, "mode_tests", lambda mode: (POOL_TESTS["detect.1"],))


@pytest.mark.usefixtures("only_the_herd")
def test_an_expectation_that_does_not_hold(cli: Cli) -> None:
    slow = ("--goroutines-scale", "0.02", "--service-time", "60ms")
    cli("detect", *slow, "--expect", "warning")
    cli("detect", *slow, "--expect", "good", code=1)


@pytest.mark.usefixtures("only_the_herd")
def test_live_without_a_terminal_says_lines_on_stderr(cli: Cli) -> None:
    said = cli("detect", "--live", "--goroutines-scale", "0.1", "--service-time", "130ms")
    assert " in use, " in said.err


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        ((), 2, "which mode?"),
        (("fast",), 2, "'basic', 'advanced', 'detect', 'all'"),
        (("basic", "--goroutines-scale", "0"), 2, "--goroutines-scale"),
        (("basic", "--goroutines-scale", "nan"), 2, "--goroutines-scale"),
        (("basic", "--goroutines-scale", "11"), 2, "--goroutines-scale"),
        (("basic", "--commands", "-1"), 2, "--commands"),
        (("basic", "--service-time", "5"), 2, "no duration"),
        (("basic", "--service-time", "2h"), 2, "no duration"),
        (("basic", "--service-time", "61s"), 2, "at most 60 s"),
        (("basic", "--time-limit", "0"), 2, "--time-limit"),
        (("basic", "--addrs", "here:99999"), 2, "port 99999"),
        (("basic", "--addrs", "a b"), 2, "--addrs"),
        (("basic", "--addrs", "localhost:1,localhost:1"), 2, "given twice"),
        (("basic", "--addrs", "rediss://localhost:1"), 2, "TLS"),
        (("basic", "--shards", "embedded:0"), 2, "--shards"),
        (("basic", "--shards", "mystery:3"), 2, "--shards"),
        (("basic", "--addrs", "localhost:1", "--shards", "redis:1"), 2, "only one of them"),
        (("basic", "--addrs", "localhost:1", "--service-time", "1ms"), 2, "embedded shards"),
        (("basic", "--expect", "fine"), 2, "--expect"),
        (("basic", "--addrs", "127.0.0.1:1"), 3, "refused"),
        (("basic", "--json", "/no/such/place"), 3, "can't write"),
    ],
)
def test_bad_input_is_one_line(cli: Cli, args: tuple[str, ...], code: int, words: str) -> None:
    cli(*args, code=code).refuses(words)


def test_an_error_of_a_run_is_one_line(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: PoolRun) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(PoolRun, "carry_out", full)
    said = cli("basic", *SMALL, code=3)
    assert said.err.count("\n") == 1


def test_ctrl_c_ends_all_and_keeps_what_came_before(tmp_path: Path, eventually: Callable[..., Any]) -> None:
    target = tmp_path / "results.json"
    args = ("detect", "--commands", "1", "--json", str(target), "--service-time", "120ms", "--live")
    command = Started("pool", *args)
    command.line_with("detect.2")
    assert "Not all tests were run" in command.interrupt(eventually).out
    assert [each["test"]["name"] for each in json.loads(target.read_text())["results"]] == ["detect.1"]
