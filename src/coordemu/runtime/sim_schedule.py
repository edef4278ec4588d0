"""Strategies: who takes the next step; and the schedule, which is the record of who did.

Role: at every step the core shows a strategy the actors that can go on (in the order of their numbers, each with the
label of its step) and the one that went last; the strategy names one of them. All chance in a strategy comes from its
own seed, so the same seed makes the same schedule. A `Schedule` is the list of steps that were taken, forced ones
included, as (actor, label); `Replay` takes them again and names the first that does not fit.

`RunOn` keeps to one task until it cannot go on: the order with the fewest switches. `RandomWalk` draws evenly. `Pct`
gives every actor a random priority and lowers the runner's at depth - 1 random steps; it finds an order that depends
on `depth` decisions with probability 1/(n k^(depth-1)) for n actors and k steps.

Thread: the simulator's one. Upstream: none. Left out: partial orders (POS, DPOR), exhaustive search, shrinking.
Bounds: a schedule holds one pair per step, up to the run's step limit.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Protocol

from coordemu.runtime.sim_task import Actor

SCHEDULE_VERSION = 1
CLOCK_NAME = "the clock"
# The actor's key in the record of a pick.
PICK_KEY = "pick"
# Of the choices in which the explored clock could advance, the share in which a random walk lets it.
CLOCK_SHARE = 0.05

_by_priority = attrgetter("priority")


class ScheduleError(ValueError):
    """A schedule file that cannot be used; one line for the user."""


class SimDivergence(Exception):
    """A replay came to a step that does not fit. `step` counts from 1."""

    def __init__(self, step: int, why: str) -> None:
        super().__init__(f"step {step}: {why}")
        self.step = step


class Strategy(Protocol):
    """What decides."""

    name: str

    def born(self, actor: Actor) -> None:
        """An actor was made. Called once for each, in the order of their numbers."""
        ...

    def gave_way(self, actor: Actor) -> None:
        """The actor has nothing urgent: a sleep of no time, a tick of the clock."""
        ...

    def choose(self, enabled: Sequence[Actor], last: Actor) -> Actor:
        """One of `enabled` (at least one, by number). last: the actor that went last, which may not be among them."""
        ...

    def pick(self, count: int, label: str, share: float) -> int:
        """One of 0 .. count - 1 (count: 2 or more). share: how often, about, it should be another than 0, the plain
        case."""
        ...


def draw_pick(draw: Callable[[], float], count: int, share: float) -> int:
    """A pick by chance. draw: evenly within 0.0 .. 1.0."""
    return 1 + int(draw() * (count - 1)) if draw() < share else 0


class RunOn:
    """Keep to one actor until it cannot go on; then the next by number, around the circle."""

    def __init__(self) -> None:
        self.name = "run-on"
        self._passed: Actor | None = None

    def born(self, actor: Actor) -> None:
        """Nothing to note."""

    def gave_way(self, actor: Actor) -> None:
        """The next choice is another's, if there is one."""
        self._passed = actor

    def choose(self, enabled: Sequence[Actor], last: Actor) -> Actor:
        """As the class says."""
        passed, self._passed = self._passed, None
        if last.enabled and last is not passed:
            return last
        number = last.number
        for actor in enabled:
            if actor.number > number:
                return actor
        return enabled[0]

    def pick(self, count: int, label: str, share: float) -> int:
        """The plain case."""
        return 0


class RandomWalk:
    """Draw evenly at each step. seed: any number."""

    def __init__(self, seed: int) -> None:
        self.name = f"random {seed}"
        self._random = random.Random(seed).random

    def born(self, actor: Actor) -> None:
        """Nothing to note."""

    def gave_way(self, actor: Actor) -> None:
        """Nothing to note: the next draw is even again."""

    def choose(self, enabled: Sequence[Actor], last: Actor) -> Actor:
        """As the class says; but the clock is drawn seldom where others can go on."""
        count = len(enabled)
        chosen = enabled[int(self._random() * count)]
        while chosen.name == CLOCK_NAME and count > 1 and self._random() > CLOCK_SHARE:
            chosen = enabled[int(self._random() * count)]
        return chosen

    def pick(self, count: int, label: str, share: float) -> int:
        """By chance."""
        return draw_pick(self._random, count, share)


class Pct:
    """Random priorities with depth - 1 random changes.

    seed: any number.  depth: 1 or more, how many decisions the wanted order needs.  length: 1 or more, about how many
    steps a run has; the changes fall among them.
    """

    def __init__(self, seed: int, depth: int = 3, length: int = 1000) -> None:
        if depth < 1 or length < 1:
            raise ValueError(f"PCT with depth {depth} and length {length}")
        self.name = f"pct{depth} {seed}"
        self._random = random.Random(seed)
        self._depth = depth
        # step -> the priority that its runner gets; below every first one, and not in the order of the steps
        self._changes = {self._random.randint(1, length): priority for priority in range(1, depth)}
        self._lowest = 0.0
        self._step = 0

    def born(self, actor: Actor) -> None:
        """Draw its priority, above all that a change can give."""
        actor.priority = self._depth + self._random.random()

    def gave_way(self, actor: Actor) -> None:
        """Down to the very end, or it would come again at once."""
        self._lowest -= 1
        actor.priority = self._lowest

    def choose(self, enabled: Sequence[Actor], last: Actor) -> Actor:
        """As the class says."""
        self._step += 1
        change = self._changes.get(self._step)
        chosen = max(enabled, key=_by_priority)
        if change is not None:
            chosen.priority = float(change)
            chosen = max(enabled, key=_by_priority)
        return chosen

    def pick(self, count: int, label: str, share: float) -> int:
        """By chance."""
        return draw_pick(self._random.random, count, share)


