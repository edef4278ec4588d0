"""The embedded shard's commands for data: each line of data_commands.txt is answered so, and as a real Redis does."""

from __future__ import annotations

import ast
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hiredis
import pytest

from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Address
from coordemu.runtime.threads import ThreadsRuntime
from coordemu.shards.command_table import COMMANDS
from coordemu.shards.real_redis import RedisServer
from coordemu.shards.shard_values import Keyspace
from coordemu.shards.stream_value import HIGHEST, Stream, following, preceding

FILE = Path(__file__).with_name("data_commands.txt")
ONLY_BEGINNING = "..."


def scripts() -> dict[str, list[tuple[str, str]]]:
    """Title -> commands and the replies expected of them. A "!" begins an error."""
    found: dict[str, list[tuple[str, str]]] = {}
    for line in FILE.read_text().splitlines():
        if line.startswith("# "):
            lines = found.setdefault(line[2:], [])
        elif line:
            command, _, reply = line.partition(" -> ")
            lines.append((command, reply))
    return found


SCRIPTS = scripts()


class Dialogue:
    """One client that asks a command at a time, and keeps the reply as it was written."""

    def __init__(self, bench: Any, address: Address, protocol: str) -> None:
        self.bench = bench
        self.peer = bench.peer(type("At", (), {"address": address}))
        self.ask("HELLO", protocol)

    def ask(self, *words: str) -> bytes:
        self.peer.pieces.clear()
        self.peer.send(words)
        replies: list[Any] = []

        def complete() -> bool:
            reader = hiredis.Reader()
            reader.feed(self.peer.received)
            replies[:] = [reader.gets()]
            return replies[0] is not False

        self.bench.turn_until(complete)
        self.reply = replies[0]
        received: bytes = self.peer.received
        return received


def text_of(reply: Any) -> str:
    """A reply as data_commands.txt has it."""
    if isinstance(reply, hiredis.ReplyError):
        return f"!{reply}"
    return repr(plain(reply))


def plain(reply: Any) -> Any:
    if isinstance(reply, list):
        return [plain(each) for each in reply]
    if isinstance(reply, hiredis.ReplyError):
        return f"!{reply}"
    return reply.decode() if isinstance(reply, bytes) else reply


def test_the_file_is_read() -> None:
    assert len(SCRIPTS) == 16
    assert sum(map(len, SCRIPTS.values())) > 500
    for script in SCRIPTS.values():
        for _, reply in script:
            assert reply.startswith("!") or ast.literal_eval(reply) is not ...


def test_every_command_for_data_is_in_the_file() -> None:
    asked = {shlex.split(command)[0].upper().encode() for script in SCRIPTS.values() for command, _ in script}
    elsewhere = {b"ECHO", b"AUTH", b"HELLO", b"CLIENT", b"QUIT", b"_FT.SEARCH", b"FAULT"}
    assert set(COMMANDS) - asked == elsewhere


@pytest.mark.parametrize("title", SCRIPTS)
def test_it_answers_as_the_file_says(bench: Any, title: str) -> None:
    dialogue = Dialogue(bench, bench.shard().address, "2")
    for command, expected in SCRIPTS[title]:
        dialogue.ask(*shlex.split(command))
        said = text_of(dialogue.reply)
        if expected.endswith(ONLY_BEGINNING):
            assert said.startswith(expected.removesuffix(ONLY_BEGINNING)), command
        else:
            assert said == expected, command


@pytest.fixture(scope="module")
def real() -> Iterator[RedisServer]:
    with RedisServer(ThreadsRuntime(seed=1)) as server:
        yield server


@pytest.mark.parametrize("protocol", ["2", "3"])
@pytest.mark.parametrize("title", SCRIPTS)
def test_it_answers_byte_for_byte_as_a_real_redis(bench: Any, real: RedisServer, title: str, protocol: str) -> None:
    theirs, ours = (Dialogue(bench, address, protocol) for address in (real.address, bench.shard().address))
    theirs.ask("FLUSHALL")
    for command, expected in SCRIPTS[title]:
        words = shlex.split(command)
        wanted, said = theirs.ask(*words), ours.ask(*words)
        if expected.endswith(ONLY_BEGINNING):
            length = len(expected) - len(ONLY_BEGINNING)
            wanted, said = wanted[:length], said[:length]
        assert said == wanted, command


