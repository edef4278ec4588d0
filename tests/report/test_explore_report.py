"""The reports of searches: shares, endings, what was not played, what is refuted, and the progress on the way there."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from coordemu.explore.order import OrderPlan, play
from coordemu.explore.program import ProgramSubject
from coordemu.explore.ranges import Lost
from coordemu.report import search_progress
from coordemu.report.console import verdict_markup
from coordemu.report.explore_report import (
    ExploreReport,
    OrderReport,
    cycle,
    not_played,
    print_exploration,
    print_order,
    share,
    waits,
)
from coordemu.report.order_comparison import as_expected, in_short, print_order_comparison, refuted_orders
from coordemu.report.search_progress import SearchProgress
from coordemu.runtime.sim import SimRuntime


def crossing(sim: SimRuntime) -> None:
    """Two tasks and a half: a takes one and two, b two and one, and main waits for both."""
    one, two = sim.lock("[one]"), sim.lock("two")

    def take(first: Any, second: Any) -> None:
        with first:
            sim.sleep_ns(1000)
            with second:
                pass

    tasks = [sim.spawn(take, one, two, name="a"), sim.spawn(take, two, one, name="b")]
    for task in tasks:
        task.join()


@pytest.fixture
def stuck() -> OrderReport:
    return OrderReport(play(ProgramSubject(crossing), OrderPlan()), 7, command="coordemu replay x")


def report(**changes: Any) -> ExploreReport:
    values: dict[str, Any] = {
        "scenario": "s", "policy": "p[stop=drop]", "subject": {}, "strategy": "random", "seed": 3, "orders": 10,
        "steps": 100, "verdicts": {"healthy": 10},
    }  # fmt: skip
    return ExploreReport(**{**values, **changes})


def printed(show: Callable[[Console], None]) -> str:
    console = Console(file=io.StringIO(), width=132, color_system=None)
    show(console)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


@pytest.mark.parametrize(
    ("count", "of", "said"),
    [(0, 0, "0 %"), (0, 9, "0 %"), (9, 9, "100 %"), (1, 3, "33.3 %"), (99_999, 100_000, "99.999 %"),
     (999_999, 1_000_000, "99.999 %"), (1, 100_000, "0.001 %"), (1, 2, "50 %")],
)  # fmt: skip
def test_a_share_is_never_rounded_to_none_or_all(count: int, of: int, said: str) -> None:
    assert share(count, of) == said


def test_who_waits_for_whom(stuck: OrderReport) -> None:
    rows = {row["task"]: row for row in waits(stuck.played)}
    assert (rows["a"]["on"], rows["a"]["held_by"]) == ("two", "b")
    assert (rows["b"]["on"], rows["b"]["held_by"]) == ("[one]", "a")
    found = cycle(stuck.played)
    assert found is not None
    assert found["kind"] == "cycle"
    assert found["steps"][0] == "main"
    said = printed(lambda console: print_order(console, stuck, "failure 1 of 1"))
    assert said.startswith("failure 1 of 1: failed: main waits for ")
    assert "│ [one]" in said  # no markup
    assert "first in order 7\n" in said
    assert "crossing.<locals>.take" in said
    assert said.endswith("  replay: coordemu replay x\n")
    values = stuck.to_json()
    assert values["cycle"] == found
    assert all("sim_" not in frame for frames in values["call_chains"].values() for frame in frames)


def test_an_order_that_passes_has_nobody_waiting() -> None:
    order = OrderReport(play(ProgramSubject(lambda sim: None), OrderPlan()))
    assert waits(order.played) == []
    assert cycle(order.played) is None
    assert "who waits" not in printed(lambda console: print_order(console, order))
    assert order.to_json()["cycle"] is None


def test_endings() -> None:
    assert report().ending == ""
    assert report(complete=True, classes=1).ending == "complete: 1 class"
    assert report(complete=True, classes=12).ending == "complete: 12 classes"
    assert report(complete=False, classes=12, runs=15).ending == "not complete: 12 classes in 15 runs"
    assert in_short(report(complete=True, classes=10)) == "healthy 100 %, complete: 10 classes"
    assert in_short(report(orders=0, verdicts={})) == "no orders"
    said = printed(lambda console: print_exploration(console, report(whole=False, elapsed_ns=2 * 10**9)))
    assert "10 orders, 100 steps in 2.0 s, 5 orders/s; strategy random, seed 3\n" in said
    assert "ended before all orders were played\n" in said


def test_more_kinds_than_are_told(stuck: OrderReport) -> None:
    told = report(kinds=3, failures=(stuck,), verdicts={"failed": 10})
    assert printed(lambda console: print_exploration(console, told)).endswith(
        "\n2 more kinds of failures (--kinds shows more)\n"
    )


def test_what_was_not_played() -> None:
    incomplete = report(lost=(Lost(5, 2, "[killed]"),), broken_off="gone")
    assert not_played(incomplete) == ["broken off: gone", "orders 5 to 6 were not played: [killed]"]
    for said in (
        printed(lambda console: print_exploration(console, incomplete)),
        printed(lambda console: print_order_comparison(console, [incomplete])),
    ):
        assert "orders 5 to 6 were not played: [killed]\n" in said


def test_what_is_refuted() -> None:
    sound, mixed = report(), report(kinds=1, verdicts={"healthy": 9, "lost": 1})
    assert as_expected(sound, "healthy")
    assert not as_expected(mixed, "healthy")
    assert as_expected(mixed, "lost")
    assert not as_expected(report(orders=0, verdicts={}), "healthy")
    assert not as_expected(report(broken_off="gone"), "healthy")
    assert refuted_orders([sound, mixed, mixed], ["lost", "", "healthy"]) == [
        "p[stop=drop]: expected lost, got healthy 100 %",
        "p[stop=drop]: expected healthy, got healthy 90 %, lost 10 %",
    ]


def test_a_verdict_that_only_the_simulator_has() -> None:
    assert verdict_markup("leaked") == "[bold red]leaked[/]"


# ---- progress


@pytest.mark.parametrize(("terminal", "orders", "seconds"), [(True, 10, None), (True, None, 5.0), (False, 10, None)])
def test_progress(monkeypatch: pytest.MonkeyPatch, terminal: bool, orders: int | None, seconds: float | None) -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=100, color_system=None)
    monkeypatch.setattr(search_progress, "progress", lambda: console)
    monkeypatch.setattr(search_progress, "LINE_EVERY_NS", 0)
    monkeypatch.setattr(search_progress, "DRAW_EVERY_NS", 0)
    with SearchProgress("[small]", orders, seconds) as shown:
        shown.show(3, 0)
        shown.show(4, 1)
        shown.tell("shrinking")
        if shown._bar is not None:
            shown._bar.refresh()
    if terminal:
        assert "[small]: shrinking" in file.getvalue()
    else:
        assert file.getvalue().splitlines() == [
            "[small]: 3/10 orders, 0 kinds of failures",
            "[small]: 4/10 orders, 1 kind of failure",
            "[small]: shrinking",
        ]


def test_a_short_search_says_nothing_on_the_way(capsys: pytest.CaptureFixture[str]) -> None:
    with SearchProgress("small", 10) as shown:
        for number in range(10):
            shown.show(number, 0)
        shown.tell("nothing")
    assert capsys.readouterr() == ("", "")
