"""The seven steps, from what a run recorded."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coordemu.lab.result import ChainStep, Result
from coordemu.report.chain_report import STEPS, chain_steps, print_chain

MakeResult = Callable[..., Result]
Printed = Callable[..., str]


def steps() -> tuple[ChainStep, ...]:
    return tuple(
        ChainStep(float(n), f"task {n}", name, f"Ours.{n}", f"[detail {n}]") for n, (_, name) in enumerate(STEPS)
    )


def test_seven_steps_in_upstreams_order(make_result: MakeResult) -> None:
    result = make_result(chain=tuple(reversed(steps())))
    found = chain_steps(result)
    assert [upstream for _, upstream, _ in found] == [upstream for _, upstream in STEPS]
    assert [step.detail for _, _, step in found if step] == [f"[detail {n}]" for n in range(7)]


def test_the_first_record_of_a_step_counts(make_result: MakeResult) -> None:
    again = ChainStep(99.0, "late", STEPS[0][1], "x", "y")
    [(_, _, first), *_] = chain_steps(make_result(chain=(*steps(), again)))
    assert first == steps()[0]


def test_the_table(make_result: MakeResult, printed: Printed) -> None:
    lines = printed(print_chain, make_result(chain=steps())).splitlines()
    assert lines[0].strip() == "CONFIG SET WORKERS, policy upstream-7410"
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if line.startswith("│")]
    assert [row[0] for row in rows] == [str(n) for n in range(1, 8)]
    assert rows[2][1:5] == ["2.00 ms", "task 2", STEPS[2][1], "Ours.2"]
    assert rows[2][5] == f"{STEPS[2][0]}: [detail 2]"


def test_a_step_that_was_not_reached_says_so(make_result: MakeResult, printed: Printed) -> None:
    text = printed(print_chain, make_result(chain=steps()[:6]))
    assert text.count("never") == 1
    assert f"{STEPS[6][0]}: not reached in this run" in text


@pytest.mark.parametrize("width", [80, 132, 200])
def test_nothing_is_cut_off(make_result: MakeResult, printed: Printed, width: int) -> None:
    long = tuple(
        ChainStep(123.456, "workers-11", step.upstream, "WorkersThreadPool.set_num_workers", "word " * 20 + "end")
        for step in steps()
    )
    text = printed(print_chain, make_result(chain=long), width=width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    assert text.count("end") == 7
