"""A loop's system calls with the interpreter lock kept: the answers and errors of a socket's, and when a poll spins."""

from __future__ import annotations

import socket
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from coordemu._native import lib
from coordemu.runtime import quick_socket
from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Address
from coordemu.runtime.poller import READABLE, WRITABLE
from coordemu.runtime.quick_socket import SPIN_NS, QuickPoller, QuickTransport
from coordemu.runtime.stream import StreamTable
from coordemu.runtime.thread_gate import gate_wait, make_gate
from coordemu.runtime.transport_state import State


@pytest.fixture
def poller():
    poller = QuickPoller()
    yield poller
    poller.close()


def made_of(sock, poller):
    """A transport that stands on this socket."""
    loop = SimpleNamespace(poller=poller, transports=StreamTable())
    transport = QuickTransport(loop, sock, Address(path="/nowhere"), State.OPEN)
    transport._forget_socket()
    return transport


@pytest.fixture
def pair(poller):
    ours, theirs = socket.socketpair()
    quick = made_of(ours, poller)
    yield quick, theirs
    quick.abort()
    theirs.close()


def test_bytes_go_both_ways_whatever_they_are(pair):
    quick, theirs = pair
    everything = bytes(range(256)) * 3
    assert quick._send_some(memoryview(everything)) == len(everything)
    assert theirs.recv(10_000) == everything
    theirs.sendall(everything)
    assert quick._recv(300) == everything[:300]
    assert quick._recv(10_000_000) == everything[300:]


def test_it_keeps_the_number_of_its_socket_and_closes_it(poller):
    ours, theirs = socket.socketpair()
    number = ours.fileno()
    quick = made_of(ours, poller)
    assert (quick.fileno(), ours.fileno(), quick._sock) == (number, -1, None)
    assert not hasattr(quick, "__dict__")  # a thousand idle connections have one each
    quick.abort()
    assert quick.fileno() == -1
    assert theirs.recv(1) == b""
    theirs.close()


