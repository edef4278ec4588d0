"""ThreadTask: one real thread as the wait-for graph sees it, and the registry that finds the caller's task.

Role: every primitive of the threads runtime asks the registry which task calls, and tells the task what it
waits for. The first is one read of a thread-local attribute. The second happens only when a call really
blocks: the primitive makes a `Wait`, which the task points to until it runs again.

A `Wait` is an object of its own, so that the waker can mark it as over. From the moment that a notification,
an event or a barrier lets a task go, the task counts as running, though the operating system may need
milliseconds to let it run; otherwise a watchdog that looks in between would report a wait that nobody owes.

Thread: a task writes its own waits; the waker writes `Wait.over`; any thread reads without a lock, and sees
each task's wait whole, because it hangs on one reference. Upstream: pthread_create and pthread_join
(deps/thpool). Left out: cancellation, priorities, thread-local storage for layers.
"""

from __future__ import annotations

import gc
import logging
import sys
import threading
from collections.abc import Callable, Sequence
from time import monotonic_ns
from types import FrameType
from typing import Any, Self

from coordemu.runtime.base import NS_PER_S, Waitable
from coordemu.runtime.thread_gate import NO_LIMIT, gate_open, gate_wait, make_gate
from coordemu.runtime.waitables import TaskEnd, frames_in_words, task_in_words

log = logging.getLogger("coordemu")


def wait_limit_s(timeout_ns: int | None) -> float:
    """A time-out as `_thread` locks want it: seconds, -1 for none; a negative one counts as 0. Thread: any."""
    if timeout_ns is None:
        return -1.0
    return min(max(timeout_ns, 0) / NS_PER_S, threading.TIMEOUT_MAX)


