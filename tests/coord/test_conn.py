"""MRConn: states, handshakes, the queue of callbacks, the three ways to stop, and who owes what."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import hiredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordemu.coord.conn import MRConn
from coordemu.coord.conn_context import SPARE_INBOXES, ConnContext
from coordemu.coord.conn_handshake import pack_command
from coordemu.coord.conn_options import ConnOptions
from coordemu.coord.conn_state import ConnEvent, ConnState, IllegalTransition
from coordemu.coord.endpoint import MREndpoint
from coordemu.native import PendingTable
from coordemu.runtime.base import Address

HERE = MREndpoint(Address("127.0.0.1", 7001))
RESP3 = ConnOptions(protocol=3)


class Bench:
    """One connection on a stub loop, everything that it told its callbacks, and everything that it logged."""

    def __init__(self, loop: Any, options: ConnOptions | None = None, endpoint: MREndpoint = HERE, ready: bool = True):
        self.loop = loop
        self.pending = PendingTable()
        self.lines: list[str] = []
        self.told: list[tuple[int, Any, str | None]] = []
        self.context = ConnContext(loop.rt, loop, options or ConnOptions(), self.pending, self.log)
        self.conn = MRConn(self.context, endpoint, 0, 5)
        if ready:
            self.transport.open()

    def log(self, _level: str, line: str) -> None:
        self.lines.append(line)

    @property
    def transport(self) -> Any:
        (transport,) = self.loop.transports
        return transport

    @property
    def written(self) -> list[bytes]:
        written: list[bytes] = self.transport.written
        return written

    def callback(self, number: int) -> Callable[[Any, str | None], None]:
        return lambda reply, error: self.told.append((number, reply, error))

    def send(self, *numbers: int) -> None:
        for number in numbers:
            assert self.conn.send_command(b"command %d" % number, self.callback(number))
        self.context.flush_counts()

    def receive(self, data: bytes) -> None:
        self.conn.on_data(data)

    def fire(self) -> Any:
        (timer,) = self.loop.timers
        timer.fire()
        return timer

    @property
    def counted(self) -> int:
        return self.pending.replies(0, 5)


@pytest.fixture
def bench(stub_loop: Any) -> Bench:
    return Bench(stub_loop)


class Watch:
    """What a shrink would be told."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def on_replies(self, _conn: MRConn, drained: bool) -> None:
        self.events.append("drained" if drained else "replies")

    def on_closed(self, _conn: MRConn) -> None:
        self.events.append("closed")


# ---- connecting


def test_a_new_connection_connects_and_is_connected(stub_loop: Any) -> None:
    bench = Bench(stub_loop, ready=False)
    assert bench.conn.state is ConnState.CONNECTING
    assert not bench.conn.send_command(b"x", bench.callback(1))
    bench.transport.open()
    assert bench.conn.state is ConnState.CONNECTED
    assert bench.pending.statistics()["connected"] == 1
    assert repr(bench.conn) == "<MRConn 127.0.0.1:7001#5 Connected outstanding=0>"


def test_a_failure_to_connect_is_tried_again_for_ever(stub_loop: Any) -> None:
    bench = Bench(stub_loop, ready=False)
    for attempt in range(4):
        bench.transport.lose("Connection refused")
        assert bench.conn.state is ConnState.RECONNECTING
        assert bench.fire().delay_ns == 250_000_000
        assert bench.conn.statistics()["reconnects"] == attempt + 1
    bench.transport.open()
    assert bench.conn.state is ConnState.CONNECTED
    assert bench.lines == ["127.0.0.1:7001: connect failed: Connection refused; trying again"], "logged once"


def test_no_socket_at_all_is_a_failure_to_connect(stub_loop: Any) -> None:
    stub_loop.refuse = True
    bench = Bench(stub_loop, ready=False)
    assert bench.conn.state is ConnState.RECONNECTING
    bench.fire()
    assert bench.conn.state is ConnState.RECONNECTING
    stub_loop.refuse = False
    bench.fire()
    bench.transport.open()
    assert bench.conn.state is ConnState.CONNECTED


