"""How the resilience tests run: each that asks for `rt` as a task of either runtime, from the same text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from harness import LIMIT_S, SimHarness, ThreadsHarness, pytest_pyfunc_call, rt, until

from coordemu.runtime.base import NS_PER_S, Runtime
from coordemu.runtime.sim import SimRuntime
from coordemu.runtime.threads import ThreadsRuntime

__all__ = ["pytest_pyfunc_call", "rt", "until"]

HARNESSES: dict[str, Callable[[], Any]] = {"threads": ThreadsHarness, "sim": lambda: SimHarness("random")}


@pytest.fixture(params=sorted(HARNESSES))
def harness(request: pytest.FixtureRequest) -> Iterator[Any]:
    """One runtime's harness."""
    made = HARNESSES[request.param]()
    yield made
    made.close()


class Call:
    """A call that runs as a task of its own. `value`, or `error` (of any kind), once it is `done`."""

    def __init__(self, rt: Runtime, function: Callable[[], Any], name: str) -> None:
        self.value: Any = None
        self.error: BaseException | None = None
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

    def failure(self) -> BaseException:
        """What it raised, once it has ended."""
        assert self.task.join(LIMIT_S * NS_PER_S)
        assert self.error is not None
        return self.error


@pytest.fixture
def start(rt: Runtime) -> Callable[..., Call]:
    """`start(function, name="")`: a call in a task of its own."""
    count = iter(range(1, 10_000))
    return lambda function, name="": Call(rt, function, name or f"caller {next(count)}")


class ShiftedTime:
    """A runtime whose clock a test moves by hand; every other verb is the real one's. It satisfies the seam for layers
    that read the clock and do not sleep by it."""

    def __init__(self, inner: Runtime) -> None:
        self._inner = inner
        self.at_ns = NS_PER_S

    def now_ns(self) -> int:
        return self.at_ns

    def pass_ms(self, delta_ms: int) -> None:
        """Move the clock, back too."""
        self.at_ns += delta_ms * 1_000_000

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@pytest.fixture
def shifted(rt: Runtime) -> ShiftedTime:
    """`rt` with a clock of the test's own, which starts at one second: `shifted.pass_ms(-5)`."""
    return ShiftedTime(rt)


@pytest.fixture
def sim() -> SimRuntime:
    """A simulator of its own, for a test that runs programs in it: `sim.run(main).check()`."""
    return SimRuntime()


@pytest.fixture
def rt_threads() -> Iterator[ThreadsRuntime]:
    """Real threads, for a test that has the simulator of its own besides. None may be left."""
    made = ThreadsHarness()
    yield made.rt
    made.close()
