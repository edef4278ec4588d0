"""URLs of shards read, and each way in which shards are not there said in one line, in bounded time."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordemu.runtime.base import NS_PER_S, Address, Runtime, Transport
from coordemu.shards.real_redis import RedisServer
from coordemu.shards.shard_errors import ShardError, ShardUrlError
from coordemu.shards.shard_url import ShardSpec, check_reachable, parse_shard_url

A1, A2 = Address("127.0.0.1", 7001), Address("127.0.0.1", 7002)
SOCKET = Address(path="/run/a.sock")


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("embedded:3", ShardSpec("embedded", 3)),
        ("embedded-unix:1", ShardSpec("embedded", 1, unix=True)),
        ("redis:2", ShardSpec("redis", 2)),
        ("redis-unix:2", ShardSpec("redis", 2, unix=True)),
        ("cluster:3", ShardSpec("cluster", 3)),
        ("redis://127.0.0.1:7001", ShardSpec("redis", 1, (A1,))),
        ("redis://127.0.0.1:7001/", ShardSpec("redis", 1, (A1,))),
        ("redis://127.0.0.1:7001,127.0.0.1:7002", ShardSpec("redis", 2, (A1, A2))),
        ("redis://:p%40%3Aw@127.0.0.1:7001", ShardSpec("redis", 1, (A1,), "p@:w")),
        ("redis://:p@w@127.0.0.1:7001", ShardSpec("redis", 1, (A1,), "p@w")),
        ("redis://default:pw@127.0.0.1:7001", ShardSpec("redis", 1, (A1,), "pw")),
        ("redis://db-1.example", ShardSpec("redis", 1, (Address("db-1.example", 6379),))),
        ("redis://[::1]:7001,[fe80::2]", ShardSpec("redis", 2, (Address("::1", 7001), Address("fe80::2", 6379)))),
        ("unix:///run/a.sock,/run/b.sock", ShardSpec("redis", 2, (SOCKET, Address(path="/run/b.sock")))),
        ("unix://:pw@/run/a.sock", ShardSpec("redis", 1, (SOCKET,), "pw")),
        ("cluster://:pw@127.0.0.1:7001", ShardSpec("cluster", 1, (A1,), "pw")),
    ],
)
def test_texts_that_are_understood(text: str, spec: ShardSpec) -> None:
    assert parse_shard_url(text) == spec
    assert parse_shard_url(text).own is (spec.addresses == ())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "'' is none of embedded:N"),
        ("embedded", "'embedded' is none of embedded:N"),
        ("embedded:", "is none of embedded:N"),
        ("embedded:0", "embedded:0 is not within embedded:1 and embedded:4096"),
        ("embedded:4097", "not within"),
        ("embedded:-1", "is none of"),
        ("embedded:3x", "is none of"),
        ("redis:65", "not within redis:1 and redis:64"),
        ("cluster:2", "not within cluster:3"),
        ("cluster-unix:3", "over TCP only"),
        ("http://127.0.0.1:80", "is none of"),
        ("rediss://127.0.0.1:7001", "needs TLS"),
        ("redis://", "'' is not host:port"),
        ("redis://127.0.0.1:7001,", "'' is not host:port"),
        ("redis://127.0.0.1:", "is not host:port"),
        ("redis://127.0.0.1:7001/5", "is not host:port"),
        ("redis://127.0.0.1:0", "port 0 in '127.0.0.1:0' is not within 1..65535"),
        ("redis://127.0.0.1:65536", "not within 1..65535"),
        ("redis://127.0.0.1:7001,127.0.0.1:7001", "127.0.0.1:7001 is given twice"),
        ("redis://secret@127.0.0.1:7001", "with a colon and a password before the @"),
        ("redis://:@127.0.0.1:7001", "with a colon and a password before the @"),
        ("redis://alice:secret@127.0.0.1:7001", "user 'alice': only the default user"),
        ("redis:/:secret@host", "is none of"),
        ("nope://:secret@host", "is none of"),
        ("unix://relative.sock", "is not the full path"),
        ("unix:///" + "a" * 107, "107 bytes at most"),
    ],
)
def test_texts_that_are_refused(text: str, says: str) -> None:
    with pytest.raises(ShardUrlError) as caught:
        parse_shard_url(text)
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


passwords = st.text(st.characters(codec="utf-8"), min_size=1)
hosts = st.from_regex(r"[a-z0-9][a-z0-9.-]{0,20}", fullmatch=True)
addresses = st.lists(st.builds(Address, hosts, st.integers(1, 65535)), min_size=1, max_size=8, unique=True)


@given(addresses, st.none() | passwords, st.sampled_from(["redis", "cluster"]))
def test_addresses_and_passwords_go_through_the_text(found: list[Address], password: str | None, kind: str) -> None:
    secret = "" if password is None else f":{quote(password, safe='')}@"
    spec = parse_shard_url(f"{kind}://{secret}{','.join(map(str, found))}")
    assert spec == ShardSpec(kind, len(found), tuple(found), password)
    assert str(spec) == f"{kind}://{'' if password is None else ':***@'}{','.join(map(str, found))}"
    if password is None:
        assert parse_shard_url(str(spec)) == spec


@given(st.integers(1, 4096), st.booleans())
def test_own_shards_go_through_the_text(count: int, unix: bool) -> None:
    spec = ShardSpec("embedded", count, unix=unix)
    assert parse_shard_url(str(spec)) == spec


@given(st.text())
def test_any_text_is_understood_or_refused_in_one_line(text: str) -> None:
    try:
        parse_shard_url(text)
    except ShardUrlError as refusal:
        assert len(str(refusal).splitlines()) == 1  # noqa: PT017 (most texts are refused, a few are not)


# whether they are there


def spec_of(*found: Address, kind: str = "redis", password: str | None = None) -> ShardSpec:
    return ShardSpec(kind, len(found), found, password)


def complaint(rt: Runtime, spec: ShardSpec, timeout_ms: float = 1_500) -> str:
    """The one line, without the address; it must come within two seconds of the limit, however slow the machine."""
    began_ns = rt.now_ns()
    with pytest.raises(ShardError) as caught:
        check_reachable(rt, spec, timeout_ms)
    assert rt.now_ns() - began_ns < 5 * NS_PER_S
    assert "\n" not in str(caught.value)
    prefix = f"shard {spec.addresses[0]}: "
    assert str(caught.value).startswith(prefix)
    return str(caught.value).removeprefix(prefix)


def speaker(rt: Runtime, words: bytes, *, hang_up: bool = False, echo: bool = False) -> Any:
    """A server on a task of its own that says the same to everyone. Returns its address and how to end it."""
    loop = rt.loop("speaker")

    class Speaker:
        def __init__(self, transport: Transport) -> None:
            self.transport = transport

        def on_connect(self) -> None: ...

        def on_data(self, data: bytes) -> None:
            if echo:
                self.transport.write(data)
            if hang_up:
                self.transport.close()

        def on_close(self, reason: str | None) -> None: ...

    def accept(transport: Transport) -> Speaker:
        if words:
            transport.write(words)
        return Speaker(transport)

    address = loop.listen(Address(), accept).address
    task = rt.spawn(loop.run, name="speaker")

    def end() -> None:
        loop.stop()
        assert task.join(10 * NS_PER_S)
        loop.close()

    return address, end


def test_all_there(rt: Runtime, served: Any) -> None:
    spec = spec_of(served("pw").address, served("pw").address, password="pw")
    assert check_reachable(rt, spec) is spec


def test_own_shards_are_not_asked(rt: Runtime) -> None:
    spec = parse_shard_url("embedded:3")
    assert check_reachable(rt, spec) is spec


def test_refused(rt: Runtime, bench: Any, nothing_left: None) -> None:
    shard = bench.shard("refuse=listen")
    assert complaint(rt, spec_of(shard.address)) == "Connection refused"


def test_every_wrong_one_is_counted(rt: Runtime, bench: Any, served: Any) -> None:
    shards = [bench.shard("refuse=listen").address for _ in range(3)]
    assert complaint(rt, spec_of(shards[0], served().address, *shards[1:])) == "Connection refused (and 2 more)"


def test_no_socket_file(rt: Runtime) -> None:
    assert complaint(rt, spec_of(Address(path="/nonexistent/redis.sock"))) == "No such file or directory"


def test_silence(rt: Runtime) -> None:
    address, end = speaker(rt, b"")
    assert complaint(rt, spec_of(address), 50) == "no answer within 50 ms"
    end()


def test_ten_silent_ones_take_no_longer_than_one(rt: Runtime) -> None:
    silent = [speaker(rt, b"") for _ in range(10)]
    began_ns = rt.now_ns()
    assert complaint(rt, spec_of(*[address for address, _ in silent]), 300) == "no answer within 300 ms (and 9 more)"
    assert rt.now_ns() - began_ns < 10 * 300_000_000
    for _, end in silent:
        end()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak RESP (it sent b'HTTP/1.1 400 Bad Request\\r\\n\\r\\n')"),
        (b"+HELLO\r\n", "answered PING with b'HELLO', so it is no Redis server"),
        (b"-LOADING Redis is loading\r\n", "answered PING with an error: LOADING Redis is loading"),
    ],
)
def test_something_else_is_there(rt: Runtime, words: bytes, says: str) -> None:
    address, end = speaker(rt, words)
    assert complaint(rt, spec_of(address)) == says
    end()


def test_an_echo_service_is_there(rt: Runtime) -> None:
    address, end = speaker(rt, b"", echo=True)
    assert complaint(rt, spec_of(address)) == "answered PING with [b'PING'], so it is no Redis server"
    end()


def test_it_hangs_up(rt: Runtime) -> None:
    address, end = speaker(rt, b"", hang_up=True)
    assert complaint(rt, spec_of(address)) == "closed the connection"
    end()


@pytest.mark.parametrize("real", [False, True])
def test_passwords(rt: Runtime, served: Any, real: bool) -> None:
    if real:
        with RedisServer(rt, password="right") as locked, RedisServer(rt) as unlocked:
            complain_about_passwords(rt, locked.address, unlocked.address)
    else:
        complain_about_passwords(rt, served("right").address, served().address)


def complain_about_passwords(rt: Runtime, locked: Address, unlocked: Address) -> None:
    assert complaint(rt, spec_of(locked)) == "needs a password (NOAUTH)"
    assert complaint(rt, spec_of(locked, password="wrong")) == "wrong password (WRONGPASS)"
    assert complaint(rt, spec_of(unlocked, password="x")) == "a password was given, but the server has none"
    check_reachable(rt, spec_of(locked, password="right"))
    check_reachable(rt, spec_of(unlocked))


def test_no_cluster(rt: Runtime, served: Any) -> None:
    with RedisServer(rt) as server:
        says = complaint(rt, spec_of(server.address, kind="cluster"))
        assert says == "is not a cluster (This instance has cluster support disabled)"
    assert complaint(rt, spec_of(served().address, kind="cluster")) == "is not a cluster (unknown command 'CLUSTER')"


def test_a_cluster_without_slots(rt: Runtime) -> None:
    with RedisServer(rt, cluster=True) as server:
        assert complaint(rt, spec_of(server.address, kind="cluster")) == "its cluster has no slots assigned"


def test_a_cluster_whose_slots_make_no_sense(rt: Runtime) -> None:
    address, end = speaker(rt, b"+PONG\r\n*1\r\n+nonsense\r\n")
    assert complaint(rt, spec_of(address, kind="cluster")) == "its answer to CLUSTER SLOTS makes no sense"
    end()


def test_a_cluster_of_which_a_master_is_missing(rt: Runtime, bench: Any) -> None:
    absent = Address(path="/nonexistent")  # never asked: the seed that answers names others
    slots = (
        b"*2\r\n*3\r\n:8192\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:1\r\n*3\r\n:0\r\n:8191\r\n*2\r\n$0\r\n\r\n:%d\r\n"
    )
    missing = bench.shard("refuse=listen").address
    answering, end = speaker(rt, b"+PONG\r\n" + slots % missing.port)
    with pytest.raises(ShardError) as caught:
        check_reachable(rt, spec_of(absent, answering, kind="cluster"))
    assert str(caught.value) == f"shard 127.0.0.1:{missing.port}: Connection refused (and 1 more)"
    end()
