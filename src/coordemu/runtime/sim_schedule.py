"""Schedule: the record of who took each step; its replay; and the strategies by name.

Role: a `Schedule` is the list of steps that were taken, forced ones included, as (actor, label); it is what a search
keeps of a run and what a schedule file holds. `Replay` takes the steps again and names the first that does not fit.
`make_strategy` makes the strategy that a plan names; those that can starve somebody end in a fair tail.

Thread: the simulator's one. Upstream: none. Left out: the strategies themselves (`sim_strategy`, `sim_pct`, `sim_pos`).
Bounds: a schedule holds one pair per step, up to the run's step limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from coordemu.runtime.sim_pct import Pct
from coordemu.runtime.sim_pos import Pos
from coordemu.runtime.sim_strategy import CLOCK_NAME, FairTail, RandomWalk, RunOn, Strategy, step_limit, unfair_steps
from coordemu.runtime.sim_task import Actor

__all__ = [
    "CLOCK_NAME",
    "PICK_KEY",
    "STRATEGIES",
    "FairTail",
    "Pct",
    "Pos",
    "RandomWalk",
    "Replay",
    "RunOn",
    "Schedule",
    "ScheduleError",
    "SimDivergence",
    "Step",
    "Strategy",
    "make_strategy",
    "step_limit",
]

SCHEDULE_VERSION = 1
# The actor's key in the record of a pick.
PICK_KEY = "pick"


class ScheduleError(ValueError):
    """A schedule file that cannot be used; one line for the user."""


class SimDivergence(Exception):
    """A replay came to a step that does not fit. `step` counts from 1."""

    def __init__(self, step: int, why: str) -> None:
        super().__init__(f"step {step}: {why}")
        self.step = step


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


STRATEGIES = ("run-on", "random", "pct1", "pct2", "pct3", "pct5", "pct9", "pos")


def make_strategy(name: str, seed: int = 0, length: int = 1000) -> Strategy:
    """A strategy by name: "run-on", "random", "pos", or "pctD" with D the depth.

    length: about how many steps the program takes, 1 or more. All but "random" turn fair after `unfair_steps` of it.
    Raises ValueError for other names.
    """
    if name == "random":
        return RandomWalk(seed)
    inner: Strategy
    if name == "run-on":
        inner = RunOn()
    elif name == "pos":
        inner = Pos(seed)
    elif name.startswith("pct") and name[3:].isdigit():
        inner = Pct(seed, int(name[3:]), length)
    else:
        nearest = get_close_matches(name, STRATEGIES, 1, 0.5)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise ValueError(f"no strategy is called {name!r}; there are {', '.join(STRATEGIES)}{hint}")
    return FairTail(inner, seed, unfair_steps(length))
