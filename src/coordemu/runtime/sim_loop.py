"""SimLoop: an event loop whose poll is a step of the schedule.

Role: `LoopTurn` in a simulated runtime. A task whose loop has nothing to do is not enabled, and still counts as
running, as one in epoll does. A poll without a time limit of its own that finds nothing gives way, so that a task that
spins on `run_once(0)` does not keep the others from their steps.

Thread: the simulator's one; the task in `run` or `run_once` owns the loop, others may only `send` and `stop`. Upstream:
uv_loop_t. Left out: what `LoopTurn` leaves out; an order of the ready sockets other than that of their becoming ready.
Bounds: as `EpollLoop`.
"""

from __future__ import annotations

from collections.abc import Callable

from coordemu.runtime.base import Address, Transport, TransportHandler
from coordemu.runtime.loop_turn import LoopTurn
from coordemu.runtime.loop_wakeup import LoopAsync, SentHandles
from coordemu.runtime.poller import Source
from coordemu.runtime.sim_core import SimCore
from coordemu.runtime.sim_network import SimListener, SimNetwork
from coordemu.runtime.sim_socket import SimPoller, SimSocket
from coordemu.runtime.sim_task import SimTask
from coordemu.runtime.sock_address import socket_name
from coordemu.runtime.sock_transport import SockTransport
from coordemu.runtime.transport_state import State


class SimWakeup(SentHandles):
    """The sent handles of one loop. `parked`: the task that sits in its poll."""

    __slots__ = ("_core", "_poller", "parked")

    def __init__(self, core: SimCore, poller: SimPoller) -> None:
        super().__init__()
        self._core = core
        self._poller = poller
        self.parked: SimTask | None = None

    def run_sent(self) -> int:
        """Call back the handles that are queued now. Returns how many."""
        self._poller.touch()
        return super().run_sent()

    def wake(self) -> None:
        """End the poll, if a task sits in it."""
        if self.parked is not None:
            self.wake_ups += 1
            self._core.enable(self.parked)

    def touch(self) -> None:
        """The step that is under way changes what the loop finds, or takes it."""
        self._poller.touch()


class SimLoop(LoopTurn):
    """One loop."""

    def __init__(self, core: SimCore, network: SimNetwork, name: str) -> None:
        self.poller: SimPoller = SimPoller(network)
        self._wakeup = SimWakeup(core, self.poller)
        self.poller.owner = self._wakeup
        super().__init__(name, self.poller, self._wakeup, lambda: core.clock.now_ns, lambda: core.current)
        self._core = core
        self._network = network
        self._label = f"poll {name}"

    def _poll(self, timeout_ns: int | None) -> list[tuple[Source, int]]:
        self._wait(timeout_ns)
        return self.poller.ready()

    def run_once(self, timeout_ns: int | None = 0) -> int:
        """One turn, as `LoopTurn`'s. Whether there is another is seen before and after it, in steps of their own."""
        self.poller.look()
        count = super().run_once(timeout_ns)
        self.poller.look()
        return count

    def _wait(self, timeout_ns: int | None) -> None:
        core = self._core
        self.poller.look()
        if self._wakeup or self._stopping or self._deferred or self.poller.any_ready:
            core.point(self._label)
            return
        limit_ns = self._wait_ns(timeout_ns)
        if limit_ns is not None and limit_ns <= 0:
            core.give_way(self._label)
            return
        self._wakeup.parked = core.current
        try:
            core.block(self._label, None, limit_ns)
        finally:
            self._wakeup.parked = None

    def stop(self) -> None:
        """End `run` after this turn, or the next `run` at once. Any task. Never blocks."""
        self._core.point(f"stop {self.name}")
        self.poller.touch()
        super().stop()

    def async_handle(self, callback: Callable[[], None], name: str) -> SimAsync:
        """A handle whose sends have the loop call back. Raises RuntimeError when closed."""
        self.check_usable()
        return SimAsync(self._core, self._wakeup, callback, name)

    def post(self, work: Callable[[], object], name: str) -> None:
        """Have the loop run `work` once, in the order of posting. Any task. Never blocks."""
        SimAsync(self._core, self._wakeup, work, name).send()

    def connect(self, address: Address, handler: TransportHandler, timeout_ns: int | None = None) -> Transport:
        """Begin to connect; `on_connect` or `on_close` tells the outcome, in a later turn."""
        self.check_usable()
        socket_name(address)
        transport = SockTransport(self, SimSocket(self._network, address), address, State.CONNECTING)
        transport.begin_connect(handler, timeout_ns)
        return transport

    def listen(
        self, address: Address, accept: Callable[[Transport], TransportHandler], backlog: int = 1024
    ) -> SimListener:
        """Accept connections; `accept` makes each one's handler. Raises OSError when the address can't be had."""
        self.check_usable()
        return self._network.listen(self, address, accept, backlog)


class SimAsync(LoopAsync):
    """One wake-up handle, whose sending is a step. Made by `SimLoop.async_handle`."""

    __slots__ = ("_core", "_label", "_wakeup")

    def __init__(self, core: SimCore, wakeup: SimWakeup, callback: Callable[[], object], name: str) -> None:
        super().__init__(wakeup, callback, name)
        self._wakeup = wakeup
        self._core = core
        self._label = f"send {name}"

    def send(self) -> None:
        """Have the loop call back, once for all sends until then; nothing when closed. Any task. Never blocks."""
        self._core.point(self._label)
        # Also when it is sent already: whether it is depends on the order.
        self._wakeup.touch()
        super().send()

    def fire(self) -> int:
        """Call back if a send waits: 1, else 0. Called by the queue alone."""
        self._wakeup.touch()
        return super().fire()