def fill(quick):
    """Send until the kernel takes no more."""
    chunk = memoryview(bytes(65_536))
    while chunk:
        try:
            quick._send_some(chunk)
        except BlockingIOError:
            chunk = chunk[: len(chunk) // 2]


def test_errors_are_those_of_a_socket(pair, poller):
    quick, theirs = pair
    with pytest.raises(BlockingIOError):
        quick._recv(10)
    fill(quick)
    with pytest.raises(BlockingIOError):
        quick._send_some(memoryview(b"x"))
    theirs.close()
    with pytest.raises(ConnectionError):
        quick._send_some(memoryview(b"x"))
    quick.abort()
    for call in (lambda: quick._recv(1), lambda: quick._send_some(memoryview(b"x"))):
        with pytest.raises(OSError, match="descriptor"):
            call()


def test_the_end_of_the_stream_is_no_bytes(pair):
    quick, theirs = pair
    theirs.close()
    assert quick._recv(10) == b""


def test_a_poll_reports_what_is_watched(pair, poller):
    quick, theirs = pair
    source = object()
    poller.watch(quick.fileno(), source, READABLE | WRITABLE)
    assert poller.poll(0) == [(source, WRITABLE)]
    theirs.sendall(b"x")
    assert poller.poll(None) == [(source, READABLE | WRITABLE)]
    poller.watch(quick.fileno(), source, 0)
    before_ns = time.monotonic_ns()
    assert poller.poll(3 * NS_PER_MS) == []
    assert time.monotonic_ns() - before_ns >= 3 * NS_PER_MS


def test_a_watch_is_changed_and_ended_and_its_errors_are_those_of_epoll(pair, poller):
    quick, _ = pair
    first, second = object(), object()
    poller.watch(quick.fileno(), first, 0)
    assert len(poller) == 0, "what was not watched need not be ended"
    poller.watch(quick.fileno(), first, READABLE | WRITABLE)
    poller.watch(quick.fileno(), second, WRITABLE)
    assert poller.poll(0) == [(first, WRITABLE)], "only the mask is changed"
    poller.watch(quick.fileno(), second, 0)
    assert len(poller) == 0
    with pytest.raises(OSError, match="descriptor"):
        poller.watch(-1, first, READABLE)
    assert len(poller) == 0


def test_a_second_close_leaves_the_number_to_its_new_owner(pair):
    quick, theirs = pair
    number = quick.fileno()
    quick.abort()
    assert theirs.recv(1) == b""
    other, another = socket.socketpair()
    assert number in (other.fileno(), another.fileno())
    quick.abort()
    other.sendall(b"x")
    assert another.recv(1) == b"x"
    other.close()
    another.close()


def test_nobody_else_runs_while_sockets_are_watched_and_closed(poller):
    """A thread that is ready to run at every moment; it would have its turn at a call that lets go of the lock."""
    source, turns, over = object(), [0], []

    def run():
        while not over:
            turns[0] += 1
            time.sleep(0)

    before = sys.getswitchinterval()
    thread = threading.Thread(target=run)
    sys.setswitchinterval(100)
    try:
        thread.start()
        while not turns[0]:
            time.sleep(0)
        for _ in range(10):
            pairs = [socket.socketpair() for _ in range(100)]
            quick = [made_of(ours, poller) for ours, _ in pairs]
            turns_before = turns[0]
            for one in quick:
                poller.watch(one.fileno(), source, READABLE)
                poller.watch(one.fileno(), source, 0)
                one.abort()
            assert turns[0] == turns_before
            for _, theirs in pairs:
                theirs.close()
    finally:
        over.append(True)
        thread.join()
        sys.setswitchinterval(before)


def test_a_poll_without_limit_is_ended_by_a_report(pair, poller):
    quick, theirs = pair
    poller.watch(quick.fileno(), quick, READABLE)
    thread = threading.Timer(0.01, lambda: theirs.sendall(b"x"))
    thread.start()
    assert poller.poll(None) == [(quick, READABLE)]
    thread.join()


def test_a_closed_poller_says_so(poller):
    poller.close()
    with pytest.raises(OSError, match="descriptor"):
        poller.poll(0)


@pytest.fixture
def busy():
    """Say for how long the interpreter counts as busy from now on."""
    yield lambda duration_ns: lib.native_set_busy(time.monotonic_ns() + duration_ns)
    lib.native_set_busy(0)


def test_only_a_poll_after_a_send_asks_to_spin_and_never_for_longer_than_it_would_wait(pair, poller, monkeypatch):
    quick, _ = pair
    asked = []

    def poll(_epoll, _max, wait_ns, spin_ns, _fds, _masks):
        asked.append((wait_ns, spin_ns))
        return 0

    monkeypatch.setattr(quick_socket, "_poll", poll)
    for wait_ns in (None, 0, SPIN_NS // 2, SPIN_NS * 2):
        quick._send_some(memoryview(b"x"))
        poller.poll(wait_ns)
        poller.poll(wait_ns)
    assert asked == [
        (-1, SPIN_NS), (-1, 0), (0, 0), (0, 0), (SPIN_NS // 2, SPIN_NS // 2), (SPIN_NS // 2, 0), (SPIN_NS * 2, SPIN_NS),
        (SPIN_NS * 2, 0),
    ]  # fmt: skip


def test_a_poll_spins_in_a_busy_interpreter_alone(poller, busy):
    def took_ns():
        before_ns = time.monotonic_ns()
        quick_socket._poll(poller._fd, 1, 0, 20 * NS_PER_MS, poller._fds, poller._masks)
        return time.monotonic_ns() - before_ns

    busy(10 * NS_PER_S)
    assert lib.native_is_busy()
    assert took_ns() >= 20 * NS_PER_MS
    busy(-1)
    assert not lib.native_is_busy()
    assert min(took_ns() for _ in range(5)) < 20 * NS_PER_MS


def test_a_wait_beside_a_thread_that_computes_finds_the_interpreter_busy(busy):
    over = []

    def compute():
        while not over:
            pass

    thread = threading.Thread(target=compute)
    thread.start()
    try:
        for _ in range(50):
            gate_wait(make_gate(), time.monotonic_ns() + NS_PER_MS)
            if lib.native_is_busy():
                break
        assert lib.native_is_busy()
    finally:
        over.append(True)
        thread.join()


@pytest.mark.parametrize("spin_ns", [0, 2 * NS_PER_MS])
def test_looking_and_moving_bytes_keep_the_interpreter_lock(pair, poller, busy, spin_ns):
    """Two threads append around their calls; whoever lets go of the lock inside lets the other one in between."""
    quick, theirs = pair
    busy(10 * NS_PER_S)
    theirs.sendall(b"x" * 100)
    turns, over = [0], []

    def count():
        while not over:
            turns[0] += 1

    thread = threading.Thread(target=count)
    thread.start()
    try:
        kept = 0
        for _ in range(50):
            before = turns[0]
            quick_socket._poll(poller._fd, 1, 0, spin_ns, poller._fds, poller._masks)
            quick._recv(1)
            quick._send_some(memoryview(b"x"))
            kept += turns[0] == before
    finally:
        over.append(True)
        thread.join()
    assert kept > 25  # a switch interval may end in between, now and then
