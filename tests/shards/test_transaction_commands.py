"""MULTI, EXEC, DISCARD: what is queued, what is refused, and what an ended connection leaves."""

from __future__ import annotations

from typing import Any

import pytest

from coordemu.runtime.base import NS_PER_MS
from coordemu.shards.shard_replies import Refused, as_integer, bulk_or_null, double, read_float


def test_nothing_comes_in_between(bench: Any, call: Any) -> None:
    shard = bench.shard()
    one, other = bench.client(shard), bench.client(shard)
    for words in (("MULTI",), ("INCR", "n"), ("INCR", "n")):
        call(one, *words)
    assert call(other, "GET", "n") is None
    assert call(other, "INCRBY", "n", "10") == 10
    assert call(one, "EXEC") == [11, 12]


def test_one_that_ends_takes_its_transaction_with_it(bench: Any, call: Any) -> None:
    shard = bench.shard()
    client = bench.client(shard)
    call(client, "MULTI")
    call(client, "SET", "a", "1")
    client.close()
    bench.turn_until(lambda: shard.statistics()["connections"] == 0)
    assert shard.store == {}


def test_what_needs_a_password_flaws_it(bench: Any, call: Any) -> None:
    client = bench.client(bench.shard(password="geheim"))
    for words in (("MULTI",), ("EXEC",), ("SUBSCRIBE", "c"), ("RPUSH", "l", "1"), ("BRPOP", "l", "0")):
        assert str(call(client, *words)).startswith("NOAUTH ")
    assert call(client, "AUTH", "geheim") == b"OK"
    assert call(client, "MULTI") == b"OK"
    assert call(client, "EXEC") == []


def test_an_error_before_it_does_not_flaw_it(bench: Any, call: Any) -> None:
    client = bench.client(bench.shard())
    assert str(call(client, "NOPE")).startswith("ERR ")
    assert call(client, "MULTI") == b"OK"
    assert call(client, "EXEC") == []


def test_quit_is_not_queued(bench: Any) -> None:
    peer = bench.peer(bench.shard())
    peer.send(("MULTI",), ("SET", "a", "1"), ("QUIT",))
    bench.turn_until(lambda: peer.ended)
    assert peer.received == b"+OK\r\n+QUEUED\r\n+OK\r\n"


def test_service_times_add_up(bench: Any, call: Any) -> None:
    client = bench.client(bench.shard())
    began_ns = bench.rt.now_ns()
    call(client, "MULTI")
    for number in range(3):
        assert call(client, "_FT.SEARCH", "idx", str(number), "SERVICE", "7000") == b"QUEUED"
    assert call(client, "EXEC") == [[1, b"%d" % number] for number in range(3)]
    assert bench.rt.now_ns() - began_ns >= 21 * NS_PER_MS


def test_who_waits_is_served_after_a_slow_transaction_was_read(bench: Any, call: Any) -> None:
    shard = bench.shard()
    waiting = bench.client(shard)
    waiting.begin([("BRPOP", "q", "0")])
    bench.turn_until(lambda: len(shard.blocked) == 1)
    writer = bench.client(shard)
    writer.begin(
        [("MULTI",), ("_FT.SEARCH", "idx", "1", "SERVICE", "20000"), ("RPUSH", "q", "x"), ("EXEC",), ("PING",)]
    )
    assert waiting.finish(10_000) == [[b"q", b"x"]]
    assert writer.finish(10_000)[-2:] == [[[1, b"1"], 1], b"PONG"]


def test_numbers_are_read_as_strictly_as_redis_reads_them() -> None:
    assert [as_integer(word) for word in (b"0", b"-1", b"9223372036854775807", b"-9223372036854775808")] == [
        0, -1, 2**63 - 1, -(2**63),
    ]  # fmt: skip
    for word in (
        b"",
        b"-",
        b"+1",
        b"01",
        b"-0",
        b" 1",
        b"1 ",
        b"9223372036854775808",
        b"1_0",
        b"1.0",
        "\u0661".encode(),
    ):
        assert as_integer(word) is None, word
    assert [read_float(word) for word in (b"1", b".5", b"1.", b"-2e3", b"+INF", b"-infinity")] == [
        1, 0.5, 1, -2000, float("inf"), float("-inf"),
    ]  # fmt: skip
    for word in (b"", b"nan", b"1_0", b" 1", b"e5", b"1e", b"--1", b"."):
        with pytest.raises(Refused, match="ERR no"):
            read_float(word, "ERR no")
    assert Refused("ERR no\r\n").reply == b"-ERR no  \r\n"


def test_scores_and_absence_are_written_as_the_protocol_has_them() -> None:
    assert (double(0.5, 2), double(0.5, 3)) == (b"$3\r\n0.5\r\n", b",0.5\r\n")
    assert (double(float("-inf"), 3), double(1e20, 2)) == (b",-inf\r\n", b"$5\r\n1e+20\r\n")
    assert (bulk_or_null(None, 2), bulk_or_null(None, 3), bulk_or_null(b"", 3)) == (b"$-1\r\n", b"_\r\n", b"$0\r\n\r\n")
