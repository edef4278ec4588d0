"""PoolConn: a blocking RESP connection for one caller at a time, on a loop of its own.

Role: what a cluster client's pools dial and hand out. The caller's own thread turns the loop while it waits for its
replies: no second thread takes part in a command, so a command costs no hand-over. Closing is the exception: a pool may
close a connection under its caller, so `close` wakes the caller's loop and leaves the teardown to it.

A connection on which a wait ended without its reply is broken for good: the reply may still come, and would be taken
for the next command's.

Thread: one caller at a time turns it; `close` any. Upstream: Conn's reader and writer (internal/pool/conn.go).
Left out: pushes, subscriptions, TLS. Bound of what is read and not taken: the replies of the commands that were sent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import hiredis

from coordemu.pool.pool_errors import PoolError
from coordemu.runtime.base import Address, Runtime, TransportClosed

Command = Sequence[str | bytes | int]
# The stub of hiredis allows a command of one word only.
_pack: Callable[[Any], bytes] = hiredis.pack_command
_NOT_YET = object()


class ConnFailed(PoolError):
    """The connection is of no use any more. kind: "connect", "timeout", "closed" or "protocol".  sent: whether commands
    had left already, of which nobody knows now whether they were carried out."""

    def __init__(self, kind: str, text: str, sent: bool = False) -> None:
        super().__init__(text)
        self.kind = kind
        self.sent = sent


class PoolConn:
    """One connection, connected when made. A `TransportHandler`.

    address: of the server.  timeout_ns: for the connecting, None: no limit but the system's. Raises ConnFailed, OSError
    when no descriptor is to be had. May block.
    """

    def __init__(self, rt: Runtime, address: Address, timeout_ns: int | None = None) -> None:
        self.address = address
        self.name = f"conn {address}"
        self._rt = rt
        self._loop = rt.loop(self.name)
        self._reader = hiredis.Reader(notEnoughData=_NOT_YET)
        self._replies: list[Any] = []
        self._connected = False
        self._error: ConnFailed | None = None
        self._lock = rt.lock(self.name)
        self._busy = True
        self._shut = False
        self._closed = False
        self._wake = self._loop.async_handle(self._on_close_asked, f"{self.name} close")
        self.commands = 0
        try:
            self._transport = self._loop.connect(address, self, timeout_ns)
            while not self._connected and self._error is None:
                self._loop.run_once(None)
            if self._error is not None:
                raise self._error
        except BaseException:
            self._shut = True
            self._finish()
            raise
        self._finish()

    # -- what the loop calls

    def on_connect(self) -> None:
        """It stands. Thread: the caller's, inside its turn of the loop; so are the other two."""
        self._connected = True

    def on_data(self, data: bytes) -> None:
        """Replies, or parts of some."""
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _NOT_YET:
                self._replies.append(reply)
        except hiredis.ProtocolError as error:
            self._error = ConnFailed("protocol", f"{self.address} sends what is not RESP: {error}")

    def on_close(self, reason: str | None) -> None:
        """It has ended."""
        kind = "closed" if self._connected else "connect"
        self._error = self._error or ConnFailed(kind, f"{self.address}: {reason or 'the peer closed the connection'}")

    def _on_close_asked(self) -> None:
        self._error = self._error or ConnFailed("closed", f"{self.address}: the pool closed the connection")

    # -- what its caller calls

    def call(self, *command: str | bytes | int, timeout_ns: int | None = None) -> Any:
        """Send one command, wait for its reply. As `pipeline`."""
        return self.pipeline((command,), timeout_ns)[0]

    def pipeline(self, commands: Sequence[Command], timeout_ns: int | None = None) -> list[Any]:
        """Send commands, wait for their replies. An error reply is a hiredis.ReplyError among them.

        timeout_ns: for all of them, None: no limit. Raises ConnFailed; then nobody knows which were carried out, and
        the connection is of no use any more. Thread: the caller's. Blocks.
        """
        self._begin()
        try:
            if self._replies and self._error is None:
                self._error = ConnFailed("protocol", f"{self.address} sends replies that nobody has asked for")
            if self._error is not None:
                raise self._error
            try:
                self._transport.write(b"".join([_pack(tuple(command)) for command in commands]))
            except TransportClosed as closed:
                self._error = ConnFailed("closed", f"{self.address}: {closed}")
                raise self._error from None
            self.commands += len(commands)
            try:
                self._wait_for(len(commands), timeout_ns)
            except ConnFailed as failed:
                raise ConnFailed(failed.kind, str(failed), sent=True) from None
            replies, self._replies = self._replies, []
            return replies
        finally:
            self._finish()

    def _wait_for(self, count: int, timeout_ns: int | None) -> None:
        deadline_ns = None if timeout_ns is None else self._rt.now_ns() + timeout_ns
        run_once, replies = self._loop.run_once, self._replies
        while len(replies) < count:
            if self._error is not None:
                raise self._error
            left_ns = None
            if deadline_ns is not None:
                left_ns = deadline_ns - self._rt.now_ns()
                if left_ns <= 0:
                    self._error = ConnFailed("timeout", f"{self.address} did not answer in time")
                    raise self._error
            run_once(left_ns)
        if len(replies) > count:
            self._error = ConnFailed("protocol", f"{self.address} sends replies that nobody has asked for")
            raise self._error

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
            return self._error is None and not self._replies
        finally:
            self._finish()

    @property
    def failed(self) -> bool:
        """Whether it is of no use any more."""
        return self._error is not None

    def close(self) -> None:
        """End it; a call under way fails. Idempotent. Thread: any. Never blocks."""
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
                raise ConnFailed("closed", f"{self.address}: the connection is closed")
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
        self._error = self._error or ConnFailed("closed", f"{self.address}: the connection is closed")
        self._loop.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "busy" if self._busy else "idle"
        return f"<PoolConn {self.address} {state}, {self.commands} commands>"
