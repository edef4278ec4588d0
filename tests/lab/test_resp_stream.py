"""A client's end of a RESP connection, against a peer on the same loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import hiredis
import pytest

from coordemu.lab.resp_stream import RespStream
from coordemu.runtime.base import NS_PER_MS, Address, Loop, Transport, TransportClosed
from coordemu.runtime.threads import ThreadsRuntime


class Peer:
    """The other end: keeps what comes, sends what it is told."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.data = b""
        self.closed = False

    def on_connect(self) -> None:
        raise AssertionError("accepted transports are connected already")

    def on_data(self, data: bytes) -> None:
        self.data += data

    def on_close(self, reason: str | None) -> None:
        self.closed = True


class Wire:
    """A stream and its peer, and what the stream reported."""

    def __init__(self, loop: Loop, path: Path) -> None:
        self.loop = loop
        self.peers: list[Peer] = []
        self.ready = 0
        self.replies: list[object] = []
        self.ends: list[str] = []
        listener = loop.listen(Address(path=str(path)), self.accept)
        self.stream = RespStream(loop, listener.address, self.replies.append, self.ends.append, self.on_ready)

    def accept(self, transport: Transport) -> Peer:
        self.peers.append(Peer(transport))
        return self.peers[-1]

    def on_ready(self) -> None:
        self.ready += 1

    def turn_until(self, predicate: Callable[[], object]) -> None:
        for _ in range(1000):
            if predicate():
                return
            self.loop.run_once(10 * NS_PER_MS)
        raise AssertionError("never happened")

    def connect(self) -> Peer:
        self.turn_until(lambda: self.peers and self.ready)
        return self.peers[0]


@pytest.fixture
def wire(rt: ThreadsRuntime, tmp_path: Path) -> Iterator[Wire]:
    loop = rt.loop("wire")
    yield Wire(loop, tmp_path / "s")
    loop.close()


def test_commands_go_out_packed(wire: Wire) -> None:
    peer = wire.connect()
    wire.stream.send(["PING", b"\x00\xff", 7])
    wire.turn_until(lambda: peer.data)
    assert peer.data == b"*3\r\n$4\r\nPING\r\n$2\r\n\x00\xff\r\n$1\r\n7\r\n"
    assert wire.ready == 1


def test_replies_come_in_order_however_they_are_cut(wire: Wire) -> None:
    peer = wire.connect()
    for byte in b"+one\r\n:2\r\n$5\r\nthree\r\n*2\r\n:4\r\n:5\r\n":
        peer.transport.write(bytes([byte]))
        wire.loop.run_once()
    wire.turn_until(lambda: len(wire.replies) == 4)
    assert wire.replies == [b"one", 2, b"three", [4, 5]]
    peer.transport.write(b"+6\r\n+7\r\n+8")
    wire.turn_until(lambda: len(wire.replies) == 6)
    assert wire.replies[4:] == [b"6", b"7"]


def test_an_error_reply_is_a_value(wire: Wire) -> None:
    wire.connect().transport.write(b"-ERR no\r\n+OK\r\n")
    wire.turn_until(lambda: len(wire.replies) == 2)
    assert isinstance(wire.replies[0], hiredis.ReplyError)
    assert str(wire.replies[0]) == "ERR no"
    assert wire.replies[1] == b"OK"


def test_the_end_is_told_once(wire: Wire) -> None:
    wire.connect().transport.close()
    wire.turn_until(lambda: wire.ends)
    assert wire.ends == ["closed by the server"]
    with pytest.raises(TransportClosed):
        wire.stream.send(["PING"])


def test_nothing_follows_an_own_close(wire: Wire) -> None:
    peer = wire.connect()
    peer.transport.write(b"+late\r\n")
    wire.stream.close()
    wire.turn_until(lambda: peer.closed)
    assert wire.replies == []
    assert wire.ends == []


def test_nobody_listens(rt: ThreadsRuntime, tmp_path: Path) -> None:
    loop = rt.loop("wire")
    ends: list[str] = []
    stream = RespStream(loop, Address(path=str(tmp_path / "absent")), lambda reply: None, ends.append)
    with pytest.raises(TransportClosed):
        stream.send(["PING"])
    for _ in range(100):
        if ends:
            break
        loop.run_once(10 * NS_PER_MS)
    assert len(ends) == 1
    assert "No such file" in ends[0]
    loop.close()