# What depends on the clock.


def test_keys_expire(bench: Any, call: Callable[..., Any]) -> None:
    shard = bench.shard()
    client = bench.client(shard)
    clock = Clock(shard)
    assert call(client, "SET", "a", "1", "PX", "30") == b"OK"
    assert call(client, "RPUSH", "l", "1") == 1
    assert call(client, "PEXPIRE", "l", "31") == 1
    clock.ahead_ms = 29
    assert call(client, "EXISTS", "a", "l") == 2
    assert call(client, "PTTL", "a") == 1
    clock.ahead_ms = 30
    assert call(client, "GET", "a") is None
    assert call(client, "EXISTS", "a", "l") == 1
    clock.ahead_ms = 31
    assert call(client, "DBSIZE") == 0
    assert call(client, "KEYS", "*") == []
    assert call(client, "LLEN", "l") == 0
    assert call(client, "DEL", "l", "a") == 0
    assert (shard.store, shard.keyspace.typed, shard.keyspace.expiry_ns) == ({}, {}, {})


@pytest.mark.parametrize("how", [("SET", "k", "2"), ("PERSIST", "k"), ("MSET", "k", "2")])
def test_an_expiry_that_was_taken_back_is_gone(bench: Any, call: Callable[..., Any], how: tuple[str, ...]) -> None:
    shard = bench.shard()
    client, clock = bench.client(shard), Clock(shard)
    call(client, "SET", "k", "1", "PX", "30")
    call(client, *how)
    clock.ahead_ms = 1000
    assert call(client, "EXISTS", "k") == 1


def test_a_key_made_anew_does_not_inherit_the_expiry(bench: Any, call: Callable[..., Any]) -> None:
    shard = bench.shard()
    client, clock = bench.client(shard), Clock(shard)
    for end in (("DEL", "k"), ("RPOP", "k"), ("FLUSHALL",)):
        call(client, "RPUSH", "k", "1")
        call(client, "PEXPIRE", "k", "30")
        call(client, *end)
        call(client, "RPUSH", "k", "1")
        assert call(client, "TTL", "k") == -1
        call(client, "DEL", "k")
    call(client, "SET", "k", "1", "PX", "30")
    clock.ahead_ms = 30
    assert call(client, "INCR", "k") == 1
    assert call(client, "TTL", "k") == -1


def test_a_clock_that_goes_back_makes_keys_live_longer(bench: Any, call: Callable[..., Any]) -> None:
    shard = bench.shard()
    client, clock = bench.client(shard), Clock(shard)
    call(client, "SET", "k", "1", "EX", "1")
    clock.ahead_ms = -10_000
    assert call(client, "TTL", "k") == 11
    clock.ahead_ms = 1000
    assert call(client, "GET", "k") is None


class Clock:
    """The shard's, stopped, and put where a test wants it."""

    def __init__(self, shard: Any) -> None:
        self.began_ns = 1_000_000 * NS_PER_S
        self.ahead_ms = 0
        shard.keyspace.now_ns = lambda: self.began_ns + self.ahead_ms * NS_PER_MS


def test_ids_of_streams_are_the_clocks_and_always_grow(bench: Any, call: Callable[..., Any]) -> None:
    shard = bench.shard()
    client, clock = bench.client(shard), Clock(shard)
    clock.began_ns = 0
    ids = []
    for ahead_ms in (0, 0, 5, 5, 3, -7, 6):
        clock.ahead_ms = ahead_ms
        ids.append(call(client, "XADD", "s", "*", "a", "b").decode())
    assert ids == ["0-1", "0-2", "5-0", "5-1", "5-2", "5-3", "6-0"]
    assert call(client, "XADD", "s", f"6-{HIGHEST}", "a", "b")
    assert call(client, "XADD", "s", "*", "a", "b") == b"7-0"


