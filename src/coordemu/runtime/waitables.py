"""What the waits of both runtimes are made of: words for waits that no primitive stands for, and frames in words.

Role: the wait-for graph reads names and holders, whichever runtime they come from. A sleeping loop waits for its
reason (`PollWait`), a joiner for a task's end (`TaskEnd`), and a wait that is over, or free to end, for nothing but its
turn to run (`SCHEDULER`).

Thread: any. Upstream: none; its sleeping loops and joins name nothing. Left out: the primitives, each of which is its
own `Waitable`.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import FrameType

from coordemu.runtime.base import Holder, OwedBy, Task

# Stands among the holders when a wait is over, or free to end, and only the waiter's turn to run is missing.
SCHEDULER = "the scheduler"


class PollWait:
    """What a sleeping loop waits for: its reason, as a `Waitable`."""

    __slots__ = ("_owed_by", "name")

    kind = ""
    relation = "owed by"

    def __init__(self, name: str, owed_by: OwedBy | None) -> None:
        self.name = name
        self._owed_by = owed_by

    def holders(self) -> Sequence[Holder]:
        """Who can make the predicate true, as `owed_by` says; nobody without it. Thread: any."""
        return () if self._owed_by is None else self._owed_by()

    def __repr__(self) -> str:
        return f"<PollWait {self.name!r}>"


class TaskEnd:
    """What a joiner waits for: the end of one task."""

    __slots__ = ("_task",)

    kind = "end of"
    relation = "which is up to"

    def __init__(self, task: Task) -> None:
        self._task = task

    @property
    def name(self) -> str:
        """The task's name."""
        return self._task.name

    def holders(self) -> Sequence[Holder]:
        """The task; nothing but the scheduler once it has ended. Thread: any."""
        return (self._task,) if self._task.alive else (SCHEDULER,)


def frames_in_words(frame: FrameType | None) -> list[str]:
    """A stack by its innermost frame: outermost first, one "file:line function" each. Thread: any."""
    lines = []
    while frame is not None:
        code = frame.f_code
        lines.append(f"{code.co_filename}:{frame.f_lineno} {code.co_qualname}")
        frame = frame.f_back
    lines.reverse()
    return lines


def task_in_words(kind: str, key: str, task: Task) -> str:
    """A task's `repr`, with what it waits for. key: what tells it from others. Thread: any."""
    waiting_on = task.waiting_on
    state = "ended" if not task.alive else "running" if waiting_on is None else f"waits for {waiting_on.name!r}"
    return f"<{kind} {key} {state}>"
