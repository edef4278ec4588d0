"""Shards that answer when a test says so, on a loop that the test turns, and stand-ins for loop and transport."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import hiredis
import pytest

from coordemu.coord.conn_manager import MRConnManager
from coordemu.coord.conn_options import ConnOptions
from coordemu.coord.endpoint import MREndpoint
from coordemu.native import PendingTable
from coordemu.runtime.base import NS_PER_MS, Address, Loop, Transport, TransportClosed, TransportHandler
from coordemu.runtime.threads import ThreadsRuntime

PATIENCE_S = 10
FAST = ConnOptions(reconnect_delay_ms=1, reauth_delay_ms=1)


class ShardPeer:
    """One accepted connection of a `ScriptedShard`."""

    def __init__(self, shard: ScriptedShard, transport: Transport) -> None:
        self.shard = shard
        self.transport = transport
        self.reader = hiredis.Reader()
        self.held: deque[bytes] = deque()
        self.admitted = shard.password is None
        if shard.greeting:
            transport.write(shard.greeting)

    def on_connect(self) -> None:
        raise AssertionError("accepted transports are connected already")

    def on_data(self, data: bytes) -> None:
        self.reader.feed(data)
        while (words := self.reader.gets()) is not False:
            self.shard.commands.append(words)
            if words[0] in (b"AUTH", b"HELLO"):
                self.transport.write(self.shake_hands(words))
                continue
            reply = self.shard.answer(words) if self.admitted else b"-NOAUTH Authentication required.\r\n"
            if self.shard.hold:
                self.held.append(reply)
            else:
                self.transport.write(reply)

    def shake_hands(self, words: list[bytes]) -> bytes:
        if words[0] == b"HELLO" and not self.shard.knows_hello:
            return b"-ERR unknown command 'HELLO'\r\n"
        if self.shard.password is not None and words[-1] != self.shard.password.encode():
            return b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"
        self.admitted = True
        return b"+OK\r\n" if words[0] == b"AUTH" else b"%1\r\n+proto\r\n:3\r\n"

    def release(self, number: int | None = None) -> int:
        released = 0
        while self.held and released != number:
            reply = self.held.popleft()
            if self.transport.connected:
                self.transport.write(reply)
            released += 1
        return released

    def on_close(self, _reason: str | None) -> None:
        self.shard.peers.remove(self)


class ScriptedShard:
    """A RESP server on a loop. It echoes the last word of a command, and keeps the replies while `hold` is set."""

    def __init__(self, loop: Loop, address: Address, password: str | None = None) -> None:
        self.loop = loop
        self.password = password
        self.hold = False
        self.knows_hello = True
        self.greeting = b""
        self.answer: Callable[[list[bytes]], bytes] = lambda words: b"$%d\r\n%s\r\n" % (len(words[-1]), words[-1])
        self.commands: list[list[bytes]] = []
        self.accepted = 0
        self.peers: list[ShardPeer] = []
        self.listener = loop.listen(address, self.accept)
        self.address = self.listener.address

    @property
    def endpoint(self) -> MREndpoint:
        return MREndpoint(self.address, self.password)

    @property
    def held(self) -> int:
        return sum(len(peer.held) for peer in self.peers)

    def accept(self, transport: Transport) -> ShardPeer:
        self.accepted += 1
        peer = ShardPeer(self, transport)
        self.peers.append(peer)
        return peer

    def release(self, number: int | None = None) -> int:
        """Send replies that were kept, `number` of them or all."""
        released = 0
        for peer in self.peers:
            released += peer.release(None if number is None else number - released)
        return released

    def hang_up(self) -> None:
        """Cut every connection."""
        for peer in list(self.peers):
            peer.transport.abort()
        self.peers.clear()

    def kill(self) -> None:
        """Cut every connection and refuse new ones."""
        self.listener.close()
        self.hang_up()


class OneLoop:
    """Coordinator's side and shards on one loop, which the test turns: nothing happens behind its back."""

    def __init__(self, rt: ThreadsRuntime, tmp_path: Path) -> None:
        self.rt = rt
        self.loop = rt.loop("both sides")
        self.logs: list[tuple[str, str]] = []
        self.tmp_path = tmp_path
        self.numbers = count()

    def log(self, level: str, line: str) -> None:
        self.logs.append((level, line))

    def unix_address(self) -> Address:
        return Address(path=str(self.tmp_path / f"s{next(self.numbers)}"))

    def shard(self, password: str | None = None, address: Address | None = None) -> ScriptedShard:
        return ScriptedShard(self.loop, address or self.unix_address(), password)

    def manager(self, num: int, *shards: ScriptedShard, options: ConnOptions = FAST) -> MRConnManager:
        """A manager whose connections to these shards stand."""
        manager = MRConnManager(self.rt, self.loop, options, PendingTable(), num, self.log)
        for number, shard in enumerate(shards):
            manager.add(f"node-{number}", shard.endpoint)
        self.turn_until(lambda: manager.statistics()["connected"] == num * len(shards), "connections")
        return manager

    def turn_until(self, predicate: Callable[[], object], why: str = "") -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not predicate():
            assert time.monotonic() < deadline, f"never happened: {why or predicate}"
            self.loop.run_once(NS_PER_MS)

    def settle(self) -> None:
        """Turn until nothing has been left to do for some turns."""
        idle = 0
        while idle < 5:
            idle = 0 if self.loop.run_once(0) else idle + 1


