"""The embedded shard beside two oracles: redis-py as its client, and a real Redis given the same commands, by one
client and by several that wait for each other."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import hiredis
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordemu.runtime.threads import ThreadsRuntime
from coordemu.shards.real_redis import RedisServer
from coordemu.shards.resp_client import RespClient

PASSWORD = "geheim"


def connect(port: int, protocol: int, password: str | None = PASSWORD) -> redis.Redis:
    return redis.Redis(port=port, protocol=protocol, password=password, socket_timeout=10, retry=None)


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_talks_to_it(served: Any, protocol: int) -> None:
    with connect(served(PASSWORD).address.port, protocol) as client:
        assert client.ping()
        assert client.echo("hello") == b"hello"
        assert client.set("a", b"\x00\xff")
        assert client.get("a") == b"\x00\xff"
        assert client.get("b") is None
        assert client.delete("a", "b") == 1
        found = client.execute_command("_FT.SEARCH", "idx", "q1", "SERVICE", "1000")
        assert found == ({b"total_results": 1, b"results": [b"q1"]} if protocol == 3 else [1, b"q1"])
        with client.pipeline(transaction=False) as pipe:
            for number in range(100):
                pipe.echo(str(number))
            assert pipe.execute() == [str(number).encode() for number in range(100)]
        with pytest.raises(redis.ResponseError, match="unknown command 'NOPE'"):
            client.execute_command("NOPE")


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("password", [None, "wrong"])
def test_redis_py_understands_its_refusals(served: Any, protocol: int, password: str | None) -> None:
    with connect(served(PASSWORD).address.port, protocol, password) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


@pytest.fixture(scope="module")
def real() -> Iterator[tuple[ThreadsRuntime, RedisServer]]:
    rt = ThreadsRuntime(seed=1)
    with RedisServer(rt, password=PASSWORD) as server:
        yield rt, server


ODDITIES: list[tuple[str | bytes, ...]] = [
    *[("PING", "a", "b"), ("ECHO",), ("ECHO", "a", "b"), ("GET",), ("GET", "a", "b"), ("SET", "a"), ("DEL",)],
    *[("AUTH",), ("AUTH", "a", "b", "c"), ("HELLO",), ("HELLO", "x"), ("HELLO", "2", "AUTH", "default")],
    *[("CLIENT",), ("CLIENT", "NOPE"), ("CLIENT", "SETNAME"), ("CLIENT", "SETNAME", "me"), ("SET", "a", "b", "NOPE")],
    *[("NOPE",), ("NOPE", "x"), (b"\xff\r\n", "x"), ("",)],
]


def commands() -> st.SearchStrategy[tuple[str | bytes, ...]]:
    keys = st.sampled_from(["a", "b", "c"])
    values = st.binary(max_size=20)
    right, wrong = st.just(("AUTH", PASSWORD)), st.just(("AUTH", "wrong"))
    return st.one_of(
        st.just(("PING",)),
        st.tuples(st.sampled_from(["PING", "ping", "ECHO"]), values),
        st.tuples(st.just("SET"), keys, values),
        st.tuples(st.just("GET"), keys),
        st.lists(keys, min_size=1, max_size=3).map(lambda some: ("DEL", *some)),
        right,
        wrong,
        st.tuples(st.just("AUTH"), st.sampled_from(["default", "nobody"]), st.sampled_from([PASSWORD, "wrong"])),
        st.tuples(st.just("HELLO"), st.sampled_from(["2", "3", "4"])),
        st.tuples(
            st.just("HELLO"),
            st.sampled_from(["2", "3"]),
            st.just("AUTH"),
            st.just("default"),
            st.sampled_from([PASSWORD, "wrong"]),
        ),
        st.sampled_from(ODDITIES),
    )


def comparable(reply: Any) -> Any:
    """Errors by their code (the words are ours); HELLO by the shape of what both have."""
    if isinstance(reply, hiredis.ReplyError):
        return ("error", str(reply).split(" ")[0])
    if isinstance(reply, dict):
        return ("map", reply[b"proto"], sorted(reply))
    if isinstance(reply, list):
        return ("list", reply[reply.index(b"proto") + 1], sorted(reply[::2]))
    return reply


Script = list[tuple[str | bytes, ...]]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(commands(), max_size=15), st.booleans())
def test_it_answers_as_a_real_redis_does(
    bench: Any, real: tuple[ThreadsRuntime, RedisServer], script: Script, authenticated: bool
) -> None:
    compare(bench, real, script, authenticated)


@pytest.mark.parametrize("authenticated", [False, True])
@pytest.mark.parametrize("command", ODDITIES, ids=repr)
def test_it_refuses_as_a_real_redis_does(
    bench: Any, real: tuple[ThreadsRuntime, RedisServer], command: tuple[str | bytes, ...], authenticated: bool
) -> None:
    compare(bench, real, [command], authenticated)


def compare(bench: Any, real: tuple[ThreadsRuntime, RedisServer], script: Script, authenticated: bool) -> None:
    rt, server = real
    script = [("AUTH", PASSWORD), ("DEL", "a", "b", "c"), *script] if authenticated else script
    shard = bench.shard(password=PASSWORD)
    ours = bench.client(shard)
    ours.begin(script)
    with RespClient(rt, server.address) as theirs:
        theirs.begin([("AUTH", PASSWORD), ("DEL", "a", "b", "c")])
        theirs.finish(10_000)
    with RespClient(rt, server.address) as theirs:
        theirs.begin(script)
        expected = theirs.finish(10_000)
    assert list(map(comparable, ours.finish(10_000))) == list(map(comparable, expected))
    ours.close()
    shard.stop()


# Commands for data, at random.

INTEGERS = ("0", "1", "-1", "2", "3", "9223372036854775807", "-9223372036854775808", "x", "01")
KEYS, WORDS = ("a", "b"), ("", "x", "y", "7")
SCORES = ("0", "1", "2", "(1", "-inf", "+inf", "1.5")
IDS = ("0", "1-1", "1-2", "2", "3-7", "-", "+", "(1-1", "$", ">", "x")
# Each letter stands for one of a kind: k key, v word, i integer, s score, d id, g group, c consumer.
TEMPLATES = """
SET k v; SET k i; GET k; SET k v NX; SET k v XX; SET k v GET; SETNX k v; MGET k k; STRLEN k; DEL k; EXISTS k k; TYPE k
INCR k; DECR k; INCRBY k i; DECRBY k 3; PERSIST k; TTL k; DBSIZE
LPUSH k v v; RPUSH k v; RPUSH k v v v; LPOP k; RPOP k; LPOP k i; RPOP k 2; LLEN k; LRANGE k i i; LINDEX k i; LREM k i v
LTRIM k i i; LMOVE k k LEFT RIGHT; LMOVE k k RIGHT LEFT; RPOPLPUSH k k; BLPOP k k 0.01; LRANGE k 0 -1
HSET k v v; HSET k v i; HGET k v; HDEL k v; HDEL k v v; HGETALL k; HINCRBY k v i; HLEN k; HEXISTS k v; HMGET k v v
SADD k v v; SREM k v; SCARD k; SISMEMBER k v
ZADD k s v; ZADD k s v s v; ZADD k NX s v; ZADD k XX CH s v; ZADD k GT s v; ZREM k v; ZCARD k; ZSCORE k v; ZRANGE k i i
ZRANGE k 0 -1 WITHSCORES; ZRANGEBYSCORE k s s; ZCOUNT k s s
XADD k d v v; XADD k 1-1 v v; XADD k 1-2 v v; XADD k 2-1 v v; XADD k 3-1 v v; XADD k MAXLEN = 2 3-2 v v; XLEN k
XDEL k d; XDEL k 1-1 2-1; XRANGE k d d; XREVRANGE k + -; XTRIM k MAXLEN i; XREAD COUNT 2 STREAMS k d
XGROUP CREATE k g d; XGROUP CREATE k g 0; XGROUP CREATE k g $ MKSTREAM; XGROUP DESTROY k g; XGROUP SETID k g d
XGROUP DELCONSUMER k g c; XREADGROUP GROUP g c COUNT 1 STREAMS k >; XREADGROUP GROUP g c STREAMS k >
XREADGROUP GROUP g c STREAMS k 0; XREADGROUP GROUP g c COUNT 1 STREAMS k d; XREADGROUP GROUP g c NOACK STREAMS k >
XACK k g 1-1 2-1; XACK k g d; XPENDING k g; XPENDING k g - + 9; XPENDING k g d d 2 c; XINFO GROUPS k
XCLAIM k g c 0 1-1 2-1; XCLAIM k g c 0 1-2 JUSTID; XCLAIM k g c 0 2-1 FORCE; XAUTOCLAIM k g c 0 0; XINFO CONSUMERS k x
XAUTOCLAIM k g c 0 d COUNT 1; MULTI; EXEC; DISCARD; NOPE; GET
"""
KINDS = {"k": KEYS, "v": WORDS, "i": INTEGERS, "s": SCORES, "d": IDS, "g": ("g", "h"), "c": ("one", "two")}


def filled(template: str) -> st.SearchStrategy[tuple[str, ...]]:
    return st.tuples(*[st.sampled_from(KINDS[word]) if word in KINDS else st.just(word) for word in template.split()])


STREAM_TEMPLATES = [each for each in re.split(r"[;\n]", TEMPLATES) if each.split() and each.split()[0][0] == "X"]
DATA = st.one_of([filled(each) for each in re.split(r"[;\n]", TEMPLATES) if each.split()])
OF_STREAMS = st.one_of([filled(each) for each in STREAM_TEMPLATES])


class Voice:
    """One raw client: what it asked, and what it was answered."""

    def __init__(self, bench: Any, address: Any) -> None:
        self.peer = bench.peer(type("At", (), {"address": address}))
        self.asked = 0

    def say(self, *commands: tuple[str, ...]) -> None:
        self.asked += len(commands)
        self.peer.send(*commands)

    @property
    def replies(self) -> list[Any]:
        reader = hiredis.Reader(notEnoughData=Ellipsis)
        reader.feed(self.peer.received)
        return list(iter(reader.gets, ...))

    @property
    def owed(self) -> int:
        return self.asked - len(self.replies)


def without_times(reply: Any) -> Any:
    """The rows of XPENDING without how long they are idle; errors by their text, but for where it is ours."""
    if isinstance(reply, hiredis.ReplyError):
        text = str(reply)
        ours = ("ERR The ", "ERR unknown command", "ERR Unbalanced")
        return text[: 19 if text.startswith(ours) else None]
    if isinstance(reply, list):
        row = [without_times(each) for each in reply]
        is_pending = len(row) == 4 and isinstance(row[0], bytes) and isinstance(row[2], int)
        return [*row[:2], "idle", row[3]] if is_pending else row
    return reply


def compare_data(bench: Any, server: RedisServer, script: list[tuple[str, ...]], protocol: str) -> None:
    shard = bench.shard()
    voices = [Voice(bench, address) for address in (server.address, shard.address)]
    for voice in voices:
        voice.say(("AUTH", PASSWORD), ("FLUSHALL",), ("HELLO", protocol))
        bench.turn_until(lambda voice=voice: not voice.owed)
        voice.peer.pieces.clear()
        voice.asked = 0
        voice.say(*script)
    bench.turn_until(lambda: not any(voice.owed for voice in voices))
    theirs, ours = ([without_times(reply) for reply in voice.replies] for voice in voices)
    assert list(zip(script, ours, strict=True)) == list(zip(script, theirs, strict=True))
    for voice in voices:
        voice.peer.transport.abort()
    shard.stop()


few = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@few
@given(st.lists(DATA, max_size=40), st.sampled_from(["2", "3"]))
def test_data_commands_answer_as_a_real_redis_does(
    bench: Any, real: tuple[ThreadsRuntime, RedisServer], script: list[tuple[str, ...]], protocol: str
) -> None:
    compare_data(bench, real[1], script, protocol)


@few
@given(st.lists(OF_STREAMS, max_size=40), st.sampled_from(["2", "3"]))
def test_streams_answer_as_a_real_redis_does(
    bench: Any, real: tuple[ThreadsRuntime, RedisServer], script: list[tuple[str, ...]], protocol: str
) -> None:
    begin = [("XGROUP", "CREATE", "a", "g", "0", "MKSTREAM"), ("XADD", "a", "1-1", "n", "1")]
    compare_data(bench, real[1], [*begin, *script], protocol)


# Several clients, some of which wait.

CLIENTS = 4
WAITING = """
BLPOP q 0; BRPOP q p 0; BRPOP p q 0; BLMOVE q p LEFT RIGHT 0; BLMOVE p q RIGHT LEFT 0; BRPOPLPUSH q q 0
XREAD BLOCK 0 STREAMS q $; XREAD BLOCK 0 STREAMS q p $ 0; XREADGROUP GROUP g one BLOCK 0 STREAMS q >
XREADGROUP GROUP g two COUNT 1 BLOCK 0 NOACK STREAMS q >
RPUSH q 1; LPUSH q 2 3; RPUSH p 4 5 6; LPOP q; LLEN q; LRANGE p 0 -1; DEL q; DEL p; SET p text; SET q text; EXISTS q p
XADD q 1-1 a b; XADD q 2-1 a b; XADD q 3-1 a b; XGROUP CREATE q g 0 MKSTREAM; XGROUP DESTROY q g; XPENDING q g; XLEN q
MULTI | RPUSH q 7 | RPUSH p 8 | EXEC; MULTI | RPUSH p 7 | RPUSH q 8 9 | LPOP q | EXEC; MULTI | LPUSH q 7 | DEL q | EXEC
MULTI | XADD q 4-1 a b | XADD q 5-1 a b | EXEC; RPUSH q 7 | LLEN q | LPOP q; BLPOP q 0 | PING | BLPOP p 0; hang up
"""
STEPS = st.tuples(
    st.integers(0, CLIENTS - 1), st.sampled_from([each.strip() for each in re.split(r"[;\n]", WAITING) if each])
)


class Party:
    """Some clients of one server. blocked: how many of all the server's clients are, as it says itself."""

    def __init__(self, bench: Any, address: Any, blocked: Callable[[], int]) -> None:
        self.bench = bench
        self.blocked = blocked
        self.voices = [Voice(bench, address) for _ in range(CLIENTS)]
        self.present = set(range(CLIENTS))
        for voice in self.voices:
            voice.say(("AUTH", PASSWORD))
        self.settle()

    def settle(self) -> None:
        """Until each client that is owed a reply is known to wait. Asked twice: the first answer may be an old one."""
        agreed = 0
        while agreed < 2:
            self.bench.turn_for(0.1)
            waiting = sum(self.voices[number].owed > 0 for number in self.present)
            agreed = agreed + 1 if self.blocked() == waiting else 0

    def step(self, number: int, commands: str) -> None:
        voice = self.voices[number]
        if number not in self.present:
            return
        if commands == "hang up":
            voice.peer.transport.abort()
            self.present.discard(number)
        elif not voice.owed:
            voice.say(*[tuple(command.split()) for command in commands.split("|")])
        self.settle()

    def end(self) -> None:
        for number in self.present:
            self.voices[number].peer.transport.abort()
        self.present.clear()
        self.settle()


