"""The report of single runs: a timeline each in the shape of the write-up's table, and the verdict with its reason.

Role: what ``coordemu run`` prints. Thread: the caller's. Upstream: the write-up's table "time, action, result".
Left out: comparing more than a handful of runs (`coordemu.report.compare_report`).
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table

from coordemu.lab.result import Result
from coordemu.report.console import verdict_markup

SIDE_BY_SIDE_WIDTH = 150
REASONS_SHOWN = 5


def print_runs(console: Console, results: Sequence[Result], show_stacks: bool = False) -> None:
    """Print each run's timeline and verdict; two of them side by side where the console is wide enough."""
    blocks = [run_block(result) for result in results]
    if len(blocks) == 2 and console.width >= SIDE_BY_SIDE_WIDTH:
        grid = Table.grid(padding=(0, 3), expand=True)
        grid.add_column(ratio=1)
        grid.add_column(ratio=1)
        grid.add_row(*blocks)
        console.print(grid)
    else:
        for block in blocks:
            console.print(block)
            console.print()
    for result in results:
        if result.stacks and show_stacks:
            print_stacks(console, result)


def run_block(result: Result) -> Group:
    """One run as a printable block."""
    sizes = " -> ".join(map(str, result.scenario["workers"]))
    conns = " -> ".join(map(str, result.connections))
    title = f"{result.policy['name']}: WORKERS {sizes}, connections per node {conns}"
    table = Table(title=escape(title), title_justify="left", title_style="bold", expand=False)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("action", no_wrap=True)
    table.add_column("result")
    for row in result.timeline:
        table.add_row("never" if row.at_ms is None else f"{row.at_ms:.1f} ms", escape(row.action), escape(row.result))
    return Group(table, *(line for line in verdict_lines(result)))


def verdict_lines(result: Result) -> list[str]:
    """The lines under a timeline: verdict, queries, PING, the cycle if there is one, the expectation."""
    queries, ping = result.queries, result.ping
    lines = [
        f"verdict: {verdict_markup(result.verdict)}: {escape(result.why)}",
        f"queries: {queries.sent} sent = {queries.replied} replied + {queries.failed} failed + {queries.lost} lost; "
        f"p50 {queries.p50_ms:.0f} ms, p99 {queries.p99_ms:.0f} ms",
        f"PING: {ping.answered} answered; longest gap {ping.max_gap_ms:.0f} ms, "
        f"before the resize {ping.max_gap_before_ms:.0f} ms",
    ]
    reasons = sorted(queries.by_reason.items(), key=lambda item: -item[1])
    lines += [f"failed: {count} x {escape(reason)}" for reason, count in reasons[:REASONS_SHOWN]]
    if len(reasons) > REASONS_SHOWN:
        lines.append(f"failed: {len(reasons) - REASONS_SHOWN} more reasons (see --json)")
    if result.verdict in ("deadlocked", "unresponsive", "lost") and result.cycle and result.cycle != result.why:
        lines.append(f"who waits for whom: {escape(result.cycle)}")
    if result.as_expected is False:
        lines.append(f"[yellow]expected {result.policy['expected']}: refuted by this run[/]")
    return lines


def print_stacks(console: Console, result: Result) -> None:
    """The wait-for edges and each thread's stack of a run that hung."""
    table = Table(title="who waits for what", title_justify="left", title_style="bold")
    for name in ("thread", "waits for", "held by", "since"):
        table.add_column(name)
    for edge in result.wait_for:
        table.add_row(
            escape(edge["waiter"]),
            escape(edge["on"]),
            escape(", ".join(edge["held_by"]) or "nobody"),
            "" if edge["since_ms"] is None else f"{edge['since_ms']:.0f} ms",
        )
    console.print(table)
    for name, frames in result.stacks.items():
        console.print(f"{escape(name)}:", style="bold")
        for frame in frames[-8:]:
            console.print(f"  {escape(frame)}")
