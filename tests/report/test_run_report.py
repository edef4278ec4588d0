"""The report of single runs: every figure in its place, at every width."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coordemu.lab.result import QuerySums, Result, TimelineRow
from coordemu.report.run_report import REASONS_SHOWN, SIDE_BY_SIDE_WIDTH, print_runs, print_stacks

MakeResult = Callable[..., Result]
Printed = Callable[..., str]


def test_a_run(make_result: MakeResult, printed: Printed) -> None:
    text = printed(print_runs, [make_result()])
    lines = [line.strip() for line in text.splitlines()]
    assert lines[0] == "upstream-7410: WORKERS 12 -> 0, connections per node 13 -> 1"
    assert [word.strip() for word in lines[2].strip("┃").split("┃")] == ["time", "action", "result"]
    assert [word.strip() for word in lines[4].strip("│").split("│")] == [
        "0.1 ms", "CONFIG SET WORKERS 0", "accepted; 12 queries in flight",
    ]  # fmt: skip
    assert lines[-4:-1] == [
        "verdict: healthy: all 240 queries replied, longest PING gap 9 ms",
        "queries: 240 sent = 240 replied + 0 failed + 0 lost; p50 23 ms, p99 41 ms",
        "PING: 74 answered; longest gap 9 ms, before the resize 17 ms",
    ]


def test_a_plan_is_told_whole(make_result: MakeResult, printed: Printed) -> None:
    result = make_result()
    result = make_result(scenario={**result.scenario, "workers": [4, 9, 2]})
    assert "WORKERS 4 -> 9 -> 2, connections" in printed(print_runs, [result])


def test_what_never_happened(make_result: MakeResult, printed: Printed) -> None:
    text = printed(print_runs, [make_result(timeline=(TimelineRow(None, "PING", "no answer"),))])
    assert "│ never │ PING   │ no answer │" in text


def test_failures_the_most_frequent_first(make_result: MakeResult, printed: Printed) -> None:
    reasons = {f"ERR reason [{n}]": n for n in range(1, REASONS_SHOWN + 3)}
    queries = QuerySums(100 + sum(reasons.values()), 100, sum(reasons.values()), 0, reasons)
    lines = printed(print_runs, [make_result(queries=queries, verdict="degraded", why="28 of 128")]).splitlines()
    failed = [line.strip() for line in lines if line.startswith("failed: ")]
    assert failed == [f"failed: {n} x ERR reason [{n}]" for n in range(7, 2, -1)] + [
        "failed: 2 more reasons (see --json)"
    ]


@pytest.mark.parametrize(
    ("verdict", "why", "cycle", "told"),
    [
        ("lost", "11 of 40 queries never got an outcome", "workers-0 waits", True),
        ("deadlocked", "main waits: a cycle", "main waits: a cycle", False),
        ("degraded", "1 of 40 queries failed", "main waits", False),
    ],
)
def test_who_waits_is_told_once(
    make_result: MakeResult, printed: Printed, verdict: str, why: str, cycle: str, told: bool
) -> None:
    text = printed(print_runs, [make_result(verdict=verdict, why=why, cycle=cycle)])
    assert ("who waits for whom: " + cycle in text) is told
    assert f"verdict: {verdict}: {why}" in text


@pytest.mark.parametrize(("as_expected", "told"), [(True, False), (None, False), (False, True)])
def test_a_refuted_expectation(make_result: MakeResult, printed: Printed, as_expected: bool | None, told: bool) -> None:
    text = printed(print_runs, [make_result(as_expected=as_expected)])
    assert ("expected healthy: refuted by this run" in text) is told


def test_two_runs_stand_side_by_side_where_there_is_room(make_result: MakeResult, printed: Printed) -> None:
    runs = [make_result("writeup-before"), make_result("writeup-fix")]
    wide = printed(print_runs, runs, width=SIDE_BY_SIDE_WIDTH).splitlines()
    assert "writeup-before: WORKERS" in wide[0]
    assert "writeup-fix: WORKERS" in wide[0]
    narrow = printed(print_runs, runs, width=SIDE_BY_SIDE_WIDTH - 1)
    assert narrow.index("writeup-before: WORKERS") < narrow.index("verdict") < narrow.index("writeup-fix: WORKERS")
    three = printed(print_runs, [*runs, runs[0]], width=SIDE_BY_SIDE_WIDTH)
    assert three.count("\nwriteup-") == 2


@pytest.mark.parametrize("width", [60, 80, 132, 200])
def test_nothing_is_cut_off(make_result: MakeResult, printed: Printed, width: int) -> None:
    long = "33 replies pending, 22 delivered, 11 failed, 0 lost, and some more words after that, up to the very last"
    runs = [make_result(timeline=(TimelineRow(1.0, "replies in flight at the stop", long),))] * 2
    text = printed(print_runs, runs, width=width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    assert text.count("last") >= 2


def test_texts_are_not_taken_for_markup(make_result: MakeResult, printed: Printed) -> None:
    result = make_result(
        changes={"stop": "drop"}, why="[red]odd[/red]", timeline=(TimelineRow(0.0, "[bold]a", "[/]b"),)
    )
    text = printed(print_runs, [result])
    for part in ("upstream-7410[stop=drop]", "[red]odd[/red]", "[bold]a", "[/]b"):
        assert part in text


def test_stacks_only_when_asked_for(make_result: MakeResult, printed: Printed) -> None:
    result = make_result(
        verdict="deadlocked",
        why="a cycle",
        wait_for=(
            {"waiter": "main", "on": "barrier", "held_by": ["workers-0", "workers-1"], "since_ms": 607.4},
            {"waiter": "query q1", "on": "conn 1", "held_by": [], "since_ms": None},
        ),
        stacks={"main": [f"host.py:{n} step_{n}" for n in range(20)]},
    )
    assert "step_" not in printed(print_runs, [result])
    text = printed(print_runs, [result], show_stacks=True)
    assert text.index("verdict") < text.index("who waits for what") < text.index("main:")
    assert "│ main     │ barrier   │ workers-0, workers-1 │ 607 ms │" in text
    assert "│ query q1 │ conn 1    │ nobody               │        │" in text
    assert "step_12\n" in text  # the innermost eight
    assert "step_11" not in text
    assert printed(print_stacks, result) in text
