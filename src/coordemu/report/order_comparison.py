"""The comparison of policies in the simulator: one row per policy, from many orders each.

Role: what ``coordemu compare --runtime sim`` prints. A row shows how many orders were played, the share of each
verdict, whether that was all of them, and the first that fails, after shrinking.

Thread: the caller's. Upstream: none. Left out: single runs on real threads (`coordemu.report.compare_report`).
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from coordemu.report.console import verdict_markup
from coordemu.report.explore_report import ExploreReport, not_played, shape, share


def print_order_comparison(console: Console, reports: Sequence[ExploreReport]) -> None:
    """Print one row per policy, and under the table what is wrong with each."""
    table = Table()
    table.add_column("policy", no_wrap=True, overflow="fold")
    table.add_column("orders", justify="right")
    table.add_column("verdicts", no_wrap=True)
    table.add_column("exhaustive")
    table.add_column("first failing order")
    for report in reports:
        verdicts = sorted(report.verdicts.items(), key=lambda item: -item[1])
        table.add_row(
            escape(report.policy.replace("[", "\n[", 1)),
            str(report.orders),
            "\n".join(f"{verdict_markup(name)} {share(count, report.orders)}" for name, count in verdicts),
            report.ending or "no",
            escape(_first(report)),
        )
    console.print(table)
    for report in reports:
        for failure in report.failures[:1]:
            if failure.played.failure is not None:
                console.print(f"{escape(report.policy)}: {escape(failure.played.failure.sentence)}", soft_wrap=True)
            if failure.decides:
                console.print(f"  what decides: {escape(failure.decides)}", soft_wrap=True)
            if failure.command:
                console.print(f"  replay: {escape(failure.command)}", soft_wrap=True)
        for line in not_played(report):
            console.print(f"{escape(report.policy)}: {escape(line)}", style="red", soft_wrap=True)


def _first(report: ExploreReport) -> str:
    if not report.failures:
        return "none" if not report.kinds else "not looked at"
    first = report.failures[0]
    more = f"; {report.kinds} kinds" if report.kinds > 1 else ""
    return f"order {first.number}: {first.played.verdict}, {shape(first)}{more}"


def refuted_orders(reports: Sequence[ExploreReport], expected: Sequence[str]) -> list[str]:
    """One line per policy that was not as expected. expected: of each the verdict, "" where none is.

    A bad verdict is expected of some order; "healthy" of all.
    """
    lines = []
    for report, verdict in zip(reports, expected, strict=True):
        if verdict and not as_expected(report, verdict):
            lines.append(f"{report.policy}: expected {verdict}, got {in_short(report)}")
    return lines


def in_short(report: ExploreReport) -> str:
    """The share of each verdict, and how an exhaustive search ended, in one line."""
    shares = [f"{name} {share(count, report.orders)}" for name, count in report.verdicts.items()]
    return ", ".join([*shares, report.ending] if report.ending else shares) or "no orders"


def as_expected(report: ExploreReport, verdict: str) -> bool:
    """Whether "healthy" came in all orders, or another verdict in at least one."""
    if verdict == "healthy":
        return (
            not (report.kinds or report.lost or report.broken_off)
            and report.verdicts.get(verdict, 0) == report.orders > 0
        )
    return report.verdicts.get(verdict, 0) > 0
