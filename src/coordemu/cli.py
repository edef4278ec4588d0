"""The command line: ``coordemu run | compare | chain | explore | replay | shrink | pool | backfill | config |
policies | scenarios | bench``.

Role: options in, reports out. Results go to stdout, progress and complaints to stderr; ``--json -`` prints JSON alone.
Exit codes: 0 the run's expectation holds, 1 it does not, 2 usage, 3 environment. A run hangs in a child process at
most, never here; what runs in the simulator ends by itself.

Thread: the main thread; blocks for the length of the runs. Upstream: none. Left out: the work, which is in
`coordemu.lab`, and the simulator's commands (`coordemu.cli_explore`).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from rich.markup import escape
from rich.table import Table

from coordemu import __version__
from coordemu.cli_backfill import backfill
from coordemu.cli_config import config
from coordemu.cli_explore import compare_orders, explore, replay, run_order, shrink
from coordemu.cli_options import (
    SEARCH_FIELDS,
    EnvironmentFailure,
    check_environment,
    check_files,
    make_policy,
    make_scenario,
    policy_options,
    scenario_options,
    search_options,
    write,
)
from coordemu.cli_pool import pool
from coordemu.coord.resize_policy import POLICIES, ResizePolicy
from coordemu.coord.shrink_plan import STOP_MODES
from coordemu.lab.child import RunError, run_in_child
from coordemu.lab.order_scenario import ORDER_SCENARIOS
from coordemu.lab.result import VERDICTS, Result
from coordemu.lab.scenario import SCENARIOS, Scenario
from coordemu.lab.subjects import RECIPE_FAMILIES, RecipeFamily
from coordemu.lab.thpool_subject import THPOOL_SCENARIOS
from coordemu.report.chain_report import print_chain
from coordemu.report.compare_report import print_comparison, refuted, verdict_shares
from coordemu.report.console import output, progress
from coordemu.report.run_report import print_runs

BEFORE_AND_AFTER = ("writeup-before", "writeup-fix")
GOOD_VERDICTS = ("healthy", "degraded", "refused")


class OneLineErrors(click.Group):
    """A group whose usage errors are one line, without click's two lines of usage before it."""

    def invoke(self, ctx: click.Context) -> Any:
        """As click's; an error that knows its context would print the usage first."""
        try:
            return super().invoke(ctx)
        except click.UsageError as err:
            err.ctx = None
            raise


