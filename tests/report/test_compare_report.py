"""The comparison table, from one run or several of each policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from coordemu.lab.result import PingSums, QuerySums, Result
from coordemu.report.compare_report import print_comparison, refuted, verdict_shares

MakeResult = Callable[..., Result]
Printed = Callable[..., str]
Receipt = Callable[..., dict[str, Any]]


def cells(text: str, policy: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"│ {policy} "))
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_one_row_per_policy(make_result: MakeResult, printed: Printed, receipt: Receipt) -> None:
    stuck = make_result(
        "writeup-before",
        verdict="deadlocked",
        why="main waits",
        cycle="main waits for [x]",
        config_set_ms=(None,),
        queries=QuerySums(52, 40, 0, 12),
        ping=PingSums(9, 8, 612.0),
        receipts=(receipt("deadline", 0, lost=33),),
    )
    text = printed(print_comparison, [[stuck], [make_result("shrink-drain-event")]])
    assert cells(text, "writeup-before") == [
        "writeup-before", "deadlocked", "never", "612", "no drain: 33 lost", "40 / 0 / 12",
    ]  # fmt: skip
    assert cells(text, "shrink-drain-event") == [
        "shrink-drain-event", "healthy", "0.6", "9.4", "drained, 18.5 ms", "240 / 0 / 0",
    ]  # fmt: skip
    assert text.splitlines()[-1] == "writeup-before: main waits for [x]"


@pytest.mark.parametrize(
    ("policy", "receipts", "says"),
    [
        ("upstream-7410", [], "not reached"),
        ("upstream-7410", [("deadline", 0, 3)], "no drain: 30 delivered, 3 lost"),
        ("shrink-drain-timer", [("drained", 30.4, 0), ("nothing-pending", 0, 0)], "drained, 30.4 ms"),
        ("shrink-drain-timer", [("drained", 30.4, 0), ("deadline", 300, 0)], "deadline, 300 ms"),
        ("shrink-drain-timer", [("nothing-pending", 0, 0)], "nothing pending, 0.0 ms"),
    ],
)
def test_the_drain(
    make_result: MakeResult,
    printed: Printed,
    receipt: Receipt,
    policy: str,
    receipts: list[tuple[str, float, int]],
    says: str,
) -> None:
    result = make_result(policy, receipts=tuple(receipt(*each) for each in receipts))
    assert cells(printed(print_comparison, [[result]]), policy)[4] == says


def test_without_replies_in_flight_there_is_nothing_to_tell(
    make_result: MakeResult, printed: Printed, receipt: Receipt
) -> None:
    none = {**receipt("nothing-pending", 0), "delivered": 0}
    assert cells(printed(print_comparison, [[make_result(receipts=(none,))]]), "upstream-7410")[4] == (
        "no drain: nothing in flight"
    )


def test_repeats_are_summed_and_the_median_is_shown(make_result: MakeResult, printed: Printed) -> None:
    runs = [
        make_result(config_set_ms=(1.0,)),
        make_result(config_set_ms=(5.0,), verdict="degraded", why="2 of 240 failed", queries=QuerySums(240, 238, 2)),
        make_result(config_set_ms=(9.0,)),
        make_result(config_set_ms=(None,), verdict="deadlocked", why="stuck", queries=QuerySums(50, 40, 0, 10)),
    ]
    assert verdict_shares(runs) == {"healthy": 0.5, "degraded": 0.25, "deadlocked": 0.25}
    text = printed(print_comparison, [runs])
    row = cells(text, "upstream-7410")
    assert row[1] == "healthy 2/4"
    assert row[2] == "5.0 (1 never)"
    assert row[5] == "758 / 2 / 10"
    assert "degraded 1/4" in text
    assert "deadlocked 1/4" in text
    assert text.splitlines()[-1] == "upstream-7410: stuck"  # the worst of them


def test_overrides_stand_under_the_name(make_result: MakeResult, printed: Printed) -> None:
    result = make_result(changes={"stop": "drop", "drain_timeout_ms": 300})
    lines = printed(print_comparison, [[result]]).splitlines()
    number = next(number for number, line in enumerate(lines) if line.startswith("│ upstream-7410 "))
    assert "[drain_timeout_ms=300,stop=drop]" in lines[number + 1]


@pytest.mark.parametrize("width", [80, 132, 200])
def test_nothing_is_cut_off(make_result: MakeResult, printed: Printed, receipt: Receipt, width: int) -> None:
    nothing = receipt("nothing-pending", 0)
    groups = [
        [make_result("writeup-fix-pool-pause", verdict="refused", why="ERR " + "why " * 60, receipts=(nothing,))],
        [make_result("shrink-drain-literal", receipts=(receipt("superseded", 12345.6),))],
    ]
    text = printed(print_comparison, groups, width=width)
    assert "…" not in text
    assert "writeup-fix-pool-pause" in text
    table = [line for line in text.splitlines() if line[0] in "┏┃┡│└"]
    assert max(map(len, table)) <= width
    # The reason is one line, for a terminal or an editor to fold.
    assert ("writeup-fix-pool-pause: ERR " + "why " * 60).strip() in [line.strip() for line in text.splitlines()]


@pytest.mark.parametrize(
    ("outcomes", "line"),
    [
        ([True], None),
        ([None], None),
        ([False, True], None),
        ([False], "delay-trigger: expected lost, got healthy"),
        ([False, False], "delay-trigger: expected lost, got healthy"),
    ],
)
def test_what_is_refuted(make_result: MakeResult, outcomes: list[bool | None], line: str | None) -> None:
    group = [make_result("delay-trigger", as_expected=outcome) for outcome in outcomes]
    assert refuted([group, [make_result()]]) == ([line] if line else [])
