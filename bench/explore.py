"""The search of orders: how fast the simulator plays, exhausts, shrinks and replays.

    python bench/run_all.py explore              as every benchmark
    python bench/explore.py --full [--json FILE] the same, with 100,000 replays

Role: the figures that the simulator promised, each beside its goal, and where one can ask for it what the same program
costs on real threads in the same run. Rates are of processor time of the one thread that plays everything. A goal that
is missed is a row that is worse than its baseline, and is listed with those at the end of the run.

Thread: the caller's; real threads use their own. Upstream: none. Left out: how many orders a bug takes to find (that is
the strategy's, and of tests), more than one core.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.arguments import Arguments, exit_with
from bench.explore_programs import TASKS, TOY_STEPS, keep_alive_day, nothing, planted, small_pool, toy
from bench.measure import FULL, MS, PER_S, QUICK, US, Case, Contender, Effort, Progress, Report, run_case, silent
from bench.tables import print_report, where_we_lose
from coordemu.coord.resize_policy import get_policy
from coordemu.explore.dpor import exhaust
from coordemu.explore.order import OrderPlan, Played, Subject, play
from coordemu.explore.order_garbage import OrderGarbage
from coordemu.explore.program import ProgramSubject
from coordemu.explore.shrink import Shrunk, shrink
from coordemu.lab.order_run import CoordinatorSubject
from coordemu.lab.order_scenario import OrderScenario
from coordemu.report.console import output, progress
from coordemu.runtime.base import Runtime
from coordemu.runtime.sim_schedule import Replay
from coordemu.runtime.threads import ThreadsRuntime

GOAL, THREADS = "goal", "real threads"
STRATEGIES = ("run-on", "random", "pct3", "pos")
STEPS_GOAL, ORDERS_GOAL = 600_000, 1_500
EMPTY_GOAL_US, EXHAUST_GOAL_MS, DAY_GOAL_MS, SHRINK_GOAL_MS = 60, 2_000, 1_000, 1_000
SHRINK_GOAL_SWITCHES = 15
REPLAYS = 100_000
REPLAY_PARTS = 10

Clock = Callable[[], float]


def coordinator(policy: str) -> CoordinatorSubject:
    """12 workers, 12 clients of one query each, 1 node; CONFIG SET WORKERS 0 in the middle."""
    return CoordinatorSubject(OrderScenario(late_queries=0, pings=0), get_policy(policy))


class Player:
    """Plays a subject's orders with one strategy, each with another seed."""

    def __init__(self, subject: Subject, strategy: str, verdict: str) -> None:
        """verdict: what every order has to have, or its rate would mean nothing."""
        self._subject = subject
        self._strategy = strategy
        self._verdict = verdict
        self._seeds = count()

    def order(self) -> Played:
        """The next one. Raises RuntimeError when it has another verdict."""
        seed = next(self._seeds)
        played = play(self._subject, OrderPlan(self._strategy, seed, length=900))
        if played.verdict != self._verdict:
            raise RuntimeError(f"{self._subject.name}, {self._strategy}, seed {seed}: {played.verdict}")
        return played

    def rate(self, orders: int, steps: bool) -> float:
        """Orders, or steps, per second of processor time, with the collection of the garbage that they leave, as a
        search has it."""
        total = 0
        with OrderGarbage() as garbage:
            began_s = time.thread_time()
            for _ in range(orders):
                played = self.order()
                total += played.steps if steps else 1
                garbage.after_order()
            gc.collect()
            return total / (time.thread_time() - began_s)


def threads_rate(program: Callable[[Runtime], None], runs: int, counts: int) -> float:
    """Runs x counts per second on real threads. Wall-clock time, since the threads share it."""
    began_s = time.perf_counter()
    for _ in range(runs):
        program(ThreadsRuntime(seed=1))
    return runs * counts / (time.perf_counter() - began_s)


def took(call: Callable[[], object], scale: float, clock: Clock = time.thread_time, times: int = 1) -> float:
    """What a call takes, in seconds / scale."""
    with OrderGarbage():
        began_s = clock()
        for _ in range(times):
            call()
        return (clock() - began_s) / scale / times


def goal(value: float) -> Contender:
    """What was promised: a baseline that takes no time."""
    return Contender(GOAL, lambda: value)


def passes(subject: Subject) -> None:
    """Play once as it comes. Raises RuntimeError when it fails."""
    Player(subject, "run-on", "passed").order()


# -- the cases


