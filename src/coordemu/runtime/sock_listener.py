"""SockListener: a listening TCP or unix socket of one loop.

Role: what the embedded shard and the server's main thread accept clients on. A turn accepts at most 64, so that a
storm of clients does not starve the rest of the loop. When the process has no descriptor left, accepting pauses
for 100 ms instead of spinning on a listener that stays readable.

Thread: the loop's. Bound: the kernel's backlog, as given. Upstream: Redis' own listening (anet.c, networking.c).
Left out: sharing a port between processes.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Callable

from coordemu.runtime.base import NS_PER_MS, Address, Transport, TransportHandler
from coordemu.runtime.poller import READABLE
from coordemu.runtime.sock_address import make_socket, no_delay, socket_name, to_address
from coordemu.runtime.sock_transport import SockTransport
from coordemu.runtime.stream import StreamLoop
from coordemu.runtime.transport_state import State

log = logging.getLogger("coordemu")

ACCEPTS_PER_TURN = 64
EXHAUSTED_PAUSE_NS = 100 * NS_PER_MS
EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))

Accept = Callable[[Transport], TransportHandler]


class SockListener:
    """A listening socket. Raises OSError from its making when the address can't be had."""

    __slots__ = ("_accept", "_closed", "_fd", "_loop", "_sock", "_timer", "address")

    def __init__(self, loop: StreamLoop, address: Address, accept: Accept, backlog: int) -> None:
        sock = make_socket(address)
        try:
            if not address.path:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(socket_name(address))
            sock.listen(backlog)
        except OSError:
            sock.close()
            raise
        self.address = to_address(sock, sock.getsockname(), address)
        self._loop = loop
        self._sock = sock
        self._fd = sock.fileno()
        self._accept = accept
        self._closed = False
        self._timer = loop.timer(self._resume, f"accept again on {self.address}")
        loop.listeners.add(self)
        loop.poller.watch(self._fd, self, READABLE)

    def on_events(self, _mask: int) -> int:
        """Accept who has come. Returns how many."""
        count = 0
        while count < ACCEPTS_PER_TURN and not self._closed:
            try:
                sock, peer = self._sock.accept()
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in EXHAUSTED:
                    self._pause(error)
                    break
                continue  # this one client has gone again (ECONNABORTED and the like)
            count += 1
            self._admit(sock, peer)
        return count

    def _admit(self, sock: socket.socket, peer: object) -> None:
        sock.settimeout(0)
        no_delay(sock)
        transport = SockTransport(self._loop, sock, to_address(sock, peer, self.address), State.OPEN)
        admitted = False
        try:
            transport.adopt_handler(self._accept(transport))
            admitted = True
        finally:
            if not admitted:
                transport.abort()

    def _pause(self, error: OSError) -> None:
        log.warning("listener %s stops accepting for a moment: %s", self.address, error)
        self._loop.poller.watch(self._fd, self, 0)
        self._timer.start(EXHAUSTED_PAUSE_NS)

    def _resume(self) -> None:
        self._loop.poller.watch(self._fd, self, READABLE)

    def close(self) -> None:
        """Stop listening, and remove a unix socket's file; accepted transports live on. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._timer.close()
        self._loop.listeners.discard(self)
        self._loop.poller.watch(self._fd, self, 0)
        self._sock.close()
        if self.address.path:
            try:
                os.unlink(self.address.path)
            except FileNotFoundError:
                return

    def __repr__(self) -> str:
        return f"<SockListener {self.address} {'closed' if self._closed else 'listening'}>"
