"""PoolConn: a blocking RESP connection for one caller at a time, on a loop of its own.

Role: what a cluster client's pools dial and hand out: a `BlockingStream` that sends commands and waits for as many
replies. Its caller's own thread does all that.

A connection on which a wait ended without its reply is broken for good: the reply may still come, and would be taken
for the next command's.

Thread: one caller at a time turns it; `close` any. Upstream: Conn's reader and writer (internal/pool/conn.go).
Left out: pushes, subscriptions, TLS. Bound of what is read and not taken: the replies of the commands that were sent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import hiredis

from coordemu.pool.blocking_stream import CLOSED, CONNECT, PROTOCOL, TIMEOUT, BlockingStream
from coordemu.pool.pool_errors import ConnFailed
from coordemu.runtime.base import Address, Runtime, TransportClosed

Command = Sequence[str | bytes | int]
# The stub of hiredis allows a command of one word only.
_pack: Callable[[Any], bytes] = hiredis.pack_command
_NOT_YET = object()


class PoolConn(BlockingStream):
    """One connection, connected when made. A `TransportHandler`.

    address: of the server.  timeout_ns: for the connecting, None: no limit but the system's. Raises ConnFailed, OSError
    when no descriptor is to be had. May block.
    """

    _closed_under = "the pool closed the connection"

    def __init__(self, rt: Runtime, address: Address, timeout_ns: int | None = None) -> None:
        super().__init__(rt, address, f"conn {address}")
        self._reader = hiredis.Reader(notEnoughData=_NOT_YET)
        self._replies: list[Any] = []
        self.commands = 0
        self._open(timeout_ns)

    # -- what the loop calls

    def on_data(self, data: bytes) -> None:
        """Replies, or parts of some. Thread: the caller's, inside its turn of the loop."""
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _NOT_YET:
                self._replies.append(reply)
        except hiredis.ProtocolError as error:
            self._error = ConnFailed(PROTOCOL, f"{self.address} sends what is not RESP: {error}")

    def on_close(self, reason: str | None) -> None:
        """It has ended. Thread: the caller's, inside its turn of the loop."""
        self._fail(CLOSED if self._connected else CONNECT, reason or "the peer closed the connection")

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
                self._error = ConnFailed(PROTOCOL, f"{self.address} sends replies that nobody has asked for")
            if self._error is not None:
                raise self._error
            try:
                self._transport.write(b"".join([_pack(tuple(command)) for command in commands]))
            except TransportClosed as closed:
                self._error = ConnFailed(CLOSED, f"{self.address}: {closed}")
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
                    self._error = ConnFailed(TIMEOUT, f"{self.address} did not answer in time")
                    raise self._error
            run_once(left_ns)
        if len(replies) > count:
            self._error = ConnFailed(PROTOCOL, f"{self.address} sends replies that nobody has asked for")
            raise self._error

    def _at_rest(self) -> bool:
        return not self._replies

    def __repr__(self) -> str:
        return f"<PoolConn {self.address} {self._state_text()}, {self.commands} commands>"
