"""The backfill's reports: what is told of a run, and the promise beside what was measured."""

from __future__ import annotations

import io
from dataclasses import replace
from functools import cache

import pytest
from rich.console import Console

from coordemu.lab.backfill_compare import BackfillComparison
from coordemu.lab.backfill_ledger import Account
from coordemu.lab.backfill_measures import BackfillSetup
from coordemu.lab.backfill_plan import BackfillPlan
from coordemu.lab.backfill_result import ENDED, TIME_LIMIT, BackfillResult
from coordemu.lab.backfill_sim import run_in_simulator
from coordemu.lab.backfill_tally import OpSums
from coordemu.lab.hub_plan import HubPlan, Outage, Span
from coordemu.lab.pool_metrics import POOL_TIMEOUT
from coordemu.report.backfill_progress import BackfillProgress
from coordemu.report.backfill_report import print_backfill, print_backfill_comparison, promise_line, run_lines, spark
from coordemu.runtime.base import NS_PER_MS, NS_PER_S


@cache
def played(profile: str) -> BackfillResult:
    hub = HubPlan(latency_ns=NS_PER_MS, outages=(Outage(Span(NS_PER_S, NS_PER_S)),))
    plan = BackfillPlan(messages=20, concurrency=10, hub=hub, poison=0.1, limit_ms=60_000.0, speed=10.0)
    return run_in_simulator(plan, BackfillSetup.load(profile))


def printed(width: int = 132, result: BackfillResult | None = None, *more: BackfillResult) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, highlight=False)
    if more:
        assert result is not None
        print_backfill_comparison(console, BackfillComparison((result, *more)))
    elif result is not None:
        print_backfill(console, result)
    else:
        print_backfill_comparison(console, BackfillComparison(()))
    return out.getvalue()


def test_a_run_that_is_conserved() -> None:
    text = printed(132, played("after"))
    assert "20 messages = 18 done + 2 dead-lettered" in text
    assert "HTTP 422 Unprocessable Entity (messages 9)" in text
    assert "5 deliveries came to nothing, the last with ContentGarbled (messages 19)" in text
    assert "breaker: " in text
    assert "opened (5 failures in a row" in text
    assert "1.0s: Hub down (refuse)" in text
    assert "at speed 10" in text
    assert "verdict: conserved: every message is done" in text


def test_losses_are_named() -> None:
    result = played("before")
    text = printed(132, result)
    assert result.account.lost
    for word in ("lost: ", "verdict: conserved, and", "each of them named"):
        assert word in text
    assert "breaker:" not in text


def test_the_comparison() -> None:
    text = printed(132, played("before"), played("after"))
    assert "fewer time-out errors, as a share of operations: said 95 %" in text
    assert "more messages done per second: said 40 to 60 %" in text
    assert text.count("alerts: ") >= 2
    assert "no run came to its end" in printed()


def test_the_promise_is_told_as_it_was_measured() -> None:
    def result(done: int, timeouts: int, how: str = ENDED) -> BackfillResult:
        ops = OpSums({"put": 100}, {("put", POOL_TIMEOUT): timeouts})
        return replace(played("after"), account=Account(10, done), ops=ops, elapsed_ns=NS_PER_S, how=how)

    fewer, more = BackfillComparison((result(4, 50), result(5, 10))).promises()
    assert (fewer.measured, fewer.kept) == (0.8, False)
    assert more.measured == pytest.approx(0.25)
    assert more.kept is False
    assert "measured 80.0% (not kept): 50 of 100 operations (50.0%) before, 10 of 100 (10.0%) after" in promise_line(
        fewer
    )
    fewer, more = BackfillComparison((result(0, 0), result(9, 3, TIME_LIMIT))).promises()
    assert (fewer.measured, more.measured) == (None, None)
    assert "nothing to compare with" in promise_line(fewer)
    fewer, more = BackfillComparison((result(5, 100), result(8, 5))).promises()
    assert (fewer.kept, more.kept) == (True, True)
    assert BackfillComparison((result(5, 1),)).promises() == ()


def test_a_broken_account_is_said() -> None:
    broken = replace(played("after"), account=replace(played("after").account, broken=("message 3 is gone",)))
    assert "verdict: broken: message 3 is gone" in printed(132, broken)
    assert "after: message 3 is gone" in printed(132, played("before"), broken)
    cut = replace(played("after"), how=TIME_LIMIT, account=Account(2, 1, left={1: "put"}))
    assert "verdict: time limit: 1 messages were left" in printed(132, cut)
    assert "  left: 1 x put (messages 1)" in run_lines(cut)


@pytest.mark.parametrize(
    ("values", "row"),
    [([], ""), ([0.0, 1.0], "▁█"), ([0.5], "▅"), ([0.1, 0.9, 0.2, 0.3], "█▃"), ([2.0], "█")],
)
def test_spark(values: list[float], row: str) -> None:
    assert spark(values, 2) == row


def test_progress_without_a_terminal_says_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    look = played("after").looks[-1]
    with BackfillProgress(Console(file=out, width=132)) as shown:
        shown.begin("after (1/1)", 20)
        shown.watch(look, BackfillPlan(messages=20))
        assert out.getvalue() == ""
        now_ns = shown._now_ns()
        monkeypatch.setattr(shown, "_now_ns", lambda: now_ns + 6 * NS_PER_S)
        shown.watch(look, BackfillPlan(messages=20))
    assert "after (1/1): pressure " in out.getvalue()
    assert "18 done, 2 dead, 0 lost of 20" in out.getvalue()


def test_progress_on_a_terminal_is_a_bar() -> None:
    out = io.StringIO()
    with BackfillProgress(Console(file=out, width=132, force_terminal=True)) as shown:
        for label in ("before (1/2)", "after (2/2)"):
            shown.begin(label, 20)
            shown.watch(played("after").looks[-1], BackfillPlan(messages=20))
    assert "after (2/2)" in out.getvalue()