def test_a_lost_connection_fails_its_callbacks_and_reconnects(bench: Bench) -> None:
    bench.send(1, 2)
    bench.transport.lose("reset")
    why = "127.0.0.1:7001: connection lost: reset"
    assert bench.told == [(1, None, why), (2, None, why)]
    assert bench.counted == 0
    assert bench.pending.statistics()["connected"] == 0
    assert bench.conn.failed == 2
    bench.fire()
    bench.transport.open()
    bench.send(3)
    bench.receive(b"+3\r\n")
    assert bench.told[2:] == [(3, b"3", None)]


def test_a_callback_that_fails_can_not_send_on_the_lost_connection(bench: Bench) -> None:
    sent: list[bool] = []
    bench.conn.send_command(b"x", lambda _reply, _error: sent.append(bench.conn.send_command(b"y", bench.callback(1))))
    bench.transport.lose()
    assert sent == [False]


def test_an_address_in_use_by_nobody_is_connected_once_somebody_listens(one_loop: Any, fast: ConnOptions) -> None:
    address = one_loop.unix_address()
    manager = one_loop.manager(1)
    manager.add("node", MREndpoint(address))
    (conn,) = manager.pools["node"].conns
    one_loop.turn_until(lambda: conn.statistics()["reconnects"] >= 2, "two attempts")
    one_loop.shard(address=address)
    one_loop.turn_until(lambda: conn.state is ConnState.CONNECTED)
    manager.disconnect_all()
    assert one_loop.loop.statistics()["timers"] == 0


def test_the_connect_timeout_bounds_the_handshake(one_loop: Any, black_hole: Address) -> None:
    manager = one_loop.manager(1, options=ConnOptions(reconnect_delay_ms=60_000, connect_timeout_ms=20))
    manager.add("node", MREndpoint(black_hole))
    manager.add("other", MREndpoint(black_hole))
    conns = [pool.conns[0] for pool in manager.pools.values()]
    one_loop.turn_until(lambda: all(conn.state is ConnState.RECONNECTING for conn in conns))
    assert "timed out" in one_loop.logs[0][1]
    manager.disconnect_all()


# ---- handshakes


def test_a_password_is_sent_before_anything_else(stub_loop: Any) -> None:
    bench = Bench(stub_loop, endpoint=MREndpoint(HERE.address, "secret"))
    assert bench.written == [pack_command("AUTH", "secret")]
    assert bench.conn.state is ConnState.AUTHENTICATING
    assert not bench.conn.send_command(b"x", bench.callback(1))
    assert bench.conn.outstanding == 0, "the handshake's reply is owed to nobody"
    bench.receive(b"+OK\r\n")
    assert bench.conn.state is ConnState.CONNECTED
    assert bench.conn.statistics()["handshakes"] == 1
    assert bench.context.handed == 0
    assert bench.counted == 0
    assert bench.pending.consistent()


def test_a_refused_password_is_tried_again_after_a_second(stub_loop: Any) -> None:
    bench = Bench(stub_loop, endpoint=MREndpoint(HERE.address, "wrong"))
    for _ in range(2):
        bench.receive(b"-WRONGPASS no\r\n")
        assert bench.conn.state is ConnState.REAUTH
        assert bench.fire().delay_ns == 1_000_000_000
        assert bench.conn.state is ConnState.AUTHENTICATING
    assert bench.written == [pack_command("AUTH", "wrong")] * 3
    assert bench.lines == ["127.0.0.1:7001: handshake refused: WRONGPASS no"]
    bench.receive(b"+OK\r\n")
    assert bench.conn.state is ConnState.CONNECTED


@pytest.mark.parametrize("state", [ConnState.AUTHENTICATING, ConnState.REAUTH])
def test_a_connection_lost_during_its_handshake_reconnects(stub_loop: Any, state: ConnState) -> None:
    bench = Bench(stub_loop, endpoint=MREndpoint(HERE.address, "secret"))
    if state is ConnState.REAUTH:
        bench.receive(b"-WRONGPASS no\r\n")
    assert bench.conn.state is state
    bench.transport.lose()
    assert bench.conn.state is ConnState.RECONNECTING
    assert bench.conn.failed == 0, "nobody but the connection itself waited"
    assert bench.fire().delay_ns == 250_000_000
    bench.transport.open()
    bench.receive(b"+OK\r\n")
    assert bench.conn.state is ConnState.CONNECTED
    assert bench.pending.consistent()
    assert bench.counted == 0


