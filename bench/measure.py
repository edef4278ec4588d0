"""Measuring: contenders take turns, every sample is kept, and each is compared with the baselines of the same run.

Role: what all benchmarks share. A `Case` is one question ("is anything pending, 1,000 connections"); its contenders
are asked for samples in turn, A B C A B C, so that whatever else the machine does hits all of them. A row of its
table has the median, the 10th and 90th (and for latencies the 99th) percentile, and one column per baseline:

    how many times better than the baseline  =  baseline's median / own median for times and bytes,
                                                the other way round for rates

so more than 1 is better and less than 1 is worse, ours like everybody's. Nothing is asserted and nothing left out.

Thread: the caller's. Upstream: none. Left out: outlier removal, warm-up detection (each contender's first sample is
taken before the clock counts and thrown away), comparison with other machines.
"""

from __future__ import annotations

import gc
import statistics
import time
import timeit
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

NS = "ns"
US = "us"
MS = "ms"
PER_S = "/s"
BYTES = "B"
UNITS = (NS, US, MS, PER_S, BYTES)
COPIES = 20

Sampler = Callable[[], float | Sequence[float]]


@dataclass(frozen=True, slots=True)
class Effort:
    """How much of everything: "full" (as `make bench`), "quick" (a first look), "smoke" (the least, for the tests)."""

    name: str = "full"

    def pick(self, full: int, quick: int, smoke: int) -> int:
        """The number for this effort. Raises KeyError for an unknown effort."""
        return {"full": full, "quick": quick, "smoke": smoke}[self.name]


FULL, QUICK, SMOKE = Effort("full"), Effort("quick"), Effort("smoke")


@dataclass(frozen=True, slots=True)
class Contender:
    """One of those who are compared.

    sample: takes one sample, or several, in the case's unit.  ours: whether it is coordemu's.
    """

    name: str
    sample: Sampler
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """One question.

    baselines: names of contenders to compare with.  limits: names of contenders that stand for a bound (an empty
    call, a protocol without any work): rows are compared with them too, but nobody loses to them.  rounds: turns of
    each. note: one sentence for below the table.
    """

    title: str
    unit: str
    contenders: Sequence[Contender]
    baselines: Sequence[str]
    rounds: int
    note: str = ""
    limits: Sequence[str] = ()

    def __post_init__(self) -> None:
        names = [contender.name for contender in self.contenders]
        if self.unit not in UNITS or len(set(names)) != len(names) or not {*self.baselines, *self.limits} <= {*names}:
            raise ValueError(f"case {self.title!r}: unit {self.unit!r}, contenders {names}, baselines {self.baselines}")


@dataclass(slots=True)
class Row:
    """What one contender's samples came to. times_better: by baseline."""

    name: str
    ours: bool
    samples: list[float]
    times_better: dict[str, float] = field(default_factory=dict)

    def at(self, share: float) -> float:
        """The percentile: 0.0 is the least, 1.0 the greatest sample."""
        ordered = sorted(self.samples)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    @property
    def median(self) -> float:
        """The median."""
        return statistics.median(self.samples)

    def to_json(self) -> dict[str, Any]:
        """Plain values, the samples with them."""
        return {
            "name": self.name, "ours": self.ours, "n": len(self.samples), "median": self.median, "p10": self.at(0.1),
            "p90": self.at(0.9), "p99": self.at(0.99), "times_better": self.times_better,
            "samples": [float(f"{sample:.6g}") for sample in self.samples],
        }  # fmt: skip


@dataclass(slots=True)
class CaseResult:
    """A case's rows, in the order of its contenders."""

    title: str
    unit: str
    baselines: list[str]
    rows: list[Row]
    note: str = ""
    limits: list[str] = field(default_factory=list)

    def row(self, name: str) -> Row:
        """The row of that name. Raises KeyError."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "title": self.title, "unit": self.unit, "better": "higher" if self.unit == PER_S else "lower",
            "baselines": self.baselines, "limits": self.limits, "note": self.note,
            "rows": [row.to_json() for row in self.rows],
        }  # fmt: skip


@dataclass(slots=True)
class Report:
    """What one benchmark measured. facts: checks and numbers beside the tables, such as counts that must add up."""

    name: str
    cases: list[CaseResult] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    conclusion: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": self.name, "conclusion": self.conclusion, "facts": self.facts,
            "cases": [case.to_json() for case in self.cases],
        }  # fmt: skip


Progress = Callable[[str], None]


def silent(_line: str) -> None:
    """Where progress goes when nobody looks."""


def run_case(case: Case, progress: Progress = silent) -> CaseResult:
    """Let the contenders take turns. Raises what a sampler raises. Blocks."""
    samples: dict[str, list[float]] = {contender.name: [] for contender in case.contenders}
    for contender in case.contenders:
        contender.sample()
    gc.collect()
    for number in range(case.rounds):
        if number % max(1, case.rounds // 5) == 0:
            progress(f"{case.title}: round {number + 1} of {case.rounds}")
        for contender in case.contenders:
            got = contender.sample()
            samples[contender.name].extend(got if isinstance(got, Sequence) else (got,))
    rows = [Row(contender.name, contender.ours, samples[contender.name]) for contender in case.contenders]
    return tabulate(case.title, case.unit, rows, case.baselines, case.note, case.limits)


def tabulate(
    title: str, unit: str, rows: list[Row], baselines: Sequence[str], note: str = "", limits: Sequence[str] = ()
) -> CaseResult:
    """A result from samples that were taken already: compares the rows with the baselines and limits among them."""
    result = CaseResult(title, unit, list(baselines), rows, note, list(limits))
    for other in (*limits, *baselines):
        reference = result.row(other).median
        for row in rows:
            row.times_better[other] = _times_better(row.median, reference, unit)
    return result


def _times_better(own: float, reference: float, unit: str) -> float:
    better, worse = (own, reference) if unit == PER_S else (reference, own)
    return better / worse if worse else float("inf")


def cost_ns(statement: str, names: Mapping[str, Any], at_least_ms: float = 2.0, per: int = 1) -> Sampler:
    """A sampler of the time in ns that a statement takes, repeated for at_least_ms, in a loop over 20 copies of it.

    names: what the statement may use.  per: how many operations one statement is.  The clock is this thread's
    processor time, so that other processes on the machine do not count; the garbage collector is off meanwhile.
    """
    timer = timeit.Timer("\n".join([statement] * COPIES), timer=time.thread_time, globals=dict(names))
    number = 1
    while timer.timeit(number) < at_least_ms / 1e3:
        number *= 2
    return lambda: timer.timeit(number) * 1e9 / (number * COPIES * per)
