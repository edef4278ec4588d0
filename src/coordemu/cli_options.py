"""The options that commands share, and their way into a scenario, a policy and a search.

Role: one decorator for each group, and one function that turns what click collected into checked values. A scenario in
the simulator takes some of the options of one on real threads, and those of a search. Every complaint is one line
(click.UsageError, exit code 2) or an environment's (`EnvironmentFailure`, exit code 3).

Thread: the command line's. Upstream: none. Left out: the commands themselves (`coordemu.cli`).
"""

from __future__ import annotations

import os
import re
import resource
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from coordemu.coord.history import HISTORICAL_FAULTS, UnknownFault
from coordemu.coord.resize_policy import (
    ADMISSION_MODES,
    MAIN_MODES,
    OVERLAP_MODES,
    REDUCE_MODES,
    ResizePolicy,
    get_policy,
)
from coordemu.coord.shrink_plan import AT_DEADLINE, DRAIN_MODES, STAY_MODES, STOP_MODES
from coordemu.explore.jobs import MAX_JOBS
from coordemu.explore.order_search import DEFAULT_ORDERS, DFS, DPOR, OrderSearch
from coordemu.explore.portfolio import PORTFOLIO, SYSTEMATIC, check_strategy
from coordemu.lab.backfill_sim import BackfillSubject
from coordemu.lab.duration import parse_duration
from coordemu.lab.order_run import CoordinatorSubject
from coordemu.lab.order_scenario import OrderScenario, get_order_scenario
from coordemu.lab.recipe_subject import RecipeSubject
from coordemu.lab.scenario import Scenario, ScenarioError, get_scenario, parse_plan
from coordemu.lab.subjects import recipe_family, recipe_for
from coordemu.lab.thpool_subject import THPOOL_SCENARIOS, ThpoolSubject, get_thpool_scenario
from coordemu.runtime.base import NS_PER_MS
from coordemu.runtime.threads import ThreadsRuntime
from coordemu.shards.fd_limit import raise_fd_limit
from coordemu.shards.shard_errors import ShardError
from coordemu.shards.shard_url import check_reachable, parse_shard_url

F = TypeVar("F", bound=Callable[..., Any])
REACH_TIMEOUT_MS = 1500
# What makes a subject again in a worker.
FACTORY = "coordemu.lab.subjects:subject_from"


class EnvironmentFailure(click.ClickException):
    """The machine does not allow it: no server, port taken, file not writable."""

    exit_code = 3


class DurationMs(click.ParamType[float]):
    """A duration such as 20ms, given on as a number of milliseconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Milliseconds; fails with one line."""
        if isinstance(value, (int, float)):
            return float(value)
        try:
            return parse_duration(value) / NS_PER_MS
        except ValueError as err:
            self.fail(str(err), param, ctx)


