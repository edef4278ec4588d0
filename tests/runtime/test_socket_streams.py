"""What only real sockets have, once there is a stream: kernel errors, hung-up peers, flushes that stall."""

from __future__ import annotations

import errno
import os
import socket

from coordemu.runtime.base import NS_PER_MS


def test_a_failed_send_first_delivers_what_has_arrived_then_ends(loop, pair, until, failing_calls):
    client, server = pair()
    failing_calls(client.transport, "send", errno.ENOBUFS)
    server.transport.write(b"answer")
    loop.run_once(0)
    client.transport.write(b"x")
    assert client.transport.buffered == 1
    until(lambda: ("close", os.strerror(errno.ENOBUFS)) in client.log)
    assert client.log == ["connect", "data", ("close", os.strerror(errno.ENOBUFS))]
    assert client.transport.buffered == 0


def test_a_failed_send_while_paused_waits_for_the_owner_to_read(loop, pair, failing_calls):
    client, server = pair()
    client.transport.pause_reading()
    failing_calls(client.transport, "send", errno.ENOBUFS)
    server.transport.write(b"answer")
    loop.run_once(0)
    client.transport.write(b"x")
    for _ in range(3):
        loop.run_once(NS_PER_MS)
    assert client.log == ["connect"]
    client.transport.resume_reading()
    loop.run_once(None)
    assert client.log == ["connect", "data", ("close", os.strerror(errno.ENOBUFS))]


def test_close_with_unread_data_does_not_reset_the_peer(loop, pair, until):
    """The kernel would, and the peer could lose what it has not read yet."""
    client, server = pair()
    server.transport.write(b"nobody reads this")
    server.transport.flush()
    client.transport.write(b"goodbye")
    client.transport.close()
    until(lambda: len(server.log) == 2)
    assert server.log == ["data", ("close", None)]


def test_writes_after_a_failed_send_are_dropped_and_a_close_ends_it_silently(loop, pair, failing_calls):
    client, _ = pair()
    client.transport.pause_reading()
    failing_calls(client.transport, "send", errno.ENOBUFS)
    client.transport.write(b"x")
    loop.run_once(0)
    assert client.transport.connected
    client.transport.write(b"y")
    assert client.transport.buffered == 0
    client.transport.close()
    loop.run_once(0)
    assert client.log == ["connect"]
    assert client.transport.closed


def test_a_failed_send_of_a_flush_ends_it_silently(loop, pair, failing_calls):
    client, _ = pair()
    failing_calls(client.transport, "send", errno.EPIPE)
    client.transport.write(b"x")
    client.transport.close()
    assert client.log == ["connect"]
    assert client.transport not in loop.transports


def test_a_read_error_is_the_reason(loop, pair, until, failing_calls):
    client, server = pair()
    failing_calls(client.transport, "recv", errno.EWOULDBLOCK, errno.ETIMEDOUT)
    server.transport.write(b"x")
    until(lambda: len(client.log) > 1)
    assert client.log == ["connect", ("close", os.strerror(errno.ETIMEDOUT))]


def test_a_paused_transport_with_a_hung_up_peer_does_not_keep_the_loop_busy(rt, loop, pair):
    client, server = pair()
    client.transport.pause_reading()
    server.transport.abort()
    for _ in range(3):
        loop.run_once(NS_PER_MS)
    before = rt.now_ns()
    assert loop.run_once(5 * NS_PER_MS) == 0
    assert rt.now_ns() - before >= 4 * NS_PER_MS  # it slept: epoll did not report the peer
    client.transport.close()


FLOOD = 50_000_000  # bytes, more than the buffers of two sockets


def fill(loop, client, server):
    """Have client close with so much unsent that only a reading server will let it end."""
    server.transport.pause_reading()
    client.transport.write(b"x" * FLOOD)
    client.transport.close()
    for _ in range(5):
        loop.run_once(NS_PER_MS)
    assert client.transport in loop.transports


def test_a_reset_of_a_paused_transport_that_is_still_sending_is_told_when_it_resumes(loop, pair, until):
    client, server = pair()
    server.transport.pause_reading()
    client.transport.pause_reading()
    client.transport.write(b"x" * FLOOD)
    server.transport.write(b"y")
    loop.run_once(0)
    assert client.transport.buffered > 0
    server.transport.abort()
    until(lambda: client.transport.buffered == 0)
    assert client.log == ["connect"]
    client.transport.resume_reading()
    until(lambda: client.log[-1] == ("close", "Connection reset by peer"))


def test_a_flush_that_makes_no_progress_is_cut(loop, pair, until):
    """The guard looks every ten seconds; here it is fired by hand."""
    client, server = pair()
    fill(loop, client, server)
    assert loop.statistics()["timers"] == 1
    before = client.transport.buffered
    server.transport.resume_reading()
    until(lambda: client.transport.buffered < before)
    server.transport.pause_reading()
    loop.run_once(0)
    client.transport._timers[-1].fire(0)
    assert client.transport in loop.transports  # something has left since the first look
    client.transport._timers[-1].fire(0)
    assert client.transport not in loop.transports
    server.transport.resume_reading()
    until(lambda: server.log and server.log[-1] == ("close", "Connection reset by peer"))
    assert client.log == ["connect"]


def test_a_stale_look_at_a_flush_does_nothing(loop, pair, until):
    client, server = pair()
    fill(loop, client, server)
    look = client.transport._timers[0]
    server.transport.resume_reading()
    until(lambda: server.log and server.log[-1] == ("close", None))
    assert not look.active
    look.fire(0)
    assert sum(map(len, server.chunks)) == FLOOD


def test_a_peer_that_ends_its_side_still_gets_the_flush(rt, loop, pair, until):
    client, server = pair()
    server.transport.write(b"answer nobody reads")
    fill(loop, client, server)
    server.transport._sock.shutdown(socket.SHUT_WR)
    for _ in range(5):
        loop.run_once(NS_PER_MS)
    before = rt.now_ns()
    loop.run_once(5 * NS_PER_MS)
    assert rt.now_ns() - before >= 4 * NS_PER_MS  # it slept: epoll does not report the peer's end for ever
    server.transport.resume_reading()
    until(lambda: sum(map(len, server.chunks)) == FLOOD)
    until(lambda: client.transport not in loop.transports)


def test_a_peer_that_resets_ends_the_flush(loop, pair, until):
    client, server = pair()
    fill(loop, client, server)
    server.transport.abort()
    until(lambda: client.transport not in loop.transports)
    assert client.log == ["connect"]
