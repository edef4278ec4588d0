"""ThpoolSubject: the worker pool alone, in the situations in which upstream's has hung.

Role: most orders of the coordinator differ in things that are all the same to the pool. Here there are only the pool,
its threads and whoever pushes, so that a search sees every order of a small case in a second, and the historical
faults of the pool (`coordemu.coord.history`), which need a second submitter or a job that pushes, can be found. The
programs:

* "push": the submitter pushes some jobs, and changes the number of threads;
* "round-trip": a job sends something and waits for the answer; the I/O thread, which has the answer, pushes a job of
  its own before it hands it over (MOD-17351);
* "derive": each job pushes another one to its own pool (MOD-16667).

Then all wait until the jobs are done, the books are looked at, and the pool is destroyed. All of that is a part of the
order, unless the case is "warm": then the threads run before it begins, and it ends with the last job.

Thread: the simulator's one. Upstream: tests of deps/thpool. Left out: pausing, priorities, tickets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from typing import Any

from coordemu.coord.config import MAX_WORKERS, Config
from coordemu.coord.history import check_faults
from coordemu.coord.resize_policy import REDUCE_MODES
from coordemu.coord.workers import WorkersThreadPool
from coordemu.explore.order import Failure, Finding
from coordemu.explore.signature import failure_of
from coordemu.lab.oracles import BROKEN
from coordemu.lab.order_verdict import HEALTHY
from coordemu.lab.scenario import ScenarioError
from coordemu.runtime.base import NS_PER_MS, Event, Task
from coordemu.runtime.sim import SimRuntime

THPOOL_KIND = "thpool"
PUSH, ROUND_TRIP, DERIVE = "push", "round-trip", "derive"
PROGRAMS = (PUSH, ROUND_TRIP, DERIVE)
MODES = tuple(mode for mode in REDUCE_MODES if mode in ("sync", "async", "by-number"))


@dataclass(frozen=True, slots=True)
class ThpoolScenario:
    """One case.

    name, summary: what it is called, and a sentence.  program: see the file.
    workers: threads at the start, and after each change, which follow the pushes; each 0 to 16, the first 1 or more.
    jobs: pushed by the submitter, 1 to 64.  warm: see the file.  Raises ScenarioError outside the bounds.
    """

    name: str = "custom-pool"
    summary: str = ""
    program: str = PUSH
    workers: tuple[int, ...] = (2,)
    jobs: int = 2
    warm: bool = False

    def __post_init__(self) -> None:
        if self.program not in PROGRAMS:
            raise ScenarioError(f"program {self.program!r} is none of {', '.join(PROGRAMS)}")
        if not self.workers or not all(0 <= size <= MAX_WORKERS for size in self.workers) or not self.workers[0]:
            raise ScenarioError(f"workers {list(self.workers)}: sizes are 0 to {MAX_WORKERS}, the first 1 or more")
        if not 1 <= self.jobs <= 64:
            raise ScenarioError(f"jobs {self.jobs} is not within 1..64")

    def smaller(self) -> tuple[ThpoolScenario, ...]:
        """Those with less, the smallest first."""
        found: dict[ThpoolScenario, None] = {}
        for size in (1, 2, 3, 4):
            plan = tuple(min(each, size) for each in self.workers)
            found[replace(self, workers=plan, jobs=min(self.jobs, size))] = None
            found[replace(self, workers=plan)] = None
        for jobs in range(1, self.jobs):
            found[replace(self, jobs=jobs)] = None
        if len(self.workers) > 1:
            found[replace(self, workers=self.workers[:-1])] = None
        found.pop(self, None)
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """All fields as plain values."""
        return {**asdict(self), "workers": list(self.workers)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ThpoolScenario:
        """What `to_json` wrote. Raises ScenarioError for anything else."""
        unknown = set(data) - {f.name for f in fields(cls)}
        if unknown:
            raise ScenarioError(f"unknown fields of a pool's scenario: {', '.join(sorted(unknown))}")
        try:
            return cls(**{**data, "workers": tuple(data.get("workers", (2,)))})
        except TypeError as err:
            raise ScenarioError(f"not a pool's scenario: {err}") from None


_ALL = (
    ThpoolScenario("thpool-jobs", "2 threads that run, and 2 jobs: to be exhausted.", warm=True),
    ThpoolScenario("thpool-start", "2 threads, started by the first of 2 jobs."),
    ThpoolScenario("thpool-shrink", "2 threads, 2 jobs, and both threads are told to go.", PUSH, (2, 0), warm=True),
    ThpoolScenario("thpool-there-and-back", "2 threads, told to go and wanted again at once.", PUSH, (2, 0, 2)),
    ThpoolScenario(
        "thpool-round-trip",
        "MOD-17351: a job's round trip is over while its pool is still being initialised, and the I/O thread pushes.",
        ROUND_TRIP,
        (1,),
        1,
    ),
    ThpoolScenario(
        "thpool-derive",
        "MOD-16667: jobs push to their own pool, which is told to go and is wanted again.",
        DERIVE,
        (2, 0, 2),
    ),
)

THPOOL_SCENARIOS: dict[str, ThpoolScenario] = {scenario.name: scenario for scenario in _ALL}


def get_thpool_scenario(name: str) -> ThpoolScenario:
    """The named one. Raises ScenarioError with the nearest name."""
    try:
        return THPOOL_SCENARIOS[name]
    except KeyError:
        near = get_close_matches(name, THPOOL_SCENARIOS, n=1, cutoff=0.0)[0]
        raise ScenarioError(f"no scenario of the pool is called {name!r}; did you mean {near!r}?") from None


class _PoolRun:
    """One order."""

    def __init__(self, sim: SimRuntime, scenario: ThpoolScenario, reduce: str, faults: frozenset[str]) -> None:
        self._sim = sim
        self._scenario = scenario
        self._reduce = reduce
        self._config = Config(workers=scenario.workers[0])
        self._workers = WorkersThreadPool(
            sim, self._config, lambda level, line: None, by_number=reduce == "by-number", faults=faults
        )
        self._wanted: list[int] = []
        self._done: list[int] = []
        self.breach: tuple[str, str] | None = None

    def carry_out(self) -> None:
        """All of it. Thread: "main", the submitter."""
        sim, warm = self._sim, self._scenario.warm
        if warm:
            sim.calm = True
            self._workers.add_work(lambda _: None, None)
            sim.sleep_ns(NS_PER_MS)
            sim.calm = False
        io = self._push()
        for size in self._scenario.workers[1:]:
            self._config.config_set("WORKERS", size)
            self._workers.set_num_workers(self._reduce)
        if io is not None:
            io.join()
        self._workers.pool.wait()
        sim.calm = warm
        self._look()
        self._workers.destroy()

    def _push(self) -> Task | None:
        workers, jobs, program = self._workers, self._scenario.jobs, self._scenario.program
        self._wanted = list(range(jobs))
        if program == PUSH:
            workers.pool.add_n_work([(self._done.append, number) for number in range(jobs)])
            return None
        if program == DERIVE:
            self._wanted += range(jobs, 2 * jobs)
            workers.pool.add_n_work([(self._derive, number) for number in range(jobs)])
            return None
        self._wanted += range(jobs, 2 * jobs)
        sent: Event = self._sim.event("sent", owed_by=workers.threads)
        answered: Event = self._sim.event("answered", owed_by=lambda: [io])

        def asks(number: int) -> None:
            sent.set()
            answered.wait()
            self._done.append(number)

        def answers() -> None:
            sent.wait()
            for number in range(jobs, 2 * jobs):
                workers.add_work(self._done.append, number)
            answered.set()

        io = self._sim.spawn(answers, name="io 0")
        for number in range(jobs):
            workers.add_work(asks, number)
        return io

    def _derive(self, number: int) -> None:
        self._workers.add_work(self._done.append, number + self._scenario.jobs)
        self._done.append(number)

    def _look(self) -> None:
        stats = self._workers.stats()
        if sorted(self._done) != self._wanted:
            self.breach = "each job once", f"done are {sorted(self._done)}, pushed were {self._wanted}"
        elif stats.incomplete_jobs and not stats.admin_priority_pending_jobs and not stats.num_jobs_in_progress:
            self.breach = "nothing left", f"{stats.incomplete_jobs} jobs are left"
        elif stats.job_errors:
            self.breach = "no job raises", f"{stats.job_errors} jobs raised"
        elif stats.num_threads != self._config.workers:
            self.breach = "threads as wanted", f"{stats.num_threads} threads wanted, WORKERS {self._config.workers}"

    def finding(self, failure: Failure | None) -> Failure | None:
        """What the runtime saw, or else the books."""
        if failure is None and self.breach is not None:
            name, sentence = self.breach
            return Failure(BROKEN, (BROKEN, name), sentence)
        if failure is not None and failure.kind not in ("deadlocked", BROKEN):
            return Failure(BROKEN, (BROKEN, *failure.signature), failure.sentence)
        return failure


class ThpoolSubject:
    """A case of the pool, as a subject. reduce: "sync", "async" or "by-number", else ValueError.  faults: historical
    faults that are on, UnknownFault otherwise."""

    def __init__(self, scenario: ThpoolScenario, reduce: str = "async", faults: tuple[str, ...] = ()) -> None:
        if reduce not in MODES:
            raise ValueError(f"reduce {reduce!r} is none of {', '.join(MODES)}")
        self.scenario = scenario
        self.reduce = reduce
        self.faults = tuple(sorted(check_faults(frozenset(faults))))

    @property
    def name(self) -> str:
        """The scenario's, how threads are told to go, and the faults."""
        faults = f" with {', '.join(self.faults)}" if self.faults else ""
        return f"{self.scenario.name}, {self.reduce}{faults}"

    @property
    def way(self) -> str:
        """How threads are told to go, for a table."""
        return self.reduce

    def describe(self) -> dict[str, Any]:
        """Plain values; `coordemu.lab.subjects.subject_from` makes it again."""
        scenario = self.scenario.to_json()
        return {"kind": THPOOL_KIND, "scenario": scenario, "reduce": self.reduce, "faults": list(self.faults)}

    def play(self, sim: SimRuntime) -> Finding:
        """Run once, and judge. Blocks for as long as that takes."""
        run = _PoolRun(sim, self.scenario, self.reduce, frozenset(self.faults))
        outcome = sim.run(run.carry_out, name="main")
        failure = run.finding(failure_of(outcome))
        return Finding(failure.kind if failure else HEALTHY, failure, outcome, {"steps": outcome.steps})

    def smaller(self) -> Sequence[ThpoolSubject]:
        """With smaller scenarios."""
        return [ThpoolSubject(scenario, self.reduce, self.faults) for scenario in self.scenario.smaller()]

    def __repr__(self) -> str:
        return f"<ThpoolSubject {self.name}>"
