"""ThreadsRuntime: the runtime seam on real threads.

Role: gives the layers `base.Runtime` with real threads, the monotonic clock, epoll and sockets. It only composes:
tasks are in thread_task, primitives in thread_lock, _condition, _event, _barrier, _semaphore and _cell, loops in
epoll_loop, waits by sleeping in thread_poll.

Thread: every verb from any; a thread that was not spawned here is adopted at the first verb that needs to know it.
Bounds: 65,536 trace events; one registry entry per living thread. Upstream: pthreads and libuv. Left out: ending the
threads from outside (there is no safe way; a laboratory run that hangs is ended with its process).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from coordemu.runtime import base
from coordemu.runtime.base import NS_PER_S, T
from coordemu.runtime.epoll_loop import EpollLoop
from coordemu.runtime.runtime_base import RuntimeBase
from coordemu.runtime.thread_barrier import ThreadBarrier
from coordemu.runtime.thread_cell import ThreadCell
from coordemu.runtime.thread_condition import ThreadCondition
from coordemu.runtime.thread_event import ThreadEvent
from coordemu.runtime.thread_lock import ThreadLock
from coordemu.runtime.thread_poll import drain_wait, poll_until
from coordemu.runtime.thread_semaphore import ThreadSemaphore
from coordemu.runtime.thread_task import TaskRegistry, ThreadTask


class ThreadsRuntime(RuntimeBase):
    """One laboratory's runtime. seed: of `random`; None takes one from the system.

    `registry` is for the runtime's own parts.
    """

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(seed)
        self.registry = TaskRegistry()
        self._loops = 0

    @property
    def name(self) -> str:
        """ "threads"."""
        return "threads"

    # clock

    # The monotonic clock, ns. Thread: any. Without a frame of Python around it, as every query asks several times.
    now_ns = staticmethod(time.monotonic_ns)

    def sleep_ns(self, duration_ns: int) -> None:
        """Sleep duration_ns (0 or more, ValueError otherwise; 0 only gives way). Thread: any. Blocks."""
        if duration_ns < 0:
            raise ValueError(f"sleep of {duration_ns} ns, which is negative")
        time.sleep(duration_ns / NS_PER_S)

    def poll_until(
        self,
        predicate: Callable[[], bool],
        interval_ns: int,
        why: str,
        timeout_ns: int | None = None,
        owed_by: base.OwedBy | None = None,
    ) -> bool:
        """Read the predicate every interval_ns (0 or more) until it holds. True then, False after timeout_ns.

        The predicate is read once more at the deadline. why: shown in the wait-for graph, with owed_by's holders.
        Raises what the predicate raises. Thread: any. Blocks. Upstream: its usleep loops.
        """
        return poll_until(self.registry, predicate, interval_ns, why, timeout_ns, owed_by)

    def drain_wait(self, gate: base.DrainGate, timeout_ns: int, poll_ns: int | None = None) -> base.DrainWait:
        """Block until the gate has drained, for timeout_ns at most: by polling every poll_ns, or (None) woken.

        Thread: any. Blocks, without the interpreter lock.
        """
        return drain_wait(self.registry, gate, timeout_ns, poll_ns)

    # tasks

    def spawn(self, target: Callable[..., object], *args: object, name: str) -> ThreadTask:
        """Start a thread that calls target(*args). Raises RuntimeError when the system has none to give.

        What target raises ends in `Task.error` and in the log "coordemu". Thread: any. Upstream: pthread_create.
        """
        return self.registry.spawn(target, args, name)

    def current(self) -> ThreadTask:
        """The calling task; an unknown thread is adopted. Thread: any."""
        return self.registry.current()

    def tasks(self) -> Sequence[ThreadTask]:
        """All that are alive, adopted ones included. Thread: any. Never blocks."""
        return self.registry.tasks()

    # primitives

    def lock(self, name: str) -> ThreadLock:
        """A lock. Thread: any. Upstream: pthread_mutex_init."""
        return ThreadLock(self.registry, name)

    def condition(self, lock: base.Lock, name: str, owed_by: base.OwedBy | None = None) -> ThreadCondition:
        """A condition over a lock of this runtime (TypeError otherwise). Thread: any. Upstream: pthread_cond_init."""
        if not isinstance(lock, ThreadLock):
            raise TypeError(f"condition {name!r} over {lock!r}, which is not a lock of this runtime")
        return ThreadCondition(self.registry, lock, name, owed_by)

    def event(self, name: str, owed_by: base.OwedBy | None = None) -> ThreadEvent:
        """An event, clear. owed_by: who will set it. Thread: any."""
        return ThreadEvent(self.registry, name, owed_by)

    def barrier(self, n: int, name: str, expected: Callable[[], Sequence[base.Task]] | None = None) -> ThreadBarrier:
        """A barrier for n tasks (1 or more, ValueError otherwise). expected: who should come. Thread: any."""
        return ThreadBarrier(self.registry, n, name, expected)

    def semaphore(self, value: int, name: str) -> ThreadSemaphore:
        """A semaphore with `value` free units (0 or more, ValueError otherwise). Thread: any."""
        return ThreadSemaphore(self.registry, value, name)

    def cell(self, value: T, name: str) -> ThreadCell[T]:
        """A shared variable. Thread: any."""
        return ThreadCell(value, name)

    # network and loops

    def loop(self, name: str) -> EpollLoop:
        """A loop; close it when done. Raises OSError when no descriptor is to be had. Thread: any."""
        self._loops += 1
        return EpollLoop(name)

    def statistics(self) -> dict[str, int]:
        """tasks (alive), spawned, loops (made), trace_kept, trace_recorded. Thread: any."""
        return super().statistics() | {"spawned": self.registry.statistics()["spawned"], "loops": self._loops}

    def __repr__(self) -> str:
        return f"<ThreadsRuntime seed {self._seed}, {len(self.tasks())} tasks>"


if TYPE_CHECKING:
    _satisfies_the_seam: base.Runtime = ThreadsRuntime()
