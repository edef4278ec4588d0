"""The client's connection: answers of every framing, and every way in which there is none; on both runtimes."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordemu.lab.http_client import HttpConn, HttpFailed
from coordemu.lab.http_message import HttpResponse, text_response
from coordemu.pool.pool_context import PoolContext
from coordemu.pool.pool_errors import Cancelled, ConnFailed, DeadlineExceeded
from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Address, Loop, Runtime, Transport
from coordemu.runtime.sim import SimRuntime

SECOND = NS_PER_S


@contextmanager
def connected(rt: Runtime, address: Address, **settings: Any) -> Iterator[HttpConn]:
    conn = HttpConn(rt, address, SECOND, **settings)
    try:
        yield conn
    finally:
        conn.close()


class Peer:
    """A server of bytes: to each request (which it takes to be one piece) it says the next of `says`, as pieces; None
    ends the connection, b"!" resets it."""

    def __init__(self, transport: Transport, says: list[list[bytes | None]], heard: list[bytes]) -> None:
        self.transport = transport
        self.ends: list[str | None] = []
        self.says = says
        self.heard = heard

    def on_connect(self) -> None: ...

    def on_data(self, data: bytes) -> None:
        self.heard.append(data)
        for piece in self.says.pop(0) if self.says else ():
            if piece is None:
                self.transport.close()
            elif piece == b"!":
                self.transport.abort()
            else:
                self.transport.write(piece)

    def on_close(self, reason: str | None) -> None:
        self.ends.append(reason)


class Peers:
    """Its listener, with a task of its own."""

    def __init__(self, rt: Runtime, *says: list[bytes | None], greeting: bytes = b"") -> None:
        self.heard: list[bytes] = []
        self.all: list[Peer] = []
        self._says = list(says)
        self._greeting = greeting
        self._loop: Loop = rt.loop("peer")
        self.address = self._loop.listen(Address(), self._accept).address
        self._task = rt.spawn(self._loop.run, name="peer")

    def _accept(self, transport: Transport) -> Peer:
        if self._greeting:
            transport.write(self._greeting)
        self.all.append(Peer(transport, self._says, self.heard))
        return self.all[-1]

    def say(self, data: bytes) -> None:
        """To the first that has come, soon."""
        self._loop.post(lambda: self.all[0].transport.write(data), "say")

    def __enter__(self) -> Peers:
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.stop()
        self._task.join()
        self._loop.close()


def failure(conn: HttpConn, **settings: Any) -> HttpFailed:
    """What a request raises."""
    settings.setdefault("timeout_ns", SECOND)
    with pytest.raises(HttpFailed) as caught:
        conn.request("GET", "/", **settings)
    assert conn.failed
    assert not conn.healthy()
    return caught.value


PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"
FRAMINGS = {
    "a length": (PLAIN, True),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nb\r\n3;x\r\nody\r\n0\r\nT: 1\r\n\r\n", True),
    "an interim answer": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nX: 1\r\n\r\n" + PLAIN, True),
    "a close": (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody", False),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nbody", False),
}


@pytest.mark.parametrize("name", FRAMINGS)
def test_answers_of_every_framing(rt: Runtime, name: str) -> None:
    data, kept = FRAMINGS[name]
    with Peers(rt, [data], [data]) as peer, connected(rt, peer.address) as conn:
        answer = conn.request("GET", "/a?b", (("X-Mine", "1"),), timeout_ns=SECOND)
        assert (answer.status, answer.body, answer.reason) == (200, b"body", "OK")
        assert peer.heard[0].startswith(b"GET /a?b HTTP/1.1\r\n")
        assert f"host: {peer.address}\r\n".encode() in peer.heard[0].lower()
        assert b"\r\nx-mine: 1\r\n" in peer.heard[0].lower()
        assert conn.failed is not kept
        assert conn.healthy() is kept
        if kept:
            assert conn.request("GET", "/", timeout_ns=SECOND).body == b"body"
        else:
            assert failure(conn).kind == "closed"
        assert conn.requests == 1 + kept


def test_an_answer_may_end_with_its_connection(rt: Runtime) -> None:
    with Peers(rt, [b"HTTP/1.1 200 OK\r\n\r\nall", b" of it", None]) as peer, connected(rt, peer.address) as conn:
        assert conn.request("GET", "/", timeout_ns=SECOND).body == b"all of it"
        assert conn.failed


def test_a_body_is_sent_with_its_length(rt: Runtime) -> None:
    with Peers(rt, [PLAIN], [PLAIN], [PLAIN]) as peer, connected(rt, peer.address) as conn:
        conn.request("POST", "/", body=b"four", timeout_ns=SECOND)
        conn.request("POST", "/", timeout_ns=SECOND)
        conn.request("GET", "/", timeout_ns=SECOND)
        assert b"content-length: 4\r\n" in peer.heard[0].lower()
        assert peer.heard[0].endswith(b"\r\n\r\nfour")
        assert b"content-length: 0\r\n" in peer.heard[1].lower()
        assert b"content-length" not in peer.heard[2].lower()


def test_an_answer_to_head_has_no_body(rt: Runtime) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"
    with Peers(rt, [head], [PLAIN]) as peer, connected(rt, peer.address) as conn:
        assert conn.request("HEAD", "/", timeout_ns=SECOND).body == b""
        assert conn.request("GET", "/", timeout_ns=SECOND).body == b"body"


ENDS: dict[str, tuple[list[bytes | None], str, str]] = {
    "at once": ([None], "closed", "closed the connection"),
    "in its head": ([b"HTTP/1.1 200", None], "closed", "within its answer"),
    "in its body": ([PLAIN[:-1], None], "closed", "within its answer"),
    "in its chunks": ([FRAMINGS["chunks"][0][:-2], None], "closed", "within its answer"),
    "no HTTP": ([b"+OK\r\n\r\n"], "protocol", "no HTTP"),
    "a huge head": ([b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000], "protocol", "no HTTP"),
    "a huge body": ([b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n" + b"x" * 200], "protocol", "more than 100"),
    "silence": ([], "timeout", "no answer within 1000 ms"),
    "half of it": ([PLAIN[:-1]], "timeout", "no answer within 1000 ms"),
}


@pytest.mark.parametrize("name", ENDS)
def test_an_answer_that_does_not_come(rt: Runtime, name: str) -> None:
    says, kind, text = ENDS[name]
    with Peers(rt, says) as peer, connected(rt, peer.address, body_bytes=100) as conn:
        error = failure(conn)
        assert (error.kind, error.sent) == (kind, True)
        assert str(error).startswith(f"{peer.address}: ")
        assert text in str(error)
        assert "\n" not in str(error)
        assert isinstance(error, ConnFailed)
        assert not failure(conn).sent


def test_a_reset_is_an_end(rt: Runtime) -> None:
    with Peers(rt, [b"!"]) as peer, connected(rt, peer.address) as conn:
        assert failure(conn).kind == "closed"


@pytest.mark.parametrize("says", [[PLAIN + b"HTTP/1.1 200 OK\r\n"], [PLAIN, PLAIN]])
def test_more_than_the_answer_is_not_taken_for_the_next(rt: Runtime, says: list[bytes | None]) -> None:
    with Peers(rt, says) as peer, connected(rt, peer.address) as conn:
        assert conn.request("GET", "/", timeout_ns=SECOND).body == b"body"
        assert failure(conn).kind == "protocol"


def test_what_nobody_has_asked_for_is_found_by_the_check(rt: Runtime, until: Any) -> None:
    with Peers(rt, greeting=b"HTTP/1.1 408 Request Timeout\r\n\r\n") as peer, connected(rt, peer.address) as conn:
        until(lambda: not conn.healthy())
        assert failure(conn).kind == "protocol"


def test_an_answer_too_many_is_found_whenever_it_comes(rt: Runtime, until: Any) -> None:
    with Peers(rt, [PLAIN]) as peer, connected(rt, peer.address) as conn:
        assert conn.request("GET", "/", timeout_ns=SECOND).body == b"body"
        assert conn.healthy()
        peer.say(PLAIN)
        until(lambda: not conn.healthy())
        assert failure(conn).kind == "protocol"


def test_a_good_connection_is_closed_in_good_order_and_a_failed_one_is_cut(rt: Runtime, until: Any) -> None:
    with Peers(rt, [PLAIN], []) as peer:
        with connected(rt, peer.address) as conn:
            conn.request("GET", "/", timeout_ns=SECOND)
        until(lambda: peer.all[0].ends == [None])
        with connected(rt, peer.address) as conn:
            failure(conn, timeout_ns=NS_PER_MS)
        until(lambda: peer.all[1].ends)
        assert "reset" in str(peer.all[1].ends[0])


def test_a_connection_that_the_server_has_ended_is_found_by_the_check(rt: Runtime, serve: Any, until: Any) -> None:
    with serve(lambda exchange: text_response(200, "x")) as host, connected(rt, host.address) as conn:
        conn.request("GET", "/")
        assert conn.healthy()
        host.post(host.server.stop)
        until(lambda: not conn.healthy())
        error = failure(conn)
        assert (error.kind, error.sent) == ("closed", False)


# -- connecting


def test_a_refused_connection(rt: Runtime, serve: Any) -> None:
    with serve(lambda exchange: None) as host:
        address = host.address
    with pytest.raises(HttpFailed, match="refused") as caught:
        HttpConn(rt, address, SECOND)
    assert (caught.value.kind, caught.value.sent) == ("connect", False)


def test_a_connection_that_does_not_come_about(rt: Runtime, harness: Any) -> None:
    with pytest.raises(HttpFailed, match="timed out after 20 ms") as caught:
        HttpConn(rt, harness.black_hole(), 20 * NS_PER_MS)
    assert caught.value.kind == "connect"


def test_a_request_that_is_none_sends_nothing(rt: Runtime) -> None:
    with Peers(rt, [PLAIN]) as peer, connected(rt, peer.address) as conn:
        for method, path, headers in (
            ("GET", "/a b", ()),
            ("G T", "/", ()),
            ("GET", "/", (("X", "a\nb"),)),
            ("GET", "/ü", ()),
        ):
            with pytest.raises(ValueError, match="no HTTP request"):
                conn.request(method, path, headers)
        assert conn.request("GET", "/", timeout_ns=SECOND).status == 200
        assert len(peer.heard) == conn.requests == 1


# -- waiting that is called off


def in_task(rt: Runtime, function: Callable[[], Any]) -> tuple[Any, list[Any]]:
    """A task, and where its result or error will be."""
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(function())
        except Exception as error:
            results.append(error)

    return rt.spawn(run, name="caller"), results


def test_a_cancel_wakes_who_waits(rt: Runtime, until: Any) -> None:
    with Peers(rt) as peer, connected(rt, peer.address) as conn:
        ctx = PoolContext(rt)
        task, results = in_task(rt, lambda: conn.request("GET", "/", ctx=ctx))
        until(lambda: peer.heard)
        ctx.cancel()
        task.join()
        assert isinstance(results[0], Cancelled)
        assert conn.failed
        with pytest.raises(Cancelled):
            conn.request("GET", "/", ctx=ctx)
    assert len(peer.heard) == 1


def test_a_context_that_has_ended_sends_nothing_and_spoils_nothing(rt: Runtime) -> None:
    with Peers(rt, [PLAIN]) as peer, connected(rt, peer.address) as conn:
        with pytest.raises(DeadlineExceeded):
            conn.request("GET", "/", ctx=PoolContext.after(rt, 0))
        assert not conn.failed
        assert conn.request("GET", "/", timeout_ns=SECOND).status == 200
        assert len(peer.heard) == 1


@pytest.mark.parametrize(
    ("own_ms", "context_ms", "expected"), [(10, 20_000, HttpFailed), (20_000, 10, DeadlineExceeded)]
)
def test_the_earlier_limit_holds(rt: Runtime, own_ms: int, context_ms: int, expected: type[Exception]) -> None:
    with Peers(rt) as peer, connected(rt, peer.address) as conn:
        began_ns = rt.now_ns()
        with pytest.raises(expected):
            conn.request("GET", "/", timeout_ns=own_ms * NS_PER_MS, ctx=PoolContext.after(rt, context_ms * NS_PER_MS))
        assert rt.now_ns() - began_ns >= 10 * NS_PER_MS
        if isinstance(rt, SimRuntime):
            assert rt.now_ns() - began_ns == 10 * NS_PER_MS
        assert conn.failed


def test_a_context_is_left_as_it_was(rt: Runtime) -> None:
    with Peers(rt, [PLAIN]) as peer, connected(rt, peer.address) as conn:
        ctx = PoolContext.after(rt, 100 * SECOND)
        assert conn.request("GET", "/", ctx=ctx).status == 200
        assert "0 waits" in repr(ctx)
    ctx.cancel()  # nobody is there to be woken


def test_a_close_wakes_who_waits(rt: Runtime, until: Any) -> None:
    with Peers(rt) as peer:
        conn = HttpConn(rt, peer.address, SECOND)
        task, results = in_task(rt, lambda: conn.request("GET", "/"))
        until(lambda: peer.heard)
        conn.close()
        conn.close()
        task.join()
        assert results[0].kind == "closed"
        assert "under its caller" in str(results[0])
        assert not conn.healthy()
        assert "closed" in repr(conn)
        with pytest.raises(HttpFailed, match="is closed"):
            conn.request("GET", "/")


def test_two_callers_at_once_are_refused(rt: Runtime, until: Any) -> None:
    with Peers(rt) as peer:
        conn = HttpConn(rt, peer.address, SECOND)
        task, results = in_task(rt, lambda: conn.request("GET", "/"))
        until(lambda: peer.heard)
        with pytest.raises(RuntimeError, match="two at once"):
            conn.request("GET", "/")
        conn.close()
        task.join()
        assert results[0].kind == "closed"


def test_our_server_and_our_client(rt: Runtime, serve: Any) -> None:
    def handler(exchange: Any) -> HttpResponse:
        request = exchange.request
        return HttpResponse(200, (("X-Method", request.method),), request.body * 2)

    with serve(handler) as host, connected(rt, host.address) as conn:
        for size in (0, 1, 1_000, 100_000):
            answer = conn.request("POST", "/", body=b"x" * size, timeout_ns=10 * SECOND)
            assert (answer.header("x-method"), answer.body) == ("POST", b"x" * size * 2)
        assert host.server.statistics()["accepted"] == 1


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(FRAMINGS)), st.data())
def test_how_the_answer_is_cut_makes_no_difference(name: str, data: st.DataObject) -> None:
    """In the simulator, each piece in a step of its own."""
    whole, _ = FRAMINGS[name]
    places = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1), max_size=8)))
    pieces = [whole[start:end] for start, end in zip([0, *places], [*places, len(whole)], strict=True)]
    answers = []

    def main() -> None:
        def accept(transport: Transport) -> Any:
            peer = Peer(transport, [], [])
            timer = loop.timer(lambda: transport.write(pieces.pop(0)) if pieces else None, "drip")
            timer.start(NS_PER_MS, NS_PER_MS)
            return peer

        loop = rt.loop("peer")
        address = loop.listen(Address(), accept).address
        task = rt.spawn(loop.run, name="peer")
        with connected(rt, address) as conn:
            answers.append(conn.request("GET", "/", timeout_ns=SECOND))
        loop.stop()
        task.join()
        loop.close()

    rt = SimRuntime()
    rt.run(main).check()
    assert [(answer.status, answer.body) for answer in answers] == [(200, b"body")]


# -- against the standard library


class StdlibHandler(http.server.BaseHTTPRequestHandler):
    """Answers in the framing that the path names."""

    def log_message(self, format: str, *args: Any) -> None: ...

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/chunks":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for start in range(0, len(body), 100):
                piece = body[start : start + 100]
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
            return
        self.send_response(201 if self.path == "/length" else 202)
        if self.path == "/length":
            self.send_header("Content-Length", str(len(body)))
        else:
            self.close_connection = True
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.send_error(404, "nothing here")


@pytest.fixture(params=["HTTP/1.1", "HTTP/1.0"])
def stdlib(request: pytest.FixtureRequest) -> Iterator[Address]:
    handler = type("Handler", (StdlibHandler,), {"protocol_version": request.param})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield Address(port=server.server_address[1])
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("path", "status"), [("/length", 201), ("/close", 202), ("/chunks", 200)])
def test_the_standard_librarys_server_is_understood(
    rt_threads: Runtime, stdlib: Address, path: str, status: int
) -> None:
    for size in (0, 1, 5_000):
        with connected(rt_threads, stdlib) as conn:
            for _ in range(3):
                body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
                answer = conn.request("POST", path, body=body, timeout_ns=10 * SECOND)
                assert (answer.status, answer.body) == (status, body)
                if conn.failed:
                    break


def test_a_refusal_of_the_standard_librarys_server(rt_threads: Runtime, stdlib: Address) -> None:
    with connected(rt_threads, stdlib) as conn:
        answer = conn.request("GET", "/", timeout_ns=10 * SECOND)
        assert answer.status == 404
        assert b"nothing here" in answer.body
