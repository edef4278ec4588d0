"""The blocking client: answers, deadlines, and each way of getting none."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest

from coordemu.runtime.base import NS_PER_MS, Address, Runtime, Transport
from coordemu.shards.fault_plan import NO_FAULTS
from coordemu.shards.resp_client import RespClient, RespClientError, ask, finish_all


class Speaker:
    """A server that says the same thing to everyone, and hangs up if asked to."""

    def __init__(self, bench: Any, words: bytes, hang_up: bool = False) -> None:
        self.transports: list[Transport] = []
        self._words, self._hang_up = words, hang_up
        self.listener = bench.loop.listen(Address(), self.accept)
        self.address: Address = self.listener.address

    def accept(self, transport: Transport) -> Speaker:
        self.transports.append(transport)
        if self._words:
            transport.write(self._words)
        return self

    def on_connect(self) -> None: ...

    def on_data(self, data: bytes) -> None:
        if self._hang_up:
            self.transports[-1].close()

    def on_close(self, reason: str | None) -> None: ...


def test_one_command_with_a_loop_of_its_own(nothing_left: None, rt: Runtime, served: Any) -> None:
    address = served().address
    assert ask(rt, address, "ECHO", 5, timeout_ms=10_000) == b"5"
    with RespClient(rt, address) as client:
        assert client.request("SET", b"k", b"\xff", timeout_ms=10_000) == b"OK"
        assert client.request("GET", "k", timeout_ms=10_000) == b"\xff"
        with pytest.raises(hiredis.ReplyError, match="unknown command"):
            client.request("NOPE", timeout_ms=10_000)
        assert client.done
        assert client.statistics() == {"owed": 0, "unfetched": 0}
    client.close()


def test_many_commands_at_once_with_errors_among_the_answers(bench: Any) -> None:
    client = bench.client(bench.shard())
    client.begin([("PING",), ("NOPE",)])
    client.begin([("ECHO", "x")])
    pong, error, echo = client.finish(10_000)
    assert (pong, echo) == (b"PONG", b"x")
    assert isinstance(error, hiredis.ReplyError)


def test_several_clients_wait_together(bench: Any) -> None:
    shards = [bench.shard("delay=30ms") for _ in range(5)]
    clients = [bench.client(shard) for shard in shards]
    for client in clients:
        client.begin([("PING",)])
    finish_all(bench.rt, clients, 10_000)
    assert [client.results(1) for client in clients] == [[b"PONG"]] * 5


def test_no_answer_in_time(bench: Any) -> None:
    shard = bench.shard("half-open")
    client = bench.client(shard)
    began_ns = bench.rt.now_ns()
    with pytest.raises(RespClientError, match=r"^no answer within 20 ms$") as caught:
        client.request("PING", timeout_ms=20)
    assert caught.value.kind == "timeout"
    assert bench.rt.now_ns() - began_ns >= 20 * NS_PER_MS
    shard.set_faults(NO_FAULTS)
    with pytest.raises(RespClientError, match="no answer within 20 ms"):  # the late answer is not the next one's
        client.request("ECHO", "x", timeout_ms=10_000)


def test_refused(bench: Any) -> None:
    shard = bench.shard()
    shard.stop()
    with pytest.raises(RespClientError, match="Connection refused") as caught:
        bench.client(shard).request("PING", timeout_ms=10_000)
    assert caught.value.kind == "connect"


def test_no_such_socket_file(nothing_left: None, rt: Runtime, tmp_path: Any) -> None:
    with pytest.raises(RespClientError, match="No such file") as caught:
        ask(rt, Address(path=str(tmp_path / "none")), "PING", timeout_ms=10_000)
    assert caught.value.kind == "connect"


def test_hung_up(bench: Any) -> None:
    client = RespClient(bench.rt, Speaker(bench, b"", hang_up=True).address, bench.loop)
    with pytest.raises(RespClientError, match="closed the connection") as caught:
        client.request("PING", timeout_ms=10_000)
    assert caught.value.kind == "closed"
    assert client.hung_up


def test_no_resp(bench: Any) -> None:
    client = RespClient(bench.rt, Speaker(bench, b"SSH-2.0-OpenSSH\r\n").address, bench.loop)
    with pytest.raises(RespClientError, match=r"does not speak RESP \(it sent b'SSH-2.0-OpenSSH\\r\\n'\)") as caught:
        client.request("PING", timeout_ms=10_000)
    assert caught.value.kind == "protocol"
    assert repr(client) == f"<RespClient {client.address} failed owed=1>"
