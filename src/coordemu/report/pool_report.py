"""The report of the pool's tests: metrics, histogram, pool statistics per node, the detector's lines, the verdict.

Role: what ``coordemu pool`` prints: the blocks that the example application prints, for every test. Thread: the
caller's. Upstream: PrintStats, the latency histogram, the Pool Stats and the Issue Detector block of the example
application. Left out: the log lines of the pool itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from coordemu.lab.pool_metrics import BUCKET_NAMES, PoolMetrics
from coordemu.lab.pool_modes import PoolTest
from coordemu.lab.pool_result import PoolTestResult
from coordemu.lab.pool_run import PoolLook
from coordemu.lab.pool_verdict import LEVELS, worst
from coordemu.pool.pool_conn_state import PoolConnState
from coordemu.pool.pool_snapshot import PoolSnapshot
from coordemu.runtime.base import NS_PER_MS, NS_PER_S

LEVEL_STYLE = {"good": "green", "fair": "cyan", "warning": "yellow", "broken": "bold red"}
BAR_WIDTH = 40
REASONS_SHOWN = 5
EXAMPLE_WIDTH = 160
STATES = tuple(state.value for state in PoolConnState)
# Of a pool's statistics: those of upstream's block, and what tells more (peak: open at once; line: the longest line
# for a turn); as (title, key).
_COLUMNS = (
    ("hits", "hits"), ("misses", "misses"), ("timeouts", "timeouts"), ("total", "total"), ("idle", "idle"),
    ("stale", "stale"), ("unusable", "unusable"), ("peak", "most_open"), ("waits", "wait_count"),
    ("line", "longest_line"),
)  # fmt: skip


def print_pool_test(console: Console, result: PoolTestResult) -> None:
    """Everything about one test."""
    console.rule(f"{result.test.name}: {escape(result.test.title)}", align="left")
    console.print(escape(what_runs(result)), soft_wrap=True)
    for line in metric_lines(result.metrics):
        console.print(escape(line), soft_wrap=True)
    console.print(histogram(result.metrics))
    console.print(node_table(result))
    for line in (*_fact_lines(result), *(f"note: {note}" for note in result.notes)):
        console.print(escape(line), soft_wrap=True)
    for line in result.detected.lines():
        console.print(f"detector: {escape(line)}")
    for crash in result.crashes:
        console.print(f"[bold red]a task ended by {escape(crash)}[/]", soft_wrap=True)
    console.print(f"verdict: {level_markup(result.verdict.level)}{_because(result)}", soft_wrap=True)
    console.print()


def print_pool_summary(console: Console, results: Sequence[PoolTestResult], complete: bool = True) -> None:
    """One row per test, and the worst of the verdicts. complete: whether all tests were run."""
    table = Table(
        title="summary",
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("test", no_wrap=True)
    table.add_column("", no_wrap=True)
    for name in ("total", "per s", "success", "avg, ms", "p99, ms", "pool timeouts", "timeouts", "conflicts"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict")
    for result in results:
        metrics = result.metrics
        table.add_row(
            result.test.name, escape(result.test.title), f"{metrics.total}", f"{metrics.per_s:.0f}",
            _share(metrics, metrics.successful), f"{metrics.average_ns / NS_PER_MS:.1f}",
            f"{metrics.p99_ns / NS_PER_MS:.1f}",
            str(metrics.pool_timeouts), str(metrics.timeouts), str(result.detected.state_conflicts),
            level_markup(result.verdict.level),
        )  # fmt: skip
    console.print(table)
    verdicts = [result.verdict for result in results]
    counted = ", ".join(
        f"{number} {level}" for level in LEVELS if (number := sum(each.level == level for each in verdicts))
    )
    end = "All tests completed" if complete else "Not all tests were run"
    console.print(f"{end}: {counted}; at worst {level_markup(worst(verdicts))}")


def what_runs(result: PoolTestResult) -> str:
    """The test's parameters in a line, with what was described where that differs."""
    test, described = result.test, result.described
    options = test.pool
    amount = f"{test.tasks} tasks x {_amount(test)}"
    if (test.tasks, test.operations) != (described.tasks, described.operations):
        amount += f" (described: {described.tasks} x {_amount(described)})"
    parts = [amount, f"pool size {options.pool_size} per node", f"pool timeout {options.pool_timeout_ms / 1000:g} s"]
    for name in ("min_idle_conns", "max_idle_conns", "max_active_conns"):
        if getattr(options, name):
            parts.append(f"{name.replace('_', ' ').removesuffix(' conns')} {getattr(options, name)}")
    if test.pause_top_us:
        parts.append(f"rest of up to {test.pause_top_us / 1000:g} ms after each")
    if test.subscribers:
        parts.append(f"{test.subscribers} subscribers")
    return ", ".join(parts)


