"""Progress of backfill runs: a bar on a terminal, a line now and then elsewhere; on stderr.

Role: tells who waits how far a run is: how many messages have their place, under which pressure. Without a terminal
nothing is said in the first seconds of a run.

Thread: the one that runs the backfill. Upstream: none. Left out: what was found, which is the report's.
"""

from __future__ import annotations

from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from coordemu.lab.backfill_plan import BackfillPlan
from coordemu.lab.backfill_watch import BackfillLook
from coordemu.report.console import progress
from coordemu.runtime.base import NS_PER_MS, NS_PER_S
from coordemu.runtime.threads import ThreadsRuntime

LINE_EVERY_NS = 5 * NS_PER_S
DRAW_EVERY_NS = 100 * NS_PER_MS


class BackfillProgress:
    """Shows looks while its with statement lasts. console: None for stderr."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or progress()
        self._now_ns = ThreadsRuntime().now_ns
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._label = ""
        self._said_ns = 0

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, label: str, messages: int) -> None:
        """Another run begins. label: which.  messages: of its plan."""
        self._label = label
        self._said_ns = self._now_ns()
        if self._bar is not None:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(escape(label), total=messages)

    def watch(self, look: BackfillLook, plan: BackfillPlan) -> None:
        """Show it. Cheap enough for many times a second."""
        now_ns = self._now_ns()
        if now_ns - self._said_ns < (DRAW_EVERY_NS if self._bar is not None else LINE_EVERY_NS):
            return
        self._said_ns = now_ns
        line = f"{self._label}: pressure {look.pressure:.0%}, {look.timeouts} time-outs"
        settled = look.done + look.dead + look.lost
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=min(settled, plan.messages), description=escape(line))
        else:
            said = f"{line}, {look.done} done, {look.dead} dead, {look.lost} lost of {plan.messages}"
            self._console.print(said, markup=False, soft_wrap=True)
