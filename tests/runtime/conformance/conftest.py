"""The conformance suite's harnesses: how to make each runtime, and how to run a test inside it.

Every test here is a plain function of `rt` that runs as the task "main" of that runtime, so that the same text can run
on threads and in a simulator. A second runtime is one more kind of harness.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import SimHarness, ThreadsHarness, harness_fixture, pytest_pyfunc_call, rt, until

from coordemu.runtime.base import NS_PER_MS, Address, Loop, Runtime

__all__ = ["pytest_pyfunc_call", "rt", "until"]


class Peer:
    """Records what a transport tells. The hooks run after the recording."""

    def __init__(self, on_connect=None, on_data=None, on_close=None):
        self.transport = None
        self.log = []
        self.data = bytearray()
        self.chunks = []
        self._hooks = {"connect": on_connect, "data": on_data, "close": on_close}

    def _hook(self, what):
        hook = self._hooks[what]
        if hook is not None:
            hook(self)

    def on_connect(self):
        self.log.append("connect")
        self._hook("connect")

    def on_data(self, data):
        if not self.data:
            self.log.append("data")
        self.data += data
        self.chunks.append(data)
        self._hook("data")

    def on_close(self, reason):
        self.log.append(("close", reason))
        self._hook("close")

    @property
    def ended(self):
        return bool(self.log) and self.log[-1][0] == "close"


class Net:
    """A loop, a listener that accepts peers, and clients."""

    Peer = Peer

    def __init__(self, loop):
        self.loop = loop
        self.accepted = []
        self.make = Peer
        self.listener = None

    def listen(self, address=Address(), make=Peer, backlog=1024):  # noqa: B008 (frozen)
        self.make = make
        self.listener = self.loop.listen(address, self._accept, backlog)
        return self.listener

    def _accept(self, transport):
        peer = self.make()
        peer.transport = transport
        self.accepted.append(peer)
        return peer

    def connect(self, address=None, timeout_ns=None, **hooks):
        peer = Peer(**hooks)
        peer.transport = self.loop.connect(address or self.listener.address, peer, timeout_ns)
        assert peer.log == []  # nothing is told before connect has returned
        return peer

    def pair(self, make=Peer, **hooks):
        """A connected client and its accepted peer."""
        if self.listener is None:
            self.listen(make=make)
        known = len(self.accepted)
        client = self.connect(**hooks)
        self.until(lambda: client.log and len(self.accepted) == known + 1)
        return client, self.accepted[-1]

    def until(self, predicate, turns=5000):
        for _ in range(turns):
            if predicate():
                return
            self.loop.run_once(10 * NS_PER_MS)
        raise AssertionError("the loop never got there")

    def free_address(self):
        """An address that nobody listens on."""
        listener = self.loop.listen(Address(), Peer)
        listener.close()
        return listener.address

    def idle(self, turns=5):
        for _ in range(turns):
            self.loop.run_once(NS_PER_MS)


harness = harness_fixture({
    "threads": ThreadsHarness,
    "sim": SimHarness,
    "sim-random": lambda: SimHarness("random"),
    "sim-pct": lambda: SimHarness("pct3"),
})  # fmt: skip


@pytest.fixture
def loop(rt: Runtime) -> Iterator[Loop]:
    """A loop, closed after the test."""
    made = rt.loop("io")
    yield made
    made.close()


@pytest.fixture
def net(loop: Loop) -> Net:
    """The loop with its peers."""
    return Net(loop)
