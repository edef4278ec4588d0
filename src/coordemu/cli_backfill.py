"""The backfill's command: ``coordemu backfill run | compare``.

Role: options in, reports out, as `coordemu.cli`. `run` carries a load out under one setup, `compare` under before and
after, and unless --quick under each measure alone. Ctrl-C ends the run under way, names what is left of it, keeps the
runs before it, and exits with 130; a second one ends everything.

Times on the command line are the plan's: at speed 10 (the default on real threads) an outage of 20 s takes 2. With
--runtime sim the speed is 1, and time is virtual.

Exit codes: 0 every message is accounted for, and nothing was left that should not be (of a comparison: in the run
"after"), 1 not, 2 usage, 3 environment.

Thread: the main thread; blocks for the length of the runs. Upstream: none. Left out: the runs
(`coordemu.lab.backfill_run`).
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import click

from coordemu.cli_config import settings_from
from coordemu.cli_explore import ABORTED, Interrupts
from coordemu.cli_options import DurationMs, EnvironmentFailure, check_files, write
from coordemu.lab.backfill_compare import (
    BOTH_ONLY,
    EACH_ALONE,
    EACH_MISSING,
    BackfillComparison,
    setups_to_compare,
    window_ms,
)
from coordemu.lab.backfill_measures import BackfillSetup
from coordemu.lab.backfill_plan import MAX_CONCURRENCY, MAX_MESSAGES, BackfillPlan
from coordemu.lab.backfill_result import ENDED, INTERRUPTED, BackfillResult
from coordemu.lab.backfill_run import BackfillRun, BackfillRunError
from coordemu.lab.backfill_servers import BackfillServers
from coordemu.lab.backfill_sim import run_in_simulator
from coordemu.lab.backfill_watch import BackfillLook
from coordemu.lab.hub_plan import Outage, Span
from coordemu.lab.machine import describe_machine
from coordemu.lab.metrics_page import COUNTER, MetricsPage, Sample
from coordemu.report.backfill_progress import BackfillProgress
from coordemu.report.backfill_report import print_backfill, print_backfill_comparison
from coordemu.report.console import output
from coordemu.resilience.profiles import AFTER, BEFORE, PROFILES
from coordemu.runtime.base import NS_PER_MS, Address
from coordemu.runtime.threads import ThreadsRuntime
from coordemu.shards.fd_limit import raise_fd_limit
from coordemu.shards.shard_errors import ShardError, ShardUrlError
from coordemu.shards.shard_fleet import ShardFleet
from coordemu.shards.shard_url import ShardSpec, parse_shard_url

F = TypeVar("F", bound=Callable[..., Any])
EMBEDDED = "embedded:1"
THREADS, SIM = "threads", "sim"
SPEED = 10.0
RUN_MESSAGES, COMPARE_MESSAGES, QUICK_MESSAGES = 400, 100, 200
# Of a connection: its socket, and its loop's poller and wake-up; of a Hub's, both ends are here.
FDS_PER_CONN = 3
FDS_BESIDES = 200
MOST_SPEED = 1_000.0
# One run need not end with the others: it may take its time.
PATIENCE_MS = 300_000.0
SERVED_SHARE = 0.9


def _adding(*options: Callable[[Any], Any]) -> Callable[[F], F]:
    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


_load_options = _adding(
    click.option("--messages", type=click.IntRange(1, MAX_MESSAGES), help="How many there are."),
    click.option(
        "--concurrency",
        type=click.IntRange(1, MAX_CONCURRENCY),
        default=250,
        show_default=True,
        help="Worker tasks; all share one pool of connections per node.",
    ),
    click.option(
        "--rate",
        "rate_per_s",
        type=click.FloatRange(0, 1_000_000),
        help="Messages put a second; 0: as fast as can be (default: nine tenths of what the Hub answers).",
    ),
    click.option("--hub-rate", type=click.IntRange(1, 1_000_000), help="Requests a second that the Hub answers, and "
                 "that a setup with a limiter asks of it (default: 10)."),
    click.option("--hub-latency", "hub_latency_ms", type=DurationMs(), help="How long it takes (default: 20ms)."),
    click.option("--poison", type=click.FloatRange(0, 1), help="Share of messages that can never be done "
                 "(default: 0.01)."),
    click.option("--outage", "outages", multiple=True, metavar="T@T", help="The Hub is down: 20s@10s, for 20 s from "
                 "10 s on; 20s@10s/503 or /silence for another way to be down. More than once."),
    click.option("--kill-redis", "kills", multiple=True, metavar="T@T", help="Redis is killed and comes back: 5s@3s. "
                 "Servers of ours only. More than once."),
    click.option("--addrs", metavar="HOST:PORT,...", help="Servers that are there: nodes of a cluster, or "
                 "single ones."),
    click.option("--shards", metavar="URL", help=f"Servers to start: embedded:N, redis:N, cluster:N "
                 f"(default: {EMBEDDED})."),
    click.option("--runtime", type=click.Choice([THREADS, SIM]), default=THREADS, help="What it all runs on."),
    click.option("--speed", type=click.FloatRange(0.01, MOST_SPEED), help=f"So many of the plan's seconds in one of "
                 f"the machine's (default: {SPEED:g}, in the simulator 1)."),
    click.option("--seed", type=click.IntRange(0, 2**31), default=1, help="Of every random draw."),
    click.option("--time-limit", "limit_ms", type=DurationMs(), help="Of one run, in the plan's time (default: what it "
                 "should take, and some more)."),
    click.option("--metrics", metavar="[HOST]:PORT", help="An OpenMetrics page while it runs, for example :9109."),
    click.option("--json", "json_path", metavar="FILE", help="Write the results as JSON; - for stdout, which then has "
                 "nothing else."),
)  # fmt: skip


@click.group()
def backfill() -> None:
    """Run the backfill worker on its queues, and see what becomes of every message."""


@backfill.command()
@click.option("--profile", metavar="NAME", help=f"How the workers are set up: {', '.join(PROFILES)} (default: after).")
@click.option("--config", "config_path", metavar="FILE", help="A TOML file of settings.")
@_load_options
def run(profile: str | None, config_path: str | None, **given: Any) -> None:
    """One load under one setup."""
    if profile is None and config_path is None:
        profile = AFTER
    setup = BackfillSetup.of(settings_from(profile, config_path))
    asked = _Asked.read(given, RUN_MESSAGES, PATIENCE_MS)
    session = _Session(asked, [asked.fit(setup)])
    session.carry_out()
    for result in session.results if not asked.quiet else ():
        print_backfill(output(), result)
    _finish(session, {"results": [result.to_json() for result in session.results]})


@backfill.command()
@click.option("--profile", metavar="NAME", help=f"What stands for after: {', '.join(PROFILES)} (default: after).")
@click.option("--config", "config_path", metavar="FILE", help="A TOML file of settings, for after.")
@click.option("--quick", is_flag=True, help="Before and after only, without each measure alone.")
@click.option("--without", is_flag=True, help="After without each measure, instead of each measure alone.")
@_load_options
def compare(profile: str | None, config_path: str | None, quick: bool, without: bool, **given: Any) -> None:
    """The same load before and after, and with each measure alone."""
    if quick and without:
        raise click.UsageError("--quick leaves out what --without asks for: only one of them")
    if profile is None and config_path is None:
        profile = AFTER
    asked = _Asked.read(given, QUICK_MESSAGES if quick else COMPARE_MESSAGES)
    before = asked.fit(BackfillSetup.of(settings_from(BEFORE, None)))
    after = asked.fit(BackfillSetup.of(settings_from(profile, config_path)))
    more = BOTH_ONLY if quick else EACH_MISSING if without else EACH_ALONE
    session = _Session(asked, setups_to_compare(before, after, more))
    session.carry_out()
    comparison = BackfillComparison(tuple(session.results))
    if not asked.quiet:
        print_backfill_comparison(output(), comparison, not session.aborted)
    _finish(session, comparison.to_json())


# -- what was asked for


@dataclass(frozen=True, slots=True)
class _Asked:
    """The options, read and checked."""

    plan: BackfillPlan
    spec: ShardSpec
    runtime: str
    hub_rate: int | None
    metrics: Address | None
    json_path: str | None

    @classmethod
    def read(cls, given: dict[str, Any], messages: int, patience_ms: float = 0.0) -> _Asked:
        """messages: how many without --messages.  patience_ms: what is added to the time limit without --time-limit.
        Raises click.UsageError, EnvironmentFailure."""
        check_files((given["json_path"],))
        in_sim = given["runtime"] == SIM
        spec = _spec(given["addrs"], given["shards"])
        if in_sim and (given["addrs"] is not None or spec.kind != "embedded"):
            raise click.UsageError("--runtime sim has servers of its own: --shards embedded:N, and no --addrs")
        if given["kills"] and not spec.own:
            raise click.UsageError("--kill-redis: servers that are there are not ours to kill")
        hub_rate = given["hub_rate"]
        plan = BackfillPlan(speed=given["speed"] or (1.0 if in_sim else SPEED))
        outages = tuple(_parsed("--outage", Outage.parse, text) for text in given["outages"])
        latency_ms = given["hub_latency_ms"]
        rate_per_s = given["rate_per_s"]
        try:
            plan = plan.with_hub(None if latency_ms is None else round(latency_ms * NS_PER_MS), outages).override(
                messages=given["messages"] or messages,
                concurrency=given["concurrency"],
                rate_per_s=(hub_rate * SERVED_SHARE if hub_rate and rate_per_s is None else rate_per_s),
                hub_requests=hub_rate,
                kills=tuple(_parsed("--kill-redis", Span.parse, text) for text in given["kills"]),
                poison=given["poison"],
                seed=given["seed"],
                limit_ms=given["limit_ms"],
            )
        except ValueError as err:
            raise click.UsageError(str(err)) from None
        if not plan.limit_ms:
            plan = replace(plan, limit_ms=_limit_ms(plan) + patience_ms)
        metrics = _address(given["metrics"]) if given["metrics"] is not None else None
        return cls(plan, spec, given["runtime"], hub_rate, metrics, given["json_path"])

    @property
    def quiet(self) -> bool:
        """Whether stdout is for the JSON alone."""
        return self.json_path == "-"

    def fit(self, setup: BackfillSetup) -> BackfillSetup:
        """A limiter that is on asks for what this Hub answers."""
        hub = setup.settings.hub
        if self.hub_rate is None or not hub.requests_per_s:
            return setup
        return replace(
            setup, settings=replace(setup.settings, hub=replace(hub, requests_per_s=self.hub_rate))
        )  # fmt: skip


def _limit_ms(plan: BackfillPlan) -> float:
    """`window_ms`, and what the Hub needs when messages come faster than it answers."""
    served_ms = plan.messages * plan.hub_window_ms / plan.hub_requests if plan.hub_requests else 0.0
    return max(window_ms(plan), window_ms(replace(plan, rate_per_s=0.0)) + 1.5 * served_ms)


def _spec(addrs: str | None, shards: str | None) -> ShardSpec:
    if addrs is not None and shards is not None:
        raise click.UsageError("--addrs names servers that are there, --shards those to start: only one of them")
    text = shards if shards is not None else EMBEDDED
    if addrs is not None:
        text = addrs if "://" in addrs else f"redis://{addrs}"
    option = "--shards" if addrs is None else "--addrs"
    try:
        spec = parse_shard_url(text)
    except ShardUrlError as err:
        raise click.UsageError(f"{option}: {str(err).removeprefix('shards: ')}") from None
    if addrs is not None and spec.own:
        raise click.UsageError(f"--addrs: {addrs!r} names no server; write host:port[,host:port...]")
    return spec


def _parsed(option: str, parse: Callable[[str], Any], text: str) -> Any:
    try:
        return parse(text)
    except ValueError as err:
        raise click.UsageError(f"{option}: {str(err).removeprefix('hub plan: ')}") from None


def _address(text: str) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise click.UsageError(f"--metrics: {text!r} is no [HOST]:PORT, as in :9109")
    return Address(host or "127.0.0.1", int(port))


# -- running


class _Session:
    """The runs of one command, one after the other."""

    def __init__(self, asked: _Asked, setups: Sequence[BackfillSetup]) -> None:
        self.asked = asked
        self.results: list[BackfillResult] = []
        self.aborted = False
        self._setups = setups
        self._label = ""
        self._look: BackfillLook | None = None

    def carry_out(self) -> None:
        """All of them. Raises EnvironmentFailure. Blocks."""
        asked, rt = self.asked, ThreadsRuntime(seed=self.asked.plan.seed)
        _check_descriptors(asked, self._setups)
        try:
            with ExitStack() as stack:
                interrupted = stack.enter_context(Interrupts())
                shown = stack.enter_context(BackfillProgress())
                if asked.metrics is not None:
                    page = stack.enter_context(MetricsPage(rt, asked.metrics, self._samples))
                    click.echo(f"metrics: {page.url}", err=True)
                fleet = stack.enter_context(ShardFleet.start(rt, asked.spec)) if asked.runtime == THREADS else None
                for number, setup in enumerate(self._setups, 1):
                    self._label = setup.name
                    shown.begin(f"{setup.name} ({number}/{len(self._setups)})", asked.plan.messages)
                    self.results.append(self._one(rt, fleet, setup, interrupted, shown))
                    if interrupted():
                        self.aborted = True
                        break
        except (ShardError, BackfillRunError, OSError) as err:
            raise EnvironmentFailure(str(err)) from None

    def _one(
        self,
        rt: ThreadsRuntime,
        fleet: BackfillServers | None,
        setup: BackfillSetup,
        interrupted: Interrupts,
        shown: BackfillProgress,
    ) -> BackfillResult:
        def watch(look: BackfillLook, plan: BackfillPlan) -> None:
            self._look = look
            shown.watch(look, plan)

        plan = self.asked.plan
        if fleet is None:
            return run_in_simulator(plan, setup, self.asked.spec.count, stopped=interrupted, watch=watch)
        return BackfillRun(rt, fleet, plan, setup, str(self.asked.spec), interrupted, watch).carry_out()

    def _samples(self) -> Iterable[Sample]:
        """Of the newest look. Thread: the page's."""
        look = self._look
        if look is None:
            return ()
        labels = (("setup", self._label),)
        counts = (("operations", look.operations), ("timeouts", look.timeouts), ("errors", look.errors),
                  ("messages_put", look.put))  # fmt: skip
        gauges = (("pool_pressure_ratio", look.pressure), ("pool_connections_held", look.held),
                  ("pool_connections", look.size), ("pool_callers_waiting", look.waiting),
                  ("messages_in_hand", look.in_hand), ("messages_done", look.done), ("messages_dead", look.dead),
                  ("messages_lost", look.lost))  # fmt: skip
        found = [Sample(f"backfill_{name}", float(value), labels=labels) for name, value in gauges]
        found += [Sample(f"backfill_{name}", float(value), COUNTER, labels=labels) for name, value in counts]
        if look.breaker:
            found.append(Sample("backfill_breaker_open", float(look.breaker != "CLOSED"), labels=labels))
        return found


