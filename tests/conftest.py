"""What all tests share: a runtime that must end without tasks, patience for what other threads do, and a watchdog."""

from __future__ import annotations

import faulthandler
import gc
import importlib
import os
import select
import shutil
import signal
import socket
import tempfile
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import hiredis
import psutil
import pytest

import coordemu
from coordemu.coord.conn_handshake import pack_command
from coordemu.coord.conn_options import ConnOptions
from coordemu.coord.coordinator import Coordinator, CoordinatorOptions
from coordemu.coord.host import BLOCKED, Host, HostClient, Reply
from coordemu.coord.resize_policy import get_policy
from coordemu.coord.resize_record import Resize
from coordemu.runtime import wait_for
from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Address, Runtime
from coordemu.runtime.threads import ThreadsRuntime

TEST_LIMIT_S = 120
PATIENCE_S = 10
PATIENCE_NS = PATIENCE_S * NS_PER_S

# A shell that starts the tests in the background has them, and all their children, ignore Ctrl-C, which some test.
signal.signal(signal.SIGINT, signal.default_int_handler)

_stderr = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    """Keep the real standard error: the watchdog must be heard even while pytest captures."""
    config.stash[_stderr] = os.dup(2)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Give it back."""
    os.close(config.stash[_stderr])


def pytest_collection_finish(session: pytest.Session) -> None:
    """Ten thousand tests are no garbage: the collector need not look at them again with each of the searches.

    Hypothesis asks the collector who refers to the generators that other packages (such as trio) register with it, so
    it must have been imported by then.
    """
    importlib.import_module("hypothesis")
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def watchdog(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that takes longer than two minutes ends the process, with all threads' stacks and, last, its name."""
    stderr = request.config.stash[_stderr]
    # For when no thread can run, as somebody keeps the interpreter to himself.
    faulthandler.dump_traceback_later(TEST_LIMIT_S + PATIENCE_S, exit=True, file=stderr)
    timer = threading.Timer(TEST_LIMIT_S, end_of_patience, (request.node.nodeid, stderr))
    timer.daemon = True
    timer.name = "watchdog"
    timer.start()
    yield
    timer.cancel()
    timer.join()
    faulthandler.cancel_dump_traceback_later()


def end_of_patience(test: str, stderr: int) -> None:
    """Say where every thread is, without pytest's own frames, and which test it was; end the process."""
    with tempfile.TemporaryFile() as file:
        faulthandler.dump_traceback(file)
        file.seek(0)
        stacks = [line for line in file if b"/_pytest/" not in line and b"/pluggy/" not in line]
    os.write(stderr, b"\n" + b"".join(stacks) + f"{test} took more than {TEST_LIMIT_S} s\n".encode())
    os._exit(1)


def describe(rt: Runtime) -> str:
    """Who waits for whom, and every stack: for the message of a test that found its runtime hung."""
    stacks = [f"{task!r}\n    " + "\n    ".join(task.call_stack()) for task in rt.tasks()]
    return "\n".join([wait_for.render(rt), *stacks])


@pytest.fixture
def rt() -> Iterator[ThreadsRuntime]:
    """A fresh runtime on threads, seed 1. The test fails if a task that it spawned is still alive after it."""
    runtime = ThreadsRuntime(seed=1)
    yield runtime
    left = [task for task in runtime.tasks() if not task.adopted and not task.join(PATIENCE_NS)]
    assert not left, f"tasks left alive: {left}\n{describe(runtime)}"


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """`eventually(predicate, why="")`: wait until it is true, fail after ten seconds, return what it returned."""

    def wait(predicate: Callable[[], Any], why: str = "", patience_s: float = PATIENCE_S) -> Any:
        deadline = time.monotonic() + patience_s
        while True:
            value = predicate()
            if value:
                return value
            assert time.monotonic() < deadline, f"never happened: {why or predicate}"
            time.sleep(0.0005)

    return wait


