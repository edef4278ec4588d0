"""Tables: a report for people, on the console that all of coordemu's reports use.

Role: prints what `bench.measure` measured; rounds for reading, while the JSON has everything. At the end it lists the
rows in which coordemu is worse than a baseline, so that nobody has to look for them.

Thread: the caller's. Upstream: none. Left out: plots.
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.measure import NS, PER_S, CaseResult, Report
from coordemu.report.console import PLAIN_WIDTH

TAIL_FROM = 100
# How wide a baseline's column may be; less with many of them.
COLUMN_WIDTH, NARROW_WIDTH, MANY_COLUMNS = 16, 12, 4
WORSE_BELOW = 0.95  # nearer than this, two runs disagree


def number(value: float) -> str:
    """Three figures, and no more digits than that needs."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def ratio(value: float) -> str:
    """How many times better; one that is worse keeps two figures."""
    return f"{number(value)}x" if value >= 0.1 else f"{value:.2g}x"


def print_case(console: Console, case: CaseResult) -> None:
    """One table, and its note."""
    unit = "per s" if case.unit == PER_S else case.unit
    tail = case.unit not in (PER_S, NS) and any(len(row.samples) >= TAIL_FROM for row in case.rows)
    table = Table(title=escape(case.title), title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column(f"median, {unit}", justify="right")
    # In a narrower terminal something has to give, and headings cannot give that much.
    table.add_column("p10 .. p90", justify="right", no_wrap=console.width >= PLAIN_WIDTH)
    if tail:
        table.add_column("p99", justify="right")
    table.add_column("n", justify="right")
    others = [*case.limits, *case.baselines]
    width = NARROW_WIDTH if len(others) >= MANY_COLUMNS else COLUMN_WIDTH
    for other in others:
        heading = f"{'of limit' if other in case.limits else 'vs'} {escape(other)}"
        table.add_column(heading, justify="right", max_width=width, overflow="fold")
    for row in case.rows:
        cells = [escape(row.name), number(row.median), f"{number(row.at(0.1))} .. {number(row.at(0.9))}"]
        if tail:
            cells.append(number(row.at(0.99)))
        cells.append(str(len(row.samples)))
        cells += ["-" if row.name == other else ratio(row.times_better[other]) for other in others]
        table.add_row(*cells, style="bold" if row.ours else None)
    console.print(table)
    if case.note:
        console.print(f"  {escape(case.note)}\n")


def print_report(console: Console, report: Report) -> None:
    """All tables of a benchmark, its facts, its conclusion."""
    console.rule(escape(report.name))
    for case in report.cases:
        print_case(console, case)
    for key, value in report.facts.items():
        console.print(f"{escape(key)}: {escape(str(value))}")
    console.print(f"=> {escape(report.conclusion)}\n")


def where_we_lose(reports: Iterable[Report]) -> list[str]:
    """One line for each of our rows and baseline where the row is worse by more than 5 %, with the ratios."""
    worse: dict[tuple[str, str, str], list[str]] = {}
    for report in reports:
        for case in report.cases:
            for row in case.rows:
                for baseline in case.baselines:
                    if row.ours and row.times_better[baseline] < WORSE_BELOW:
                        said = f"{ratio(row.times_better[baseline])} ({case.title})"
                        worse.setdefault((report.name, row.name, baseline), []).append(said)
    return [f"{report}: {row} against {baseline}: {'; '.join(said)}" for (report, row, baseline), said in worse.items()]
