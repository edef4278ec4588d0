"""Shrink: a failing order made as small as it goes, with the same failure.

Role: what a search finds switches between tasks all the time, and most of that has nothing to do with the bug. In this
order: the subject is cut (`Subject.smaller`), the plan made plainer (no chance, the clock that only passes time when
nothing can run), and then the order itself, again and again until nothing helps: the tail is dropped, independent
steps are commuted, segments are taken out in halves, quarters and so on, then one by one (their steps move to the same
actor's next segment, or to the one before), segments are let run until their actor blocks, picks are made plain. At the
end the nearest passing order says what decides.

A candidate is accepted only when its run shows the very same signature and is simpler: fewer switches between tasks,
then fewer turns between actors of any kind, fewer preemptions, fewer entries in the list, fewer picks, fewer steps. The
result is the exact record of the last run that was accepted, so it is never worse than what came in; when the budget
allowed all of it, no single segment can be taken out.

Thread: any, one shrink at a time per OS thread. Upstream: none. Left out: proving that no smaller order exists.
Bounds: `budget_runs` runs, and about BUDGET_STEPS steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from coordemu.explore.commute import Births, commuted
from coordemu.explore.lanes import ports_of
from coordemu.explore.nearest import Choices, nearest
from coordemu.explore.order import Failure, OrderPlan, Played, Subject, play
from coordemu.explore.portfolio import PORTFOLIO, plan_of
from coordemu.explore.replay import LIVELOCK
from coordemu.explore.segments import Follow, Picks, Segment, exactly, picks_of, segments_of
from coordemu.runtime.sim_outcome import ERROR
from coordemu.runtime.sim_schedule import CLOCK_NAME, Schedule, ScheduleError

BUDGET_RUNS = 2000
# Runs of a very long order are dear: so many steps of them in all, about, but at least LEAST_RUNS runs.
BUDGET_STEPS, LEAST_RUNS = 4_000_000, 20
# Of the budget: for smaller subjects, and for the nearest passing order.
CUT_SHARE, NEAREST_SHARE = 0.3, 0.15
# So many orders of a smaller subject are played, and so many steps of orders that may pass.
ORDERS_OF_ONE, NEAREST_STEPS = 200, 25_000
# A run may become longer than the one that came in; one that does not end is stopped here.
MORE_STEPS, LONGER = 1000, 2

# For a smaller subject and a number of orders, the plans to try there.
Find = Callable[[Subject, int], Sequence[OrderPlan]]


@dataclass(frozen=True, slots=True)
class Shrunk:
    """What came of it.

    subject, plan, schedule, failure: the smallest that was found; the signature is that of what came in.  runs: all
    that were played.  switches_before, switches: between tasks, of what came in and now.  preemptions: switches away
    from an actor that could have gone on.  turns: between actors of any kind, deliveries and the clock as well.
    complete: the budget sufficed, so that no segment can be taken out.  passing: the nearest order that passes, None
    when there is none.  sentence: what decides, in words.
    """

    subject: Subject
    plan: OrderPlan
    schedule: Schedule
    failure: Failure
    runs: int
    switches_before: int
    switches: int
    preemptions: int
    turns: int
    complete: bool
    passing: Schedule | None
    sentence: str


def shrink(
    subject: Subject,
    plan: OrderPlan,
    schedule: Schedule,
    failure: Failure,
    budget_runs: int = BUDGET_RUNS,
    progress: Callable[[str], None] | None = None,
    find: Find | None = None,
) -> Shrunk:
    """Shrink a failing order. budget_runs: 1 or more (ValueError); a very long order gets fewer.
    progress: called with a line now and then.  find: for a smaller subject and a number of orders, the plans to try
    there; None: those of the portfolio.

    Raises ScheduleError when the schedule does not show the failure any more. Does not block.
    """
    if budget_runs < 1:
        raise ValueError(f"a budget of {budget_runs} runs")
    affordable = max(LEAST_RUNS, BUDGET_STEPS // max(1, len(schedule.steps)))
    budget = min(budget_runs, affordable)
    return _Shrinker(subject, plan, schedule, failure, budget, progress or (lambda _: None)).shrink(find)


@dataclass(frozen=True, slots=True)
class _Best:
    """The simplest run so far, and the list that makes it."""

    played: Played
    segments: tuple[Segment, ...]
    picks: Picks
    switches: int
    preemptions: int
    turns: int

    @property
    def cost(self) -> tuple[int, ...]:
        """What is less is simpler."""
        bounded = sum(until is not None for _, until in self.segments)
        return (
            self.switches,
            self.turns,
            self.preemptions,
            len(self.segments),
            len(self.picks),
            self.played.steps,
            bounded,
        )


class _OutOfBudget(Exception):
    """No more runs."""


class _Shrinker:
    """One shrinking."""

    def __init__(
        self,
        subject: Subject,
        plan: OrderPlan,
        schedule: Schedule,
        failure: Failure,
        budget_runs: int,
        progress: Callable[[str], None],
    ) -> None:
        self.subject = subject
        self.plan = plan
        self.signature = failure.signature
        self.runs = 0
        self._budget = budget_runs
        self._progress = progress
        self._max_steps = LONGER * len(schedule.steps) + MORE_STEPS
        if failure.kind == LIVELOCK:  # it shows by reaching the limit, and by no less
            self._max_steps = max(len(schedule.steps), 1)
        self._tried: set[tuple[tuple[Segment, ...], tuple[object, ...]]] = set()
        self._limit = budget_runs + 1  # the first run only makes sure
        first = self._play(exactly(schedule))
        if first is None or first.played.schedule.steps != schedule.steps:
            raise ScheduleError("the schedule does not show its failure any more; replay it to see where it differs")
        self.best = first
        self._limit = budget_runs

    def shrink(self, find: Find | None) -> Shrunk:
        """All of it."""
        came_in = self.subject, self.plan, self.best
        before = self.best.switches
        complete = True
        try:
            self._limit = int(self._budget * CUT_SHARE)
            self._cut_subject(find)
        except _OutOfBudget:
            pass
        try:
            self._limit = self._budget - int(self._budget * NEAREST_SHARE)
            self._simplify_plan()
            self._shrink_order()
            if self._simplify_plan():
                self._shrink_order()
        except _OutOfBudget:
            complete = False
        if self.best.switches > before:  # a smaller subject, and no runs left for its order
            self.subject, self.plan, self.best = came_in
        best = self.best
        self._progress(f"{best.switches} switches, {best.preemptions} preemptions; looking for the nearest that passes")
        choices = Choices(best.played.schedule)
        shown = play(self.subject, self.plan, choices, max_steps=self._max_steps)
        assert best.played.failure is not None
        near = nearest(
            lambda strategy: play(self.subject, self.plan, strategy, max_steps=self._max_steps),
            best.played.schedule,
            best.played.failure,
            self._nearest_limit(),
            choices.others,
            ports_of(shown.facts),
        )
        self.runs += 1 + near.runs
        return Shrunk(
            self.subject,
            self.plan,
            best.played.schedule,
            best.played.failure,
            self.runs,
            before,
            best.switches,
            best.preemptions,
            best.turns,
            complete,
            near.passing,
            near.sentence,
        )

    def _nearest_limit(self) -> int:
        """How many runs the nearest passing order may take: a share of the budget, and long runs are dear."""
        share = max(int(self._budget * NEAREST_SHARE), 1)
        return max(0, min(self._budget - self.runs - 1, share, NEAREST_STEPS // max(self.best.played.steps, 1) + 30))

    # -- trying

    def _play(
        self,
        follow: Follow,
        segments: tuple[Segment, ...] | None = None,
        subject: Subject | None = None,
        plan: OrderPlan | None = None,
    ) -> _Best | None:
        """A run, if it shows the signature. segments: what is followed, None for all that the run shows."""
        if self.runs >= self._limit:
            raise _OutOfBudget
        self.runs += 1
        played = play(subject or self.subject, plan or self.plan, follow, max_steps=self._max_steps)
        if played.failure is None or played.failure.signature != self.signature:
            return None
        steps = played.schedule.steps
        # A segment in which no step was taken says nothing.
        kept = segments_of(steps) if segments is None else tuple(segments[at] for at in sorted(follow.used))
        return _Best(played, kept, picks_of(steps), follow.switches, follow.preemptions, follow.turns)

    def _try(self, segments: Sequence[Segment], picks: Picks | None = None) -> bool:
        """Play a list; keep it when it fails alike and is simpler."""
        candidate = _merged(segments)
        chosen = self.best.picks if picks is None else picks
        key = (candidate, tuple(chosen.items()))
        if key in self._tried:
            return False
        self._tried.add(key)
        found = self._play(Follow(candidate, chosen, "shrunk"), candidate)
        if found is None or found.cost >= self.best.cost:
            return False
        self._accept(found)
        return True

    def _accept(self, found: _Best) -> None:
        self.best = found
        self._progress(
            f"run {self.runs}: {found.switches} switches, {found.preemptions} preemptions, {found.played.steps} steps"
        )

    # -- what is tried

    def _cut_subject(self, find: Find | None) -> None:
        smaller = list(self.subject.smaller())
        share = max(1, self._limit // (2 * len(smaller))) if smaller else 0
        for subject in smaller:
            until, limit = min(self.runs + min(share, ORDERS_OF_ONE), self._limit), self._limit
            self._limit = until
            try:
                found = self._find(subject, find or _plans(self.plan), until - self.runs)
            except _OutOfBudget:
                found = None
            finally:
                self._limit = limit
            if found is not None:
                self.subject, self.plan = subject, found.played.plan
                self._tried.clear()
                self.best = found
                self._progress(f"run {self.runs}: a smaller one fails as well: {subject.name}")
                self._cut_subject(find)
                return

    def _find(self, subject: Subject, plans: Find, count: int) -> _Best | None:
        """The failure on another subject: by the order that is known, then by other orders."""
        found = self._play(Follow(self.best.segments, self.best.picks, "shrunk"), None, subject)
        if found is not None:
            return found
        for plan in plans(subject, count):
            if self.runs >= self._limit:
                return None
            self.runs += 1
            played = play(subject, plan, max_steps=self._max_steps)
            if played.failure is not None and played.failure.signature == self.signature:
                found = self._play(exactly(played.schedule), None, subject, plan)
                if found is not None and found.played.schedule.steps == played.schedule.steps:
                    return found
        return None

    def _simplify_plan(self) -> bool:
        """No chance, or the clock that passes time when nothing can run, if the order gets no worse. Whether it did."""
        before = self.plan
        for change in ({"chances": 0.0, "clock": "idle"}, {"chances": 0.0}, {"clock": "idle"}):
            if all(getattr(self.plan, name) == value for name, value in change.items()):
                continue
            plan = replace(self.plan, **change)
            segments = tuple(each for each in self.best.segments if each[0] != CLOCK_NAME or plan.clock != "idle")
            found = self._play(Follow(segments, self.best.picks, "shrunk"), None, plan=plan)
            if found is not None and found.switches <= self.best.switches:
                self.plan = plan
                self._tried.clear()
                self._accept(found)
        return self.plan != before

    def _shrink_order(self) -> None:
        """Until a whole round of everything changes nothing."""
        cost: tuple[int, ...] = ()
        while cost != self.best.cost:
            cost = self.best.cost
            self._drop_tail()
            self._commute()
            self._drop_tail()
            self._halve()
            self._one_by_one()
            self._plain_picks()
            if cost == self.best.cost:
                self._one_by_one_of_all()

    def _drop_tail(self) -> None:
        """The fewest segments from the beginning that suffice, by halving."""
        low, high = 0, len(self.best.segments)
        segments = self.best.segments
        while low < high:
            middle = (low + high) // 2
            if self._try(segments[:middle]):
                high = middle
            else:
                low = middle + 1

    def _commute(self) -> None:
        if self.runs >= self._limit:
            raise _OutOfBudget
        self.runs += 1
        births = Births(self.best.played.schedule)
        played = play(self.subject, self.plan, births, footprints=True, max_steps=self._max_steps)
        ended = played.outcome.kind == ERROR
        for only_needed in (True, False) if ended else (False,):
            order = commuted(
                played.schedule.steps, played.footprints, played.time_passed_at, births.born_in, only_needed
            )
            if self._try(order):
                return

    def _halve(self) -> None:
        """Take out runs of segments: halves, quarters, and so on down to two."""
        size = len(self.best.segments) // 2
        while size > 1:
            at = 0
            while at < len(self.best.segments):
                segments = self.best.segments
                if not self._try(segments[:at] + segments[at + size :]):
                    at += size
            size = min(size // 2, len(self.best.segments) // 2)

    def _one_by_one(self) -> None:
        at = len(self.best.segments) - 1
        while at >= 0:
            at = min(at, len(self.best.segments) - 1)
            if at < 0 or not any(self._try(candidate) for candidate in _changed(self.best.segments, at)):
                at -= 1

    def _one_by_one_of_all(self) -> None:
        """The same over all segments of the run, also those that came by themselves once the list had ended: who was
        left in the middle may have to be left there although another comes next."""
        segments = segments_of(self.best.played.schedule.steps)
        at = len(segments) - 1
        while at >= 0:
            if any(self._try(candidate) for candidate in _without(segments, at)):
                segments = segments_of(self.best.played.schedule.steps)
                at = min(at, len(segments))
            at -= 1

    def _plain_picks(self) -> None:
        for where in list(self.best.picks):
            picks: Mapping[tuple[str, str, int], int] = {
                place: choice for place, choice in self.best.picks.items() if place != where
            }
            self._try(self.best.segments, picks)


def _changed(segments: tuple[Segment, ...], at: int) -> Iterator[tuple[Segment, ...]]:
    """Without one segment, or with its actor going on until it blocks."""
    key, until = segments[at]
    yield from _without(segments, at)
    if until is not None:
        yield (*segments[:at], (key, None), *segments[at + 1 :])


def _without(segments: tuple[Segment, ...], at: int) -> Iterator[tuple[Segment, ...]]:
    """Without one segment (its steps come with the actor's next), or with its steps in the actor's one before."""
    key, until = segments[at]
    yield segments[:at] + segments[at + 1 :]
    before = next((place for place in range(at - 1, -1, -1) if segments[place][0] == key), None)
    if before is not None:
        yield (*segments[:before], (key, until), *segments[before + 1 : at], *segments[at + 1 :])


def _merged(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """Neighbours of one actor as one."""
    found: list[Segment] = []
    for key, until in segments:
        if found and found[-1][0] == key:
            last = found.pop()[1]
            until = None if until is None or last is None else max(last, until)
        found.append((key, until))
    return tuple(found)


def _plans(plan: OrderPlan) -> Find:
    """The plans to look with on a smaller subject: the portfolio's in turn with the failing order's own, reseeded."""

    def plans(_subject: Subject, count: int) -> Sequence[OrderPlan]:
        found = []
        for number in range((count + 1) // 2):
            found.append(plan_of(PORTFOLIO, plan.seed, number, plan.length))
            found.append(replace(plan, seed=plan.seed + number))
        return found[:count]

    return plans