def test_the_secret_is_asked_for_at_each_handshake(stub_loop: Any) -> None:
    secrets = iter(["first", "second"])
    bench = Bench(stub_loop, ConnOptions(secret=lambda: next(secrets)))
    bench.receive(b"-WRONGPASS no\r\n")
    bench.fire()
    assert bench.written == [pack_command("AUTH", "first"), pack_command("AUTH", "second")]


@pytest.mark.parametrize(
    ("password", "hello"),
    [(None, pack_command("HELLO", 3)), ("pw", pack_command("HELLO", 3, "AUTH", "default", "pw"))],
)
def test_resp3_says_hello(stub_loop: Any, password: str | None, hello: bytes) -> None:
    bench = Bench(stub_loop, RESP3, MREndpoint(HERE.address, password))
    assert bench.written == [hello]
    assert bench.conn.state is ConnState.AUTHENTICATING
    bench.receive(b"%1\r\n+proto\r\n:3\r\n")
    assert bench.conn.state is ConnState.CONNECTED


def test_a_server_without_resp3_refuses_the_handshake(one_loop: Any, fast: ConnOptions) -> None:
    shard = one_loop.shard()
    shard.knows_hello = False
    manager = one_loop.manager(1, options=replace(fast, protocol=3))
    manager.add("node", shard.endpoint)
    (conn,) = manager.pools["node"].conns
    one_loop.turn_until(lambda: conn.state is ConnState.REAUTH)
    shard.knows_hello = True
    one_loop.turn_until(lambda: conn.state is ConnState.CONNECTED)


def test_a_password_that_the_shard_learns_later(one_loop: Any, fast: ConnOptions) -> None:
    shard = one_loop.shard(password="old")
    manager = one_loop.manager(1, options=fast)
    manager.add("node", MREndpoint(shard.address, "new"))
    (conn,) = manager.pools["node"].conns
    one_loop.turn_until(lambda: conn.state is ConnState.REAUTH)
    shard.password = "new"
    one_loop.turn_until(lambda: conn.state is ConnState.CONNECTED)
    assert shard.accepted == 1, "the same transport"


# ---- replies


def test_replies_go_to_callbacks_in_order_of_the_commands(bench: Bench) -> None:
    bench.send(1, 2, 3, 4)
    assert bench.conn.outstanding == bench.counted == 4
    bench.receive(b"$1\r\na\r\n-ERR no\r\n$-1\r\n*2\r\n:1\r\n")
    assert [told[:1] + told[2:] for told in bench.told] == [(1, None), (2, "ERR no"), (3, None)]
    assert bench.told[0][1] == b"a"
    assert isinstance(bench.told[1][1], hiredis.ReplyError)
    assert bench.conn.outstanding == bench.counted == 1
    bench.receive(b":2\r\n")
    assert bench.told[3] == (4, [1, 2], None)
    assert bench.conn.outstanding == bench.counted == 0
    assert bench.written == [b"command 1", b"command 2", b"command 3", b"command 4"]


def test_resp3_false_null_and_maps_are_replies(stub_loop: Any) -> None:
    bench = Bench(stub_loop, RESP3)
    bench.receive(b"%1\r\n+proto\r\n:3\r\n")
    bench.send(1, 2, 3)
    bench.receive(b"#f\r\n_\r\n%1\r\n+a\r\n:1\r\n")
    assert bench.told == [(1, False, None), (2, None, None), (3, {b"a": 1}, None)]


def test_a_push_is_no_reply(stub_loop: Any) -> None:
    bench = Bench(stub_loop, RESP3)
    bench.receive(b"%1\r\n+proto\r\n:3\r\n")
    bench.send(1)
    bench.receive(b">2\r\n+invalidate\r\n_\r\n")
    assert bench.told == []
    bench.receive(b"+one\r\n")
    assert bench.told == [(1, b"one", None)]
    assert bench.conn.statistics()["pushes"] == 1


