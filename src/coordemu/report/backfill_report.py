"""The report of backfill runs: account, operations, pressure over time, breaker, alerts; and the before/after table.

Role: what ``coordemu backfill`` prints. Times are shown in the plan's seconds: what a run at speed 10 did in 2 s is
told as 20 s, and the head line says so. Thread: the caller's. Upstream: the write-up's before/after table. Left out:
single messages beyond the first few; the JSON has all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from coordemu.lab.backfill_compare import BackfillComparison, Promise
from coordemu.lab.backfill_measures import SENTENCES
from coordemu.lab.backfill_result import ENDED, BackfillResult
from coordemu.lab.backfill_tally import IN_VAIN, OPERATIONS, OTHER, REFUSED
from coordemu.lab.pool_metrics import POOL_TIMEOUT, TIMEOUT
from coordemu.runtime.base import NS_PER_S

BLOCKS = "▁▂▃▄▅▆▇█"
PLAIN_BLOCKS = "_.-=+*#@"
SPARK_WIDTH = 60
TABLE_SPARK_WIDTH = 20
REASONS_SHOWN = 6
NAMED_SHOWN = 8
MOVES_SHOWN = 12


def print_backfill(console: Console, result: BackfillResult) -> None:
    """Everything about one run."""
    console.rule(f"backfill: {escape(result.setup.name)}", align="left")
    for line in run_lines(result, _blocks(console)):
        console.print(escape(line), soft_wrap=True)
    console.print(operations_table(result))
    for line in reason_lines(result):
        console.print(escape(line), soft_wrap=True)
    console.print(f"verdict: {_verdict_markup(result)}", soft_wrap=True)


def print_backfill_comparison(console: Console, comparison: BackfillComparison, complete: bool = True) -> None:
    """The table, and the promise beside what was measured. complete: whether all runs were made."""
    first = comparison.before
    if first is None:
        console.print("no run came to its end")
        return
    console.print(escape(head_line(first)), soft_wrap=True)
    console.print(comparison_table(comparison.results, _blocks(console)))
    for line in measure_lines(comparison.results):
        console.print(escape(line), soft_wrap=True)
    for result in comparison.results[:2]:
        for line in (*breaker_lines(result), *alert_lines(result)):
            console.print(escape(f"{result.setup.name}: {line}"), soft_wrap=True)
    for promise in comparison.promises():
        console.print(escape(promise_line(promise)), soft_wrap=True)
    for result in comparison.results:
        for rule in (*result.account.broken, *result.crashes):
            console.print(f"[bold red]{escape(result.setup.name)}: {escape(rule)}[/]", soft_wrap=True)
    if not complete:
        console.print("Not all runs were made.")


def head_line(result: BackfillResult) -> str:
    """The load in a line."""
    plan = result.plan
    rate = f"{plan.rate_per_s:g} a second" if plan.rate_per_s else "as fast as they can be put"
    hub = f"{plan.hub_requests} requests per {plan.hub_window_ms / 1000:g} s" if plan.hub_requests else "no limit"
    parts = [
        f"{plan.messages} messages, {rate}; {plan.concurrency} workers; Hub: {hub}, {plan.hub}; "
        f"{plan.store_slots} slots of {plan.store_ms:g} ms; on {result.servers}, {result.runtime}"
    ]
    if plan.kills:
        parts.append(f"Redis dead {', '.join(map(str, plan.kills))}")
    if plan.speed != 1:
        parts.append(f"at speed {plan.speed:g}: a second told here took {1000 / plan.speed:g} ms")
    return "; ".join(parts)


def run_lines(result: BackfillResult, blocks: str = BLOCKS) -> list[str]:
    """A run's account, times, pressure, breaker and alerts, line by line."""
    account = result.account
    lines = [head_line(result), account.sentence()]
    for word, which in (("dead-lettered", account.dead), ("lost", account.lost), ("left", account.left)):
        lines += [
            f"  {word}: {count} x {reason}{_named(which, reason)}" for reason, count in account.reasons(which)[:8]
        ]
    lines.append(
        f"absorbed as done already: {account.duplicates}; delivered again: {account.again}"
        + (f"; taken for lost, and not: {account.false_alarms}" if account.false_alarms else "")
        + (f"; reaped {result.reaper['reaped']}, put again after a server had forgotten {result.reaper['restored']}"
           if result.reaper else "")
    )  # fmt: skip
    lines.append(
        f"{result.per_s_of_plan:.2f} messages done a second, in {_s(result, result.elapsed_ns):.1f} s ({result.how}); "
        f"from put to done {_s(result, account.median_ns):.2f} s in the middle, at most "
        f"{_s(result, account.longest_ns):.2f} s; longest wait for one operation "
        f"{_s(result, result.longest_wait_ns):.2f} s"
    )
    lines.append(
        f"pressure {spark(pressures(result), SPARK_WIDTH, blocks)} {result.mean_pressure:.0%} on average, "
        f"{_s(result, result.pressed_ns):.1f} s under pressure, longest line {result.longest_line}"
    )
    lines += [f"{_at(result, at_ns)}: {what}" for at_ns, what in sorted(result.happened)]
    return [*lines, *breaker_lines(result), *alert_lines(result)]