# Those that an order in the simulator knows, too.
_ORDER_OPTIONS = (
    click.option("--workers", metavar="PLAN", help="Sizes in turn, for example 12:0 or 4:9:2."),
    click.option("--clients", type=int, help="Query clients, one connection each."),
    click.option("--latency", metavar="T", help="Service time of a query: 20ms, 10ms..30ms, exp:20ms."),
    click.option(
        "--work", "work_ms", type=DurationMs(), help="What a query works after its replies, without the module lock."
    ),
    click.option(
        "--load-docs",
        "lock_share",
        type=float,
        metavar="SHARE",
        help="Share of queries that then take the module lock.",
    ),
    click.option("--load-time", "load_ms", type=DurationMs(), help="How long they hold it."),
    click.option(
        "--chaos",
        metavar="A,B,...",
        help="Faults that may strike at any step: delay, reset, half-open, silence, kill (see docs/simulator.md).",
    ),
    click.option("--conn-per-shard", type=int, help="CONN_PER_SHARD (0: WORKERS + 1)."),
    click.option("--io-threads", type=int, help="I/O threads, 1 to 256."),
    click.option("--resp", "protocol", type=click.IntRange(2, 3), help="RESP version towards the shards."),
)
_SCENARIO_OPTIONS = (
    *_ORDER_OPTIONS,
    click.option("--in-flight", type=int, help="How many queries may be under way at once (0: one per client)."),
    click.option(
        "--open-time", "open_ms", type=DurationMs(), help="How long each query holds the module lock at its start."
    ),
    click.option(
        "--shards", metavar="URL", help="embedded:3, redis://[:pw@]h:p[,h:p...], unix:///path, cluster://h:p."
    ),
    click.option("--faults", metavar="PLAN", help="Faults of embedded shards, for example delay=20ms,jitter=5ms."),
    click.option("--warm", "warm_ms", type=DurationMs(), help="Load before the first CONFIG SET."),
    click.option("--pause", "pause_ms", type=DurationMs(), help="Between two CONFIG SETs of a plan."),
    click.option("--after", "after_ms", type=DurationMs(), help="Load after the last CONFIG SET."),
    click.option("--watchdog", "watchdog_ms", type=DurationMs(), help="No PING answered for so long: unresponsive."),
    click.option("--kill-shard", type=int, help="Kill this shard while the last CONFIG SET is on its way (-1: none)."),
    click.option(
        "--restart-after", "restart_after_ms", type=DurationMs(), help="When the killed shard comes back (0: never)."
    ),
    click.option("--no-limits", is_flag=True, default=None, help="Allow sizes above upstream's limit of 16 workers."),
    click.option("--seed", type=int, help="Of every random draw."),
)
# What a search is asked for. `compare` has the same.
_SEARCH_OPTIONS = (
    click.option("--schedules", type=click.IntRange(1, 1_000_000_000), help="How many orders (default: 1000)."),
    click.option("--seconds", type=click.FloatRange(0, min_open=True), help="As many orders as fit in this time."),
    click.option(
        "--exhaustive", is_flag=True, help="Every order that differs, each once; --schedules or --seconds end it early."
    ),
    click.option("--strategy", help="Who chooses the orders (default: portfolio; exhaustive: dpor)."),
    click.option(
        "--preemptions",
        type=click.IntRange(0, 100),
        metavar="N",
        help="Every order in which at most N times a task that could go on is interrupted (exhaustive, dfs).",
    ),
    click.option("--jobs", type=click.IntRange(1, MAX_JOBS), default=1, help="Share the orders between processes."),
    click.option("--dask", metavar="ADDRESS", help="Share them on a dask cluster, for example tcp://host:8786."),
    click.option(
        "--fault",
        "faults_on",
        multiple=True,
        metavar="NAME",
        help=f"Switch a historical fault on: {', '.join(HISTORICAL_FAULTS)}; or, of a recipe (pool-..., "
        "resilience-...), one of those that `coordemu scenarios` lists.",
    ),
    click.option("--save", metavar="DIR", help="Write a schedule file for each failure that differs."),
    click.option("--no-shrink", is_flag=True, help="Show failing orders as they were found."),
)
SEARCH_FIELDS = (
    "schedules", "seconds", "exhaustive", "strategy", "preemptions", "jobs", "dask", "faults_on", "save", "no_shrink",
)  # fmt: skip
_POLICY_OPTIONS = (
    click.option(
        "--stop", type=click.Choice(STOP_MODES), help="What becomes of replies in flight on a stopped connection."
    ),
    click.option("--drain", type=click.Choice(DRAIN_MODES), help="How they are waited for before that."),
    click.option("--reduce", type=click.Choice(REDUCE_MODES), help="How the threads are removed."),
    click.option("--admission", type=click.Choice(ADMISSION_MODES), help="What happens to new queries meanwhile."),
    click.option("--order", metavar="A,B,...", help="The steps in order."),
    click.option("--drain-timeout", "drain_timeout_ms", type=DurationMs(), help="The drain's deadline."),
    click.option("--drain-poll", "drain_poll_ms", type=DurationMs(), help="How often a polling drain looks."),
    click.option("--at-deadline", type=click.Choice(AT_DEADLINE), help="What then."),
    click.option("--stay", type=click.Choice(STAY_MODES), help="Which connections of a node stay."),
    click.option("--overlap", type=click.Choice(OVERLAP_MODES), help="A second CONFIG SET while one is under way."),
    click.option("--main-mode", type=click.Choice(MAIN_MODES), help="What main does with a query of its own."),
    click.option("--trigger-delay", "trigger_delay_ms", type=DurationMs(), help="Put the shrink off by so much."),
)
SCENARIO_FIELDS = (
    "clients", "in_flight", "latency", "work_ms", "lock_share", "load_ms", "open_ms", "shards", "faults",
    "conn_per_shard", "io_threads", "protocol", "warm_ms", "pause_ms", "after_ms", "watchdog_ms", "kill_shard",
    "restart_after_ms", "no_limits", "seed",
)  # fmt: skip
POLICY_FIELDS = (
    "stop", "drain", "reduce", "admission", "at_deadline", "stay", "overlap", "main_mode", "drain_timeout_ms",
    "drain_poll_ms", "trigger_delay_ms",
)  # fmt: skip
ORDER_FIELDS = (
    "clients", "latency", "work_ms", "lock_share", "load_ms", "conn_per_shard", "io_threads", "protocol",
)  # fmt: skip
# Fields whose option is called otherwise.
_FLAGS = {"lock_share": "load-docs", "load_ms": "load-time", "open_ms": "open-time", "protocol": "resp"}
_WHOLE_MS = (
    "warm_ms",
    "after_ms",
    "watchdog_ms",
    "restart_after_ms",
    "drain_timeout_ms",
    "drain_poll_ms",
    "trigger_delay_ms",
)


