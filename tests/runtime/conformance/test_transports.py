"""Transports and listeners, on every runtime: how they come and go. Both ends live on the test's loop."""

from __future__ import annotations

import pytest

from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Address

MEGABYTES = bytes(range(256)) * 4096 * 16  # 16 MiB, more than the buffers of two sockets


def test_a_client_connects_and_both_ends_talk(net):
    net.listen(make=lambda: net.Peer(on_data=lambda peer: peer.transport.write(b"re:" + bytes(peer.data))))
    assert net.listener.address.port > 0
    client = net.connect(on_connect=lambda peer: peer.transport.write(b"hello"))
    assert not client.transport.connected
    assert not client.transport.closed
    net.until(lambda: client.data == b"re:hello")
    assert client.log == ["connect", "data"]
    assert client.transport.connected
    assert client.transport.address == net.listener.address
    assert net.accepted[0].log == ["data"]  # no on_connect for an accepted transport
    assert net.accepted[0].transport.connected


def test_a_refused_connect_is_told_once_and_later(net, loop):
    client = net.connect(net.free_address())
    net.until(lambda: client.log)
    net.idle()
    assert client.log == [("close", "Connection refused")]
    assert client.transport.closed
    assert not client.transport.connected


def test_a_connect_that_gets_no_answer_times_out(rt, net, harness):
    before = rt.now_ns()
    client = net.connect(harness.black_hole(), timeout_ns=20 * NS_PER_MS)
    net.until(lambda: client.log)
    assert client.log == [("close", "connect timed out after 20 ms")]
    assert rt.now_ns() - before >= 20 * NS_PER_MS
    net.idle()
    assert len(client.log) == 1


def test_a_time_limit_does_not_harm_a_connect_in_time(net, loop):
    net.listen()
    client = net.connect(timeout_ns=5 * NS_PER_MS)
    net.until(lambda: client.log)
    assert client.log == ["connect"]
    loop.timer(lambda: client.log.append("later"), "later").start(8 * NS_PER_MS)
    net.until(lambda: "later" in client.log)
    assert client.log == ["connect", "later"]


@pytest.mark.parametrize("way", ["close", "abort"])
def test_a_connect_can_be_called_off_silently(net, harness, way):
    client = net.connect(harness.black_hole(), timeout_ns=5 * NS_PER_MS)
    getattr(client.transport, way)()
    assert client.transport.closed
    net.idle(turns=10)
    assert client.log == []
    assert net.loop.statistics()["transports"] == 0


@pytest.mark.parametrize("way", ["close", "abort"])
def test_a_refusal_that_was_not_told_yet_is_not_told_after_close(net, loop, way):
    client = net.connect(net.free_address())
    getattr(client.transport, way)()
    net.idle()
    assert client.log == []


def test_a_peer_that_closes_in_good_order_gives_no_reason(net):
    client, server = net.pair()
    server.transport.write(b"bye")
    server.transport.close()
    net.until(lambda: client.ended)
    assert client.log == ["connect", "data", ("close", None)]
    assert client.data == b"bye"
    client.transport.close()
    client.transport.abort()
    net.idle()
    assert len(client.log) == 3


def test_a_transport_may_be_closed_in_any_of_its_callbacks(net):
    net.listen()
    on_connect = net.connect(on_connect=lambda peer: peer.transport.close())
    net.until(lambda: net.accepted and net.accepted[0].ended)
    assert on_connect.log == ["connect"]

    on_data, server = net.pair(on_data=lambda peer: peer.transport.abort())
    server.transport.write(MEGABYTES)
    net.until(lambda: server.ended)
    assert on_data.log == ["connect", "data"]
    assert len(on_data.chunks) == 1

    on_close, server = net.pair(on_close=lambda peer: peer.transport.close())
    server.transport.close()
    net.until(lambda: on_close.ended)
    assert on_close.log == ["connect", ("close", None)]
    net.idle()
    assert net.loop.statistics()["transports"] == 0


