"""HttpConn: a blocking HTTP/1.1 connection for one caller at a time, on a loop of its own.

Role: what a client's pool dials and hands out, as `PoolConn` is for Redis: a `BlockingStream`. It carries one request
after the other, as long as the server keeps it; after a request without its whole answer it is of no use any more,
since the rest may still come.

Waiting ends with the answer, a time-out, the end of the connection, the caller's context (its deadline, or a cancel
from any other thread), or `close`, also from any other: the last two wake the loop and leave the rest to its caller.

Thread: one caller at a time turns it; `close` any. Upstream: none. Left out: TLS, proxies, redirects (they are
answers), cookies, requests ahead of answers, streams of bodies, "Expect: 100-continue". Bounds: a head of 64 KiB;
`body_bytes`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import h11

from coordemu.lab.http_message import HttpResponse
from coordemu.pool.blocking_stream import CLOSED, CONNECT, PROTOCOL, TIMEOUT, BlockingStream
from coordemu.pool.pool_context import PoolContext
from coordemu.pool.pool_errors import ConnFailed
from coordemu.runtime.base import NS_PER_MS, Address, Runtime, TransportClosed

HEAD_BYTES = 65_536
BODY_BYTES = 8 * 1_048_576


class HttpFailed(ConnFailed):
    """No answer, and the connection is of no use any more.

    kind, in `ConnFailed`'s words: "connect" (refused, unreachable, or no connection in time), "timeout" (no answer in
    time), "closed" (it ended before the answer did), "protocol" (the answer is none).  sent: whether the request had
    left already, and nobody knows whether it was carried out.
    """


class HttpConn(BlockingStream):
    """One connection, connected when made. A `TransportHandler`, and a resource for `ConnPool`.

    address: of the server.  timeout_ns: for the connecting, None: no limit but the system's.  body_bytes: the longest
    body that is read. Raises HttpFailed, OSError when no descriptor is to be had. May block.
    """

    _failure = HttpFailed
    _closes_in_order = True

    def __init__(
        self, rt: Runtime, address: Address, timeout_ns: int | None = None, body_bytes: int = BODY_BYTES
    ) -> None:
        super().__init__(rt, address, f"http {address}")
        self.requests = 0
        self._body_bytes = body_bytes
        self._h11: h11.Connection | None = None  # of the request under way
        self._head: h11.Response | None = None
        self._body: list[bytes] = []
        self._body_size = 0
        self._answer: HttpResponse | None = None
        self._context_ended = self._loop.async_handle(lambda: None, f"{self.name} cancel")
        self._open(timeout_ns)

    # -- what the loop calls

    def on_data(self, data: bytes) -> None:
        """An answer, or a part of one. Thread: the caller's, inside its turn of the loop."""
        if self._h11 is None:
            self._fail(PROTOCOL, "sends what nobody has asked for")
            return
        self._h11.receive_data(data)
        self._read(PROTOCOL, "answers with what is no HTTP")

    def on_close(self, reason: str | None) -> None:
        """It has ended; where an answer has no length of its own that is the answer's end, too.

        Thread: the caller's, inside its turn of the loop.
        """
        if not self._connected:
            self._fail(CONNECT, reason or "closed before it was connected")
            return
        if reason is None and self._h11 is not None:
            self._h11.receive_data(b"")
            self._read(CLOSED, "the peer closed the connection within its answer")
        self._fail(CLOSED, reason or "the peer closed the connection")

    def _read(self, kind: str, what: str) -> None:
        parser = self._h11
        assert parser is not None
        try:
            while self._answer is None:
                event = parser.next_event()
                if isinstance(event, h11.Response):
                    self._head = event
                elif isinstance(event, h11.Data):
                    self._body_size += len(event.data)
                    if self._body_size > self._body_bytes:
                        self._fail(PROTOCOL, f"answers with a body of more than {self._body_bytes} bytes")
                        return
                    self._body.append(bytes(event.data))
                elif isinstance(event, h11.EndOfMessage):
                    self._take_answer(parser)
                elif not isinstance(event, h11.InformationalResponse):
                    return
        except h11.RemoteProtocolError as error:
            self._fail(kind, f"{what}: {error}")

    def _take_answer(self, parser: h11.Connection) -> None:
        head = self._head
        assert head is not None
        headers = tuple([(name.decode("ascii"), value.decode("latin-1")) for name, value in head.headers])
        self._answer = HttpResponse(head.status_code, headers, b"".join(self._body))
        if parser.trailing_data[0]:
            self._fail(PROTOCOL, "sends what nobody has asked for")
        elif parser.our_state is not h11.DONE or parser.their_state is not h11.DONE:
            self._fail(CLOSED, "the server ends the connection after this answer")

    # -- what its caller calls

    def request(
        self,
        method: str,
        path: str,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        timeout_ns: int | None = None,
        ctx: PoolContext | None = None,
    ) -> HttpResponse:
        """Send one request, wait for its answer, whatever its status.

        path: quoted, with the query.  headers: besides Host and Content-Length.  timeout_ns: for the answer, None: no
        limit but the context's.
        Raises ValueError for a request that is none (nothing was sent), HttpFailed, and what the context has ended
        with (Cancelled, DeadlineExceeded); after the last two the connection is of no use. Thread: the caller's.
        Blocks.
        """
        parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES)
        data = _pack(parser, self.address, method, path, headers, body)
        self._begin()
        try:
            error = ctx.error() if ctx is not None else None
            if error is not None:
                raise error
            if self._error is not None:
                raise self._error
            self._h11, self._head, self._body, self._body_size, self._answer = parser, None, [], 0, None
            try:
                self._transport.write(data)
            except TransportClosed as closed:
                self._fail(CLOSED, str(closed))
            self.requests += 1
            return self._wait(timeout_ns, ctx)
        finally:
            self._h11 = None
            self._finish()

    def _wait(self, timeout_ns: int | None, ctx: PoolContext | None) -> HttpResponse:
        deadline_ns = None if timeout_ns is None else self._rt.now_ns() + timeout_ns
        context_ns = ctx.deadline_ns if ctx is not None else None
        limits_ns = [limit_ns for limit_ns in (deadline_ns, context_ns) if limit_ns is not None]
        wake = _LoopWake(self._context_ended.send)
        if ctx is not None:
            ctx.attach(wake)
        try:
            while self._answer is None:
                if self._error is not None:
                    raise HttpFailed(self._error.kind, str(self._error), sent=True)
                error = ctx.error() if ctx is not None else None
                if error is not None:
                    self._fail(CLOSED, "its caller did not wait for an answer")
                    raise error
                now_ns = self._rt.now_ns()
                if deadline_ns is not None and now_ns >= deadline_ns:
                    self._fail(TIMEOUT, f"no answer within {(timeout_ns or 0) / NS_PER_MS:g} ms")
                    continue
                self._loop.run_once(max(0, min(limits_ns) - now_ns) if limits_ns else None)
            return self._answer
        finally:
            if ctx is not None:
                ctx.detach(wake)

    def __repr__(self) -> str:
        return f"<HttpConn {self.address} {self._state_text()}, {self.requests} requests>"


class _LoopWake:
    """What a context sets when it is cancelled: a wake-up of the caller's loop."""

    __slots__ = ("set",)

    def __init__(self, wake: Callable[[], None]) -> None:
        self.set = wake


def _pack(
    parser: h11.Connection,
    address: Address,
    method: str,
    path: str,
    headers: Sequence[tuple[str, str]],
    body: bytes,
) -> bytes:
    """A request's bytes. Raises ValueError when it is none."""
    all_headers = [("host", "localhost" if address.path else str(address)), *headers]
    if body or method in ("POST", "PUT", "PATCH"):
        all_headers.append(("content-length", str(len(body))))
    try:
        head = parser.send(h11.Request(method=method, target=path, headers=all_headers))
        data = parser.send(h11.Data(data=body)) if body else b""
        parser.send(h11.EndOfMessage())
    except (h11.LocalProtocolError, UnicodeError) as error:
        raise ValueError(f"no HTTP request: {method} {path!r}: {error}") from None
    return (head or b"") + (data or b"")