def test_a_subscription_waits_in_the_second_queue(stub_loop: Any) -> None:
    bench = Bench(stub_loop, RESP3)
    bench.receive(b"%1\r\n+proto\r\n:3\r\n")
    assert bench.conn.send_subscription(b"subscribe", bench.callback(1))
    bench.send(2)
    assert (bench.pending.replies(0, 5), bench.pending.sub_replies(0, 5)) == (1, 1)
    assert bench.conn.outstanding == 2
    bench.receive(b"+two\r\n")
    assert bench.told == [(2, b"two", None)]
    bench.receive(b">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n>3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n")
    assert bench.told[1] == (1, [b"subscribe", b"c", 1], None)
    assert bench.conn.statistics()["pushes"] == 1, "the message itself is ignored"
    assert bench.pending.sub_replies(0, 5) == 0


def test_a_lost_connection_fails_subscriptions_too(stub_loop: Any) -> None:
    bench = Bench(stub_loop, RESP3)
    bench.receive(b"%1\r\n+proto\r\n:3\r\n")
    bench.conn.send_subscription(b"subscribe", bench.callback(1))
    bench.send(2)
    bench.transport.lose("gone")
    assert [number for number, _, _ in bench.told] == [2, 1]
    assert bench.pending.consistent()
    assert bench.pending.statistics()["sub_replies"] == 0
    assert not bench.conn.send_subscription(b"subscribe", bench.callback(3))


def test_resp2_can_not_subscribe(bench: Bench) -> None:
    with pytest.raises(ValueError, match="RESP3"):
        bench.conn.send_subscription(b"subscribe", bench.callback(1))
    assert bench.written == []


def test_counts_follow_once_per_batch(bench: Bench) -> None:
    for number in range(10):
        bench.conn.send_command(b"x", bench.callback(number))
    assert bench.counted == 0, "counted when the callback that sent ends"
    bench.context.flush_counts()
    assert bench.counted == 10
    batches = bench.pending.statistics()["batches"]
    bench.receive(b"+a\r\n" * 7)
    assert bench.counted == 3
    assert bench.pending.statistics()["batches"] == batches + 1


def test_a_callback_may_send(bench: Bench) -> None:
    bench.conn.send_command(b"1", lambda _reply, _error: bench.conn.send_command(b"2", bench.callback(2)))
    bench.context.flush_counts()
    bench.receive(b"+a\r\n")
    assert bench.conn.outstanding == bench.counted == 1
    bench.receive(b"+b\r\n")
    assert bench.told == [(2, b"b", None)]
    assert bench.counted == 0


@pytest.mark.parametrize("lost", [False, True])
def test_what_a_callback_sends_elsewhere_is_counted_when_its_batch_ends(bench: Bench, lost: bool) -> None:
    other = MRConn(bench.context, HERE, 0, 6)
    first, second = list(bench.loop.transports)
    second.open()
    bench.conn.send_command(b"1", lambda _reply, _error: other.send_command(b"2", bench.callback(2)))
    bench.context.flush_counts()
    if lost:
        first.lose()
    else:
        bench.receive(b"+a\r\n")
    assert other.outstanding == bench.pending.replies(0, 6) == 1
    assert not bench.context.dirty


def test_a_peer_that_does_not_speak_resp_fails_its_replies_and_is_logged_once(bench: Bench) -> None:
    for _ in range(3):
        bench.send(1, 2)
        bench.receive(b"+fine\r\nHTTP/1.1 400 Bad Request\r\n")
        assert bench.conn.state is ConnState.RECONNECTING
        assert not bench.loop.transports
        bench.fire()
        bench.transport.open()
    assert [told[1] for told in bench.told] == [b"fine", None] * 3
    assert bench.told[1][2] == (
        '127.0.0.1:7001: connection lost: the peer does not speak RESP: Protocol error, got "H" as reply type byte'
    )
    assert len(bench.lines) == 1
    assert "does not speak RESP" in bench.lines[0]


