"""The layers' tests, on either runtime: shards that answer when told to, loops that a test turns, stubs, clients.

A test that uses `rt` runs on threads as it stands, and in the simulator as a task of it, with the set-up and tear-down
of its fixtures: there in the order that keeps to one task for as long as it can go on, and in a random one.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import hiredis
import pytest

from coordemu.coord.conn_handshake import pack_command
from coordemu.coord.conn_manager import MRConnManager
from coordemu.coord.conn_options import ConnOptions
from coordemu.coord.endpoint import MREndpoint
from coordemu.native import PendingTable
from coordemu.runtime import wait_for
from coordemu.runtime.base import (
    NS_PER_MS,
    NS_PER_S,
    NS_PER_US,
    Address,
    Loop,
    Runtime,
    Transport,
    TransportClosed,
    TransportHandler,
)
from coordemu.runtime.sim import SimRuntime
from coordemu.runtime.sim_network import LATENCY_NS
from coordemu.runtime.sim_schedule import make_strategy
from coordemu.runtime.threads import ThreadsRuntime

PATIENCE_S = 10
PATIENCE_NS = PATIENCE_S * NS_PER_S
FAST = ConnOptions(reconnect_delay_ms=1, reauth_delay_ms=1)

# ---- the runtimes

THREADS = "threads"
STRATEGIES = {"sim": "run-on", "sim-random": "random"}

_simulator = pytest.StashKey[SimRuntime]()


def make_runtime(kind: str) -> ThreadsRuntime | SimRuntime:
    """A fresh runtime. As on threads, a task that raises only ends itself."""
    if kind == THREADS:
        return ThreadsRuntime(seed=1)
    return SimRuntime(make_strategy(STRATEGIES[kind], seed=1), stop_on_error=False)


def play(rt: Runtime, function: Callable[[], object]) -> None:
    """Call it where it may block: here, or as a task of the simulator. Raises what it raises, or why it did not end."""
    if not isinstance(rt, SimRuntime) or rt.core.dead:
        function()
        return
    tasks = []

    def run() -> None:
        tasks.append(rt.current())
        function()

    rt.run(run, name="test", wait_for_all=False).check()
    if tasks[0].error is not None:
        raise tasks[0].error


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test once per runtime. On a stub loop there is only one task, and only one order."""
    if "runtime_kind" in metafunc.fixturenames:
        one_task = {"stub_loop", "make_stub_loop"}.intersection(metafunc.fixturenames)
        metafunc.parametrize("runtime_kind", [THREADS, "sim"] if one_task else [THREADS, *STRATEGIES])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Function) -> None:
    """Set the fixtures up in the simulator; what pytest does next finds that done."""
    kind = item.callspec.params.get("runtime_kind", THREADS) if hasattr(item, "callspec") else THREADS
    if kind != THREADS and "rt" in item.fixturenames:
        rt = item.stash[_simulator] = make_runtime(kind)
        play(rt, lambda: item.session._setupstate.setup(item))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run the test in it."""
    rt = pyfuncitem.stash.get(_simulator, None)
    if rt is None:
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    play(rt, lambda: pyfuncitem.obj(**arguments))
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Function, nextitem: pytest.Item | None) -> None:
    """Tear the fixtures down in it."""
    rt = item.stash.get(_simulator, None)
    if rt is not None:
        play(rt, lambda: item.session._setupstate.teardown_exact(nextitem))


@pytest.fixture(scope="session", name="make_runtime")
def make_runtime_fixture() -> Callable[[str], Runtime]:
    """make_runtime(runtime_kind), for tests that need several."""
    return make_runtime


@pytest.fixture(scope="session", name="play")
def play_fixture() -> Callable[[Runtime, Callable[[], object]], None]:
    """play(rt, function), for those that make their own."""
    return play


@pytest.fixture
def rt(request: pytest.FixtureRequest, runtime_kind: str) -> Iterator[Runtime]:
    """A fresh runtime, seed 1. The test fails if a task that it spawned is still alive after it."""
    runtime = request.node.stash.get(_simulator, None) or make_runtime(runtime_kind)
    yield runtime
    own = runtime.current()
    left = [
        task
        for task in runtime.tasks()
        if task is not own and not getattr(task, "adopted", False) and not task.join(PATIENCE_NS)
    ]
    stacks = [f"{task!r}\n    " + "\n    ".join(task.call_stack()) for task in left]
    assert not left, "\n".join([f"tasks left alive: {left}", wait_for.render(runtime), *stacks])


@pytest.fixture
def eventually(rt: Runtime) -> Callable[..., Any]:
    """`eventually(predicate, why="")`: wait until it is true, fail after ten seconds, return what it returned."""

    def wait(predicate: Callable[[], Any], why: str = "", patience_s: float = PATIENCE_S) -> Any:
        deadline_ns = rt.now_ns() + round(patience_s * NS_PER_S)
        while True:
            value = predicate()
            if value:
                return value
            assert rt.now_ns() < deadline_ns, f"never happened: {why or predicate}"
            rt.sleep_ns(500 * NS_PER_US)

    return wait


@pytest.fixture
def compute(rt: Runtime) -> Callable[[], None]:
    """For loops that never wait: in the simulator no time passes for them, and nothing would arrive, unless told."""
    return (lambda: rt.sleep_ns(NS_PER_US)) if isinstance(rt, SimRuntime) else (lambda: None)


@pytest.fixture
def open_sockets(rt: Runtime) -> Callable[[], int]:
    """How many descriptors are open: the process's, or the sockets of the simulated network."""
    if isinstance(rt, SimRuntime):
        network = rt.network
        return lambda: len(network.sockets)
    return lambda: len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def black_hole(rt: Runtime) -> Iterator[Address]:
    """Where connecting never comes to an end: on sockets a listener whose queue is full, so that SYNs are dropped."""
    if isinstance(rt, SimRuntime):
        yield rt.network.black_hole()
        return
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf, socket.socket() as filler:
        filler.connect(deaf.getsockname())
        yield Address(*deaf.getsockname())


