"""The report of an exploration: how the orders went, and each failure with what explains and repeats it.

Role: what ``coordemu explore``, ``replay`` and ``shrink`` print and write as JSON. The values are gathered in
`ExploreReport` and `OrderReport`, which hold no times of this machine apart from `elapsed_ns`: two searches that found
the same are the same apart from that.

Thread: the caller's; printing apart, pure. Upstream: none. Left out: exploring and shrinking; comparing policies
(`coordemu.report.order_comparison`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from coordemu.explore.lanes import lanes
from coordemu.explore.order import Failure, OrderPlan, Played
from coordemu.explore.ranges import Lost
from coordemu.report.console import verdict_markup
from coordemu.runtime.base import NS_PER_MS, NS_PER_S

SCHEMA_VERSION = 1
LANE_LINES = 40
FRAMES_SHOWN = 8
# Facts that the report has elsewhere.
_NOT_TOLD = {"steps"}


@dataclass(frozen=True, slots=True)
class OrderReport:
    """One order, played: what a failure's section, or a replay, shows.

    played: it.  number: its place in the search, None when it comes from a file.  found_plan: how it was chosen, None
    when by those before it.
    switches, switches_found: between tasks, now and before it was shrunk; None: not shrunk.  runs: what that took.
    decides: the nearest order that passes and the switch that decides, in a sentence, "" when unknown.
    path: the schedule file, "" when there is none.  command: what repeats it.
    """

    played: Played
    number: int | None = None
    found_plan: OrderPlan | None = None
    switches: int | None = None
    switches_found: int | None = None
    runs: int = 0
    decides: str = ""
    path: str = ""
    command: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for json.dumps."""
        played, outcome = self.played, self.played.outcome
        return {
            "number": self.number,
            "plan": (self.found_plan or played.plan).to_json(),
            "verdict": played.verdict,
            "failure": None if played.failure is None else played.failure.to_json(),
            "steps": played.steps,
            "turns": played.schedule.switches,
            "switches": self.switches,
            "switches_found": self.switches_found,
            "runs_to_shrink": self.runs,
            "decides": self.decides,
            "ended_ms": outcome.now_ns / NS_PER_MS,
            "error": "" if outcome.error is None else str(outcome.error),
            "waits": waits(played),
            "cycle": cycle(played),
            "call_chains": {task: own_frames(frames) for task, frames in outcome.stacks.items()},
            "lanes": lanes(played, LANE_LINES),
            "facts": {name: _plain(value) for name, value in played.facts.items()},
            "file": self.path,
            "replay": self.command,
        }


