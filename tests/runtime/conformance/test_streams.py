"""What transports carry, on every runtime: writes, floods, flushes, pauses. Both ends live on the test's loop."""

from __future__ import annotations

import pytest

from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Address, TransportClosed

MEGABYTES = bytes(range(256)) * 4096 * 16  # 16 MiB, more than the buffers of two sockets


def test_the_writes_of_a_turn_leave_together_at_its_end(net):
    client, server = net.pair()
    sent = []

    def write_often():
        for i in range(100):
            client.transport.write(b"%03d" % i)
        sent.append(client.transport.buffered)

    net.loop.timer(write_often, "writer").start(0)
    net.until(lambda: server.data)
    assert sent == [300]
    assert server.chunks == [b"".join(b"%03d" % i for i in range(100))]
    assert client.transport.buffered == 0


def test_an_empty_write_is_nothing(net):
    client, server = net.pair()
    client.transport.write(b"")
    net.idle()
    assert client.transport.buffered == 0
    assert server.log == []


def test_a_write_needs_a_connected_transport(net):
    net.listen()
    client = net.connect()
    with pytest.raises(TransportClosed):
        client.transport.write(b"too early")
    net.until(lambda: client.log)
    client.transport.close()
    with pytest.raises(TransportClosed):
        client.transport.write(b"too late")
    net.until(lambda: net.accepted and net.accepted[0].ended)
    assert net.accepted[0].data == b""
    with pytest.raises(TransportClosed):
        net.accepted[0].transport.write(b"the peer has gone")


def test_megabytes_arrive_whole_and_in_order(net):
    client, server = net.pair()
    client.transport.write(MEGABYTES)
    net.loop.run_once(0)
    assert 0 < client.transport.buffered < len(MEGABYTES)  # the kernel took a part
    client.transport.write(b"tail 1")
    net.loop.run_once(0)
    client.transport.write(b"tail 2")
    net.until(lambda: len(server.data) == len(MEGABYTES) + 12)
    assert server.data == MEGABYTES + b"tail 1tail 2"
    assert client.transport.buffered == 0
    stats = net.loop.statistics()
    assert stats["bytes_in"] == stats["bytes_out"] == len(MEGABYTES) + 12


def test_megabytes_both_ways_at_once(net):
    client, server = net.pair()
    client.transport.write(MEGABYTES)
    server.transport.write(MEGABYTES[::-1])
    net.until(lambda: len(server.data) == len(client.data) == len(MEGABYTES))
    assert server.data == MEGABYTES
    assert client.data == MEGABYTES[::-1]


def test_close_sends_what_is_queued_first_and_no_callback_follows(net):
    client, server = net.pair()
    client.transport.write(MEGABYTES)
    client.transport.write(b"the end")
    client.transport.close()
    client.transport.close()
    assert client.transport.closed
    assert not client.transport.connected
    server.transport.write(b"nobody reads this")
    net.until(lambda: server.ended)
    assert server.data == MEGABYTES + b"the end"
    assert server.log == ["data", ("close", None)]
    net.idle()
    assert client.log == ["connect"]
    assert net.loop.statistics()["transports"] == 0


def test_abort_loses_what_is_queued_and_no_callback_follows(net):
    client, server = net.pair()
    client.transport.write(MEGABYTES)
    client.transport.abort()
    client.transport.abort()
    client.transport.close()
    assert client.transport.closed
    assert client.transport.buffered == 0
    net.until(lambda: server.ended)
    net.idle()
    assert server.log == [("close", "Connection reset by peer")]
    assert client.log == ["connect"]


def test_abort_after_close_gives_up_the_flush(net):
    client, server = net.pair()
    server.transport.pause_reading()
    client.transport.write(MEGABYTES)
    client.transport.close()
    net.idle()
    assert client.transport.buffered > 0
    client.transport.abort()
    server.transport.resume_reading()
    net.until(lambda: server.ended)
    assert len(server.data) < len(MEGABYTES)
    assert server.log[-1] == ("close", "Connection reset by peer")


