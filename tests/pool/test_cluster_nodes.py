"""The cluster client's nodes: the first map, what is counted of each, pressure, listeners, sticky connections."""

from __future__ import annotations

import hiredis
import pytest

from coordemu.pool.cluster_client import ClusterClient, ClusterOptions
from coordemu.pool.command_route import ClusterError
from coordemu.pool.pool_errors import BadConn, ConnFailed, ConnUnusable, NotInHand, PoolTimeout
from coordemu.pool.pool_hooks import PlainHook
from coordemu.pool.pool_listener import PoolCounts
from coordemu.pool.pool_options import PoolOptions
from coordemu.resp_encode import bulk
from coordemu.runtime.base import NS_PER_MS, NS_PER_S


def test_many_callers_without_a_map_have_one_ask_for_it(scene, start, until):
    client = scene()
    gate = []

    def hold(words, asking):
        if words[0] == b"CLUSTER" and not gate:
            gate.append(words)
            return "silent"
        return None

    node = scene.cluster.nodes[0]
    scene.cluster.order(lambda: setattr(node, "script", hold))
    calls = [start(lambda number=number: client.execute("SET", f"key:{number}", "x")) for number in range(8)]
    until(lambda: gate and len(client._slots._waits) == 7)
    (transport,) = node.transports.values()
    scene.cluster.order(lambda: transport.write(scene.cluster.slots_reply()))
    assert [call.join() for call in calls] == [b"OK"] * 8
    asked = [words for each in scene.cluster.nodes for words in each.commands if words[0] == b"CLUSTER"]
    assert len(asked) == 1
    assert client.statistics()["moved"] == 0
    scene.end()


def test_without_any_node_every_caller_has_an_error(scene, start):
    client = scene(max_redirects=0)
    for node in scene.cluster.nodes:
        scene.cluster.order(node.listener.close)
    calls = [start(lambda number=number: client.execute("SET", f"key:{number}", "x")) for number in range(5)]
    for call in calls:
        assert isinstance(call.failure(), (ClusterError, ConnFailed))
    scene.end()


def test_pressure_is_told_with_its_node(rt, scene, start, until):
    told = []
    options = ClusterOptions(pool=PoolOptions(pool_size=1, max_waiting=2, pressure_percent=50))
    addresses = [node.address for node in scene.cluster.nodes]
    scene.client = client = ClusterClient(rt, addresses, options, on_pressure=lambda *what: told.append(what))
    client.execute("SET", "key", "1")
    address = scene.cluster.node_of(b"key").address
    held = client.pools[address].get()
    call = start(lambda: client.execute("GET", "key"))
    until(lambda: told)
    client.pools[address].put(held)
    assert call.join() == b"1"
    assert told == [(address, 1, 2), (address, 0, 2)]
    scene.end()


def test_what_befell_callers_is_counted_by_node(rt, scene):
    counts = {}

    def listen(address):
        return counts.setdefault(address, PoolCounts(rt, str(address)))

    options = ClusterOptions(
        PoolOptions(pool_size=1, pool_timeout_ms=5, dialer_retries=1), max_redirects=0, read_timeout_ms=20
    )
    addresses = [node.address for node in scene.cluster.nodes]
    scene.client = client = ClusterClient(rt, addresses, options, listen=listen)
    client.execute("SET", "key", "1")
    node = scene.cluster.node_of(b"key")
    pool = client.pools[node.address]
    held = pool.get()
    with pytest.raises(PoolTimeout):
        client.execute("GET", "key")
    pool.put(held)
    with pytest.raises(NotInHand):
        pool.put(held)
    scene.cluster.order(lambda: setattr(node, "script", lambda words, asking: "silent"))
    with pytest.raises(ConnFailed, match="did not answer in time"):
        client.execute("SET", "key", "2")
    scene.cluster.order(lambda: setattr(node, "script", lambda words, asking: "hang up"))
    with pytest.raises(ConnFailed):
        client.execute("SET", "key", "2")
    mine = client.statistics_by_node()[str(node.address)]
    assert (mine["pool_timeouts"], mine["timeouts"], mine["reply_timeouts"], mine["broken"]) == (1, 1, 1, 1)
    assert (mine["conflicts"], mine["state_conflicts"], mine["closed broken"]) == (1, 0, 2)
    others = [each for name, each in client.statistics_by_node().items() if name != str(node.address)]
    assert not any(each["reply_timeouts"] or each["pool_timeouts"] for each in others)
    told = counts[node.address].statistics()
    assert (told["timeouts"], told["closed"], told["used"]) == (1, 2, 0)
    scene.end()


def test_a_state_that_hinders_a_get_is_counted_as_a_conflict(scene):
    client = scene(max_redirects=0)
    client.execute("SET", "key", "1")
    pool = client.pools[scene.cluster.node_of(b"key").address]
    pool.retire()

    def taken_away(conn, is_new):
        conn.machine.close()
        return True

    hook = PlainHook()
    hook.on_get = taken_away
    pool.add_hook(hook)
    with pytest.raises(ConnUnusable):
        client.execute("SET", "key", "2")
    pool.remove_hook(hook)
    mine = client.statistics_by_node()[str(scene.cluster.node_of(b"key").address)]
    assert (mine["state_conflicts"], mine["conflicts"]) == (1, 1)
    scene.end()


def test_commands_that_belong_together_share_a_connection(scene):
    client = scene()
    node = scene.cluster.node_of(b"key")
    with client.sticky("key") as conn:
        assert conn.call("SET", "key", "1") == b"OK"
        assert isinstance(conn.call("NONSENSE"), hiredis.ReplyError)
        wire = conn._loan.resource
        assert wire.commands == 2
        assert wire.address == node.address
        scene.cluster.order(lambda: setattr(node, "script", lambda words, asking: "hang up"))
        with pytest.raises(ConnFailed):
            conn.call("GET", "key")
        with pytest.raises(BadConn):
            conn.call("GET", "key")
        scene.cluster.order(lambda: setattr(node, "script", lambda words, asking: None))
        assert conn.reset()
        assert conn.call("GET", "key") == b"1"
        assert conn._loan.resource is not wire
    scene.end()


def test_while_it_is_relaxed_a_slow_node_has_more_time(rt, scene, start, until):
    client = scene(read_timeout_ms=20)
    client.execute("SET", "key", "1")
    node = scene.cluster.node_of(b"key")
    pool = client.pools[node.address]
    (conn,) = pool.register.conns.values()
    conn.relaxed.relax(20 * NS_PER_S, 60 * NS_PER_S)
    seen = []
    scene.cluster.order(lambda: setattr(node, "script", lambda words, asking: seen.append(words) or "silent"))
    call = start(lambda: client.execute("GET", "key"))
    until(lambda: seen)
    rt.sleep_ns(60 * NS_PER_MS)
    (transport,) = node.transports.values()
    scene.cluster.order(lambda: transport.write(bulk(b"late")))
    assert call.join() == b"late"
    conn.relaxed.clear()
    with pytest.raises(ConnFailed, match="did not answer in time"):
        client.execute("SET", "key", "2")
    scene.cluster.order(lambda: setattr(node, "script", lambda words, asking: None))
    scene.end()
