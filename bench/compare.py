"""Comparing two runs: how each of coordemu's ratios to its baselines has changed since an older result.

Role: ``run_all.py --compare FILE``. A ratio of ratios: the new "times better than the baseline" over the old one, row
by row. The machine's mood is in both of a run's figures and drops out of its ratio, as far as it can; it does not drop
out between machines, so a result of another one is refused. Two runs of the same code differ by a tenth, beside other
work by more: so what is said to have changed has changed by more than a fifth.

Thread: the caller's. Upstream: none. Left out: statistics; the samples of both runs are in their files.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.measure import Report
from bench.tables import ratio

# What makes another machine. The versions of cffi and hiredis may be what one wants to compare.
MACHINE = ("cpu", "cpus", "memory_mb", "system", "python", "implementation", "switch_interval_s")
NOISE = 1.2


class CompareError(Exception):
    """The older result can't be compared with; one line says why."""


@dataclass(frozen=True, slots=True)
class Change:
    """One row of ours and one baseline. old, new: how many times better."""

    benchmark: str
    case: str
    row: str
    baseline: str
    old: float
    new: float

    @property
    def factor(self) -> float:
        """The ratio of the ratios; more than 1: it has become better."""
        return self.new / self.old if self.old else float("inf")


def load(path: str, machine: Mapping[str, Any]) -> dict[str, Any]:
    """An older result of this machine. Raises CompareError."""
    try:
        data = json.loads(Path(path).read_text())
        theirs, found = data["machine"], [report["name"] for report in data["benchmarks"]]
        theirs.get("cpus")
    except OSError as err:
        raise CompareError(f"{path}: {err.strerror}") from err
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise CompareError(f"{path}: no result of run_all.py --json") from err
    other = [
        f"{key} {theirs.get(key, 'unknown')}, here {machine[key]}" for key in MACHINE if theirs.get(key) != machine[key]
    ]
    if other:
        raise CompareError(f"{path}: of another machine, and not to be compared ({'; '.join(other)})")
    if not found:
        raise CompareError(f"{path}: there is no benchmark in it")
    return dict(data)


def changes(old: Mapping[str, Any], reports: Iterable[Report]) -> list[Change]:
    """One for each row of ours and each baseline that both runs have."""
    before: dict[tuple[str, str, str, str], float] = {}
    for report in old["benchmarks"]:
        for case in report["cases"]:
            for row in case["rows"]:
                for baseline in case["baselines"]:
                    before[report["name"], case["title"], row["name"], baseline] = row["times_better"][baseline]
    found = []
    for report in reports:
        for result in report.cases:
            for own in (row for row in result.rows if row.ours):
                for baseline in result.baselines:
                    key = report.name, result.title, own.name, baseline
                    if key in before:
                        found.append(Change(*key, before[key], own.times_better[baseline]))
    return found


def conclusion(found: list[Change]) -> str:
    """One line."""
    if not found:
        return "the two runs have no row in common"
    better = sum(change.factor > NOISE for change in found)
    worse = sum(change.factor < 1 / NOISE for change in found)
    return (
        f"of {len(found)} ratios {better} are better and {worse} worse by more than {NOISE - 1:.0%}; "
        f"{len(found) - better - worse} are as they were"
    )


def print_changes(console: Console, found: list[Change], path: str) -> None:
    """The table, and what it comes to."""
    console.rule(f"since {escape(path)}")
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("benchmark", "row", "against"):
        table.add_column(title)
    for title in ("old", "new", "new/old"):
        table.add_column(title, justify="right")
    for change in found:
        cells = [f"{change.benchmark}: {change.case}", change.row, change.baseline]
        style = "bold" if not 1 / NOISE <= change.factor <= NOISE else None
        table.add_row(*map(escape, cells), ratio(change.old), ratio(change.new), f"{change.factor:.2f}", style=style)
    console.print(table)
    console.print(f"=> {conclusion(found)}\n", markup=False)


def to_json(found: list[Change], path: str) -> dict[str, Any]:
    """What ``--json`` adds."""
    return {
        "with": path, "conclusion": conclusion(found),
        "changes": [{**asdict(change), "factor": change.factor} for change in found],
    }  # fmt: skip