@click.group(cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """An in-process laboratory of the RediSearch coordinator: resize pools under load, and see what happens.

    On real threads: run, compare, chain. In every order, in the simulator: explore, replay, shrink, and run and compare
    with --runtime sim.
    """


def _carry_out(scenario: Scenario, policy: ResizePolicy, label: str, runtime: str = "threads") -> Result:
    console = progress()
    if runtime == "sim":
        with console.status(escape(label)) if console.is_terminal else nullcontext():
            return run_order(scenario, policy)
    try:
        if not console.is_terminal:
            return run_in_child(scenario, policy)
        with console.status(escape(label)) as status:
            return run_in_child(scenario, policy, lambda line: status.update(escape(f"{label}: {line}")))
    except RunError as err:
        raise EnvironmentFailure(str(err)) from None


def _write_json(results: Sequence[Result], path: str | None) -> None:
    if path is None:
        return
    text = json.dumps({"results": [result.to_json() for result in results]}, indent=2) + "\n"
    write(path, text)


def _write_trace(results: Sequence[Result], path: str | None) -> None:
    if path is None:
        return
    lines = []
    for result in results:
        for step in result.to_json()["chain"]:
            lines.append(json.dumps({"policy": result.policy["name"], **step}) + "\n")
    write(path, "".join(lines))


def _expectation_holds(results: Sequence[Result], expect: str | None) -> bool:
    for result in results:
        if expect is not None:
            if result.verdict != expect:
                return False
        elif result.as_expected is False or (result.as_expected is None and result.verdict not in GOOD_VERDICTS):
            return False
    return True


@main.command()
@click.argument("scenario", default="mod-11658")
@click.option("--policy", help="A named policy; without it: before and after, as the write-ups have it.")
@click.option("--runtime", type=click.Choice(["threads", "sim"]), default="threads", help="What the layers run on.")
@click.option(
    "--repeat", type=click.IntRange(1, 10_000), default=1, help="Run so often and print the share of each verdict."
)
@click.option("--expect", type=click.Choice(VERDICTS), help="Exit with 0 only if every run has this verdict.")
@click.option(
    "--json", "json_path", metavar="FILE", help="Write the results as JSON; - for stdout, which then has nothing else."
)
@click.option(
    "--trace",
    "trace_path",
    metavar="FILE",
    help="Write the recorded call chain, one JSON object a line; - as for --json.",
)
@click.option("--stacks", is_flag=True, help="Of a run that hung, print each thread's stack too.")
@scenario_options
@policy_options
def run(scenario: str, policy: str | None, runtime: str, repeat: int, expect: str | None, **given: Any) -> None:
    """Run SCENARIO (default: mod-11658, before and after) and print timelines and verdicts."""
    chosen = make_scenario(scenario, given)
    policies = [make_policy(name, given) for name in ([policy] if policy else BEFORE_AND_AFTER)]
    files = (given["json_path"], given["trace_path"])
    if runtime == "sim":
        check_files(files)
    else:
        check_environment(chosen, files)
    groups = [
        [
            _carry_out(chosen.override(seed=chosen.seed + number), each, f"{each.name} {number + 1}/{repeat}", runtime)
            for number in range(repeat)
        ]
        for each in policies
    ]
    results = [result for group in groups for result in group]
    if "-" not in (given["json_path"], given["trace_path"]):
        if repeat == 1:
            print_runs(output(), results, show_stacks=given["stacks"])
        else:
            print_comparison(output(), groups)
            for group in groups:
                shares = ", ".join(f"{verdict} {share:.0%}" for verdict, share in verdict_shares(group).items())
                output().print(f"{escape(str(group[0].policy['name']))}: {shares} of {repeat} runs")
    _write_json(results, given["json_path"])
    _write_trace(results, given["trace_path"])
    sys.exit(0 if repeat > 1 and expect is None else int(not _expectation_holds(results, expect)))


@main.command()
@click.argument("scenario", default="mod-11658")
@click.option("--policies", "names", metavar="A,B,...", help="Which policies (default: all that have a name).")
@click.option("--stops", is_flag=True, help="Every policy with every stop mode.")
@click.option("--repeat", type=click.IntRange(1, 1000), default=1, help="Runs of each, with the share of each verdict.")
@click.option("--runtime", type=click.Choice(["threads", "sim"]), default="threads", help="What the layers run on.")
@click.option(
    "--json", "json_path", metavar="FILE", help="Write the results as JSON; - for stdout, which then has nothing else."
)
@search_options
@scenario_options
@policy_options
@click.pass_context
def compare(
    ctx: click.Context, /, scenario: str, names: str | None, stops: bool, repeat: int, runtime: str, **given: Any
) -> None:
    """Run SCENARIO under many policies and print one table.

    In the simulator: search many orders of each, as `explore` does.
    """
    chosen_names = [name.strip() for name in (names.split(",") if names else POLICIES)]
    named = [(make_policy(name, given), ["--policy", name]) for name in chosen_names]
    if stops:
        named = [
            (policy.override(stop=stop), [*words, "--stop", stop]) for policy, words in named for stop in STOP_MODES
        ]
    _check_meant(ctx, runtime)
    if runtime == "sim":
        compare_orders(ctx, scenario, named, given)
    policies = [policy for policy, _ in named]
    chosen = make_scenario(scenario, given)
    check_environment(chosen, (given["json_path"],))
    groups = []
    for number, policy in enumerate(policies, 1):
        label = f"{policy.name} ({number}/{len(policies)})"
        groups.append([_carry_out(chosen.override(seed=chosen.seed + index), policy, label) for index in range(repeat)])
        if not progress().is_terminal:
            progress().print(f"{label}: {', '.join(verdict_shares(groups[-1]))}", markup=False, soft_wrap=True)
    if given["json_path"] != "-":
        console = output()
        print_comparison(console, groups)
        for line in refuted(groups):
            console.print(f"refuted: {escape(line)}")
    _write_json([result for group in groups for result in group], given["json_path"])
    sys.exit(int(bool(refuted(groups))))


def _check_meant(ctx: click.Context, runtime: str) -> None:
    """Options of a comparison that only the other runtime has. Raises click.UsageError."""
    wrong = ("repeat",) if runtime == "sim" else SEARCH_FIELDS
    for param in ctx.command.params:
        if param.name in wrong and ctx.get_parameter_source(param.name) is ParameterSource.COMMANDLINE:
            where = "on real threads" if runtime == "sim" else "in the simulator"
            raise click.UsageError(f"{param.opts[0]} has a meaning {where} only (--runtime)")


@main.command()
@click.option("--policy", default="upstream-7410", show_default=True, help="Whose chain to show.")
@click.option(
    "--json", "json_path", metavar="FILE", help="Write the result as JSON; - for stdout, which then has nothing else."
)
@scenario_options
@policy_options
def chain(policy: str, **given: Any) -> None:
    """Print the seven steps from CONFIG SET to the stopped connections, as a run recorded them."""
    chosen = make_scenario("mod-11658", given)
    value = make_policy(policy, given)
    check_environment(chosen, (given["json_path"],))
    result = _carry_out(chosen, value, value.name)
    if given["json_path"] != "-":
        print_chain(output(), result)
    _write_json([result], given["json_path"])


@main.command()
def policies() -> None:
    """List the named resize policies."""
    table = Table(show_lines=True)
    for name in ("policy", "what it does", "steps", "source", "expected in mod-11658"):
        table.add_column(name, no_wrap=name == "policy")
    for policy in POLICIES.values():
        steps = (
            f"{' > '.join(policy.order)}\nreduce {policy.reduce}, stop {policy.stop}, drain {policy.drain}, "
            f"admission {policy.admission}, main {policy.main_mode}"
        )
        table.add_row(policy.name, escape(policy.summary), steps, escape(policy.source), policy.expected)
    output().print(table)


@main.command()
def scenarios() -> None:
    """List the named scenarios: those of runs, and those of orders (explore, and compare --runtime sim)."""
    runs = _listing("of runs", "workers", "clients", "latency")
    for scenario in SCENARIOS.values():
        plan = ":".join(map(str, scenario.workers))
        runs.add_row(scenario.name, escape(scenario.summary), plan, str(scenario.clients), scenario.latency)
    orders = _listing("of orders", "workers", "clients", "nodes")
    for order in ORDER_SCENARIOS.values():
        plan = ":".join(map(str, order.workers))
        orders.add_row(order.name, escape(order.summary), plan, str(order.clients), str(order.nodes))
    for alone in THPOOL_SCENARIOS.values():
        plan = ":".join(map(str, alone.workers))
        orders.add_row(alone.name, escape(f"The thread pool alone. {alone.summary}"), plan, "-", "-")
    for table in (runs, orders, *map(_recipes, RECIPE_FAMILIES)):
        output().print(table)


def _recipes(family: RecipeFamily) -> Table:
    table = _listing(f"of orders, of {family.BOOK.title} (explore)", "--fault: what it shows")
    for recipe in family.BOOK.scenarios.values():
        table.add_row(recipe.name, escape(recipe.summary), ", ".join(recipe.faults) or "-")
    return table


def _listing(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", show_lines=True)
    for name in ("scenario", "what it is", *columns):
        table.add_column(name, no_wrap=name == "scenario")
    return table


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def bench(arguments: tuple[str, ...]) -> None:
    """Run the benchmarks of a source checkout: all of them, or some.

    \b
    coordemu bench [drain|pending|replies|pool|commands|fanout|...] [--shards URL] [--quick]
                   [--json FILE|-] [--compare FILE] [--list]

    Each figure stands beside a baseline of the same run; bench/README.md says what each measures. Arguments are passed
    on to bench/run_all.py, which lists all of its own with -h.
    """
    script = next(
        (
            path
            for path in (Path.cwd(), Path(__file__).resolve().parents[2])
            if (path / "bench" / "run_all.py").is_file()
        ),
        None,
    )
    if script is None:
        raise EnvironmentFailure("the benchmarks are part of the source checkout (bench/run_all.py); run this there")
    sys.exit(subprocess.call([sys.executable, str(script / "bench" / "run_all.py"), *arguments]))


main.add_command(explore)
main.add_command(replay)
main.add_command(shrink)
main.add_command(pool)
main.add_command(config)
main.add_command(backfill)


if __name__ == "__main__":
    main(prog_name="coordemu")