# ---- clients of the host


class LoopClient:
    """What `Client` is on a blocking socket, on a loop that whoever uses it turns."""

    def __init__(self, rt: Runtime, address: Address) -> None:
        self.rt = rt
        self.loop = rt.loop("client")
        self.reader = hiredis.Reader(notEnoughData=self)
        self.replies: deque[Any] = deque()
        self.connected = False
        self.end: Exception | None = None
        self.transport = self.loop.connect(address, self)
        self.turn_until(lambda: self.connected)

    def on_connect(self) -> None:
        self.connected = True

    def on_data(self, data: bytes) -> None:
        self.reader.feed(data)
        while (reply := self.reader.gets()) is not self:
            self.replies.append(reply)

    def on_close(self, reason: str | None) -> None:
        self.end = EOFError("the host has hung up") if reason is None else ConnectionError(reason)

    def turn_until(self, predicate: Callable[[], object]) -> None:
        deadline_ns = self.rt.now_ns() + PATIENCE_NS
        while not predicate():
            if self.end is not None:
                raise self.end
            left_ns = deadline_ns - self.rt.now_ns()
            if left_ns <= 0:
                raise TimeoutError("no reply")
            self.loop.run_once(left_ns)

    def send(self, *words: str | bytes | int) -> None:
        self.send_raw(pack_command(*words))

    def send_raw(self, data: bytes) -> None:
        self.transport.write(data)
        self.loop.run_once(0)
        while self.transport.buffered and self.end is None:
            self.loop.run_once(NS_PER_MS)
        self.rt.sleep_ns(2 * LATENCY_NS)  # on a socket of one machine, too, it has arrived when `send` returns

    def read(self) -> Any:
        self.turn_until(lambda: self.replies)
        return self.replies.popleft()

    def call(self, *words: str | bytes | int) -> Any:
        self.send(*words)
        return self.read()

    @property
    def answered(self) -> bool:
        self.loop.run_once(0)
        return bool(self.replies) or self.end is not None

    def close(self) -> None:
        self.loop.close()


@pytest.fixture
def connect(connect: Callable[[Address], Any], rt: Runtime) -> Callable[[Address], Any]:
    """connect(address): a client of the host."""
    return (lambda address: LoopClient(rt, address)) if isinstance(rt, SimRuntime) else connect


# ---- shards


@pytest.fixture
def socket_dir(request: pytest.FixtureRequest, rt: Runtime) -> Path:
    """Where unix sockets are; in the simulator they are no files."""
    return Path("/simulated") if isinstance(rt, SimRuntime) else request.getfixturevalue("tmp_path")


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

    def __init__(self, rt: Runtime, socket_dir: Path) -> None:
        self.rt = rt
        self.loop = rt.loop("both sides")
        self.logs: list[tuple[str, str]] = []
        self.socket_dir = socket_dir
        self.numbers = count()

    def log(self, level: str, line: str) -> None:
        self.logs.append((level, line))

    def unix_address(self) -> Address:
        return Address(path=str(self.socket_dir / f"s{next(self.numbers)}"))

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
        deadline_ns = self.rt.now_ns() + PATIENCE_NS
        while not predicate():
            assert self.rt.now_ns() < deadline_ns, f"never happened: {why or predicate}"
            self.loop.run_once(NS_PER_MS)

    def settle(self) -> None:
        """Turn until nothing has been left to do for some turns."""
        idle = 0
        # Bytes of a simulated network are under way for as long as nobody waits for them.
        wait_ns = 2 * LATENCY_NS if isinstance(self.rt, SimRuntime) else 0
        while idle < 5:
            idle = 0 if self.loop.run_once(wait_ns) else idle + 1


@pytest.fixture
def one_loop(rt: Runtime, socket_dir: Path) -> Iterator[OneLoop]:
    both = OneLoop(rt, socket_dir)
    yield both
    both.loop.close()


class ShardFarm:
    """Shards on a loop in a task of their own, for tests of I/O threads. `call` runs a function on that task."""

    def __init__(self, rt: Runtime, socket_dir: Path) -> None:
        self.rt = rt
        self.loop = rt.loop("shards")
        self.socket_dir = socket_dir
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
        assert done.wait(PATIENCE_NS)
        return result[0]

    def shard(self, password: str | None = None) -> ScriptedShard:
        address = Address(path=str(self.socket_dir / f"f{next(self.numbers)}"))
        shard = self.call(lambda: ScriptedShard(self.loop, address, password))
        assert isinstance(shard, ScriptedShard)
        return shard

    def stop(self) -> None:
        self.loop.stop()
        assert self.task.join(PATIENCE_NS)
        self.loop.close()


@pytest.fixture
def farm(rt: Runtime, socket_dir: Path) -> Iterator[ShardFarm]:
    shards = ShardFarm(rt, socket_dir)
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

    def __init__(self, rt: Runtime) -> None:
        self.rt = rt
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
def stub_loop(rt: Runtime) -> StubLoop:
    return StubLoop(rt)


@pytest.fixture(scope="session")
def make_stub_loop() -> Callable[[str], StubLoop]:
    """make_stub_loop(runtime_kind): for property tests, which need a fresh one per example, and a runtime with it."""
    return lambda kind: StubLoop(make_runtime(kind))


@pytest.fixture
def fast() -> ConnOptions:
    """Options with delays of 1 ms."""
    return FAST
