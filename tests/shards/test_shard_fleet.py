"""Fleets: the same handle for embedded shards, real servers of our own, and servers that are there."""

from __future__ import annotations

from typing import Any

import pytest

from coordemu.runtime.base import Runtime
from coordemu.shards.fault_plan import FaultPlan
from coordemu.shards.real_redis import RedisServer
from coordemu.shards.redis_cluster import RedisCluster
from coordemu.shards.resp_client import RespClient, RespClientError
from coordemu.shards.shard_errors import ShardError, ShardUrlError
from coordemu.shards.shard_fleet import ShardEndpoint, ShardFleet
from coordemu.shards.shard_url import parse_shard_url


def query(rt: Runtime, fleet: ShardFleet, index: int) -> Any:
    endpoint = fleet.endpoints[index]
    with RespClient(rt, endpoint.address) as client:
        if endpoint.password is not None:
            client.request("AUTH", endpoint.password, timeout_ms=10_000)
        return client.request(*fleet.query_command("q1", 1_000_000), timeout_ms=10_000)


@pytest.mark.parametrize("text", ["embedded:2", "embedded-unix:2", "redis:2", "redis-unix:2"])
@pytest.mark.parametrize("password", [None, "geheim"])
def test_own_shards(nothing_left: None, rt: Runtime, text: str, password: str | None) -> None:
    with ShardFleet.start(rt, text, password=password) as fleet:
        answer: Any = [1, b"q1"] if fleet.kind == "embedded" else 0
        assert fleet.kind == text.split(":")[0].removesuffix("-unix")
        assert len(fleet) == len(set(fleet.endpoints)) == 2
        assert fleet.endpoints == [ShardEndpoint(address, fleet.password) for address in fleet.addresses]
        assert fleet.password == password
        assert all(bool(address.path) is ("unix" in text) for address in fleet.addresses)
        assert [query(rt, fleet, index) for index in (0, 1)] == [answer] * 2
        addresses = fleet.addresses
        fleet.kill(1)
        with pytest.raises(RespClientError):
            query(rt, fleet, 1)
        assert query(rt, fleet, 0) == answer
        fleet.restart(1)
        assert fleet.addresses == addresses
        assert query(rt, fleet, 1) == answer
        assert len(fleet.statistics()) == 2
        for act in (fleet.kill, fleet.restart):
            for index in (-1, 2):
                with pytest.raises(ShardError, match="there are 0 to 1"):
                    act(index)
    assert fleet.addresses == []
    fleet.stop()


def test_faults_are_for_embedded_shards(nothing_left: None, rt: Runtime) -> None:
    with ShardFleet.start(rt, "embedded:2", FaultPlan(refuse="listen"), seed=7) as fleet:
        with pytest.raises(RespClientError, match="refused"):
            query(rt, fleet, 0)
        fleet.set_faults(FaultPlan(), 0)
        assert query(rt, fleet, 0) == [1, b"q1"]
        with pytest.raises(RespClientError, match="refused"):
            query(rt, fleet, 1)
    with pytest.raises(ShardUrlError, match="a fault plan needs embedded ones"):
        ShardFleet.start(rt, "redis:1", FaultPlan(delay_ms=1))


def test_servers_that_are_there(nothing_left: None, rt: Runtime) -> None:
    with RedisServer(rt, password="pw") as server:
        text = f"redis://:pw@{server.address}"
        with ShardFleet.start(rt, parse_shard_url(text)) as fleet:
            assert fleet.endpoints == [ShardEndpoint(server.address, "pw")]
            assert query(rt, fleet, 0) == 0
            assert fleet.statistics() == []
            for act in (fleet.kill, fleet.restart):
                with pytest.raises(ShardError, match="not ours"):
                    act(0)
            with pytest.raises(ShardError, match="only embedded shards"):
                fleet.set_faults(FaultPlan())
        assert server.alive
        assert "pw" not in repr(fleet.endpoints) + repr(fleet) + str(fleet.spec)
        with pytest.raises(ShardUrlError, match="belongs into its URL"):
            ShardFleet.start(rt, text, password="pw")
        with pytest.raises(ShardError, match="WRONGPASS"):
            ShardFleet.start(rt, text.replace("pw", "no"))


def test_a_cluster_by_address_has_all_its_masters(rt: Runtime) -> None:
    with RedisCluster(rt) as cluster, ShardFleet.start(rt, f"cluster://{cluster.addresses[1]}") as fleet:
        assert fleet.addresses == cluster.addresses
        assert [query(rt, fleet, index) for index in range(3)] == [0] * 3


def test_what_cannot_be_started_leaves_nothing(
    nothing_left: None, rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ShardUrlError, match="is none of"):
        ShardFleet.start(rt, "nonsense")
    started: list[RedisServer] = []
    start = RedisServer.start

    def fail_the_second(self: RedisServer) -> RedisServer:
        if started:
            raise ShardError("no more")
        started.append(self)
        return start(self)

    monkeypatch.setattr(RedisServer, "start", fail_the_second)
    with pytest.raises(ShardError, match="no more"):
        ShardFleet.start(rt, "redis:2")
    assert not started[0].alive
