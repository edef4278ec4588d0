"""PoolContext: how long a caller is willing to wait, and its way to call the wait off.

Role: goes with a call into the pool. A wait of the pool parks on an event of its own; the context wakes that event when
it is cancelled, and bounds the wait by its deadline. Who was granted what it waited for in the same moment has it: the
grant is decided under the lock of what is waited for, never here.

Thread: any; `cancel` from any other. Upstream: context.Context. Left out: values, parents (a pool's dial does not end
with its caller's context; it has the pool's own). Bound: one event per wait under way.
"""

from __future__ import annotations

from typing import Protocol

from coordemu.pool.pool_errors import Cancelled, DeadlineExceeded, PoolError
from coordemu.runtime.base import Event, Runtime


class Alarm(Protocol):
    """What a context sets when it is cancelled: an event, or whatever wakes who waits."""

    def set(self) -> None: ...


class PoolContext:
    """A deadline, and a flag that can be raised once. deadline_ns: on the runtime's clock; None: no limit."""

    def __init__(self, rt: Runtime, deadline_ns: int | None = None, name: str = "context") -> None:
        self.deadline_ns = deadline_ns
        self._rt = rt
        self._cancelled = rt.cell(False, f"{name} cancelled")
        self._lock = rt.lock(name)
        self._events: list[Alarm] = []

    @classmethod
    def after(cls, rt: Runtime, timeout_ns: int, name: str = "context") -> PoolContext:
        """One that ends timeout_ns (0 or more) from now."""
        return cls(rt, rt.now_ns() + timeout_ns, name)

    def cancel(self) -> None:
        """End it now; whoever waits under it is woken. Idempotent. Thread: any. Never blocks for long."""
        self._cancelled.value = True
        with self._lock:
            events, self._events = self._events, []
        for event in events:
            event.set()

    def error(self) -> PoolError | None:
        """Why it has ended: Cancelled, DeadlineExceeded; None while it has not. Thread: any."""
        if self._cancelled.value:
            return Cancelled("the caller's context was cancelled")
        if self.deadline_ns is not None and self._rt.now_ns() >= self.deadline_ns:
            return DeadlineExceeded("the caller's deadline has passed")
        return None

    def attach(self, event: Alarm) -> None:
        """Set `event` when this is cancelled; at once when it was. Thread: any."""
        with self._lock:
            self._events.append(event)
        # After the append: a `cancel` that did not see the event is seen here.
        if self._cancelled.value:
            event.set()

    def detach(self, event: Alarm) -> None:
        """Forget it again. Thread: any."""
        with self._lock:
            if event in self._events:
                self._events.remove(event)

    def __repr__(self) -> str:
        return f"<PoolContext deadline_ns={self.deadline_ns}, {len(self._events)} waits>"


def check(ctx: PoolContext | None) -> None:
    """Raise what the context has ended with, if it has. Thread: any."""
    error = ctx.error() if ctx is not None else None
    if error is not None:
        raise error


def park(rt: Runtime, event: Event, ctx: PoolContext | None, deadline_ns: int | None) -> None:
    """Wait until the event is set, the deadline passes or the context ends. Which of them is for the caller to find
    out.

    deadline_ns: on the runtime's clock, None: no limit but the context's. Blocks.
    """
    if ctx is None:
        event.wait(None if deadline_ns is None else deadline_ns - rt.now_ns())
        return
    limits = [limit for limit in (deadline_ns, ctx.deadline_ns) if limit is not None]
    ctx.attach(event)
    try:
        event.wait(min(limits) - rt.now_ns() if limits else None)
    finally:
        ctx.detach(event)


def pause(rt: Runtime, delay_ns: int, ctx: PoolContext | None, why: str) -> bool:
    """Sleep delay_ns (0 or more) unless the context ends before. True when it slept to the end. Blocks."""
    if delay_ns <= 0:
        return ctx is None or ctx.error() is None
    # Nobody sets it but the context.
    event = rt.event(why, owed_by=lambda: (f"the time: {why}",))
    park(rt, event, ctx, rt.now_ns() + delay_ns)
    return ctx is None or ctx.error() is None