@pytest.mark.parametrize("greeting", [b"SSH-2.0-OpenSSH_9.2\r\n", b"-ERR max number of clients reached\r\n"])
def test_a_greeting_is_trouble(one_loop: Any, fast: ConnOptions, greeting: bytes) -> None:
    shard = one_loop.shard()
    shard.greeting = greeting
    manager = one_loop.manager(1, options=fast)
    manager.add("node", shard.endpoint)
    (conn,) = manager.pools["node"].conns
    one_loop.turn_until(lambda: conn.statistics()["reconnects"] >= 2)
    assert len(one_loop.logs) == 1
    shard.greeting = b""
    one_loop.turn_until(lambda: conn.state is ConnState.CONNECTED)


# ---- the inbox of an idle connection


def test_an_idle_connection_has_no_inbox(bench: Bench) -> None:
    assert bench.conn._inbox is None
    bench.send(1, 2)
    inbox = bench.conn._inbox
    assert inbox is not None
    bench.receive(b"+a\r\n+b")
    assert bench.conn._inbox is inbox
    bench.receive(b"b\r\n")
    assert (bench.conn._inbox, bench.conn._replies) == (None, None)
    assert list(bench.context.spare_inboxes) == [inbox]
    bench.send(3)
    assert bench.conn._inbox is inbox
    bench.receive(b"+c\r\n")
    assert [told[1] for told in bench.told] == [b"a", b"bb", b"c"]


@pytest.mark.parametrize("rest", [b"*2\r\n", b"*2\r\n+x\r\n", b"+x", b"$5\r\n", b"*1\r\n*1\r\n"])
def test_what_is_left_behind_the_last_reply_reaches_no_other_connection(bench: Bench, rest: bytes) -> None:
    """Also where the reader has taken all bytes of a reply's beginning, and holds none."""
    other = MRConn(bench.context, HERE, 0, 6)
    first, second = list(bench.loop.transports)
    second.open()
    bench.send(1)
    bench.receive(b"+a\r\n" + rest)
    assert not bench.context.spare_inboxes
    other.send_command(b"2", bench.callback(2))
    second.handler.on_data(b"+b\r\n")
    assert bench.told == [(1, b"a", None), (2, b"b", None)]
    first.lose()
    assert len(bench.context.spare_inboxes) == 1


def test_a_callback_that_sends_keeps_the_inbox(bench: Bench) -> None:
    bench.conn.send_command(b"1", lambda _reply, _error: bench.conn.send_command(b"2", bench.callback(2)))
    bench.receive(b"+a\r\n+b\r\n")
    assert bench.told == [(2, b"b", None)]
    assert bench.conn._inbox is None
    assert len(bench.context.spare_inboxes) == 1


def test_a_nested_turn_that_takes_the_last_reply_gives_the_inbox_back_once(bench: Bench) -> None:
    bench.conn.send_command(b"1", lambda _reply, _error: bench.receive(b"+b\r\n"))
    bench.send(2)
    bench.receive(b"+a\r\n")
    assert bench.told == [(2, b"b", None)]
    assert len(bench.context.spare_inboxes) == 1
    bench.send(3)
    bench.receive(b"+c\r\n")
    assert bench.told[1:] == [(3, b"c", None)]


@pytest.mark.parametrize("mode", ["graceful", "fail", "drop"])
def test_a_callback_that_stops_its_connection_leaves_no_inbox(bench: Bench, mode: str) -> None:
    bench.conn.send_command(b"1", lambda _reply, _error: bench.conn.stop(mode))
    bench.receive(b"+a\r\n")
    assert bench.conn.closed
    assert (bench.conn._inbox, bench.conn._replies) == (None, None)


def test_after_a_reconnect_replies_are_read_anew(bench: Bench) -> None:
    bench.send(1, 2)
    bench.receive(b"+a\r\n*2\r\n")
    bench.transport.lose()
    bench.fire()
    bench.transport.open()
    bench.send(3)
    bench.receive(b"+c\r\n")
    assert [told[:2] for told in bench.told] == [(1, b"a"), (2, None), (3, b"c")]


