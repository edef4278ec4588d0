"""EpollLoop: an event loop on epoll, in one thread at a time.

Role: the I/O thread's loop, the server's main loop, and the embedded shard's. A turn is: send what was written
since the last one; poll; hand out what the sockets report; run sent async handles; run deferred outcomes; run due
timers; send what the turn has written. Everything that a callback causes (a new timer without delay, a send to a
handle, a connect that fails at once) comes in a later turn, so a turn is bounded: 512 reports, each handle once, each
timer once.

A callback may run a nested turn. The loop keeps no state between poll and dispatch but a list of (source,
report) pairs, and sources bear reports that a nested turn has overtaken.

Thread: the one in `run` or `run_once`; another thread may only `send`, `stop`, and, while the loop does not run,
set it up. Use from a second thread while it runs raises RuntimeError where a check is cheap. Upstream: uv_loop_t.
Left out: idle, prepare and check handles, signals, files, name resolution in the background.
"""

from __future__ import annotations

from _thread import get_ident
from collections import deque
from collections.abc import Callable
from time import monotonic_ns

from coordemu.runtime.base import Address, Transport, TransportHandler
from coordemu.runtime.loop_timer import LoopTimer, TimerHeap
from coordemu.runtime.loop_wakeup import LoopAsync, LoopWakeup
from coordemu.runtime.poller import EDGE, READABLE, Poller, Source
from coordemu.runtime.sock_address import make_socket
from coordemu.runtime.sock_listener import SockListener
from coordemu.runtime.sock_transport import SockTransport
from coordemu.runtime.transport_state import State

Hook = Callable[[], None]


class EpollLoop:
    """One loop. `poller`, `transports`, `listeners`, `bytes_in`, `bytes_out` are for its sockets alone."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.poller = Poller()
        self.transports: set[SockTransport] = set()
        self.listeners: set[SockListener] = set()
        self.bytes_in = 0
        self.bytes_out = 0
        self._timers = TimerHeap()
        self._wakeup = LoopWakeup()
        self._wakeup_source = _WakeupSource()
        self._deferred: deque[Callable[[], int]] = deque()
        self._to_flush: list[SockTransport] = []
        self._before: Hook | None = None
        self._after: Hook | None = None
        self._stopping = False
        self._closed = False
        self._depth = 0
        self._running = False
        self._owner_ident = 0
        self._turns = 0
        self._callbacks = 0
        self.poller.watch(self._wakeup.fd, self._wakeup_source, READABLE | EDGE)

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
        self._owner_ident = get_ident()
        self._depth += 1
        try:
            self._flush()
            count = 0
            for source, mask in self._poll(timeout_ns):
                count += source.on_events(mask)
            count += self._wakeup.run_sent()
            count += self._run_deferred()
            count += self._timers.run_due()
            self._flush()
        finally:
            self._depth -= 1
        self._turns += 1
        self._callbacks += count
        return count

    def _poll(self, timeout_ns: int | None) -> list[tuple[Source, int]]:
        if self._before is not None:
            self._before()
        try:
            # From here on a sender writes to the eventfd; what was sent before is seen here.
            at_once = self._wakeup.before_poll() or self._stopping or bool(self._deferred)
            try:
                return self.poller.poll(0 if at_once else self._wait_ns(timeout_ns))
            finally:
                self._wakeup.after_poll()
        finally:
            if self._after is not None:
                self._after()

    def _wait_ns(self, timeout_ns: int | None) -> int | None:
        deadline_ns = self._timers.next_deadline_ns()
        if deadline_ns is None or timeout_ns == 0:
            return timeout_ns
        until_timer_ns = max(deadline_ns - monotonic_ns(), 0)
        return until_timer_ns if timeout_ns is None else min(timeout_ns, until_timer_ns)

    def _run_deferred(self) -> int:
        count = 0
        for _ in range(len(self._deferred)):
            if not self._deferred:  # a nested turn was faster
                break
            count += self._deferred.popleft()()
        return count

    def _flush(self) -> None:
        if self._to_flush:
            transports, self._to_flush = self._to_flush, []
            for transport in transports:
                transport.flush()

    def stop(self) -> None:
        """End `run` after this turn, or the next `run` at once. Thread: any. Never blocks. Upstream: uv_stop."""
        self._stopping = True
        self._wakeup.wake()

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
        self._wakeup.close()
        self.poller.close()

    # -- what it offers

    def async_handle(self, callback: Callable[[], None], name: str) -> LoopAsync:
        """A handle whose sends have the loop call back. Raises RuntimeError when closed. Upstream: uv_async_init."""
        self.check_usable()
        return LoopAsync(self._wakeup, callback, name)

    def timer(self, callback: Callable[[], None], name: str) -> LoopTimer:
        """A timer, not armed. Raises RuntimeError when closed. Upstream: uv_timer_init."""
        self.check_usable()
        return LoopTimer(self, self._timers, callback, name)

    def connect(self, address: Address, handler: TransportHandler, timeout_ns: int | None = None) -> Transport:
        """Begin to connect; `on_connect` or `on_close` tells the outcome, in a later turn.

        timeout_ns bounds the handshake (None: the kernel's own limit; a unix listener's full backlog is waited for).
        Raises RuntimeError when closed, OSError when no socket is to be had. Never blocks, unless the host is a
        name. Upstream: redisAsyncConnect.
        """
        self.check_usable()
        transport = SockTransport(self, make_socket(address), address, State.CONNECTING)
        transport.begin_connect(handler, timeout_ns)
        return transport

    def listen(
        self, address: Address, accept: Callable[[Transport], TransportHandler], backlog: int = 1024
    ) -> SockListener:
        """Accept connections; `accept` makes each one's handler. Raises OSError when the address can't be had.

        A unix socket's file must not exist; it is removed at the listener's close. Raises RuntimeError when closed.
        """
        self.check_usable()
        return SockListener(self, address, accept, backlog)

    def set_poll_hooks(self, before: Hook | None, after: Hook | None) -> None:
        """Called around every poll (nested turns' too), also one that does not wait. `after` also when it failed."""
        self._before = before
        self._after = after

    # -- for its parts

    def check_usable(self) -> None:
        """Raise RuntimeError when closed, or when the caller is not on the thread that turns it now."""
        if self._closed:
            raise RuntimeError(f"loop {self.name!r} is closed")
        if self._depth and get_ident() != self._owner_ident:
            raise RuntimeError(f"loop {self.name!r} is used from a second thread while it runs")

    def defer(self, call: Callable[[], int]) -> None:
        """Run `call` in a later turn; it returns the number of callbacks it ran. Bound: the transports."""
        self._deferred.append(call)

    def flush_later(self, transport: SockTransport) -> None:
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
            "wake_ups": self._wakeup_source.edges,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "transports": len(self.transports),
            "listeners": len(self.listeners),
            "timers": len(self._timers),
        }

    def __repr__(self) -> str:
        state = "closed" if self._closed else "running" if self._depth else "idle"
        return f"<EpollLoop {self.name!r} {state}, {len(self.transports)} transports, {len(self._timers)} timers>"


class _WakeupSource:
    """The eventfd among the poller's sources."""

    __slots__ = ("edges",)

    def __init__(self) -> None:
        self.edges = 0

    def on_events(self, _mask: int) -> int:
        self.edges += 1
        return 0