def operations_table(result: BackfillResult) -> Table:
    """Operations by kind."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("operation", no_wrap=True)
    for name in ("begun", "pool time-outs", "time-outs", "waited in vain", "errors", "refused", "longest, s"):
        table.add_column(name, justify="right", no_wrap=True)
    ops = result.ops
    for what in OPERATIONS:
        counts = [ops.failed.get((what, kind), 0) for kind in (POOL_TIMEOUT, TIMEOUT, IN_VAIN, OTHER, REFUSED)]
        longest_s = _s(result, ops.longest_ns.get(what, 0))
        table.add_row(what, str(ops.operations.get(what, 0)), *map(str, counts), f"{longest_s:.2f}")
    return table


def reason_lines(result: BackfillResult) -> list[str]:
    """Time-outs and errors as shares, and the most frequent reasons."""
    ops = result.ops
    lines = [f"time-outs {ops.timeout_share:.1%}, errors {ops.error_share:.1%} of {ops.total} operations"]
    lines += [f"  {each.count} x {each.name}: {each.example}" for each in ops.reasons[:REASONS_SHOWN]]
    return lines


def comparison_table(results: Sequence[BackfillResult], blocks: str = BLOCKS) -> Table:
    """One row per run."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("", no_wrap=True)
    for name in ("time-outs", "of ops", "done", "lost", "left", "per s", "wait, s", "pressure"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("over time", no_wrap=True)
    table.add_column("breaker", no_wrap=True)
    table.add_column("alerts, and when", no_wrap=False)
    for result in results:
        account, ops = result.account, result.ops
        fired = ", ".join(f"{event.name} {_s(result, event.at_ns):.0f}s" for event in result.fired)
        opened = sum(event.kind == "opened" for event in result.breaker)
        has = result.setup.settings.breaker.enabled
        table.add_row(
            escape(result.setup.name), str(ops.timeouts), f"{ops.timeout_share:.1%}",
            str(account.done) + (f"+{len(account.dead)}" if account.dead else ""), str(len(account.lost)),
            str(len(account.left)), f"{result.per_s_of_plan:.2f}", f"{_s(result, result.longest_wait_ns):.1f}",
            f"{result.mean_pressure:.0%}", spark(pressures(result), TABLE_SPARK_WIDTH, blocks),
            (f"opened {opened}x" if opened else "closed") if has else "-", fired or "-",
        )  # fmt: skip
    return table


def breaker_lines(result: BackfillResult) -> list[str]:
    """The breaker's moves in one line."""
    if not result.setup.settings.breaker.enabled:
        return []
    moves = [f"{_at(result, event.at_ns)} {event.kind} ({event.why})" for event in result.breaker[:MOVES_SHOWN]]
    more = f", and {len(result.breaker) - MOVES_SHOWN} more moves" if len(result.breaker) > MOVES_SHOWN else ""
    return [f"breaker: {', '.join(moves) or 'closed all the time'}{more}"]


def alert_lines(result: BackfillResult) -> list[str]:
    """Alerts, each with when."""
    if not result.alerts:
        return ["alerts: none"]
    said = [f"{_at(result, event.at_ns)} {event.name} {event.kind}" for event in result.alerts]
    return [f"alerts: {', '.join(said)}"]


def promise_line(promise: Promise) -> str:
    """A claim beside what was measured."""
    if promise.measured is None:
        return f"{promise.what}: said {promise.said}; nothing to compare with: {promise.detail}"
    verdict = "kept" if promise.kept else "not kept"
    return f"{promise.what}: said {promise.said}, measured {promise.measured:.1%} ({verdict}): {promise.detail}"


def measure_lines(results: Sequence[BackfillResult]) -> list[str]:
    """What the measures are that runs beyond before and after have, or miss."""
    words = {word for result in results[2:] for word in result.setup.name.replace(",", " ").split()}
    return [f"{name}: {sentence}" for name, sentence in SENTENCES.items() if name in words]


def pressures(result: BackfillResult) -> list[float]:
    """Of all looks, 0 to 1."""
    return [look.pressure for look in result.looks]


def spark(values: Sequence[float], width: int, blocks: str = BLOCKS) -> str:
    """Values of 0 to 1 as a row of at most `width` characters, the highest of each stretch. Thread: any."""
    if not values:
        return ""
    count = min(width, len(values))
    row = []
    for index in range(count):
        part = values[index * len(values) // count : (index + 1) * len(values) // count]
        row.append(blocks[min(len(blocks) - 1, int(max(part) * len(blocks)))])
    return "".join(row)


def _named(which: Mapping[int, str], reason: str) -> str:
    numbers = sorted(message for message, why in which.items() if why == reason)
    shown = ", ".join(map(str, numbers[:NAMED_SHOWN]))
    return f" (messages {shown}{', ...' if len(numbers) > NAMED_SHOWN else ''})"


def _s(result: BackfillResult, duration_ns: int) -> float:
    """In the plan's seconds."""
    return duration_ns / NS_PER_S * result.plan.speed


def _at(result: BackfillResult, at_ns: int) -> str:
    return f"{_s(result, at_ns):.1f}s"


def _verdict_markup(result: BackfillResult) -> str:
    if result.account.broken or result.crashes:
        return f"[bold red]broken[/]: {escape('; '.join((*result.account.broken, *result.crashes)))}"
    if result.how != ENDED:
        return f"[yellow]{result.how}[/]: {len(result.account.left)} messages were left"
    if result.account.lost:
        return f"[yellow]conserved, and {len(result.account.lost)} messages lost[/], each of them named"
    return "[green]conserved[/]: every message is done, or a dead letter with its reason"


def _blocks(console: Console) -> str:
    return BLOCKS if (console.encoding or "").lower().startswith("utf") else PLAIN_BLOCKS