def test_spare_inboxes_are_bounded(bench: Bench) -> None:
    conns = [MRConn(bench.context, HERE, 1, index) for index in range(SPARE_INBOXES + 5)]
    for transport in list(bench.loop.transports)[1:]:
        transport.open()
    for conn in conns:
        conn.send_command(b"1", bench.callback(1))
    for conn in conns:
        conn.on_data(b"+a\r\n")
    assert len(bench.context.spare_inboxes) == SPARE_INBOXES


# ---- stopping


def test_graceful_awaits_the_replies(bench: Bench) -> None:
    watch = Watch()
    bench.conn.watch = watch
    bench.send(1, 2)
    transport = bench.transport
    bench.conn.stop("graceful")
    assert bench.conn.state is ConnState.FREEING
    assert not bench.conn.send_command(b"x", bench.callback(9))
    assert bench.conn.outstanding == 2
    assert bench.conn in bench.context.closing
    assert bench.pending.statistics()["attached"] == 0, "its place is free for a new connection"
    assert bench.conn.holders() == ["shard 127.0.0.1:7001"]
    bench.receive(b"+1\r\n")
    assert not transport.closed
    bench.receive(b"+2\r\n")
    assert transport.closed
    assert not transport.aborted
    assert bench.told == [(1, b"1", None), (2, b"2", None)]
    assert watch.events == ["replies", "closed"]
    assert not bench.context.closing


@pytest.mark.parametrize("lost", [False, True])
def test_the_watch_hears_of_the_drain_s_end_once(bench: Bench, lost: bool) -> None:
    watch = bench.conn.watch = Watch()
    bench.send(1, 2)
    bench.pending.begin_drain(0)
    bench.receive(b"+1\r\n")
    if lost:
        bench.transport.lose("gone")
    else:
        bench.receive(b"+2\r\n")
        bench.receive(b">1\r\n+a push\r\n")
    assert watch.events == ["replies", "drained"] + (["replies"] if not lost else [])


def test_graceful_without_replies_closes_at_once(bench: Bench) -> None:
    bench.conn.stop()
    assert bench.conn.closed
    assert not bench.loop.transports


def test_a_graceful_stop_whose_shard_dies_fails_the_rest(bench: Bench) -> None:
    bench.send(1, 2)
    bench.conn.stop()
    bench.receive(b"+1\r\n")
    bench.transport.lose("reset")
    assert bench.told == [(1, b"1", None), (2, None, "127.0.0.1:7001: connection lost: reset")]
    assert bench.conn.closed
    assert not bench.loop.timers, "no reconnecting"
    assert bench.conn.failed == 1


def test_fail_runs_every_callback_before_it_returns(bench: Bench) -> None:
    bench.send(1, 2)
    transport = bench.transport
    bench.conn.stop("fail")
    assert bench.told == [(n, None, "127.0.0.1:7001: connection stopped") for n in (1, 2)]
    assert transport.aborted
    assert bench.conn.failed == 2
    assert bench.conn.lost == 0
    assert bench.conn.holders() == ["nobody: the connection was stopped"]


def test_drop_never_runs_the_callbacks_and_says_so(bench: Bench) -> None:
    waits, other = bench.callback(1), bench.callback(2)
    bench.conn.send_command(b"x", waits)
    bench.context.flush_counts()
    transport = bench.transport
    bench.conn.stop("drop")
    assert transport.aborted
    assert bench.told == []
    assert bench.conn.lost == 1
    assert bench.conn.outstanding == 0
    assert bench.conn.owes(waits)
    assert not bench.conn.owes(other)
    assert bench.conn.name == "conn 127.0.0.1:7001#5"
    assert bench.conn.holders() == ["nobody: the connection was stopped and its replies dropped"]


