"""How the pool's tests run: each as a task of either runtime, with a dialer that needs no network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from harness import LIMIT_S, SimHarness, ThreadsHarness, pytest_pyfunc_call, rt, until

from coordemu.pool.conn_pool import ConnPool
from coordemu.pool.invariants import check_invariants
from coordemu.pool.pool_options import PoolOptions
from coordemu.runtime.base import NS_PER_S, Runtime
from coordemu.runtime.threads import ThreadsRuntime

__all__ = ["pytest_pyfunc_call", "rt", "until"]

HARNESSES: dict[str, Callable[[], Any]] = {"threads": ThreadsHarness, "sim": lambda: SimHarness("random")}


@pytest.fixture(params=sorted(HARNESSES))
def harness(request: pytest.FixtureRequest) -> Iterator[Any]:
    """One runtime's harness."""
    made = HARNESSES[request.param]()
    yield made
    made.close()


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
        names = ("initialize", "health_check", "on_pressure", "log", "faults", "name")
        others = {name: settings.pop(name) for name in names if name in settings}
        settings.setdefault("pool_timeout_ms", 5_000)
        return ConnPool(rt, dialer, PoolOptions(**settings), **others)

    return make


class Call:
    """A call that runs as a task of its own."""

    def __init__(self, rt: Runtime, function: Callable[[], Any], name: str) -> None:
        self.value: Any = None
        self.error: Exception | None = None
        self.done = False
        self._function = function
        self.task = rt.spawn(self._run, name=name)

    def _run(self) -> None:
        try:
            self.value = self._function()
        except Exception as error:
            self.error = error
        self.done = True

    def join(self) -> Any:
        """Its value once it has ended; raises what it raised."""
        assert self.task.join(LIMIT_S * NS_PER_S)
        if self.error is not None:
            raise self.error
        return self.value

    def failure(self) -> Exception:
        """What it raised, once it has ended."""
        assert self.task.join(LIMIT_S * NS_PER_S)
        assert self.error is not None
        return self.error


@pytest.fixture
def start(rt: Runtime) -> Callable[..., Call]:
    """`start(function)`: a call in a task of its own."""
    count = iter(range(1, 10_000))
    return lambda function, name="": Call(rt, function, name or f"caller {next(count)}")


@pytest.fixture
def rested(until: Callable[..., None]) -> Callable[[ConnPool], None]:
    """`rested(pool)`: wait for its dials to end, then check every rule."""

    def check(pool: ConnPool) -> None:
        until(lambda: not pool.dials.slots.held and not pool.register.dialing)
        until(lambda: not pool.register.warming)
        check_invariants(pool)

    return check


@pytest.fixture
def rt_threads() -> Iterator[ThreadsRuntime]:
    """Real threads, for a test that has the simulator of its own besides. None may be left."""
    made = ThreadsHarness()
    yield made.rt
    made.close()
