"""The cluster client over simulated and real sockets: slots, redirections, nodes that fail. On both runtimes.

The nodes are small servers of our own (`conftest`), which say whatever a test wants of them.
"""

from __future__ import annotations

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.cluster import key_slot

from coordemu.pool.cluster_client import ClusterClient, ClusterOptions
from coordemu.pool.command_route import ClusterError
from coordemu.pool.pool_conn import PoolConn
from coordemu.pool.pool_context import PoolContext
from coordemu.pool.pool_errors import ConnFailed, PoolClosed
from coordemu.pool.slot_map import even_map, parse_slots, slot_of
from coordemu.resp_encode import error
from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Address


@given(st.binary(max_size=40))
def test_slots_are_those_of_redis_py(key) -> None:
    assert slot_of(key) == key_slot(key)


@pytest.mark.parametrize("key", [b"{user1000}.following", b"foo{}{bar}", b"foo{{bar}}zap", b"{}", b"a}b{c", b""])
def test_tags_in_keys(key) -> None:
    assert slot_of(key) == key_slot(key)


def test_the_even_map_and_one_slot_moved() -> None:
    nodes = [Address(port=number) for number in (1, 2, 3)]
    even = even_map(nodes)
    assert [even.owners.count(index) for index in range(3)] == [5462, 5461, 5461]
    other = Address(port=9)
    moved = even.moved(5, other)
    assert moved.node_of(5) == other
    assert moved.node_of(6) == even.node_of(6)
    assert moved.moved(7, nodes[1]).nodes == (*nodes, other)
    with pytest.raises(ValueError, match="without nodes"):
        even_map([])


@pytest.mark.parametrize(
    "reply", [None, 5, [], [[0, 5]], [[0, 5, None]], [[9, 5, [b"h", 1]]], [[0, 99_999, [b"h", 1]]]]
)
def test_what_is_no_table_of_slots(reply) -> None:
    with pytest.raises(ValueError, match=r"slots|is not enough|not enough values"):
        parse_slots(reply, Address(port=1))


def test_a_host_that_is_left_out_is_the_one_that_was_asked() -> None:
    found = parse_slots([[0, 99, [b"", 7]]], Address("here", 1))
    assert found.node_of(50) == Address("here", 7)
    assert found.node_of(100) is None


def test_commands_go_to_the_node_of_their_key(scene):
    client = scene()
    for number in range(12):
        assert client.execute("SET", f"key:{number}", number) == b"OK"
        assert client.execute("GET", f"key:{number}") == str(number).encode()
    for node in scene.cluster.nodes:
        assert all(scene.cluster.node_of(key) is node for key in node.store)
    assert sum(len(node.store) for node in scene.cluster.nodes) == 12
    statistics = client.statistics()
    assert (statistics["moved"], statistics["maps"]) == (0, 1)
    assert set(client.snapshot()) <= {str(node.address) for node in scene.cluster.nodes}
    assert client.execute("PING") == b"PONG"
    scene.end()


def test_an_error_of_the_server_is_raised_as_it_is(scene):
    client = scene()
    with pytest.raises(hiredis.ReplyError, match="unknown command"):
        client.execute("NONSENSE", "key")
    scene.end()


def test_servers_without_a_cluster_share_the_slots_evenly(scene):
    scene.cluster.no_cluster = True
    client = scene()
    for number in range(9):
        client.execute("SET", f"key:{number}", "x")
    assert all(node.store for node in scene.cluster.nodes)
    scene.end()


def test_a_slot_that_has_moved_is_followed_and_the_map_asked_for_again(scene):
    client = scene()
    client.execute("SET", "key", "1")
    old = scene.cluster.node_of(b"key")
    new = next(node for node in scene.cluster.nodes if node is not old)

    def move():
        slot = slot_of(b"key")
        scene.cluster.owners[slot] = scene.cluster.nodes.index(new)
        text = f"MOVED {slot} {new.address}"
        old.script = lambda words, asking: error(text) if words[0] in (b"SET", b"GET") else None

    scene.cluster.order(move)
    assert client.execute("SET", "key", "2") == b"OK"
    assert new.store == {b"key": b"2"}
    before = len(old.commands)
    assert client.execute("GET", "key") == b"2"
    assert len(old.commands) == before
    statistics = client.statistics()
    assert (statistics["moved"], statistics["maps"]) == (1, 2)
    scene.end()


