"""The embedded shard beside two oracles: redis-py as its client, and a real Redis given the same commands."""

from __future__ import annotations

from collections.abc import Iterator
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
