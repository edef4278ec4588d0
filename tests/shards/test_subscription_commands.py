"""PUBLISH and SUBSCRIBE: who hears what, in which form and order, and what faults and ends do to it."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest

from coordemu.runtime.base import NS_PER_MS
from coordemu.runtime.sim import SimRuntime
from coordemu.runtime.sim_schedule import make_strategy
from coordemu.shards.fault_plan import FaultPlan
from coordemu.shards.in_process_fleet import InProcessFleet
from coordemu.shards.resp_client import RespClient

MESSAGE_2 = b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n"
MESSAGE_3 = b">" + MESSAGE_2[1:]


def listening(bench: Any, shard: Any, protocol: str, *channels: str) -> Any:
    """A raw client that has subscribed; what it was told of that is cleared."""
    peer = bench.peer(shard)
    peer.send(("HELLO", protocol), ("SUBSCRIBE", *channels))
    bench.turn_until(lambda: peer.received.endswith(b":%d\r\n" % len(channels)))
    peer.pieces.clear()
    return peer


def test_all_that_listen_hear_it_in_their_protocol(bench: Any, call: Any) -> None:
    shard = bench.shard()
    old, new, other = (listening(bench, shard, *how) for how in (("2", "c"), ("3", "x", "c"), ("3", "x")))
    writer = bench.client(shard)
    assert call(writer, "PUBLISH", "c", "hi") == 2
    assert call(writer, "PUBLISH", "nobody", "hi") == 0
    bench.turn_until(lambda: old.received == MESSAGE_2 and new.received == MESSAGE_3)
    assert other.received == b""
    assert shard.statistics()["subscriptions"] == len(shard.subscriptions) == 4
    assert repr(shard.subscriptions) == "<Subscriptions 4 of 2 channels>"


def test_who_has_left_hears_nothing(bench: Any, call: Any) -> None:
    shard = bench.shard()
    stays, leaves, ends = (listening(bench, shard, "3", "c", "d") for _ in range(3))
    leaves.send(("UNSUBSCRIBE", "c"))
    bench.turn_until(lambda: leaves.received)
    ends.transport.abort()
    bench.turn_until(lambda: len(shard.subscriptions) == 3)
    assert call(bench.client(shard), "PUBLISH", "c", "hi") == 1
    bench.turn_until(lambda: stays.received == MESSAGE_3)
    leaves.pieces.clear()
    leaves.send(("UNSUBSCRIBE",), ("UNSUBSCRIBE",))
    bench.turn_until(lambda: leaves.received.endswith(b"_\r\n:0\r\n"))
    assert leaves.received == b">3\r\n$11\r\nunsubscribe\r\n$1\r\nd\r\n:0\r\n>3\r\n$11\r\nunsubscribe\r\n_\r\n:0\r\n"


def test_messages_keep_their_order(bench: Any) -> None:
    shard = bench.shard()
    peer, writer = listening(bench, shard, "2", "c"), bench.peer(shard)
    writer.send(*[("PUBLISH", "c", str(number)) for number in range(50)])
    reader, heard = hiredis.Reader(), []

    def all_came() -> bool:
        while peer.pieces:
            reader.feed(peer.pieces.pop(0))
        while (reply := reader.gets()) is not False:
            heard.append(int(reply[2]))
        return len(heard) == 50

    bench.turn_until(all_came)
    assert heard == list(range(50))


def test_what_one_tells_itself_comes_before_the_reply(bench: Any) -> None:
    peer = listening(bench, bench.shard(), "3", "c")
    peer.send(("PING",), ("PUBLISH", "c", "hi"), ("PING",))
    bench.turn_until(lambda: peer.received.count(b"PONG") == 2)
    assert peer.received == b"+PONG\r\n" + MESSAGE_3 + b":1\r\n+PONG\r\n"


def test_listening_by_protocol_2_ends_with_hello_3(bench: Any) -> None:
    shard = bench.shard()
    peer = bench.peer(shard)
    peer.send(("SUBSCRIBE", "c"), ("GET", "a"), ("HELLO", "3"), ("UNSUBSCRIBE", "c"), ("HELLO", "3"), ("GET", "a"))
    bench.turn_until(lambda: peer.received.endswith(b"_\r\n"))
    assert peer.received.count(b"-ERR Can't execute") == 2


def test_a_transaction_publishes_when_it_is_carried_out(bench: Any, call: Any) -> None:
    shard = bench.shard()
    peer, writer = listening(bench, shard, "2", "c"), bench.client(shard)
    assert call(writer, "MULTI") == b"OK"
    assert call(writer, "PUBLISH", "c", "hi") == b"QUEUED"
    assert peer.received == b""
    assert call(writer, "EXEC") == [1]
    bench.turn_until(lambda: peer.received == MESSAGE_2)


def test_what_comes_while_one_waits_for_a_list(bench: Any, call: Any) -> None:
    shard = bench.shard()
    peer = listening(bench, shard, "3", "c")
    peer.send(("BRPOP", "q", "0"))
    bench.turn_until(lambda: len(shard.blocked) == 1)
    writer = bench.client(shard)
    assert call(writer, "PUBLISH", "c", "hi") == 1
    bench.turn_until(lambda: peer.received == MESSAGE_3)
    assert call(writer, "RPUSH", "q", "x") == 1
    bench.turn_until(lambda: peer.received == MESSAGE_3 + b"*2\r\n$1\r\nq\r\n$1\r\nx\r\n")


# faults: a message is like an answer


def test_messages_are_delayed(bench: Any, call: Any) -> None:
    shard = bench.shard()
    peer, writer = listening(bench, shard, "2", "c"), bench.client(shard)
    shard.set_faults(FaultPlan(delay_ms=30))
    began_ns = bench.rt.now_ns()
    writer.begin([("PUBLISH", "c", "hi")])
    bench.turn_until(lambda: shard.statistics()["waiting"] == 2)
    assert peer.received == b""
    bench.turn_until(lambda: peer.received == MESSAGE_2)
    assert bench.rt.now_ns() - began_ns >= 30 * NS_PER_MS


def test_messages_are_silenced_and_counted(bench: Any, call: Any) -> None:
    shard = bench.shard()
    peer, writer = listening(bench, shard, "2", "c"), bench.client(shard)
    shard.set_faults(FaultPlan(silence_after_n=1))
    writer.begin([("PUBLISH", "c", "hi")] * 2)
    bench.turn_until(lambda: shard.statistics()["waiting"] == 2)
    bench.turn_until(lambda: peer.received == MESSAGE_2)
    shard.set_faults(FaultPlan())
    bench.turn_until(lambda: peer.received == MESSAGE_2 * 2)
    assert writer.finish(1000) == [1, 1]
    shard.set_faults(FaultPlan(close_after_n=1))
    call(writer, "PUBLISH", "c", "hi")
    bench.turn_until(lambda: peer.ended)
    assert peer.received == MESSAGE_2 * 3
    assert len(shard.subscriptions) == 0


def test_after_quit_nothing_comes(bench: Any, call: Any) -> None:
    shard = bench.shard(FaultPlan(delay_ms=20))
    peer = bench.peer(shard)
    peer.send(("SUBSCRIBE", "c"), ("QUIT",))
    bench.turn_until(lambda: len(shard.subscriptions) == 1)
    assert call(bench.client(shard), "PUBLISH", "c", "hi") == 1
    bench.turn_until(lambda: peer.ended)
    assert peer.received.endswith(b":1\r\n+OK\r\n")


@pytest.mark.parametrize("strategy", ["random", "pct3"])
def test_one_that_listens_hears_all_in_order_in_the_simulator(strategy: str) -> None:
    def program(sim: SimRuntime) -> None:
        fleet = InProcessFleet(sim, 1)
        with RespClient(sim, fleet.addresses[0]) as listener, RespClient(sim, fleet.addresses[0]) as writer:
            assert listener.request("SUBSCRIBE", "c", timeout_ms=1000) == [b"subscribe", b"c", 1]

            def write() -> None:
                for number in range(5):
                    assert writer.request("PUBLISH", "c", number, timeout_ms=1000) == 1

            task = sim.spawn(write, name="writer")
            listener._owed = 5
            assert [reply[2] for reply in listener.finish(1000)] == [b"%d" % number for number in range(5)]
            task.join()
            assert task.error is None
        fleet.stop()

    for seed in range(25):
        sim = SimRuntime(make_strategy(strategy, seed), seed=seed)
        sim.run(lambda sim=sim: program(sim), name="main").check()