@pytest.mark.parametrize("mode", ["graceful", "fail", "drop"])
@pytest.mark.parametrize("state", ["CONNECTING", "RECONNECTING", "AUTHENTICATING", "REAUTH"])
def test_a_stop_before_it_is_connected_leaves_nothing(stub_loop: Any, state: str, mode: str) -> None:
    bench = Bench(stub_loop, endpoint=MREndpoint(HERE.address, "pw"), ready=False)
    if state == "RECONNECTING":
        bench.transport.lose()
    elif state != "CONNECTING":
        bench.transport.open()
    if state == "REAUTH":
        bench.receive(b"-ERR\r\n")
    assert bench.conn.state is ConnState[state]
    bench.conn.stop(mode)
    assert bench.conn.state is ConnState.FREEING
    if state == "REAUTH" and mode == "graceful":
        assert bench.conn.closed
    assert not stub_loop.transports
    assert not stub_loop.timers
    assert bench.conn.failed == bench.conn.lost == 0
    assert bench.pending.statistics()["attached"] == 0


@pytest.mark.parametrize("mode", ["graceful", "fail", "drop"])
def test_a_second_stop_is_illegal_and_changes_nothing(bench: Bench, mode: str) -> None:
    bench.send(1)
    bench.conn.stop("graceful")
    before = (bench.conn.state, bench.conn.statistics(), list(bench.loop.transports), list(bench.told))
    with pytest.raises(IllegalTransition):
        bench.conn.stop(mode)
    assert (bench.conn.state, bench.conn.statistics(), list(bench.loop.transports), list(bench.told)) == before
    bench.receive(b"+1\r\n")
    assert bench.told == [(1, b"1", None)]


def test_an_unknown_mode_is_refused_and_changes_nothing(bench: Bench) -> None:
    with pytest.raises(ValueError, match="graceful, fail, drop"):
        bench.conn.stop("softly")
    assert bench.conn.state is ConnState.CONNECTED


@pytest.mark.parametrize("event", list(ConnEvent))
@pytest.mark.parametrize("stopped", [False, True])
def test_an_illegal_event_raises_and_changes_nothing(stub_loop: Any, event: ConnEvent, stopped: bool) -> None:
    bench = Bench(stub_loop)
    bench.send(1)
    if stopped:
        bench.conn.stop()
    elif event in (ConnEvent.LOST, ConnEvent.STOP):
        return  # legal when Connected; every other test here is about them
    before = (bench.conn.state, bench.conn.statistics(), len(stub_loop.timers), bench.pending.statistics())
    with pytest.raises(IllegalTransition):
        bench.conn._step(event)
    assert (bench.conn.state, bench.conn.statistics(), len(stub_loop.timers), bench.pending.statistics()) == before


@pytest.mark.parametrize("mode", ["graceful", "fail", "drop"])
def test_a_callback_may_stop_its_own_connection(bench: Bench, mode: str) -> None:
    def stop(_reply: Any, _error: str | None) -> None:
        bench.told.append((0, None, None))
        bench.conn.stop(mode)

    bench.conn.send_command(b"x", stop)
    bench.send(1, 2)
    bench.receive(b"+0\r\n+1\r\n+2\r\n")
    errors = {"graceful": [(1, b"1", None), (2, b"2", None)], "drop": []}
    why = "127.0.0.1:7001: connection stopped"
    assert bench.told == [(0, None, None), *errors.get(mode, [(1, None, why), (2, None, why)])]
    assert bench.conn.closed
    assert not bench.loop.transports
    assert bench.pending.consistent()


def test_cut_ends_a_graceful_stop_with_an_error(bench: Bench) -> None:
    bench.send(1)
    bench.conn.cut("not stopped yet: nothing happens")
    assert bench.conn.state is ConnState.CONNECTED
    bench.conn.stop()
    bench.conn.cut("the runtime ends")
    bench.conn.cut("twice")
    assert bench.told == [(1, None, "the runtime ends")]
    assert not bench.loop.transports


@pytest.mark.parametrize("mode", ["graceful", "fail", "drop"])
def test_the_incidents_stop_disconnects_from_a_timer(stub_loop: Any, mode: str) -> None:
    bench = Bench(stub_loop, ConnOptions(deferred_stop=True))
    bench.send(1, 2)
    bench.conn.stop(mode)
    assert bench.conn.state is ConnState.FREEING, "no longer picked, at once"
    assert not bench.conn.send_command(b"x", bench.callback(9))
    assert stub_loop.transports, "but not disconnected yet"
    bench.receive(b"+1\r\n")
    assert bench.told == [(1, b"1", None)]
    assert bench.fire().delay_ns == 0
    if mode == "graceful":
        assert not bench.conn.closed
        bench.receive(b"+2\r\n")
    assert bench.conn.closed
    assert not stub_loop.transports
    assert [number for number, _, _ in bench.told] == ([1] if mode == "drop" else [1, 2])


