"""The server's main thread: commands and replies, the module lock, yields."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from coordemu.coord.conn_handshake import pack_command
from coordemu.coord.host import HostClient, Reply
from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Address

LONG_NS = 10 * NS_PER_S
Dial = Callable[[Address], Any]
Eventually = Callable[..., Any]


@pytest.fixture
def bench(host_bench: Any) -> Any:
    return host_bench


@pytest.fixture
def client(bench: Any, dial: Dial) -> Any:
    return dial(bench.host.address)


@pytest.fixture
def other(bench: Any, dial: Dial) -> Any:
    return dial(bench.host.address)


# ---- commands and replies


def test_ping(client: Any) -> None:
    assert client.call("PING") == b"PONG"
    assert client.call("ping", "hello") == b"hello"
    assert str(client.call("PING", "a", "b")) == "ERR wrong number of arguments for 'ping' command"


def test_a_command_runs_on_main_with_the_module_lock_held(bench: Any, client: Any) -> None:
    assert client.call("Say", "x") == b"x"
    assert bench.seen["task"] is bench.seen["owner"] is bench.host.task
    assert bench.host.task is not None
    assert bench.host.task.name == "main"


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (pack_command("NOPE", "x"), "ERR unknown command 'NOPE'"),
        (pack_command(b"\xff\r\n"), "ERR unknown command '\ufffd  '"),
        (b"*0\r\n", "ERR a command is an array of bulk strings"),
        (b":1\r\n", "ERR a command is an array of bulk strings"),
        (b"*1\r\n$-1\r\n", "ERR a command is an array of bulk strings"),
        (b"*1\r\n*1\r\n$4\r\nPING\r\n", "ERR a command is an array of bulk strings"),
        (b"#f\r\n", "ERR a command is an array of bulk strings"),
        (b"_\r\n", "ERR a command is an array of bulk strings"),
        (b"-PING\r\n", "ERR a command is an array of bulk strings"),
    ],
)
def test_what_is_no_command_gets_an_error_and_the_next_one_its_reply(client: Any, sent: bytes, said: str) -> None:
    client.send_raw(sent + pack_command("PING"))
    assert str(client.read()) == said
    assert client.read() == b"PONG"


def test_pipelined_commands_are_answered_in_their_order(bench: Any, client: Any) -> None:
    client.send_raw(b"".join(pack_command("SAY", str(number)) for number in range(200)))
    assert [int(client.read()) for _ in range(200)] == list(range(200))
    assert bench.ran == [str(number) for number in range(200)]


def test_a_command_may_come_in_pieces(bench: Any, client: Any, eventually: Eventually) -> None:
    data = pack_command("SAY", "in pieces")
    for size in range(1, len(data)):
        client.send_raw(data[size - 1 : size])
        eventually(lambda: bench.host.loop.statistics()["bytes_in"] == size)  # noqa: B023
    assert bench.ran == []
    client.send_raw(data[-1:])
    assert client.read() == b"in pieces"


def test_a_protocol_error_is_answered_and_ends_the_connection(bench: Any, client: Any, other: Any) -> None:
    client.send_raw(pack_command("SAY", "before") + b"!nonsense\r\n" + pack_command("SAY", "after"))
    assert client.read() == b"before"
    assert str(client.read()).startswith("ERR Protocol error")
    with pytest.raises(EOFError):
        client.read()
    assert other.call("PING") == b"PONG"
    assert bench.ran == ["before"]
    assert bench.host.statistics()["clients"] == 1


def test_a_protocol_error_behind_a_blocked_command_does_not_hurt_main(bench: Any, client: Any, other: Any) -> None:
    client.send_raw(pack_command("BLOCK") + b"!nonsense\r\n")
    bench.next_blocked().unblock(b"+done\r\n")
    assert client.read() == b"done"
    assert str(client.read()).startswith("ERR Protocol error")
    with pytest.raises(EOFError):
        client.read()
    assert other.call("PING") == b"PONG"


# ---- the module lock


def test_main_lets_go_of_the_lock_while_it_polls(bench: Any, client: Any, eventually: Eventually) -> None:
    lock = bench.host.module_lock
    assert lock.acquire(LONG_NS)
    client.send("PING")
    eventually(lambda: bench.host.task in lock.waiters(), "main back from its poll")
    assert not client.answered
    lock.release()
    assert client.read() == b"PONG"


def test_inside_a_command_the_lock_stays_taken(bench: Any, client: Any, other: Any) -> None:
    client.send("WAIT")
    assert bench.inside.wait(LONG_NS)
    other.send("PING")
    assert bench.host.module_lock.owner is bench.host.task
    assert not bench.host.module_lock.acquire(0)
    assert not other.answered
    bench.go.set()
    assert (client.read(), other.read()) == (b"waited", b"PONG")


def test_a_yield_answers_ping_and_lets_others_have_the_lock(bench: Any, client: Any, other: Any) -> None:
    client.send("YIELD")
    assert bench.inside.wait(LONG_NS)
    assert [other.call("PING", str(number)) for number in range(5)] == [b"0", b"1", b"2", b"3", b"4"]
    with bench.host.module_lock:
        pass
    assert bench.host.statistics()["yields"] > 0
    assert not client.answered
    bench.go.set()
    assert client.read() == b"yielded"


def test_the_lock_can_be_let_go_without_serving_anybody(
    bench: Any, client: Any, other: Any, eventually: Eventually
) -> None:
    def handler(_client: HostClient, _args: Sequence[bytes]) -> Reply:
        with bench.host.module_lock_released():
            bench.inside.set()
            bench.go.wait()
        bench.seen["again"] = bench.host.module_lock.owner is bench.host.task
        return b"+released\r\n"

    bench.host.command("RELEASED", handler)
    client.send("RELEASED")
    assert bench.inside.wait(LONG_NS)
    other.send("PING")
    with bench.host.module_lock:
        bench.go.set()
        eventually(lambda: bench.host.task in bench.host.module_lock.waiters())
        assert not other.answered
    assert (client.read(), other.read()) == (b"released", b"PONG")
    assert bench.seen["again"]


# ---- yields


def test_in_a_yield_the_clients_own_further_commands_wait(bench: Any, client: Any, other: Any) -> None:
    client.send("YIELD")
    assert bench.inside.wait(LONG_NS)
    client.send("SAY", "mine")
    assert other.call("SAY", "other") == b"other"
    assert other.call("PING") == b"PONG"
    assert bench.ran == ["other"]
    bench.go.set()
    assert (client.read(), client.read()) == (b"yielded", b"mine")


def test_yields_may_be_nested(bench: Any, client: Any, other: Any, dial: Dial) -> None:
    third = dial(bench.host.address)
    client.send("YIELD")
    assert bench.inside.wait(LONG_NS)
    bench.inside.clear()
    other.send("YIELD")
    assert bench.inside.wait(LONG_NS)
    assert third.call("PING") == b"PONG"
    bench.go.set()
    assert (client.read(), other.read()) == (b"yielded", b"yielded")


def test_yield_until_counts_its_looks(bench: Any, client: Any) -> None:
    found: list[tuple[bool, int]] = []
    answers = iter([False, False, False, True])

    def look(_client: HostClient, _args: Sequence[bytes]) -> Reply:
        found.append(bench.host.yield_until(lambda: True, NS_PER_MS, 0))
        found.append(bench.host.yield_until(lambda: False, NS_PER_MS, 0))
        found.append(bench.host.yield_until(lambda: next(answers), 0, LONG_NS))
        before_ns = bench.rt.now_ns()
        found.append(bench.host.yield_until(lambda: False, NS_PER_MS, 5 * NS_PER_MS))
        bench.seen["took_ns"] = bench.rt.now_ns() - before_ns
        return b"+ok\r\n"

    bench.host.command("LOOK", look)
    assert client.call("LOOK") == b"ok"
    assert found[:3] == [(True, 1), (False, 1), (True, 4)]
    held, looks = found[3]
    assert not held
    assert looks > 1
    assert bench.seen["took_ns"] >= 5 * NS_PER_MS


def test_only_main_can_yield(bench: Any, client: Any) -> None:
    client.send("WAIT")
    assert bench.inside.wait(LONG_NS)
    with pytest.raises(RuntimeError, match="second thread"):
        bench.host.yield_()
    bench.go.set()
    assert client.read() == b"waited"
