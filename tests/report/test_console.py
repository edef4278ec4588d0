"""Where reports go, and in which colours."""

from __future__ import annotations

import io

import pytest
from rich.markup import render

from coordemu.lab.result import VERDICTS
from coordemu.report.console import PLAIN_WIDTH, VERDICT_STYLE, output, progress, verdict_markup


def test_elsewhere_than_on_a_terminal_it_is_plain_and_of_one_width(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")
    console = output()
    assert console.width == PLAIN_WIDTH
    console.print("[red]x[/red]" * 60)
    assert capsys.readouterr().out == "x" * 60 + "\n"


def test_a_terminal_has_its_own_width(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "77")
    monkeypatch.setenv("TERM", "xterm")
    console = output()
    assert console.width == 77
    assert console.is_terminal


def test_progress_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    progress().print("12 of 13")
    assert capsys.readouterr() == ("", "12 of 13\n")


@pytest.mark.parametrize("verdict", VERDICTS)
def test_every_verdict_has_a_colour(verdict: str) -> None:
    text = render(verdict_markup(verdict))
    assert text.plain == verdict
    assert [span.style for span in text.spans] == [VERDICT_STYLE[verdict]]