def _adding(options: Sequence[Callable[[Any], Any]]) -> Callable[[F], F]:
    """A decorator that adds options, in their order in the help."""

    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


# Those that change a scenario, a policy's fields, a scenario of the simulator, and those of a search through orders.
scenario_options = _adding(_SCENARIO_OPTIONS)
policy_options = _adding(_POLICY_OPTIONS)
order_options = _adding(_ORDER_OPTIONS)
search_options = _adding(_SEARCH_OPTIONS)


def _changes(given: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    picked = {name: given[name] for name in names if given.get(name) is not None}
    return {name: round(value) if name in _WHOLE_MS else value for name, value in picked.items()}


def make_scenario(name: str, given: dict[str, Any]) -> Scenario:
    """The named scenario with the options applied. Raises click.UsageError."""
    try:
        plan = parse_plan(given["workers"]) if given.get("workers") else None
        return get_scenario(name).override(workers=plan, **_changes(given, SCENARIO_FIELDS))
    except ScenarioError as err:
        raise click.UsageError(_in_options_words(err)) from None


def make_order_scenario(name: str, given: dict[str, Any]) -> OrderScenario:
    """The named scenario of the simulator with the options applied. Raises click.UsageError, also for an option that
    only a run on real threads knows."""
    for field in SCENARIO_FIELDS:
        if field not in (*ORDER_FIELDS, "seed") and given.get(field) is not None:
            raise click.UsageError(f"{_flag(field)} has no meaning in the simulator")
    try:
        plan = parse_plan(given["workers"]) if given.get("workers") else None
        chaos = tuple(kind.strip() for kind in given["chaos"].split(",") if kind) if given.get("chaos") else None
        return get_order_scenario(name).override(workers=plan, chaos=chaos, **_changes(given, ORDER_FIELDS))
    except ScenarioError as err:
        raise click.UsageError(_in_options_words(err)) from None


def make_subject(
    name: str, policy: ResizePolicy, given: dict[str, Any]
) -> CoordinatorSubject | ThpoolSubject | RecipeSubject | BackfillSubject:
    """The named scenario of the simulator under a policy, with the options and faults applied; of the thread pool
    alone the policy's way to reduce is all that counts, of a recipe nothing. Raises click.UsageError."""
    try:
        family = recipe_family(name)
        if family is not None:
            for field in (*SCENARIO_FIELDS, *ORDER_FIELDS, *POLICY_FIELDS, "workers", "order", "chaos"):
                if field != "seed" and given.get(field) is not None:
                    raise click.UsageError(f"{_flag(field)} has no meaning for a recipe of {family.BOOK.title}")
            scenario = family.BOOK.scenario(name)
            try:
                return family.named(scenario.name, tuple(given.get("faults_on") or ()))
            except ValueError as err:
                raise click.UsageError(f"--fault: {err}") from None
        for fault in given.get("faults_on") or ():
            recipe, of = recipe_for(fault)
            if recipe:
                raise click.UsageError(f"--fault: {fault!r} is of {of}; {recipe} shows it")
        if name in THPOOL_SCENARIOS:
            return ThpoolSubject(get_thpool_scenario(name), policy.reduce, tuple(given.get("faults_on") or ()))
        return CoordinatorSubject(make_order_scenario(name, given), policy, given.get("faults_on") or ())
    except UnknownFault as err:
        raise click.UsageError(f"--fault: {err}") from None
    except ValueError as err:
        raise click.UsageError(str(err)) from None


def make_search(given: dict[str, Any], seed: int, only: int | None = None) -> OrderSearch:
    """The search that the options ask for. only: play this order alone. Raises click.UsageError."""
    strategy, preemptions = given["strategy"], given["preemptions"]
    if preemptions is not None and strategy not in (None, DFS):
        raise click.UsageError(f"--preemptions goes with the strategy {DFS}, not {strategy}")
    exhaustive = given["exhaustive"] or preemptions is not None
    strategy = DFS if preemptions is not None else strategy
    try:
        check_strategy(strategy or PORTFOLIO)
    except ValueError as err:
        raise click.UsageError(f"--strategy: {err}") from None
    if exhaustive and strategy not in (None, *SYSTEMATIC):
        raise click.UsageError(f"--exhaustive goes with the strategies {' and '.join(SYSTEMATIC)}, not {strategy}")
    for flag, used in (("--jobs", given["jobs"] > 1), ("--dask", given["dask"]), ("--only", only is not None)):
        if used and (exhaustive or strategy in SYSTEMATIC):
            raise click.UsageError(f"{flag}: each order of an exhaustive search depends on those before it")
    if given["jobs"] > 1 and given["dask"]:
        raise click.UsageError("--jobs is for this machine; a cluster has the workers that it has")
    unbounded = exhaustive or given["seconds"] is not None
    return OrderSearch(
        FACTORY,
        strategy or (DPOR if exhaustive else PORTFOLIO),
        seed,
        given["schedules"] or (None if unbounded else DEFAULT_ORDERS),
        given["seconds"],
        exhaustive,
        given["jobs"],
        given["dask"] or "",
        only,
        preemptions,
    )


def make_policy(name: str, given: dict[str, Any]) -> ResizePolicy:
    """The named policy with the options applied. Raises click.UsageError."""
    order = tuple(step.strip() for step in given["order"].split(",")) if given.get("order") is not None else None
    try:
        return get_policy(name).override(order=order, **_changes(given, POLICY_FIELDS))
    except ValueError as err:
        raise click.UsageError(_in_options_words(err)) from None


def _in_options_words(err: ValueError) -> str:
    """What a scenario or a policy says of a field, said of the option that sets it."""
    text = str(err)
    match = re.match(r"(\w+):? (.*)", text)
    if match is None or match[1] not in (*SCENARIO_FIELDS, *POLICY_FIELDS, "order"):
        return text
    return f"{_flag(match[1])}: {match[2]}{' (in ms)' if match[1].endswith('_ms') else ''}"


def _flag(field: str) -> str:
    """The option that sets a field."""
    return f"--{_FLAGS.get(field, field.removesuffix('_ms').replace('_', '-'))}"


def check_environment(scenario: Scenario, files: Sequence[str | None]) -> None:
    """Shards that can be reached, files that can be written and descriptors enough, before anything runs.

    files: where results go; None and "-" (stdout) are no files. Raises click.UsageError when two of them are the same,
    EnvironmentFailure with one line for the rest; a shard that can't be reached is said within two seconds.
    """
    check_files(files)
    try:
        spec = check_reachable(ThreadsRuntime(), parse_shard_url(scenario.shards), REACH_TIMEOUT_MS)
    except ShardError as err:
        raise EnvironmentFailure(str(err)) from None
    _check_descriptors(scenario, spec.count)


def check_files(files: Sequence[str | None]) -> None:
    """The first part of `check_environment`."""
    targets = [path for path in files if path is not None]
    if len(set(targets)) < len(targets):
        raise click.UsageError("--json and --trace can't go to the same place")
    for path in targets:
        if path != "-":
            _check_writable(path)


def check_directory(path: str) -> None:
    """Make a directory for results unless there is one. Raises EnvironmentFailure when nothing can be written there."""
    try:
        os.makedirs(path, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as err:
        raise EnvironmentFailure(f"can't write in {path!r}: {err.strerror}") from None


def write(path: str, text: str) -> None:
    """Results into a file; "-": to stdout. Raises EnvironmentFailure."""
    if path == "-":
        sys.stdout.write(text)
        return
    try:
        Path(path).write_text(text)
    except OSError as err:
        raise EnvironmentFailure(f"can't write {path!r}: {err.strerror}") from None


def _check_writable(path: str) -> None:
    exists = os.path.lexists(path)
    if exists and not os.path.isfile(path) and not os.path.isdir(path):
        return  # a pipe or a device: to open and close it would tell its reader that this was all
    try:
        with open(path, "ab"):
            pass
        if not exists:
            os.unlink(path)
    except OSError as err:
        raise EnvironmentFailure(f"can't write {path!r}: {err.strerror}") from None


def _check_descriptors(scenario: Scenario, shards: int) -> None:
    per_shard = scenario.conn_per_shard or max(scenario.workers) + 1
    per_io_thread = -(-per_shard // scenario.io_threads)
    loops = scenario.io_threads + 5
    needed = shards * per_io_thread * scenario.io_threads + 2 * scenario.clients + 3 * loops + 50
    limit = raise_fd_limit()
    if limit != resource.RLIM_INFINITY and needed > limit:
        raise EnvironmentFailure(
            f"this run needs about {needed} file descriptors, and the limit is {limit} (ulimit -Hn)"
        )
