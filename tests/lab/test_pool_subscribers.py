"""Subscribers on an embedded shard, and those that cannot subscribe: refused by the server, or without one."""

from __future__ import annotations

from coordemu.lab.pool_subscribers import PoolSubscribers
from coordemu.runtime.base import Address
from coordemu.runtime.threads import ThreadsRuntime
from coordemu.shards.resp_client import RespClient
from coordemu.shards.shard_process import ShardProcess


def test_each_hears_every_channel(rt: ThreadsRuntime) -> None:
    with ShardProcess(rt, 1, password="secret") as shards:
        address = shards.endpoints[0]
        made = PoolSubscribers(rt, {address: ["a", "b"]}, 2, "secret")
        try:
            assert made.wait_ready()
            with RespClient(rt, address) as client:
                client.request("AUTH", "secret", timeout_ms=5000)
                assert [client.request("PUBLISH", name, "x", timeout_ms=5000) for name in "abc"] == [2, 2, 0]
            assert made.wait_received(4)
        finally:
            made.stop()
    assert (made.received, made.errors) == (4, 0)


def test_a_server_that_refuses_is_an_error_each(rt: ThreadsRuntime) -> None:
    with ShardProcess(rt, 1, password="secret") as shards:
        made = PoolSubscribers(rt, {shards.endpoints[0]: ["a", "b"]}, 2, "wrong")
        try:
            assert not made.wait_ready()
            assert made.wait_received(0)
        finally:
            made.stop()
    assert 1 <= made.errors <= 4
    assert (made.ready, made.received) == (False, 0)


def test_no_server_is_an_error(rt: ThreadsRuntime) -> None:
    made = PoolSubscribers(rt, {Address(path="/no/such/socket"): ["a"]}, 1)
    assert not made.wait_ready()
    made.stop()
    made.stop()
    assert made.errors == 1