def metric_lines(metrics: PoolMetrics) -> list[str]:
    """The metrics block."""
    lines = [
        f"elapsed {metrics.elapsed_ns / NS_PER_S:.2f} s, throughput {metrics.per_s:.0f} operations/s",
        f"total operations: {metrics.total}",
        f"successful:       {metrics.successful} ({_share(metrics, metrics.successful)})",
        f"failed:           {metrics.failed} ({_share(metrics, metrics.failed)})",
        f"timeouts:         {metrics.timeouts} ({_share(metrics, metrics.timeouts)})",
        f"pool timeouts:    {metrics.pool_timeouts} ({_share(metrics, metrics.pool_timeouts)})",
        f"average latency:  {_ms(metrics.average_ns)} (p50 {_ms(metrics.p50_ns)}, p99 {_ms(metrics.p99_ns)}, "
        f"longest {_ms(metrics.longest_ns)})",
    ]
    if metrics.unaccounted:
        lines.insert(2, f"without an outcome: {metrics.unaccounted}")
    lines += [
        f"failed: {reason.count} x {reason.name}: {' '.join(reason.example.split())[:EXAMPLE_WIDTH]}"
        for reason in metrics.reasons[:REASONS_SHOWN]
    ]
    if len(metrics.reasons) > REASONS_SHOWN:
        lines.append(f"failed: {len(metrics.reasons) - REASONS_SHOWN} more reasons (see --json)")
    return lines


def histogram(metrics: PoolMetrics) -> Table:
    """The latency histogram of the successes."""
    table = Table(title="latency", title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("", justify="right")
    table.add_column("n", justify="right")
    table.add_column("%", justify="right")
    table.add_column("", no_wrap=True)
    most = max(metrics.histogram)
    for name, count in zip(BUCKET_NAMES, metrics.histogram, strict=True):
        share = f"{count / metrics.successful:.1%}" if metrics.successful else "-"
        table.add_row(escape(name), str(count), share, "#" * (-(-count * BAR_WIDTH // most) if most else 0))
    return table


def node_table(result: PoolTestResult) -> Table:
    """The pools' statistics, one row per node, and their sums."""
    table = Table(
        title="pool statistics",
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("node", no_wrap=True)
    for title, _ in _COLUMNS:
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("wait, ms", justify="right", no_wrap=True)
    table.add_column("removed")
    for node, counts in result.nodes.items():
        removed = ", ".join(f"{number} {reason}" for reason, number in result.removals.get(node, {}).items())
        waited_ns = counts["wait_ns"] // counts["wait_count"] if counts["wait_count"] else 0
        table.add_row(
            escape(node),
            *(str(counts[key]) for _, key in _COLUMNS),
            f"{waited_ns / NS_PER_MS:.1f}",
            escape(removed) or "none",
        )
    return table


def live_table(look: PoolLook) -> Table:
    """The connections of each node by state, at this moment."""
    table = Table(
        title=escape(progress_line(look)), title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True
    )
    table.add_column("node", no_wrap=True)
    for name in (*STATES, "turns", "waiting", "dialing", "listed"):
        table.add_column(name, justify="right")
    for node, snapshot in look.snapshot().items():
        occupancy = snapshot.occupancy
        table.add_row(
            escape(node),
            *(str(number or "") for number in states_of(snapshot).values()),
            f"{snapshot.turns_held}/{occupancy.pool_size}",
            str(occupancy.waiting),
            str(occupancy.dialing),
            str(snapshot.listed),
        )
    return table


def live_lines(look: PoolLook) -> list[str]:
    """The same as plain lines, for where there is no terminal."""
    return [f"{look.test.name} {node}: {snapshot.occupancy}" for node, snapshot in look.snapshot().items()]


def states_of(snapshot: PoolSnapshot) -> dict[str, int]:
    """How many connections are in each state."""
    counts = dict.fromkeys(STATES, 0)
    for conn in snapshot.conns:
        counts[conn.state] += 1
    return counts


def progress_line(look: PoolLook) -> str:
    """How far a test is."""
    of = f"/{look.planned}" if look.planned else ""
    return (
        f"{look.test.name} {look.test.title} ({look.number} of {look.count}): "
        f"{look.done}{of} operations, {look.elapsed_ns / NS_PER_S:.1f} s"
    )


def to_json(
    results: Sequence[PoolTestResult], servers: Mapping[str, Any], machine: Mapping[str, Any]
) -> dict[str, Any]:
    """What ``--json`` writes."""
    return {
        "schema": 1,
        "servers": dict(servers),
        "machine": dict(machine),
        "verdict": worst([result.verdict for result in results]),
        "results": [result.to_json() for result in results],
    }


def level_markup(level: str) -> str:
    """A verdict's word in its colour, as rich markup."""
    return f"[{LEVEL_STYLE[level]}]{level}[/]"


def _because(result: PoolTestResult) -> str:
    return f": {escape('; '.join(result.verdict.reasons))}" if result.verdict.reasons else ""


def _fact_lines(result: PoolTestResult) -> list[str]:
    lines = [f"{name.replace('_', ' ')}: {count}" for name, count in result.facts.items()]
    counts = {name: count for name, count in result.client.items() if count and name != "maps"}
    return [*lines, *([f"client: {', '.join(f'{n} {name}' for name, n in counts.items())}"] if counts else [])]


def _amount(test: PoolTest) -> str:
    if not test.operations:
        return f"{test.duration_ms / 1000:g} s"
    amount = f"{test.operations} operation{'s' if test.operations != 1 else ''}"
    if test.batch > 1:
        amount += f" of {test.batch} commands"
    return f"{amount}, {test.rounds} rounds" if test.rounds > 1 else amount


def _share(metrics: PoolMetrics, count: int) -> str:
    return f"{count / metrics.total:.1%}" if metrics.total else "-"


def _ms(duration_ns: int) -> str:
    return f"{duration_ns / NS_PER_MS:.2f} ms"
