"""Progress of a search: a bar on a terminal, a line now and then elsewhere.

Role: tells who waits, on stderr, how far a search is. A search can be short, so without a terminal nothing is said in
its first seconds.

Thread: the searching one. Upstream: none. Left out: what was found, which is the report's.
"""

from __future__ import annotations

from typing import Self

from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from coordemu.report.console import progress
from coordemu.runtime.base import NS_PER_MS, NS_PER_S
from coordemu.runtime.threads import ThreadsRuntime

LINE_EVERY_NS = 5 * NS_PER_S
DRAW_EVERY_NS = 100 * NS_PER_MS


class SearchProgress:
    """The progress of one search; a with statement begins and ends it.

    label: what is searched.  orders: how many are to be played, None: unknown.  seconds: how long it may take, None: as
    long as it takes.
    """

    def __init__(self, label: str, orders: int | None = None, seconds: float | None = None) -> None:
        self._label = label
        self._orders = orders
        self._seconds = seconds
        self._now_ns = ThreadsRuntime().now_ns
        self._began_ns = self._said_ns = self._now_ns()
        self._console = progress()
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._task = self._bar.add_task(escape(self._label), total=self._orders or self._seconds)
            self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, orders: int, found: int) -> None:
        """So many orders were played, with so many kinds of failures. Cheap enough for each order."""
        now_ns = self._now_ns()
        if now_ns - self._said_ns < (LINE_EVERY_NS if self._bar is None else DRAW_EVERY_NS):
            return
        of = f"/{self._orders}" if self._orders is not None else ""
        kinds = f", {found} kinds of failures" if found != 1 else ", 1 kind of failure"
        done = orders if self._orders is not None else (now_ns - self._began_ns) / NS_PER_S
        self._say(f"{self._label}: {orders}{of} orders{kinds}", now_ns, done)

    def tell(self, line: str) -> None:
        """What is done besides playing orders: on a terminal at once, elsewhere now and then."""
        now_ns = self._now_ns()
        if now_ns - self._said_ns >= (LINE_EVERY_NS if self._bar is None else DRAW_EVERY_NS):
            self._say(f"{self._label}: {line}", now_ns, None)

    def _say(self, line: str, now_ns: int, done: float | None) -> None:
        self._said_ns = now_ns
        if self._bar is not None:
            self._bar.update(self._task, description=escape(line), completed=done)
        else:
            self._console.print(line, markup=False, soft_wrap=True)
