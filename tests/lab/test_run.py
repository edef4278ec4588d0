"""One run in this process: embedded shards, short times, policies that leave nothing stuck."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from coordemu.coord.resize_policy import get_policy
from coordemu.lab import run as run_module
from coordemu.lab.machine import count_resources, count_threads
from coordemu.lab.result import Result
from coordemu.lab.run import LabRun, ShardsUnreachable
from coordemu.lab.scenario import Scenario
from coordemu.report.chain_report import chain_steps
from coordemu.runtime.base import NS_PER_MS, Address
from coordemu.runtime.threads import ThreadsRuntime
from coordemu.shards.shard_fleet import ShardFleet
from coordemu.shards.shard_url import parse_shard_url

QUICK: dict[str, Any] = {"latency": "10ms", "warm_ms": 30, "after_ms": 60}
RESOURCES = ("threads", "fds", "sockets")


class RunHere:
    """`run_here(policy, **fields)`: a run with its shards started. said: its progress."""

    def __init__(self, rt: ThreadsRuntime) -> None:
        self.rt = rt
        self.fleets: list[ShardFleet] = []
        self.said: list[str] = []

    def __call__(self, policy: str = "upstream-7410", **fields: Any) -> LabRun:
        scenario = Scenario(**{**QUICK, **fields})
        self.fleets.append(ShardFleet.start(self.rt, parse_shard_url(scenario.shards)))
        return LabRun(self.rt, scenario, get_policy(policy), self.fleets[-1], self.said.append)


@pytest.fixture
def run_here(rt: ThreadsRuntime) -> Iterator[RunHere]:
    maker = RunHere(rt)
    yield maker
    for fleet in maker.fleets:
        fleet.stop()


def check(result: Result) -> Result:
    """What holds of every run that is clean."""
    sums = result.queries
    assert sums.sent == sums.replied + sums.failed + sums.lost
    assert sums.lost == 0
    assert sum(sums.by_reason.values()) == sums.failed
    assert Result.from_json(json.loads(json.dumps(result.to_json()))) == result
    assert result.wait_for == ()
    assert result.stacks == {}
    before, after = result.resources["before"], result.resources["after"]
    # Fewer is no leak: what an earlier test left may end meanwhile.
    assert [name for name in RESOURCES if after[name] > before[name]] == []
    return result


def test_a_healthy_run(run_here: RunHere) -> None:
    before = count_resources()
    run = run_here(lock_share=1.0)
    result = check(run.carry_out())
    assert run.clean
    assert (result.verdict, result.as_expected) == ("healthy", None)  # only mod-11658 has expectations
    assert (result.workers, result.connections) == ((12, 0), (13, 1))
    assert result.queries.replied == result.queries.sent > 12
    assert 0 < result.queries.p50_ms <= result.queries.p99_ms <= result.queries.max_ms
    assert result.ping.answered > 5
    assert len(result.config_set_ms) == 1
    assert result.config_set_error == ""
    assert result.runtime == "threads"
    assert [receipt["connections_stopped"] for receipt in result.receipts] == [36]
    actions = [row.action for row in result.timeline]
    for action in ("CONFIG SET WORKERS 0", "remove 12 threads", "trigger", "stop 12 connections", "PING"):
        assert actions.count(action) == 1, actions
    assert "new queries" in actions
    assert all(row.at_ms is not None for row in result.timeline)
    assert [upstream for _, upstream, step in chain_steps(result) if step is None] == []
    assert result.chain[0].upstream == "set_workers"
    assert result.resources["before"]["threads"] <= before["threads"]


def test_config_set_goes_out_when_replies_are_outstanding(run_here: RunHere) -> None:
    """Also where most of a query's time passes elsewhere: it then works 20 ms after 10 ms of waiting."""
    result = check(run_here("shrink-drain-event", work_ms=20.0, workers=(4, 0), clients=4).carry_out())
    assert result.verdict == "healthy"
    assert result.drain_outcome == "drained"
    assert result.receipts[0]["pending"] >= 4 * 3 / 2
    assert result.receipts[0]["delivered"] == result.receipts[0]["pending"]


