"""Segments: an order as a list of "this actor, until its k-th step", and the strategy that follows one leniently.

Role: what shrinking works on. A recorded schedule names every step, so nothing can be taken out of it without all that
follows becoming wrong. A segment says less: who goes on, and until when, counted in that actor's *own* steps from the
run's beginning. So a segment that is taken out only moves its steps to the same actor's next one, and the other
segments still end where they ended. `Follow` plays a list of segments on any run: where an actor cannot go on its
segment is skipped, at the end of the list it keeps to one actor until that blocks. Following the segments of a recorded
run gives exactly that run.

A pick that was not the plain case is kept by the actor in whose step it came, its label, and how many of that label
that actor had seen.

Thread: the simulator's one. Upstream: none. Left out: deciding which segments to try (`coordemu.explore.shrink`).
Bounds: one segment per switch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby

from coordemu.runtime.sim_schedule import CLOCK_NAME, PICK_KEY, Schedule, Step
from coordemu.runtime.sim_task import Actor

# (actor's key, until it has taken so many of its own steps; None: until it cannot go on)
Segment = tuple[str, int | None]
# (actor's key, label, how many of it before) -> the choice, which is not 0
Picks = Mapping[tuple[str, str, int], int]


def segments_of(steps: Sequence[Step]) -> tuple[Segment, ...]:
    """The segments of recorded steps, picks left out."""
    own: dict[str, int] = {}
    found: list[Segment] = []
    for key, group in groupby(key for key, _ in steps if key != PICK_KEY):
        own[key] = own.get(key, 0) + len(list(group))
        found.append((key, own[key]))
    return tuple(found)


def chosen_in(text: str) -> int:
    """What was chosen, in the label of a recorded pick ("wake: 1 of 3"); 0, the plain case, for a label of no pick."""
    number = text.rpartition(": ")[2].partition(" of ")[0]
    return int(number) if number.isdecimal() else 0


def picks_of(steps: Sequence[Step]) -> dict[tuple[str, str, int], int]:
    """The picks of recorded steps that were not the plain case."""
    seen: dict[tuple[str, str], int] = {}
    found: dict[tuple[str, str, int], int] = {}
    actor = ""
    for key, text in steps:
        if key != PICK_KEY:
            actor = key
            continue
        label = text.rpartition(": ")[0]
        number = chosen_in(text)
        before = seen.get((actor, label), 0)
        seen[actor, label] = before + 1
        if number:
            found[actor, label, before] = number
    return found


class Follow:
    """Follow segments and picks. name: whose order it is.  tail: chooses once the list has ended; None: as above.

    After the run: `switches` between tasks (what is no task runs on the task that went last, and changes none),
    `turns` between actors of any kind, `preemptions` (an actor was left that could have gone on and had not given
    way), `used` (the places of the segments in which a step was taken), `picked` (picks other than the plain case).
    """

    def __init__(
        self,
        segments: Sequence[Segment],
        picks: Picks | None = None,
        name: str = "segments",
        tail: Callable[[Sequence[Actor], Actor], Actor] | None = None,
    ) -> None:
        self.name = name
        self.switches = self.turns = self.preemptions = self.picked = 0
        self.used: set[int] = set()
        self._segments = segments
        self._picks = picks or {}
        self._tail = tail or self._run_on
        self._at = 0
        self._actors: dict[str, Actor] = {}
        self._seen: dict[tuple[str, str], int] = {}
        self._passed: set[Actor] = set()
        self._gave_way: Actor | None = None
        self._spun = False
        self._task: Actor | None = None
        self._runner: Actor | None = None
        self._chosen = ""

    def born(self, actor: Actor) -> None:
        """Know it by its key. Its priority counts its steps."""
        self._actors[actor.key] = actor
        actor.priority = 0

    def gave_way(self, actor: Actor) -> None:
        """Once the list has ended, others go first."""
        self._gave_way = actor
        self._passed.add(actor)

    def choose(self, enabled: Sequence[Actor], last: Actor) -> Actor:
        """As the file says."""
        chosen = self._listed(enabled) or self._tail(enabled, last)
        chosen.priority += 1
        if chosen.name != CLOCK_NAME:
            self._runner = chosen
        if chosen is not last:
            self.turns += 1
            if last.enabled and last is not self._gave_way and last.name != CLOCK_NAME:
                self.preemptions += 1
        if chosen.task is not None and chosen is not self._task:
            self.switches += self._task is not None
            self._task = chosen
        self._gave_way = None
        self._chosen = chosen.key
        return chosen

    def _listed(self, enabled: Sequence[Actor]) -> Actor | None:
        """The actor of the first segment that is not done; None when all are."""
        segments = self._segments
        while self._at < len(segments):
            key, until = segments[self._at]
            actor = self._actors.get(key)
            if actor is not None and actor.enabled:
                if until is None or actor.priority < until:
                    self.used.add(self._at)
                    return actor
            elif len(enabled) == 1 and self._waits(actor, until):
                return enabled[0]  # nothing else is possible, and this segment may be next
            self._at += 1
        return None

    def _waits(self, actor: Actor | None, until: int | None) -> bool:
        """Whether a segment whose actor cannot go on is still to come."""
        if until is None:
            return self._at not in self.used
        return actor is None or actor.priority < until

    def _run_on(self, enabled: Sequence[Actor], last: Actor) -> Actor:
        """The last actor; else the next by number that has not given way; the clock only when there is none."""
        last = self._runner or last
        if last.enabled and last not in self._passed:
            return last
        number = last.number
        urgent = [actor for actor in enabled if actor not in self._passed and actor.name != CLOCK_NAME]
        if not urgent:
            # Those that gave way have another turn before time passes: what they wait for may have happened.
            self._passed.clear()
            self._spun = not self._spun
            clock = [actor for actor in enabled if actor.name == CLOCK_NAME]
            others = [actor for actor in enabled if actor.name != CLOCK_NAME]
            urgent = others if others and (self._spun or not clock) else clock
        for actor in urgent:
            if actor.number > number:
                return actor
        return urgent[0]

    def pick(self, count: int, label: str, share: float) -> int:
        """As listed; else the plain case."""
        where = self._chosen, label
        before = self._seen.get(where, 0)
        self._seen[where] = before + 1
        choice = self._picks.get((*where, before), 0)
        choice = choice if choice < count else 0
        self.picked += choice > 0
        return choice


def exactly(schedule: Schedule) -> Follow:
    """The strategy that takes a recorded order again, and counts."""
    return Follow(segments_of(schedule.steps), picks_of(schedule.steps), schedule.strategy)