def toy_case(effort: Effort, steps: bool) -> Case:
    """The toy's steps, or orders, per second."""
    subject = ProgramSubject(toy, "toy")
    runs = effort.pick(20, 10, 1)
    rows = [
        goal(STEPS_GOAL if steps else ORDERS_GOAL),
        Contender(THREADS, lambda: threads_rate(toy, runs, TOY_STEPS if steps else 1)),
    ]
    for strategy in STRATEGIES:
        rate = partial(Player(subject, strategy, "passed").rate, effort.pick(200, 100, 2), steps)
        rows.append(Contender(strategy, rate, ours=True))
    return Case(
        f"{'steps' if steps else 'orders'} per second: {TASKS} tasks x {TOY_STEPS // TASKS} steps, labels recorded",
        PER_S,
        rows,
        [GOAL, THREADS],
        effort.pick(7, 3, 1),
        "A step of real threads is an operation that the program asks for; the simulator's are those, and spawns, ends "
        "and joins.",
    )


def coordinator_case(effort: Effort, steps: bool) -> Case:
    """The coordinator's."""
    rows = [goal(STEPS_GOAL if steps else ORDERS_GOAL)]
    for policy, strategy, verdict in (
        ("upstream-7410", "random", "healthy"),
        ("upstream-7410", "pct3", "healthy"),
        ("upstream-before", "random", "deadlocked"),
    ):
        player = Player(coordinator(policy), strategy, verdict)
        rows.append(Contender(f"{policy}, {strategy}", partial(player.rate, effort.pick(60, 30, 1), steps), ours=True))
    return Case(
        f"{'steps' if steps else 'orders'} per second: the coordinator, 12 workers, 12 clients, 1 node",
        PER_S,
        rows,
        [GOAL],
        effort.pick(7, 3, 1),
        "With everything: connecting 26 sockets before, taking down after, and the garbage of both; only the steps in "
        "between count.",
    )


def empty_case(effort: Effort) -> Case:
    """An order of nothing."""
    call = partial(passes, ProgramSubject(nothing, "nothing"))
    times = effort.pick(200, 100, 2)
    rows = [
        goal(EMPTY_GOAL_US),
        Contender(THREADS, lambda: took(lambda: nothing(ThreadsRuntime(seed=1)), 1e-6, time.perf_counter, times)),
        Contender("run-on", lambda: took(call, 1e-6, times=times), ours=True),
    ]
    return Case(
        f"an order of nothing: {TASKS} tasks begin and end",
        US,
        rows,
        [GOAL, THREADS],
        effort.pick(15, 5, 1),
        "With a new runtime, the outcome and its schedule.",
    )


def exhaustive_case(effort: Effort, facts: dict[str, object]) -> Case:
    """All orders of a small pool."""

    def once() -> None:
        result = exhaust(ProgramSubject(small_pool, "small pool"))
        facts["exhaustive"] = f"complete: {result.classes} classes, {result.runs} orders played"
        if not result.complete or result.verdicts != {"passed": result.runs}:
            raise RuntimeError(f"not exhausted: {result}")

    rows = [goal(EXHAUST_GOAL_MS), Contender("partial-order reduction", lambda: took(once, 1e-3), ours=True)]
    return Case("exhaustive: 2 workers x 2 jobs", MS, rows, [GOAL], effort.pick(5, 2, 1))


def day_case(effort: Effort) -> Case:
    """A long virtual time."""
    call = partial(passes, ProgramSubject(keep_alive_day, "a day"))
    rows = [goal(DAY_GOAL_MS), Contender("virtual time", lambda: took(call, 1e-3), ours=True)]
    return Case("24 hours of a keep-alive every second", MS, rows, [GOAL], effort.pick(5, 2, 1))


def failing_orders(subject: Subject, strategy: str, number: int) -> list[Played]:
    """The first failing orders of a subject, by seed."""
    found: list[Played] = []
    for seed in count():
        played = play(subject, OrderPlan(strategy, seed, length=150))
        if played.failure is not None:
            found.append(played)
            if len(found) == number:
                return found
    raise AssertionError


class Shrinking:
    """Failing orders of one subject, found by one strategy, and what shrinking made of them."""

    def __init__(self, name: str, subject: Subject, strategy: str, number: int) -> None:
        """Find them, the first by seed."""
        self.name = f"{name}, found by {strategy}"
        self._subject = subject
        self._orders = failing_orders(subject, strategy, number)
        self.results: list[Shrunk] = []

    def sample(self) -> list[float]:
        """Shrink each; how long each took, ms."""
        self.results.clear()
        return [took(partial(self._shrink, played), 1e-3) for played in self._orders]

    def _shrink(self, played: Played) -> None:
        assert played.failure is not None
        self.results.append(shrink(self._subject, played.plan, played.schedule, played.failure))

    @property
    def summary(self) -> str:
        """Switches before and after, medians, and the worst."""
        before = statistics.median(result.switches_before for result in self.results)
        after = [result.switches for result in self.results]
        preemptions = statistics.median(result.preemptions for result in self.results)
        return (
            f"median {before:g} -> {statistics.median(after):g} switches ({preemptions:g} preemptions), worst "
            f"{max(after)}, of {len(after)} orders; goal: a median of {SHRINK_GOAL_SWITCHES} at most"
        )


