"""The soak: 1,000,000 queries and 1,000 resizes, and not one query without an outcome.

    python bench/soak.py [--queries N] [--resizes N] [--policy NAME] [--stop MODE] [--seed N] [--json FILE|-]

Role: the command line around `bench.soak_run`. Progress goes to stderr, the result to stdout. Exit status: 0 when
everything held, 1 when something did not, 2 for wrong arguments, 3 when the run could not be carried out, 130 after
Ctrl-C (which ends the load early, lets the queries under way finish, and still prints the sums).

Thread: the main one. Upstream: none. Left out: running several at once.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.arguments import Arguments
from bench.soak_run import SoakError, SoakResult, SoakRun, SoakSpec
from coordemu.coord.resize_policy import ResizePolicy, UnknownPolicy, get_policy
from coordemu.coord.shrink_plan import STOP_MODES
from coordemu.shards.shard_errors import ShardError

WAITS_SHOWN = 6


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line. Exits with 2 for wrong arguments."""
    parser = Arguments(
        prog="bench/soak.py", description="Resize a coordinator under load; every query must have an outcome."
    )
    parser.add_argument("--queries", type=_at_least_1, default=1_000_000, metavar="N")
    parser.add_argument("--resizes", type=_at_least_1, default=1_000, metavar="N")
    parser.add_argument("--policy", default="shrink-drain-event", help="a named resize policy (default: %(default)s)")
    parser.add_argument("--stop", choices=STOP_MODES, help="override the policy's stop mode")
    parser.add_argument(
        "--clients", type=_at_least_1, default=24, metavar="N", help="client connections (default: %(default)s)"
    )
    parser.add_argument(
        "--depth",
        type=_at_least_1,
        default=2,
        metavar="N",
        help="queries on their way per connection (default: %(default)s)",
    )
    parser.add_argument(
        "--nodes", type=_at_least_1, default=3, metavar="N", help="shards in the topology (default: %(default)s)"
    )
    parser.add_argument("--io-threads", type=_at_least_1, default=1, metavar="N")
    parser.add_argument(
        "--topology-share",
        type=float,
        default=0.25,
        metavar="X",
        help="share of resizes with a topology change (default: %(default)s)",
    )
    parser.add_argument("--shards", choices=("embedded", "redis"), default="embedded")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument(
        "--json", metavar="FILE", help="write the result as JSON; - for stdout, which then has nothing else"
    )
    return parser.parse_args(arguments)


def _at_least_1(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is below 1")
    return number


def _policy(name: str, stop: str | None) -> ResizePolicy:
    return get_policy(name).override(stop=stop)


def report(result: SoakResult) -> str:
    """The result in words."""
    ledger, sums = result.queries, result.receipts
    lines = [
        f"policy {result.policy}, {result.seconds:.1f} s, {result.queries_per_s:,.0f} queries/s",
        f"queries: {ledger.sent:,} sent = {ledger.replied:,} replied + {ledger.failed:,} failed, {ledger.lost} lost, "
        f"{ledger.mismatched} mismatched; longest gap between replies {ledger.max_gap_ms:.0f} ms",
        *(f"  failed: {count:,} x {reason}" for reason, count in ledger.by_reason.items()),
        f"resizes: {result.resizes}; {result.topologies} topology changes",
        f"longest PING gap {result.ping_max_gap_ms:.0f} ms",
        f"receipts: {sums}",
        f"resources: {result.resources_before} before, {result.resources_after} after",
    ]
    if result.interrupted:
        lines.append("interrupted: the sums are those of what was sent until then")
    if result.wait_for:
        rows = result.wait_for.splitlines()
        lines += rows[:WAITS_SHOWN] + [f"... {len(rows) - WAITS_SHOWN} more, see --json"] * (len(rows) > WAITS_SHOWN)
    lines += [f"WRONG: {line}" for line in result.wrong] or ["everything held"]
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Run the soak. Returns the exit status."""
    args = parse_arguments(arguments)
    try:
        policy = _policy(args.policy, args.stop)
    except (UnknownPolicy, ValueError) as err:
        print(f"bench/soak.py: {err}", file=sys.stderr)
        return 2
    spec = SoakSpec(
        policy, args.queries, args.resizes, args.clients, args.depth, args.nodes, args.io_threads, args.topology_share,
        args.shards, args.seed,
    )  # fmt: skip
    run = SoakRun(spec, lambda line: print(line, file=sys.stderr, flush=True))
    try:
        result = run.carry_out()
    except (SoakError, ShardError, OSError) as err:
        print(f"bench/soak.py: {err}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("bench/soak.py: interrupted before there was anything to tell", file=sys.stderr)
        return 130
    data = {"command": shlex.join(["bench/soak.py", *arguments]), **result.to_json()}
    if args.json == "-":
        print(json.dumps(data, indent=2))
    else:
        print(report(result))
        if args.json:
            Path(args.json).write_text(json.dumps(data, indent=2) + "\n")
    status = 130 if result.interrupted else 1 if result.wrong else 0
    if not run.clean:
        sys.stdout.flush()
        os._exit(status)  # threads are left that wait for ever
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
