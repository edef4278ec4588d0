"""How cost grows: the measurements behind the plots of docs/benchmarks.md.

Role: `make bench-docs` runs this; `bench.draw` draws. Each curve's points are taken in turn, all contenders at one
point before the next point, several times over, so what the machine did meanwhile hit them all. What is kept is small:
per point the median and the 10th and 90th percentile, and the machine.

    python bench/curves.py FILE [--quick]

Thread: the main one; the rigs make theirs. Upstream: none. Left out: raw samples (``run_all.py --json`` keeps those).
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.arguments import Arguments, exit_with
from bench.clients import CONNS, IN_FLIGHT, ByHand, OurClient, RedisPy
from bench.commands import start_server
from bench.drain import CONNS as DRAIN_CONNS
from bench.drain import EVENT, POLL_MS, SERVICE_MS, TIMER_10, DrainRig
from bench.measure import FULL, QUICK, SMOKE, Effort
from bench.pool import ExecutorPool, OurPool, Pool, in_batches, one_at_a_time
from coordemu.coord.shrink_plan import ShrinkPlan
from coordemu.lab.machine import describe_machine
from coordemu.report.console import progress
from coordemu.runtime.threads import ThreadsRuntime
from coordemu.shards.shard_errors import ShardError

SCHEMA_VERSION = 1
YIELD = f"yield: main polls every {POLL_MS} ms"
GATE = "another thread woken at the gate"
TIMER = "timer, poll on the loop"
OURS = "coordemu"
HAND = "epoll loop by hand"
PIPELINE = f"redis-py pipelines of {IN_FLIGHT}, 1 thread"

Told = Callable[[str], object]
Finish = Callable[[ShrinkPlan], int | None] | None


@dataclass(frozen=True, slots=True)
class Curve:
    """One contender along one axis. points: (x, median, p10, p90); a policy's x is its place."""

    plot: str
    name: str
    points: list[tuple[float, float, float, float]]


class Collector:
    """Samples by plot, contender and x."""

    def __init__(self, effort: Effort, told: Told) -> None:
        self.effort = effort
        self.rounds = effort.pick(7, 3, 1)
        self.told = told
        self._samples: dict[tuple[str, str], dict[float, list[float]]] = {}

    def add(self, plot: str, name: str, x: float, samples: Sequence[float]) -> None:
        """Keep what was measured there."""
        self._samples.setdefault((plot, name), {}).setdefault(x, []).extend(samples)

    def curves(self) -> list[Curve]:
        """All of them, rounded to what the eye can use."""
        return [Curve(plot, name, [_point(x, at[x]) for x in sorted(at)]) for (plot, name), at in self._samples.items()]


