"""Helpers of the tests of real sockets: peers that record, a loop that the test turns, sockets that fail."""

from __future__ import annotations

import pytest

from coordemu.runtime import quick_socket
from coordemu.runtime.base import NS_PER_MS, Address
from coordemu.runtime.transport_state import NoHandler


class Peer(NoHandler):
    """Keeps what it is told."""

    def __init__(self):
        self.transport = None
        self.log = []
        self.chunks = []

    def on_connect(self):
        self.log.append("connect")

    def on_data(self, data):
        self.log.append("data")
        self.chunks.append(data)

    def on_close(self, reason):
        self.log.append(("close", reason))


@pytest.fixture
def loop(rt):
    made = rt.loop("io")
    yield made
    made.close()


@pytest.fixture
def until(loop):
    def turn(predicate):
        for _ in range(5000):
            if predicate():
                return
            loop.run_once(10 * NS_PER_MS)
        raise AssertionError("the loop never got there")

    return turn


@pytest.fixture
def pair(loop, until):
    """`pair()`: a connected client, and its accepted peer."""
    accepted = []

    def accept(transport):
        peer = Peer()
        peer.transport = transport
        accepted.append(peer)
        return peer

    listener = loop.listen(Address(), accept)

    def connect():
        client = Peer()
        client.transport = loop.connect(listener.address, client)
        known = len(accepted)
        until(lambda: client.log and len(accepted) > known)
        return client, accepted[-1]

    return connect


class Failing:
    """A socket with one faulty method, which fails as scripted (None: works)."""

    def __init__(self, sock, method, *errors):
        self._sock = sock
        self._errors = list(errors)
        self._real = getattr(sock, method)
        setattr(self, method, self._fail_or_work)

    def _fail_or_work(self, *args):
        error = self._errors.pop(0) if self._errors else None
        if error is not None:
            raise OSError(error, "scripted")
        return self._real(*args)

    def __getattr__(self, name):
        return getattr(self._sock, name)


@pytest.fixture
def peer():
    """`peer()`: a handler that records."""
    return Peer


@pytest.fixture
def failing():
    """`failing(sock, method, *errors)`: a socket whose method fails as scripted."""
    return Failing


@pytest.fixture
def failing_calls(monkeypatch):
    """`failing_calls(transport, "send" or "recv", *errors)`: a connecting transport whose calls fail as scripted."""

    def script(transport, call, *errors):
        real, fd, left = getattr(quick_socket, f"_{call}"), transport.fileno(), list(errors)
        scripted = lambda number, *args: -left.pop(0) if left and number == fd else real(number, *args)  # noqa: E731
        monkeypatch.setattr(quick_socket, f"_{call}", scripted)

    return script
