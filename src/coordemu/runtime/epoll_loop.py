"""EpollLoop: an event loop on epoll, in one thread at a time.

Role: the I/O thread's loop, the server's main loop, and the embedded shard's, on real threads: `LoopTurn` with a poll
that asks the kernel, and with real sockets. A turn hands out at most 512 reports.

Thread: the one in `run` or `run_once`, as `LoopTurn` says. Upstream: uv_loop_t, libuv's poll phase. Left out: what
`LoopTurn` leaves out.
"""

from __future__ import annotations

from _thread import get_ident
from collections.abc import Callable
from time import monotonic_ns

from coordemu.runtime.base import Address, Transport, TransportHandler
from coordemu.runtime.loop_turn import LoopTurn
from coordemu.runtime.loop_wakeup import LoopWakeup
from coordemu.runtime.poller import EDGE, READABLE, Source
from coordemu.runtime.quick_socket import QuickPoller, QuickTransport
from coordemu.runtime.sock_address import make_socket
from coordemu.runtime.sock_listener import SockListener
from coordemu.runtime.stream import StreamTable
from coordemu.runtime.transport_state import State


class EpollLoop(LoopTurn):
    """One loop. Raises OSError from its making when no descriptor is to be had."""

    def __init__(self, name: str) -> None:
        self.poller: QuickPoller = QuickPoller()
        self._wakeup = LoopWakeup()
        super().__init__(name, self.poller, self._wakeup, monotonic_ns, get_ident)
        self.transports = StreamTable()
        self.poller.watch(self._wakeup.fd, self._wakeup, READABLE | EDGE)

    def _poll(self, timeout_ns: int | None) -> list[tuple[Source, int]]:
        # From here on a sender writes to the eventfd; what was sent before is seen here.
        at_once = self._wakeup.before_poll() or self._stopping or bool(self._deferred)
        try:
            return self.poller.poll(0 if at_once else self._wait_ns(timeout_ns))
        finally:
            self._wakeup.after_poll()

    def connect(self, address: Address, handler: TransportHandler, timeout_ns: int | None = None) -> Transport:
        """Begin to connect; `on_connect` or `on_close` tells the outcome, in a later turn.

        timeout_ns bounds the handshake (None: the kernel's own limit; a unix listener's full backlog is waited for).
        Raises RuntimeError when closed, OSError when no socket is to be had. Never blocks, unless the host is a
        name. Upstream: redisAsyncConnect.
        """
        self.check_usable()
        transport = QuickTransport(self, make_socket(address), address, State.CONNECTING)
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
