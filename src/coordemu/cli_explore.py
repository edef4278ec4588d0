"""The simulator's commands: ``coordemu explore | replay | shrink``, and its part of `run` and `compare`.

Role: options in, reports out, as `coordemu.cli`. Ctrl-C ends a search and keeps what it found: the report is printed,
files are written, and the exit code is 130. A second one ends everything.

Exit codes: 0 the expectation holds (no failure was found, or what --expect says came; a replay showed what its file
says), 1 it does not, 2 usage and files that are no schedules, 3 environment.

Thread: the main thread; blocks for the length of the search. Upstream: none. Left out: the search
(`coordemu.explore.order_search`), the scenarios (`coordemu.lab.order_scenario`).
"""

from __future__ import annotations

import json
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Self

import click
from click.core import ParameterSource
from rich.markup import escape

from coordemu.cli_options import (
    DurationMs,
    EnvironmentFailure,
    check_directory,
    check_files,
    make_policy,
    make_search,
    make_subject,
    order_options,
    policy_options,
    search_options,
    write,
)
from coordemu.coord.resize_policy import ResizePolicy
from coordemu.explore.order import DIVERGED_VERDICT, OrderPlan, Subject
from coordemu.explore.order_search import NotRepeatable, OrderSearch, Searched
from coordemu.explore.portfolio import PORTFOLIO, SYSTEMATIC
from coordemu.explore.ranges import JobsError
from coordemu.explore.replay import STOPPED, difference
from coordemu.explore.replay import replay as replay_file
from coordemu.explore.schedule_file import ScheduleFile
from coordemu.explore.shrink import Shrunk
from coordemu.explore.shrink import shrink as shrink_order
from coordemu.explore.tally import Found
from coordemu.lab.backfill_sim import BackfillSubject
from coordemu.lab.order_run import CoordinatorSubject
from coordemu.lab.recipe_subject import RecipeSubject
from coordemu.lab.result import VERDICTS, Result
from coordemu.lab.run import ShardsUnreachable
from coordemu.lab.scenario import Scenario, ScenarioError
from coordemu.lab.sim_run import SimRunError, run_in_sim
from coordemu.lab.subjects import get_order_scenario, recipe_family, subject_from
from coordemu.lab.thpool_subject import ThpoolSubject
from coordemu.report.console import output, progress
from coordemu.report.explore_report import ExploreReport, OrderReport, print_exploration, print_order
from coordemu.report.order_comparison import as_expected, in_short, print_order_comparison, refuted_orders
from coordemu.report.search_progress import SearchProgress
from coordemu.runtime.base import NS_PER_MS
from coordemu.runtime.sim import SimRuntime
from coordemu.runtime.sim_schedule import ScheduleError

ORDER_VERDICTS = (*VERDICTS, "broken", "leaked")
ABORTED = 130
KINDS_SHOWN = 3
# Options that do not change what an order of a search is.
_NOT_AGAIN = {
    "schedules", "seconds", "exhaustive", "preemptions", "jobs", "dask", "save", "json_path", "expect", "kinds", "only",
    "names", "runtime", "repeat", "stops",
}  # fmt: skip
_JSON_HELP = "Write the report as JSON; - for stdout, which then has nothing else."


class Interrupts:
    """Ctrl-C as a question: inside the with statement the first one is noted, and only a second one interrupts."""

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = signal.SIG_DFL

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *exc: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __call__(self) -> bool:
        """Whether there was one."""
        return self.asked


class _Enough(Exception):
    """Ctrl-C in the middle of shrinking."""


