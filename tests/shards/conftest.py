"""A shard and its clients on one loop, turned by the test itself: no thread, and faults change where a test likes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import hiredis
import psutil
import pytest
from harness import pytest_pyfunc_call

from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Address, Loop, Runtime, Transport
from coordemu.shards.embedded_shard import EmbeddedShard
from coordemu.shards.fault_plan import NO_FAULTS, FaultPlan
from coordemu.shards.port_range import server_ports
from coordemu.shards.resp_client import RespClient

__all__ = ["pytest_pyfunc_call"]  # a test that asks for a harness runs inside it

PATIENCE_MS = 10_000
PORTS = server_ports()


class Peer:
    """A raw client: what it received, in the pieces that came, and how it ended."""

    def __init__(self, bench: Bench, address: Address) -> None:
        self.pieces: list[bytes] = []
        self.connected = False
        self.ended: list[str | None] = []
        self._bench = bench
        self._to_send: list[bytes] = []
        self.transport: Transport = bench.loop.connect(address, self)

    def on_connect(self) -> None:
        self.connected = True
        for data in self._to_send:
            self.transport.write(data)

    def on_data(self, data: bytes) -> None:
        self.pieces.append(data)

    def on_close(self, reason: str | None) -> None:
        self.ended.append(reason)

    @property
    def received(self) -> bytes:
        return b"".join(self.pieces)

    def send(self, *commands: tuple[Any, ...]) -> None:
        self.send_raw(b"".join([hiredis.pack_command(command) for command in commands]))

    def send_raw(self, data: bytes) -> None:
        if self.connected:
            self.transport.write(data)
        else:
            self._to_send.append(data)


class Bench:
    """The loop, its shards and clients."""

    def __init__(self, rt: Runtime) -> None:
        self.rt = rt
        self.loop: Loop = rt.loop("bench")

    def shard(
        self, faults: FaultPlan | str = NO_FAULTS, password: str | None = None, address: Address | None = None
    ) -> EmbeddedShard:
        """Without an address: at a port that neither the kernel nor another test gives away once it is closed."""
        plan = FaultPlan.parse(faults) if isinstance(faults, str) else faults
        if address is not None:
            shard = EmbeddedShard(self.rt, self.loop, address, plan, password)
            shard.start()
            return shard
        for port in PORTS:
            shard = EmbeddedShard(self.rt, self.loop, Address(port=port), plan, password)
            with suppress(OSError):
                shard.start()
                return shard
        raise AssertionError("no free port")

    def client(self, shard: EmbeddedShard, *hello: str) -> RespClient:
        client = RespClient(self.rt, shard.address, self.loop)
        if hello:
            client.request("HELLO", *hello, timeout_ms=PATIENCE_MS)
        return client

    def peer(self, shard: EmbeddedShard) -> Peer:
        return Peer(self, shard.address)

    def turn_until(self, predicate: Callable[[], object]) -> None:
        deadline_ns = self.rt.now_ns() + PATIENCE_MS * NS_PER_MS
        while not predicate():
            assert self.rt.now_ns() < deadline_ns, "never happened"
            self.loop.run_once(10 * NS_PER_MS)

    def turn_for(self, duration_ms: float) -> None:
        """Give things that must not happen the time to happen."""
        deadline_ns = self.rt.now_ns() + round(duration_ms * NS_PER_MS)
        while (left_ns := deadline_ns - self.rt.now_ns()) > 0:
            self.loop.run_once(left_ns)


@pytest.fixture
def bench(rt: Runtime) -> Iterator[Bench]:
    made = Bench(rt)
    yield made
    made.loop.close()


@pytest.fixture
def call() -> Callable[..., Any]:
    """`call(client, *command)`: one command over a client; error replies come back as values."""

    def do(client: RespClient, *command: Any) -> Any:
        client.begin([command])
        (reply,) = client.finish(PATIENCE_MS)
        return reply

    return do


@pytest.fixture
def served(rt: Runtime) -> Iterator[Callable[..., EmbeddedShard]]:
    """`served(password=None)`: a shard on a loop that a task of its own turns, for blocking clients."""
    running = []

    def serve(password: str | None = None) -> EmbeddedShard:
        loop = rt.loop("served")
        shard = EmbeddedShard(rt, loop, password=password)
        shard.start()
        running.append((loop, rt.spawn(loop.run, name="served shard")))
        return shard

    yield serve
    for loop, task in running:
        loop.stop()
        assert task.join(10 * NS_PER_S)
        assert task.error is None
        loop.close()


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """The test leaves no descriptor and no child behind."""
    me = psutil.Process()
    fds, children = me.num_fds(), set(me.children(recursive=True))
    yield
    assert me.num_fds() <= fds
    assert set(me.children(recursive=True)) == children


def is_gone(pid: int) -> bool:
    """Whether a process has ended; one that only nobody has reaped counts as gone."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def gone() -> Callable[[int], bool]:
    return is_gone
