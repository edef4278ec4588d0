"""All benchmarks: the entry of `make bench` and of ``coordemu bench``.

    python bench/run_all.py [NAME ...] [--only NAME,...] [--quick] [--shards URL] [--json FILE|-] [--compare FILE]
    python bench/run_all.py --list

Role: runs them one after the other, prints their tables, then every row in which coordemu is worse than a baseline,
and writes JSON with every raw sample, the machine and the command; with ``--compare`` also how each ratio has changed
since an older JSON of the same machine. A figure is worth something beside its baseline of
the same run, and nothing beside a figure of another machine. Exit status: 0, also where something is slow; 1 when a
check of counts did not hold; 2 for wrong arguments; 3 when the environment did not allow a benchmark (no file
descriptors, no port).

Thread: the main one. Upstream: none. Left out: comparing figures themselves, or across machines.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.arguments import INTERRUPTED, Arguments, exit_with
from bench.compare import CompareError, changes, load, print_changes
from bench.compare import to_json as to_compared
from bench.measure import FULL, QUICK, Effort, Progress, Report
from bench.tables import print_report, where_we_lose
from coordemu.lab.machine import describe_machine
from coordemu.report.console import output, progress
from coordemu.shards.shard_errors import ShardError
from coordemu.shards.shard_url import parse_shard_url

SCHEMA_VERSION = 1
INTERRUPTION = "interrupted, with the rest"
NAMES = (
    *("drain", "pending", "replies", "pool", "pool_client", "commands", "fanout", "seam", "many_nodes"),
    *("resilience", "explore", "idle"),
)
WITH_SHARDS = ("drain", "commands", "fanout")


def benchmark(name: str, shards: str | None = None) -> Callable[[Effort, Progress], Report]:
    """A benchmark's entry. shards: for those in WITH_SHARDS. Raises ImportError when something is not installed."""
    run: Callable[..., Report] = importlib.import_module(f"bench.{name}").run
    return partial(run, shards=shards) if name in WITH_SHARDS else run


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line; `names` holds the chosen benchmarks. Exits with 2 for wrong arguments."""
    parser = Arguments(prog="bench/run_all.py", description="Run the benchmarks; each figure beside its baseline.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(NAMES)} (default: all)")
    parser.add_argument("--only", metavar="NAME,...", help="the same, as a list")
    parser.add_argument("--quick", action="store_true", help="fewer samples: a first look, in about a minute")
    parser.add_argument(
        "--json", metavar="FILE", help="write everything as JSON; - for stdout, which then has nothing else"
    )
    parser.add_argument(
        "--shards", metavar="URL", help=f"what {', '.join(WITH_SHARDS)} run against, as for coordemu run"
    )
    parser.add_argument("--compare", metavar="FILE", help="an older JSON of this machine: how each ratio has changed")
    parser.add_argument("--list", action="store_true", help="list the benchmarks")
    args = parser.parse_args(arguments)
    args.names += [name.strip() for name in args.only.split(",")] if args.only else []
    for name in args.names:
        if name not in NAMES:
            parser.error(f"no benchmark is called {name!r}; there are {', '.join(NAMES)}")
    args.names = [name for name in NAMES if name in args.names or not args.names]
    try:
        if args.shards:
            parse_shard_url(args.shards)
            if not {*args.names} & {*WITH_SHARDS}:
                parser.error(f"--shards is for {', '.join(WITH_SHARDS)}")
        args.old = load(args.compare, describe_machine()) if args.compare else None
    except (ShardError, CompareError) as err:
        parser.error(str(err))
    return args


def run_benchmarks(
    names: Sequence[str], effort: Effort, told: Progress, shards: str | None = None
) -> tuple[list[Report], dict[str, float], list[str]]:
    """Run them. Returns the reports, how long each took in s, and what could not be run. Blocks for minutes."""
    reports: list[Report] = []
    took_s: dict[str, float] = {}
    failures: list[str] = []
    for name in names:
        began = time.monotonic()
        try:
            told(name)
            reports.append(benchmark(name, shards)(effort, told))
        except (ImportError, ShardError, OSError, RuntimeError) as err:
            failures.append(f"{name}: {err}")
        except KeyboardInterrupt:
            failures.append(f"{name}: {INTERRUPTION}")
            break
        took_s[name] = round(time.monotonic() - began, 2)
    return reports, took_s, failures


def to_json(
    reports: Sequence[Report], took_s: dict[str, float], failures: Sequence[str], command: str, effort: Effort
) -> dict[str, Any]:
    """What ``--json`` writes."""
    return {
        "schema": SCHEMA_VERSION, "at": datetime.now(UTC).isoformat(timespec="seconds"), "command": command,
        "effort": effort.name, "machine": {**describe_machine(), "load_average": os.getloadavg()}, "took_s": took_s,
        "failures": list(failures), "benchmarks": [report.to_json() for report in reports],
        "worse_than_a_baseline": where_we_lose(reports),
    }  # fmt: skip


def _show(reports: Sequence[Report], took_s: dict[str, float], load: tuple[float, float, float]) -> None:
    console = output()
    machine = ", ".join(f"{key} {value}" for key, value in describe_machine().items())
    for report in reports:
        print_report(console, report)
    console.rule("where coordemu is worse than a baseline of the same run, by more than 5 %")
    for line in where_we_lose(reports) or ["nowhere"]:
        console.print(f"- {line}", markup=False)
    console.rule("this run")
    console.print(f"machine: {machine}; load average at the start {load[0]:.2f}", markup=False)
    console.print(
        f"took {sum(took_s.values()):.0f} s: " + ", ".join(f"{name} {value:.0f}" for name, value in took_s.items())
    )


def main(arguments: Sequence[str]) -> int:
    """Run, print, write. Returns the exit status."""
    args = parse_arguments(arguments)
    if args.list:
        for name in NAMES:
            first = (importlib.import_module(f"bench.{name}").__doc__ or "").split("\n")[0]
            print(f"{name:<12} {first}")
        return 0
    effort, load_average = QUICK if args.quick else FULL, os.getloadavg()
    console = progress()
    if console.is_terminal:
        with console.status("starting") as status:
            done = run_benchmarks(args.names, effort, lambda line: status.update(line), args.shards)
    else:
        told = lambda line: console.print(line, markup=False) if line in NAMES else None  # noqa: E731
        done = run_benchmarks(args.names, effort, told, args.shards)
    reports, took_s, failures = done
    found = changes(args.old, reports) if args.old else []
    data = to_json(reports, took_s, failures, shlex.join(["bench/run_all.py", *arguments]), effort)
    if args.old:
        data["compared"] = to_compared(found, args.compare)
    if args.json == "-":
        print(json.dumps(data))
    else:
        _show(reports, took_s, load_average)
        if args.old:
            print_changes(output(), found, args.compare)
        if args.json:
            Path(args.json).write_text(json.dumps(data) + "\n")
    for failure in failures:
        print(f"bench/run_all.py: not run: {failure}", file=sys.stderr)
    if failures:
        return INTERRUPTED if failures[-1].endswith(INTERRUPTION) else 3
    return int(not all(report.facts.get("held", True) for report in reports))


if __name__ == "__main__":
    exit_with(lambda: main(sys.argv[1:]))
