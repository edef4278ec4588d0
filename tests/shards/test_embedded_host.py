"""Several shards on one loop: ports, indices, and what happens when one can't start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coordemu.runtime.base import Address
from coordemu.shards.embedded_host import EmbeddedHost
from coordemu.shards.fault_plan import FaultPlan
from coordemu.shards.port_range import LOWEST_PORT
from coordemu.shards.resp_client import RespClient
from coordemu.shards.shard_errors import ShardUrlError


def ping(bench: Any, call: Any, address: Address) -> Any:
    return call(RespClient(bench.rt, address, bench.loop), "PING")


def test_each_shard_has_a_port_of_its_own_and_its_own_store(bench: Any, call: Any) -> None:
    host = EmbeddedHost(bench.rt, bench.loop, 5)
    addresses = host.start()
    assert len(set(addresses)) == 5
    assert all(address.port >= LOWEST_PORT for address in addresses)
    clients = [RespClient(bench.rt, address, bench.loop) for address in addresses]
    assert call(clients[0], "SET", "a", "1") == b"OK"
    assert [call(client, "GET", "a") for client in clients] == [b"1", None, None, None, None]
    assert [stats["commands"] for stats in host.statistics()] == [2, 1, 1, 1, 1]


def test_kill_restart_and_faults_go_by_index(bench: Any, call: Any) -> None:
    host = EmbeddedHost(bench.rt, bench.loop, 3)
    addresses = host.start()
    host.kill(1)
    assert [shard.up for shard in host.shards] == [True, False, True]
    host.restart(1)
    assert host.addresses == addresses
    host.set_faults(FaultPlan(delay_ms=1), 2)
    assert [shard.faults.delay_ms for shard in host.shards] == [0, 0, 1]
    host.set_faults(FaultPlan(delay_ms=2))
    assert [shard.faults.delay_ms for shard in host.shards] == [2, 2, 2]
    assert [ping(bench, call, address) for address in addresses] == [b"PONG"] * 3
    host.stop()
    assert [shard.up for shard in host.shards] == [False] * 3


@pytest.mark.parametrize("index", [-1, 3])
def test_there_is_no_such_shard(bench: Any, index: int) -> None:
    host = EmbeddedHost(bench.rt, bench.loop, 3)
    for act in (host.kill, host.restart, lambda i: host.set_faults(FaultPlan(), i)):
        with pytest.raises(ShardUrlError, match="there are 0 to 2"):
            act(index)


def test_unix_sockets_in_a_directory(bench: Any, call: Any, tmp_path: Path) -> None:
    host = EmbeddedHost(bench.rt, bench.loop, 2, unix_dir=str(tmp_path), password="pw")
    addresses = host.start()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["shard-0.sock", "shard-1.sock"]
    assert str(ping(bench, call, addresses[1])).startswith("NOAUTH")
    host.stop()
    assert list(tmp_path.iterdir()) == []


def test_given_addresses_are_used_and_none_listens_when_one_is_taken(bench: Any) -> None:
    taken = EmbeddedHost(bench.rt, bench.loop, 2)
    first, second = taken.start()
    taken.kill(0)
    host = EmbeddedHost(bench.rt, bench.loop, 2, addresses=[first, second])
    with pytest.raises(OSError, match="in use"):
        host.start()
    assert not any(shard.up for shard in host.shards)
    taken.kill(1)
    assert host.start() == [first, second]


@pytest.mark.parametrize(("count", "addresses"), [(0, []), (-1, []), (4097, []), (2, [Address()])])
def test_bounds(bench: Any, count: int, addresses: list[Address]) -> None:
    with pytest.raises(ShardUrlError):
        EmbeddedHost(bench.rt, bench.loop, count, addresses=addresses)
