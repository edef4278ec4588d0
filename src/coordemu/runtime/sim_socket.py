"""SimSocket, SimPipe and SimPoller: the kernel's part of a connection, in memory.

Role: `SockTransport` knows sockets and a poller; here both are plain objects, so that the transport's own code, and
with it every rule of closing, flushing and coalescing, is the same on both runtimes. A connection is two pipes. What is
sent is in flight first; each pipe is an actor whose step delivers its oldest piece, so pieces of one direction keep
their order, and everything else is the schedule's choice. A pipe holds a bounded number of bytes, in flight and unread
together; a sender that finds it full waits for writability.

What arrives at a socket that was closed is answered by a reset. A reset lets what arrived before it be read first.

Chances (`SimCore.pick`): a read takes only a part of what has arrived; a piece takes longer; of several ready sockets
another is served first. What goes wrong is sim_faults'.

Thread: the simulator's one. Upstream: the kernel's sockets and epoll. Left out: partial sends below the pipe's bound.
Bounds: PIPE_BYTES per direction; ready sources as many as are watched.
"""

from __future__ import annotations

import errno
import socket
from collections import deque
from typing import TYPE_CHECKING, Protocol

from coordemu.runtime.base import Address
from coordemu.runtime.poller import FAILED, READABLE, WRITABLE, Source
from coordemu.runtime.sim_core import SimCore
from coordemu.runtime.sim_faults import CHANCE_DELAYS_NS, Link, NetworkFaults
from coordemu.runtime.sim_task import READ, WRITE, Actor

if TYPE_CHECKING:
    from coordemu.runtime.sim_network import SimNetwork

PIPE_BYTES = 262_144
MAX_EVENTS = 512

END, RESET = "end", "reset"
LABELS = {END: "deliver end", RESET: "deliver reset"}


