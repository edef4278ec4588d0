"""How the pool's tests run: each as a task of either runtime, with a dialer that needs no network, or with three nodes
of our own, which say whatever a test wants of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hiredis
import pytest
from harness import harness_fixture, pytest_pyfunc_call, rt, rt_threads, start, until

from coordemu.pool.cluster_client import ClusterClient, ClusterOptions
from coordemu.pool.conn_pool import ConnPool
from coordemu.pool.invariants import check_invariants
from coordemu.pool.pool_options import PoolOptions
from coordemu.pool.slot_map import SLOTS, even_map, slot_of
from coordemu.resp_encode import OK, array, bulk, error, integer, null
from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Address, Runtime

__all__ = ["pytest_pyfunc_call", "rt", "rt_threads", "start", "until"]

harness = harness_fixture()


class Wire:
    """What the tests' dialer returns."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.closes = 0
        self.healthy = True
        self.close_error: Exception | None = None

    def close(self) -> None:
        self.closes += 1
        if self.close_error is not None:
            raise self.close_error


class Dialer:
    """A dialer that takes time, fails, or waits for `gate`, as the test says. Records what it was called with."""

    def __init__(self, rt: Runtime) -> None:
        self.rt = rt
        self.lock = rt.lock("dialer")
        self.wires: list[Wire] = []
        self.timeouts_ns: list[int | None] = []
        self.at_ns: list[int] = []
        self.takes_ns = 0
        self.failures: list[Exception] = []
        self.broken: Exception | None = None
        self.gate: Any = None
        self.honour_timeout = False

    def __call__(self, timeout_ns: int | None) -> Wire:
        with self.lock:
            self.timeouts_ns.append(timeout_ns)
            self.at_ns.append(self.rt.now_ns())
            error = self.broken or (self.failures.pop(0) if self.failures else None)
        if self.gate is not None:
            self.gate.wait()
        if self.takes_ns:
            if self.honour_timeout and timeout_ns is not None and timeout_ns < self.takes_ns:
                self.rt.sleep_ns(timeout_ns)
                raise TimeoutError("the dial took too long")
            self.rt.sleep_ns(self.takes_ns)
        if error is not None:
            raise error
        with self.lock:
            wire = Wire(len(self.wires) + 1)
            self.wires.append(wire)
        return wire

    @property
    def calls(self) -> int:
        return len(self.timeouts_ns)


@pytest.fixture
def dialer(rt: Runtime) -> Dialer:
    """A dialer that succeeds at once."""
    return Dialer(rt)


@pytest.fixture
def make_pool(rt: Runtime, dialer: Dialer) -> Callable[..., ConnPool]:
    """`make_pool(pool_size=2, …, initialize=…)`: a pool over `dialer`; the rest as `ConnPool` has it."""

    def make(**settings: Any) -> ConnPool:
        names = ("initialize", "health_check", "on_pressure", "log", "faults", "name", "listener")
        others = {name: settings.pop(name) for name in names if name in settings}
        settings.setdefault("pool_timeout_ms", 5_000)
        return ConnPool(rt, dialer, PoolOptions(**settings), **others)

    return make


@pytest.fixture
def rested(until: Callable[..., None]) -> Callable[[ConnPool], None]:
    """`rested(pool)`: wait for its dials to end, then check every rule."""

    def check(pool: ConnPool) -> None:
        until(lambda: not pool.dials.slots.held and not pool.register.dialing)
        until(lambda: not pool.register.warming)
        check_invariants(pool)

    return check


