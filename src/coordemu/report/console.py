"""Where reports go: one console for results on stdout, one for progress on stderr.

Role: colours and boxes on a terminal, plain text at a fixed width elsewhere, so that a report in a file or a pipe
is the same on every machine.

Thread: the caller's. Upstream: none. Left out: paging.
"""

from __future__ import annotations

import sys

from rich.console import Console

PLAIN_WIDTH = 132

VERDICT_STYLE = {
    "healthy": "green",
    "passed": "green",
    "stopped": "yellow",
    "degraded": "yellow",
    "refused": "yellow",
    "unresponsive": "red",
    "deadlocked": "bold red",
    "lost": "bold red",
}


def output() -> Console:
    """The console for results. Its width is fixed where stdout is no terminal."""
    if sys.stdout.isatty():
        return Console()
    return Console(width=PLAIN_WIDTH, color_system=None, highlight=False)


def progress() -> Console:
    """The console for progress, on stderr."""
    return Console(stderr=True, highlight=False)


def verdict_markup(verdict: str) -> str:
    """The verdict's word in its colour, as rich markup; one that only the simulator has is a failure."""
    return f"[{VERDICT_STYLE.get(verdict, 'bold red')}]{verdict}[/]"