def test_the_incidents_stop_of_a_connection_that_dies_meanwhile(stub_loop: Any) -> None:
    bench = Bench(stub_loop, ConnOptions(deferred_stop=True))
    bench.send(1)
    bench.conn.stop("drop")
    bench.transport.lose("reset")
    assert bench.told == [(1, None, "127.0.0.1:7001: connection lost: reset")]
    assert bench.conn.closed
    assert not stub_loop.timers


@pytest.mark.parametrize("field", ["reconnect_delay_ms", "reauth_delay_ms", "connect_timeout_ms"])
def test_options_have_bounds(field: str) -> None:
    changes: dict[str, Any] = {field: -1}
    with pytest.raises(ValueError, match=field):
        ConnOptions(**changes)
    with pytest.raises(ValueError, match="protocol"):
        ConnOptions(protocol=4)


# ---- the queue of callbacks against a model

STEP = st.one_of(
    st.tuples(st.just("send"), st.integers(1, 4)),
    st.tuples(st.just("reply"), st.integers(1, 6)),
    st.tuples(st.just("error"), st.just(1)),
    st.tuples(st.just("push"), st.just(1)),
    st.tuples(st.just("lose"), st.just(1)),
)


def bulk(number: int) -> bytes:
    return b"$%d\r\n%d\r\n" % (len(str(number)), number)


END = st.sampled_from(["graceful", "fail", "drop"])


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(STEP, max_size=30), cuts=st.lists(st.integers(1, 12), min_size=1, max_size=8), end=END)
def test_the_fifo_against_a_deque(
    make_stub_loop: Callable[[str], Any], runtime_kind: str, steps: list[tuple[str, int]], cuts: list[int], end: str
) -> None:
    """Whatever is sent, answered (in pieces of any size), pushed, failed or lost: one outcome each, in order."""
    bench = Bench(make_stub_loop(runtime_kind), RESP3)
    bench.receive(b"%1\r\n+proto\r\n:3\r\n")
    model: deque[int] = deque()
    expected: list[tuple[int, str]] = []
    number = failed = turn = 0

    def deliver(data: bytes) -> None:
        nonlocal turn
        while data:
            size = cuts[turn % len(cuts)]
            turn += 1
            bench.receive(data[:size])
            data = data[size:]

    for kind, n in steps:
        if kind == "send":
            for _ in range(n):
                bench.send(number)
                model.append(number)
                number += 1
        elif kind in ("reply", "error"):
            replies = [model.popleft() for _ in range(min(n, len(model)))]
            deliver(b"".join(bulk(r) if kind == "reply" else b"-E%d\r\n" % r for r in replies))
            expected += [(r, kind) for r in replies]
        elif kind == "push":
            deliver(b">2\r\n+invalidate\r\n_\r\n")
        else:
            bench.transport.lose("lost")
            expected += [(r, "none") for r in model]
            failed += len(model)
            model.clear()
            bench.fire()
            bench.transport.open()
            deliver(b"%1\r\n+proto\r\n:3\r\n")
        assert bench.conn.outstanding == bench.counted == len(model)
        assert bench.pending.consistent()
    bench.conn.stop(end)
    if end == "graceful":
        deliver(b"".join(bulk(r) for r in model))
        expected += [(r, "reply") for r in model]
    elif end == "fail":
        expected += [(r, "none") for r in model]
        failed += len(model)
    outcome = {bytes: "reply", hiredis.ReplyError: "error", type(None): "none"}
    assert [(told, outcome[type(reply)]) for told, reply, _ in bench.told] == expected
    assert bench.conn.lost == (len(model) if end == "drop" else 0)
    assert bench.conn.failed == failed
    assert bench.conn.closed
    assert not bench.loop.transports
    assert not bench.loop.timers
    assert bench.pending.statistics()["attached"] == 0