def test_a_new_connect_may_begin_in_on_close(net, loop):
    """Reconnecting: the descriptor's number may well be the same."""
    net.listen()
    again = []
    client = net.connect(
        net.free_address(), on_close=lambda peer: again.append(net.connect(on_connect=lambda peer: None))
    )
    net.until(lambda: again and again[0].log)
    assert client.log == [("close", "Connection refused")]
    assert again[0].log == ["connect"]
    again[0].transport.write(b"hi")
    net.until(lambda: net.accepted[0].data == b"hi")


def test_an_accept_that_raises_ends_the_turn_and_the_transport(net, loop):
    listener = loop.listen(Address(), lambda transport: 1 // 0)
    client = net.connect(listener.address)
    with pytest.raises(ZeroDivisionError):
        net.until(lambda: False)
    net.until(lambda: client.ended)


def test_a_callback_may_close_another_transport_that_is_ready_too(net):
    """Both are in the same poll's report; the first to be served closes the other and opens a new one."""
    a, a_server = net.pair()
    b, b_server = net.pair()
    opened = []

    def close_other(other):
        def close(peer):
            if not opened:
                other.transport.close()
                opened.append(net.connect())

        return close

    a._hooks["data"], b._hooks["data"] = close_other(b), close_other(a)
    a_server.transport.write(b"x")
    b_server.transport.write(b"y")
    net.until(lambda: opened and opened[0].log)
    net.idle()
    assert sorted([bytes(a.data), bytes(b.data)]) in ([b"", b"x"], [b"", b"y"])
    assert opened[0].log == ["connect"]


def test_a_closed_listener_refuses_and_its_transports_live_on(net):
    client, server = net.pair()
    address = net.listener.address
    net.listener.close()
    net.listener.close()
    late = net.connect(address)
    net.until(lambda: late.log)
    assert late.log == [("close", "Connection refused")]
    client.transport.write(b"still here")
    net.until(lambda: server.data == b"still here")


def test_an_address_that_is_taken_is_an_os_error(net, loop):
    net.listen()
    with pytest.raises(OSError, match="in use"):
        loop.listen(net.listener.address, net.Peer)


def test_a_closed_port_can_be_listened_on_again_at_once(net, loop):
    client, server = net.pair()
    server.transport.close()
    net.until(lambda: client.ended)
    address = net.listener.address
    net.listener.close()
    assert net.listen(address).address == address
    again = net.connect(address)
    net.until(lambda: again.log == ["connect"])


def test_unix_sockets_carry_the_same(net, loop, tmp_path):
    address = Address(path=str(tmp_path / "s"))
    net.listen(address)
    assert net.listener.address == address
    client, server = net.pair()
    assert client.transport.address == address
    client.transport.write(MEGABYTES)
    client.transport.close()
    net.until(lambda: server.ended)
    assert server.data == MEGABYTES
    assert server.log == ["data", ("close", None)]
    net.listener.close()
    gone = net.connect(address)
    net.until(lambda: gone.log)
    assert gone.log[0][0] == "close"
    assert gone.log[0][1]


def test_two_hundred_transports_on_one_loop(net):
    net.listen(make=lambda: net.Peer(on_data=lambda peer: peer.transport.write(peer.chunks[-1])))
    clients = [net.connect(timeout_ns=10 * NS_PER_S) for _ in range(200)]
    net.until(lambda: all(client.log for client in clients) and len(net.accepted) == 200)
    assert net.loop.statistics()["transports"] == 400
    for i, client in enumerate(clients):
        client.transport.write(b"%d" % i)
    net.until(lambda: all(client.data for client in clients))
    assert [bytes(client.data) for client in clients] == [b"%d" % i for i in range(200)]
    for client in clients:
        client.transport.close()
    net.until(lambda: net.loop.statistics()["transports"] == 0)
    assert all(peer.ended for peer in net.accepted)


def test_closing_the_loop_ends_everything_silently(rt, net, loop):
    other = rt.loop("other")
    away = type(net)(other)
    net.listen()
    client = away.connect(net.listener.address)
    for _ in range(1000):
        other.run_once(NS_PER_MS)
        loop.run_once(NS_PER_MS)
        if client.log and net.accepted:
            break
    other.close()
    assert client.log == ["connect"]
    assert client.transport.closed
    net.until(lambda: net.accepted[0].ended)
    assert other.statistics()["transports"] == 0
