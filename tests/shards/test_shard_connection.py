"""One connection: batches, order, service times, broken requests, and every fault that touches replies."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordemu.runtime.base import NS_PER_MS
from coordemu.shards.fault_plan import NO_FAULTS, FaultPlan

PONG = b"+PONG\r\n"


def search(ident: int, service_us: int = 0) -> tuple[str, ...]:
    return ("_FT.SEARCH", "idx", str(ident), "SERVICE", str(service_us))


def ids(data: bytes) -> list[int]:
    """The ids of search replies, in order."""
    reader = hiredis.Reader()
    reader.feed(data)
    found = []
    while (reply := reader.gets()) is not False:
        found.append(int(reply[1]))
    return found


def test_many_commands_in_one_read_are_one_write(bench: Any) -> None:
    shard = bench.shard()
    peer = bench.peer(shard)
    bench.turn_until(lambda: peer.connected)
    before = bench.loop.statistics()["bytes_out"]
    peer.send(*[("PING",)] * 500)
    bench.turn_until(lambda: len(peer.received) == 500 * len(PONG))
    assert peer.pieces == [PONG * 500]
    assert shard.statistics()["commands"] == shard.statistics()["answered"] == 500
    assert bench.loop.statistics()["bytes_out"] - before == 500 * (len(PONG) + len(b"*1\r\n$4\r\nPING\r\n"))


def test_commands_cut_anywhere_are_put_together(bench: Any) -> None:
    peer = bench.peer(bench.shard())
    whole = hiredis.pack_command(("ECHO", b"a" * 5))
    for index in range(len(whole)):
        peer.send_raw(whole[index : index + 1])
        bench.turn_for(0.1)
    bench.turn_until(lambda: peer.received == b"$5\r\naaaaa\r\n")


def test_replies_keep_their_order_whatever_they_cost(bench: Any) -> None:
    costs_us = [8000, 0, 3000, 0, 0, 1000, 0]
    peer = bench.peer(bench.shard())
    peer.send(*[search(ident, cost_us) for ident, cost_us in enumerate(costs_us)])
    bench.turn_until(lambda: len(ids(peer.received)) == len(costs_us))
    assert ids(peer.received) == list(range(len(costs_us)))


def test_cheap_commands_before_a_dear_one_do_not_wait_for_it(bench: Any) -> None:
    peer = bench.peer(bench.shard())
    peer.send(search(0), search(1), search(2, 3_000_000_000), search(3))
    bench.turn_until(lambda: peer.received)
    bench.turn_for(5)
    assert ids(peer.received) == [0, 1]


def test_one_connection_is_served_one_command_after_the_other(bench: Any) -> None:
    peer = bench.peer(bench.shard())
    began_ns = bench.rt.now_ns()
    peer.send(search(0, 10_000), search(1, 10_000), search(2, 10_000))
    bench.turn_until(lambda: len(ids(peer.received)) == 3)
    assert bench.rt.now_ns() - began_ns >= 30 * NS_PER_MS


def test_a_cheap_command_after_a_dear_one_is_cheap(bench: Any) -> None:
    peer = bench.peer(bench.shard())
    peer.send(search(0, 150_000))
    bench.turn_until(lambda: ids(peer.received) == [0])
    peer.pieces.clear()
    peer.send(("PING",))
    for _ in range(500):  # turns that do not wait
        bench.loop.run_once(0)
    assert peer.received == PONG


def test_connections_are_served_at_the_same_time(bench: Any) -> None:
    shard = bench.shard()
    slow, quick = bench.peer(shard), bench.peer(shard)
    slow.send(search(0, 3_000_000_000))
    bench.turn_until(lambda: shard.statistics()["waiting"] == 1)
    quick.send(search(1, 2_000))
    bench.turn_until(lambda: ids(quick.received) == [1])
    assert slow.received == b""
    assert shard.statistics()["waiting"] == 1


def test_many_connections_wait_on_one_timer(bench: Any) -> None:
    shard = bench.shard()
    peers = [bench.peer(shard) for _ in range(50)]
    bench.turn_until(lambda: all(peer.connected for peer in peers))
    timers = bench.loop.statistics().get("timers", 0)
    for ident, peer in enumerate(peers):
        peer.send(search(ident, 60_000_000))
    bench.turn_until(lambda: shard.statistics()["waiting"] == 50)
    for ident, peer in enumerate(peers):
        peer.send(search(ident, 100))
    bench.turn_until(lambda: shard.statistics()["waiting"] == 100)
    assert len(shard._due) == 50
    shard.stop()
    shard.start()
    peers = [bench.peer(shard) for _ in range(50)]
    for ident, peer in enumerate(peers):
        peer.send(search(ident, 2_000 + 10 * (ident % 7)), search(ident, 100))
    assert bench.loop.statistics().get("timers", 0) <= timers + 1
    bench.turn_until(lambda: all(ids(peer.received) == [ident] * 2 for ident, peer in enumerate(peers)))


def test_a_client_that_leaves_takes_its_waiting_replies_along(bench: Any) -> None:
    shard = bench.shard()
    peer, other = bench.peer(shard), bench.peer(shard)
    peer.send(search(0, 1_000), search(1, 500_000))
    bench.turn_until(lambda: shard.statistics()["commands"] == 2)
    peer.transport.abort()
    bench.turn_until(lambda: shard.statistics()["connections"] == 1)
    assert shard.statistics()["waiting"] == 0
    other.send(search(2, 3_000))
    bench.turn_until(lambda: ids(other.received) == [2])


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"$4\r\nPING\r\n",
        b"*1\r\n:5\r\n",
        b"*2\r\n$4\r\nECHO\r\n:5\r\n",
        b"*1\r\n*1\r\n$1\r\na\r\n",
        b"*-1\r\n",
    ],
)
def test_what_is_no_request_is_answered_with_an_error_and_the_end(bench: Any, garbage: bytes) -> None:
    shard = bench.shard()
    peer, other = bench.peer(shard), bench.peer(shard)
    peer.send(("PING",), search(7, 2_000))
    peer.send_raw(garbage)
    peer.send(("PING",))
    bench.turn_until(lambda: peer.ended)
    assert peer.received.startswith(PONG + b"*2\r\n:1\r\n$1\r\n7\r\n-ERR Protocol error")
    assert peer.received.count(PONG) == 1
    assert shard.statistics()["protocol_errors"] == 1
    other.send(("PING",))
    bench.turn_until(lambda: other.received == PONG)


def test_an_empty_command_is_passed_over(bench: Any) -> None:
    peer = bench.peer(bench.shard())
    peer.send_raw(b"*0\r\n")
    peer.send(("PING",))
    bench.turn_until(lambda: peer.received == PONG)


def test_quit_is_answered_after_what_came_before_it_and_ends(bench: Any) -> None:
    shard = bench.shard()
    peer = bench.peer(shard)
    peer.send(("PING",), search(1, 2_000), ("QUIT",), ("SET", "a", "1"))
    bench.turn_until(lambda: peer.ended)
    assert peer.received == PONG + b"*2\r\n:1\r\n$1\r\n1\r\n+OK\r\n"
    assert peer.ended == [None]
    assert shard.store == {}


# faults


def test_delay_and_jitter(bench: Any) -> None:
    peer = bench.peer(bench.shard("delay=10ms,jitter=5ms"))
    bench.turn_until(lambda: peer.connected)
    began_ns = bench.rt.now_ns()
    peer.send(*[search(ident) for ident in range(20)])
    bench.turn_until(lambda: len(ids(peer.received)) == 20)
    assert ids(peer.received) == list(range(20))
    assert bench.rt.now_ns() - began_ns >= 10 * NS_PER_MS


def test_jitter_comes_from_the_runtimes_chance(bench: Any) -> None:
    class Chance:
        def __init__(self) -> None:
            self.drawn = 0

        def random(self) -> float:
            self.drawn += 1
            return 0.999

    chance = Chance()
    shard = bench.shard("jitter=12ms")
    shard.random = chance.random
    peer = bench.peer(shard)
    bench.turn_until(lambda: peer.connected)
    began_ns = bench.rt.now_ns()
    peer.send(("PING",), ("PING",))
    bench.turn_until(lambda: peer.received == PONG * 2)
    assert bench.rt.now_ns() - began_ns >= 11 * NS_PER_MS
    assert chance.drawn == 2


def test_delays_overlap_where_service_does_not(bench: Any) -> None:
    """Five replies on the same way back arrive together."""
    shard = bench.shard("delay=200ms")
    peer = bench.peer(shard)
    peer.send(*[search(ident) for ident in range(5)])
    bench.turn_until(lambda: len(ids(peer.received)) == 1 or shard.statistics()["answered"])
    assert shard.statistics()["answered"] == 5


def test_close_after_n_answers(bench: Any) -> None:
    shard = bench.shard("close=after:3")
    peer = bench.peer(shard)
    peer.send(("PING",), ("PING",))
    bench.turn_until(lambda: peer.received == PONG * 2)
    assert not peer.ended
    peer.send(("PING",), ("PING",))
    bench.turn_until(lambda: peer.ended)
    assert peer.received == PONG * 3
    again = bench.peer(shard)  # a new connection has its own count
    again.send(("PING",))
    bench.turn_until(lambda: again.received == PONG)
    assert not again.ended


def test_close_after_none(bench: Any) -> None:
    peer = bench.peer(bench.shard("close=after:0"))
    bench.turn_until(lambda: peer.connected)
    bench.turn_for(5)
    assert not peer.ended
    peer.send(("PING",))
    bench.turn_until(lambda: peer.ended)
    assert peer.received == b""


def test_close_cuts_replies_that_wait(bench: Any) -> None:
    peer = bench.peer(bench.shard("close=after:1"))
    peer.send(search(0, 1_000), search(1, 1_000), search(2))
    bench.turn_until(lambda: peer.ended)
    assert ids(peer.received) == [0]


def test_silence_after_n_holds_the_rest_until_it_is_lifted(bench: Any) -> None:
    shard = bench.shard("silence=after:2")
    peer = bench.peer(shard)
    peer.send(*[search(ident, 100) for ident in range(5)])
    bench.turn_until(lambda: len(ids(peer.received)) == 2)
    bench.turn_for(10)
    assert ids(peer.received) == [0, 1]
    assert not peer.ended
    assert shard.statistics()["waiting"] == 3
    shard.set_faults(NO_FAULTS)
    bench.turn_until(lambda: ids(peer.received) == [0, 1, 2, 3, 4])


def test_silence_is_lifted_over_the_silent_connection_itself(bench: Any) -> None:
    peer = bench.peer(bench.shard())
    peer.send(("FAULT", "SET", "silence=after:0"), ("PING",), ("ECHO", "x"))
    bench.turn_until(lambda: peer.received == b"+OK\r\n")
    peer.send(("FAULT", "CLEAR"), ("PING",))
    bench.turn_until(lambda: peer.received == b"+OK\r\n+PONG\r\n$1\r\nx\r\n+OK\r\n+PONG\r\n")


def test_a_silent_shard_still_answers_fault_commands_when_nothing_is_held(bench: Any) -> None:
    peer = bench.peer(bench.shard("silence=after:0,delay=1s"))
    peer.send(("FAULT", "GET"))
    bench.turn_until(lambda: peer.received)
    assert b"silence=after:0" in peer.received


def test_half_open_accepts_and_reads_nothing(bench: Any) -> None:
    shard = bench.shard("half-open")
    peer = bench.peer(shard)
    peer.send(("PING",))
    bench.turn_until(lambda: peer.connected and shard.statistics()["connections"])
    bench.turn_for(10)
    assert peer.received == b""
    assert not peer.ended
    assert shard.statistics()["commands"] == 0
    shard.set_faults(NO_FAULTS)
    bench.turn_until(lambda: peer.received == PONG)


def test_half_open_stops_reading_connections_that_stand(bench: Any) -> None:
    shard = bench.shard()
    peer = bench.peer(shard)
    peer.send(("FAULT", "SET", "half-open"))
    bench.turn_until(lambda: peer.received == b"+OK\r\n")
    peer.send(("PING",))
    bench.turn_for(10)
    assert peer.received == b"+OK\r\n"


def test_slow_bytes_drip(bench: Any) -> None:
    peer = bench.peer(bench.shard("slow=3B/2ms"))
    began_ns = bench.rt.now_ns()
    peer.send(("PING",), ("PING",))
    bench.turn_until(lambda: peer.received == PONG * 2)
    assert list(map(len, peer.pieces)) == [3, 3, 3, 3, 2]
    assert bench.rt.now_ns() - began_ns >= 8 * NS_PER_MS  # 14 bytes are five pieces, four intervals apart
    peer.send(("PING",))
    bench.turn_until(lambda: peer.received == PONG * 3)


def test_slow_bytes_rest_leaves_at_once_when_lifted(bench: Any) -> None:
    shard = bench.shard("slow=1B/1000s")
    peer = bench.peer(shard)
    peer.send(("PING",))
    bench.turn_until(lambda: peer.received == b"+")
    peer.send(("ECHO", "x"))
    bench.turn_until(lambda: shard.statistics()["commands"] == 2)
    bench.turn_for(5)
    assert peer.received == b"+"
    shard.set_faults(NO_FAULTS)
    bench.turn_until(lambda: peer.received == PONG + b"$1\r\nx\r\n")


def test_slow_bytes_are_lifted_over_the_slow_connection_itself(bench: Any) -> None:
    peer = bench.peer(bench.shard("slow=1B/1000s"))
    peer.send(("ECHO", "x"))
    bench.turn_until(lambda: peer.received == b"$")
    peer.send(("FAULT", "CLEAR"), ("PING",))
    bench.turn_until(lambda: peer.received == b"$1\r\nx\r\n+OK\r\n" + PONG)


def test_slow_bytes_and_close_send_everything_before_the_end(bench: Any) -> None:
    peer = bench.peer(bench.shard("slow=2B/1ms,close=after:2"))
    peer.send(("PING",), ("PING",), ("PING",))
    bench.turn_until(lambda: peer.ended)
    assert peer.received == PONG * 2


def test_slow_close_ends_also_when_the_plan_is_lifted_meanwhile(bench: Any) -> None:
    shard = bench.shard("slow=1B/1000s,close=after:1")
    peer = bench.peer(shard)
    peer.send(("PING",), ("PING",))
    bench.turn_until(lambda: peer.received == b"+")
    shard.set_faults(NO_FAULTS)
    bench.turn_until(lambda: peer.ended)
    assert peer.received == PONG


def test_counts_begin_afresh_with_a_new_plan(bench: Any) -> None:
    shard = bench.shard("close=after:3")
    peer = bench.peer(shard)
    for plan in ("close=after:3", "close=after:3", "close=after:2"):
        peer.send(("PING",), ("PING",))
        expected = len(peer.received) + 2 * len(PONG)
        bench.turn_until(lambda wanted=expected: len(peer.received) == wanted)
        shard.set_faults(FaultPlan.parse(plan))
    peer.send(("PING",), ("PING",))
    bench.turn_until(lambda: peer.ended)
    assert peer.received == PONG * 8


def test_a_plan_set_between_commands_of_one_read_keeps_their_order(bench: Any) -> None:
    peer = bench.peer(bench.shard())
    peer.send(("PING",), search(1, 1), ("FAULT", "SET", "delay=2ms"), ("ECHO", "a"), ("FAULT", "CLEAR"), ("ECHO", "b"))
    expected = PONG + b"*2\r\n:1\r\n$1\r\n1\r\n+OK\r\n$1\r\na\r\n+OK\r\n$1\r\nb\r\n"
    bench.turn_until(lambda: len(peer.received) == len(expected))
    assert peer.received == expected


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(
            st.integers(0, 600),
            st.sampled_from(["", "none", "delay=200us", "jitter=300us", "slow=5B/100us", "silence=after:1"]),
        ),
        max_size=25,
    ),
    cuts=st.lists(st.integers(1, 200), max_size=10),
)
def test_no_fault_that_is_lifted_reorders_or_loses_a_reply(
    bench: Any, steps: list[tuple[int, str]], cuts: list[int]
) -> None:
    """Whatever plan comes between the commands, in whatever pieces: after FAULT CLEAR everything has come, in order."""
    shard = bench.shard()
    peer = bench.peer(shard)
    commands: list[tuple[str, ...]] = []
    expected = b""
    for ident, (service_us, plan) in enumerate(steps):
        if plan:
            commands.append(("FAULT", "SET", plan))
            expected += b"+OK\r\n"
        commands.append(search(ident, service_us))
        expected += b"*2\r\n:1\r\n$%d\r\n%d\r\n" % (len(str(ident)), ident)
    commands.append(("FAULT", "CLEAR"))
    expected += b"+OK\r\n"
    data = b"".join([hiredis.pack_command(command) for command in commands])
    for cut in cuts:
        peer.send_raw(data[:cut])
        data = data[cut:]
        bench.loop.run_once(0)
    peer.send_raw(data)
    bench.turn_until(lambda: len(peer.received) == len(expected) or peer.ended)
    assert peer.received == expected
    peer.transport.abort()
    shard.stop()