class SimPoller:
    """What one loop watches, and which of it is ready. Level-triggered."""

    __slots__ = ("_core", "_maybe", "_sockets", "_watched", "owner", "uid")

    def __init__(self, network: SimNetwork) -> None:
        self._core = network.core
        self._sockets = network.sockets
        self._watched: dict[SimSocket, Source] = {}
        self._maybe: dict[SimSocket, None] = {}  # may be ready; in the order of becoming so
        self.uid = network.core.new_uid()
        self.owner: SimPollerOwner | None = None

    def __len__(self) -> int:
        return len(self._watched)

    def watch(self, fd: int, source: Source, mask: int) -> None:
        """Report `mask` of `fd` to `source` from now on; 0 ends the watch."""
        sock = self._sockets[fd]
        if mask:
            self._watched[sock] = source
            sock.wanted = mask
            sock.poller = self
            self._maybe[sock] = None
        elif sock in self._watched:
            del self._watched[sock]
            self._maybe.pop(sock, None)
            sock.wanted = 0
            sock.poller = None

    def has_become_ready(self, sock: SimSocket) -> None:
        """A socket has something that is watched for: its loop must look."""
        self._maybe[sock] = None
        if self._core.log is not None:
            self.touch()
        if self.owner is not None:
            self.owner.wake()

    def ready(self) -> list[tuple[Source, int]]:
        """The sources that have something to report now, and what. Those reported go behind the others."""
        core, maybe = self._core, self._maybe
        if core.log is not None:
            self.touch()
        found: list[tuple[Source, int]] = []
        for sock in list(maybe):
            mask = sock.mask() & (sock.wanted | FAILED)
            del maybe[sock]
            if mask:
                maybe[sock] = None
                found.append((self._watched[sock], mask))
                if len(found) == MAX_EVENTS:
                    break
        if core.chances and len(found) > 1:
            found.insert(0, found.pop(core.pick(len(found), "ready first")))
        return found

    def touch(self) -> None:
        """The step that is under way changes what the loop finds at its next poll, or takes it."""
        log = self._core.log
        if log is not None:
            log.append((self.uid, WRITE))

    def look(self) -> None:
        """The step that is under way sees whether the loop has anything to do."""
        log = self._core.log
        if log is not None:
            log.append((self.uid, READ))

    @property
    def any_ready(self) -> bool:
        """Whether `ready` would report anything."""
        for sock in self._maybe:  # no generator: this is asked before every poll
            ready = sock.mask() & sock.wanted
            if ready:
                return True
        return False

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

    __slots__ = (
        "_core",
        "_faults",
        "_flying",
        "_latency_ns",
        "arrived",
        "closed",
        "ended",
        "extra_ns",
        "link",
        "lost",
        "reader",
        "size",
        "uid",
        "writer",
    )  # fmt: skip

    def __init__(self, core: SimCore, faults: NetworkFaults, name: str, latency_ns: int) -> None:
        super().__init__(name, self._deliver)
        self._core = core
        self._faults = faults
        self.extra_ns = 0  # what a fault adds to the latency
        self.lost = False  # what is sent never arrives, and takes up room all the same
        self.link: Link | None = None
        self.uid = core.new_uid()
        self._latency_ns = latency_ns
        self._flying: deque[tuple[int, bytes | str]] = deque()
        self.size = 0  # bytes that take up room
        self.arrived: deque[bytes] = deque()
        self.ended = ""  # END or RESET, once that has arrived
        self.closed = False  # nothing more is sent after an end
        self.reader: SimSocket | None = None
        self.writer: SimSocket | None = None
        core.register(self)

    def send(self, piece: bytes | str) -> None:
        """Put bytes, an end or a reset on the way. Nothing after an end but a reset."""
        if self.closed and piece != RESET:
            return
        core = self._core
        if core.log is not None:
            self._touch()
        if isinstance(piece, str):
            self.closed = True
        else:
            self.size += len(piece)
        if self.lost:
            return
        due_ns = core.clock.now_ns + self._latency_ns + self.extra_ns
        if core.chances:
            slow = core.pick(1 + len(CHANCE_DELAYS_NS), f"delay {self.name}")
            due_ns += CHANCE_DELAYS_NS[slow - 1] if slow else 0
        self._flying.append((due_ns, piece))
        if len(self._flying) == 1:
            self._plan()
        if self._faults.left:
            self._faults.maybe(self)

    def reset(self) -> None:
        """Put a reset on the way, by nobody's choice."""
        self._touch()
        self.closed = True
        self._flying.append((self._core.clock.now_ns + self._latency_ns, RESET))
        if len(self._flying) == 1:
            self._plan()

    def cut(self) -> None:
        """What is on the way is lost."""
        self._touch()
        self._flying.clear()
        self._core.disable(self)

    def _plan(self) -> None:
        due_ns, piece = self._flying[0]
        self.label = LABELS[piece] if isinstance(piece, str) else "deliver data"
        if due_ns <= self._core.clock.now_ns:
            self._core.enable(self)
        else:
            self._core.arm(due_ns, self._due)

    def _due(self) -> None:
        # What was on the way may have been cut, and something else sent.
        if self._flying and self._flying[0][0] <= self._core.clock.now_ns:
            self._core.enable(self)

    def _deliver(self) -> None:
        core = self._core
        if core.log is not None:
            self._touch()
        _, piece = self._flying.popleft()
        if not self._flying:
            core.disable(self)
        elif self._flying[0][0] > core.clock.now_ns:
            core.disable(self)
            self._plan()
        else:
            self._plan()
        reader = self.reader
        assert reader is not None
        if isinstance(piece, str):
            if piece == RESET:
                reader.was_reset = True
            self.ended = self.ended or piece
        elif reader.was_closed:
            self.size -= len(piece)
            if reader.outgoing is not None:
                reader.outgoing.send(RESET)
        else:
            self.arrived.append(piece)
            if reader.poller is not None and reader.wanted & READABLE:
                reader.poller.has_become_ready(reader)
            return
        reader.changed()

    def part(self, limit: int) -> int:
        """How much of what has arrived is read: all, half, or a byte, by chance."""
        count = min(limit, sum(len(piece) for piece in self.arrived))
        which = self._core.pick(3, f"read part of {self.name}") if count > 1 else 0
        return (count, count // 2, 1)[which]

    def read(self, limit: int) -> bytes:
        """Take at most `limit` bytes of what has arrived; the writer may have room again."""
        if self._core.log is not None:
            self._touch()
        arrived = self.arrived
        data = arrived.popleft()
        if len(data) > limit:
            arrived.appendleft(data[limit:])
            data = data[:limit]
        elif arrived:
            parts = [data]
            left = limit - len(data)
            while arrived and left:
                piece = arrived.popleft()
                if len(piece) > left:
                    arrived.appendleft(piece[left:])
                    piece = piece[:left]
                left -= len(piece)
                parts.append(piece)
            data = b"".join(parts)
        self.size -= len(data)
        if self.writer is not None and self.writer.wanted & WRITABLE:
            self.writer.changed()
        return data

    def _touch(self) -> None:
        if self._core.log is not None:
            self._core.log.append((self.uid, WRITE))

    def discard(self) -> None:
        """The reader is gone: what has arrived is thrown away."""
        if self._core.log is not None:
            self._touch()
        for piece in self.arrived:
            self.size -= len(piece)
        self.arrived.clear()


class SimSocket:
    """What `SockTransport` uses of a socket. Non-blocking. fd: unique in its network.  wanted: what its poller watches
    for."""

    def __init__(self, network: SimNetwork, address: Address) -> None:
        self.family = socket.AF_UNIX if address.path else socket.AF_INET
        self.network = network
        self.fd = network.add(self)
        self.poller: SimPoller | None = None
        self.wanted = 0
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
        if outgoing.size < PIPE_BYTES or self.was_reset:
            mask |= WRITABLE
        return mask

    def changed(self) -> None:
        """Tell the loop that watches it."""
        if self.poller is not None and self.mask() & self.wanted:
            self.poller.has_become_ready(self)

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
            core = self.network.core
            return incoming.read(incoming.part(limit) if core.chances else limit)
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
        size = min(PIPE_BYTES - outgoing.size, len(chunk))
        if size <= 0:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        outgoing.send(bytes(chunk[:size]))
        return size

    def close(self) -> None:
        """End the connection in good order; by a reset with zero linger or unread bytes. Idempotent."""
        if self.was_closed:
            return
        self.was_closed = True
        self.network.forget(self)
        self.network.faults.closed(self)
        if self.outgoing is not None and self.incoming is not None:
            unread = bool(self.incoming.arrived)
            self.incoming.discard()
            if self.incoming.writer is not None:
                self.incoming.writer.changed()
            if not self.was_reset:
                self.outgoing.send(RESET if self._linger_zero or unread else END)

    def __repr__(self) -> str:
        return f"<SimSocket {self.fd} {self.local} to {self.peer}>"