class Exploration:
    """One subject, searched, and what was found made small and saved.

    search: what is asked for.  save: a directory for schedule files, None: none are written.  shrinks: whether failing
    orders are shrunk.  kinds: of so many failures the whole is told.  again: the command that plays the order of a
    number again, for who has no file; None when there is none.
    """

    def __init__(
        self,
        subject: CoordinatorSubject | ThpoolSubject | RecipeSubject | BackfillSubject,
        search: OrderSearch,
        interrupted: Interrupts,
        save: str | None = None,
        shrinks: bool = True,
        kinds: int = KINDS_SHOWN,
        again: list[str] | None = None,
    ) -> None:
        self._subject = subject
        self._search = search
        self._interrupted = interrupted
        self._save = save
        self._shrinks = shrinks
        self._kinds = kinds
        self._again = again

    def carry_out(self) -> ExploreReport:
        """Do it. Raises click.UsageError and EnvironmentFailure. Blocks."""
        search, subject = self._search, self._subject
        with SearchProgress(subject.name, search.count, search.seconds) as shown:
            try:
                searched = search.carry_out(subject, self._interrupted, shown.show)
            except JobsError as err:
                raise EnvironmentFailure(str(err)) from None
            except NotRepeatable as err:
                raise click.ClickException(str(err)) from None
            # All are saved, though not all are told of.
            looked_at = searched.result.found if self._save is not None else searched.result.found[: self._kinds]
            orders = [self._look_at(found, shown) for found in looked_at]
        return self._report(searched, orders[: self._kinds])

    def _report(self, searched: Searched, orders: Sequence[OrderReport]) -> ExploreReport:
        result, search = searched.result, self._search
        return ExploreReport(
            self._subject.scenario.name,
            self._subject.way,
            self._subject.describe(),
            search.strategy,
            search.seed,
            result.orders,
            result.steps,
            result.verdicts,
            searched.complete,
            searched.classes,
            searched.runs,
            searched.whole,
            len(result.found),
            tuple(orders),
            searched.lost,
            searched.broken_off,
            searched.elapsed_ns,
        )

    def _look_at(self, found: Found, shown: SearchProgress) -> OrderReport:
        less = None if self._interrupted() else self._shrunk(found, shown)
        search = self._search
        subject: Subject = self._subject
        plan, schedule, failure = found.plan, found.schedule, found.failure
        if less is not None:
            subject, plan, schedule, failure = less.subject, less.plan, less.schedule, less.failure
        note = f"order {found.number} of {self._subject.name}; strategy {search.strategy}, seed {search.seed}"
        file = ScheduleFile(subject.describe(), plan, found.verdict, failure, schedule, note)
        path, command = "", ""
        if self._save is not None:
            path = _save(file, Path(self._save) / self._file_name(found))
            command = f"coordemu replay {shlex.quote(path)}"
        elif self._again is not None:
            command = shlex.join([*self._again, "--only", str(found.number)])
        return OrderReport(
            replay_file(subject, file),
            found.number,
            None if search.strategy in SYSTEMATIC else found.plan,
            less.switches if less is not None else None,
            less.switches_before if less is not None else None,
            less.runs if less is not None else 0,
            less.sentence if less is not None else "",
            path,
            command,
        )

    def _shrunk(self, found: Found, shown: SearchProgress) -> Shrunk | None:
        """The order made small; None when that was not asked for, or no more."""

        def tell(line: str) -> None:
            if self._interrupted():
                raise _Enough
            shown.tell(f"shrinking order {found.number}: {line}")

        if not self._shrinks:
            return None
        try:
            return shrink_order(self._subject, found.plan, found.schedule, found.failure, progress=tell)
        except _Enough:
            return None
        except ScheduleError as err:
            raise click.ClickException(f"order {found.number} does not repeat: {err}") from None

    def _file_name(self, found: Found) -> str:
        parts = (self._subject.scenario.name, self._subject.way, *self._subject.faults, found.verdict)
        words = "-".join("".join(c if c.isalnum() else "-" for c in part).strip("-") for part in parts)
        way = "" if self._search.strategy == PORTFOLIO else f"-{self._search.strategy}"
        return f"{words}{way}-{self._search.seed}-{found.number}.json"


def _save(file: ScheduleFile, path: Path) -> str:
    try:
        return str(file.save(path))
    except OSError as err:
        raise EnvironmentFailure(f"can't write {str(path)!r}: {err.strerror}") from None


def _again(ctx: click.Context, scenario: str, words: Sequence[str] = ()) -> list[str] | None:
    """The search as it was typed, without what says how much to search and where results go; None for an exhaustive
    one, whose orders have no plans. words: options to add."""
    if ctx.params["exhaustive"] or ctx.params["preemptions"] is not None or ctx.params["strategy"] in SYSTEMATIC:
        return None
    typed = ["coordemu", "explore", scenario, *words]
    for param in ctx.command.params:
        name = param.name or ""
        said = ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if isinstance(param, click.Option) and name not in _NOT_AGAIN and said:
            value = ctx.params[name]
            for each in value if param.multiple else [value]:
                typed.append(param.opts[0])
                if not param.is_flag:
                    typed.append(f"{each:g}ms" if isinstance(param.type, DurationMs) else str(each))
    return typed


def _finish(interrupted: bool, code: int) -> None:
    """The end of a command whose results are out."""
    if interrupted:
        click.echo("Aborted!", err=True)
        sys.exit(ABORTED)
    sys.exit(code)


