"""Hunt: play a test's orders until one fails, make that one small, and put it into a file.

Role: what happens between the call of a marked test and its verdict. The first order that fails is played again first:
when the same choices do not end in the same failure, the test depends on something that no schedule holds, and the
report says so instead of showing an order that cannot be repeated.

Thread: pytest's. Upstream: none. Left out: several failures of one test (the first ends the search), and processes
(pytest-xdist has them). Bounds: the runs of the shrinker, by the steps that they take.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from coordemu.explore.order import DIVERGED_VERDICT, OrderPlan, Played, Subject, play
from coordemu.explore.portfolio import SYSTEMATIC, plan_of
from coordemu.explore.replay import replay
from coordemu.explore.schedule_file import ScheduleFile
from coordemu.pytest_interleavings.settings import Settings
from coordemu.runtime.sim import MAX_STEPS
from coordemu.runtime.sim_schedule import Replay, ScheduleError, step_limit

if TYPE_CHECKING:
    from coordemu.explore.shrink import Shrunk

LIVELOCK = "livelock"
UNKNOWN_LENGTH = 1000
# The shrinker plays a run of so many steps once, or one of a thousandth a thousand times.
SHRINK_STEPS = 2_000_000
SHRINK_RUNS_LEAST, SHRINK_RUNS_MOST = 50, 2000


@dataclass(frozen=True, slots=True)
class Searched:
    """orders, steps: how many were played.  failed: the last of them, when it failed.  note: what a systematic search
    says of how much it saw."""

    orders: int
    steps: int
    failed: Played | None
    note: str = ""


class HuntError(Exception):
    """The test cannot be searched in this way; one line for the user."""


@dataclass(frozen=True, slots=True)
class Caught:
    """An order that fails, for the report.

    played: the order as it is shown, shrunk when it could be.  searched: None when it came from a file.  shrunk: None
    when it was not tried.  doubt: why the order cannot be repeated, "" when it can.
    """

    played: Played
    searched: Searched | None = None
    shrunk: Shrunk | None = None
    doubt: str = ""


def search(subject: Subject, settings: Settings) -> Searched:
    """Play orders until one fails, or there are no more. Raises HuntError for a test that a strategy cannot take."""
    if settings.strategy in SYSTEMATIC:
        return _exhaust(subject, settings)
    length, steps = UNKNOWN_LENGTH, 0
    for number in range(settings.n):
        plan = plan_of(settings.strategy, settings.seed, number, length)
        if settings.clock is not None:
            plan = replace(plan, clock=settings.clock)
        played = play(subject, plan, max_steps=step_limit(length))
        steps += played.steps
        if played.failure is not None:
            return Searched(number + 1, steps, played)
        if number == 0:
            length = max(1, played.steps)
    return Searched(settings.n, steps, None)


def _exhaust(subject: Subject, settings: Settings) -> Searched:
    # Here, as below: the plugin is loaded in every run of pytest, and most have no use for these.
    from coordemu.explore.dfs import search_all
    from coordemu.explore.dpor import exhaust

    failed: list[Played] = []

    def keep(played: Played) -> None:
        if played.failure is not None:
            failed.append(played)

    plan = OrderPlan(clock=settings.clock or "idle")
    method = search_all if settings.strategy == "dfs" else exhaust
    try:
        result = method(subject, plan, limit=settings.n, on_order=keep, stop_at_first=True)
    except (RuntimeError, ValueError) as error:
        raise HuntError(f"{settings.strategy}: {error}") from None
    return Searched(result.runs, result.steps, failed[0] if failed else None, result.sentence)


def catch(subject: Subject, searched: Searched, before_shown: Callable[[], None]) -> Caught:
    """Make the order that failed small. before_shown: called before each run that may be the one that is shown."""
    found = searched.failed
    assert found is not None
    assert found.failure is not None
    before_shown()
    again = play_again(subject, file_of(subject, found))
    doubt = difference(found, again)
    if doubt or found.failure.kind == LIVELOCK:
        return Caught(found, searched, doubt=doubt)
    from coordemu.explore.shrink import shrink

    budget = max(SHRINK_RUNS_LEAST, min(SHRINK_RUNS_MOST, SHRINK_STEPS // max(1, found.steps)))
    try:
        shrunk = shrink(subject, found.plan, found.schedule, found.failure, budget_runs=budget)
    except ScheduleError as error:
        return Caught(found, searched, doubt=str(error))
    before_shown()
    small = play(shrunk.subject, shrunk.plan, Replay(shrunk.schedule))
    doubt = difference(found, small)
    return Caught(found, searched, doubt=doubt) if doubt else Caught(small, searched, shrunk)


def play_again(subject: Subject, file: ScheduleFile) -> Played:
    """Replay a file's order. Verdict "diverged", with the step in `outcome.error`, when it does not fit."""
    if file.failure is None or file.failure.kind != LIVELOCK:
        return replay(subject, file)
    # It ended because it had taken so many steps, and must not be asked for one more.
    return play(subject, file.plan, Replay(file.schedule), max_steps=max(1, min(MAX_STEPS, len(file.schedule.steps))))


def difference(found: Played, again: Played) -> str:
    """What the second run of an order shows and the first did not, in one line; "" when they agree."""
    if again.verdict == DIVERGED_VERDICT:
        return str(again.outcome.error)
    before = found.failure.signature if found.failure is not None else ()
    if again.failure is not None and again.failure.signature == before:
        return ""
    return again.failure.sentence if again.failure is not None else "the order passes"


def file_of(subject: Subject, played: Played, note: str = "") -> ScheduleFile:
    """What is saved of an order. note: for the reader, one line."""
    return ScheduleFile(subject.describe(), played.plan, played.verdict, played.failure, played.schedule, note)
