"""Actor and SimTask: what a simulated schedule can choose, and the tasks among it.

Role: a simulated run is a sequence of steps, and each step is one actor's: a task that runs from one schedule point to
its next, a direction of a connection that delivers, or the clock. An actor says beforehand what its step will be (its
label), and whether it can be taken now (`enabled`); the strategy sees no more than that.

A task waits exactly when it is not enabled and has something to wait for; so the wait-for graph never shows a wait that
is over. A task inside `poll_until` waits all the time, also while it reads its predicate, as on threads.

Thread: one OS thread plays everything. Upstream: pthread_create and pthread_join (deps/thpool). Left out: priorities
(a strategy may keep one in `priority`), cancellation, but for the end of the whole run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

from greenlet import greenlet

from coordemu.runtime.base import Waitable
from coordemu.runtime.waitables import TaskEnd, frames_in_words, task_in_words

if TYPE_CHECKING:
    from coordemu.runtime.sim_core import SimCore


# How a step touches an object: a lock is acquired and released, all else is read or written.
READ, WRITE, ACQUIRE, RELEASE = range(4)

# (the object's uid, how)
Touch = tuple[int, int]


class SimOver(BaseException):
    """The run is over, and this task is taken off its stack. Not for layers: never caught, never kept."""


class Actor:
    """Something a schedule can choose.

    number: dense, in the order of making.  key: its name, made unique in its run.  label: what its next step is.
    act: runs the step of an actor that is no task.  task: itself, if it is one.  polling: its steps are looks that
    change nothing.
    """

    __slots__ = ("act", "enabled", "key", "label", "name", "number", "polling", "priority", "task")

    def __init__(self, name: str, act: Callable[[], None]) -> None:
        self.task: SimTask | None = None
        self.name = name
        self.key = name
        self.number = -1
        self.label = ""
        self.enabled = False
        self.act = act
        self.polling = False
        self.priority = 0.0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.key} {'can' if self.enabled else 'cannot'} {self.label!r}>"


def _no_act() -> None:
    """What a task does on others' stacks."""


class SimTask(Actor):
    """One task of a simulated runtime.

    For the primitives: `waitable` is what it waits for unless it is enabled, `since_ns` since when, `deadline_ns` until
    when at most; `granted` says that a waker gave it what it waited for, `expired` that its time ran out first.
    `outer`, `outer_since_ns`, `outer_limited`: the `poll_until` around its steps, since when, and whether its time is
    limited.
    """

    __slots__ = (
        "adopted",
        "alive",
        "args",
        "core",
        "deadline_ns",
        "error",
        "expired",
        "granted",
        "greenlet",
        "joiners",
        "outer",
        "outer_limited",
        "outer_since_ns",
        "since_ns",
        "target",
        "uid",
        "waitable",
    )  # fmt: skip

    def __init__(
        self, core: SimCore, name: str, target: Callable[..., object] | None, args: tuple[object, ...]
    ) -> None:
        super().__init__(name, _no_act)
        self.task = self
        self.core = core
        self.uid = core.new_uid()
        self.target = target
        self.args = args
        self.alive = True
        self.adopted = target is None
        self.error: BaseException | None = None
        self.greenlet: greenlet | None = None
        self.waitable: Waitable | None = None
        self.since_ns = 0
        self.deadline_ns: int | None = None
        self.granted = False
        self.expired = False
        self.joiners: list[SimTask] = []
        self.outer: Waitable | None = None
        self.outer_since_ns = 0
        self.outer_limited = False

    @property
    def ident(self) -> int:
        """Its number in the run plus one, so never 0."""
        return self.number + 1

    @property
    def limited(self) -> bool:
        """Whether its wait ends by itself, in time."""
        return self.deadline_ns is not None or self.outer_limited

    @property
    def waiting_on(self) -> Waitable | None:
        """What it waits for; None while it can run, sleeps, or sits in a loop's poll."""
        if not self.enabled and self.waitable is not None:
            return self.waitable
        return self.outer

    @property
    def waiting_since_ns(self) -> int:
        """When that wait began, in virtual time; 0 when there is none."""
        if not self.enabled and self.waitable is not None:
            return self.since_ns
        return self.outer_since_ns if self.outer is not None else 0

    def join(self, timeout_ns: int | None = None) -> bool:
        """Wait for its end: True when it has ended, False after timeout_ns (None: no limit). May block.

        Raises RuntimeError for the caller's own task.
        """
        core = self.core
        if core.current is self:
            raise RuntimeError(f"task {self.name} cannot join itself")
        core.point(f"join {self.key}")
        if core.log is not None:
            core.log.append((self.uid, READ))
        if not self.alive:
            return True
        if timeout_ns is not None and timeout_ns <= 0:
            return False
        task = core.current
        self.joiners.append(task)
        core.block(f"join {self.key}", TaskEnd(self), timeout_ns)
        if core.log is not None:
            core.log.append((self.uid, READ))
        if self.alive:
            self.joiners.remove(task)
        return not self.alive

    def call_stack(self) -> list[str]:
        """Its frames, outermost first, as "file:line function"; empty before it has started and after its end."""
        if not self.alive:
            return []
        frame: FrameType | None = None
        if self.core.current is self:
            frame = sys._getframe(1)
        elif self.greenlet is not None:
            frame = self.greenlet.gr_frame
        return frames_in_words(frame)

    def __repr__(self) -> str:
        return task_in_words("SimTask", self.key, self)