class Node:
    """A node of the tests' cluster. `script`: called with each command first; what it returns is the reply, None: the
    plain one, "silent": no reply, "hang up": the connection is closed."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.store = {}
        self.script = lambda words, asking: None
        self.commands = []
        self.transports = {}
        self.listener = cluster.loop.listen(Address(), self.accept)
        self.address = self.listener.address

    def accept(self, transport):
        peer = Session(self, transport)
        self.transports[peer] = transport
        return peer

    def answer(self, words, asking):
        self.commands.append(words)
        said = self.script(words, asking)
        if said is not None:
            return said
        name = words[0].upper()
        if name == b"CLUSTER":
            return self.cluster.slots_reply()
        if name == b"SET":
            self.store[words[1]] = words[2]
            return OK
        if name == b"GET":
            return bulk(self.store[words[1]]) if words[1] in self.store else null(2)
        if name == b"PING":
            return b"+PONG\r\n"
        return error(f"ERR unknown command {name!r}")


class Session:
    """One connection to a node."""

    def __init__(self, node, transport):
        self.node, self.transport = node, transport
        self.reader = hiredis.Reader(notEnoughData=self)
        self.asking = False

    def on_connect(self):
        pass

    def on_data(self, data):
        self.reader.feed(data)
        while (words := self.reader.gets()) is not self:
            if words == [b"ASKING"]:
                self.asking = True
                self.transport.write(OK)
                continue
            said = self.node.answer(words, self.asking)
            self.asking = False
            if said == "hang up":
                self.on_close(None)
                self.transport.abort()
                return
            if said != "silent":
                self.transport.write(said)

    def on_close(self, reason):
        self.node.transports.pop(self, None)


class Cluster:
    """Three nodes on one loop, in a task of its own."""

    def __init__(self, rt):
        self.rt = rt
        self.loop = rt.loop("nodes")
        self.no_cluster = False
        self.nodes = [Node(self) for _ in range(3)]
        self.owners = list(even_map([node.address for node in self.nodes]).owners)
        self.jobs = []
        self.wake = self.loop.async_handle(self.run_jobs, "a test's order")
        self.task = rt.spawn(self.loop.run, name="nodes")

    def run_jobs(self):
        while self.jobs:
            self.jobs.pop(0)()

    def order(self, job):
        """Have the nodes' task do it, and wait for that."""
        done = self.rt.event("done", owed_by=lambda: [self.task])
        self.jobs.append(lambda: (job(), done.set()))
        self.wake.send()
        assert done.wait(20 * NS_PER_S)

    def slots_reply(self):
        if self.no_cluster:
            return error("ERR This instance has cluster support disabled")
        rows, begin = [], 0
        for slot in range(1, SLOTS + 1):
            if slot == SLOTS or self.owners[slot] != self.owners[begin]:
                address = self.nodes[self.owners[begin]].address
                node = array([bulk(address.host.encode()), integer(address.port), bulk(b"id")])
                rows.append(array([integer(begin), integer(slot - 1), node]))
                begin = slot
        return array(rows)

    def node_of(self, key):
        return self.nodes[self.owners[slot_of(key)]]

    def stop(self):
        self.loop.stop()
        self.task.join()
        self.loop.close()


@pytest.fixture
def scene(rt):
    """`scene(**options)`: a cluster and a client of it; `scene.end()` at the test's end checks the pools."""

    class Scene:
        def __init__(self):
            self.cluster = Cluster(rt)
            self.client = None

        def __call__(self, **options):
            pool = PoolOptions(**{"pool_size": 2, "dialer_retries": 1, **options.pop("pool", {})})
            options = {"min_retry_backoff_ms": 1, "max_retry_backoff_ms": 4, "read_timeout_ms": 20_000, **options}
            addresses = [node.address for node in self.cluster.nodes]
            self.client = ClusterClient(rt, addresses, ClusterOptions(pool=pool, **options))
            return self.client

        def end(self):
            for pool in self.client.pools.values():
                assert rt.poll_until(
                    lambda pool=pool: not pool.dials.slots.held and not pool.turns.held,
                    NS_PER_MS,
                    "rest",
                    20 * NS_PER_S,
                )
                check_invariants(pool)
            self.client.close()
            self.cluster.stop()

    return Scene()
