"""The control line: its commands and refusals, and that the process's loop ends with the lifeline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import hiredis
import pytest

from coordemu.runtime.base import Address
from coordemu.shards import shard_control
from coordemu.shards.resp_client import RespClient
from coordemu.shards.shard_control import ShardControl

WANTED = {
    "count": 2,
    "password": None,
    "faults": "delay=1ms",
    "unix_dir": "",
    "removes_unix_dir": False,
    "addresses": [],
}


class Line:
    """A control server on the bench's loop, whose `stop` is noted instead."""

    def __init__(self, bench: Any, path: Path) -> None:
        self.stops = 0
        bench.loop.stop = self.stop
        self.bench = bench
        self.address = Address(path=str(path))
        self.control = ShardControl(bench.rt, bench.loop, self.address)

    def stop(self) -> None:
        self.stops += 1

    def client(self) -> RespClient:
        return RespClient(self.bench.rt, self.address, self.bench.loop)


@pytest.fixture
def line(bench: Any, tmp_path: Path) -> Line:
    return Line(bench, tmp_path / "control.sock")


def test_start_stats_faults_kill_restart(line: Line, call: Any) -> None:
    client, other = line.client(), line.client()
    addresses = json.loads(call(client, "START", json.dumps(WANTED)))
    assert len(addresses) == 2
    host = line.control.host
    assert host is not None
    assert [[a.host, a.port, a.path] for a in host.addresses] == addresses
    assert [str(shard.faults) for shard in host.shards] == ["delay=1ms"] * 2
    assert call(other, "FAULT", "1", "none") == b"OK"
    assert [str(shard.faults) for shard in host.shards] == ["delay=1ms", "none"]
    assert call(other, "FAULT", "all", "half-open") == b"OK"
    assert [str(shard.faults) for shard in host.shards] == ["half-open"] * 2
    assert call(other, "KILL", "0") == b"OK"
    assert [shard.up for shard in host.shards] == [False, True]
    assert call(other, "restart", "0") == b"OK"
    assert [stats["connections"] for stats in json.loads(call(other, "STATS"))] == [0, 0]
    assert line.control.statistics() == {"shards": 2, "lifeline": 1}


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("STATS",), "ERR not started"),
        (("START", "{"), "ERR "),
        (("START", "{}"), "ERR 'count'"),
        (("START", json.dumps({**WANTED, "count": 0})), "ERR 0 shards: not within"),
        (("START", json.dumps({**WANTED, "count": "x"})), "ERR "),
        (("START", json.dumps({**WANTED, "faults": "x"})), "ERR fault plan: 'x'"),
        (("START", json.dumps({**WANTED, "unix_dir": "/nonexistent"})), "ERR "),
        (("NOPE",), "ERR expected START"),
        (("KILL",), "ERR expected START"),
    ],
)
def test_refusals_before_the_start(line: Line, call: Any, command: tuple[str, ...], says: str) -> None:
    client = line.client()
    reply = call(client, *command)
    assert isinstance(reply, hiredis.ReplyError)
    assert str(reply).startswith(says)
    assert isinstance(json.loads(call(client, "START", json.dumps(WANTED))), list)


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("START", json.dumps(WANTED)), "ERR started already"),
        (("KILL", "2"), "ERR no shard 2"),
        (("KILL", "-1"), "ERR '-1' is not a shard's index"),
        (("RESTART", "x"), "ERR 'x' is not a shard's index"),
        (("FAULT", "0", "x"), "ERR fault plan: 'x'"),
        (("FAULT", "0"), "ERR expected START"),
    ],
)
def test_refusals_after_the_start(line: Line, call: Any, command: tuple[str, ...], says: str) -> None:
    client = line.client()
    call(client, "START", json.dumps(WANTED))
    assert str(call(client, *command)).startswith(says)
    assert line.stops == 0


def test_the_end_of_the_lifeline_ends_the_loop_and_no_other_does(line: Line, call: Any) -> None:
    other, lifeline = line.client(), line.client()
    call(other, "STATS")
    call(lifeline, "START", json.dumps(WANTED))
    other.close()
    line.bench.turn_for(5)
    assert line.stops == 0
    lifeline.close()
    line.bench.turn_until(lambda: line.stops)


def test_a_parent_that_speaks_no_resp_is_no_parent(line: Line, call: Any) -> None:
    lifeline = line.client()
    call(lifeline, "START", json.dumps(WANTED))
    peer = line.bench.peer(line)
    peer.send_raw(b"HELLO\r\n")
    line.bench.turn_until(lambda: peer.ended)
    assert line.stops == 0


def test_without_a_parent_it_ends(bench: Any, tmp_path: Path, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_control, "START_WITHIN_S", 0)
    line = Line(bench, tmp_path / "early.sock")
    bench.turn_until(lambda: line.stops)


def test_with_a_parent_it_stays(line: Line, call: Any) -> None:
    assert line.control._no_parent.active
    call(line.client(), "START", json.dumps(WANTED))
    assert not line.control._no_parent.active
