"""SimSocket, SimPipe and SimPoller: the kernel's part of a connection, in memory.

Role: `SockTransport` knows sockets and a poller; here both are plain objects, so that the transport's own code, and
with it every rule of closing, flushing and coalescing, is the same on both runtimes. A connection is two pipes. What is
sent is in flight first; each pipe is an actor whose step delivers its oldest piece, so pieces of one direction keep
their order, and everything else is the schedule's choice. A pipe holds a bounded number of bytes, in flight and unread
together; a sender that finds it full waits for writability.

What arrives at a socket that was closed is answered by a reset. A reset lets what arrived before it be read first.

Thread: the simulator's one. Upstream: the kernel's sockets and epoll. Left out: partial sends below the pipe's bound,
reads cut at random, loss, half-open peers. Bounds: PIPE_BYTES per direction; ready sources as many as are watched.
"""

from __future__ import annotations

import errno
import socket
from collections import deque
from typing import TYPE_CHECKING, Protocol

from coordemu.runtime.base import Address
from coordemu.runtime.poller import FAILED, READABLE, WRITABLE, Source
from coordemu.runtime.sim_core import SimCore
from coordemu.runtime.sim_task import WRITE, Actor

if TYPE_CHECKING:
    from coordemu.runtime.sim_network import SimNetwork

PIPE_BYTES = 262_144
MAX_EVENTS = 512

END, RESET = "end", "reset"


class SimPoller:
    """What one loop watches, and which of it is ready. Level-triggered."""

    def __init__(self, network: SimNetwork) -> None:
        self._network = network
        self._watched: dict[int, tuple[Source, int]] = {}
        self._maybe: dict[int, None] = {}  # may be ready; in the order of becoming so
        self.uid = network.core.new_uid()
        self.owner: SimPollerOwner | None = None

    def __len__(self) -> int:
        return len(self._watched)

    def watch(self, fd: int, source: Source, mask: int) -> None:
        """Report `mask` of `fd` to `source` from now on; 0 ends the watch."""
        if mask:
            self._watched[fd] = (source, mask)
            self._network.sockets[fd].poller = self
            self._maybe[fd] = None
        elif fd in self._watched:
            del self._watched[fd]
            self._maybe.pop(fd, None)
            self._network.sockets[fd].poller = None

    def changed(self, fd: int) -> None:
        """Something happened to a socket: its loop must look."""
        watched = self._watched.get(fd)
        if watched is not None and self._network.sockets[fd].mask() & watched[1]:
            self._maybe[fd] = None
            self.touch()
            if self.owner is not None:
                self.owner.wake()

    def ready(self) -> list[tuple[Source, int]]:
        """The sources that have something to report now, and what. Those reported go behind the others."""
        self.touch()
        found: list[tuple[Source, int]] = []
        sockets = self._network.sockets
        for fd in list(self._maybe):
            source, wanted = self._watched[fd]
            mask = sockets[fd].mask() & (wanted | FAILED)
            del self._maybe[fd]
            if mask:
                self._maybe[fd] = None
                found.append((source, mask))
                if len(found) == MAX_EVENTS:
                    break
        return found

    def touch(self) -> None:
        """The step that is under way changes what the loop finds at its next poll, or takes it."""
        log = self._network.core.log
        if log is not None:
            log.append((self.uid, WRITE))

    @property
    def any_ready(self) -> bool:
        """Whether `ready` would report anything."""
        sockets = self._network.sockets
        return any(sockets[fd].mask() & self._watched[fd][1] for fd in self._maybe)

    def close(self) -> None:
        """Watch nothing any more. Idempotent."""
        self._watched.clear()
        self._maybe.clear()


class SimPollerOwner(Protocol):
    """A loop, as its poller knows it."""

    def wake(self) -> None:
        """End the poll."""
        ...


