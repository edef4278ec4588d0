"""Dpor: every order of a small program, one of each class.

Role: proof at a small size. Orders that differ only in the sequence of independent steps are the same for the program;
this search plays one of each class, and says when there are no more. It is dynamic partial order reduction with source
sets and sleep sets: a run is played, and looked through for *races*, pairs of dependent steps that could have come the
other way round. For each the search goes back to where the first of them was chosen, and sees to it that some actor is
tried there which leads to the other order, unless one that does was already (the source set). Who was tried at a place
*sleeps* in what is tried after it, until a step that depends on its own: until then to choose it would only repeat. A
run in which all that could go on are asleep is given up, and counted as blocked.

The search keeps no states but the one run's choices: every run starts anew and takes the choices of the one before, up
to the place where it goes another way. A pick (a choice of the runtime, not of an order) has all its values tried.

Thread: any, one search at a time per OS thread. Upstream: none. Left out: wakeup trees (which would spare the blocked
runs), symmetry of like tasks. Bounds: memory for one run; the time is what it is, see `limit`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from coordemu.explore.dependency import Footprint, Past, dependent
from coordemu.explore.exhaust_result import ExhaustResult, OnClass, OnOrder, Progress, longest_run
from coordemu.explore.order import OrderPlan, Subject, play
from coordemu.explore.watcher import Watcher
from coordemu.runtime.sim_schedule import SimDivergence
from coordemu.runtime.sim_task import Actor

__all__ = ["ExhaustResult", "exhaust"]


class _Place:
    """Where a choice was made. enabled, tried, sleeping: actors by number.

    tried: who was or is to be chosen here.  sleeping: who was asleep on arrival, with the footprint of its next step.
    done: of those tried, whose orders have all been seen, likewise.  chosen: who goes now.  footprint: of that step.
    """

    __slots__ = ("chosen", "done", "enabled", "footprint", "sleeping", "tried")

    def __init__(self, enabled: Sequence[int], sleeping: dict[int, Footprint], chosen: int) -> None:
        self.enabled = enabled
        self.sleeping = sleeping
        self.chosen = chosen
        self.tried = {chosen}
        self.done: dict[int, Footprint] = {}
        self.footprint: Footprint = {}

    def next(self) -> bool:
        """Go on to who is still to be tried; False when there is nobody."""
        self.done[self.chosen] = self.footprint
        self.footprint = {}
        for actor in self.enabled:
            if actor in self.tried and actor not in self.done and actor not in self.sleeping:
                self.chosen = actor
                return True
        return False

    def asleep_after(self, footprint: Footprint) -> dict[int, Footprint]:
        """Who sleeps on after the step that was chosen, which touched this."""
        asleep = {}
        for sleeping in (self.sleeping, self.done):
            for actor, theirs in sleeping.items():
                if actor != self.chosen and not dependent(theirs, footprint):
                    asleep[actor] = theirs
        return asleep


class _Pick:
    """A choice of the runtime. value: now."""

    __slots__ = ("count", "value")
    chosen = -1  # no actor

    def __init__(self, count: int) -> None:
        self.count = count
        self.value = 0

    def next(self) -> bool:
        """Go on to the next value; False when there is none."""
        self.value += 1
        return self.value < self.count


class _Asleep(SimDivergence):
    """All that could go on are asleep."""


class _Run(Watcher):
    """One run: the choices of the places there are, then its own."""

    def __init__(self, places: list[_Place | _Pick], past: Past | None, known: int) -> None:
        super().__init__(past, known)
        self._places = places
        self._at: _Place | None = None
        self._at_step = -1
        self.given_up = False

    def choose(self, enabled: Sequence[Actor], last: Actor) -> Actor:
        """The way to the first step of which notes are made is short; most of a search is spent on it."""
        step = self._step
        if step >= self._known:
            return super().choose(enabled, last)
        self._step = step + 1
        number = self._places[step].chosen
        for actor in enabled:
            if actor.number == number:
                self._passed = None
                return actor
        raise self.misfit(step)

    def decide(self, step: int, enabled: Sequence[Actor], last: Actor) -> Actor:
        """As the place says, or run on; not who sleeps."""
        before, last_step = self._at, self._at_step
        if before is not None:
            _widen(before.footprint, self.past.footprints[last_step])
        places = self._places
        if step < len(places):
            place = places[step]
            if isinstance(place, _Place):
                self._at, self._at_step = place, step
                number = place.chosen
                for actor in enabled:
                    if actor.number == number:
                        return actor
            raise self.misfit(step)
        self._at_step = step
        asleep = {} if before is None else before.asleep_after(self.past.footprints[last_step])
        awake = [actor for actor in enabled if actor.number not in asleep] if asleep else enabled
        if not awake:
            self.given_up = True
            self.note_blocked(False)
            raise _Asleep(step + 1, "all that could go on are asleep")
        chosen = self.run_on(awake, last)
        self._at = _Place([actor.number for actor in enabled], asleep, chosen.number)
        places.append(self._at)
        return chosen

    def decide_pick(self, step: int, count: int) -> int:
        """As the place says, or the first."""
        if step < len(self._places):
            place = self._places[step]
            if isinstance(place, _Pick) and place.count == count:
                return place.value
            raise self.misfit(step)
        self._places.append(_Pick(count))
        return 0

    def finish(self) -> None:
        """Note the footprint of the last step."""
        if self._at is not None and not self.given_up:
            _widen(self._at.footprint, self.past.footprints[self._at_step])


def _widen(footprint: Footprint, more: Footprint) -> None:
    """What a step touches may depend on a pick inside it: all that it may touch counts."""
    for uid, bits in more.items():
        footprint[uid] = footprint.get(uid, 0) | bits


def exhaust(
    subject: Subject,
    plan: OrderPlan | None = None,
    limit: int | None = None,
    on_order: OnOrder | None = None,
    stop: Callable[[], bool] | None = None,
    stop_at_first: bool = False,
    on_class: OnClass | None = None,
) -> ExhaustResult:
    """Play one order of each class of a subject.

    plan: its strategy is not used.  limit: of the runs, None for none.  on_order: told of
    each order that was played to its end; on_class: of its class too.  stop: asked before each run whether to end.
    stop_at_first: end with the first failure.
    The result is complete when all classes were seen and no run had to be cut for its length.
    Raises ValueError for a limit below 0, RuntimeError for a program that is not repeatable.
    """
    plan = plan or OrderPlan()
    with Progress(limit, on_order, stop, stop_at_first) as progress:
        places: list[_Place | _Pick] = []
        past: Past | None = None
        first_new = 0
        max_steps = longest_run(plan.length)
        while progress.may_run():
            run = _Run(places, past, first_new)
            past = run.past
            played = play(subject, plan, run, footprints=True, max_steps=max_steps, prepare=run.attach)
            run.check()
            run.finish()
            ended = progress.ran(played)
            if run.given_up:
                progress.blocked += 1
            elif ended:
                if on_class is not None:
                    on_class(played, run.fingerprint(played.schedule.steps))
                if progress.count(played):
                    break
            _look_for_races(places, run, first_new)
            while places and not places[-1].next():
                places.pop()
            if not places:
                break
            first_new = len(places) - 1
            while isinstance(places[first_new], _Pick):  # what is picked changes the step that it is in
                first_new -= 1
    return progress.result()


def _look_for_races(places: list[_Place | _Pick], run: _Run, first_new: int) -> None:
    """See to it that the other order of each race is tried. first_new: races of earlier steps were seen before."""
    past = run.past
    for step in range(first_new, len(past.actors)):
        actor = past.actors[step]
        for earlier in past.races[step]:
            _try_other_way(places, past, earlier, step, actor, past.before[step])
        if step == past.cut:
            place = places[step]
            assert isinstance(place, _Place)
            place.tried.update(place.enabled)
    for end, actor, own, taken in run.blocked:
        if end > first_new:
            _try_other_way(places, past, taken, end, actor, own)


def _try_other_way(places: list[_Place | _Pick], past: Past, earlier: int, end: int, actor: int, own: int) -> None:
    """At `earlier` see that somebody is tried with whom the actor's step at `end` comes before that one.

    own: what comes before the step at `end`.
    """
    place = places[earlier]
    assert isinstance(place, _Place)
    tried, sleeping = place.tried, place.sleeping
    actors, before = past.actors, past.before
    between = 0  # the steps that do not depend on `earlier`
    seen = {-1}
    first: int | None = None
    for step in range(earlier + 1, end):
        theirs = before[step]
        if theirs >> earlier & 1:
            continue
        who = actors[step]
        if who not in seen:
            seen.add(who)
            if not theirs & between:
                if who in tried or who in sleeping:
                    return
                if first is None:
                    first = who
        between |= 1 << step
    if actor not in seen and not own & between:
        if actor in tried or actor in sleeping:
            return
        if first is None:
            first = actor
    if first in place.enabled:
        assert first is not None
        tried.add(first)
    else:
        tried.update(place.enabled)
