"""How the tests of the Hub, and of what it stands on, run: each as a task of either runtime; a client of raw bytes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Self

import pytest
from harness import LIMIT_S, harness_fixture, pytest_pyfunc_call, rt, rt_threads, until

from coordemu.lab.http_host import HttpHost
from coordemu.lab.http_server import Handler, HttpServer
from coordemu.runtime.base import NS_PER_S, Address, Loop, Runtime

__all__ = ["pytest_pyfunc_call", "rt", "rt_threads", "until"]

harness = harness_fixture()


@pytest.fixture
def serve(request: pytest.FixtureRequest) -> Callable[..., AbstractContextManager[HttpHost[HttpServer]]]:
    """`with serve(handler) as host:` a server with its task, of `rt`, or of `rt_threads` where the test has that."""
    name = "rt_threads" if "rt_threads" in request.fixturenames else "rt"
    runtime: Runtime = request.getfixturevalue(name)

    def make(handler: Handler, address: Address | None = None, **settings: Any) -> HttpHost[HttpServer]:
        def server(loop: Loop) -> HttpServer:
            return HttpServer(runtime, loop, address or Address(), handler, **settings)

        return HttpHost(runtime, "server", server)

    return make


class Raw:
    """A client of bytes: what came, and how it ended."""

    def __init__(self, runtime: Runtime, address: Address) -> None:
        self.rt = runtime
        self.loop = runtime.loop("raw")
        self.came = b""
        self.connected = self.ended = False
        self.reason: str | None = None
        self.transport = self.loop.connect(address, self)
        self.wait(lambda: self.connected or self.ended)

    def on_connect(self) -> None:
        self.connected = True

    def on_data(self, data: bytes) -> None:
        self.came += data

    def on_close(self, reason: str | None) -> None:
        self.ended, self.reason = True, reason

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.loop.close()

    def send(self, data: bytes) -> None:
        """It leaves now."""
        self.transport.write(data)
        self.loop.run_once(0)

    def wait(self, done: Callable[[], Any]) -> None:
        deadline_ns = self.rt.now_ns() + LIMIT_S * NS_PER_S
        while not done():
            assert self.rt.now_ns() < deadline_ns, f"came: {self.came!r}"
            self.loop.run_once(NS_PER_S)

    def until(self, end: bytes) -> bytes:
        """What has come, once that ends it."""
        self.wait(lambda: self.came.endswith(end))
        return self.came

    def until_closed(self) -> bytes:
        """All that came."""
        self.wait(lambda: self.ended)
        return self.came


@pytest.fixture
def raw(rt: Runtime) -> Callable[[Address], Raw]:
    """`with raw(address) as client:` a client of bytes."""
    return lambda address: Raw(rt, address)
