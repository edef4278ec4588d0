"""SimLoop: an event loop whose poll is a step of the schedule.

Role: the same turn as `EpollLoop`'s: send what was written since the last one; poll; hand out what the sockets report;
run sent async handles; run deferred outcomes; run due timers; send what the turn has written. A task whose loop has
nothing to do is not enabled, and still counts as running, as one in epoll does. A poll without a time limit of its own
that finds nothing gives way, so that a task that spins on `run_once(0)` does not keep the others from their steps.

Thread: the simulator's one; the task in `run` or `run_once` owns the loop, others may only `send` and `stop`. Upstream:
uv_loop_t. Left out: what `EpollLoop` leaves out; an order of the ready sockets other than that of their becoming ready.
Bounds: as `EpollLoop`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from coordemu.runtime.base import Address, Transport, TransportHandler
from coordemu.runtime.poller import Source
from coordemu.runtime.sim_core import SimCore
from coordemu.runtime.sim_network import SimListener, SimNetwork
from coordemu.runtime.sim_socket import SimPoller, SimPollerOwner, SimSocket
from coordemu.runtime.sim_task import SimTask
from coordemu.runtime.sim_timer import SimTimer, SimTimers
from coordemu.runtime.sock_address import socket_name
from coordemu.runtime.sock_transport import SockTransport
from coordemu.runtime.transport_state import State

if TYPE_CHECKING:
    import socket

    from coordemu.runtime.epoll_loop import EpollLoop

Hook = Callable[[], None]
K = TypeVar("K")


class OrderedSet(Generic[K]):
    """A set that is walked in the order of adding: the order of plain sets differs from process to process."""

    __slots__ = ("_items",)

    def __init__(self) -> None:
        self._items: dict[K, None] = {}

    def add(self, item: K) -> None:
        """Add it, if it is not in."""
        self._items[item] = None

    def discard(self, item: K) -> None:
        """Take it out, if it is in."""
        self._items.pop(item, None)

    def __iter__(self) -> Iterator[K]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)


class SimLoop(SimPollerOwner):
    """One loop. `poller`, `transports`, `listeners`, `bytes_in`, `bytes_out` are for its sockets alone."""

    def __init__(self, core: SimCore, network: SimNetwork, name: str) -> None:
        self.name = name
        self.poller = SimPoller(network)
        self.poller.owner = self
        self.transports: OrderedSet[SockTransport] = OrderedSet()
        self.listeners: OrderedSet[SimListener] = OrderedSet()
        self.bytes_in = 0
        self.bytes_out = 0
        self._core = core
        self._network = network
        self._timers = SimTimers(core.clock, self.check_usable)
        self._sent: deque[SimAsync] = deque()
        self._deferred: deque[Callable[[], int]] = deque()
        self._to_flush: list[SockTransport] = []
        self._before: Hook | None = None
        self._after: Hook | None = None
        self._stopping = False
        self._closed = False
        self._depth = 0
        self._running = False
        self._owner: SimTask | None = None
        self._parked: SimTask | None = None
        self._label = f"poll {name}"
        self._turns = self._callbacks = self._wake_ups = 0

    # -- turning

    def run(self) -> None:
        """Turn until `stop`. Raises what a callback raises; RuntimeError when it runs already, or is closed."""
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

        May be nested. Raises what a callback raises; RuntimeError when closed, or while it runs in another task.
        """
        self.check_usable()
        self._owner = self._core.current
        self._depth += 1
        try:
            self._flush()
            count = 0
            for source, mask in self._poll(timeout_ns):
                count += source.on_events(mask)
            count += self._run_sent()
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
            self._wait(timeout_ns)
            return self.poller.ready()
        finally:
            if self._after is not None:
                self._after()

    def _wait(self, timeout_ns: int | None) -> None:
        core = self._core
        if self._sent or self._stopping or self._deferred or self.poller.any_ready:
            core.point(self._label)
            return
        limit_ns = self._wait_ns(timeout_ns)
        if limit_ns is not None and limit_ns <= 0:
            core.give_way(self._label)
            return
        self._parked = core.current
        try:
            core.block(self._label, None, limit_ns)
        finally:
            self._parked = None

    def _wait_ns(self, timeout_ns: int | None) -> int | None:
        deadline_ns = self._timers.next_ns()
        if deadline_ns is None or timeout_ns == 0:
            return timeout_ns
        until_timer_ns = max(deadline_ns - self._core.clock.now_ns, 0)
        return until_timer_ns if timeout_ns is None else min(timeout_ns, until_timer_ns)

    def wake(self) -> None:
        """End the poll, if a task sits in it."""
        if self._parked is not None:
            self._wake_ups += 1
            self._core.enable(self._parked)

    def send(self, handle: SimAsync) -> None:
        """Queue a handle whose callback is to run, and wake."""
        self._sent.append(handle)
        self.poller.touch()
        self.wake()

    def _run_sent(self) -> int:
        count = 0
        for _ in range(len(self._sent)):
            if not self._sent:  # a nested turn was faster
                break
            count += self._sent.popleft().fire()
        return count

    def _run_deferred(self) -> int:
        count = 0
        for _ in range(len(self._deferred)):
            if not self._deferred:
                break
            count += self._deferred.popleft()()
        return count

    def _flush(self) -> None:
        if self._to_flush:
            transports, self._to_flush = self._to_flush, []
            for transport in transports:
                transport.flush()

    def stop(self) -> None:
        """End `run` after this turn, or the next `run` at once. Any task. Never blocks."""
        self._core.point(f"stop {self.name}")
        self._stopping = True
        self.poller.touch()
        self.wake()

    def close(self) -> None:
        """Abort the transports, close everything else. Idempotent. Raises RuntimeError while it runs."""
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
        self._sent.clear()
        self.poller.close()

    # -- what it offers

    def async_handle(self, callback: Callable[[], None], name: str) -> SimAsync:
        """A handle whose sends have the loop call back. Raises RuntimeError when closed."""
        self.check_usable()
        return SimAsync(self._core, self, callback, name)

    def timer(self, callback: Callable[[], None], name: str) -> SimTimer:
        """A timer, not armed. Raises RuntimeError when closed."""
        self.check_usable()
        return SimTimer(self._timers, callback, name)

    def connect(self, address: Address, handler: TransportHandler, timeout_ns: int | None = None) -> Transport:
        """Begin to connect; `on_connect` or `on_close` tells the outcome, in a later turn."""
        self.check_usable()
        socket_name(address)
        sock = SimSocket(self._network, address)
        transport = SockTransport(cast("EpollLoop", self), cast("socket.socket", sock), address, State.CONNECTING)
        transport.begin_connect(handler, timeout_ns)
        return transport

    def listen(
        self, address: Address, accept: Callable[[Transport], TransportHandler], backlog: int = 1024
    ) -> SimListener:
        """Accept connections; `accept` makes each one's handler. Raises OSError when the address can't be had."""
        self.check_usable()
        return self._network.listen(self, address, accept, backlog)

    def set_poll_hooks(self, before: Hook | None, after: Hook | None) -> None:
        """Called around every poll (nested turns' too)."""
        self._before = before
        self._after = after

    # -- for its parts

    def check_usable(self) -> None:
        """Raise RuntimeError when closed, or when the caller is not the task that turns it now."""
        if self._closed:
            raise RuntimeError(f"loop {self.name!r} is closed")
        if self._depth and self._core.current is not self._owner:
            raise RuntimeError(f"loop {self.name!r} is used from a second task while it runs")

    def defer(self, call: Callable[[], int]) -> None:
        """Run `call` in a later turn; it returns the number of callbacks it ran."""
        self._deferred.append(call)

    def flush_later(self, transport: SockTransport) -> None:
        """Flush it at the end of this turn, or before the next poll. Raises as `check_usable`."""
        self.check_usable()
        self._to_flush.append(transport)

    def statistics(self) -> dict[str, int]:
        """turns, callbacks, wake_ups, bytes_in, bytes_out, transports (not closed), listeners, timers (armed)."""
        return {
            "turns": self._turns,
            "callbacks": self._callbacks,
            "wake_ups": self._wake_ups,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "transports": len(self.transports),
            "listeners": len(self.listeners),
            "timers": len(self._timers),
        }

    def __repr__(self) -> str:
        state = "closed" if self._closed else "running" if self._depth else "idle"
        return f"<SimLoop {self.name!r} {state}, {len(self.transports)} transports, {len(self._timers)} timers>"


class SimAsync:
    """One wake-up handle. Made by `SimLoop.async_handle`."""

    __slots__ = ("_callback", "_closed", "_core", "_label", "_loop", "_pending", "name")

    def __init__(self, core: SimCore, loop: SimLoop, callback: Callable[[], None], name: str) -> None:
        self.name = name
        self._core = core
        self._loop = loop
        self._callback = callback
        self._label = f"send {name}"
        self._pending = False
        self._closed = False

    def send(self) -> None:
        """Have the loop call back, once for all sends until then; nothing when closed. Any task. Never blocks."""
        self._core.point(self._label)
        if not self._pending and not self._closed:
            self._pending = True
            self._loop.send(self)

    def fire(self) -> int:
        """Call back if a send waits: 1, else 0. Called by the loop alone."""
        if self._closed or not self._pending:
            return 0
        self._pending = False
        self._callback()
        return 1

    def close(self) -> None:
        """No callback from now on. Idempotent."""
        self._closed = True

    def __repr__(self) -> str:
        state = "closed" if self._closed else "sent" if self._pending else "idle"
        return f"<SimAsync {self.name!r} {state}>"
