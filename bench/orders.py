"""What the searches of orders show of the incident and of every policy, as tables; slow, so not part of `make bench`.

    python bench/orders.py seeds [--seeds 100]             when upstream-before is first found, for each seed
    python bench/orders.py survive [--orders 100000] [--jobs 2] [--policies A,B]         what the safe policies survive
    python bench/orders.py plans [--orders 200] [--jobs 2] [--save DIR]  every policy under every plan, failures kept
    python bench/orders.py exhaust [--limit 20000]               the small configuration, every order that differs

Role: the README's figures about orders come from here. `plans` with --save examples/schedules makes the files that
tests/test_schedules.py replays; make them again after a change of the layers (`make schedules`).

Thread: the caller's, and worker processes. Upstream: none. Left out: how fast it all is (`bench/explore.py`).
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.arguments import Arguments, exit_with
from coordemu.coord.resize_policy import POLICIES, get_policy
from coordemu.explore.dpor import exhaust
from coordemu.explore.order import Subject
from coordemu.explore.order_search import OrderSearch
from coordemu.explore.portfolio import PORTFOLIO
from coordemu.explore.schedule_file import ScheduleFile
from coordemu.explore.search import SearchResult, length_of, search_range
from coordemu.explore.shrink import shrink
from coordemu.lab.order_run import CoordinatorSubject
from coordemu.lab.order_scenario import ORDER_SCENARIOS, get_order_scenario
from coordemu.runtime.base import NS_PER_S
from coordemu.runtime.threads import ThreadsRuntime

FACTORY = "coordemu.lab.subjects:subject_from"
SEED = 1
# What a test of the incident's scenario expects to be healthy.
SAFE = [name for name, policy in POLICIES.items() if policy.expected == "healthy"]
# A refusal is an answer, and no order of steps is to blame.
NO_FILE_OF = ("refused",)
PLANS = [name for name in ORDER_SCENARIOS if name not in ("small", "smallest")]


def tell(line: str) -> None:
    """On stderr, at once."""
    print(line, file=sys.stderr, flush=True)


def subject_of(scenario: str, policy: str) -> CoordinatorSubject:
    """A named scenario under a named policy."""
    return CoordinatorSubject(get_order_scenario(scenario), get_policy(policy))


def search(subject: Subject, orders: int, jobs: int) -> tuple[SearchResult, float]:
    """So many orders of the portfolio, in so many processes; and the orders per second.

    Raises RuntimeError when not all were played.
    """
    done = OrderSearch(FACTORY, PORTFOLIO, SEED, orders, jobs=jobs).carry_out(subject, lambda: False, lambda *_: None)
    if not done.whole:
        raise RuntimeError(f"{subject.name}: {done.result.orders} of {orders} orders were played; {done.broken_off}")
    return done.result, done.result.orders * NS_PER_S / done.elapsed_ns


def shares(result: SearchResult) -> str:
    """How many orders have each verdict, the most frequent first."""
    ordered = sorted(result.verdicts.items(), key=lambda each: (-each[1], each[0]))
    return ", ".join(f"{verdict} {count}" for verdict, count in ordered)


def seeds(count: int, most: int) -> int:
    """For each seed: the first order of the portfolio in which upstream-before is deadlocked."""
    return max(seeds_of(name, count, most) for name in ("mod-11658", "any-moment"))


def seeds_of(scenario: str, count: int, most: int) -> int:
    """The same for one scenario."""
    subject = subject_of(scenario, "upstream-before")
    length = length_of(subject)
    first = []
    for seed in range(count):
        found = search_range(subject, PORTFOLIO, seed, 0, most, length, stop_at_first=True).found
        first.append(found[0].number + 1 if found and found[0].verdict == "deadlocked" else None)
    hits = [number for number in first if number is not None]
    print(f"upstream-before, {scenario}: deadlocked within {most} orders for {len(hits)} of {count} seeds")
    if hits:
        print(f"orders until then: median {statistics.median(hits):g}, most {max(hits)}")
    return int(len(hits) < count)


def survive(orders: int, jobs: int, policies: Sequence[str]) -> int:
    """The safe policies under mod-11658."""
    worst = 0
    for name in policies:
        result, rate = search(subject_of("mod-11658", name), orders, jobs)
        print(f"{name}: {shares(result)} of {result.orders:,} orders; {rate:.0f} orders/s", flush=True)
        for found in result.found:
            print(f"  order {found.number} ({found.plan.strategy}, {found.plan.clock}): {found.failure.sentence}")
            worst = 1
    return worst


def plans(orders: int, jobs: int, save: str | None, names: Sequence[str], policies: Sequence[str]) -> int:
    """Every policy under every plan, as a table in Markdown: D(eadlocked), L(ost), R(efused) and how many."""
    print(f"Of {orders} orders each, portfolio, seed {SEED}: those that are not healthy.\n")
    print(f"| plan | {' | '.join(policies)} |")
    print(f"|---|{'---|' * len(policies)}")
    for name in names:
        row = []
        for policy in policies:
            subject = subject_of(name, policy)
            result, _ = search(subject, orders, jobs)
            tell(f"{name}, {policy}: {shares(result)}")
            bad = sorted((verdict, count) for verdict, count in result.verdicts.items() if verdict != "healthy")
            row.append(" ".join(f"{verdict[0].upper()}{count}" for verdict, count in bad) or "-")
            if save is not None:
                save_first(subject, result, Path(save))
        print(f"| {name} | {' | '.join(row)} |", flush=True)
    return 0


def save_first(subject: CoordinatorSubject, result: SearchResult, directory: Path) -> None:
    """A file of the first order of each failing verdict, shrunk."""
    told = set(NO_FILE_OF)
    for found in result.found:
        if found.verdict in told:
            continue
        told.add(found.verdict)
        less = shrink(subject, found.plan, found.schedule, found.failure)
        note = f"order {found.number} of {subject.name}; strategy {PORTFOLIO}, seed {SEED}. {less.sentence}"
        file = ScheduleFile(less.subject.describe(), less.plan, found.verdict, less.failure, less.schedule, note)
        file.save(directory / f"{subject.scenario.name}-{subject.policy.name}-{found.verdict}.json")


def exhausted(limit: int) -> int:
    """Every order that differs of 2 workers, 2 queries, 1 node, under each policy."""
    clock = ThreadsRuntime()
    for policy in POLICIES:
        subject = subject_of("small", policy)
        began_ns = clock.now_ns()
        result = exhaust(subject, limit=limit)
        taken_s = (clock.now_ns() - began_ns) / NS_PER_S
        said = "complete" if result.complete else f"NOT complete after {limit:,} runs"
        verdicts = ", ".join(f"{verdict} {count}" for verdict, count in sorted(result.verdicts.items()))
        print(f"small, {policy}: {said}: {result.classes:,} classes in {taken_s:.1f} s: {verdicts}", flush=True)
    return 0


def main() -> int:
    """The command."""
    parser = Arguments(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("what", choices=("seeds", "survive", "plans", "exhaust"))
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--orders", type=int)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--limit", type=int, default=20_000)
    parser.add_argument("--policies", default="")
    parser.add_argument("--scenarios", default="")
    parser.add_argument("--save", metavar="DIR")
    given = parser.parse_args()
    policies = [name for name in given.policies.split(",") if name]
    scenarios = [name for name in given.scenarios.split(",") if name]
    if given.what == "seeds":
        return seeds(given.seeds, given.orders or 50)
    if given.what == "survive":
        return survive(given.orders or 100_000, given.jobs, policies or SAFE)
    if given.what == "plans":
        return plans(given.orders or 200, given.jobs, given.save, scenarios or PLANS, policies or list(POLICIES))
    return exhausted(given.limit)


if __name__ == "__main__":
    exit_with(main)
