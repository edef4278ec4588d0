"""Every command of the embedded shard in RESP2 and RESP3: what it answers, and how it refuses."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest

from coordemu.runtime.base import NS_PER_MS

HELLO_FIELDS = {b"server", b"version", b"proto", b"id", b"mode", b"role", b"modules"}


@pytest.fixture(params=["2", "3"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        (("PING",), b"PONG"),
        (("ping", "me"), b"me"),
        (("ECHO", b"\x00\r\n\xff"), b"\x00\r\n\xff"),
        (("ECHO", ""), b""),
        (("SET", "a", "1"), b"OK"),
        (("GET", "nothing"), None),
        (("DEL", "nothing", "nowhere"), 0),
        (("CLIENT", "SETNAME", "me"), b"OK"),
        (("CLIENT", "SETINFO", "LIB-NAME", "x"), b"OK"),
        (("FAULT", "GET"), b"none"),
        (("QUIT",), b"OK"),
    ],
)
def test_commands_answer(bench: Any, call: Any, protocol: str, command: tuple[Any, ...], reply: Any) -> None:
    client = bench.client(bench.shard(), protocol)
    assert call(client, *command) == reply


def test_keys_are_set_read_and_deleted(bench: Any, call: Any, protocol: str) -> None:
    shard = bench.shard()
    one, other = bench.client(shard, protocol), bench.client(shard)
    assert call(one, "SET", "key", "value") == b"OK"
    assert call(other, "GET", "key") == b"value"
    assert call(one, "DEL", "key", "key", "else") == 1
    assert call(other, "GET", "key") is None


def test_absence_is_written_as_the_protocol_has_it(bench: Any) -> None:
    peer = bench.peer(bench.shard())
    peer.send(("GET", "x"), ("HELLO", "3"), ("GET", "x"))
    bench.turn_until(lambda: peer.received.endswith(b"_\r\n"))
    assert peer.received.startswith(b"$-1\r\n%7\r\n")


def test_hello_answers_a_map_in_3_and_a_list_in_2(bench: Any, call: Any) -> None:
    client = bench.client(bench.shard())
    as_list = call(client, "HELLO")
    assert set(as_list[::2]) == HELLO_FIELDS
    assert as_list[as_list.index(b"proto") + 1] == 2
    as_map = call(client, "HELLO", "3", "SETNAME", "me")
    assert set(as_map) == HELLO_FIELDS
    assert as_map[b"proto"] == 3
    assert call(client, "HELLO")[b"id"] == call(client, "CLIENT", "ID") == 1
    assert isinstance(call(client, "HELLO", "2"), list)


def test_a_search_answers_its_id(bench: Any, call: Any, protocol: str) -> None:
    client = bench.client(bench.shard(), protocol)
    expected = {b"total_results": 1, b"results": [b"q7"]} if protocol == "3" else [1, b"q7"]
    assert call(client, "_FT.SEARCH", "idx", "q7") == expected
    assert call(client, "_ft.search", "idx", "q7", "service", "0") == expected
    began_ns = bench.rt.now_ns()
    assert call(client, "_FT.SEARCH", "idx", "q7", "SERVICE", "15000") == expected
    assert bench.rt.now_ns() - began_ns >= 15 * NS_PER_MS


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("NOPE", "x"), "ERR unknown command 'NOPE'"),
        ((b"NO\r\nPE",), "ERR unknown command 'NO  PE'"),
        ((b"\xff",), "ERR unknown command '\ufffd'"),
        (("GET",), "ERR wrong number of arguments for 'get' command"),
        (("PING", "1", "2"), "ERR wrong number of arguments for 'ping' command"),
        (("ECHO",), "ERR wrong number of arguments for 'echo' command"),
        (("SET", "a"), "ERR wrong number of arguments for 'set' command"),
        (("SET", "a", "1", "NOPE"), "ERR syntax error"),
        (("DEL",), "ERR wrong number of arguments for 'del' command"),
        (("AUTH",), "ERR wrong number of arguments for 'auth' command"),
        (("CLIENT",), "ERR wrong number of arguments for 'client' command"),
        (("CLIENT", "KILL", "ALL"), "ERR unknown subcommand"),
        (("HELLO", "4"), "NOPROTO"),
        (("HELLO", "3", "AUTH", "default"), "ERR syntax error in HELLO option 'AUTH'"),
        (("HELLO", "3", "WHAT"), "ERR syntax error in HELLO option 'WHAT'"),
        (("_FT.SEARCH", "idx"), "ERR wrong number of arguments for '_ft.search' command"),
        (("_FT.SEARCH", "idx", "1", "SERVICE"), "ERR syntax error"),
        (("_FT.SEARCH", "idx", "1", "LIMIT", "5"), "ERR syntax error"),
        (("_FT.SEARCH", "idx", "1", "SERVICE", "-1"), "ERR SERVICE is not a number of microseconds"),
        (("_FT.SEARCH", "idx", "1", "SERVICE", "3600000001"), "ERR SERVICE is not a number of microseconds"),
        (("_FT.SEARCH", "idx", "1", "SERVICE", "9" * 5000), "ERR SERVICE is not a number of microseconds"),
        (("FAULT",), "ERR wrong number of arguments for 'fault' command"),
        (("FAULT", "SET"), "ERR syntax error: FAULT"),
        (("FAULT", "SET", "delay=1"), "ERR fault plan: 'delay=1': a duration"),
        (("AUTH", "pw"), "ERR AUTH <password> called without any password"),
        (("AUTH", "somebody", "pw"), "WRONGPASS"),
    ],
)
def test_wrong_commands_are_refused_and_the_connection_goes_on(
    bench: Any, call: Any, protocol: str, command: tuple[Any, ...], says: str
) -> None:
    client = bench.client(bench.shard(), protocol)
    reply = call(client, *command)
    assert isinstance(reply, hiredis.ReplyError)
    assert str(reply).startswith(says)
    assert call(client, "PING") == b"PONG"


@pytest.mark.parametrize("command", [("PING",), ("GET", "a"), ("FAULT", "CLEAR"), ("HELLO", "3")])
def test_without_the_password_nothing_is_answered(bench: Any, call: Any, command: tuple[str, ...]) -> None:
    client = bench.client(bench.shard(password="geheim"))
    assert str(call(client, *command)).startswith("NOAUTH ")


@pytest.mark.parametrize("command", [("AUTH", "geheim"), ("AUTH", "default", "geheim")])
def test_auth(bench: Any, call: Any, command: tuple[str, ...]) -> None:
    client = bench.client(bench.shard(password="geheim"))
    for wrong in (("AUTH", "nein"), ("AUTH", "other", "geheim"), ("HELLO", "3", "AUTH", "default", "nein")):
        assert str(call(client, *wrong)).startswith("WRONGPASS ")
        assert str(call(client, "PING")).startswith("NOAUTH ")
    assert call(client, *command) == b"OK"
    assert call(client, "PING") == b"PONG"
    # a refused second AUTH leaves the connection as it was
    assert str(call(client, "AUTH", "nein")).startswith("WRONGPASS ")
    assert call(client, "PING") == b"PONG"


def test_hello_authenticates_and_chooses_the_protocol_together(bench: Any, call: Any) -> None:
    client = bench.client(bench.shard(password="gehéim"))
    assert str(call(client, "HELLO", "3", "AUTH", "default", "nein")).startswith("WRONGPASS ")
    assert call(client, "HELLO", "3", "AUTH", "default", "gehéim", "SETNAME", "x")[b"proto"] == 3
    assert call(client, "GET", "x") is None


def test_faults_are_set_read_and_cleared_by_command(bench: Any, call: Any, protocol: str) -> None:
    shard = bench.shard()
    client = bench.client(shard, protocol)
    assert call(client, "FAULT", "SET", "close=after:9,delay=1ms") == b"OK"
    assert call(client, "FAULT", "GET") == b"delay=1ms,close=after:9"
    assert call(client, "FAULT", "CLEAR") == b"OK"
    assert call(client, "FAULT", "GET") == b"none"
    stats = call(client, "FAULT", "STATS")
    pairs = stats if protocol == "3" else dict(zip(stats[::2], stats[1::2], strict=True))
    assert pairs[b"connections"] == 1
    assert pairs[b"commands"] == shard.statistics()["commands"] - 1