def test_one_key_that_is_elsewhere_is_followed_and_the_map_stays(scene):
    client = scene()
    home = scene.cluster.node_of(b"key")
    other = next(node for node in scene.cluster.nodes if node is not home)

    def move():
        text = f"ASK {slot_of(b'key')} {other.address}"
        home.script = lambda words, asking: error(text) if words[0] == b"SET" else None
        other.script = lambda words, asking: None if asking or words[0] != b"SET" else error("MOVED 1 127.0.0.1:1")

    scene.cluster.order(move)
    assert client.execute("SET", "key", "1") == b"OK"
    assert client.execute("SET", "key", "2") == b"OK"
    assert other.store == {b"key": b"2"}
    statistics = client.statistics()
    assert (statistics["asked"], statistics["moved"]) == (2, 0)
    scene.end()


def test_what_is_to_be_tried_later_is(scene):
    client = scene()
    node = scene.cluster.node_of(b"key")
    refusals = [error("TRYAGAIN later"), error("CLUSTERDOWN down"), error("LOADING data")]
    scene.cluster.order(lambda: setattr(node, "script", lambda words, asking: refusals.pop() if refusals else None))
    assert client.execute("SET", "key", "1") == b"OK"
    assert client.statistics()["retries"] == 3
    scene.end()


def test_redirections_have_an_end(scene):
    client = scene(max_redirects=2)

    def circle():
        for node, to in zip(scene.cluster.nodes, scene.cluster.nodes[1:] + scene.cluster.nodes[:1], strict=True):
            text = f"MOVED {slot_of(b'key')} {to.address}"
            node.script = lambda words, asking, text=text: error(text) if words[0] == b"SET" else None

    scene.cluster.order(circle)
    with pytest.raises(ClusterError, match="in 3 tries: MOVED"):
        client.execute("SET", "key", "1")
    scene.end()


def test_a_redirection_to_nowhere_is_said(scene):
    client = scene()
    node = scene.cluster.node_of(b"key")
    scene.cluster.order(lambda: setattr(node, "script", lambda words, asking: error("MOVED")))
    with pytest.raises(ClusterError, match="redirects to nowhere"):
        client.execute("SET", "key", "1")
    scene.end()


def test_a_read_that_lost_its_connection_is_repeated_and_a_write_is_not(scene):
    client = scene()
    client.execute("SET", "key", "1")
    node = scene.cluster.node_of(b"key")
    once = []

    def hang_up(words, asking):
        if words[0] in (b"GET", b"SET") and not once:
            once.append(words)
            return "hang up"
        return None

    scene.cluster.order(lambda: setattr(node, "script", hang_up))
    assert client.execute("GET", "key") == b"1"
    once.clear()
    with pytest.raises(ConnFailed, match=r"reset by peer|closed the connection") as caught:
        client.execute("SET", "key", "2")
    assert caught.value.sent
    assert client.statistics()["unanswered"] == 1
    assert client.execute("SET", "key", "3") == b"OK"
    scene.end()


def test_a_silent_node_ends_in_a_time_out_and_its_connection_is_removed(scene):
    client = scene(read_timeout_ms=20)
    client.execute("SET", "key", "1")
    node = scene.cluster.node_of(b"key")
    scene.cluster.order(lambda: setattr(node, "script", lambda words, asking: "silent"))
    with pytest.raises(ConnFailed, match="did not answer in time"):
        client.execute("SET", "key", "2")
    pool = client.pools[node.address]
    assert pool.removals() == {"broken": 1}
    scene.cluster.order(lambda: setattr(node, "script", lambda words, asking: None))
    assert client.execute("SET", "key", "3") == b"OK"
    scene.end()


def test_a_callers_deadline_bounds_the_reply(rt, scene):
    client = scene()
    client.execute("SET", "key", "1")
    node = scene.cluster.node_of(b"key")
    scene.cluster.order(lambda: setattr(node, "script", lambda words, asking: "silent"))
    with pytest.raises(ConnFailed, match="did not answer in time"):
        client.execute("SET", "key", "2", ctx=PoolContext.after(rt, 20 * NS_PER_MS))
    scene.end()


def test_an_idle_connection_that_the_node_has_closed_is_seen_before_its_use(scene, until):
    client = scene()
    client.execute("SET", "key", "1")
    node = scene.cluster.node_of(b"key")

    def cut():
        for transport in list(node.transports.values()):
            transport.abort()
        node.transports.clear()

    scene.cluster.order(cut)
    conn = next(iter(client.pools[node.address].register.conns.values()))
    until(lambda: not conn.resource.healthy())
    assert client.execute("SET", "key", "2") == b"OK"
    assert client.pools[node.address].removals() == {"stale": 1}
    scene.end()