def test_what_arrived_before_a_reset_by_our_own_write_is_delivered_first(net):
    """The peer answers and hangs up; meanwhile we write: the answer counts, then the end."""
    client, server = net.pair()
    client.transport.pause_reading()
    server.transport.write(b"answer")
    server.transport.close()
    net.idle()
    client.transport.write(b"too late")
    net.idle()
    assert client.log == ["connect"]
    client.transport.resume_reading()
    net.until(lambda: client.ended)
    assert client.log[:2] == ["connect", "data"]
    assert client.data == b"answer"
    assert len(client.log) == 3


def test_writes_to_a_peer_that_has_gone_end_in_one_close(net):
    client, server = net.pair()
    server.transport.abort()
    for _ in range(5):
        if client.transport.connected:
            client.transport.write(b"x" * 1000)
        net.idle(turns=1)
    net.until(lambda: client.ended)
    net.idle()
    assert [entry for entry in client.log if entry != "connect"] == [("close", client.log[-1][1])]
    assert client.log[-1][1] is not None


def test_a_paused_transport_delivers_nothing_until_it_resumes(net):
    client, server = net.pair()
    client.transport.pause_reading()
    client.transport.pause_reading()
    server.transport.write(b"patience")
    server.transport.close()
    net.idle()
    assert client.log == ["connect"]
    client.transport.resume_reading()
    client.transport.resume_reading()
    net.until(lambda: client.ended)
    assert client.log == ["connect", "data", ("close", None)]


def test_a_transport_that_pauses_itself_gets_the_rest_later(net):
    client, server = net.pair(on_data=lambda peer: peer.transport.pause_reading())
    server.transport.write(MEGABYTES)
    net.until(lambda: client.data)
    net.idle()
    assert len(client.chunks) == 1
    for _ in range(1000):
        if len(client.data) == len(MEGABYTES):
            break
        client.transport.resume_reading()
        net.loop.run_once(NS_PER_MS)
    assert client.data == MEGABYTES


def test_an_accepting_handler_may_write_or_close_at_once(net, loop):
    greeted = type(net)(loop)

    def greet(transport):
        transport.write(b"-busy")
        transport.close()
        return net.Peer()

    listener = loop.listen(Address(), greet)
    client = greeted.connect(listener.address)
    greeted.until(lambda: client.ended)
    assert client.log == ["connect", "data", ("close", None)]
    assert client.data == b"-busy"


def test_data_may_be_awaited_in_a_nested_turn(net):
    """A yield inside a callback: other transports go on, and so may the one that is in its callback."""
    a, a_server = net.pair()
    b, b_server = net.pair()
    seen = []

    def nested(peer):
        if not seen:
            seen.append("in")
            b_server.transport.write(b"other")
            a_server.transport.write(b"more")
            net.until(lambda: b.data and len(peer.data) == 8)
            seen.append("out")

    a._hooks["data"] = nested
    a_server.transport.write(b"data")
    net.until(lambda: "out" in seen)
    assert (bytes(a.data), bytes(b.data)) == (b"datamore", b"other")


def test_two_loops_in_two_tasks_talk(rt, net):
    client_loop = rt.loop("client")
    net.listen(make=lambda: net.Peer(on_data=lambda peer: peer.transport.write(peer.chunks[-1])))

    def count(peer):
        if len(peer.data) == len(MEGABYTES):
            client_loop.stop()

    client = net.Peer(on_connect=lambda peer: peer.transport.write(MEGABYTES), on_data=count)
    client.transport = client_loop.connect(net.listener.address, client)
    tasks = [rt.spawn(net.loop.run, name="server"), rt.spawn(client_loop.run, name="client")]
    assert tasks[1].join(20 * NS_PER_S)
    net.loop.stop()
    assert tasks[0].join(20 * NS_PER_S)
    assert client.data == MEGABYTES
    client_loop.close()