def _code(report: ExploreReport, expect: str | None) -> int:
    if expect is None and report.kinds:
        return 1
    if report.lost or report.broken_off:
        return EnvironmentFailure.exit_code
    return int(not as_expected(report, expect or "healthy"))


@click.command()
@click.argument("scenario", default="mod-11658")
@click.option("--policy", default="upstream-7410", show_default=True, help="Whose orders to search.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Of the search.")
@click.option("--only", type=click.IntRange(0), metavar="N", help="Play order number N of the search alone.")
@click.option("--expect", type=click.Choice(ORDER_VERDICTS), help="Exit with 0 only if this verdict came.")
@click.option("--kinds", type=click.IntRange(1, 64), default=KINDS_SHOWN, help="Tell of so many failures that differ.")
@click.option("--json", "json_path", metavar="FILE", help=_JSON_HELP)
@search_options
@order_options
@policy_options
@click.pass_context
def explore(ctx: click.Context, /, scenario: str, policy: str, seed: int, only: int | None, **given: Any) -> None:
    """Search the orders of SCENARIO (default: mod-11658) in the simulator for one that fails.

    --expect healthy: every order was; another verdict: at least one order had it.
    """
    typed = ctx.get_parameter_source("policy") is ParameterSource.COMMANDLINE
    family = recipe_family(scenario)
    if typed and family is not None:
        raise click.UsageError(f"--policy has no meaning for a recipe of {family.BOOK.title}")
    subject = make_subject(scenario, make_policy(policy, given), given)
    search = make_search(given, seed, only)
    _check_targets(given)
    again = _again(ctx, scenario)
    with Interrupts() as interrupted:
        made = Exploration(subject, search, interrupted, given["save"], not given["no_shrink"], given["kinds"], again)
        report = made.carry_out()
    if given["json_path"] != "-":
        print_exploration(output(), report)
    _write_json(report.to_json(), given["json_path"])
    _finish(interrupted.asked, _code(report, given["expect"]))


def _check_targets(given: dict[str, Any]) -> None:
    check_files((given["json_path"],))
    if given["save"] is not None:
        check_directory(given["save"])


def _write_json(values: dict[str, Any], path: str | None) -> None:
    if path is not None:
        write(path, json.dumps(values, indent=2) + "\n")


def _load(path: str) -> tuple[ScheduleFile, Subject]:
    """A schedule file and its subject. Raises EnvironmentFailure when it can't be read, click.UsageError with one line
    when it is no schedule."""
    try:
        with open(path, "rb"):
            pass
    except OSError as err:
        raise EnvironmentFailure(f"can't read {path!r}: {err.strerror}") from None
    try:
        file = ScheduleFile.load(path)
    except ScheduleError as err:
        raise click.UsageError(str(err)) from None
    try:
        return file, subject_from(file.subject)
    except ScheduleError as err:
        raise click.UsageError(f"{path}: {err}") from None
    except (AttributeError, KeyError, TypeError, ValueError) as err:
        raise click.UsageError(f"{path}: the description of the subject can't be read: {err}") from None


@click.command()
@click.argument("path", metavar="FILE")
@click.option("--step", type=click.IntRange(0), metavar="N", help="Stop after N steps and show the state there.")
@click.option(
    "--trace", "trace_path", metavar="FILE", help="Write the call chain, one JSON object a line; - for stdout."
)
@click.option("--json", "json_path", metavar="FILE", help=_JSON_HELP)
def replay(path: str, step: int | None, trace_path: str | None, json_path: str | None) -> None:
    """Play the order in the schedule file FILE again, and show what it shows."""
    file, subject = _load(path)
    steps = len(file.schedule.steps)
    if step is not None and step > steps:
        raise click.UsageError(f"--step {step}: the order in {path} has {steps} steps")
    check_files((json_path, trace_path))
    runtimes: list[SimRuntime] = []
    played = replay_file(subject, file, step, prepare=runtimes.append)
    wrong = "" if played.verdict == STOPPED else difference(file, played)
    order = OrderReport(played, path=path)
    # Where a replay went astray its own state says nothing of the order; --step shows the way there.
    if "-" not in (json_path, trace_path) and played.verdict != DIVERGED_VERDICT:
        if file.note:
            output().print(escape(file.note), style="bold", soft_wrap=True)
        print_order(output(), order, f"step {step} of {steps}" if step is not None else "")
    if trace_path is not None:
        write(trace_path, "".join(json.dumps(event) + "\n" for event in _trace(runtimes[0])))
    _write_json({"subject": file.subject, "note": file.note, "difference": wrong, **order.to_json()}, json_path)
    if wrong:
        raise click.ClickException(f"{path}: {wrong}")