def test_a_plan_of_several_sizes(run_here: RunHere) -> None:
    result = check(run_here("shrink-drain-event", workers=(2, 5, 1, 4), clients=3, pause_ms=5.0).carry_out())
    assert result.verdict == "healthy"
    assert len(result.config_set_ms) == 3
    assert result.workers == (2, 4)
    assert result.connections == (3, 5)
    assert run_here.said == ["load", "CONFIG SET WORKERS 5", "CONFIG SET WORKERS 1", "CONFIG SET WORKERS 4"]
    # The timeline tells the last resize that shrank.
    assert "CONFIG SET WORKERS 1" in [row.action for row in result.timeline]


def test_a_refused_change(run_here: RunHere) -> None:
    result = check(run_here("writeup-fix-pool-pause", workers=(3, 0), clients=3).carry_out())
    assert result.verdict == "refused"
    assert result.config_set_error == result.why
    assert "paused pool" in result.why
    assert result.workers == (3, 3)
    assert result.connections == (4, 4)


def test_a_shard_killed_in_the_middle_of_the_drain(run_here: RunHere) -> None:
    run = run_here(
        "shrink-drain-event", latency="150ms", workers=(4, 0), clients=4, warm_ms=0, kill_shard=1, restart_after_ms=50,
        after_ms=700, shards="embedded:2",
    )  # fmt: skip
    result = check(run.carry_out())
    assert result.verdict == "degraded"
    assert result.queries.failed > 0
    assert result.queries.replied > 4  # after the shard came back
    [receipt] = result.receipts
    assert receipt["pending"] == receipt["delivered"] + receipt["failed"]
    by_node = list(receipt["by_node"].values())
    assert sorted(node["failed"] > 0 for node in by_node) == [False, True]
    rows = {row.action: row for row in result.timeline}
    assert rows["a shard is killed"].result.startswith("shard 1, 127.0.0.1:")
    assert rows["the shard is back"].result.startswith("every connection stands after ")
    killed_ms, drained_ms = rows["a shard is killed"].at_ms, rows["drain"].at_ms
    assert killed_ms is not None
    assert drained_ms is not None
    assert killed_ms < drained_ms


def test_several_io_threads(run_here: RunHere) -> None:
    result = check(run_here("shrink-drain-timer", io_threads=3, workers=(8, 2), clients=8, protocol=3).carry_out())
    assert result.verdict == "healthy"
    assert result.connections == (3, 1)
    assert len(result.receipts) == 3
    assert sorted(receipt["io_runtime"] for receipt in result.receipts) == [0, 1, 2]


def test_a_load_that_never_has_replies_outstanding(run_here: RunHere, monkeypatch: pytest.MonkeyPatch) -> None:
    """12 are wanted in flight, but WORKERS 2 lets 2 run: the run goes on with what there is."""
    monkeypatch.setattr(run_module, "FLIGHT_LIMIT_NS", 30 * NS_PER_MS)
    result = check(run_here(workers=(2, 0), clients=3, latency="0").carry_out())
    assert result.verdict == "healthy"


def test_shards_that_are_not_there(
    rt: ThreadsRuntime, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., Any]
) -> None:
    monkeypatch.setattr(run_module, "CONNECT_LIMIT_NS", 100 * NS_PER_MS)
    fleet = SimpleNamespace(addresses=[Address(port=1)], password=None, kind="embedded")
    run = LabRun(rt, Scenario(**QUICK), get_policy("upstream-7410"), cast(ShardFleet, fleet))
    before = count_resources()
    with pytest.raises(ShardsUnreachable, match=r"within 0 s: 127\.0\.0\.1:1 \(.*Reconnecting.*\)"):
        run.carry_out()
    eventually(lambda: count_threads() <= before["threads"])
    assert count_resources()["fds"] <= before["fds"]


def test_the_result_does_not_tell_the_password(rt: ThreadsRuntime) -> None:
    with ShardFleet.start(rt, parse_shard_url("embedded:1"), password="secret") as fleet:
        url = f"redis://:secret@{fleet.addresses[0]}"
        scenario = Scenario(**{**QUICK, "shards": url, "workers": (2, 0), "clients": 2, "latency": "0"})
        # Attached by URL: the embedded shard answers ECHO as a real server does.
        attached = ShardFleet.start(rt, parse_shard_url(url))
        result = check(LabRun(rt, scenario, get_policy("upstream-7410"), attached).carry_out())
    assert result.verdict == "healthy"
    assert "secret" not in json.dumps(result.to_json())
    assert result.scenario["shards"].startswith("redis://:***@127.0.0.1:")
