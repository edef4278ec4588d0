"""The server's bytes: however they are cut, whatever they are; and the standard library's clients' second opinion."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordemu.lab.http_connection import HttpConnection, HttpLimits, Phase
from coordemu.lab.http_exchange import HttpExchange
from coordemu.lab.http_message import HttpResponse
from coordemu.lab.http_server import HttpServer
from coordemu.runtime.base import Address
from coordemu.runtime.threads import ThreadsRuntime

LIMITS = HttpLimits(head_bytes=200, body_bytes=50, ahead_bytes=100)


def echo(exchange: HttpExchange) -> HttpResponse:
    """All of the request, in the body."""
    request = exchange.request
    return HttpResponse(200, (), repr((request.method, request.target, request.headers, request.body)).encode())


class Wire:
    """A transport that keeps what is written."""

    address = Address()

    def __init__(self) -> None:
        self.written = b""
        self.closed = False
        self.paused = False

    @property
    def connected(self) -> bool:
        return not self.closed

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written += data

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


@contextmanager
def connection(handler: Any = echo) -> Iterator[tuple[HttpConnection, Wire]]:
    """A connection without a network."""
    rt = ThreadsRuntime(seed=1)
    loop = rt.loop("unused")
    wire: Any = Wire()
    try:
        yield HttpConnection(HttpServer(rt, loop, Address(), handler, LIMITS), wire), wire
    finally:
        loop.close()


def told(pieces: Sequence[bytes]) -> tuple[bytes, bool, Phase]:
    """What a client gets that sends these pieces; whether it was closed; and where the connection is then."""
    with connection() as (conn, wire):
        for piece in pieces:
            if piece and not wire.closed:
                conn.on_data(piece)
        assert not wire.paused
        return wire.written, wire.closed, conn.phase


GOOD = [
    b"GET /a?b=c HTTP/1.1\r\nHost: here\r\n\r\n",
    b"\r\nGET /b HTTP/1.1\nHost: here\n\n",
    b"POST /c HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\n\r\na\r\n\r\n",
    b"POST /d HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\n\r\n\r\n0\r\nT: 1\r\n"
    b"\r\n",
    b"POST /e HTTP/1.1\r\nHost: here\r\nContent-Length: 0\r\n\r\n",
    b"HEAD /f HTTP/1.1\r\nHost: here\r\n\r\n",
    b"CONNECT here:1 HTTP/1.1\r\nHost: here\r\n\r\n",
    b"GET /g HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    b"GET /h HTTP/1.0\r\n\r\n",
    b"GET /i HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n",
]
WRONG = [
    b"\x00",
    b" GET / HTTP/1.1\r\n\r\n",
    b"GET /\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: here\r\nX : y\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: here\r\nX: " + b"y" * 150 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: here\r\nX: " + b"y" * 200 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: here\r\nX: " + b"y" * 250,
    b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 51\r\n\r\n" + b"z" * 51,
    b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: -1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1a\r\n%b\r\n" % (b"q" * 26) * 2,
    b"POST / HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
]


@st.composite
def cut(draw: st.DrawFn, whole: bytes) -> list[bytes]:
    """The bytes, in pieces."""
    places = sorted(draw(st.sets(st.integers(0, len(whole)), max_size=12)))
    return [whole[start:end] for start, end in zip([0, *places], [*places, len(whole)], strict=True)]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(GOOD + WRONG), min_size=1, max_size=5).map(b"".join), st.data())
def test_how_the_bytes_are_cut_makes_no_difference(whole: bytes, data: st.DataObject) -> None:
    expected = told([whole])
    assert told(data.draw(cut(whole))) == expected
    assert told([bytes([byte]) for byte in whole]) == expected


ALPHABET = [
    b"GET ",
    b"POST ",
    b"/",
    b" HTTP/1.1",
    b"\r\n",
    b"\n",
    b"Host: a",
    b"Content-Length: ",
    b"3",
    b"\x00",
    b"\xff",
]
ALPHABET += [b"Transfer-Encoding: chunked", b"Expect: 100-continue", b":", b" ", b"x", b"0\r\n\r\n", b"abc"]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(ALPHABET), max_size=40).map(b"".join) | st.binary(max_size=300), st.data())
def test_any_bytes_have_one_answer(whole: bytes, data: st.DataObject) -> None:
    """Nothing is raised; nothing depends on how it came, but that a body is asked for only if it is not there yet."""
    without_expectation = whole.replace(b"Expect", b"X-Pect")
    assert told(data.draw(cut(without_expectation))) == told([without_expectation])
    told(data.draw(cut(whole)))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(GOOD[:6]), min_size=1, max_size=6), st.data())
def test_late_answers_are_those_that_come_at_once(requests: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(requests)
    held: list[HttpExchange] = []
    with connection(lambda exchange: held.append(exchange)) as (conn, wire):
        for piece in data.draw(cut(whole)):
            if piece:
                conn.on_data(piece)
            if held and data.draw(st.booleans()):
                exchange = held.pop()
                exchange.answer(echo(exchange))
        while held:
            exchange = held.pop()
            exchange.answer(echo(exchange))
        assert not wire.paused
        assert (wire.written, wire.closed, conn.phase) == told([whole])


def test_what_waits_is_bounded() -> None:
    with connection(lambda exchange: None) as (conn, wire):
        conn.on_data(GOOD[0])
        conn.on_data(GOOD[0] * 2)
        assert not wire.paused
        conn.on_data(GOOD[0])
        assert wire.paused
        assert conn.exchange is not None
        for _ in range(3):
            assert conn.exchange.answer(HttpResponse(200))
        assert not wire.paused


# -- against the standard library


METHODS = st.sampled_from(["GET", "POST", "PUT", "DELETE", "OPTIONS"])
BODIES = st.binary(max_size=3_000)
FIELDS = st.dictionaries(st.sampled_from(["X-One", "X-Two"]), st.text("abc äöü", max_size=9).map(str.strip), max_size=2)


@pytest.fixture
def stdlib(rt_threads: ThreadsRuntime, serve: Any) -> Iterator[Any]:
    with serve(echo) as host:
        yield host
        assert not host.server.errors


def test_the_standard_librarys_client_understands_it(stdlib: Any) -> None:
    """Hypothesis inside: one server and one connection for all examples, so that it is kept throughout."""
    client = http.client.HTTPConnection(stdlib.address.host, stdlib.address.port, timeout=10)

    @settings(max_examples=60, deadline=None)
    @given(METHODS, BODIES, FIELDS, st.booleans(), st.integers(1, 700))
    def ask(method: str, body: bytes, headers: dict[str, str], chunked: bool, size: int) -> None:
        pieces: Any = body
        if chunked:
            pieces = [body[start : start + size] for start in range(0, len(body), size)]
        client.request(method, "/path?q=1", pieces, headers, encode_chunked=chunked)
        answer = client.getresponse()
        assert answer.status == 200
        seen_method, target, seen_headers, seen_body = eval(answer.read())  # our own repr
        assert (seen_method, target, seen_body) == (method, "/path?q=1", body)
        for name, value in headers.items():
            assert dict(seen_headers)[name.lower()] == value

    ask()
    client.close()
    assert stdlib.server.statistics()["accepted"] == 1


def test_urllib_understands_it(stdlib: Any) -> None:
    with urllib.request.urlopen(f"http://{stdlib.address}/x", timeout=10) as answer:
        assert b"'/x'" in answer.read()
    with urllib.request.urlopen(f"http://{stdlib.address}/y", data=b"form", timeout=10) as answer:
        assert b"b'form'" in answer.read()


def test_urllib_understands_a_refusal(stdlib: Any) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"http://{stdlib.address}/{'x' * 20_000}", timeout=10)
    with caught.value as answer:
        assert answer.code == 431
        assert answer.read().startswith(b"431 ")


def test_who_sends_too_much_can_do_so_and_is_told(stdlib: Any) -> None:
    """Were the connection closed at once, the sending would fail, and nobody would read why."""
    client = http.client.HTTPConnection(stdlib.address.host, stdlib.address.port, timeout=10)
    client.request("POST", "/", b"x" * 16_000_000)
    answer = client.getresponse()
    assert answer.status == 413
    assert answer.read().startswith(b"413 ")
    client.close()
