"""The shard as a whole: start, stop, start again, refusals, spans of plans, unix sockets."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from coordemu.runtime.base import NS_PER_MS, Address
from coordemu.shards.embedded_shard import EmbeddedShard
from coordemu.shards.fault_plan import NO_FAULTS, FaultPlan

PONG = b"+PONG\r\n"


def pings(bench: Any, shard: EmbeddedShard) -> bool:
    """Whether a new connection gets an answer rather than an end."""
    peer = bench.peer(shard)
    peer.send(("PING",))
    bench.turn_until(lambda: peer.received == PONG or peer.ended)
    peer.transport.abort()
    return bool(peer.received == PONG)


def test_it_finds_a_port(bench: Any) -> None:
    shard = bench.shard(address=Address())
    address = shard.address
    assert address.port > 0
    assert shard.start() == address  # nothing happens
    assert pings(bench, shard)


def test_it_comes_back_at_its_port(bench: Any) -> None:
    shard = bench.shard()
    address = shard.address
    shard.stop()
    shard.stop()
    assert not pings(bench, shard)
    assert shard.start() == address
    assert pings(bench, shard)


def test_stop_cuts_connections_and_keeps_the_store(bench: Any, call: Any) -> None:
    shard = bench.shard()
    call(bench.client(shard), "SET", "a", "1")
    peer = bench.peer(shard)
    peer.send(("_FT.SEARCH", "idx", "1", "SERVICE", "1000000"))
    bench.turn_until(lambda: shard.statistics()["waiting"] == 1)
    shard.stop()
    assert shard.statistics()["connections"] == shard.statistics()["waiting"] == 0
    bench.turn_until(lambda: peer.ended)
    assert peer.received == b""
    shard.start()
    assert call(bench.client(shard), "GET", "a") == b"1"
    stats = shard.statistics()
    assert (stats["accepted"], stats["connections"], stats["keys"]) == (3, 1, 1)


def test_a_taken_port_is_an_oserror(bench: Any) -> None:
    shard = bench.shard()
    with pytest.raises(OSError, match="in use") as caught:
        bench.shard(address=shard.address)
    assert caught.value.errno == errno.EADDRINUSE
    assert pings(bench, shard)


def test_unix_sockets(bench: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "s.sock")
    shard = bench.shard(address=Address(path=path))
    assert pings(bench, shard)
    shard.stop()
    assert not os.path.exists(path)
    # what a killed process left behind is no obstacle
    bench.loop.listen(Address(path=f"{path}.old"), lambda _: None)
    os.rename(f"{path}.old", path)
    shard.start()
    assert pings(bench, shard)


def test_a_file_that_is_no_socket_is_not_removed(bench: Any, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("mine")
    with pytest.raises(OSError, match="in use"):
        bench.shard(address=Address(path=str(path)))
    assert path.read_text() == "mine"


def test_refuse_after_accepting(bench: Any) -> None:
    shard = bench.shard()
    old = bench.peer(shard)
    old.send(("PING",))
    bench.turn_until(lambda: old.received == PONG)
    shard.set_faults(FaultPlan(refuse="accept"))
    new = bench.peer(shard)
    bench.turn_until(lambda: new.ended)
    assert new.connected
    assert new.ended == [None]
    old.send(("PING",))
    bench.turn_until(lambda: old.received == PONG * 2)
    stats = shard.statistics()
    assert (stats["refused"], stats["connections"]) == (1, 1)


def test_refuse_by_not_listening(bench: Any) -> None:
    shard = bench.shard("refuse=listen")
    assert shard.up
    assert shard.address.port > 0
    peer = bench.peer(shard)
    bench.turn_until(lambda: peer.ended)
    assert peer.ended == ["Connection refused"]
    assert not peer.connected
    shard.set_faults(NO_FAULTS)
    assert pings(bench, shard)


def test_refuse_leaves_connections_that_stand(bench: Any, call: Any) -> None:
    shard = bench.shard()
    client = bench.client(shard)
    assert call(client, "FAULT", "SET", "refuse=listen") == b"OK"
    assert not pings(bench, shard)
    assert call(client, "FAULT", "CLEAR") == b"OK"
    assert pings(bench, shard)


def test_a_port_that_somebody_took_is_tried_again(bench: Any) -> None:
    shard = bench.shard("refuse=listen")
    thief = bench.loop.listen(shard.address, lambda _: None)
    shard.set_faults(NO_FAULTS)
    assert shard.statistics()["listen_failures"] == 1
    thief.close()
    bench.turn_until(lambda: pings(bench, shard))


def test_a_plan_begins_and_ends_by_itself(bench: Any) -> None:
    shard = bench.shard()
    peer = bench.peer(shard)
    bench.turn_until(lambda: peer.connected)
    shard.set_faults(FaultPlan.parse("silence=after:0,from=10ms,until=30ms"))
    began_ns = bench.rt.now_ns()
    assert shard.active == NO_FAULTS
    bench.turn_until(lambda: shard.active != NO_FAULTS)
    assert bench.rt.now_ns() - began_ns >= 10 * NS_PER_MS
    peer.send(("PING",))
    bench.turn_until(lambda: peer.received == PONG)
    assert shard.active == NO_FAULTS
    assert bench.rt.now_ns() - began_ns >= 30 * NS_PER_MS


def test_a_new_plan_ends_the_span_of_the_old_one(bench: Any) -> None:
    shard = bench.shard()
    peer = bench.peer(shard)
    peer.send(("PING",))
    shard.set_faults(FaultPlan.parse("half-open,from=5ms"))
    shard.set_faults(FaultPlan(close_after_n=2))
    bench.turn_until(lambda: peer.received == PONG)
    bench.turn_for(10)
    peer.send(("PING",))  # the second: had the old span begun, counting would have, too
    bench.turn_until(lambda: peer.received == PONG * 2)
    bench.turn_until(lambda: peer.ended)


def test_faults_given_while_stopped_hold_from_the_start(bench: Any) -> None:
    shard = bench.shard()
    shard.stop()
    shard.set_faults(FaultPlan(refuse="listen"))
    shard.start()
    assert not pings(bench, shard)


def test_a_listener_comes_back_only_while_the_shard_is_up(bench: Any) -> None:
    shard = bench.shard("refuse=listen,until=10ms")
    shard.stop()
    bench.turn_for(20)
    assert not pings(bench, shard)


def test_repr_says_where_and_how(bench: Any) -> None:
    shard = bench.shard("delay=1ms")
    assert repr(shard) == f"<EmbeddedShard 127.0.0.1:{shard.address.port} up connections=0 faults=delay=1ms>"