def test_idle_times_are_those_of_the_clock(bench: Any, call: Callable[..., Any]) -> None:
    shard = bench.shard()
    client, clock = bench.client(shard), Clock(shard)
    call(client, "XGROUP", "CREATE", "s", "g", "$", "MKSTREAM")
    call(client, "XADD", "s", "1-1", "a", "b")
    call(client, "XREADGROUP", "GROUP", "g", "one", "STREAMS", "s", ">")
    clock.ahead_ms = 40
    assert call(client, "XPENDING", "s", "g", "-", "+", "9") == [[b"1-1", b"one", 40, 1]]
    assert call(client, "XPENDING", "s", "g", "IDLE", "41", "-", "+", "9") == []
    assert call(client, "XAUTOCLAIM", "s", "g", "two", "41", "0") == [b"0-0", []]
    assert call(client, "XINFO", "CONSUMERS", "s", "g") == [[b"name", b"one", b"pending", 1, b"idle", 40]]
    assert call(client, "XAUTOCLAIM", "s", "g", "two", "40", "0") == [b"0-0", [[b"1-1", [b"a", b"b"]]]]
    assert call(client, "XPENDING", "s", "g", "-", "+", "9") == [[b"1-1", b"two", 0, 2]]
    clock.ahead_ms = 10
    assert call(client, "XPENDING", "s", "g", "-", "+", "9") == [[b"1-1", b"two", 0, 2]]
    assert call(client, "XCLAIM", "s", "g", "one", "1", "1-1") == []
    assert call(client, "XCLAIM", "s", "g", "one", "0", "1-1", "JUSTID") == [b"1-1"]


# Known differences, kept on purpose.


@pytest.mark.parametrize(
    ("commands", "replies"),
    [
        # 6.2 keeps what is in a node with younger entries
        ([("XADD", "s", "MAXLEN", "~", "1", f"1-{n}", "a", "b") for n in range(1, 4)] + [("XLEN", "s")], 1),
        # 6.2 calculates with 64 bits, over the edge
        ([("SET", "n", "3"), ("DECRBY", "n", "-9223372036854775808")], "ERR decrement would overflow"),
        # 6.2 makes 0 of it, which means for ever
        ([("BLPOP", "nothing", "0.0001")], None),
        ([("BLPOP", "nothing", "-0.0001")], "ERR timeout is negative"),
        ([("WATCH", "a")], "ERR unknown command 'WATCH'"),
        ([("ZRANGE", "z", "0", "1", "REV")], "ERR syntax error"),
    ],
)
def test_known_differences(bench: Any, call: Callable[..., Any], commands: list[tuple[str, ...]], replies: Any) -> None:
    client = bench.client(bench.shard())
    last = [call(client, *command) for command in commands][-1]
    assert (str(last) if isinstance(last, hiredis.ReplyError) else last) == replies


# The values themselves.


def test_ids_have_neighbours_but_at_the_ends() -> None:
    for ident in [(0, 1), (5, HIGHEST), (5, 0), (HIGHEST, 0)]:
        before, after = preceding(ident), following(ident)
        assert before is not None
        assert after is not None
        assert before < ident < after
        assert following(before) == preceding(after) == ident
    assert preceding((0, 0)) is None
    assert following((HIGHEST, HIGHEST)) is None


def test_they_say_what_they_are(bench: Any, call: Callable[..., Any]) -> None:
    shard = bench.shard()
    client = bench.client(shard)
    call(client, "SET", "a", "1")
    call(client, "XADD", "s", "1-1", "a", "b")
    call(client, "XGROUP", "CREATE", "s", "g", "0")
    assert repr(shard.keyspace) == "<Keyspace 1 strings, 1 others>"
    stream = shard.keyspace.find(b"s", Stream)
    assert repr(stream) == "<Stream of 1 up to (1, 1), 1 groups>"
    assert repr(stream.groups[b"g"]) == "<Group up to (0, 0), 0 pending>"
    assert shard.statistics()["keys"] == len(shard.keyspace) == 2
    assert shard.store is shard.keyspace.strings


def test_data_outlive_a_restart(bench: Any, call: Callable[..., Any]) -> None:
    shard = bench.shard()
    client = bench.client(shard)
    call(client, "RPUSH", "l", "1", "2")
    call(client, "SET", "k", "1", "EX", "100")
    client.close()
    shard.stop()
    shard.start()
    client = bench.client(shard)
    assert call(client, "LRANGE", "l", "0", "-1") == [b"1", b"2"]
    assert call(client, "TTL", "k") in (99, 100)


def test_a_keyspace_of_its_own_has_no_bound_but_memory() -> None:
    keyspace = Keyspace(lambda: 0)
    for number in range(1000):
        keyspace.make(b"%d" % number, Stream)
    assert len(keyspace) == 1000
    keyspace.clear()
    assert keyspace.all_keys() == []
