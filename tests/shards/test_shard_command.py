"""The query command for each kind of shard, and that a real Redis takes its time with it without blocking."""

from __future__ import annotations

from typing import Any

import pytest

from coordemu.runtime.base import NS_PER_MS, Runtime
from coordemu.shards.real_redis import RedisServer
from coordemu.shards.resp_client import RespClient
from coordemu.shards.shard_command import query_command


@pytest.mark.parametrize(
    ("kind", "service_ns", "command"),
    [
        ("embedded", 0, (b"_FT.SEARCH", b"idx", b"7", b"SERVICE", b"0")),
        ("embedded", 1_234_567, (b"_FT.SEARCH", b"idx", b"7", b"SERVICE", b"1234")),
        ("redis", 0, (b"ECHO", b"7")),
        ("redis", 20_400_000, (b"WAIT", b"1000", b"20")),
        ("cluster", 1, (b"WAIT", b"1000", b"1")),
        ("cluster", 3_600_000_000_000, (b"WAIT", b"1000", b"3600000")),
    ],
)
def test_commands(kind: str, service_ns: int, command: tuple[bytes, ...]) -> None:
    assert query_command(kind, 7, service_ns) == command


@pytest.mark.parametrize(("kind", "service_ns"), [("mysql", 0), ("redis", -1), ("embedded", 3_600_000_000_001)])
def test_wrong_arguments(kind: str, service_ns: int) -> None:
    with pytest.raises(ValueError, match=r"shard kind|service time"):
        query_command(kind, 7, service_ns)


def test_the_embedded_shard_understands_it(bench: Any, call: Any) -> None:
    client = bench.client(bench.shard())
    assert call(client, *query_command("embedded", "q-1", 1_000)) == [1, b"q-1"]


def test_a_real_redis_waits_for_one_client_only(rt: Runtime) -> None:
    with RedisServer(rt) as server, RespClient(rt, server.address) as slow, RespClient(rt, server.address) as quick:
        began_ns = rt.now_ns()
        slow.begin([query_command("redis", 1, 50 * NS_PER_MS), query_command("redis", 2, 0)])
        assert quick.request(*query_command("redis", 3, 0), timeout_ms=10_000) == b"3"
        assert not slow.done
        assert slow.finish(10_000) == [0, b"2"]
        assert rt.now_ns() - began_ns >= 50 * NS_PER_MS
        # the shortest time that Redis knows is a short one, not an endless one
        assert quick.request(*query_command("redis", 4, 1), timeout_ms=10_000) == 0
