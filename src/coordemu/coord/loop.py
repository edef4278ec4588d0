"""LoopThread: the thread of one I/O runtime, started by the first request, joined at the end.

Role: upstream starts an I/O thread only when the first request comes, from whichever thread brings it. So several may
try at once: an atomic test-and-set lets exactly one create the thread. Whoever frees the runtime must know whether
the thread exists at all; it waits until its creation is known (done or failed) before it joins.

As long as the thread has not started, its connections belong to nobody, and with one shard upstream changes the pools
from the main thread in that time. `run_unless_started` does this without the race that upstream rules out by
argument: the start and the change exclude each other by a lock.

Thread: any. Upstream: io_runtime_ctx.c (io_runtime_started_or_starting, loop_th_created, loop_th_creation_failed,
uv_thread_join). Left out: the thread's stack size and name in the operating system.
"""

from __future__ import annotations

from collections.abc import Callable

from coordemu.runtime.base import Runtime, Task


class LoopThread:
    """A thread that is created at most once."""

    def __init__(self, rt: Runtime, name: str, body: Callable[[], None]) -> None:
        """body: what the thread runs. Starts nothing. Thread: any."""
        self._rt = rt
        self.name = name
        self._body = body
        self._lock = rt.lock(f"{name}: start")
        self._started_or_starting = rt.cell(value=False, name=f"{name}: started or starting")
        self._creation_known = rt.event(f"{name}: creation known")
        self._task: Task | None = None

    @property
    def task(self) -> Task | None:
        """The thread; None before it was created, and when its creation failed."""
        return self._task

    @property
    def started(self) -> bool:
        """True from the moment that somebody undertook to start it."""
        return self._started_or_starting.value

    def start(self) -> bool:
        """Create the thread, unless somebody has done so. True for the one caller that did.

        Raises what `Runtime.spawn` raises when no thread can be had (RuntimeError). Thread: any. Blocks only while a
        `run_unless_started` is under way. Upstream: the start in IORuntimeCtx_Schedule.
        """
        if self._started_or_starting.value:
            return False
        with self._lock:
            if self._started_or_starting.exchange(new=True):
                return False
        try:
            self._task = self._rt.spawn(self._body, name=self.name)
        finally:
            self._creation_known.set()
        return True

    def run_unless_started(self, change: Callable[[], object]) -> bool:
        """Run `change` on the caller's thread if the thread has not been started; False when it has.

        Nobody can start it meanwhile. Thread: any. May block as `change` does.
        """
        with self._lock:
            if self._started_or_starting.value:
                return False
            change()
        return True

    def wait_created(self) -> bool:
        """Wait until the creation of a started thread is known. False when it was never started, or its creation
        failed.

        Thread: any but its own. May block. Upstream: the wait for loop_th_created.
        """
        if not self._started_or_starting.value:
            return False
        self._creation_known.wait()
        return self._task is not None

    def join(self, timeout_ns: int | None = None) -> bool:
        """Wait for its end. True when it has ended or never began. Thread: any but its own. May block."""
        if not self.wait_created():
            return True
        assert self._task is not None
        return self._task.join(timeout_ns)

    def __repr__(self) -> str:
        if not self.started:
            state = "not started"
        elif self._task is None:
            state = "creation failed" if self._creation_known.is_set() else "starting"
        else:
            state = "running" if self._task.alive else "ended"
        return f"<LoopThread {self.name!r} {state}>"