def shrink_case(effort: Effort) -> tuple[Case, list[Shrinking]]:
    """Failing orders, shrunk: the time of each."""
    number = effort.pick(25, 9, 1)
    shrinkings = [
        Shrinking("planted deadlock", ProgramSubject(planted, "planted"), "random", number),
        Shrinking("planted deadlock", ProgramSubject(planted, "planted"), "pos", number),
        Shrinking("upstream-before", coordinator("upstream-before"), "random", number),
    ]
    rows = [goal(SHRINK_GOAL_MS), *(Contender(each.name, each.sample, ours=True) for each in shrinkings)]
    return Case("shrinking a failing order", MS, rows, [GOAL], 1), shrinkings


class Replays:
    """One order, replayed again and again. same: how many were it, of `done`."""

    def __init__(self, name: str, subject: Subject, number: int) -> None:
        """Play it. number: replays for all samples together, about."""
        self.name = name
        self._subject = subject
        self._each = max(1, number // REPLAY_PARTS)
        self._played = play(subject, OrderPlan("random", 7, length=900))
        self.done = self.same = 0

    def sample(self) -> float:
        """Replays per second of processor time."""
        began_s = time.thread_time()
        with OrderGarbage():
            for _ in range(self._each):
                self._once()
                if self.done % 100 == 0:
                    gc.collect()
        return self._each / (time.thread_time() - began_s)

    def _once(self) -> None:
        plan = self._played.plan
        again = play(self._subject, plan, Replay(self._played.schedule))
        same = again.schedule.steps == self._played.schedule.steps and again.verdict == self._played.verdict
        self.done += 1
        self.same += same and again.outcome.now_ns == self._played.outcome.now_ns

    @property
    def summary(self) -> str:
        """For the facts."""
        return f"{self.same:,} of {self.done:,} identical ({self._played.steps} steps each)"


def replay_case(effort: Effort, number: int) -> tuple[Case, list[Replays]]:
    """Replays per second, and how many were the same."""
    small = Replays("the toy", ProgramSubject(toy, "toy"), number)
    large = Replays("the coordinator", coordinator("upstream-7410"), effort.pick(300, 100, 1))
    rows = [Contender(each.name, each.sample, ours=True) for each in (small, large)]
    note = "Steps, labels, verdict and virtual time are compared."
    return Case("replays per second", PER_S, rows, [], REPLAY_PARTS if number > 1 else 1, note), [small, large]


def run(effort: Effort, told: Progress = silent, replays: int = 0) -> Report:
    """Measure. replays: of the toy; 0: as the effort says. Blocks for a minute or two."""
    report = Report("explore")
    facts: dict[str, object] = {}
    cases = [toy_case(effort, steps=True), toy_case(effort, steps=False)]
    cases += [coordinator_case(effort, steps=False), coordinator_case(effort, steps=True)]
    cases += [empty_case(effort), exhaustive_case(effort, facts), day_case(effort)]
    report.cases += [run_case(case, told) for case in cases]
    case, shrinkings = shrink_case(effort)
    report.cases.append(run_case(case, told))
    facts |= {f"shrunk: {each.name}": each.summary for each in shrinkings}
    case, replayed = replay_case(effort, replays or effort.pick(2_000, 500, 1))
    report.cases.append(run_case(case, told))
    facts |= {f"replay: {each.name}": each.summary for each in replayed}
    facts["held"] = all(each.same == each.done for each in replayed)
    report.facts = facts
    toy_steps, orders = report.cases[0], report.cases[2]
    report.conclusion = (
        f"{toy_steps.row('random').median:,.0f} steps/s on the toy (goal {STEPS_GOAL:,}), "
        f"{orders.rows[1].median:,.0f} orders/s of the coordinator (goal {ORDERS_GOAL:,})"
    )
    return report


def main(arguments: Sequence[str]) -> int:
    """The command line. Returns the exit status: 1 when a replay was another order."""
    parser = Arguments(prog="bench/explore.py", description="The search of orders, measured.")
    parser.add_argument("--quick", action="store_true", help="fewer samples")
    parser.add_argument("--full", action="store_true", help=f"{REPLAYS:,} replays instead of 2,000")
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON, with every sample")
    args = parser.parse_args(arguments)
    told = progress()
    report = run(QUICK if args.quick else FULL, lambda line: told.print(line, markup=False), REPLAYS * args.full)
    console = output()
    print_report(console, report)
    for line in where_we_lose([report]):
        console.print(f"- worse: {line}", markup=False)
    if args.json:
        Path(args.json).write_text(json.dumps(report.to_json()) + "\n")
    return int(not report.facts["held"])


if __name__ == "__main__":
    exit_with(lambda: main(sys.argv[1:]))
