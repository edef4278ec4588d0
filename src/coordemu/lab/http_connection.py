"""HttpConnection: one client of an HTTP server: its requests, one after the other, and what it gets for bad ones.

Role: a `TransportHandler` that cuts bytes into requests and answers into bytes; h11 knows the protocol. A client may
send its next requests before it has its answers: they are taken up one at a time, so answers keep their order. What
comes meanwhile waits in a buffer, and when that is full the client is not read from.

How the bytes were cut into pieces on their way makes no difference to any answer. So heads are measured here, by their
end and not by what of them has come, before h11 sees them; and each request has an h11 connection of its own, fed with
what the one before has left over.

A request that breaks the protocol or a bound is answered with what it did wrong, and that is the last answer. The
connection then lingers for a moment, throwing away what still comes: closing under a client that is sending would reset
it, and the answer would be lost.

Thread: the server's loop. Upstream: none. Left out: TLS, upgrades, trailers (read and dropped), a limit for idle
clients, streams of bodies.
Bounds: `HttpLimits`; a line of a chunked body 64 KiB.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import h11

from coordemu.lab.http_exchange import HttpExchange
from coordemu.lab.http_message import HttpRequest, HttpResponse, reason_of, text_response
from coordemu.runtime.base import NS_PER_MS, Timer, Transport

if TYPE_CHECKING:
    from coordemu.lab.http_server import HttpServer

# What the server writes itself.
FRAMING = frozenset({"content-length", "transfer-encoding", "connection"})
WITHOUT_BODY = frozenset({204, 304})
CHUNK_LINE_BYTES = 65_536
_BLANK_LINE = re.compile(rb"\n\r?\n")


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Bounds of one connection. head_bytes: of a request's line and headers.  body_bytes: of its body, decoded.
    ahead_bytes: read and not taken up while an answer is awaited.  linger_ms: after a bad request.  All 1 or more;
    ValueError otherwise."""

    head_bytes: int = 16_384
    body_bytes: int = 1_048_576
    ahead_bytes: int = 262_144
    linger_ms: int = 500

    def __post_init__(self) -> None:
        if min(self.head_bytes, self.body_bytes, self.ahead_bytes, self.linger_ms) < 1:
            raise ValueError(f"{self}: a limit is below 1")


class Phase(Enum):
    """Where a connection is. HEAD -> BODY -> ANSWER -> HEAD …; from each of them LINGER (not from ANSWER) or ENDED."""

    HEAD = "reading a head"
    BODY = "reading a body"
    ANSWER = "awaiting an answer"
    LINGER = "lingering"
    ENDED = "ended"