Step = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Schedule:
    """The steps of a run: (actor's key, label) each.  strategy: who chose them.  clock: the mode of the clock."""

    strategy: str
    clock: str
    steps: tuple[Step, ...]

    @property
    def switches(self) -> int:
        """How often a step is another actor's than the one before."""
        return sum(1 for a, b in zip(self.steps, self.steps[1:], strict=False) if a[0] != b[0])

    def to_json(self) -> dict[str, Any]:
        """Plain values: every actor and every label once, and the steps as pairs of places in those tables."""
        actors: dict[str, int] = {}
        labels: dict[str, int] = {}
        steps = [[actors.setdefault(a, len(actors)), labels.setdefault(b, len(labels))] for a, b in self.steps]
        return {
            "version": SCHEDULE_VERSION,
            "strategy": self.strategy,
            "clock": self.clock,
            "actors": list(actors),
            "labels": list(labels),
            "steps": steps,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Schedule:
        """What `to_json` wrote. Raises ScheduleError, with the place, for anything else."""
        if not isinstance(data, Mapping) or data.get("version") != SCHEDULE_VERSION:
            found = data.get("version") if isinstance(data, Mapping) else None
            raise ScheduleError(f"not a schedule of version {SCHEDULE_VERSION} (found version {found!r})")
        for key in ("strategy", "clock", "actors", "labels", "steps"):
            if key not in data:
                raise ScheduleError(f"the schedule has no {key!r}: is it truncated?")
        steps: list[Step] = []
        for number, pair in enumerate(data["steps"], 1):
            try:
                actor, label = pair
                if actor < 0 or label < 0:
                    raise IndexError
                steps.append((str(data["actors"][actor]), str(data["labels"][label])))
            except (TypeError, ValueError, IndexError):
                raise ScheduleError(f"step {number} of the schedule is {pair!r}, which names nothing") from None
        return cls(str(data["strategy"]), str(data["clock"]), tuple(steps))


class Replay:
    """Take the steps of a schedule again. Raises SimDivergence from `choose` at the first that does not fit."""

    def __init__(self, schedule: Schedule) -> None:
        self.name = f"replay of {schedule.strategy}"
        self._steps = schedule.steps
        self._at = 0

    def born(self, actor: Actor) -> None:
        """Nothing to note."""

    def gave_way(self, actor: Actor) -> None:
        """Nothing to note."""

    def choose(self, enabled: Sequence[Actor], last: Actor) -> Actor:
        """The recorded actor, if it can go on with the recorded label."""
        at = self._at
        if at == len(self._steps):
            raise SimDivergence(
                at + 1, f"the schedule ends after {at} steps, the run goes on; possible are [{_choices(enabled)}]"
            )
        key, label = self._steps[at]
        self._at = at + 1
        for actor in enabled:
            if actor.key == key:
                if actor.label == label:
                    return actor
                raise SimDivergence(at + 1, f"the schedule has {key}: {label!r}, but {key} is at {actor.label!r}")
        raise SimDivergence(at + 1, f"the schedule has {key}: {label!r}, but possible are [{_choices(enabled)}]")

    def pick(self, count: int, label: str, share: float) -> int:
        """As recorded."""
        at = self._at
        if at < len(self._steps):
            key, recorded = self._steps[at]
            said, _, choice = recorded.rpartition(": ")
            number, _, of = choice.partition(" of ")
            if key == PICK_KEY and said == label and of == str(count) and number.isdigit() and int(number) < count:
                self._at = at + 1
                return int(number)
        found = f"{self._steps[at][0]}: {self._steps[at][1]!r}" if at < len(self._steps) else "nothing more"
        raise SimDivergence(at + 1, f"the schedule has {found}, but the run picks {label!r}, one of {count}")

    @property
    def left(self) -> int:
        """Steps not taken yet."""
        return len(self._steps) - self._at


def _choices(enabled: Sequence[Actor]) -> str:
    return ", ".join(f"{actor.key}: {actor.label!r}" for actor in enabled)


STRATEGIES = ("run-on", "random", "pct2", "pct3", "pct5")


def make_strategy(name: str, seed: int = 0, length: int = 1000) -> Strategy:
    """A strategy by name: "run-on", "random", or "pctD" with D the depth. Raises ValueError for other names."""
    if name == "run-on":
        return RunOn()
    if name == "random":
        return RandomWalk(seed)
    if name.startswith("pct") and name[3:].isdigit():
        return Pct(seed, int(name[3:]), length)
    raise ValueError(f"no strategy is called {name!r}; there are {', '.join(STRATEGIES)}")
