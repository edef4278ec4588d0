"""The comparison table: one row per policy (and stop mode), from one or several runs each.

Role: what ``coordemu compare`` prints. With repeats a row shows the share of each verdict and the median of each
figure. Thread: the caller's. Upstream: none. Left out: tests of significance; the raw results are in the JSON.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from coordemu.lab.result import Result
from coordemu.report.console import verdict_markup


def verdict_shares(results: Sequence[Result]) -> dict[str, float]:
    """The share of each verdict, most frequent first; shares sum to 1."""
    counts = Counter(result.verdict for result in results)
    return {verdict: count / len(results) for verdict, count in counts.most_common()}


def _verdict_cell(results: Sequence[Result]) -> str:
    shares = verdict_shares(results)
    if len(results) == 1:
        return verdict_markup(results[0].verdict)
    return "\n".join(
        f"{verdict_markup(verdict)} {round(share * len(results))}/{len(results)}" for verdict, share in shares.items()
    )


def _ms(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "never"
    text = f"{median(known):.1f}" if median(known) < 100 else f"{median(known):.0f}"
    return text if len(known) == len(values) else f"{text} ({len(values) - len(known)} never)"


def _worst(results: Sequence[Result]) -> Result:
    order = ("deadlocked", "unresponsive", "lost", "degraded", "refused", "healthy")
    return min(results, key=lambda result: order.index(result.verdict))


def _drain_cell(results: Sequence[Result]) -> str:
    """The drain's outcome and median time; without a drain, what became of the replies that were in flight."""
    worst = _worst(results)
    if not worst.receipts:
        return "not reached"
    if worst.policy["drain"] != "none":
        return f"{worst.drain_outcome.replace('-', ' ')}, {_ms([result.drain_ms for result in results])} ms"
    sums = {fate: sum(receipt[fate] for receipt in worst.receipts) for fate in ("delivered", "failed", "lost")}
    fates = [f"{count} {fate}" for fate, count in sums.items() if count]
    return f"no drain: {', '.join(fates) or 'nothing in flight'}"


def print_comparison(console: Console, groups: Sequence[Sequence[Result]]) -> None:
    """Print one row per group, and under the table why each is what it is; a group holds the repeats of one policy."""
    table = Table()
    table.add_column("policy", no_wrap=True, overflow="fold")
    table.add_column("verdict", no_wrap=True)
    table.add_column("CONFIG SET ms", justify="right")
    table.add_column("PING gap ms", justify="right")
    table.add_column("drain", min_width=11)  # "superseded,"
    table.add_column("replied / failed / lost", justify="right")
    for group in groups:
        queries = [result.queries for result in group]
        table.add_row(
            escape(str(group[0].policy["name"]).replace("[", "\n[", 1)),
            _verdict_cell(group),
            _ms([result.config_set_ms[-1] if result.config_set_ms else None for result in group]),
            _ms([result.ping.max_gap_ms for result in group]),
            _drain_cell(group),
            f"{sum(q.replied for q in queries)} / {sum(q.failed for q in queries)} / {sum(q.lost for q in queries)}",
        )
    console.print(table)
    for group in groups:
        worst = _worst(group)
        if worst.verdict != "healthy":
            console.print(f"{escape(str(worst.policy['name']))}: {escape(worst.cycle or worst.why)}", soft_wrap=True)


def refuted(groups: Sequence[Sequence[Result]]) -> list[str]:
    """One line per group whose expected verdict did not come in any of its runs."""
    lines = []
    for group in groups:
        expected = group[0].policy["expected"]
        if group[0].as_expected is None or any(result.as_expected for result in group):
            continue
        lines.append(f"{group[0].policy['name']}: expected {expected}, got {', '.join(verdict_shares(group))}")
    return lines
