"""ItemSubject: a test function as a subject of the search.

Role: each play calls the function once, on a stage of its own, as the main task of a fresh simulation that bears the
test's name. What the test raises is the order's failure, and so is a deadlock, an exception in any other task, and a
run without end. A test that skips itself or is interrupted is neither.

Thread: pytest's. Upstream: none. Left out: a smaller form; only who wrote the test knows one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any

import pytest

from coordemu.explore.order import FAILED, PASSED, Failure, Finding, Subject
from coordemu.explore.signature import failure_of
from coordemu.pytest_interleavings.stage import OnStage, Slot, Stage
from coordemu.runtime.sim import SimRuntime
from coordemu.runtime.sim_outcome import DEADLOCK, SimOutcome
from coordemu.runtime.wait_for import CYCLE, ORPHAN

KIND = "pytest"
# What a test says of itself, which is no failure of the order. (What else pytest has of the kind is.)
OF_THE_TEST: tuple[type[BaseException], ...] = (pytest.skip.Exception, pytest.xfail.Exception, pytest.exit.Exception)


class ItemSubject:
    """One test, with its parameters. item: set up.  slot: where its fixtures look for the stage."""

    def __init__(self, item: pytest.Function, slot: Slot) -> None:
        self.name = item.nodeid
        self.example = ""
        self._task_name = item.originalname or item.name
        self._function: Callable[..., object] = item.obj
        self._slot = slot
        self._of_the_test = OF_THE_TEST
        wanted = inspect.signature(item.obj).parameters
        self._args: tuple[Any, ...] = ()
        self.values: dict[str, Any] = {name: value for name, value in item.funcargs.items() if name in wanted}

    def with_example(
        self,
        function: Callable[..., object],
        args: tuple[Any, ...],
        values: Mapping[str, Any],
        of_the_test: tuple[type[BaseException], ...],
    ) -> ItemSubject:
        """The same test with the arguments of one example. of_the_test: more exceptions that are no failures."""
        subject = copy(self)
        subject._function, subject._args, subject.values = function, args, dict(values)
        subject._of_the_test = (*OF_THE_TEST, *of_the_test)
        drawn = [f"{name}={value!r}" for name, value in values.items() if name not in self.values]
        subject.example = ", ".join(drawn)
        return subject

    def describe(self) -> dict[str, Any]:
        """The test's node id, and the example: only pytest can make it again."""
        return {"kind": KIND, "name": self.name, **({"example": self.example} if self.example else {})}

    def play(self, sim: SimRuntime) -> Finding:
        """Call the function once. Raises what the test says of itself: that it is to be skipped, for instance."""
        stage = Stage(sim)
        values = {name: value.on(stage) if isinstance(value, OnStage) else value for name, value in self.values.items()}

        def body() -> None:
            self._function(*self._args, **values)
            stage.close()

        self._slot.stage = stage
        try:
            outcome = sim.run(body, name=self._task_name)
        finally:
            self._slot.stage = None
        if isinstance(outcome.error, self._of_the_test):
            raise outcome.error
        failure = self._worded(failure_of(outcome), outcome)
        return Finding(FAILED if failure else PASSED, failure, outcome)

    def _worded(self, failure: Failure | None, outcome: SimOutcome) -> Failure | None:
        """A deadlock in which nobody waits in a cycle or for nobody is told from where the test stands."""
        if failure is None or outcome.kind != DEADLOCK or any(c.kind in (CYCLE, ORPHAN) for c in outcome.chains):
            return failure
        ours = [chain.sentence for chain in outcome.chains if chain.steps[0] == self._task_name]
        left = ", ".join(chain.steps[0] for chain in outcome.chains)
        why = ours[0] if ours else f"the test has ended, and these have not: {left}"
        return replace(failure, sentence=f"nothing can run any more; {why}")

    def smaller(self) -> Sequence[Subject]:
        """None."""
        return ()

    def __repr__(self) -> str:
        return f"<ItemSubject {self.name}>"
