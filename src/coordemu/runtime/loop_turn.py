"""LoopTurn: the turn of an event loop, the same on both runtimes.

Role: `EpollLoop` and `SimLoop` are this with a poll of their own. A turn is: send what was written since the last one;
poll; hand out what the sockets report; run sent async handles; run deferred outcomes; run due timers; send what the
turn has written. Everything that a callback causes (a new timer without delay, a send to a handle, a connect that fails
at once) comes in a later turn, so a turn is bounded: the poller's reports, each handle once, each timer once.

A callback may run a nested turn. The loop keeps no state between poll and dispatch but a list of (source, report)
pairs, and sources bear reports that a nested turn has overtaken.

Thread: the one in `run` or `run_once`; others may only `send`, `stop`, and, while the loop does not run, set it up. Use
by a second one while it runs raises RuntimeError where a check is cheap. Upstream: uv_loop_t. Left out: idle, prepare
and check handles, signals, files, name resolution in the background.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable

from coordemu.runtime.loop_timer import LoopTimer, TimerHeap
from coordemu.runtime.loop_wakeup import LoopAsync, SentHandles
from coordemu.runtime.poller import Source
from coordemu.runtime.stream import Acceptor, OrderedSet, Stream, StreamPoller, StreamSet

Hook = Callable[[], None]


class LoopTurn(ABC):
    """What every loop has. `poller`, `transports`, `listeners`, `bytes_in`, `bytes_out` are for its sockets alone.

    sent: its handles.  now_ns: its clock.  caller: what tells one thread (or task) from another.
    """

    def __init__(
        self,
        name: str,
        poller: StreamPoller,
        sent: SentHandles,
        now_ns: Callable[[], int],
        caller: Callable[[], object],
    ) -> None:
        self.name = name
        self.poller = poller
        self.transports: StreamSet = OrderedSet[Stream]()
        self.listeners: OrderedSet[Acceptor] = OrderedSet()
        self.bytes_in = 0
        self.bytes_out = 0
        self._sent = sent
        self._now_ns = now_ns
        self._timers = TimerHeap(now_ns)
        self._caller = caller
        self._owner: object = None
        self._deferred: deque[Callable[[], int]] = deque()
        self._to_flush: list[Stream] = []
        self._before: Hook | None = None
        self._after: Hook | None = None
        self._stopping = False
        self._closed = False
        self._depth = 0
        self._running = False
        self._turns = 0
        self._callbacks = 0

    # -- turning

    def run(self) -> None:
        """Turn until `stop`. Raises what a callback raises; RuntimeError when it runs already, or is closed.

        Thread: it becomes the loop's. May block. Upstream: uv_run(UV_RUN_DEFAULT).
        """
        if self._running:
            raise RuntimeError(f"loop {self.name!r} runs already")
        self.check_usable()
        self._running = True
        try:
            while not self._stopping:
                self.run_once(None)
        finally:
            self._running = False
            self._stopping = False

    def run_once(self, timeout_ns: int | None = 0) -> int:
        """One turn; the poll waits at most timeout_ns (None: no limit). Returns the number of callbacks run.

        A turn ends also when it was only woken, then with 0. May be nested. Raises what a callback raises;
        RuntimeError when closed, or while it runs on another thread. May block. Upstream: uv_run(UV_RUN_ONCE).
        """
        self.check_usable()
        self._owner = self._caller()
        self._depth += 1
        try:
            if self._to_flush:
                self._flush()
            count = 0
            if self._before is not None:
                self._before()
            try:
                reports = self._poll(timeout_ns)
            finally:
                if self._after is not None:
                    self._after()
            for source, mask in reports:
                count += source.on_events(mask)
            count += self._sent.run_sent()
            if self._deferred:
                count += self._run_deferred()
            count += self._timers.run_due()
            if self._to_flush:
                self._flush()
        finally:
            self._depth -= 1
        self._turns += 1
        self._callbacks += count
        return count

    @abstractmethod
    def _poll(self, timeout_ns: int | None) -> list[tuple[Source, int]]:
        """Wait for reports, not at all when something else is to be done already."""

    def _wait_ns(self, timeout_ns: int | None) -> int | None:
        """How long the poll may wait: until the earliest timer at most."""
        deadline_ns = self._timers.next_deadline_ns()
        if deadline_ns is None or timeout_ns == 0:
            return timeout_ns
        until_timer_ns = max(deadline_ns - self._now_ns(), 0)
        return until_timer_ns if timeout_ns is None else min(timeout_ns, until_timer_ns)

    def _run_deferred(self) -> int:
        count = 0
        for _ in range(len(self._deferred)):
            if not self._deferred:  # a nested turn was faster
                break
            count += self._deferred.popleft()()
        return count

    def _flush(self) -> None:
        transports, self._to_flush = self._to_flush, []
        for transport in transports:
            transport.flush()

    def stop(self) -> None:
        """End `run` after this turn, or the next `run` at once. Thread: any. Never blocks. Upstream: uv_stop."""
        self._stopping = True
        self._sent.wake()

    def close(self) -> None:
        """Abort the transports, close everything else. Idempotent. Raises RuntimeError while it runs.

        Thread: any, when no other uses it any more. Upstream: uv_loop_close.
        """
        if self._closed:
            return
        if self._depth or self._running:
            raise RuntimeError(f"loop {self.name!r} is closed while it runs")
        for transport in list(self.transports):
            transport.abort()
        for listener in list(self.listeners):
            listener.close()
        self._closed = True
        self._timers.clear()
        self._deferred.clear()
        self._to_flush.clear()
        self._sent.close()
        self.poller.close()

    # -- what it offers

    def async_handle(self, callback: Callable[[], None], name: str) -> LoopAsync:
        """A handle whose sends have the loop call back. Raises RuntimeError when closed. Upstream: uv_async_init."""
        self.check_usable()
        return LoopAsync(self._sent, callback, name)

    def post(self, work: Callable[[], object], name: str) -> None:
        """Have the loop run `work` once, in the order of posting; what is posted meanwhile waits for the next turn.

        Thread: any. Never blocks; nothing happens after the loop is closed. Bound: none. Upstream:
        RedisModule_EventLoopAddOneShot.
        """
        if not self._closed:
            LoopAsync(self._sent, work, name).send()

    def timer(self, callback: Callable[[], None], name: str) -> LoopTimer:
        """A timer, not armed. Raises RuntimeError when closed. Upstream: uv_timer_init."""
        self.check_usable()
        return LoopTimer(self, self._timers, callback, name)

    def set_poll_hooks(self, before: Hook | None, after: Hook | None) -> None:
        """Called around every poll (nested turns' too), also one that does not wait. `after` also when it failed."""
        self._before = before
        self._after = after

    # -- for its parts

    def check_usable(self) -> None:
        """Raise RuntimeError when closed, or when the caller is not the one that turns it now."""
        if self._closed:
            raise RuntimeError(f"loop {self.name!r} is closed")
        if self._depth and self._caller() != self._owner:
            raise RuntimeError(f"loop {self.name!r} is used from a second thread while it runs")

    def defer(self, call: Callable[[], int]) -> None:
        """Run `call` in a later turn; it returns the number of callbacks it ran. Bound: the transports."""
        self._deferred.append(call)

    def flush_later(self, transport: Stream) -> None:
        """Flush it at the end of this turn, or before the next poll. Bound: each transport once.

        Raises as `check_usable`: bytes from a second thread would lie here until something else wakes the loop.
        """
        self.check_usable()
        self._to_flush.append(transport)

    # -- to look at

    def statistics(self) -> dict[str, int]:
        """turns, callbacks, wake_ups, bytes_in, bytes_out, transports (not closed), listeners, timers (armed).

        Thread: any.
        """
        return {
            "turns": self._turns,
            "callbacks": self._callbacks,
            "wake_ups": self._sent.wake_ups,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "transports": len(self.transports),
            "listeners": len(self.listeners),
            "timers": len(self._timers),
        }

    def __repr__(self) -> str:
        state = "closed" if self._closed else "running" if self._depth else "idle"
        counts = f"{len(self.transports)} transports, {len(self._timers)} timers"
        return f"<{type(self).__name__} {self.name!r} {state}, {counts}>"
