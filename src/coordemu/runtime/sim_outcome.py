"""SimOutcome: how a simulated run ended, with everything that explains and repeats it.

Role: `SimRuntime.run` hands one back instead of raising, because a search looks at many and expects most of them to be
of any kind. `check` turns a bad one into its exception, for tests that want no more than that.

Thread: frozen values, any. Upstream: none. Left out: verdicts about queries and PINGs; those are the laboratory's
(`coordemu.lab.verdict`), which knows what a query is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from coordemu.runtime.sim_schedule import Schedule
from coordemu.runtime.wait_for import Chain

DONE, PAUSED, DEADLOCK, ERROR, STEP_LIMIT, DIVERGED = "done", "paused", "deadlock", "error", "step limit", "diverged"


class SimDeadlock(Exception):
    """Nothing can run any more, and no time limit will change that. The text says who waits for whom."""


class SimStepLimit(Exception):
    """The run took more steps than it may."""


@dataclass(frozen=True, slots=True)
class SimOutcome:
    """The end of a run.

    kind: "done" (every task has ended), "paused" (main has, others wait to go on), "deadlock", "error" (a task raised),
        "step limit", "diverged" (a replay did not fit).
    steps: how many were taken.  now_ns: virtual time at the end.  schedule: what was chosen, for a replay.
    error: the exception of a bad end.  wait_for: the waits at a bad end, for humans, "" otherwise.
    stacks: task -> frames, at a bad end.  chains: why each task that is left does not go on, at a bad end.
    """

    kind: str
    steps: int
    now_ns: int
    schedule: Schedule
    error: BaseException | None = None
    wait_for: str = ""
    stacks: dict[str, list[str]] = field(default_factory=dict)
    chains: tuple[Chain, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the run came to its end."""
        return self.kind in (DONE, PAUSED)

    def check(self) -> SimOutcome:
        """Itself when it is ok; raises its error otherwise."""
        if self.error is not None:
            raise self.error
        return self
