"""The server: requests in order, late answers and none, bounds, bad requests, and its end; on both runtimes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import h11
import psutil
import pytest

from coordemu.lab.http_connection import HttpLimits
from coordemu.lab.http_exchange import HttpExchange
from coordemu.lab.http_host import HttpHost
from coordemu.lab.http_message import HttpRequest, HttpResponse, json_response, text_response
from coordemu.lab.http_server import HttpServer, PortTaken
from coordemu.runtime.base import NS_PER_MS, Runtime

HEAD = b"Host: here\r\n\r\n"


def echo(exchange: HttpExchange) -> HttpResponse:
    """The request, as text."""
    request = exchange.request
    return HttpResponse(200, (), f"{request.method} {request.target} {request.body!r}".encode())


def bodies(data: bytes) -> list[bytes]:
    """The bodies of answers to GET that came one after the other."""
    found = []
    while data:
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method="GET", target="/", headers=[("Host", "here")]))
        client.send(h11.EndOfMessage())
        client.receive_data(data)
        body = b""
        while not isinstance(event := client.next_event(), h11.EndOfMessage):
            assert isinstance(event, h11.Response | h11.Data | h11.InformationalResponse), event
            body += bytes(event.data) if isinstance(event, h11.Data) else b""
        found.append(body)
        data = client.trailing_data[0]
    return found


def test_one_connection_carries_one_request_after_the_other(serve: Any, raw: Any) -> None:
    with serve(echo) as host:
        with raw(host.address) as client:
            for number in range(5):
                client.came = b""
                client.send(b"GET /%d HTTP/1.1\r\n%b" % (number, HEAD))
                client.until(b"GET /%d b''" % number)
        assert host.server.statistics()["accepted"] == 1
        assert host.server.by_status == {200: 5}


def test_requests_sent_ahead_are_answered_in_their_order(rt: Runtime, serve: Any, raw: Any) -> None:
    """The first answer takes longest."""

    def handler(exchange: HttpExchange) -> None:
        number = int(exchange.request.path[1:])
        exchange.after((5 - number) * NS_PER_MS, lambda: exchange.answer(text_response(200, str(number))))

    with serve(handler) as host, raw(host.address) as client:
        client.send(b"".join([b"GET /%d HTTP/1.1\r\n%b" % (number, HEAD) for number in range(5)]))
        client.until(b"4\n")
        assert bodies(client.came) == [b"0\n", b"1\n", b"2\n", b"3\n", b"4\n"]
        assert host.server.statistics()["most_connections"] == 1


def test_a_late_answer_keeps_nobody_else_waiting(rt: Runtime, serve: Any, raw: Any) -> None:
    held: list[HttpExchange] = []

    def handler(exchange: HttpExchange) -> HttpResponse | None:
        if exchange.request.path == "/late":
            held.append(exchange)
            return None
        return text_response(200, "now")

    with serve(handler) as host, raw(host.address) as late, raw(host.address) as client:
        late.send(b"GET /late HTTP/1.1\r\n" + HEAD)
        client.send(b"GET / HTTP/1.1\r\n" + HEAD)
        client.until(b"now\n")
        late.wait(lambda: held)
        assert late.came == b""
        host.post(lambda: held[0].answer(text_response(200, "late")))
        late.until(b"late\n")


def test_who_leaves_without_an_answer_is_told(rt: Runtime, serve: Any, raw: Any, until: Any) -> None:
    held: list[HttpExchange] = []
    gone: list[str] = []

    def handler(exchange: HttpExchange) -> None:
        held.append(exchange)
        exchange.on_gone = lambda: gone.append("gone")
        exchange.after(3_600 * 1_000 * NS_PER_MS, lambda: gone.append("called back"))

    with serve(handler) as host:
        with raw(host.address) as client:
            client.send(b"GET / HTTP/1.1\r\n" + HEAD)
            client.wait(lambda: held)
            assert not held[0].over
        until(lambda: gone)
        until(lambda: host.server.statistics()["connections"] == 0)
        assert held[0].over
        assert not held[0].answer(text_response(200, "too late"))
        assert not held[0].cut(text_response(200, "too late"), 1)
        assert not held[0].hang_up()
        held[0].after(0, lambda: gone.append("called back"))
        assert host.server.by_status == {}
    assert gone == ["gone"]


def test_an_answer_that_comes_early_stops_the_clock(serve: Any, raw: Any, until: Any) -> None:
    def handler(exchange: HttpExchange) -> HttpResponse:
        exchange.after(3_600 * 1_000 * NS_PER_MS, lambda: None)
        return text_response(200, "early")

    with serve(handler) as host, raw(host.address) as client:
        client.send(b"GET / HTTP/1.1\r\n" + HEAD)
        client.until(b"early\n")
        until(lambda: host.loop.statistics()["timers"] == 0)


def test_an_answer_counts_once(serve: Any, raw: Any) -> None:
    second: list[bool] = []

    def handler(exchange: HttpExchange) -> HttpResponse:
        assert exchange.answer(text_response(200, "first"))
        second.append(exchange.answer(text_response(200, "second")))
        return text_response(200, "third")

    with serve(handler) as host, raw(host.address) as client:
        client.send((b"GET / HTTP/1.1\r\n" + HEAD) * 2)
        client.wait(lambda: len(second) == 2)
        client.wait(lambda: client.came.count(b"first") == 2)
        assert bodies(client.came) == [b"first\n", b"first\n"]
        assert second == [False, False]


def test_a_cut_answer_promises_more_than_it_holds(serve: Any, raw: Any) -> None:
    with serve(lambda exchange: exchange.cut(HttpResponse(200, (), b"0123456789"), 4) and None) as host:
        with raw(host.address) as client:
            client.send((b"GET / HTTP/1.1\r\n" + HEAD) * 2)
            came = client.until_closed()
        assert b"content-length: 10\r\n" in came
        assert came.endswith(b"\r\n\r\n0123")
        assert client.reason is None
        assert host.server.statistics()["requests"] == 1


def test_hanging_up_sends_nothing(serve: Any, raw: Any) -> None:
    with serve(lambda exchange: exchange.hang_up() and None) as host, raw(host.address) as client:
        client.send(b"GET / HTTP/1.1\r\n" + HEAD)
        assert client.until_closed() == b""


# -- what HTTP asks for


@pytest.mark.parametrize(
    ("request_bytes", "keeps"),
    [
        (b"GET / HTTP/1.1\r\nHost: here\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"\r\n\r\nGET / HTTP/1.1\r\nHost: here\r\n\r\n", True),
        (b"GET / HTTP/1.1\nHost: here\n\n", True),
    ],
)
def test_when_a_connection_is_kept(serve: Any, raw: Any, request_bytes: bytes, keeps: bool) -> None:
    with serve(echo) as host, raw(host.address) as client:
        client.send(request_bytes)
        client.until(b"GET / b''")
        if keeps:
            client.came = b""
            client.send(b"GET /again HTTP/1.1\r\n" + HEAD)
            client.until(b"GET /again b''")
        else:
            client.until_closed()
        assert (b"connection: close" in client.came.lower()) is not keeps


def test_a_body_is_asked_for_when_the_client_waits_to_be_asked(serve: Any, raw: Any) -> None:
    with serve(echo) as host, raw(host.address) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        client.wait(lambda: client.came.startswith(b"HTTP/1.1 100 "))
        client.send(b"body")
        client.until(b"POST / b'body'")
        assert host.server.by_status == {200: 1}


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_answers_without_a_body(serve: Any, raw: Any, method: str, status: int) -> None:
    with serve(lambda exchange: HttpResponse(status, (), b"0123456789")) as host, raw(host.address) as client:
        client.send(f"{method} / HTTP/1.1\r\n".encode() + HEAD)
        came = client.until(b"\r\n\r\n")
        assert (b"content-length: 10" in came.lower()) is (status == 200)
        client.came = b""
        client.send(f"{method} / HTTP/1.1\r\n".encode() + HEAD)
        client.until(b"\r\n\r\n")
        assert b"0123" not in client.came


def test_a_handler_does_not_write_the_framing(serve: Any, raw: Any) -> None:
    lies = (("Content-Length", "99"), ("Transfer-Encoding", "chunked"), ("Connection", "close"), ("X-Mine", "1"))
    with serve(lambda exchange: HttpResponse(200, lies, b"body")) as host, raw(host.address) as client:
        client.send((b"GET / HTTP/1.1\r\n" + HEAD) * 2)
        client.wait(lambda: client.came.count(b"body") == 2)
        assert bodies(client.came) == [b"body", b"body"]
        assert client.came.count(b"X-Mine: 1") == 2


# -- bad requests and bounds


BAD = {
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01", 400),
    "no request line": (b"what is this\r\n\r\n", 400),
    "a broken header": (b"GET / HTTP/1.1\r\nHost here\r\n\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two lengths": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
    "an unknown framing": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    "a proxy's method": (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    "a broken chunk": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    "a long head": (b"GET / HTTP/1.1\r\nX: " + b"x" * 2_000 + b"\r\n\r\n", 431),
    "an endless head": (b"GET / HTTP/1.1\r\nX: " + b"x" * 2_000, 431),
    "a long body": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\n\r\n", 413),
    "a long body in chunks": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"32\r\n%b\r\n" % (b"x" * 50) * 3,
        413,
    ),
}  # fmt: skip
SMALL = HttpLimits(head_bytes=1_000, body_bytes=100, ahead_bytes=1_000, linger_ms=100)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_is_answered_and_ends_the_connection(serve: Any, raw: Any, name: str) -> None:
    data, status = BAD[name]
    with serve(echo, limits=SMALL) as host, raw(host.address) as client:
        client.send(b"GET /good HTTP/1.1\r\n" + HEAD + data)
        came = client.until_closed()
        good, bad = bodies(came)
        assert good == b"GET /good b''"
        assert bad.startswith(f"{status} ".encode())
        assert bad.count(b"\n") == 1
        assert b"connection: close" in came
        assert host.server.by_status == {200: 1, status: 1}
        assert host.server.statistics()["refused"] == 1
        assert not host.server.errors


def test_a_client_that_goes_on_sending_after_a_bad_request_gets_the_answer(serve: Any, raw: Any) -> None:
    with serve(echo, limits=SMALL) as host, raw(host.address) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
        for _ in range(20):
            client.send(b"x" * 5_000)
        assert b" 413 " in client.until_closed()


def test_a_refused_head_request_gets_no_body(serve: Any, raw: Any) -> None:
    with serve(echo, limits=SMALL) as host, raw(host.address) as client:
        client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\n\r\n")
        assert client.until_closed().endswith(b"\r\n\r\n")


def test_a_client_that_asks_and_asks_is_not_read_from(rt: Runtime, serve: Any, raw: Any) -> None:
    """What was sent ahead waits with the client, not with the server; and it is all answered in the end."""
    held: list[HttpExchange] = []
    asked: list[str] = []

    def handler(exchange: HttpExchange) -> HttpResponse | None:
        asked.append(exchange.request.path)
        if not held:
            held.append(exchange)
            return None
        return HttpResponse(200, (), b"")

    one, count = b"GET / HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n" % (b"x" * 900), 2_000
    with serve(handler, limits=SMALL) as host, raw(host.address) as client:
        for _ in range(count):
            client.send(one)
        rt.sleep_ns(20 * NS_PER_MS)
        assert len(asked) == 1
        assert host.loop.statistics()["bytes_in"] <= 200_000
        host.post(lambda: held[0].answer(HttpResponse(200, (), b"")))
        client.wait(lambda: len(asked) == count)


# -- handlers with mistakes


def test_a_handler_that_raises_answers_500_and_the_server_lives_on(serve: Any, raw: Any) -> None:
    def handler(exchange: HttpExchange) -> HttpResponse:
        if exchange.request.path == "/bad":
            raise KeyError("missing")
        return text_response(200, "good")

    with serve(handler) as host, raw(host.address) as client:
        client.send(b"GET /bad HTTP/1.1\r\n" + HEAD + b"GET / HTTP/1.1\r\n" + HEAD)
        client.until(b"good\n")
        assert bodies(client.came) == [b"500 Internal Server Error: KeyError: 'missing'\n", b"good\n"]
        assert [repr(error) for error in host.server.errors] == ["KeyError('missing')"]
        assert host.server.statistics()["handler_errors"] == 1


def test_an_answer_that_is_none_cuts_the_connection(serve: Any, raw: Any, until: Any) -> None:
    with serve(lambda exchange: HttpResponse(200, (("X-Broken", "a\r\nb"),), b"")) as host, raw(host.address) as client:
        client.send(b"GET / HTTP/1.1\r\n" + HEAD)
        assert client.until_closed() == b""
        assert host.server.statistics()["handler_errors"] == 1
        until(lambda: host.server.statistics()["connections"] == 0)


# -- its life


def test_a_server_that_stops_gives_the_answers_that_it_owes(serve: Any, raw: Any, until: Any) -> None:
    held: list[HttpExchange] = []
    with serve(lambda exchange: held.append(exchange)) as host:
        with raw(host.address) as idle, raw(host.address) as half, raw(host.address) as owed:
            half.send(b"GET / HTTP/1.1\r\n")
            owed.send((b"GET / HTTP/1.1\r\n" + HEAD) * 2)
            owed.wait(lambda: held)
            host.post(host.server.stop)
            assert idle.until_closed() == half.until_closed() == b""
            assert idle.reason is None
            assert not host.server.up
            assert owed.came == b""
            host.post(lambda: held[0].answer(text_response(200, "owed")))
            assert owed.until_closed().endswith(b"owed\n")
            assert b"connection: close" in owed.came
            assert len(held) == 1
            with raw(host.address) as late:
                assert not late.connected
        host.post(host.server.start)
        until(lambda: host.server.up)
        with raw(host.address) as again:
            assert again.connected


def test_a_server_that_is_aborted_cuts_everybody(serve: Any, raw: Any, until: Any) -> None:
    gone: list[HttpExchange] = []

    def handler(exchange: HttpExchange) -> None:
        exchange.on_gone = lambda: gone.append(exchange)
        host.post(host.server.abort)

    with serve(handler) as host, raw(host.address) as client:
        client.send(b"GET / HTTP/1.1\r\n" + HEAD)
        assert client.until_closed() == b""
        until(lambda: host.server.statistics()["connections"] == 0)
        assert len(gone) == 1


def test_a_port_that_is_taken_is_one_clear_line(rt: Runtime, serve: Any) -> None:
    with serve(echo) as host:
        with pytest.raises(PortTaken) as caught:
            serve(echo, host.address)
        assert isinstance(caught.value, OSError)
        assert str(caught.value) == f"{host.address} is taken: something listens there already"
        assert caught.value.address == host.address
        before = psutil.Process().num_fds()
        with pytest.raises(PortTaken):
            serve(echo, host.address)
        assert psutil.Process().num_fds() == before


def test_the_host_stops_once_and_leaves_nothing(rt: Runtime, serve: Any) -> None:
    host: HttpHost[HttpServer] = serve(echo)
    assert "up" in repr(host)
    host.stop()
    host.stop()
    assert not host.task.alive
    assert not host.server.up
    assert "stopped" in repr(host)


def test_what_ends_the_loop_is_raised_by_the_stop(rt: Runtime, serve: Any, until: Callable[..., None]) -> None:
    host: HttpHost[HttpServer] = serve(echo)

    def fail() -> None:
        raise LookupError("a bug")

    host.post(fail)
    until(lambda: not host.task.alive)
    with pytest.raises(LookupError, match="a bug"):
        host.stop()


# -- values


def test_what_a_request_says() -> None:
    request = HttpRequest("GET", "/a/b%2Fc/?x=1&y=2&x=3", (("accept", "all"), ("Accept", "none")))
    assert request.path == "/a/b%2Fc/"
    assert request.segments == ("a", "b/c", "")
    assert request.query == {"x": "3", "y": "2"}
    assert request.header("ACCEPT") == "all"
    assert request.header("else") is None
    assert HttpRequest("GET", "http://there:1/p?q").path == "/p"
    assert HttpRequest("OPTIONS", "*").segments == ()
    assert HttpRequest("GET", "//[").path == "//["


def test_what_an_answer_says() -> None:
    answer = json_response(404, {"a": 1}, (("X-A", "b"),))
    assert answer.json() == {"a": 1}
    assert answer.header("x-a") == "b"
    assert answer.header("Content-Type") == "application/json"
    assert answer.reason == "Not Found"
    assert HttpResponse(299).reason == ""
    with pytest.raises(ValueError, match="Expecting value"):
        text_response(200, "x").json()


@pytest.mark.parametrize("name", ["head_bytes", "body_bytes", "ahead_bytes", "linger_ms"])
def test_limits_are_at_least_one(name: str) -> None:
    with pytest.raises(ValueError, match="below 1"):
        HttpLimits(**{name: 0})


def test_representations(serve: Any, raw: Any) -> None:
    seen: list[str] = []
    with serve(lambda exchange: (seen.append(repr(exchange)), text_response(200, "x"))[1]) as host:
        with raw(host.address) as client:
            client.send(b"GET /a HTTP/1.1\r\n" + HEAD)
            client.until(b"x\n")
        assert seen == ["<HttpExchange GET /a>"]
        assert str(host.address) in repr(host.server)
