"""Replay: take the steps of a schedule file again, and say at which step it no longer fits.

Role: a schedule belongs to one state of the code. When code, scenario or fault changed since, some step is not possible
any more, or another label stands where the file has this one, or the run ends before the file does. All of these are a
divergence, named by the first step that differs; a replay never passes in silence. `until_step` stops there, and gives
the state at that step: who waits for whom, and the stacks.

Thread: any, one replay at a time per OS thread. Upstream: none. Left out: making the subject (`coordemu.lab.subjects`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from coordemu.explore.order import DIVERGED_VERDICT, Played, Subject, play
from coordemu.explore.schedule_file import ScheduleFile
from coordemu.runtime.sim import MAX_STEPS, SimRuntime
from coordemu.runtime.sim_outcome import DIVERGED
from coordemu.runtime.sim_schedule import Replay, Schedule, SimDivergence
from coordemu.runtime.sim_task import Actor

STOPPED = "stopped"
# The kind of a failure that is having taken too many steps.
LIVELOCK = "livelock"


class _Stop(SimDivergence):
    """The step has come at which the replay was to stop."""


class ReplayUntil(Replay):
    """A replay that stops after so many steps. until_step: 0 or more."""

    def __init__(self, schedule: Schedule, until_step: int) -> None:
        super().__init__(schedule)
        self._length = len(schedule.steps)
        self._until = until_step

    def choose(self, enabled: Sequence[Actor], last: Actor) -> Actor:
        """The recorded actor. Raises SimDivergence when it does not fit, and to stop."""
        if self._length - self.left >= self._until:
            raise _Stop(self._until, "as far as was asked for")
        return super().choose(enabled, last)


def replay(
    subject: Subject,
    file: ScheduleFile,
    until_step: int | None = None,
    footprints: bool = False,
    prepare: Callable[[SimRuntime], None] | None = None,
) -> Played:
    """Play the file's schedule on a subject. until_step: stop after so many steps (0 or more; None: at the end).

    The verdict is the subject's; or "diverged", with a SimDivergence in `outcome.error` that names the step; or, with
    until_step, "stopped", and then `outcome` has the waits, chains and stacks of that moment. `until_step` beyond the
    end stops nothing. footprints, prepare: see `play`.  Raises ValueError for an until_step below 0.
    """
    if until_step is not None and until_step < 0:
        raise ValueError(f"a replay until step {until_step}")
    schedule = file.schedule
    strategy = Replay(schedule) if until_step is None else ReplayUntil(schedule, until_step)
    # A run that had not ended when it was stopped is stopped there again.
    endless = file.failure is not None and file.failure.kind == LIVELOCK
    max_steps = max(len(schedule.steps), 1) if endless else MAX_STEPS
    played = play(subject, file.plan, strategy, footprints=footprints, max_steps=max_steps, prepare=prepare)
    if isinstance(played.outcome.error, _Stop):
        outcome = replace(played.outcome, kind=STOPPED, error=None)
        return replace(played, verdict=STOPPED, failure=None, outcome=outcome)
    if played.outcome.kind != DIVERGED and strategy.left:
        at = len(schedule.steps) - strategy.left
        key, label = schedule.steps[at]
        why = f"the run ends after {at} steps ({played.verdict}), the schedule goes on with {key}: {label!r}"
        outcome = replace(played.outcome, kind=DIVERGED, error=SimDivergence(at + 1, why))
        return replace(played, verdict=DIVERGED_VERDICT, failure=None, outcome=outcome)
    return played


def difference(file: ScheduleFile, played: Played) -> str:
    """What a replay shows and the file does not, in one line; "" when they agree on verdict and signature."""
    if played.verdict == DIVERGED_VERDICT:
        return f"the schedule does not fit: {played.outcome.error}"
    before = file.failure.signature if file.failure is not None else ()
    now = played.failure.signature if played.failure is not None else ()
    if (file.verdict, before) != (played.verdict, now):
        return (
            f"all {played.steps} steps fit, but the file says {file.verdict} ({'; '.join(before) or 'no failure'}), "
            f"and this run is {played.verdict} ({'; '.join(now) or 'no failure'})"
        )
    return ""
