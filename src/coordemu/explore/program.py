"""ProgramSubject: any function that takes a runtime, as a subject.

Role: what the pytest plugin and the checks of the search itself explore. The function is the run's main task; it fails
by raising, by a deadlock, or by not ending. Nothing else is known of it, so it has no smaller form.

Thread: one play at a time. Upstream: none. Left out: verdicts other than passed and failed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from coordemu.explore.order import FAILED, PASSED, Finding, Subject
from coordemu.explore.signature import failure_of
from coordemu.runtime.sim import SimRuntime


class ProgramSubject:
    """A function as a subject. function: called with the runtime, as the run's main task.  name: for a reader."""

    def __init__(self, function: Callable[[SimRuntime], object], name: str = "") -> None:
        self.function = function
        self.name = name or getattr(function, "__qualname__", repr(function))

    def describe(self) -> dict[str, Any]:
        """Its name: only who has the function can make it again."""
        return {"kind": "program", "name": self.name}

    def play(self, sim: SimRuntime) -> Finding:
        """Run once."""
        outcome = sim.run(lambda: self.function(sim))
        failure = failure_of(outcome)
        return Finding(FAILED if failure else PASSED, failure, outcome)

    def smaller(self) -> Sequence[Subject]:
        """None."""
        return ()

    def __repr__(self) -> str:
        return f"<ProgramSubject {self.name}>"
