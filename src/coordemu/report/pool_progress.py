"""Progress of the pool's tests: on a terminal a line, or the live table of connection states; on stderr.

Role: tells who waits how far a test is. Without a terminal nothing is said, but for the live table when it was asked
for: then there is a line per node once a second.

Thread: the one that runs the tests. Upstream: none; the example says nothing while it runs. Left out: a history.
"""

from __future__ import annotations

from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from coordemu.lab.pool_run import PoolLook
from coordemu.report.console import progress
from coordemu.report.pool_report import live_lines, live_table, progress_line
from coordemu.runtime.base import NS_PER_S

LINE_EVERY_NS = NS_PER_S


class PoolProgress:
    """Shows looks while its with statement lasts. live: the table of states.  console: None for stderr."""

    def __init__(self, live: bool = False, console: Console | None = None) -> None:
        self._live = live
        self._console = console or progress()
        self._display: Live | None = None
        self._said_ns = 0
        self._test = 0

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._display = Live(console=self._console, transient=True, auto_refresh=False)
            self._display.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._display is not None:
            self._display.stop()

    def watch(self, look: PoolLook) -> None:
        """Show it. Cheap enough for ten times a second."""
        if self._display is not None:
            shown: RenderableType = live_table(look) if self._live else Text(progress_line(look))
            self._display.update(shown, refresh=True)
        elif self._live:
            if look.number != self._test:
                self._test, self._said_ns = look.number, -LINE_EVERY_NS
            if look.elapsed_ns - self._said_ns >= LINE_EVERY_NS:
                self._said_ns = look.elapsed_ns
                for line in live_lines(look):
                    self._console.print(line, markup=False, soft_wrap=True)