def test_a_node_that_is_gone_is_an_error_and_one_that_is_back_is_used(scene):
    client = scene(max_redirects=1, pool={"pool_size": 8})
    client.execute("SET", "key", "1")
    node = scene.cluster.node_of(b"key")

    def die():
        node.listener.close()
        for transport in list(node.transports.values()):
            transport.abort()

    scene.cluster.order(die)
    with pytest.raises((ClusterError, ConnFailed)):
        client.execute("SET", "key", "2")

    def rise():
        node.listener = scene.cluster.loop.listen(node.address, node.accept)

    scene.cluster.order(rise)
    assert client.execute("SET", "key", "3") == b"OK"
    assert node.store[b"key"] == b"3"
    scene.end()


def test_many_callers_share_the_pools_and_every_command_has_its_outcome(scene, start):
    client = scene()

    def caller(number):
        for turn in range(10):
            key = f"key:{number}:{turn}"
            assert client.execute("SET", key, turn) == b"OK"
            assert client.execute("GET", key) == str(turn).encode()
        return 20

    calls = [start(lambda number=number: caller(number)) for number in range(8)]
    assert sum(call.join() for call in calls) == 160
    assert sum(len(node.store) for node in scene.cluster.nodes) == 80
    statistics = client.statistics()
    assert statistics["total"] <= 6
    assert statistics["hits"] + statistics["misses"] >= 160
    scene.end()


def test_a_pipeline_is_split_by_node_and_put_together_in_order(scene):
    client = scene()
    commands = [("SET", f"key:{number}", number) for number in range(10)]
    assert client.pipeline(commands) == [b"OK"] * 10
    replies = client.pipeline(
        [("GET", f"key:{number}") for number in range(10)] + [("GET", "none"), ("NONSENSE", "key")]
    )
    assert replies[:11] == [str(number).encode() for number in range(10)] + [None]
    assert isinstance(replies[11], hiredis.ReplyError)
    scene.end()


def test_what_is_redirected_in_a_pipeline_is_followed_alone(scene):
    client = scene()
    client.execute("SET", "key", "1")
    old = scene.cluster.node_of(b"key")
    new = next(node for node in scene.cluster.nodes if node is not old)

    def move():
        scene.cluster.owners[slot_of(b"key")] = scene.cluster.nodes.index(new)
        text = f"MOVED {slot_of(b'key')} {new.address}"
        old.script = lambda words, asking: error(text) if words[1:2] == [b"key"] else None

    scene.cluster.order(move)
    assert client.pipeline([("SET", "{key}a", "1"), ("SET", "key", "2"), ("SET", "{key}b", "3")]) == [b"OK"] * 3
    assert new.store[b"key"] == b"2"
    assert set(old.store) == {b"key", b"{key}a", b"{key}b"}
    scene.end()


def test_a_closed_client_takes_no_commands(scene):
    client = scene()
    client.execute("SET", "key", "1")
    client.close()
    client.close()
    with pytest.raises((PoolClosed, ClusterError)):
        client.execute("SET", "key", "2")
    scene.cluster.stop()


def test_a_connection_closed_under_its_caller_ends_the_call(rt, scene, start, until):
    scene()
    node = scene.cluster.nodes[0]
    scene.cluster.order(lambda: setattr(node, "script", lambda words, asking: "silent"))
    wire = PoolConn(rt, node.address, 20 * NS_PER_S)
    call = start(lambda: wire.call("GET", "key"))
    until(lambda: node.commands)
    wire.close()
    assert isinstance(call.failure(), ConnFailed)
    assert wire.failed
    wire.close()
    with pytest.raises(ConnFailed, match="is closed"):
        wire.call("GET", "key")
    assert not wire.healthy()
    scene.end()


def test_nobody_listens(rt, scene):
    scene()
    free = scene.cluster.nodes[0]
    scene.cluster.order(free.listener.close)
    with pytest.raises(ConnFailed) as caught:
        PoolConn(rt, free.address, 20 * NS_PER_S)
    assert caught.value.kind == "connect"
    assert not caught.value.sent
    scene.end()


def test_a_client_needs_an_address_and_sound_options(rt) -> None:
    with pytest.raises(ValueError, match="no addresses"):
        ClusterClient(rt, [])
    with pytest.raises(ValueError, match="max_redirects"):
        ClusterOptions(max_redirects=-1)
    with pytest.raises(ValueError, match="min_retry_backoff_ms"):
        ClusterOptions(min_retry_backoff_ms=10, max_retry_backoff_ms=5)
