"""What the searches of orders show of the client-side pool, recipe by recipe; slow, so not part of `make bench`.

    python bench/pool_orders.py found [--seeds 20] [--orders 10000]     when each fault is first found, for each seed
    python bench/pool_orders.py survive [--orders 100000] [--jobs 2]    what each recipe survives with no fault on
    python bench/pool_orders.py exhaust [--limit N] [--seconds 30]      all orders of a recipe with 0, 1, 2 preemptions
    python bench/pool_orders.py files [--save DIR]                      of each fault an order, shrunk, as a file

Role: the figures of docs/client-pool.md come from here. `files` makes what tests/test_pool_schedules.py replays; make
them again after a change of the pool or of the simulator. --recipes A,B narrows each of them.

Thread: the caller's, and worker processes. Upstream: none. Left out: how fast the pool is (`bench/pool.py` has the
thread pool; real servers are `coordemu pool`).
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.arguments import Arguments, exit_with
from coordemu.explore.dfs import search_all
from coordemu.explore.order_search import OrderSearch
from coordemu.explore.portfolio import PORTFOLIO
from coordemu.explore.schedule_file import ScheduleFile
from coordemu.explore.search import length_of, search_range
from coordemu.explore.shrink import shrink
from coordemu.lab.client_pool_subject import ClientPoolSubject
from coordemu.pool.pool_recipe_list import POOL_RECIPES, SHOWN
from coordemu.runtime.base import NS_PER_S
from coordemu.runtime.threads import ThreadsRuntime

FACTORY = "coordemu.lab.subjects:subject_from"
SEED = 1
PREEMPTIONS = 2
DIRECTORY = Path(__file__).resolve().parents[1] / "examples" / "schedules-pool"


def found(names: Sequence[str], seeds: int, most: int) -> int:
    """For each fault and seed: the first order of the portfolio that shows it, as a table in Markdown."""
    print(f"Orders until a fault is found, portfolio, seeds 0 to {seeds - 1}, {most:,} at most.\n")
    print("| recipe | fault | found for | median | worst | what is broken |")
    print("|---|---|---|---|---|---|")
    missed = False
    for name, fault in SHOWN:
        if name not in names:
            continue
        subject = ClientPoolSubject(name, (fault,))
        length = length_of(subject)
        firsts, kinds = [], set()
        for seed in range(seeds):
            result = search_range(subject, PORTFOLIO, seed, 0, most, length, stop_at_first=True)
            for each in result.found[:1]:
                firsts.append(each.number + 1)
                kinds.add(_kind(each.failure.signature))
        missed = missed or len(firsts) < seeds
        median = f"{statistics.median(firsts):g}" if firsts else "-"
        worst = max(firsts, default="-")
        row = (name, fault, f"{len(firsts)}/{seeds}", median, worst, ", ".join(sorted(kinds)))
        print(f"| {' | '.join(map(str, row))} |", flush=True)
    return int(missed)


def _kind(signature: Sequence[str]) -> str:
    """A signature in a word: the letters of the rules, the exception, or "deadlocked"."""
    if signature[0] == "deadlocked":
        return "deadlocked"
    return signature[2] if signature[1:2] == ("error",) else " ".join(signature[1:])


def survive(names: Sequence[str], orders: int, jobs: int) -> int:
    """Each recipe without a fault."""
    print("| recipe | orders | verdicts | orders/s |")
    print("|---|---|---|---|")
    bad = 0
    for name in names:
        search = OrderSearch(FACTORY, PORTFOLIO, SEED, orders, jobs=jobs)
        done = search.carry_out(ClientPoolSubject(name), lambda: False, lambda *_: None)
        if not done.whole:
            raise RuntimeError(f"{name}: {done.result.orders} of {orders} orders were played; {done.broken_off}")
        verdicts = ", ".join(f"{verdict} {count:,}" for verdict, count in done.result.verdicts.items())
        rate = done.result.orders * NS_PER_S / done.elapsed_ns
        print(f"| {name} | {done.result.orders:,} | {verdicts} | {rate:,.0f} |", flush=True)
        for each in done.result.found:
            print(f"  order {each.number} ({each.plan.strategy}, {each.plan.clock}): {each.failure.sentence}")
            bad = 1
    return bad


def exhausted(names: Sequence[str], limit: int, seconds: float) -> int:
    """Each recipe without a fault: every order with no preemption, with one at most, with two at most; a recipe ends
    with the first bound that took more than `limit` runs, or more than `seconds` for all of them."""
    print(f"Every order with so many preemptions at most; {limit:,} runs or {seconds:g} s per recipe.\n")
    print(f"| recipe | {' | '.join(map(str, range(PREEMPTIONS + 1)))} | complete at | verdicts | s |")
    print("|---|" + "---|" * (PREEMPTIONS + 1) + "---|---|---|")
    clock = ThreadsRuntime()
    bad = 0
    for name in names:
        began_ns = clock.now_ns()
        ends_ns = began_ns + round(seconds * NS_PER_S)
        cells, complete_at, verdicts = ["-"] * (PREEMPTIONS + 1), "none", ""
        for bound in range(PREEMPTIONS + 1):
            stop = partial(_over, clock, ends_ns)
            result = search_all(ClientPoolSubject(name), preemptions=bound, limit=limit, stop=stop)
            orders = sum(result.verdicts.values())
            verdicts = ", ".join(f"{verdict} {count:,}" for verdict, count in sorted(result.verdicts.items()))
            bad |= bool(result.found)
            cells[bound] = f"{orders:,}" if result.complete else f"{orders:,} of more"
            if not result.complete:
                break
            complete_at = str(bound)
        taken_s = (clock.now_ns() - began_ns) / NS_PER_S
        print(f"| {name} | {' | '.join(cells)} | {complete_at} | {verdicts} | {taken_s:.1f} |", flush=True)
    return bad


def _over(clock: ThreadsRuntime, ends_ns: int) -> bool:
    return clock.now_ns() >= ends_ns


def files(names: Sequence[str], most: int, directory: Path) -> int:
    """Of each fault and recipe the first order that shows it, shrunk; files of before are overwritten."""
    directory.mkdir(parents=True, exist_ok=True)
    missed = 0
    for name, fault in SHOWN:
        if name not in names:
            continue
        subject = ClientPoolSubject(name, (fault,))
        result = search_range(subject, PORTFOLIO, SEED, 0, most, length_of(subject), stop_at_first=True)
        if not result.found:
            print(f"{name}, {fault}: not found in {most:,} orders")
            missed = 1
            continue
        first = result.found[0]
        less = shrink(subject, first.plan, first.schedule, first.failure)
        note = f"order {first.number} of {subject.name}; strategy {PORTFOLIO}, seed {SEED}. {less.sentence}"
        file = ScheduleFile(less.subject.describe(), less.plan, first.verdict, less.failure, less.schedule, note)
        file.save(directory / f"{name}-{fault}.json")
        print(
            f"{name}, {fault}: {less.switches} switches, {less.preemptions} preemptions "
            f"(found with {less.switches_before} switches), {len(less.schedule.steps)} steps: {less.failure.sentence}",
            flush=True,
        )
    return missed


def main() -> int:
    """The command."""
    parser = Arguments(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("what", choices=("found", "survive", "exhaust", "files"))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--orders", type=int)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--limit", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--recipes", default="")
    parser.add_argument("--save", metavar="DIR", default=str(DIRECTORY))
    given = parser.parse_args()
    names = [name for name in given.recipes.split(",") if name] or list(POOL_RECIPES)
    unknown = sorted(set(names) - set(POOL_RECIPES))
    if unknown:
        parser.error(f"no recipe is called {unknown[0]!r}")
    if given.what == "found":
        return found(names, given.seeds, given.orders or 10_000)
    if given.what == "survive":
        return survive(names, given.orders or 100_000, given.jobs)
    if given.what == "exhaust":
        return exhausted(names, given.limit, given.seconds)
    return files(names, given.orders or 10_000, Path(given.save))


if __name__ == "__main__":
    exit_with(main)
