"""The conformance suite's harnesses: how to make each runtime, and how to run a test inside it.

Every test here is a plain function of `rt` that runs as the task "main" of that runtime, so that the same text can run
on threads and in a simulator. A second runtime is one more entry in HARNESSES.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from coordemu.runtime import wait_for
from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Address, Loop, Runtime
from coordemu.runtime.sim import SimRuntime
from coordemu.runtime.sim_schedule import make_strategy
from coordemu.runtime.threads import ThreadsRuntime

LIMIT_S = 30


class ThreadsHarness:
    """Real threads: the test runs in a spawned one, and must leave none behind."""

    def __init__(self) -> None:
        self.rt = ThreadsRuntime(seed=1)
        self._resources = ExitStack()

    def run(self, main: Callable[[], Any]) -> None:
        """Run main as a task to its end; raise what it raised, or why it did not end."""
        ended = threading.Event()  # not a join, which would show up in the wait-for graph

        def run() -> None:
            try:
                main()
            finally:
                ended.set()

        task = self.rt.spawn(run, name="main")
        assert ended.wait(LIMIT_S), wait_for.render(self.rt)
        task.join()
        if task.error is not None:
            raise task.error

    def black_hole(self) -> Address:
        """Where connecting never comes to an end: a listener whose queue is full, so that SYNs are dropped."""
        listener = self._resources.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = self._resources.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        return Address(port=listener.getsockname()[1])

    def close(self) -> None:
        """The end of the test: everything must have ended."""
        self._resources.close()
        left = [task for task in self.rt.tasks() if not task.adopted and not task.join(LIMIT_S * NS_PER_S)]
        assert not left, wait_for.render(self.rt)


class SimHarness:
    """The simulator: the test is a task of it; what it leaves behind goes on after the fixtures are torn down."""

    def __init__(self, strategy: str = "run-on") -> None:
        self.rt = SimRuntime(make_strategy(strategy, seed=1), stop_on_error=False)

    def run(self, main: Callable[[], Any]) -> None:
        """Run main as a task to its end; raise what it raised, or why it did not end."""
        tasks = []

        def run() -> None:
            tasks.append(self.rt.current())
            main()

        self.rt.run(run, wait_for_all=False).check()
        if tasks[0].error is not None:
            raise tasks[0].error

    def black_hole(self) -> Address:
        """Where connecting never comes to an end."""
        return self.rt.network.black_hole()

    def close(self) -> None:
        """The end of the test: everything must have ended."""
        if not self.rt.core.dead:
            self.rt.finish().check()
        assert not self.rt.tasks()


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


HARNESSES: dict[str, Callable[[], Any]] = {
    "threads": ThreadsHarness,
    "sim": SimHarness,
    "sim-random": lambda: SimHarness("random"),
    "sim-pct": lambda: SimHarness("pct3"),
}


@pytest.fixture(params=sorted(HARNESSES))
def harness(request: pytest.FixtureRequest) -> Iterator[Any]:
    """One runtime's harness, closed after the test."""
    made = HARNESSES[request.param]()
    yield made
    made.close()


@pytest.fixture
def rt(harness: Any) -> Runtime:
    """The runtime under test."""
    runtime: Runtime = harness.rt
    return runtime


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test of this directory inside its runtime."""
    harness = pyfuncitem.funcargs.get("harness")
    if harness is None:
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    harness.run(lambda: pyfuncitem.obj(**arguments))
    return True


@pytest.fixture
def until(rt: Runtime) -> Callable[[Callable[[], Any]], None]:
    """`until(predicate)`: let the other tasks run until it holds; the test fails after ten seconds."""

    def wait(predicate: Callable[[], Any]) -> None:
        assert rt.poll_until(predicate, 200_000, "the test's condition", timeout_ns=10 * NS_PER_S)

    return wait


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
