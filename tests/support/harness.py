"""How to make each runtime for a test, and how to run a test inside it; for every suite that runs on both.

A test is a plain function of `rt` that runs as the task "main" of that runtime, so that the same text runs on threads
and in the simulator. A suite's conftest imports these names and has a fixture `harness` made by `harness_fixture`.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import pytest

from coordemu.runtime import wait_for
from coordemu.runtime.base import NS_PER_S, Address, Runtime
from coordemu.runtime.sim import SimRuntime
from coordemu.runtime.sim_schedule import make_strategy
from coordemu.runtime.threads import ThreadsRuntime

LIMIT_S = 30


class ThreadsHarness:
    """Real threads: the test runs in a spawned one, and must leave none behind."""

    def __init__(self) -> None:
        self.rt = ThreadsRuntime(seed=1)
        self._resources = ExitStack()

    def run(self, main: Callable[[], Any]) -> None:
        """Run main as a task to its end; raise what it raised, or why it did not end."""
        ended = threading.Event()  # not a join, which would show up in the wait-for graph

        def run() -> None:
            try:
                main()
            finally:
                ended.set()

        task = self.rt.spawn(run, name="main")
        assert ended.wait(LIMIT_S), wait_for.render(self.rt)
        task.join()
        if task.error is not None:
            raise task.error

    def black_hole(self) -> Address:
        """Where connecting never comes to an end: a listener whose queue is full, so that SYNs are dropped."""
        listener = self._resources.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = self._resources.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        return Address(port=listener.getsockname()[1])

    def close(self) -> None:
        """The end of the test: everything must have ended."""
        self._resources.close()
        left = [task for task in self.rt.tasks() if not task.adopted and not task.join(LIMIT_S * NS_PER_S)]
        assert not left, wait_for.render(self.rt)


class SimHarness:
    """The simulator: the test is a task of it; what it leaves behind goes on after the fixtures are torn down."""

    def __init__(self, strategy: str = "run-on") -> None:
        self.rt = SimRuntime(make_strategy(strategy, seed=1), stop_on_error=False)

    def run(self, main: Callable[[], Any]) -> None:
        """Run main as a task to its end; raise what it raised, or why it did not end."""
        tasks = []

        def run() -> None:
            tasks.append(self.rt.current())
            main()

        self.rt.run(run, wait_for_all=False).check()
        if tasks[0].error is not None:
            raise tasks[0].error

    def black_hole(self) -> Address:
        """Where connecting never comes to an end."""
        return self.rt.network.black_hole()

    def close(self) -> None:
        """The end of the test: everything must have ended."""
        if not self.rt.core.dead:
            self.rt.finish().check()
        assert not self.rt.tasks()


BOTH: Mapping[str, Callable[[], Any]] = {"threads": ThreadsHarness, "sim": lambda: SimHarness("random")}


def harness_fixture(kinds: Mapping[str, Callable[[], Any]] = BOTH) -> Any:
    """The fixture `harness` of a suite: each of `kinds` by its name, closed after the test."""

    @pytest.fixture(name="harness", params=sorted(kinds))
    def harness(request: pytest.FixtureRequest) -> Iterator[Any]:
        made = kinds[request.param]()
        yield made
        made.close()

    return harness


@pytest.fixture
def rt(harness: Any) -> Runtime:
    """The runtime under test."""
    runtime: Runtime = harness.rt
    return runtime


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test of this directory inside its runtime."""
    harness = pyfuncitem.funcargs.get("harness")
    if harness is None:
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    harness.run(lambda: pyfuncitem.obj(**arguments))
    return True


@pytest.fixture
def until(rt: Runtime) -> Callable[[Callable[[], Any]], None]:
    """`until(predicate)`: let the other tasks run until it holds; the test fails after ten seconds."""

    def wait(predicate: Callable[[], Any]) -> None:
        assert rt.poll_until(predicate, 200_000, "the test's condition", timeout_ns=10 * NS_PER_S)

    return wait


@pytest.fixture
def rt_threads() -> Iterator[ThreadsRuntime]:
    """Real threads, for a test that has the simulator of its own besides, or wants no other. None may be left."""
    made = ThreadsHarness()
    yield made.rt
    made.close()


class Call:
    """A call that runs as a task of its own. `value`, or `error`, once it is `done`."""

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
    """`start(function, name="")`: a call in a task of its own."""
    count = iter(range(1, 10_000))
    return lambda function, name="": Call(rt, function, name or f"caller {next(count)}")