def _trace(sim: SimRuntime) -> list[dict[str, Any]]:
    return [
        {
            "at_ms": event.at_ns / NS_PER_MS,
            "thread": event.task,
            "upstream": event.upstream,
            "ours": event.ours,
            "detail": event.detail,
        }
        for event in sim.trace_events()
    ]


@click.command()
@click.argument("path", metavar="FILE")
@click.option("--out", metavar="FILE", help="Where the shrunk order goes (default: beside it, as NAME.shrunk.json).")
@click.option("--json", "json_path", metavar="FILE", help=_JSON_HELP)
def shrink(path: str, out: str | None, json_path: str | None) -> None:
    """Make the failing order in the schedule file FILE as small as it goes, with the same failure."""
    file, subject = _load(path)
    if file.failure is None:
        raise click.UsageError(f"{path}: the order is {file.verdict}: there is no failure to keep")
    target = Path(out) if out is not None else Path(path).with_suffix(".shrunk.json")
    check_files((json_path, str(target)))
    wrong = difference(file, replay_file(subject, file))
    if wrong:
        raise click.ClickException(f"{path}: {wrong}")
    with SearchProgress(f"shrinking {path}") as shown:
        less = shrink_order(subject, file.plan, file.schedule, file.failure, progress=shown.tell)
    smaller = ScheduleFile(
        less.subject.describe(),
        less.plan,
        file.verdict,
        less.failure,
        less.schedule,
        file.note or f"shrunk from {path}",
    )
    saved = _save(smaller, target)
    order = OrderReport(
        replay_file(less.subject, smaller),
        switches=less.switches,
        switches_found=less.switches_before,
        runs=less.runs,
        decides=less.sentence,
        path=saved,
        command=f"coordemu replay {shlex.quote(saved)}",
    )
    if json_path != "-":
        print_order(output(), order)
    _write_json({"subject": smaller.subject, "note": smaller.note, **order.to_json()}, json_path)


# ---- the simulator's part of commands of coordemu.cli


def run_order(scenario: Scenario, policy: ResizePolicy) -> Result:
    """``coordemu run --runtime sim``: one run, whose order and draws are the scenario's seed's. Raises
    click.UsageError, EnvironmentFailure, and click.ClickException when a layer raised. Blocks."""
    plan = OrderPlan("random", scenario.seed, rt_seed=scenario.seed)
    try:
        return run_in_sim(scenario, policy, plan)
    except ScenarioError as err:
        raise click.UsageError(str(err)) from None
    except ShardsUnreachable as err:
        raise EnvironmentFailure(str(err)) from None
    except SimRunError as err:
        raise click.ClickException(f"{policy.name}: {err}") from None


def compare_orders(
    ctx: click.Context, scenario: str, policies: Sequence[tuple[ResizePolicy, list[str]]], given: dict[str, Any]
) -> None:
    """``coordemu compare --runtime sim``: search the orders of each policy, print one table, end the process.

    policies: each with the options that name it.
    """
    family = recipe_family(scenario)
    if family is not None:
        raise click.UsageError(f"{scenario}: policies are of the coordinator; {family.BOOK.title} has none to compare")
    subjects = [make_subject(scenario, policy, given) for policy, _ in policies]
    seed = 1 if given["seed"] is None else given["seed"]
    search = make_search(given, seed)
    _check_targets(given)
    reports: list[ExploreReport] = []
    with Interrupts() as interrupted:
        for subject, (policy, words) in zip(subjects, policies, strict=True):
            if interrupted():
                break
            again = _again(ctx, scenario, words)
            made = Exploration(subject, search, interrupted, given["save"], not given["no_shrink"], 1, again)
            reports.append(made.carry_out())
            if not progress().is_terminal:
                line = f"{policy.name} ({len(reports)}/{len(subjects)}): {in_short(reports[-1])}"
                progress().print(line, markup=False, soft_wrap=True)
    unchanged = subjects[0].scenario == get_order_scenario("mod-11658") and not subjects[0].faults
    refuted = refuted_orders(reports, [policy.expected if unchanged else "" for policy, _ in policies[: len(reports)]])
    if given["json_path"] != "-":
        print_order_comparison(output(), reports)
        for line in refuted:
            output().print(f"refuted: {escape(line)}", soft_wrap=True)
    _write_json({"results": [report.to_json() for report in reports], "refuted": refuted}, given["json_path"])
    _finish(interrupted.asked, int(bool(refuted)))