@dataclass(frozen=True, slots=True)
class ExploreReport:
    """What one search came to.

    scenario, policy: their names.  subject: what `Subject.describe` says.  strategy, seed: of the search.
    orders, steps: how many.  verdicts: how many orders have each.  complete: whether the exhaustive search got to the
    end, None when it was none.  classes, runs: of orders that differ in nothing that matters, and what it took.
    whole: whether all that was asked for was played.  kinds: how many failures differ.  failures: what is shown of
    them.  lost: orders that could not be played.  broken_off: why it could not go on, "" when it could.  elapsed_ns:
    of this machine's time.
    """

    scenario: str
    policy: str
    subject: Mapping[str, Any]
    strategy: str
    seed: int
    orders: int
    steps: int
    verdicts: Mapping[str, int]
    complete: bool | None = None
    classes: int = 0
    runs: int = 0
    whole: bool = True
    kinds: int = 0
    failures: tuple[OrderReport, ...] = ()
    lost: tuple[Lost, ...] = ()
    broken_off: str = ""
    elapsed_ns: int = 0

    @property
    def ending(self) -> str:
        """Of an exhaustive search: whether it was complete, in words; "" otherwise."""
        if self.complete is None:
            return ""
        classes = "1 class" if self.classes == 1 else f"{self.classes} classes"
        return f"complete: {classes}" if self.complete else f"not complete: {classes} in {self.runs} runs"

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for json.dumps; "machine" holds all that depends on it."""
        seconds = self.elapsed_ns / NS_PER_S
        return {
            "schema_version": SCHEMA_VERSION,
            "scenario": self.scenario,
            "policy": self.policy,
            "subject": dict(self.subject),
            "strategy": self.strategy,
            "seed": self.seed,
            "orders": self.orders,
            "steps": self.steps,
            "verdicts": dict(self.verdicts),
            "complete": self.complete,
            "classes": self.classes,
            "runs": self.runs,
            "whole": self.whole,
            "kinds_of_failures": self.kinds,
            "failures": [failure.to_json() for failure in self.failures],
            "lost": [lost.to_json() for lost in self.lost],
            "broken_off": self.broken_off,
            "machine": {
                "elapsed_ms": self.elapsed_ns / NS_PER_MS,
                "orders_per_s": self.orders / seconds if seconds else 0.0,
                "steps_per_s": self.steps / seconds if seconds else 0.0,
            },
        }


# ---- what is made of a played order


def waits(played: Played) -> list[dict[str, Any]]:
    """Who waits for what, held by whom, since when (virtual ms), for each task that waits, at the end of the run."""
    found = []
    for chain in played.outcome.chains:
        if chain.kind == "runs":
            continue
        found.append(
            {
                "task": chain.steps[0],
                "on": chain.steps[1] if len(chain.steps) > 1 else "",
                "held_by": chain.steps[2] if len(chain.steps) > 2 else "",
                "since_ms": chain.since_ns / NS_PER_MS,
                "kind": chain.kind,
                "sentence": chain.sentence,
            }
        )
    return found


def cycle(played: Played) -> dict[str, Any] | None:
    """The chain of waits that cannot end, main's before others': its kind, names and words. None: there is none."""
    stuck = [chain for chain in played.outcome.chains if chain.kind in ("cycle", "orphan")]
    stuck.sort(key=lambda chain: (chain.kind != "cycle", chain.steps[0] != "main"))
    if not stuck:
        return None
    return {"kind": stuck[0].kind, "steps": list(stuck[0].steps), "sentence": stuck[0].sentence}


def own_frames(frames: Sequence[str]) -> list[str]:
    """A task's call chain without the simulator's own frames, each as "file:line function"."""
    return [frame.rpartition("/")[2] for frame in frames if "/coordemu/runtime/" not in frame]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each) for each in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


# ---- printing


def print_exploration(console: Console, report: ExploreReport) -> None:
    """Print the whole of it."""
    console.print(f"{escape(report.scenario)}, {escape(report.policy)}", style="bold")
    for verdict, count in sorted(report.verdicts.items(), key=lambda item: -item[1]):
        console.print(f"{verdict_markup(verdict)} {count}/{report.orders} ({share(count, report.orders)})")
    seconds = report.elapsed_ns / NS_PER_S
    rate = f", {report.orders / seconds:,.0f} orders/s" if seconds else ""
    console.print(
        f"{report.orders} orders, {report.steps} steps in {seconds:.1f} s{rate}; strategy {escape(report.strategy)}, "
        f"seed {report.seed}",
        soft_wrap=True,
    )
    if report.ending:
        console.print(report.ending)
    elif not report.whole:
        console.print("ended before all orders were played")
    for line in not_played(report):
        console.print(escape(line), style="red", soft_wrap=True)
    if not report.kinds:
        console.print("no failure found" + (f" in {report.orders} orders" if report.complete is None else ""))
    for at, failure in enumerate(report.failures, 1):
        console.print()
        print_order(console, failure, f"failure {at} of {report.kinds}")
    if report.kinds > len(report.failures):
        console.print(f"\n{report.kinds - len(report.failures)} more kinds of failures (--kinds shows more)")


def print_order(console: Console, order: OrderReport, title: str = "") -> None:
    """Print one order: the failure, who waits for whom, the call chains, the last steps, what repeats it."""
    played, outcome = order.played, order.played.outcome
    head = f"{title}: " if title else ""
    failure = played.failure
    console.print(f"{head}{verdict_markup(played.verdict)}{_why(played, failure)}", soft_wrap=True)
    lines = []
    if order.number is not None:
        plan = order.found_plan
        how = f" ({plan.strategy}, {plan.clock} clock, chances {plan.chances:g})" if plan is not None else ""
        lines.append(f"first in order {order.number}{how}")
    lines.append(f"{shape(order)}; {_ms(outcome.now_ns)} of virtual time")
    if failure is not None:
        lines.append(f"signature: {'; '.join(failure.signature)}")
    found = cycle(played)
    if found is not None and (failure is None or found["sentence"] != failure.sentence):
        lines.append(f"who waits for whom: {found['sentence']}")
    if order.decides:
        lines.append(f"what decides: {order.decides}")
    facts = [f"{name} {_short(value)}" for name, value in played.facts.items() if name not in _NOT_TOLD and value]
    if facts:
        lines.append(f"facts: {'; '.join(facts)}")
    for line in lines:
        console.print(f"  {escape(line)}", soft_wrap=True)
    _print_waits(console, played)
    _print_call_chains(console, outcome.stacks)
    _print_lanes(console, played)
    if order.path:
        console.print(f"  file: {escape(order.path)}", soft_wrap=True)
    if order.command:
        console.print(f"  replay: {escape(order.command)}", soft_wrap=True)


def not_played(report: ExploreReport) -> list[str]:
    """What could not be played, and why, in a line each."""
    lines = [f"broken off: {report.broken_off}"] if report.broken_off else []
    return lines + [
        f"orders {lost.first} to {lost.first + lost.count - 1} were not played: {lost.why}" for lost in report.lost
    ]


def shape(order: OrderReport) -> str:
    """How long the order is, and how often it turns from one to the other; shrunk: how often between tasks."""
    steps = f"{order.played.steps} steps"
    if order.switches is None:
        return f"{steps}, {order.played.schedule.switches} turns"
    return f"{steps}, {order.switches} switches between tasks ({order.switches_found} as found; {order.runs} runs)"


def share(count: int, of: int) -> str:
    """A share in percent, never rounded to none or all."""
    if not of or count in (0, of):
        return "100 %" if of and count == of else "0 %"
    percent = 100 * count / of
    return f"{percent:.3g} %" if percent < 99 else f"{min(percent, 99.999):.5g} %"


def _why(played: Played, failure: Failure | None) -> str:
    if failure is not None:
        return f": {escape(failure.sentence)}"
    return f": {escape(str(played.outcome.error))}" if played.outcome.error is not None else ""


def _ms(duration_ns: int) -> str:
    return f"{duration_ns / NS_PER_MS:.3f} ms"


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {each}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)


def _and_more(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} (and {len(names) - 1} more)"


def _print_waits(console: Console, played: Played) -> None:
    rows = waits(played)
    if not rows:
        return
    table = Table(title="who waits for what", title_justify="left", title_style="bold")
    for name in ("task", "waits for", "held by", "since (virtual)"):
        table.add_column(name, overflow="fold", justify="right" if name.startswith("since") else "left")

    def alike(row: dict[str, Any]) -> tuple[str, str, float]:
        return row["on"], row["held_by"], row["since_ms"]

    # Tasks in the same wait are one row; in the order of their first.
    first: dict[tuple[str, str, float], int] = {}
    for at, row in enumerate(rows):
        first.setdefault(alike(row), at)
    for _, group in groupby(sorted(rows, key=lambda row: first[alike(row)]), key=alike):
        same = list(group)
        row = same[0]
        table.add_row(
            escape(_and_more([each["task"] for each in same])),
            escape(row["on"]),
            escape(row["held_by"]) or "nobody",
            f"{row['since_ms']:.3f} ms",
        )
    console.print(table)


def _print_call_chains(console: Console, stacks: Mapping[str, Sequence[str]]) -> None:
    by_chain: dict[tuple[str, ...], list[str]] = {}
    for task, frames in stacks.items():
        if own := own_frames(frames):
            by_chain.setdefault(tuple(own), []).append(task)
    if by_chain:
        console.print("call chains", style="bold")
    for chain, tasks in by_chain.items():
        shown = " > ".join(chain[-FRAMES_SHOWN:])
        console.print(f"  {escape(_and_more(tasks))}: {escape(shown)}", soft_wrap=True)


def _print_lanes(console: Console, played: Played) -> None:
    drawn = lanes(played, LANE_LINES)
    if drawn:
        console.print("last steps", style="bold")
    for line in drawn:
        console.print(escape(line), soft_wrap=True)
