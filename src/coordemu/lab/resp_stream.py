"""RespStream: a client's end of a RESP connection on a loop; requests go out, replies come to a callback.

Role: what the query clients, the PING prober and the operator talk to the host through; real RESP over a real socket.
Thread: the loop's that it was made on. Upstream: a client library. Left out: reconnecting; a lab client that is cut off
reports it and is done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import hiredis

from coordemu.coord.conn_handshake import pack_command
from coordemu.runtime.base import Address, Loop, Transport


class RespStream:
    """One connection. Replies come in order, to `on_reply`; the end of the connection to `on_end`."""

    def __init__(
        self,
        loop: Loop,
        address: Address,
        on_reply: Callable[[object], None],
        on_end: Callable[[str], None],
        on_ready: Callable[[], None] | None = None,
        timeout_ns: int | None = None,
    ) -> None:
        """Begin to connect. timeout_ns bounds the handshake. An error reply arrives as a hiredis.ReplyError value."""
        self._reader = hiredis.Reader()
        self._on_reply = on_reply
        self._on_end = on_end
        self._on_ready = on_ready
        self._transport: Transport = loop.connect(address, self, timeout_ns)

    def send(self, words: Sequence[str | bytes | int]) -> None:
        """Send one command. Raises TransportClosed when not connected."""
        self._transport.write(pack_command(*words))

    def on_connect(self) -> None:
        """The transport stands."""
        if self._on_ready:
            self._on_ready()

    def on_data(self, data: bytes) -> None:
        """Parse; one callback per reply."""
        self._reader.feed(data)
        while True:
            reply = self._reader.gets()
            if reply is False:
                return
            self._on_reply(reply)

    def on_close(self, reason: str | None) -> None:
        """The peer has gone."""
        self._on_end(reason or "closed by the server")

    def close(self) -> None:
        """Drop the connection; no callback follows."""
        self._transport.abort()