def _check_descriptors(asked: _Asked, setups: Sequence[BackfillSetup]) -> None:
    if asked.runtime == SIM:
        return
    most = max(
        asked.spec.count * FDS_PER_CONN * setup.settings.redis.pool_size
        + (FDS_PER_CONN + 1) * (setup.settings.hub.connections or asked.plan.concurrency)
        for setup in setups
    )
    limit = raise_fd_limit()
    if limit != resource.RLIM_INFINITY and most + FDS_BESIDES > limit:
        raise EnvironmentFailure(
            f"this needs about {most + FDS_BESIDES} file descriptors, and the limit is {limit} (ulimit -Hn)"
        )


def _good(session: _Session) -> bool:
    """Conserved everywhere; and whoever promises that work survives has left nothing."""
    for result in session.results:
        if not result.account.conserved or result.crashes:
            return False
    # Of a comparison the second one is after; a run has one alone.
    judged = session.results[1] if len(session.results) > 1 else session.results[0]
    return judged.how == ENDED or not judged.setup.survives or judged.how == INTERRUPTED


def _finish(session: _Session, data: dict[str, Any]) -> None:
    path = session.asked.json_path
    if path is not None:
        write(path, json.dumps({**data, "machine": describe_machine()}, indent=2) + "\n")
    if session.aborted:
        click.echo("Aborted!", err=True)
        sys.exit(ABORTED)
    sys.exit(int(not _good(session)))
