"""Three real servers joined to a cluster: found by one address, asked by keyless commands, gone at the end."""

from __future__ import annotations

from typing import Any

import pytest

from coordemu.runtime.base import Runtime
from coordemu.shards.real_redis import RedisServer
from coordemu.shards.redis_cluster import SLOTS, RedisCluster
from coordemu.shards.resp_client import RespClientError
from coordemu.shards.shard_command import query_command
from coordemu.shards.shard_errors import ShardError
from coordemu.shards.shard_url import check_reachable, parse_shard_url


def test_a_cluster_is_found_by_any_of_its_nodes(nothing_left: None, rt: Runtime) -> None:
    with RedisCluster(rt, password="pw") as cluster:
        ranges = sorted(cluster.servers[2].ask("CLUSTER", "SLOTS"))
        assert [(first, last) for first, last, *_ in ranges] == [(0, 5460), (5461, 10921), (10922, SLOTS - 1)]
        for address in cluster.addresses:
            spec = check_reachable(rt, parse_shard_url(f"cluster://:pw@{address}"))
            assert spec.addresses == tuple(cluster.addresses)
            assert (spec.kind, spec.count, spec.password) == ("cluster", 3, "pw")
        # every node answers the query command, whatever slots it has
        for server in cluster.servers:
            assert server.ask(*query_command("cluster", 1, 1_000_000)) == 0
            assert server.ask(*query_command("cluster", 1, 0)) == b"1"
        assert cluster.statistics() == {"nodes": 3, "alive": 3}
        cluster.servers[1].kill()
        with pytest.raises(ShardError) as caught:
            check_reachable(rt, parse_shard_url(f"cluster://:pw@{cluster.addresses[0]}"))
        assert str(caught.value) == f"shard {cluster.addresses[1]}: Connection refused"


def test_a_cluster_that_cannot_be_joined_leaves_nothing(
    nothing_left: None, rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: RedisServer, *command: Any, **_: Any) -> Any:
        raise RespClientError("closed", "closed the connection")

    monkeypatch.setattr(RedisServer, "ask", refuse)
    monkeypatch.setattr(RedisServer, "_answers", lambda self, pid: True)
    cluster = RedisCluster(rt)
    with pytest.raises(ShardError, match="cluster: closed the connection"):
        cluster.start()
    assert cluster.statistics() == {"nodes": 3, "alive": 0}


def test_too_few(rt: Runtime) -> None:
    with pytest.raises(ValueError, match="3 masters"):
        RedisCluster(rt, 2)
