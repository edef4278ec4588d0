"""What the backfill shows at length: load with faults, orders, the promise; slow, so not part of `make bench`.

    python bench/backfill.py load [--messages 34000] [--shards redis:1]    100, 250 and 500 workers, all faults
    python bench/backfill.py orders [--orders 10000] [--first 0]          of the small form; is everything conserved?
    python bench/backfill.py found [--orders 2000]                        when each fault of the backfill is first found
    python bench/backfill.py promise [--repeat 5] [--runtime threads]     before and after, repeated, medians
    python bench/backfill.py outages                                      30 s and 5 min of no Hub, in virtual time

Role: the figures of docs/backfill.md come from here. Every part exits with 1 when a message is not accounted for.

Thread: the caller's, and those of the runs. Upstream: none. Left out: single measures (`coordemu backfill compare`).
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.arguments import Arguments, exit_with
from coordemu.explore.portfolio import PORTFOLIO
from coordemu.explore.search import length_of, search_range
from coordemu.lab.backfill_compare import BackfillComparison, window_ms
from coordemu.lab.backfill_measures import BackfillSetup
from coordemu.lab.backfill_plan import BackfillPlan
from coordemu.lab.backfill_result import ENDED, BackfillResult
from coordemu.lab.backfill_run import BackfillRun
from coordemu.lab.backfill_shop import BACKFILL_FAULTS, REMOVE_FIRST
from coordemu.lab.backfill_sim import BackfillSubject, run_in_simulator
from coordemu.lab.hub_plan import UNAVAILABLE, HubPlan, Outage, Slowness, Span
from coordemu.runtime.base import NS_PER_MS, NS_PER_S
from coordemu.runtime.threads import ThreadsRuntime
from coordemu.shards.shard_fleet import ShardFleet

SEED = 1
CONCURRENCIES = (100, 250, 500)
BATCH = 500


def _span(at_s: float, for_s: float) -> Span:
    return Span(round(at_s * NS_PER_S), round(for_s * NS_PER_S))


def load(messages: int, shards: str) -> int:
    """As fast as it goes, with Redis killed twice, the Hub down twice and slow once, dying workers and poison."""
    after = BackfillSetup.load("after")
    hub = replace(after.settings.hub, requests_per_s=0)
    setup = BackfillSetup("after, no rate", replace(after.settings, hub=hub))
    plan = BackfillPlan(
        messages=messages, rate_per_s=0.0, producers=8, hub_requests=0, poison=0.001, crash=0.001, store_ms=1.0,
        hub=HubPlan(
            latency_ns=NS_PER_MS,
            outages=(Outage(_span(30, 20)), Outage(_span(150, 5), UNAVAILABLE)),
            slow=(Slowness(_span(80, 20), 20),),
        ),
        kills=(_span(20, 3), _span(110, 3)), speed=10.0, limit_ms=6_000_000.0, look_ms=1_000.0,
    )  # fmt: skip
    print("| servers | workers | messages | done | dead | lost | left | absorbed | again | s | per s | conserved |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    bad = 0
    rt = ThreadsRuntime(seed=SEED)
    with ShardFleet.start(rt, shards) as fleet:
        for concurrency in CONCURRENCIES:
            result = BackfillRun(rt, fleet, plan.override(concurrency=concurrency), setup, shards).carry_out()
            account = result.account
            row = (
                shards, concurrency, account.planned, account.done, len(account.dead), len(account.lost),
                len(account.left), account.duplicates, account.again, f"{result.elapsed_ns / NS_PER_S:.1f}",
                f"{result.per_s:.0f}", "yes" if result.good else "NO",
            )  # fmt: skip
            print(f"| {' | '.join(map(str, row))} |", flush=True)
            for reason, count in account.reasons(account.dead):
                print(f"    {count} x {reason}")
            print(f"    {result.reaper}, {result.store}, {[what for _, what in result.happened]}", flush=True)
            for line in (*account.broken, *result.crashes):
                print(f"    {line}")
            bad |= not result.good
    return bad


def orders(count: int, first: int) -> int:
    """Half of them with a Redis that forgets when it dies, half with one that remembers."""
    bad = 0
    for forgets in (True, False):
        subject = BackfillSubject(forgets=forgets)
        length = length_of(subject)
        verdicts: dict[str, int] = {}
        clock = ThreadsRuntime()
        began_ns = clock.now_ns()
        for start in range(first, first + count // 2, BATCH):
            end = min(start + BATCH, first + count // 2)
            result = search_range(subject, PORTFOLIO, SEED, start, end - start, length)
            for verdict, number in result.verdicts.items():
                verdicts[verdict] = verdicts.get(verdict, 0) + number
            for each in result.found:
                print(f"  order {each.number}: {each.failure.sentence}", flush=True)
                bad = 1
            taken_s = (clock.now_ns() - began_ns) / NS_PER_S
            print(f"{subject.name}: {sum(verdicts.values()):,} orders in {taken_s:.0f} s: {verdicts}", flush=True)
    return bad


def found(count: int) -> int:
    """Each fault by itself: the first order that shows it."""
    missed = 0
    print("| fault | first found in order | what is broken |")
    print("|---|---|---|")
    for fault in BACKFILL_FAULTS:
        # A server that forgets has everything put again, and with it what was removed too early.
        subject = BackfillSubject(faults=(fault,), forgets=fault != REMOVE_FIRST)
        result = search_range(subject, PORTFOLIO, SEED, 0, count, length_of(subject), stop_at_first=True)
        first = result.found[0] if result.found else None
        missed |= first is None
        told = first.failure.sentence[:120] if first is not None else "-"
        print(f"| {fault} | {first.number if first is not None else '-'} | {told} |", flush=True)
    return missed


def promise(repeat: int, runtime: str, messages: int, concurrencies: Sequence[int], shards: str, speed: float) -> int:
    """Before and after, one after the other, `repeat` times; medians."""
    before, after = BackfillSetup.load("before"), BackfillSetup.load("after")
    print(f"{messages} messages, {runtime}, {shards}, speed {speed:g}, medians of {repeat}")
    print("| workers | time-outs before | after | fewer | done/s before | after | more | done before | after |")
    print("|---|---|---|---|---|---|---|---|---|")
    bad = 0
    rt = ThreadsRuntime(seed=SEED)
    fleet = ShardFleet.start(rt, shards) if runtime == "threads" else None
    try:
        for concurrency in concurrencies:
            pairs: list[BackfillComparison] = []
            for number in range(repeat):
                plan = BackfillPlan(messages=messages, concurrency=concurrency, speed=speed, seed=SEED + number)
                plan = replace(plan, limit_ms=window_ms(plan))
                results: list[BackfillResult] = []
                for setup in (before, after):
                    if fleet is None:
                        results.append(run_in_simulator(plan, setup))
                    else:
                        results.append(BackfillRun(rt, fleet, plan, setup, shards).carry_out())
                pairs.append(BackfillComparison(tuple(results)))
                bad |= not (results[1].good and results[1].how == ENDED)
            print(f"| {' | '.join(_medians(concurrency, pairs))} |", flush=True)
    finally:
        if fleet is not None:
            fleet.stop()
    return bad


def _medians(concurrency: int, pairs: Sequence[BackfillComparison]) -> list[str]:
    def median(values: Sequence[float]) -> float:
        return statistics.median(values)

    befores = [pair.results[0] for pair in pairs]
    afters = [pair.results[1] for pair in pairs]
    claims = [[promise.measured for promise in pair.promises()] for pair in pairs]
    fewer, more = ([claim[index] for claim in claims if claim[index] is not None] for index in (0, 1))
    return [
        str(concurrency),
        f"{median([each.ops.timeout_share for each in befores]):.1%}",
        f"{median([each.ops.timeout_share for each in afters]):.1%}",
        f"{median([each or 0.0 for each in fewer]):.1%}" if fewer else "none before",
        f"{median([each.per_s_of_plan for each in befores]):.2f}",
        f"{median([each.per_s_of_plan for each in afters]):.2f}",
        f"{median([each or 0.0 for each in more]):+.0%}" if more else "none done before",
        f"{median([each.account.done for each in befores]):g}",
        f"{median([each.account.done for each in afters]):g}",
    ]


def outages() -> int:
    """The whole form, 250 workers, speed 1, in virtual time."""
    bad = 0
    for said, for_s in (("30 s", 30), ("5 min", 300)):
        plan = BackfillPlan(hub=HubPlan(latency_ns=20 * NS_PER_MS, outages=(Outage(_span(5, for_s)),)))
        result = run_in_simulator(plan, BackfillSetup.load("after"))
        fired = ", ".join(f"{event.name} {event.at_ns / NS_PER_S:.0f} s" for event in result.fired)
        moves = sum(event.kind == "half-opened" for event in result.breaker)
        print(
            f"Hub down for {said} from 5 s on: {result.account.sentence()}, in {result.elapsed_ns / NS_PER_S:.1f} s; "
            f"{moves} probes; alerts: {fired or 'none'}",
            flush=True,
        )
        bad |= not result.good
    return bad


def main() -> int:
    """The command."""
    parser = Arguments(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("what", choices=("load", "orders", "found", "promise", "outages"))
    parser.add_argument("--messages", type=int)
    parser.add_argument("--orders", type=int)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--runtime", choices=("threads", "sim"), default="threads")
    parser.add_argument("--shards", default="redis:1")
    parser.add_argument("--speed", type=float)
    parser.add_argument("--concurrency", default="10,25,100,250,500")
    given = parser.parse_args()
    if given.what == "load":
        return load(given.messages or 34_000, given.shards)
    if given.what == "orders":
        return orders(given.orders or 10_000, given.first)
    if given.what == "found":
        return found(given.orders or 2_000)
    if given.what == "outages":
        return outages()
    speed = given.speed or (10.0 if given.runtime == "threads" else 1.0)
    concurrencies = [int(part) for part in given.concurrency.split(",")]
    return promise(given.repeat, given.runtime, given.messages or 100, concurrencies, given.shards, speed)


if __name__ == "__main__":
    exit_with(main)
