"""What only real sockets have, before there is a stream: full backlogs, names, descriptors that run out."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from coordemu.runtime import sock_address, sock_transport
from coordemu.runtime.base import NS_PER_MS, Address


def test_small_writes_are_not_held_back_on_either_side(pair):
    for peer in pair():
        with socket.socket(fileno=os.dup(peer.transport.fileno())) as sock:
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_turn_reads_64_kib_per_transport_at_most_and_serves_all(loop, pair, until):
    (big, big_server), (small, small_server) = pair(), pair()
    big_server.transport.write(b"x" * 1_000_000)
    small_server.transport.write(b"y")
    loop.run_once(0)
    until(lambda: small.chunks)
    assert all(len(chunk) <= 65_536 for chunk in big.chunks)
    assert sum(map(len, big.chunks)) < 1_000_000  # the small one did not wait for all of it
    until(lambda: sum(map(len, big.chunks)) == 1_000_000)


def test_a_socket_joined_to_itself_is_recognised():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.connect(sock.getsockname())
        assert sock_address.is_self_connected(sock)


def test_a_connect_that_got_itself_as_peer_is_a_refusal(loop, until, monkeypatch, peer):
    listener = loop.listen(Address(), lambda transport: peer())
    monkeypatch.setattr(sock_transport, "is_self_connected", lambda sock: True)
    client = peer()
    loop.connect(listener.address, client)
    until(lambda: client.log)
    assert client.log == [("close", "Connection refused")]


def test_a_connect_whose_peer_has_gone_at_once_says_so(loop, until, monkeypatch, peer):
    listener = loop.listen(Address(), lambda transport: peer())

    def gone(sock):
        raise OSError(errno.ENOTCONN, "gone")

    monkeypatch.setattr(sock_transport, "is_self_connected", gone)
    client = peer()
    loop.connect(listener.address, client)
    until(lambda: client.log)
    assert client.log == [("close", "Transport endpoint is not connected")]


def test_a_host_that_cannot_be_resolved_is_told_by_the_next_turn(loop, monkeypatch, peer):
    def unresolved(address):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(sock_transport, "socket_name", unresolved)
    client = peer()
    loop.connect(Address(host="nowhere"), client)
    assert client.log == []
    assert loop.run_once(None) == 1
    assert client.log == [("close", "Name or service not known")]


def test_localhost_is_resolved_and_a_limit_that_was_kept_leaves_no_timer(loop, until, peer):
    listener = loop.listen(Address(host="localhost"), lambda transport: peer())
    client = peer()
    loop.connect(Address(host="localhost", port=listener.address.port), client, 60_000 * NS_PER_MS)
    assert loop.statistics()["timers"] == 1
    until(lambda: client.log == ["connect"])
    assert loop.statistics()["timers"] == 0


def test_an_address_with_colons_is_ipv6(monkeypatch):
    families = []

    class Recorder:
        family = socket.AF_INET6

        def __init__(self, family, kind):
            families.append(family)

        def setsockopt(self, *args):
            pass

    monkeypatch.setattr(socket, "socket", Recorder)
    sock_address.make_socket(Address(host="::1"))
    assert families == [socket.AF_INET6]
    assert sock_address.to_address(Recorder(0, 0), ("::1", 5, 0, 0), Address()) == Address(host="::1", port=5)


@pytest.fixture
def full_unix_listener(tmp_path):
    """A unix listener whose backlog is full: connecting to it gives EAGAIN and never a report."""
    path = str(tmp_path / "full")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as filler:
        listener.bind(path)
        listener.listen(0)
        filler.connect(path)
        yield path, listener


def test_a_full_unix_backlog_is_waited_for(loop, until, full_unix_listener, peer):
    path, listener = full_unix_listener
    client = peer()
    client.transport = loop.connect(Address(path=path), client)
    for _ in range(5):
        loop.run_once(NS_PER_MS)
    assert client.log == []
    listener.accept()[0].close()
    until(lambda: client.log)
    assert client.log == ["connect"]


def test_a_full_unix_backlog_is_waited_for_only_so_long(loop, until, full_unix_listener, peer):
    client = peer()
    loop.connect(Address(path=full_unix_listener[0]), client, 10 * NS_PER_MS)
    until(lambda: client.log)
    assert client.log == [("close", "connect timed out after 10 ms")]
    assert loop.statistics()["timers"] == 0
    assert loop.statistics()["transports"] == 0


def test_a_unix_listener_takes_its_file_away(loop, tmp_path, peer):
    path = tmp_path / "s"
    listener = loop.listen(Address(path=str(path)), lambda transport: peer())
    assert path.is_socket()
    with pytest.raises(OSError, match="in use"):
        loop.listen(Address(path=str(path)), lambda transport: peer())
    listener.close()
    assert not path.exists()
    gone = loop.listen(Address(path=str(path)), lambda transport: peer())
    path.unlink()
    gone.close()


def test_a_listener_without_descriptors_pauses_and_goes_on(loop, until, caplog, failing, peer):
    accepted = []
    listener = loop.listen(Address(), lambda transport: accepted.append(transport) or peer())
    listener._sock = failing(listener._sock, "accept", errno.EMFILE, errno.ECONNABORTED, errno.EMFILE)
    client = peer()
    client.transport = loop.connect(listener.address, client)
    for pauses in (1, 2):  # the aborted client in between makes none
        until(lambda: len(caplog.records) == pauses)  # noqa: B023
        assert "stops accepting" in caplog.records[-1].getMessage()
        assert loop.statistics()["timers"] == 1
        assert listener._fd not in loop.poller._sources  # or it would be reported for ever
        listener._timer.fire(0)
    until(lambda: accepted)


def test_a_listener_that_is_closed_while_it_pauses_stays_closed(loop, until, caplog, failing, peer):
    listener = loop.listen(Address(), lambda transport: peer())
    listener._sock = failing(listener._sock, "accept", errno.ENFILE)
    client = peer()
    loop.connect(listener.address, client)
    until(lambda: caplog.records)
    listener.close()
    assert loop.statistics()["timers"] == 0
    assert loop.statistics()["listeners"] == 0


def test_sockets_say_what_they_are(loop, pair):
    client, server = pair()
    address = client.transport.address
    assert repr(client.transport) == f"<SockTransport {address} open, 0 bytes buffered>"
    assert repr(next(iter(loop.listeners))) == f"<SockListener {address} listening>"
    client.transport.abort()
    assert repr(client.transport) == f"<SockTransport {address} closed, 0 bytes buffered>"
    timer = loop.timer(lambda: None, "t")
    assert repr(timer) == "<LoopTimer 't' stopped>"
    timer.start(10**12)
    assert repr(timer) == "<LoopTimer 't' armed>"
    handle = loop.async_handle(lambda: None, "h")
    handle.send()
    assert repr(handle) == "<LoopAsync 'h' sent>"
    assert repr(loop) == "<EpollLoop 'io' idle, 1 transports, 1 timers>"
    assert repr(loop.poller).endswith("3 watched>")
    assert server.transport.address.host == "127.0.0.1"