class HttpConnection:
    """One client. server: whose it is.  transport: accepted, open."""

    __slots__ = (
        "_body", "_body_size", "_call", "_h11", "_head", "_inbox", "_paused", "_pumping", "_searched", "_server",
        "_timer", "_transport", "closing", "exchange", "phase",
    )  # fmt: skip

    def __init__(self, server: HttpServer, transport: Transport) -> None:
        self.phase = Phase.HEAD
        self.exchange: HttpExchange | None = None
        self.closing = False  # the answer that is awaited is to be the last
        self._server = server
        self._transport = transport
        self._inbox = bytearray()
        self._searched = 0  # no head ends before this place in the inbox
        self._h11 = _parser()
        self._head: h11.Request | None = None
        self._body: list[bytes] = []
        self._body_size = 0
        self._paused = False
        self._pumping = False
        self._timer: Timer | None = None
        self._call: Callable[[], object] | None = None

    # -- what the transport calls

    def on_connect(self) -> None:
        """Never called for an accepted transport."""

    def on_data(self, data: bytes) -> None:
        """Requests, or parts of some."""
        if self.phase is Phase.LINGER:
            return
        self._inbox += data
        if self.phase is Phase.ANSWER and len(self._inbox) > self._server.limits.ahead_bytes:
            self._paused = True
            self._transport.pause_reading()
        self._pump()

    def on_close(self, reason: str | None) -> None:
        """The client has gone."""
        self._end()

    # -- requests

    def _pump(self) -> None:
        """Take up requests until one waits for its answer, or bytes are missing."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while (self.phase is Phase.HEAD and self._read_head()) or (self.phase is Phase.BODY and self._read_body()):
                pass
        except h11.RemoteProtocolError as error:
            # Its text would say how the bytes were cut.
            self._refuse(error.error_status_hint, "what came is no request of HTTP/1.1")
        finally:
            self._pumping = False
        full = self.phase is Phase.ANSWER and len(self._inbox) > self._server.limits.ahead_bytes
        if self._paused and not full and self.phase is not Phase.ENDED:
            self._paused = False
            self._transport.resume_reading()

    def _read_head(self) -> bool:
        """A whole head, and the phase is BODY; False: it is not here yet, or was refused."""
        inbox, limit = self._inbox, self._server.limits.head_bytes
        while inbox and inbox[0] in b"\r\n":  # between two requests, of clients that end theirs with one too many
            del inbox[:1]
            self._searched = 0
        if not inbox:
            return False
        if inbox[0] <= 0x20:  # no HTTP at all, and perhaps without any blank line
            self._refuse(400, "no request line")
            return False
        blank = _BLANK_LINE.search(inbox, self._searched)
        size = blank.end() if blank is not None else len(inbox)
        if size > limit:
            self._refuse(431, f"the head has more than {limit} bytes")
            return False
        if blank is None:
            self._searched = max(0, size - 2)
            return False
        head, self._searched = bytes(inbox[:size]), 0
        del inbox[:size]
        self._h11 = _parser()
        self._h11.receive_data(head)
        event = self._h11.next_event()
        assert isinstance(event, h11.Request)
        self._head, self._body, self._body_size = event, [], 0
        self.phase = Phase.BODY
        if event.method == b"CONNECT":  # a good answer to it would end HTTP on this connection
            self._refuse(501, "this is no proxy")
            return False
        for name, value in event.headers:
            if name == b"content-length" and int(value) > self._server.limits.body_bytes:
                self._refuse(413, f"the body has more than {self._server.limits.body_bytes} bytes")
                return False
        return True

    def _read_body(self) -> bool:
        """A whole body, and the request is with the handler; False: it is not here yet, or was refused."""
        parser, limit = self._h11, self._server.limits.body_bytes
        while True:
            event = parser.next_event()
            if isinstance(event, h11.Data):
                self._body_size += len(event.data)
                if self._body_size > limit:
                    self._refuse(413, f"the body has more than {limit} bytes")
                    return False
                self._body.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                self._inbox[:0] = parser.trailing_data[0]
                self._begin()
                return True
            elif self._inbox:
                parser.receive_data(bytes(self._inbox))
                self._inbox.clear()
            else:
                if parser.they_are_waiting_for_100_continue:
                    self._write(parser.send(h11.InformationalResponse(status_code=100, headers=[])))
                return False

    def _begin(self) -> None:
        """Have the request answered."""
        head = self._head
        assert head is not None
        request = HttpRequest(
            head.method.decode("ascii"),
            head.target.decode("ascii"),
            tuple([(name.decode("ascii"), value.decode("latin-1")) for name, value in head.headers]),
            b"".join(self._body),
        )
        self._head, self._body = None, []
        exchange = self.exchange = HttpExchange(self, request)
        self.phase = Phase.ANSWER
        response = self._server.ask_handler(exchange)
        if response is not None:
            exchange.answer(response)

    # -- answers

    def send(self, response: HttpResponse, keep_bytes: int | None = None) -> bool:
        """Send the answer to the request that awaits one.

        keep_bytes: see `HttpExchange.cut`; None: all. False: the answer is none that can be sent (a header with a line
        break, say); the connection is cut then. Never blocks.
        """
        exchange, parser = self.exchange, self._h11
        assert exchange is not None
        headers = [(name, value) for name, value in response.headers if name.lower() not in FRAMING]
        body = response.body
        if response.status in WITHOUT_BODY:
            body = b""
        else:
            headers.append(("content-length", str(len(body))))
        if exchange.request.method == "HEAD":
            body = b""
        if self.closing:
            headers.append(("connection", "close"))
        try:
            head = parser.send(h11.Response(status_code=response.status, headers=headers, reason=response.reason))
        except h11.LocalProtocolError as error:
            self._server.note_error(error)
            self.abort()
            return False
        self._leave_exchange()
        self._server.count_answer(response.status)
        self._write(head)
        if keep_bytes is not None:
            self._write(body[:keep_bytes])
            self.hang_up()
            return True
        if body:
            self._write(parser.send(h11.Data(data=body)))
        self._write(parser.send(h11.EndOfMessage()))
        if parser.our_state is h11.DONE and parser.their_state is h11.DONE:
            self.phase = Phase.HEAD
            self._pump()
        else:
            self.hang_up()
        return True

    def _refuse(self, status: int, why: str) -> None:
        """The last answer, to what is no good request."""
        self._server.count_refusal(status)
        to_head = self.phase is Phase.BODY and self._head is not None and self._head.method == b"HEAD"
        parser = self._h11 if self.phase is Phase.BODY else _parser()
        answer = text_response(status, f"{status} {reason_of(status)}: {why}")
        headers = [*answer.headers, ("content-length", str(len(answer.body))), ("connection", "close")]
        self._write(parser.send(h11.Response(status_code=status, headers=headers, reason=answer.reason)))
        if not to_head:
            self._write(parser.send(h11.Data(data=answer.body)))
        self._inbox.clear()
        self._head, self._body = None, []
        self.phase = Phase.LINGER
        self.wake_in(self._server.limits.linger_ms * NS_PER_MS, self.hang_up)

    def _write(self, data: bytes | None) -> None:
        # The transport may have ended without having said so yet.
        if data and self._transport.connected:
            self._transport.write(data)

    # -- its end

    def finish(self) -> None:
        """The server stops: end now, or, where an answer is awaited, with that answer. Never blocks."""
        if self.phase is Phase.ANSWER:
            self.closing = True
        else:
            self.hang_up()

    def hang_up(self) -> None:
        """End in good order: what was sent still leaves. Never blocks."""
        self._transport.close()
        self._end()

    def abort(self) -> None:
        """End at once; what is queued is lost. Never blocks."""
        self._transport.abort()
        self._end()

    def _end(self) -> None:
        if self.phase is Phase.ENDED:
            return
        self.phase = Phase.ENDED
        self._inbox.clear()
        gone = self.exchange.on_gone if self.exchange is not None else None
        self._leave_exchange()
        if self._timer is not None:
            self._timer.close()
        self._server.forget(self)
        if gone is not None:
            gone()

    def _leave_exchange(self) -> None:
        self.exchange = self._call = None
        if self._timer is not None:
            self._timer.stop()

    # -- time

    def wake_in(self, delay_ns: int, call: Callable[[], object]) -> None:
        """Call back in delay_ns (0 or more), once, instead of what was to be called. Never blocks."""
        if self._timer is None:
            self._timer = self._server.loop.timer(self._on_timer, f"{self._server.name} answer")
        self._call = call
        self._timer.start(max(0, delay_ns))

    def _on_timer(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call()

    def __repr__(self) -> str:
        return f"<HttpConnection {self._transport.address} {self.phase.value}>"


def _parser() -> h11.Connection:
    return h11.Connection(h11.SERVER, max_incomplete_event_size=CHUNK_LINE_BYTES)
