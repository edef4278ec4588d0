"""How the resilience tests run: each that asks for `rt` as a task of either runtime, from the same text."""

from __future__ import annotations

from typing import Any

import pytest
from harness import harness_fixture, pytest_pyfunc_call, rt, rt_threads, start, until

from coordemu.runtime.base import NS_PER_S, Runtime
from coordemu.runtime.sim import SimRuntime

__all__ = ["pytest_pyfunc_call", "rt", "rt_threads", "start", "until"]

harness = harness_fixture()


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