def current_frames() -> dict[int, FrameType]:
    """The innermost frame of every thread, by its identifier. Thread: any.

    The collector is off meanwhile: CPython 3.11 holds its list of threads here, and a `threading.local` that is
    collected just now (a runtime's `Caller`) would wait for that list for ever.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        return sys._current_frames()
    finally:
        if collecting:
            gc.enable()


class Wait:
    """One blocked stretch of one task, shown from `enter` to `leave`. Thread: the task's own.

    What a task holds while it is shown as waiting, the graph takes for held by a waiter. So a primitive enters
    after it has given away what it gives away (a condition its lock, a barrier its task's arrival), and leaves before
    it takes what it was after (a lock its ownership); otherwise a watchdog would see a cycle for a moment.
    """

    __slots__ = ("outer", "over", "since_ns", "task", "waitable")

    def __init__(self, task: ThreadTask, waitable: Waitable) -> None:
        self.task = task
        self.waitable = waitable
        self.since_ns = monotonic_ns()
        self.over = False
        self.outer = task.wait

    def enter(self) -> Self:
        """From now on the task waits. Returns itself. Thread: the task's own."""
        self.task.wait = self
        return self

    def leave(self) -> None:
        """The task runs again (or goes on with the wait around this one). Thread: the task's own."""
        self.task.wait = self.outer


class Parking(Wait):
    """A wait that another thread ends, by `unpark`: it says so in `over`, and opens the task's gate.

    `over` is the truth, the gate only a bell: a task has one gate for life, and an opening that was meant for an
    earlier wait of its may end its sleep for nothing. So `park` looks at `over` ahead of each sleep and after it, and
    whoever unparks stores it ahead of the opening. It may be unparked twice. A wait within another one (a signal's
    handler waits for something, while its thread waits) sleeps elsewhere, for it would hear the outer one's bell.

    hand_over: see `thread_gate`.  gone: its task has left, and whoever finds this in a queue may take it out.
    """

    __slots__ = ("gate", "gone", "hand_over")

    def __init__(self, task: ThreadTask, waitable: Waitable) -> None:
        self.task = task
        self.waitable = waitable
        self.since_ns = monotonic_ns()
        self.over = self.hand_over = self.gone = False
        self.outer = task.wait
        self.gate = task.gate if self.outer is None else make_gate()

    def park(self, timeout_ns: int | None) -> bool:
        """Block until unparked. True then, False after timeout_ns (None: no limit). Thread: the task's own.

        Raises what a signal's handler raises.
        """
        deadline_ns = NO_LIMIT if timeout_ns is None else min(monotonic_ns() + max(timeout_ns, 0), NO_LIMIT)
        while not self.over:
            if gate_wait(self.gate, deadline_ns) == 0:
                return self.over
        return True

    def unpark(self) -> None:
        """Let the task go on. Thread: any. Never blocks."""
        self.over = True
        gate_open(self.gate, self.hand_over)


class ThreadTask:
    """One thread. name: shown everywhere.  adopted: the runtime did not spawn it.

    `wait` is what blocks it now, None while it runs; `error` what its function raised; `gate` is where it
    sleeps.
    """

    __slots__ = ("_ended", "_registry", "_thread", "adopted", "error", "gate", "name", "wait")

    def __init__(self, registry: TaskRegistry, name: str, thread: threading.Thread, adopted: bool) -> None:
        self.name = name
        self.adopted = adopted
        self.wait: Wait | None = None
        self.gate: Any = make_gate()
        self.error: BaseException | None = None
        self._registry = registry
        self._thread = thread
        self._ended = False

    @property
    def ident(self) -> int:
        """The thread's identifier, unique among living threads; 0 before it starts."""
        return self._thread.ident or 0

    @property
    def alive(self) -> bool:
        """False once its function has returned or raised. Thread: any."""
        if self._ended:
            return False
        if self.adopted and isinstance(self._thread, threading._DummyThread):
            return self.ident in current_frames()  # threading never learns that such a thread has ended
        return not self.adopted or self._thread.is_alive()

    @property
    def waiting_on(self) -> Waitable | None:
        """What it waits for; None while it runs, sleeps, or sits in a loop's poll. Thread: any."""
        wait = self.wait
        return None if wait is None or wait.over else wait.waitable

    @property
    def waiting_since_ns(self) -> int:
        """When that wait began, on the runtime's clock; 0 when there is none. Thread: any."""
        wait = self.wait
        return 0 if wait is None or wait.over else wait.since_ns

    def join(self, timeout_ns: int | None = None) -> bool:
        """Wait for its end: True when it has ended, False after timeout_ns (None: no limit).

        Raises RuntimeError for the caller's own task and for an adopted thread that was not made by `threading`.
        Thread: any. May block. Upstream: pthread_join.
        """
        if isinstance(self._thread, threading._DummyThread):
            raise RuntimeError(f"task {self.name} is a foreign thread and cannot be joined")
        if self._thread.is_alive():
            return self._join_slow(timeout_ns)
        return True

    def _join_slow(self, timeout_ns: int | None) -> bool:
        wait = Wait(self._registry.current(), TaskEnd(self)).enter()
        try:
            self._thread.join(None if timeout_ns is None else wait_limit_s(timeout_ns))
        finally:
            wait.leave()
        return not self._thread.is_alive()

    def end(self, error: BaseException | None) -> None:
        """Its function has returned, or raised `error`. Thread: its own, once."""
        self.error = error
        self._ended = True

    def call_stack(self) -> list[str]:
        """Its frames, outermost first, as "file:line function"; empty when it has ended. Thread: any."""
        if not self.alive:
            return []
        return frames_in_words(current_frames().get(self.ident))

    def __repr__(self) -> str:
        return task_in_words("ThreadTask", self.name, self)


class Caller(threading.local):
    """The calling thread's task in one runtime."""

    task: ThreadTask | None = None


class TaskRegistry:
    """The living tasks of one runtime. Bound: one entry per living thread; dead adopted ones go at the next look.

    `caller.task` is the calling thread's task, None in a thread that is not adopted yet; the primitives read it on
    their fast path, and fall back to `current`.
    """

    def __init__(self) -> None:
        self.caller = Caller()
        self._tasks: dict[ThreadTask, None] = {}
        self._spawned = 0

    def current(self) -> ThreadTask:
        """The calling thread's task; a thread that is new here is adopted under its own name. Thread: any."""
        return self.caller.task or self._adopt()

    def _adopt(self) -> ThreadTask:
        thread = threading.current_thread()
        task = ThreadTask(self, thread.name, thread, adopted=True)
        self.caller.task = task
        self._tasks[task] = None
        self.tasks()
        return task

    def spawn(self, target: Callable[..., object], args: tuple[object, ...], name: str) -> ThreadTask:
        """Start a thread that calls target(*args). Returns when it has started, without waiting for more.

        Raises RuntimeError when the system has no thread to give. The thread is a daemon: a deadlocked one must
        not keep the interpreter from ending. Thread: any. Upstream: pthread_create.
        """
        self.current()  # the spawner is part of the picture, too
        thread = threading.Thread(target=lambda: self._body(task, target, args), name=name, daemon=True)
        task = ThreadTask(self, name, thread, adopted=False)
        self._tasks[task] = None
        try:
            thread.start()
        except RuntimeError:
            self._tasks.pop(task, None)
            raise
        self._spawned += 1
        return task

    def _body(self, task: ThreadTask, target: Callable[..., object], args: tuple[object, ...]) -> None:
        self.caller.task = task
        error: BaseException | None = None
        try:
            target(*args)
        except BaseException as raised:
            error = raised
            log.error("task %s ended with %r", task.name, raised, exc_info=raised)
        finally:
            task.end(error)
            self._tasks.pop(task, None)

    def tasks(self) -> Sequence[ThreadTask]:
        """All that are alive, in the order of their coming. Thread: any (also a watchdog). Never blocks."""
        alive = []
        for task in list(self._tasks):
            if task.alive:
                alive.append(task)
            else:
                self._tasks.pop(task, None)
        return alive

    def statistics(self) -> dict[str, int]:
        """alive, spawned. Thread: any."""
        return {"alive": len(self.tasks()), "spawned": self._spawned}

    def __repr__(self) -> str:
        return f"<TaskRegistry {len(self._tasks)} tasks>"