@pytest.fixture
def one_loop(rt: ThreadsRuntime, tmp_path: Path) -> Iterator[OneLoop]:
    both = OneLoop(rt, tmp_path)
    yield both
    both.loop.close()


class ShardFarm:
    """Shards on a loop in a task of their own, for tests of I/O threads. `call` runs a function on that task."""

    def __init__(self, rt: ThreadsRuntime, tmp_path: Path) -> None:
        self.rt = rt
        self.loop = rt.loop("shards")
        self.tmp_path = tmp_path
        self.numbers = count()
        self.posted: deque[Callable[[], None]] = deque()
        self.handle = self.loop.async_handle(self.run_posted, "call")
        self.task = rt.spawn(self.loop.run, name="shards")

    def run_posted(self) -> None:
        while self.posted:
            self.posted.popleft()()

    def call(self, function: Callable[[], Any]) -> Any:
        done = self.rt.event("called")
        result: list[Any] = []
        self.posted.append(lambda: (result.append(function()), done.set())[1])
        self.handle.send()
        assert done.wait(PATIENCE_S * 1000 * NS_PER_MS)
        return result[0]

    def shard(self, password: str | None = None) -> ScriptedShard:
        address = Address(path=str(self.tmp_path / f"f{next(self.numbers)}"))
        shard = self.call(lambda: ScriptedShard(self.loop, address, password))
        assert isinstance(shard, ScriptedShard)
        return shard

    def stop(self) -> None:
        self.loop.stop()
        assert self.task.join(PATIENCE_S * 1000 * NS_PER_MS)
        self.loop.close()


@pytest.fixture
def farm(rt: ThreadsRuntime, tmp_path: Path) -> Iterator[ShardFarm]:
    shards = ShardFarm(rt, tmp_path)
    yield shards
    shards.stop()


class StubTransport:
    """A transport whose other end is the test."""

    def __init__(self, loop: StubLoop, address: Address, handler: TransportHandler) -> None:
        self.loop = loop
        self.address = address
        self.handler = handler
        self.connected = False
        self.closed = False
        self.aborted = False
        self.buffered = 0
        self.written: list[bytes] = []

    def open(self) -> None:
        self.connected = True
        self.handler.on_connect()

    def lose(self, reason: str | None = None) -> None:
        self._gone()
        self.handler.on_close(reason)

    def write(self, data: bytes) -> None:
        if not self.connected:
            raise TransportClosed("not connected")
        self.written.append(data)

    def close(self) -> None:
        self._gone()

    def abort(self) -> None:
        self.aborted = True
        self._gone()

    def _gone(self) -> None:
        self.connected, self.closed = False, True
        self.loop.transports.pop(self, None)

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class StubTimer:
    """A timer that fires when the test says so."""

    def __init__(self, loop: StubLoop, callback: Callable[[], None], name: str) -> None:
        self.loop = loop
        self.callback = callback
        self.name = name
        self.delay_ns = 0

    @property
    def active(self) -> bool:
        return self in self.loop.timers

    def start(self, delay_ns: int, repeat_ns: int = 0) -> None:
        assert delay_ns >= 0
        assert not repeat_ns
        self.delay_ns = delay_ns
        self.loop.timers[self] = None

    def stop(self) -> None:
        self.loop.timers.pop(self, None)

    def close(self) -> None:
        self.stop()

    def fire(self) -> None:
        self.stop()
        self.callback()


class StubLoop:
    """The part of a loop that connections use; open transports and armed timers in the order of their making."""

    name = "stub"

    def __init__(self) -> None:
        self.transports: dict[StubTransport, None] = {}
        self.timers: dict[StubTimer, None] = {}
        self.refuse = False

    def connect(self, address: Address, handler: TransportHandler, timeout_ns: int | None = None) -> StubTransport:
        assert timeout_ns is None or timeout_ns > 0
        if self.refuse:
            raise OSError("no socket to be had")
        transport = StubTransport(self, address, handler)
        self.transports[transport] = None
        return transport

    def timer(self, callback: Callable[[], None], name: str) -> StubTimer:
        return StubTimer(self, callback, name)


@pytest.fixture
def stub_loop() -> StubLoop:
    return StubLoop()


@pytest.fixture(scope="session")
def make_stub_loop() -> Callable[[], StubLoop]:
    """For property tests, which need a fresh one per example."""
    return StubLoop


@pytest.fixture
def fast() -> ConnOptions:
    """Options with delays of 1 ms."""
    return FAST
