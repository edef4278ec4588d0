"""BlockingStream: one connection for one caller at a time, on a loop of its own that its caller turns.

Role: what a pool dials and hands out, whatever it speaks. The caller's own thread turns the loop while it waits, so a
conversation costs no hand-over to a second one. Closing is the exception: a pool may close a connection under its
caller, so `close` wakes the caller's loop and leaves the teardown to it. What is sent, and how an answer is told from a
part of one, is a subclass's matter; it brackets each conversation by `_begin` and `_finish`, and turns the loop itself.

What has failed once is of no use any more, and the first reason stands.

Thread: one caller at a time turns it; `close` any. Upstream: Conn (internal/pool/conn.go). Left out: TLS. Bound: a
subclass's, on what it has read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from coordemu.pool.pool_errors import ConnFailed
from coordemu.runtime.base import Address, Runtime

CONNECT, TIMEOUT, CLOSED, PROTOCOL = "connect", "timeout", "closed", "protocol"


class BlockingStream(ABC):
    """A connection that a subclass's constructor ends by `_open`. A `TransportHandler`, and a resource for `ConnPool`.

    address: of the server.  name: of its loop and its lock.
    """

    # What its failures are.
    _failure: ClassVar[type[ConnFailed]] = ConnFailed
    # Whether one that has not failed is closed in good order, so that its server can tell; every other is cut.
    _closes_in_order: ClassVar[bool] = False
    # What a caller is told under whom it was closed.
    _closed_under: ClassVar[str] = "the connection was closed under its caller"

    def __init__(self, rt: Runtime, address: Address, name: str) -> None:
        self.address = address
        self.name = name
        self._rt = rt
        self._loop = rt.loop(name)
        self._connected = False
        self._error: ConnFailed | None = None
        self._lock = rt.lock(name)
        self._busy = True
        self._shut = False
        self._closed = False
        self._wake = self._loop.async_handle(lambda: self._fail(CLOSED, self._closed_under), f"{name} close")

    def _open(self, timeout_ns: int | None) -> None:
        """Connect. timeout_ns: None: no limit but the system's. Raises ConnFailed, OSError when no descriptor is to be
        had; then nothing of it is left. May block."""
        try:
            self._transport = self._loop.connect(self.address, self, timeout_ns)
            while not self._connected and self._error is None:
                self._loop.run_once(None)
            if self._error is not None:
                raise self._error
        except BaseException:
            self._shut = True
            self._finish()
            raise
        self._finish()

    # -- what the loop calls, on the caller's thread, inside its turn

    def on_connect(self) -> None:
        """It stands."""
        self._connected = True

    @abstractmethod
    def on_data(self, data: bytes) -> None:
        """An answer, or a part of one. Thread: the caller's, inside its turn of the loop."""

    @abstractmethod
    def on_close(self, reason: str | None) -> None:
        """It has ended. reason: None: the peer closed it in good order. Thread: the caller's, inside its turn."""

    def _fail(self, kind: str, text: str) -> None:
        """From now on it is of no use. The first reason stands."""
        self._error = self._error or self._failure(kind, f"{self.address}: {text}")

    # -- what its caller calls

    def healthy(self) -> bool:
        """Whether it still stands, and nothing came that nobody has asked for. Thread: the caller's. Never blocks.

        Upstream: connCheck.
        """
        try:
            self._begin()
        except ConnFailed:
            return False
        try:
            self._loop.run_once(0)
            return self._error is None and self._at_rest()
        finally:
            self._finish()

    def _at_rest(self) -> bool:
        """Whether nothing has come that nobody took."""
        return True

    @property
    def failed(self) -> bool:
        """Whether it is of no use any more; also after a good answer, when the server keeps it no longer."""
        return self._error is not None

    def close(self) -> None:
        """End it; a conversation under way fails. Idempotent. Thread: any. Never blocks."""
        with self._lock:
            if self._shut:
                return
            self._shut = True
            busy = self._busy
            if busy:
                self._wake.send()
        if not busy:
            self._tear_down()

    # -- who has the loop

    def _begin(self) -> None:
        with self._lock:
            if self._shut:
                raise self._failure(CLOSED, f"{self.address}: the connection is closed")
            if self._busy:
                raise RuntimeError(f"{self.name} is used by two at once")
            self._busy = True

    def _finish(self) -> None:
        with self._lock:
            self._busy = False
            shut = self._shut
        if shut:
            self._tear_down()

    def _tear_down(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if self._closes_in_order and self._connected and self._error is None:
            self._transport.close()
        self._fail(CLOSED, "the connection is closed")
        self._loop.close()

    def _state_text(self) -> str:
        return "closed" if self._closed else "busy" if self._busy else "idle"