def _point(x: float, samples: list[float]) -> tuple[float, float, float, float]:
    ordered = sorted(samples)
    low, high = ordered[len(ordered) // 10], ordered[min(len(ordered) - 1, len(ordered) * 9 // 10)]
    median, low, high = (float(f"{value:.4g}") for value in (statistics.median(ordered), low, high))
    return x, median, low, high


def _drains(
    to: Collector, plot: str, x: float | None, rig: DrainRig, ways: Sequence[tuple[str, ShrinkPlan, Finish]]
) -> None:
    """x None: each way at its own place."""
    for _, plan, finish in ways:
        rig.shrink(plan, finish)
    for _ in range(to.effort.pick(30, 9, 1)):
        for place, (name, plan, finish) in enumerate(ways):
            to.add(plot, name, place if x is None else x, [rig.shrink(plan, finish).complete_us])


def _ways(rig: DrainRig) -> list[tuple[str, ShrinkPlan, Finish]]:
    return [
        (TIMER_10, ShrinkPlan("drop", "timer", drain_poll_ms=POLL_MS), None),
        (EVENT, ShrinkPlan("drop", "event"), None),
        (YIELD, ShrinkPlan("drop", "yield", drain_poll_ms=POLL_MS), rig.main_yields),
    ]


def drain_curves(to: Collector) -> None:
    """Drain completion over connections per node, in flight, poll interval, and policy. Raises ShardError."""
    smoke = to.effort is SMOKE
    for conns in (2, 13) if smoke else (2, 4, 8, 13, 26, 52):
        to.told(f"drain: {conns} connections per node")
        with ExitStack() as stack:
            rig = DrainRig(conns=conns)
            stack.callback(rig.close)
            _drains(to, "drain-connections", conns, rig, _ways(rig))
    for in_flight in (1, 4) if smoke else (1, 4, 16, 64):
        to.told(f"drain: {in_flight} in flight")
        with ExitStack() as stack:
            rig = DrainRig(conns=DRAIN_CONNS, in_flight=in_flight)
            stack.callback(rig.close)
            low_ms, high_ms = rig.service_ms
            rig.service_ms = low_ms / in_flight, high_ms / in_flight  # a connection's are served one after the other
            _drains(to, "drain-in-flight", in_flight, rig, _ways(rig))
    with ExitStack() as stack:
        rig = DrainRig()
        stack.callback(rig.close)
        for poll_ms in (1, 10) if smoke else (1, 2, 5, 10, 20, 50):
            to.told(f"drain: a poll every {poll_ms} ms")
            rig.service_ms = 3.0, 3.0 + 2 * poll_ms  # over whole intervals, so that the end may fall anywhere in one
            plan = ShrinkPlan("drop", "timer", drain_poll_ms=poll_ms)
            ways = [(TIMER, plan, None), (EVENT, ShrinkPlan("drop", "event"), None)]
            _drains(to, "drain-poll-interval", poll_ms, rig, ways)
        to.told("drain: policies")
        rig.service_ms = SERVICE_MS
        one_ms = ("timer, 1 ms poll on the loop", ShrinkPlan("drop", "timer", drain_poll_ms=1), None)
        gate = (GATE, ShrinkPlan("drop", "event"), rig.gate_waiter(None))
        _drains(to, "drain-policy", None, rig, [*_ways(rig), one_ms, gate])


def throughput_curves(to: Collector) -> None:
    """Commands per second over connections and over commands in flight, one server. Raises ShardError."""
    seconds = to.effort.pick(500, 200, 40) / 1e3
    smoke = to.effort is SMOKE
    with ExitStack() as stack:
        address, what = start_server(ThreadsRuntime(seed=1), stack)
        hand, theirs = ByHand(address), RedisPy(address)
        stack.callback(theirs.close)
        for conns in (1, 2) if smoke else (1, 2, 4, 8, 13, 26, 52):
            to.told(f"throughput: {conns} connections ({what})")
            with ExitStack() as one:
                ours = OurClient(address, 1, conns)
                one.callback(ours.close)
                for _ in range(to.rounds):
                    to.add("throughput-connections", HAND, conns, [hand.streaming(seconds, conns)])
                    to.add("throughput-connections", OURS, conns, [ours.streaming(seconds)])
                    to.add("throughput-connections", PIPELINE, conns, [theirs.pipelines(seconds, 1)])
        ours = OurClient(address, 1, CONNS)
        stack.callback(ours.close)
        for in_flight in (1, 4) if smoke else (1, 4, 16, 64, 256):
            to.told(f"throughput: {in_flight} in flight")
            for _ in range(to.rounds):
                to.add("throughput-in-flight", HAND, in_flight, [hand.streaming(seconds, CONNS, in_flight)])
                to.add("throughput-in-flight", OURS, in_flight, [ours.streaming(seconds, in_flight=in_flight)])
                size = f"redis-py pipelines of as many x {CONNS}, 1 thread"
                to.add("throughput-in-flight", size, in_flight, [theirs.pipelines(seconds, 1, in_flight * CONNS)])


def pool_curves(to: Collector) -> None:
    """Jobs per second over the number of threads: Thpool and ThreadPoolExecutor, singly and in batches of 64."""
    jobs, batches = to.effort.pick(1000, 300, 10), to.effort.pick(50, 15, 1)
    for threads in (1, 2) if to.effort is SMOKE else (1, 2, 4, 8, 16, 32):
        to.told(f"pool: {threads} threads")
        pools: list[tuple[str, Pool]] = [("Thpool", OurPool(threads)), ("ThreadPoolExecutor", ExecutorPool(threads))]
        try:
            for _ in range(to.rounds):
                for name, pool in pools:
                    to.add("pool-threads", f"{name}, one at a time", threads, [one_at_a_time(pool, jobs)()])
                    to.add("pool-threads", f"{name}, batches of 64", threads, [in_batches(pool, 64, batches)()])
        finally:
            for _, pool in pools:
                pool.close()


def measure(effort: Effort, told: Told) -> dict[str, Any]:
    """All curves, as the JSON that `bench.draw` reads. Raises ShardError, RuntimeError. Blocks for minutes."""
    to, load = Collector(effort, told), os.getloadavg()
    for group in (drain_curves, throughput_curves, pool_curves):
        group(to)
    return {
        "schema": SCHEMA_VERSION, "at": datetime.now(UTC).isoformat(timespec="seconds"), "effort": effort.name,
        "machine": {**describe_machine(), "load_average": [round(value, 2) for value in load]},
        "curves": [asdict(curve) for curve in to.curves()],
    }  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    """Measure and write. Exit status 3 when the shards can't be had."""
    parser = Arguments(prog="bench/curves.py", description="Measure what docs/benchmarks.md draws.")
    parser.add_argument("file", metavar="FILE", help="where the JSON goes")
    parser.add_argument("--quick", action="store_true", help="fewer samples, about two minutes")
    args = parser.parse_args(arguments)
    console = progress()
    try:
        data = measure(QUICK if args.quick else FULL, lambda line: console.print(line, markup=False))
    except (ShardError, RuntimeError, OSError) as err:
        print(f"bench/curves.py: {err}", file=sys.stderr)
        return 3
    lines = ",\n".join(json.dumps(curve) for curve in data.pop("curves"))
    Path(args.file).write_text(f'{json.dumps(data)[:-1]}, "curves": [\n{lines}\n]}}\n')
    return 0


if __name__ == "__main__":
    exit_with(lambda: main(sys.argv[1:]))
