"""The server's main thread: blocked clients, work from other threads, its beginning and its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import hiredis
import pytest

from coordemu.coord.conn_handshake import pack_command
from coordemu.coord.host import BLOCKED, Host, HostClient, Reply
from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Address, Runtime

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


# ---- blocked clients


def test_a_blocked_client_waits_and_the_others_do_not(bench: Any, client: Any, other: Any) -> None:
    client.send_raw(pack_command("BLOCK") + pack_command("SAY", "second") + pack_command("SAY", "third"))
    held = bench.next_blocked()
    client.send("SAY", "fourth")
    assert other.call("PING") == b"PONG"
    assert (held.blocked, bench.ran, client.answered) == (True, [], False)
    assert repr(held).endswith("blocked>")
    held.unblock(b"+first\r\n")
    assert [client.read() for _ in range(4)] == [b"first", b"second", b"third", b"fourth"]
    assert other.call("PING") == b"PONG"
    assert not held.blocked


def test_clients_are_unblocked_from_any_thread_and_in_any_order(bench: Any, rt: Runtime, dial: Dial) -> None:
    clients = [dial(bench.host.address) for _ in range(8)]
    for client in clients:
        client.send("BLOCK")
        client.send("PING", "after")
        bench.next_blocked()
    tasks = [
        rt.spawn(held.unblock, b"+%d\r\n" % held.number, name=f"unblocks {held.number}")
        for held in reversed(bench.blocked)
    ]
    assert all(task.join(LONG_NS) for task in tasks)
    for client, held in zip(clients, bench.blocked, strict=True):
        assert int(client.read()) == held.number
        assert client.read() == b"after"


@pytest.mark.parametrize("how", ["reply_now", "unblock in a yield"])
def test_a_reply_that_comes_before_its_handler_returns(bench: Any, client: Any, how: str) -> None:
    def handler(held: HostClient, _args: Sequence[bytes]) -> Reply:
        if how == "reply_now":
            held.reply_now(b"+early\r\n")
        else:
            held.unblock(b"+early\r\n")
            assert bench.host.yield_until(lambda: not held.blocked, NS_PER_MS, LONG_NS)[0]
        return BLOCKED

    bench.host.command("EARLY", handler)
    client.send_raw(pack_command("EARLY") + pack_command("SAY", "next"))
    assert (client.read(), client.read()) == (b"early", b"next")
    assert client.call("PING") == b"PONG"


def test_a_client_that_goes_while_it_is_blocked(bench: Any, client: Any, other: Any, eventually: Eventually) -> None:
    client.send("BLOCK")
    client.send("SAY", "never")
    held = bench.next_blocked()
    client.close()
    eventually(lambda: bench.host.statistics()["clients"] == 1)
    assert held.closed
    assert repr(held).endswith("closed>")
    held.unblock(b"+late\r\n")
    # Posted after it, so run after it.
    later = bench.rt.event("what was posted later has run")
    bench.host.post(later.set)
    assert later.wait(LONG_NS)
    assert other.call("PING") == b"PONG"
    assert bench.ran == []


def test_a_client_that_goes_while_its_command_yields(
    bench: Any, client: Any, other: Any, eventually: Eventually
) -> None:
    client.send("YIELD")
    client.send("SAY", "never")
    assert bench.inside.wait(LONG_NS)
    client.close()
    eventually(lambda: bench.host.statistics()["clients"] == 1)
    bench.go.set()
    assert other.call("SAY", "still here") == b"still here"
    assert bench.ran == ["still here"]


# ---- posted work


def test_posted_work_runs_on_main_in_each_threads_order(bench: Any, rt: Runtime, eventually: Eventually) -> None:
    ran: list[tuple[int, int]] = []
    wrong: list[object] = []

    def work(thread: int, number: int) -> None:
        ran.append((thread, number))
        if rt.current() is not bench.host.task or bench.host.module_lock.owner is not bench.host.task:
            wrong.append(rt.current())

    def post(thread: int) -> None:
        for number in range(100):
            bench.host.post(partial(work, thread, number))

    tasks = [rt.spawn(post, thread, name=f"posts {thread}") for thread in range(4)]
    assert all(task.join(LONG_NS) for task in tasks)
    eventually(lambda: len(ran) == 400)
    assert wrong == []
    for thread in range(4):
        assert [number for of, number in ran if of == thread] == list(range(100))


def test_work_that_posts_work_does_not_keep_main_from_its_clients(
    bench: Any, client: Any, compute: Callable[[], None]
) -> None:
    times = [0]

    def again() -> None:
        times[0] += 1
        compute()
        if not bench.go.is_set():
            bench.host.post(again)

    bench.host.post(again)
    for number in range(20):
        assert client.call("PING", str(number)) == str(number).encode()
    assert times[0] >= 10
    bench.go.set()
    assert client.call("PING") == b"PONG"


def test_work_is_run_by_a_yield_once(bench: Any, client: Any, other: Any) -> None:
    ran: list[int] = []
    entered = bench.rt.event("entered")

    def nest() -> None:
        for number in range(3):
            bench.host.post(partial(ran.append, number))
        entered.set()
        bench.host.yield_until(lambda: len(ran) >= 3, NS_PER_MS, LONG_NS)

    def post_both() -> None:
        # From main itself, so that one turn finds both.
        bench.host.post(nest)
        bench.host.post(lambda: ran.append(99))

    bench.host.post(post_both)
    assert entered.wait(LONG_NS)
    assert other.call("PING") == b"PONG"
    assert ran == [99, 0, 1, 2]


# ---- the beginning and the end


def test_the_exception_of_a_handler_ends_main_and_is_reported(bench: Any, client: Any) -> None:
    client.send("FAIL")
    assert bench.host.task is not None
    assert bench.host.task.join(LONG_NS)
    assert isinstance(bench.host.task.error, KeyError)
    assert not bench.host.module_lock.locked()
    assert bench.host.stop(LONG_NS)
    with pytest.raises((EOFError, ConnectionError)):
        client.read()


def test_the_exception_of_posted_work_ends_main_inside_a_yield_too(bench: Any, client: Any) -> None:
    client.send("YIELD")
    assert bench.inside.wait(LONG_NS)
    bench.host.post(lambda: [][1])
    assert bench.host.task is not None
    assert bench.host.task.join(LONG_NS)
    assert isinstance(bench.host.task.error, IndexError)
    assert not bench.host.module_lock.locked()


def test_a_stop_leaves_no_thread_and_no_descriptor(
    rt: Runtime, dial: Dial, hand_over: Any, open_sockets: Callable[[], int]
) -> None:
    fds = open_sockets()
    host = Host(rt, lambda *line: None)

    def block(client: HostClient, _args: Sequence[bytes]) -> Reply:
        hand_over.put(client)
        return BLOCKED

    host.command("BLOCK", block)
    host.start()
    clients = [dial(host.address) for _ in range(5)]
    for client in clients:
        assert client.call("PING") == b"PONG"
    clients[0].send("BLOCK")
    held = hand_over.get(LONG_NS)
    assert host.stop(LONG_NS)
    assert host.stop(LONG_NS)
    for client in clients:
        with pytest.raises((EOFError, ConnectionError)):
            client.read()
        client.close()
    assert open_sockets() <= fds
    assert [task for task in rt.tasks() if task.name == "main"] == []
    assert host.statistics()["clients"] == 0
    # What comes too late finds nobody and does no harm.
    held.unblock(b"+late\r\n")
    host.post(lambda: None)


def test_a_host_that_was_never_started_can_be_stopped(rt: Runtime, open_sockets: Callable[[], int]) -> None:
    fds = open_sockets()
    host = Host(rt, lambda *line: None)
    assert host.task is None
    assert host.stop()
    assert open_sockets() <= fds


def test_a_stop_ends_a_yield(bench: Any, client: Any) -> None:
    ended: list[tuple[bool, int]] = []

    def handler(_client: HostClient, _args: Sequence[bytes]) -> Reply:
        bench.inside.set()
        ended.append(bench.host.yield_until(lambda: False, LONG_NS, LONG_NS))
        return b"+ok\r\n"

    bench.host.command("FOREVER", handler)
    client.send("FOREVER")
    assert bench.inside.wait(LONG_NS)
    assert bench.host.stop(LONG_NS)
    assert [held for held, _ in ended] == [False]


def test_an_address_that_is_taken(bench: Any, rt: Runtime, client: Any) -> None:
    second = Host(rt, lambda *line: None, bench.host.address)
    with pytest.raises(OSError, match="in use"):
        second.start()
    assert second.task is None
    assert second.stop()
    assert client.call("PING") == b"PONG"


def test_statistics_and_names(bench: Any, client: Any, other: Any) -> None:
    assert (client.call("PING"), other.call("PING"), other.call("NOPE").args) == (
        b"PONG", b"PONG", ("ERR unknown command 'NOPE'",),
    )  # fmt: skip
    statistics = bench.host.statistics()
    assert statistics == {"commands": 2, "clients": 2, "accepted": 2, "yields": 0}
    assert repr(bench.host) == f"<Host {bench.host.address} clients=2 commands=2>"
    assert (repr(BLOCKED), isinstance(other.call("NOPE"), hiredis.ReplyError)) == ("BLOCKED", True)
    assert client.call("SAY", "x") == b"x"
    assert repr(bench.seen["client"]) == "<HostClient 1 open>"
