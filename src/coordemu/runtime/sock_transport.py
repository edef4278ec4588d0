"""SockTransport: one byte stream over a non-blocking TCP or unix socket, owned by one loop.

Role: what a connection to a shard, a shard's client, and a test's peer are made of; over any loop and socket that
satisfy `stream`'s protocols, so it serves the simulator, too. Writes of one loop turn are
joined and leave in one send at its end. When the kernel takes less, the rest waits for writability, and only then
is that watched. A turn reads at most 64 KiB per readable transport, so that one busy peer cannot starve the others.

Its life is a table. The owner's `close` flushes first: the transport is closed for its owner, while it goes on to
send in the background, throwing away what still comes; if the peer takes nothing for 10 seconds it is cut.
After a failed send the bytes that had already arrived are delivered before `on_close`, as a reply that the peer wrote
before it hung up must not be lost. `abort` on TCP resets the peer.

Thread: the loop's, for everything. Bounds: the write buffer has none (upstream's has none); per turn one read of
64 KiB. Upstream: hiredis' async context with its libuv adapter. Left out: TLS, half-closed streams (a peer that ends
its side has closed), sending from other threads.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Address, Timer, TransportClosed, TransportHandler
from coordemu.runtime.poller import READABLE, WRITABLE
from coordemu.runtime.sock_address import is_self_connected, reason_text, reset_on_close, socket_name
from coordemu.runtime.stream import StreamLoop, StreamSocket
from coordemu.runtime.transport_state import NO_HANDLER, State, next_state

READ_BYTES = 65_536
DISCARD_READS = 16
FLUSH_STALL_NS = 10 * NS_PER_S
UNIX_RETRY_NS = 2 * NS_PER_MS


class SockTransport:
    """One stream. Made by `Loop.connect` (CONNECTING) and by a listener (OPEN)."""

    __slots__ = (
        "_fd",
        "_handler",
        "_loop",
        "_mask",
        "_out",
        "_paused",
        "_rest",
        "_send_error",
        "_sock",
        "_state",
        "_timers",
        "address",
    )  # fmt: skip

    def __init__(self, loop: StreamLoop, sock: StreamSocket, address: Address, state: State) -> None:
        self.address = address
        self._loop = loop
        self._sock: StreamSocket | None = sock
        self._fd = sock.fileno()
        self._handler: TransportHandler = NO_HANDLER
        self._state = state
        self._mask = 0
        self._paused = False
        self._out: list[bytes] | None = None  # made by the turn's first write: an idle transport has none
        self._rest: memoryview | None = None  # what a partial send left of earlier writes
        self._send_error: str | None = None
        self._timers: tuple[Timer, ...] = ()  # connect time-out and retry, later the stalled flush
        loop.transports.add(self)

    # -- what the owner sees

    @property
    def connected(self) -> bool:
        """True while writes are accepted."""
        return self._state is State.OPEN

    @property
    def closed(self) -> bool:
        """True once it has ended or its owner has closed it (bytes may still be leaving then)."""
        return self._state is State.CLOSED or self._state is State.FLUSHING

    @property
    def buffered(self) -> int:
        """Bytes written and not yet taken by the kernel."""
        return len(self._rest or b"") + sum(map(len, self._out or ()))

    def write(self, data: bytes) -> None:
        """Queue bytes for the end of the turn. Never blocks.

        Raises TransportClosed when not connected, RuntimeError on another thread than the running loop's.
        """
        if self._state is not State.OPEN:
            raise TransportClosed(f"write on a {self._state.value} transport to {self.address}")
        if not data or self._send_error is not None:
            return
        if self._out is None:
            self._loop.flush_later(self)
            self._out = [data]
        else:
            self._out.append(data)

    def close(self) -> None:
        """Send what is queued, then close. No callback follows. Idempotent. Never blocks."""
        was = self._state
        self._step("close")
        self._handler = NO_HANDLER
        if was is State.CONNECTING:
            self._detach()
        elif was is State.OPEN:
            self._watch()
            self._send()
            if self._state is State.FLUSHING:
                self._guard_flush(self.buffered)

    def abort(self) -> None:
        """Close at once; what is queued is lost, and a TCP peer is reset. No callback follows. Idempotent."""
        was = self._state
        self._step("abort")
        if was is not State.CLOSED:
            self._detach(reset=was is not State.CONNECTING and not self.address.path)

    def pause_reading(self) -> None:
        """Deliver no data, and no close by the peer, until `resume_reading`. Idempotent."""
        self._paused = True
        self._watch()

    def resume_reading(self) -> None:
        """Undo `pause_reading`. Idempotent."""
        if self._paused:
            self._paused = False
            self._watch()
            if self._send_error is not None:
                self._loop.defer(self._drain_and_end)

    def fileno(self) -> int:
        """The socket's descriptor; -1 when it has been given back."""
        return self._fd

    # -- its socket, for `quick_socket` to do without the object

    def _socket(self) -> StreamSocket:
        assert self._sock is not None
        return self._sock

    def _forget_socket(self) -> None:
        """The connection stands: from now on there are no calls but the three below."""

    def _close_socket(self, reset: bool) -> None:
        sock = self._socket()
        if reset:
            reset_on_close(sock)
        sock.close()

    def _recv(self, limit: int) -> bytes:
        assert self._sock is not None
        return self._sock.recv(limit)

    def _send_some(self, chunk: memoryview) -> int:
        assert self._sock is not None
        return self._sock.send(chunk)

    # -- its life

    def _step(self, event: str) -> None:
        self._state = next_state(self._state, event)

    def _watch(self) -> None:
        """Tell the poller what matters in this state; a transport that wants nothing is not watched at all, since
        epoll would report a hung-up peer for ever."""
        mask = 0
        if self._state is State.CONNECTING:
            mask = WRITABLE
        elif self._state is not State.CLOSED:
            if not self._paused or self._state is State.FLUSHING:
                mask = READABLE
            if self._rest is not None:
                mask |= WRITABLE
        if mask != self._mask:
            self._mask = mask
            self._loop.poller.watch(self._fd, self, mask)

    def _detach(self, reset: bool = False) -> None:
        """Give back the descriptor and everything else. reset: so that the peer hears of it as an error."""
        self._watch()
        self._stop_timers()
        self._handler = NO_HANDLER
        self._out = self._rest = None
        self._loop.transports.discard(self)
        self._close_socket(reset)
        self._fd = -1  # the number may be another socket's

    def _end(self, reason: str | None) -> int:
        """The network has ended it: tell the handler, last. Returns the number of callbacks."""
        handler = self._handler
        self._ended()
        handler.on_close(reason)
        return 1

    def _ended(self) -> None:
        self._step("ended")
        self._detach()

    def adopt_handler(self, handler: TransportHandler) -> None:
        """An accepted transport gets its handler, and begins to read unless it was closed or paused meanwhile."""
        if self._state is State.OPEN:
            self._handler = handler
            self._watch()

    # -- connecting

    def begin_connect(self, handler: TransportHandler, timeout_ns: int | None) -> None:
        """Start the handshake; every outcome, also an immediate one, is told from a later turn."""
        self._handler = handler
        if timeout_ns is not None:
            self._start_timer(lambda: self._connect_timed_out(timeout_ns), timeout_ns, "connect time-out")
        self._try_connect()

    def _start_timer(self, callback: Callable[[], object], delay_ns: int, what: str) -> None:
        timer = self._loop.timer(lambda: void(callback()), f"{what} of {self.address}")
        timer.start(delay_ns)
        self._timers = (*(other for other in self._timers if other.active), timer)

    def _stop_timers(self) -> None:
        for timer in self._timers:
            timer.close()
        self._timers = ()

    def _try_connect(self) -> None:
        try:
            code = self._socket().connect_ex(socket_name(self.address))
        except (OSError, UnicodeError) as error:  # a host that cannot be resolved
            reason = reason_text(error) if isinstance(error, OSError) else str(error)
            self._loop.defer(lambda: self._connect_failed(reason))
            return
        if code == errno.EAGAIN:
            # Only unix sockets: the listener's backlog is full, and no report will say when it is not.
            self._start_timer(self._try_connect, UNIX_RETRY_NS, "connect retry")
        elif code in (0, errno.EINPROGRESS):
            self._watch()
        else:
            self._loop.defer(lambda: self._connect_failed(reason_text(code)))

    def _connect_failed(self, reason: str) -> int:
        return self._end(reason) if self._state is State.CONNECTING else 0

    def _connect_timed_out(self, timeout_ns: int) -> int:
        return self._connect_failed(f"connect timed out after {timeout_ns / NS_PER_MS:g} ms")

    def _connect_ready(self) -> int:
        sock = self._socket()
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        try:
            if not code and is_self_connected(sock):
                code = errno.ECONNREFUSED
        except OSError as error:
            code = error.errno or errno.ECONNRESET
        if code:
            return self._end(reason_text(code))
        self._stop_timers()
        self._step("connected")
        self._forget_socket()
        self._watch()
        self._handler.on_connect()
        return 1

    # -- reading

    def on_events(self, mask: int) -> int:
        """epoll's report. Returns the number of callbacks run."""
        if self._state is State.OPEN:
            if mask & WRITABLE:
                self._send()
            if mask & ~WRITABLE and not self._paused and self._state is State.OPEN:
                return self._read()
            return 0
        if self._state is State.CONNECTING:
            return self._connect_ready()
        if self._state is State.FLUSHING:
            if mask & WRITABLE:
                self._send()
            if mask & ~WRITABLE and self._state is State.FLUSHING:
                self._discard()
        return 0

    def _read(self) -> int:
        try:
            data = self._recv(READ_BYTES)
        except BlockingIOError:
            return 0
        except OSError as error:
            return self._end(self._send_error or reason_text(error))
        if not data:
            return self._end(self._send_error)
        self._loop.bytes_in += len(data)
        self._handler.on_data(data)
        return 1

    def _drain_and_end(self) -> int:
        """After a failed send: deliver what has arrived, then say why it ended. A paused one keeps both for later."""
        count = 0
        while self._state is State.OPEN and not self._paused:
            got = self._read()
            count += got
            if not got:
                return count + self._end(self._send_error)
        return count

    def _discard(self) -> None:
        """While flushing: take what the peer still sends, so that neither side is blocked nor reset by it."""
        try:
            for _ in range(DISCARD_READS):
                if not self._recv(READ_BYTES):
                    self._mask = WRITABLE  # its end has come; epoll would report that for ever
                    self._loop.poller.watch(self._fd, self, WRITABLE)
                    return
        except BlockingIOError:
            return
        except OSError:
            self._ended()

    # -- writing

    def flush(self) -> None:
        """Send what this turn's writes have queued. Called by the loop."""
        if self._rest is None and self._out is not None and self._state is State.OPEN:
            self._send()

    def _send(self) -> None:
        try:
            while True:
                if self._rest is None:
                    out = self._out
                    if out is None:
                        break
                    chunk = memoryview(out[0] if len(out) == 1 else b"".join(out))
                    self._out = None
                else:
                    chunk = self._rest
                sent = self._send_some(chunk)
                self._loop.bytes_out += sent
                if sent < len(chunk):
                    self._rest = chunk[sent:]
                    self._watch()
                    return
                self._rest = None
        except BlockingIOError:
            self._rest = chunk
            self._watch()
            return
        except OSError as error:
            self._send_failed(reason_text(error))
            return
        if self._state is State.FLUSHING:
            self._discard()
            if self._state is State.FLUSHING:
                self._step("flushed")
                self._detach()
        else:
            self._watch()

    def _send_failed(self, reason: str) -> None:
        if self._state is State.FLUSHING:
            self._ended()
            return
        self._send_error = reason
        self._out = self._rest = None
        self._watch()
        self._loop.defer(self._drain_and_end)

    def _guard_flush(self, left: int) -> None:
        """Cut a peer that takes nothing: look again later, and give up when not a byte has left meanwhile."""

        def look() -> None:
            if self._state is State.FLUSHING:
                if self.buffered == left:
                    self.abort()
                else:
                    self._guard_flush(self.buffered)

        self._start_timer(look, FLUSH_STALL_NS, "stalled flush")

    def __repr__(self) -> str:
        return f"<SockTransport {self.address} {self._state.value}, {self.buffered} bytes buffered>"


def void(result: object) -> None:
    """Drop a result, for callbacks that must return nothing."""