@few
@given(st.lists(STEPS, max_size=14))
def test_those_that_wait_are_served_as_by_a_real_redis(
    bench: Any, real: tuple[ThreadsRuntime, RedisServer], steps: list[tuple[int, str]]
) -> None:
    shard = bench.shard(password=PASSWORD)
    control = Voice(bench, real[1].address)

    def blocked() -> int:
        control.peer.pieces.clear()
        control.asked = 0
        control.say(("INFO", "clients"))
        bench.turn_until(lambda: not control.owed)
        found = re.search(rb"blocked_clients:(\d+)", control.replies[0])
        assert found is not None
        return int(found[1])

    control.say(("AUTH", PASSWORD), ("FLUSHALL",))
    bench.turn_until(lambda: not control.owed)
    theirs = Party(bench, real[1].address, blocked)
    ours = Party(bench, shard.address, lambda: len(shard.blocked))
    for number, commands in steps:
        theirs.step(number, commands)
        ours.step(number, commands)
        said, wanted = (
            [[without_times(reply) for reply in voice.replies] for voice in party.voices] for party in (ours, theirs)
        )
        assert said == wanted, (number, commands)
    theirs.end()
    ours.end()
    control.peer.transport.abort()
    shard.stop()


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_uses_its_data_commands(served: Any, protocol: int) -> None:
    with connect(served(PASSWORD).address.port, protocol) as client:
        with client.pipeline() as pipe:  # a transaction
            pipe.rpush("q", "a", "b").hset("h", mapping={"x": 1}).incr("n").zadd("z", {"m": 1.5}).sadd("s", "e")
            assert pipe.execute() == [2, 1, 1, 1, 1]
        assert client.brpop(["q"], timeout=1)[1] == b"b"
        assert client.hgetall("h") == {b"x": b"1"}
        assert client.smembers("s") == {b"e"}
        assert client.zscore("z", "m") == 1.5
        assert client.xgroup_create("st", "g", "$", mkstream=True)
        ident = client.xadd("st", {"f": "v"}, maxlen=10)
        ((_, entries),) = list(dict(client.xreadgroup("g", "me", {"st": ">"}, count=5, block=10)).items())
        assert entries in ([(ident, {b"f": b"v"})], [[(ident, {b"f": b"v"})]])
        assert client.xpending("st", "g")["pending"] == 1
        assert client.xautoclaim("st", "g", "you", 0)[1][0][0] == ident
        assert client.xack("st", "g", ident) == 1
        with client.pubsub() as pubsub:
            pubsub.subscribe("c")
            assert pubsub.get_message(timeout=5)["type"] == "subscribe"
            assert client.publish("c", "hello") == 1
            assert pubsub.get_message(timeout=5)["data"] == b"hello"
            pubsub.unsubscribe("c")
            assert pubsub.get_message(timeout=5)["data"] == 0
