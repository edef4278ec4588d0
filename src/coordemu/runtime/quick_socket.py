"""QuickPoller and QuickTransport: the loop's system calls with the interpreter lock kept.

Role: under `EpollLoop`. Python lets go of the interpreter lock around every system call on a socket. Beside a thread
that computes, whoever lets go of it may wait a switch interval (5 ms) to have it back, and a loop's turn does so three
times and more. The calls here are the same ones, non-blocking, some microseconds long, and keep the lock (in C, see
`_build_native`). Only the poll that really waits lets go of it.

A wait that ended long before the lock came back shows that some other thread computes; the C module remembers that
for 100 ms, for all of its callers. Meanwhile a poll that follows a send looks for the answer for up to 400 us before it
waits: the answer of a near shard comes within that time, and the lock, once given away, in milliseconds. In an
interpreter that is not busy nothing ever spins.

To watch and to close are among them for the sake of a shrink, which does both for each of its connections: beside
threads that compute, one turn lost to them is 5 ms, and a thousand connections have two thousand occasions.

These calls need the descriptor's number alone, so a transport that stands keeps no object for its socket, which is a
hundred bytes less for each idle connection.

Thread: the loop's. Upstream: libuv's poll phase, which has no such lock. Left out: `accept` and connecting, which are
rare; accepted transports, whose ends are served by clients of ours.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Any, Final, NoReturn, Protocol

from coordemu._native import ffi, lib
from coordemu.runtime.base import NS_PER_US
from coordemu.runtime.poller import MAX_EVENTS, Poller, Source
from coordemu.runtime.sock_transport import SockTransport
from coordemu.runtime.stream import StreamLoop

SPIN_NS: Final = 400 * NS_PER_US
BUFFER_BYTES: Final = 65_536

_poll = lib.native_poll
_recv = lib.loop_recv
_send = lib.loop_send
_watch = lib.loop_watch
_close = lib.loop_close
_unpack = ffi.unpack
_from_buffer = ffi.from_buffer


class QuickPoller(Poller):
    """One epoll descriptor and its sources. `sent`: set it when something was sent whose answer is awaited."""

    __slots__ = ("_fds", "_masks", "buffer", "sent")

    def __init__(self) -> None:
        super().__init__()
        self._fds = ffi.new("int32_t[]", MAX_EVENTS)
        self._masks = ffi.new("uint32_t[]", MAX_EVENTS)
        self.buffer: Any = ffi.new("char[]", BUFFER_BYTES)
        self.sent = False

    def _control(self, fd: int, mask: int, known: bool) -> None:
        if (code := _watch(self._fd, fd, mask, known)) < 0:
            raise_error(code)

    def poll(self, wait_ns: int | None) -> list[tuple[Source, int]]:
        """Wait at most wait_ns (None: no limit) for reports. May block, without the interpreter lock."""
        spin_ns = 0
        if self.sent:
            self.sent = False
            spin_ns = SPIN_NS if wait_ns is None else min(wait_ns, SPIN_NS)
        count = _poll(self._fd, MAX_EVENTS, -1 if wait_ns is None else wait_ns, spin_ns, self._fds, self._masks)
        if count <= 0:
            if count in (0, -errno.EINTR):  # a signal: its handler runs before the next turn
                return []
            raise_error(count)
        sources, fds, masks = self._sources, _unpack(self._fds, count), _unpack(self._masks, count)
        return [(sources[fd], mask) for fd, mask in zip(fds, masks, strict=True)]


class QuickLoop(StreamLoop, Protocol):
    """A loop on a `QuickPoller`."""

    @property
    def poller(self) -> QuickPoller: ...


class QuickTransport(SockTransport):
    """A transport that connects. Its loop must close it: once it stands, nothing else would close its descriptor."""

    __slots__ = ()

    _loop: QuickLoop

    def _forget_socket(self) -> None:
        if isinstance(self._sock, socket.socket):
            self._sock.detach()
        self._sock = None

    def _recv(self, limit: int) -> bytes:
        """As socket.recv, at most 64 KiB."""
        buffer = self._loop.poller.buffer
        got = _recv(self._fd, buffer, min(limit, BUFFER_BYTES))
        if got < 0:
            raise_error(got)
        received: bytes = _unpack(buffer, got)
        return received

    def _send_some(self, chunk: memoryview) -> int:
        """As socket.send."""
        sent: int = _send(self._fd, _from_buffer(chunk), len(chunk))
        if sent < 0:
            raise_error(sent)
        self._loop.poller.sent = True
        return sent

    def _close_socket(self, reset: bool) -> None:
        if self._sock is not None:
            super()._close_socket(reset)
        elif (code := _close(self._fd, reset)) < 0:
            raise_error(code)


def raise_error(code: int) -> NoReturn:
    """Raise the OSError of a negated error number. Thread: any."""
    raise OSError(-code, os.strerror(-code))
