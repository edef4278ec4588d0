"""The backfill in the simulator: a whole run in virtual time, and a small one as a subject for searches.

Role: `run_in_simulator` carries a plan out where a minute costs a second and no thread. `BackfillSubject` is a form
that is small enough for ten thousand orders: a few workers and messages, a Redis that dies and forgets whenever the
strategy picks it, workers that die, connections that break, a Hub that is down for a while; its oracle is the account:
every message done or dead-lettered with a reason, whatever the order. The faults of `backfill_shop` can be switched on
in it.

Thread: the caller's; one run at a time. Upstream: none. Left out: clocks that jump (a test has a runtime for that).
Bound: MAX_STEPS steps of a whole run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeVar

from coordemu.explore.order import Failure, Finding, Subject
from coordemu.explore.signature import failure_of
from coordemu.lab.backfill_ledger import Account
from coordemu.lab.backfill_measures import BackfillSetup
from coordemu.lab.backfill_plan import BackfillPlan
from coordemu.lab.backfill_result import ENDED, BackfillResult
from coordemu.lab.backfill_run import BackfillRun, BackfillRunError, Watch, never, nobody_looks
from coordemu.lab.backfill_servers import BackfillServers, ForgetfulFleet
from coordemu.lab.backfill_shop import ACK_FIRST, MARKER_LAST, OUTBOX_LATE, REMOVE_FIRST, check_backfill_faults
from coordemu.lab.backfill_watch import BackfillLook
from coordemu.lab.hub_plan import HubPlan, Outage, Span
from coordemu.lab.oracles import BROKEN
from coordemu.lab.order_verdict import HEALTHY
from coordemu.lab.recipe_subject import NamedCase, SubjectBook
from coordemu.resilience.settings import (
    BackfillSettings,
    BreakerSettings,
    HubSettings,
    RedisSettings,
    RetrySettings,
    Settings,
)
from coordemu.runtime.base import NS_PER_MS, Runtime
from coordemu.runtime.sim import SimRuntime
from coordemu.runtime.sim_schedule import make_strategy
from coordemu.runtime.sim_task import SimTask
from coordemu.runtime.threads import ThreadsRuntime
from coordemu.shards.in_process_fleet import InProcessFleet

BACKFILL_KIND = "backfill"
NOT_BEGUN = "not begun"
T = TypeVar("T")
MAX_STEPS = 100_000_000
# Each task that is begun inside another's step takes some frames of the one stack that counts.
FRAMES_PER_TASK = 60
JOIN_NS = 100 * NS_PER_MS
DEATH_SHARE = 0.15
DEATH_EVERY_NS = 3 * NS_PER_MS
MOMENTS = 60


class NotConserved(AssertionError):
    """An order in which a message was lost, left or stored wrongly, or a task of the laboratory crashed."""

    def __init__(self, account: Account, rules: tuple[str, ...]) -> None:
        super().__init__("; ".join(rules))
        self.account = account
        self.rules = rules


def small_setup() -> BackfillSetup:
    """The mended form for a handful of messages: few connections, and nobody waits long for what has died. Thread:
    any."""
    return BackfillSetup(
        "small",
        Settings(
            RedisSettings(pool_size=4, pressure_min_ms=100, low_priority_wait_ms=500),
            HubSettings(connections=2),
            BreakerSettings(failures_in_row=2, open_ms=1_000),
            RetrySettings(attempts=2),
            backfill=BackfillSettings(reclaim_idle_ms=2_000),
        ),
    )


def small_plan() -> BackfillPlan:
    """Six messages, three workers, one that is poison, a Hub that goes down for a moment, at fifty times the speed.
    Thread: any."""
    down = Outage(Span(300 * NS_PER_MS, 500 * NS_PER_MS))
    return BackfillPlan(
        messages=6, concurrency=3, producers=1, burst=2, hub=HubPlan(latency_ns=20 * NS_PER_MS, outages=(down,)),
        poison=0.17, crash=0.05, store_slots=2, look_ms=1_000.0, limit_ms=1_000_000.0, speed=50.0,
    )  # fmt: skip


def backfill_program(
    rt: Runtime,
    plan: BackfillPlan,
    setup: BackfillSetup,
    servers: BackfillServers,
    faults: Sequence[str] = (),
    watch: Watch = nobody_looks,
) -> BackfillResult:
    """A run whose account must be good. faults: of BACKFILL_FAULTS.  watch: as of
    `BackfillRun`. Raises NotConserved, BackfillRunError. Thread: a task of either runtime. Blocks."""
    result = BackfillRun(rt, servers, plan, setup, "in process", watch=watch, faults=faults).carry_out()
    rules = (*result.account.broken, *(f"crash: {each}" for each in result.crashes))
    if result.how != ENDED:
        left = ", ".join(f"{message} ({why})" for message, why in result.account.left.items())
        rules = (*rules, f"messages were left at the {result.how}: {left}")
    if rules:
        raise NotConserved(result.account, rules)
    return result


@dataclass(frozen=True, slots=True)
class BackfillCase(NamedCase):
    """The small form by a name. forgets: whether its server loses its keys when it dies."""

    forgets: bool


_WHAT = "Six messages, one of them poison, three workers that may die, a Hub that is down for a moment"
BACKFILL = SubjectBook(
    BACKFILL_KIND, "backfill", "the backfill",
    (
        BackfillCase(
            "backfill", f"{_WHAT}, a Redis that dies and forgets: every message is done or a dead letter.",
            (ACK_FIRST, MARKER_LAST, OUTBOX_LATE), True,
        ),
        BackfillCase(
            "backfill-remembering", f"{_WHAT}, a Redis that dies and comes back with its keys.",
            (ACK_FIRST, REMOVE_FIRST), False,
        ),
    ),
    check_backfill_faults,
)  # fmt: skip


@dataclass(frozen=True)
class BackfillSubject:
    """The small form as a subject. plan, setup: of it.  deaths: so many times at most the server dies.  forgets:
    whether it then loses its keys.  chaos: kinds of network faults that may strike its connections, once.  faults: of
    BACKFILL_FAULTS."""

    plan: BackfillPlan = field(default_factory=small_plan)
    setup: BackfillSetup = field(default_factory=small_setup)
    deaths: int = 2
    forgets: bool = True
    chaos: tuple[str, ...] = ("reset", "half-open")
    faults: tuple[str, ...] = ()

    BOOK: ClassVar[SubjectBook[BackfillCase]] = BACKFILL

    def __post_init__(self) -> None:
        check_backfill_faults(self.faults)

    @classmethod
    def named(cls, name: str, faults: Sequence[str]) -> BackfillSubject:
        """One of BACKFILL. Raises ScenarioError, UnknownBackfillFault."""
        return cls(forgets=BACKFILL.scenario(name).forgets, faults=BACKFILL.faults(faults))

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> BackfillSubject:
        """What `describe` told of, with the small setup. Raises KeyError, TypeError, ValueError."""
        deaths, forgets = description["deaths"], description["forgets"]
        if type(deaths) is not int or deaths < 0 or type(forgets) is not bool:
            raise ValueError(f"backfill: {deaths=}, {forgets=}")
        plan = BackfillPlan.from_json(description["plan"])
        faults = BACKFILL.faults(description.get("faults", ()))
        return cls(plan, deaths=deaths, forgets=forgets, chaos=tuple(description["chaos"]), faults=faults)

    @property
    def scenario(self) -> BackfillCase:
        """The case that is most like it."""
        return next(case for case in BACKFILL.scenarios.values() if case.forgets is self.forgets)

    @property
    def way(self) -> str:
        """The faults that are on, for a table."""
        return f"with {', '.join(self.faults)}" if self.faults else "mended"

    @property
    def name(self) -> str:
        """For a reader."""
        server = "forgetful" if self.forgets else "remembering"
        return f"backfill, {self.plan.messages} messages, {self.plan.concurrency} workers, {server} server, {self.way}"

    def describe(self) -> dict[str, Any]:
        """Plain values, all but the setup; `coordemu.lab.subjects.subject_from` makes it again, with the small one."""
        return {
            "kind": BACKFILL_KIND,
            "faults": list(self.faults),
            "deaths": self.deaths,
            "forgets": self.forgets,
            "chaos": list(self.chaos),
            "plan": self.plan.to_json(),
        }

    def play(self, sim: SimRuntime) -> Finding:
        """Run once, and judge. Blocks for as long as that takes."""
        outcome = sim.run(lambda: self._program(sim), name="main")
        if isinstance(outcome.error, BackfillRunError):
            # Where time passes as the strategy likes, the laboratory's own connections may time out.
            return Finding(NOT_BEGUN, None, outcome, {"steps": outcome.steps})
        failure = failure_of(outcome)
        if isinstance(outcome.error, NotConserved):
            words = sorted({rule.split(":")[0].lstrip("0123456789 ") for rule in outcome.error.rules})
            failure = Failure(BROKEN, (BROKEN, *words), str(outcome.error))
        return Finding(failure.kind if failure else HEALTHY, failure, outcome, {"steps": outcome.steps})

    def _program(self, sim: SimRuntime) -> None:
        with _stopping((ForgetfulFleet if self.forgets else InProcessFleet)(sim, 1)) as fleet:
            over = sim.cell(False, "no more deaths")
            begun: list[SimTask] = []

            def begin(_look: BackfillLook, _plan: BackfillPlan) -> None:
                if not begun:
                    if self.chaos:
                        sim.network.faults.chaos(self.chaos, 1, addresses=fleet.addresses)
                    begun.append(sim.spawn(self._die, sim, fleet, lambda: over.value, name="death"))

            try:
                backfill_program(sim, self.plan, self.setup, fleet, self.faults, begin)
            finally:
                over.value = True
                for task in begun:
                    task.join()

    def _die(self, sim: SimRuntime, fleet: InProcessFleet, over: Callable[[], bool]) -> None:
        """At each moment the strategy may have the server die; it comes back a moment later."""
        left = self.deaths
        for _ in range(MOMENTS):
            sim.sleep_ns(DEATH_EVERY_NS)
            if over() or not left:
                return
            if sim.core.pick(2, "the server dies", DEATH_SHARE):
                left -= 1
                fleet.kill(0)
                sim.sleep_ns(DEATH_EVERY_NS)
                fleet.restart(0)

    def smaller(self) -> Sequence[Subject]:
        """Fewer messages, then fewer workers."""
        found: list[Subject] = []
        if self.plan.messages > 1:
            found.append(replace(self, plan=replace(self.plan, messages=self.plan.messages - 1)))
        if self.plan.concurrency > 1:
            found.append(replace(self, plan=replace(self.plan, concurrency=self.plan.concurrency - 1)))
        return found


def run_in_simulator(
    plan: BackfillPlan,
    setup: BackfillSetup,
    nodes: int = 1,
    forgets: bool = True,
    stopped: Callable[[], bool] = never,
    watch: Watch = nobody_looks,
) -> BackfillResult:
    """A whole run in virtual time, in the plain order. forgets: whether a Redis that is killed loses its keys.

    Raises BackfillRunError. Thread: any but a task's. Blocks.
    """
    sim = SimRuntime(make_strategy("run-on", plan.seed), seed=plan.seed, max_steps=MAX_STEPS)
    results: list[BackfillResult] = []

    def main() -> None:
        with _stopping((ForgetfulFleet if forgets else InProcessFleet)(sim, nodes)) as fleet:
            run = BackfillRun(sim, fleet, plan, setup, f"simulated:{nodes}", stopped, watch)
            results.append(run.carry_out())

    outcome = in_a_thread_of_its_own(lambda: sim.run(main, name="main"), plan.concurrency + plan.producers + 50)
    if isinstance(outcome.error, BackfillRunError):
        raise outcome.error
    outcome.check()
    return results[0]


@contextmanager
def _stopping(fleet: Any) -> Iterator[Any]:
    try:
        yield fleet
    finally:
        fleet.stop()


def in_a_thread_of_its_own(function: Callable[[], T], tasks: int) -> T:
    """Call what runs a simulation of so many tasks, on an OS thread of its own with a deeper stack. What it returns.

    The stack of a simulated task begins on top of that which gave way to it, and counts as deep as both; a thread keeps
    such stacks for its next simulation, which may not be allowed to be so deep. Raises what the function does. Thread:
    any. Blocks.
    """
    before = sys.getrecursionlimit()
    results: list[T] = []
    rt = ThreadsRuntime()
    sys.setrecursionlimit(max(before, FRAMES_PER_TASK * tasks))
    try:
        task = rt.spawn(lambda: results.append(function()), name="simulator")
        while not task.join(JOIN_NS):  # in steps, so that Ctrl-C is heard
            pass
    finally:
        sys.setrecursionlimit(before)
    if task.error is not None:
        raise task.error
    return results[0]