class Client:
    """A client of the host, on a blocking socket: what it sends is on its way when `send` returns."""

    def __init__(self, address: Address) -> None:
        self.sock = socket.create_connection((address.host, address.port), timeout=PATIENCE_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = hiredis.Reader(notEnoughData=self)

    def send(self, *words: str | bytes | int) -> None:
        self.send_raw(pack_command(*words))

    def send_raw(self, data: bytes) -> None:
        self.sock.sendall(data)

    def read(self) -> Any:
        """The next reply; an error reply is a hiredis.ReplyError value. EOFError when the host has hung up."""
        while (reply := self.reader.gets()) is self:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError("the host has hung up")
            self.reader.feed(data)
        return reply

    def call(self, *words: str | bytes | int) -> Any:
        self.send(*words)
        return self.read()

    @property
    def answered(self) -> bool:
        """Whether something has come that was not read."""
        return bool(select.select([self.sock], [], [], 0)[0])

    def close(self) -> None:
        self.sock.close()


@pytest.fixture
def connect() -> Callable[[Address], Client]:
    """`connect(address)`: a client; the tests of the layers have another in the simulator."""
    return Client


@pytest.fixture
def dial(connect: Callable[[Address], Client]) -> Iterator[Callable[[Address], Client]]:
    """`dial(address)`: a client, closed at the test's end."""
    clients: list[Client] = []

    def make(address: Address) -> Client:
        clients.append(connect(address))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


class HandOver:
    """A queue from task to task."""

    def __init__(self, rt: Runtime, name: str) -> None:
        self.items: deque[Any] = deque()
        self.here = rt.semaphore(0, name)

    def put(self, item: Any) -> None:
        self.items.append(item)
        self.here.release()

    def get(self, timeout_ns: int | None = None) -> Any:
        assert self.here.acquire(timeout_ns), "nothing came"
        return self.items.popleft()


@pytest.fixture
def hand_over(rt: Runtime) -> HandOver:
    """A queue from task to task."""
    return HandOver(rt, "handed over")


class HostBench:
    """A host with commands that a test holds up: YIELD serves clients until `go`, WAIT serves nobody until `go`."""

    def __init__(self, rt: Runtime) -> None:
        self.rt = rt
        self.logs: list[tuple[str, str]] = []
        self.host = Host(rt, lambda *line: self.logs.append(line))
        self.inside = rt.event("inside")
        self.go = rt.event("go")
        self.blocked: list[HostClient] = []
        self.num_blocked = rt.semaphore(0, "blocked clients")
        self.ran: list[str] = []
        self.seen: dict[str, Any] = {}
        for name in ("yield", "wait", "block", "say", "fail"):
            self.host.command(name, getattr(self, f"do_{name}"))

    def do_yield(self, client: HostClient, args: Sequence[bytes]) -> Reply:
        self.inside.set()
        held, looks = self.host.yield_until(self.go.is_set, NS_PER_MS, PATIENCE_NS)
        assert self.host.module_lock.owner is self.host.task
        assert held
        assert looks > 1
        return b"+yielded\r\n"

    def do_wait(self, client: HostClient, args: Sequence[bytes]) -> Reply:
        self.inside.set()
        self.go.wait()
        return b"+waited\r\n"

    def do_block(self, client: HostClient, args: Sequence[bytes]) -> Reply:
        self.blocked.append(client)
        self.num_blocked.release()
        return BLOCKED

    def next_blocked(self) -> HostClient:
        """The client that sent BLOCK. (That it was sent before something else says nothing: the kernel may reorder.)"""
        assert self.num_blocked.acquire(PATIENCE_NS)
        return self.blocked[-1]

    def do_say(self, client: HostClient, args: Sequence[bytes]) -> Reply:
        self.ran.append(args[0].decode())
        self.seen["owner"] = self.host.module_lock.owner
        self.seen["task"] = self.rt.current()
        self.seen["client"] = client
        return b"+%b\r\n" % args[0]

    def do_fail(self, client: HostClient, args: Sequence[bytes]) -> Reply:
        raise KeyError("a bug in a handler")


@pytest.fixture
def host_bench(rt: Runtime) -> Iterator[HostBench]:
    """A host that runs, with commands that a test holds up."""
    it = HostBench(rt)
    it.host.start()
    yield it
    it.go.set()
    assert it.host.stop(PATIENCE_NS)


class Site:
    """A coordinator in this process, its shards (of a `farm`), and ways to hold either of them up."""

    def __init__(
        self,
        rt: Runtime,
        farm: Any,
        shards: Sequence[Any],
        coordinator: Coordinator,
        connect: Callable[[Address], Client],
    ) -> None:
        self.rt = rt
        self.connect = connect
        self.farm = farm
        self.shards = shards
        self.coordinator = coordinator
        self.config = coordinator.config
        self.host = coordinator.host
        self.workers = coordinator.workers
        self.cluster = coordinator.cluster
        self.queries = coordinator.queries
        self.resizer = coordinator.resizer
        self.clients: list[Client] = []
        self.go = rt.event("the test lets the jobs end", owed_by=lambda: ["the test"])

    def client(self) -> Client:
        self.clients.append(self.connect(self.host.address))
        return self.clients[-1]

    def search(self, *idents: str, **times_us: int) -> list[Client]:
        """One new client per query; each has sent FT.SEARCH. times_us: LOAD, WORK, OPEN in microseconds."""
        clients = []
        for ident in idents:
            clients.append(self.client())
            words = [str(word) for pair in times_us.items() for word in pair]
            clients[-1].send("FT.SEARCH", "idx", ident, *words)
        return clients

    # -- the shards

    def hold(self) -> None:
        """The shards keep their replies from now on."""
        for shard in self.shards:
            shard.hold = True

    def held(self) -> int:
        """Replies that the shards keep."""
        return int(self.farm.call(lambda: sum(shard.held for shard in self.shards)))

    def release(self) -> None:
        """The shards send what they kept, and keep nothing more."""

        def send() -> None:
            for shard in self.shards:
                shard.hold = False
                shard.release()

        self.farm.call(send)

    # -- the workers

    def keep_busy(self, number: int) -> None:
        """Queue so many jobs that last until `go` is set."""
        for _ in range(number):
            self.workers.add_work(lambda _: self.go.wait(), None)

    # -- the main thread

    def on_main(self, function: Callable[[], Any]) -> Any:
        """Run it on main, module lock held; its result."""
        with self.main_held() as main:
            return main(function)

    @contextmanager
    def main_held(self) -> Iterator[Callable[[Callable[[], Any]], Any]]:
        """Main does nothing but what is given to it: it holds the module lock and does not poll."""
        work = HandOver(self.rt, "work for main")

        def serve() -> None:
            while (item := work.get()) is not None:
                function, result = item
                try:
                    result.put((function(), None))
                except Exception as err:
                    result.put((None, err))

        def main(function: Callable[[], Any]) -> Any:
            result = HandOver(self.rt, "its result")
            work.put((function, result))
            value, err = result.get(PATIENCE_NS)
            if err is not None:
                raise err
            return value

        self.host.post(serve)
        try:
            main(lambda: None)
            yield main
        finally:
            work.put(None)

    # -- what can be seen

    def last(self) -> Resize:
        return self.resizer.history[-1]

    def chain(self, name: str) -> wait_for.Chain:
        """Why the task of that name does not go on."""
        task = next(task for task in self.rt.tasks() if task.name == name)
        return wait_for.chain_from(self.rt, task)

    def sums(self) -> tuple[int, int, int]:
        """submitted, replied, failed; every query must have its outcome."""
        sums = self.queries.statistics()
        assert sums["submitted"] == sums["replied"] + sums["failed"], sums
        assert (sums["in_flight"], sums["held"]) == (0, 0), sums
        assert sum(self.queries.failures().values()) == sums["failed"]
        return sums["submitted"], sums["replied"], sums["failed"]

    def states(self) -> list[str]:
        """State names of all connections, those included that are to go."""
        return [name for names in self.cluster.fill_state_dict().values() for name in names]


@pytest.fixture
def make_site(rt: Runtime, farm: Any, connect: Callable[[Address], Client]) -> Iterator[Callable[..., Site]]:
    """`make_site(workers=2, shards=2, policy="upstream-7410", changes={...}, **options)`: a site that is connected.

    changes: fields of the policy.  options: of the coordinator. A test that leaves main stuck fails.
    """
    sites: list[Site] = []

    def make(
        workers: int = 2,
        shards: int = 2,
        policy: str = "upstream-7410",
        changes: dict[str, Any] | None = None,
        **options: Any,
    ) -> Site:
        options.setdefault("conn", ConnOptions(reconnect_delay_ms=1, reauth_delay_ms=1))
        scripted = [farm.shard() for _ in range(shards)]
        coordinator = Coordinator(
            rt,
            CoordinatorOptions(workers=workers, **options),
            [shard.endpoint for shard in scripted],
            get_policy(policy).override(**(changes or {})),
            lambda ident, service_ns: pack_command("_FT.SEARCH", "idx", ident),
        )
        sites.append(Site(rt, farm, scripted, coordinator, connect))
        assert coordinator.start()
        return sites[-1]

    yield make
    for site in sites:
        site.go.set()
        site.release()
        for client in site.clients:
            client.close()
        assert site.host.stop(PATIENCE_NS), f"main is stuck\n{describe(rt)}"
        site.coordinator.stop()
        if site.host.task is not None:
            assert site.host.task.error is None, f"main ended with {site.host.task.error!r}"
        assert site.workers.stats().job_errors == 0, site.workers.pool.job_errors
        for io in site.cluster.io_runtimes:
            assert io.task is None or io.task.error is None, f"{io} ended with {io.task.error!r}"


class Footprint:
    """What the commands of one test leave on the machine: processes by a mark in their environment, temporary files."""

    def __init__(self) -> None:
        self.mark = f"COORDEMU_TEST_{uuid.uuid4().hex}"
        # Short: the path of a unix socket has about a hundred bytes.
        self.directory = Path(tempfile.mkdtemp(prefix="ce-"))

    def processes(self, word: str = "") -> list[psutil.Process]:
        """Those that live, with `word` in their command line."""
        mark, directory, found = self.mark.encode(), str(self.directory), []
        for entry in Path("/proc").iterdir():
            # Read by hand, since this is asked for over and over; whatever has gone meanwhile raises OSError.
            with suppress(OSError, psutil.NoSuchProcess):
                # A Redis server writes its title over its environment; it works in a directory of ours.
                if entry.name.isdigit() and (
                    mark in (entry / "environ").read_bytes() or os.readlink(entry / "cwd").startswith(directory)
                ):
                    process = psutil.Process(int(entry.name))
                    if word in " ".join(process.cmdline()):
                        found.append(process)
        return found

    def files(self) -> list[Path]:
        while True:
            # A directory may go between the look at its parent and the look into it.
            with suppress(FileNotFoundError):
                return sorted(self.directory.rglob("*"))


@pytest.fixture
def footprint(monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., Any]) -> Iterator[Footprint]:
    """For tests that run commands: they find the package, and must leave neither a process nor a temporary file."""
    foot = Footprint()
    source = str(Path(coordemu.__file__).parents[1])
    monkeypatch.setenv(foot.mark, "1")
    monkeypatch.setenv("TMPDIR", str(foot.directory))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH")))))
    try:
        yield foot
        with suppress(AssertionError):
            # A shard process whose parent died before it said START waits ten seconds for it.
            eventually(lambda: not foot.processes() and not foot.files(), patience_s=2 * PATIENCE_S)
        assert foot.processes() == []
        assert foot.files() == []
    finally:
        for process in foot.processes():
            process.kill()
        shutil.rmtree(foot.directory, ignore_errors=True)