class SimPipe(Actor):
    """One direction of a connection. latency_ns: from sending to the moment when it can be delivered."""

    __slots__ = ("_core", "_flying", "_latency_ns", "_size", "arrived", "closed", "ended", "reader", "uid", "writer")

    def __init__(self, core: SimCore, name: str, latency_ns: int) -> None:
        super().__init__(name, self._deliver)
        self._core = core
        self.uid = core.new_uid()
        self._latency_ns = latency_ns
        self._flying: deque[tuple[int, memoryview | str]] = deque()
        self._size = 0
        self.arrived: deque[memoryview] = deque()
        self.ended = ""  # END or RESET, once that has arrived
        self.closed = False  # nothing more is sent after an end
        self.reader: SimSocket | None = None
        self.writer: SimSocket | None = None
        core.register(self)

    @property
    def room(self) -> int:
        """Bytes that can be sent now."""
        return PIPE_BYTES - self._size

    def send(self, piece: memoryview | str) -> None:
        """Put bytes, an end or a reset on the way. Nothing after an end but a reset."""
        if self.closed and piece != RESET:
            return
        self._touch()
        if isinstance(piece, str):
            self.closed = True
        else:
            self._size += len(piece)
        due_ns = self._core.clock.now_ns + self._latency_ns
        self._flying.append((due_ns, piece))
        if len(self._flying) == 1:
            self._plan()

    def _plan(self) -> None:
        due_ns, piece = self._flying[0]
        self.label = f"deliver {piece if isinstance(piece, str) else 'data'}"
        if due_ns <= self._core.clock.now_ns:
            self._core.enable(self)
        else:
            self._core.arm(due_ns, lambda: self._core.enable(self))

    def _deliver(self) -> None:
        self._touch()
        _, piece = self._flying.popleft()
        self._core.disable(self)
        if self._flying:
            self._plan()
        reader = self.reader
        assert reader is not None
        if isinstance(piece, str):
            if piece == RESET:
                reader.was_reset = True
            self.ended = self.ended or piece
        elif reader.was_closed:
            self._size -= len(piece)
            if reader.outgoing is not None:
                reader.outgoing.send(RESET)
        else:
            self.arrived.append(piece)
        reader.changed()

    def read(self, limit: int) -> bytes:
        """Take at most `limit` bytes of what has arrived; the writer may have room again."""
        self._touch()
        parts = []
        while self.arrived and limit:
            piece = self.arrived.popleft()
            if len(piece) > limit:
                self.arrived.appendleft(piece[limit:])
                piece = piece[:limit]
            limit -= len(piece)
            self._size -= len(piece)
            parts.append(piece)
        if self.writer is not None:
            self.writer.changed()
        return b"".join(parts)

    def _touch(self) -> None:
        if self._core.log is not None:
            self._core.log.append((self.uid, WRITE))

    def discard(self) -> None:
        """The reader is gone: what has arrived is thrown away."""
        self._touch()
        for piece in self.arrived:
            self._size -= len(piece)
        self.arrived.clear()


class SimSocket:
    """What `SockTransport` uses of a socket. Non-blocking. fd: unique in its network."""

    def __init__(self, network: SimNetwork, address: Address) -> None:
        self.family = socket.AF_UNIX if address.path else socket.AF_INET
        self.network = network
        self.fd = network.add(self)
        self.poller: SimPoller | None = None
        self.local: object = None
        self.peer: object = None
        self.incoming: SimPipe | None = None
        self.outgoing: SimPipe | None = None
        self.error = 0
        self.connecting = False
        self.was_closed = False
        self.was_reset = False
        self._linger_zero = False

    def mask(self) -> int:
        """What a poller would report."""
        if self.error:
            return WRITABLE | FAILED
        incoming, outgoing = self.incoming, self.outgoing
        if incoming is None or outgoing is None or self.connecting:
            return 0
        mask = READABLE if incoming.arrived or incoming.ended else 0
        if outgoing.room > 0 or self.was_reset:
            mask |= WRITABLE
        return mask

    def changed(self) -> None:
        """Tell the loop that watches it."""
        if self.poller is not None:
            self.poller.changed(self.fd)

    def fileno(self) -> int:
        """The number."""
        return self.fd

    def connect_ex(self, name: str | tuple[str, int]) -> int:
        """Begin to connect: EINPROGRESS."""
        self.connecting = True
        self.peer = name
        self.network.connect(self, name)
        return errno.EINPROGRESS

    def getsockopt(self, _level: int, _option: int) -> int:
        """SO_ERROR, which is all that is ever asked for: the outcome of the connect."""
        error, self.error = self.error, 0
        return error

    def setsockopt(self, _level: int, option: int, _value: object) -> None:
        """SO_LINGER of no time makes the close a reset; others change nothing here."""
        if option == socket.SO_LINGER:
            self._linger_zero = True

    def settimeout(self, _limit_s: float) -> None:
        """Nothing: it never blocks."""

    def getsockname(self) -> object:
        """Its own end."""
        return self.local

    def getpeername(self) -> object:
        """The other end. Raises OSError when it is not connected."""
        if self.incoming is None:
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")
        return self.peer

    def recv(self, limit: int) -> bytes:
        """What has arrived, at most `limit` bytes; b"" at the end. Raises BlockingIOError, ConnectionResetError."""
        incoming = self.incoming
        if incoming is None:
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")
        if incoming.arrived:
            return incoming.read(limit)
        if incoming.ended == RESET:
            raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
        if incoming.ended:
            return b""
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    def send(self, chunk: memoryview) -> int:
        """Send what fits; returns how much. Raises BlockingIOError, BrokenPipeError."""
        outgoing = self.outgoing
        if outgoing is None or self.was_reset:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        size = min(outgoing.room, len(chunk))
        if size <= 0:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        outgoing.send(memoryview(bytes(chunk[:size])))
        return size

    def close(self) -> None:
        """End the connection in good order; by a reset with zero linger or unread bytes. Idempotent."""
        if self.was_closed:
            return
        self.was_closed = True
        self.network.forget(self)
        if self.outgoing is not None and self.incoming is not None:
            unread = bool(self.incoming.arrived)
            self.incoming.discard()
            if self.incoming.writer is not None:
                self.incoming.writer.changed()
            if not self.was_reset:
                self.outgoing.send(RESET if self._linger_zero or unread else END)

    def __repr__(self) -> str:
        return f"<SimSocket {self.fd} {self.local} to {self.peer}>"
