"""Subscribers that cannot subscribe: refused by the server, or without one. (With one: tests/test_cli_pool.py.)"""

from __future__ import annotations

from coordemu.lab.pool_subscribers import PoolSubscribers
from coordemu.runtime.base import Address
from coordemu.runtime.threads import ThreadsRuntime
from coordemu.shards.shard_process import ShardProcess


def test_a_server_without_subscriptions_is_an_error_each(rt: ThreadsRuntime) -> None:
    with ShardProcess(rt, 1, password="secret") as shards:
        made = PoolSubscribers(rt, {shards.endpoints[0]: ["a", "b"]}, 2, "secret")
        try:
            assert not made.wait_ready()
            assert made.wait_received(0)
        finally:
            made.stop()
    assert 1 <= made.errors <= 2
    assert (made.ready, made.received) == (False, 0)


def test_no_server_is_an_error(rt: ThreadsRuntime) -> None:
    made = PoolSubscribers(rt, {Address(path="/no/such/socket"): ["a"]}, 1)
    assert not made.wait_ready()
    made.stop()
    made.stop()
    assert made.errors == 1
