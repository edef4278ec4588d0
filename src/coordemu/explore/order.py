"""Order: one way for a program to run, what it is chosen by, and what came of it.

Role: the common ground of everything that searches. A *subject* is a program for the simulator together with its
oracles; it can be played any number of times. An `OrderPlan` says how one run is chosen: by which strategy and seed, on
which clock, with which chance. `play` puts the two together and returns a `Played`, which holds the verdict, the
failure with its signature, and the schedule that repeats the run. Plans are small values, so ranges of them can be
divided between processes and machines, and their results put together again.

A *signature* names a failure by what it is made of, without the numbers that differ from run to run: two runs with the
same signature show the same bug, and a shrinker that keeps it cannot slip to another.

Thread: any, one play at a time per OS thread. Upstream: none. Left out: choosing plans (`portfolio`), what is kept of
many runs (`search`).
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Protocol

from coordemu.runtime.sim import CLOCKS, MAX_STEPS, SimRuntime
from coordemu.runtime.sim_outcome import DIVERGED, SimOutcome
from coordemu.runtime.sim_schedule import Schedule, Strategy, make_strategy
from coordemu.runtime.sim_task import Touch

DIVERGED_VERDICT = "diverged"
PASSED, FAILED = "passed", "failed"


@dataclass(frozen=True, slots=True)
class OrderPlan:
    """How one order is chosen.

    strategy: a name that `make_strategy` knows.  seed: the strategy's.  clock: "idle" or "explored".
    rt_seed: of the runtime's chance, from which the program draws.  chances: see `SimRuntime`.
    length: about how many steps the program takes, 1 or more (for strategies that spread their changes over them).
    Raises ValueError for a clock that does not exist.
    """

    strategy: str = "run-on"
    seed: int = 0
    clock: str = "idle"
    rt_seed: int = 1
    chances: float = 0.0
    length: int = 1000

    def __post_init__(self) -> None:
        if self.clock not in CLOCKS:
            raise ValueError(f"clock {self.clock!r} is none of {', '.join(CLOCKS)}")

    def runtime(self, strategy: Strategy | None = None, max_steps: int = MAX_STEPS) -> SimRuntime:
        """A fresh runtime for one run. strategy: instead of the plan's own. Raises ValueError for an unknown name."""
        return SimRuntime(
            strategy or make_strategy(self.strategy, self.seed, self.length),
            seed=self.rt_seed,
            clock=self.clock,
            chances=self.chances,
            max_steps=max_steps,
        )

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> OrderPlan:
        """What `to_json` wrote. Raises ValueError for anything else."""
        unknown = set(data) - {f.name for f in fields(cls)}
        if unknown:
            raise ValueError(f"unknown fields of a plan: {', '.join(sorted(unknown))}")
        return cls(**data)


@dataclass(frozen=True, slots=True)
class Failure:
    """What is wrong with a run.

    kind: "deadlocked", "lost", "error", … a word for tables.  signature: what the same bug shows again, without
    numbers; never empty.  sentence: for a reader.
    """

    kind: str
    signature: tuple[str, ...]
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return {"kind": self.kind, "signature": list(self.signature), "sentence": self.sentence}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Failure:
        """What `to_json` wrote. Raises KeyError for anything else."""
        return cls(str(data["kind"]), tuple(map(str, data["signature"])), str(data["sentence"]))


@dataclass(frozen=True, slots=True)
class Finding:
    """What a subject says of a run: a verdict in one word, the failure if it is one, the runtime's outcome, and facts
    for a report (plain values)."""

    verdict: str
    failure: Failure | None
    outcome: SimOutcome
    facts: Mapping[str, Any] = field(default_factory=dict)


class Subject(Protocol):
    """A program and its oracles. Picklable, and it keeps nothing from one play to the next."""

    @property
    def name(self) -> str:
        """What it is called, for a reader."""
        ...

    def describe(self) -> dict[str, Any]:
        """Plain values from which it can be made again; they go into schedule files."""
        ...

    def play(self, sim: SimRuntime) -> Finding:
        """Run once on a fresh runtime, and judge. Raises nothing but KeyboardInterrupt."""
        ...

    def smaller(self) -> Sequence[Subject]:
        """Smaller ones that may show the same failure, the smallest first; empty when there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Played:
    """One run. `footprints` (what each step touched) and `time_passed_at` are there only when asked for."""

    plan: OrderPlan
    verdict: str
    failure: Failure | None
    schedule: Schedule
    outcome: SimOutcome
    facts: Mapping[str, Any]
    footprints: Sequence[Sequence[Touch]] = ()
    time_passed_at: Sequence[int] = ()

    @property
    def steps(self) -> int:
        """How many were taken."""
        return len(self.schedule.steps)


def play(
    subject: Subject,
    plan: OrderPlan,
    strategy: Strategy | None = None,
    footprints: bool = False,
    max_steps: int = MAX_STEPS,
    prepare: Callable[[SimRuntime], None] | None = None,
) -> Played:
    """Run a subject once. strategy: instead of the plan's own (a replay, say).  footprints: record what steps touch.
    prepare: called with the runtime before it runs.

    A run that does not fit its replay has the verdict "diverged" and no failure; `Played.outcome.error` says where.
    The garbage collector rests meanwhile, so that finalisers come at no moment of their own choosing.
    """
    sim = plan.runtime(strategy, max_steps)
    if footprints:
        sim.core.record_footprints()
    if prepare is not None:
        prepare(sim)
    collects = gc.isenabled()
    gc.disable()
    try:
        finding = subject.play(sim)
    finally:
        if collects:
            gc.enable()
    verdict, failure = finding.verdict, finding.failure
    if finding.outcome.kind == DIVERGED:
        verdict, failure = DIVERGED_VERDICT, None
    return Played(
        plan,
        verdict,
        failure,
        sim.schedule(),
        finding.outcome,
        finding.facts,
        sim.core.footprints or (),
        sim.core.time_passed_at,
    )
