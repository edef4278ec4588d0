"""HttpHost: an HTTP server with a loop and a task of its own.

Role: what a run starts when it wants a server beside it: one task turns one loop for it, on real threads and in the
simulator alike. A process of its own is not needed: the server's work per request is small, and beside its clients it
can be asked afterwards what it has served.

Thread: any, one at a time; `stop` blocks until the task has ended. Upstream: none. Left out: several loops per server.
Bound: the actions that are posted and not carried out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, Self, TypeVar

from coordemu.runtime.base import Address, Loop, Runtime


class Server(Protocol):
    """What can be hosted."""

    def start(self) -> Address: ...
    def stop(self) -> None: ...


S = TypeVar("S", bound=Server)


class HttpHost(Generic[S]):
    """A server, listening when this is made.

    name: of the loop and the task.  make: makes the server for a loop. Raises what its `start` raises, PortTaken for
    one.
    """

    def __init__(self, rt: Runtime, name: str, make: Callable[[Loop], S]) -> None:
        self.name = name
        self.loop = rt.loop(name)
        started = False
        try:
            self.server = make(self.loop)
            self.address = self.server.start()
            started = True
        finally:
            if not started:
                self.loop.close()
        self.task = rt.spawn(self.loop.run, name=name)
        self._stopped = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def post(self, action: Callable[[], object]) -> None:
        """Have the server's task do something, soon. Thread: any. Never blocks."""
        self.loop.post(action, f"{self.name}: orders")

    def stop(self) -> None:
        """End the task and the server. Connections that await nothing end in good order; those that await an answer are
        cut. Idempotent. Raises what the task has ended with, if it had. Blocks."""
        if self._stopped:
            return
        self._stopped = True
        self.loop.stop()
        self.task.join()
        self.server.stop()
        self.loop.close()
        if self.task.error is not None:
            raise self.task.error

    def __repr__(self) -> str:
        return f"<HttpHost {self.server!r}{' stopped' if self._stopped else ''}>"
