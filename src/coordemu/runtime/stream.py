"""What a stream and its loop need of each other, so that one transport serves real sockets and simulated ones.

Role: `SockTransport` is written against these protocols; `EpollLoop` with the system's sockets and `SimLoop` with
`SimSocket` satisfy them. `OrderedSet` and `StreamTable` are what a loop keeps its transports in.

Thread: the loop's, for everything. Upstream: hiredis' adapter (redisAsyncContext's `ev` hooks). Left out: datagrams.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, TypeVar

from coordemu.runtime.base import Timer
from coordemu.runtime.poller import Source

K = TypeVar("K")


class OrderedSet(Generic[K]):
    """A set that is walked in the order of adding: the order of plain sets differs from process to process."""

    __slots__ = ("_items",)

    def __init__(self) -> None:
        self._items: dict[K, None] = {}

    def add(self, item: K) -> None:
        """Add it, if it is not in. Thread: the loop's."""
        self._items[item] = None

    def discard(self, item: K) -> None:
        """Take it out, if it is in. Thread: the loop's."""
        self._items.pop(item, None)

    def __iter__(self) -> Iterator[K]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)


class Stream(Protocol):
    """A transport, as its loop knows it."""

    def fileno(self) -> int:
        """Its socket's descriptor, until it has ended."""
        ...

    def flush(self) -> None:
        """Send what this turn's writes have queued."""
        ...

    def abort(self) -> None:
        """Close at once."""
        ...


class StreamSet(Protocol):
    """A loop's transports."""

    def add(self, item: Stream, /) -> None: ...
    def discard(self, item: Stream, /) -> None: ...
    def __iter__(self) -> Iterator[Stream]: ...
    def __len__(self) -> int: ...


class StreamTable:
    """Streams by descriptor. The kernel keeps these dense: 8 bytes for each, where an `OrderedSet` has 30 to 60."""

    __slots__ = ("_count", "_streams")

    def __init__(self) -> None:
        self._streams: list[Stream | None] = []
        self._count = 0

    def add(self, item: Stream) -> None:
        """Add it. It is not in. Thread: the loop's."""
        fd, streams = item.fileno(), self._streams
        if fd >= len(streams):
            streams.extend([None] * (fd + 1 - len(streams)))
        streams[fd] = item
        self._count += 1

    def discard(self, item: Stream) -> None:
        """Take it out. It is in. Thread: the loop's."""
        self._streams[item.fileno()] = None
        self._count -= 1

    def __iter__(self) -> Iterator[Stream]:
        return (stream for stream in self._streams if stream is not None)

    def __len__(self) -> int:
        return self._count


class Acceptor(Protocol):
    """A listener, as its loop knows it."""

    def close(self) -> None:
        """Stop listening."""
        ...


class StreamSocket(Protocol):
    """A non-blocking stream socket: what the transport, and the helpers in sock_address, call of `socket.socket`."""

    @property
    def family(self) -> int: ...
    def fileno(self) -> int: ...
    def connect_ex(self, name: str | tuple[str, int], /) -> int: ...
    def getsockopt(self, level: int, option: int, /) -> int: ...
    def setsockopt(self, level: int, option: int, value: bytes | int, /) -> None: ...
    def getsockname(self) -> Any: ...
    def getpeername(self) -> Any: ...
    def recv(self, limit: int, /) -> bytes: ...
    def send(self, chunk: memoryview, /) -> int: ...
    def close(self) -> None: ...


class StreamPoller(Protocol):
    """Who reports what a descriptor is ready for."""

    def watch(self, fd: int, source: Source, mask: int) -> None:
        """Report `mask` of `fd` to `source` from now on; 0 ends the watch."""
        ...

    def close(self) -> None:
        """Report nothing any more. Idempotent."""
        ...


class StreamLoop(Protocol):
    """A loop, as its streams and acceptors know it."""

    bytes_in: int
    bytes_out: int

    @property
    def poller(self) -> StreamPoller: ...
    @property
    def transports(self) -> StreamSet: ...
    @property
    def listeners(self) -> OrderedSet[Acceptor]: ...
    def timer(self, callback: Callable[[], None], name: str) -> Timer: ...
    def defer(self, call: Callable[[], int]) -> None:
        """Run `call` in a later turn; it returns the number of callbacks it ran."""
        ...

    def flush_later(self, transport: Stream) -> None:
        """Flush it at the end of this turn, or before the next poll."""
        ...
