"""The pool's command: ``coordemu pool basic | advanced | detect | all``.

Role: options in, report out, as `coordemu.cli`. Each test is reported as soon as it has ended. Ctrl-C ends the test
under way, closes its connections, keeps what came before, and exits with 130; a second one ends everything.

Exit codes: 0 every operation has an outcome and no state conflict was seen (or, with --expect, every verdict is at
least that good), 1 not, 2 usage, 3 environment.

Thread: the main thread; blocks for the length of the tests. Upstream: main.go of the example application (-mode,
-addrs). Left out: the tests (`coordemu.lab.pool_modes`), and the scenarios of the pool in the simulator (`explore`).
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Sequence
from typing import Any

import click

from coordemu.cli_explore import ABORTED, Interrupts
from coordemu.cli_options import DurationMs, EnvironmentFailure, check_files, write
from coordemu.lab.machine import describe_machine
from coordemu.lab.pool_modes import MAX_SCALE, MODES, PoolTest, mode_tests
from coordemu.lab.pool_result import PoolTestResult
from coordemu.lab.pool_run import TIME_LIMIT_NS, PoolRun, PoolRunError, Stopped
from coordemu.lab.pool_verdict import BROKEN, FAIR, GOOD, LEVELS, WARNING, worst
from coordemu.report.console import output
from coordemu.report.pool_progress import PoolProgress
from coordemu.report.pool_report import print_pool_summary, print_pool_test, to_json
from coordemu.runtime.base import NS_PER_MS, Address
from coordemu.runtime.threads import ThreadsRuntime
from coordemu.shards.fault_plan import NO_FAULTS, FaultPlan
from coordemu.shards.fd_limit import raise_fd_limit
from coordemu.shards.shard_errors import ShardError, ShardUrlError
from coordemu.shards.shard_fleet import ShardFleet
from coordemu.shards.shard_url import ShardSpec, parse_shard_url

EMBEDDED = "embedded:3"
SERVICE_MS = 2.0
LONGEST_SERVICE_MS = 60_000.0
MOST_COMMANDS = 10_000
# Of a connection: its socket, and its loop's poller and wake-up.
FDS_PER_CONN = 3
FDS_BESIDES = 150


def _spec(addrs: str | None, shards: str | None) -> ShardSpec:
    if addrs is not None and shards is not None:
        raise click.UsageError("--addrs names servers that are there, --shards those to start: only one of them")
    text = shards if shards is not None else EMBEDDED
    if addrs is not None:
        text = addrs if "://" in addrs else f"redis://{addrs}"
    try:
        spec = parse_shard_url(text)
    except ShardUrlError as err:
        said = str(err).removeprefix("shards: ")
        raise click.UsageError(f"{'--shards' if addrs is None else '--addrs'}: {said}") from None
    if addrs is not None and spec.own:
        raise click.UsageError(f"--addrs: {addrs!r} names no server; write host:port[,host:port...]")
    return spec


def _service_ms(given_ms: float | None, spec: ShardSpec) -> float:
    if spec.kind == "embedded":
        chosen_ms = SERVICE_MS if given_ms is None else given_ms
        if chosen_ms > LONGEST_SERVICE_MS:
            raise click.UsageError(f"--service-time: at most {LONGEST_SERVICE_MS / 1000:g} s")
        return chosen_ms
    if given_ms is not None:
        raise click.UsageError("--service-time is for embedded shards: a real server takes the time that it takes")
    return 0.0


def _check_descriptors(tests: Sequence[PoolTest], nodes: int) -> None:
    most = max(nodes * (FDS_PER_CONN * test.pool.pool_size + test.subscribers) for test in tests)
    limit = raise_fd_limit()
    if limit != resource.RLIM_INFINITY and most + FDS_BESIDES > limit:
        raise EnvironmentFailure(
            f"these tests need about {most + FDS_BESIDES} file descriptors, and the limit is {limit} (ulimit -Hn)"
        )


class _Session:
    """The tests of one command against one fleet."""

    def __init__(
        self, tests: Sequence[PoolTest], limit_ms: float, stopped: Interrupts, shown: PoolProgress, quiet: bool
    ) -> None:
        self.results: list[PoolTestResult] = []
        self._tests = tests
        self._limit_ns = round(limit_ms * NS_PER_MS)
        self._stopped = stopped
        self._shown = shown
        self._quiet = quiet

    def carry_out(self, rt: ThreadsRuntime, addresses: Sequence[Address], password: str | None) -> None:
        """Run all. Raises PoolRunError, Stopped."""
        run = PoolRun(
            rt, addresses, self._tests, password, self._stopped, self._shown.watch, self._limit_ns, self._tell
        )
        run.carry_out()

    def _tell(self, result: PoolTestResult) -> None:
        self.results.append(result)
        if not self._quiet:
            print_pool_test(output(), result)


def _exit_code(results: Sequence[PoolTestResult], expect: str | None) -> int:
    level = LEVELS.index(worst([result.verdict for result in results]))
    return int(level >= LEVELS.index(BROKEN) if expect is None else level > LEVELS.index(expect))


@click.command()
@click.argument("mode", type=click.Choice(MODES), required=False)
@click.option("--addrs", metavar="HOST:PORT,...", help="Servers that are there: nodes of a cluster, or single ones.")
@click.option(
    "--shards", metavar="URL", help=f"Servers to start: embedded:N, redis:N, cluster:N (default: {EMBEDDED})."
)
@click.option(
    "--goroutines-scale",
    "scale",
    type=click.FloatRange(0.01, MAX_SCALE),
    default=1.0,
    show_default=True,
    help="So many times the tasks of each test.",
)
@click.option(
    "--commands",
    type=click.IntRange(0),
    default=MOST_COMMANDS,
    show_default=True,
    help="Commands per test at most, as long as each task has an operation; 0: as many as were described.",
)
@click.option(
    "--service-time", "service_ms", type=DurationMs(), help="How long an embedded shard takes to answer (default: 2ms)."
)
@click.option(
    "--time-limit",
    "limit_ms",
    type=DurationMs(),
    default=f"{TIME_LIMIT_NS // NS_PER_MS}ms",
    help="Of one test (default: 60s).",
)
@click.option(
    "--expect", type=click.Choice((GOOD, FAIR, WARNING)), help="Exit with 0 only if every verdict is at least so good."
)
@click.option("--live", is_flag=True, help="Show the states of all connections while it runs.")
@click.option(
    "--json", "json_path", metavar="FILE", help="Write the results as JSON; - for stdout, which then has nothing else."
)
def pool(mode: str | None, addrs: str | None, shards: str | None, scale: float, commands: int, **given: Any) -> None:
    """Run the tests of a mode on a cluster client's connection pools, and judge each.

    basic: plain load. advanced: contention, cycles, pipelines, publications. detect: herd, bursts, churn, races.
    """
    spec = _spec(addrs, shards)
    service_ms = _service_ms(given["service_ms"], spec)
    if given["limit_ms"] <= 0:
        raise click.UsageError("--time-limit: more than 0")
    if mode is None:
        raise click.UsageError(f"which mode? One of {', '.join(MODES)}")
    try:
        tests = [test.scaled(scale, commands) for test in mode_tests(mode)]
    except ValueError as err:  # not a number, which is in no range
        raise click.UsageError(f"--goroutines-scale: {err}") from None
    json_path = given["json_path"]
    check_files((json_path,))
    _check_descriptors(tests, spec.count)
    aborted = False
    with Interrupts() as interrupted, PoolProgress(given["live"]) as shown:
        session = _Session(tests, given["limit_ms"], interrupted, shown, json_path == "-")
        rt = ThreadsRuntime(seed=1)
        try:
            faults = FaultPlan(delay_ms=service_ms) if service_ms else NO_FAULTS
            with ShardFleet.start(rt, spec, faults) as fleet:
                session.carry_out(rt, fleet.addresses, fleet.password)
        except (ShardError, PoolRunError, OSError) as err:
            raise EnvironmentFailure(str(err)) from None
        except Stopped:
            aborted = True
    if json_path != "-" and session.results:
        print_pool_summary(output(), session.results, not aborted)
    if json_path is not None:
        servers = {"shards": str(spec), "service_ms": service_ms}
        write(json_path, json.dumps(to_json(session.results, servers, describe_machine()), indent=2) + "\n")
    if aborted:
        click.echo("Aborted!", err=True)
        sys.exit(ABORTED)
    sys.exit(_exit_code(session.results, given["expect"]))
