"""Poller: epoll with a source for each descriptor, and a wait that is finer than a millisecond.

Role: the part of the loop that talks to the kernel. A ready descriptor is translated to its source at once, so
that a callback which closes it, and a new one that takes over its number, cannot be mixed up. Level-triggered,
but for the loop's eventfd. Bound: at most 512 ready descriptors are fetched per poll; the kernel rotates them.

epoll takes whole milliseconds (Python rounds up). A wait below 20 ms, where that matters, is therefore a select on
the epoll descriptor itself, which takes microseconds, followed by an epoll that does not wait.

Thread: the loop's. Upstream: libuv's poll phase. Left out: io_uring, other systems than Linux.
"""

from __future__ import annotations

import select
from select import EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT
from typing import Protocol

from coordemu.runtime.base import NS_PER_MS, NS_PER_S

MAX_EVENTS = 512
FINE_WAIT_NS = 20 * NS_PER_MS
SELECT_LIMIT = 1024  # select's own bound on descriptor numbers

READABLE = EPOLLIN
WRITABLE = EPOLLOUT
FAILED = EPOLLERR | EPOLLHUP
EDGE = EPOLLET


class Source(Protocol):
    """What a descriptor belongs to."""

    def on_events(self, mask: int, /) -> int:
        """Handle what epoll reports; must bear reports that are out of date. Returns how many callbacks it ran."""
        ...


class Nobody:
    """Whose a descriptor is that is not watched."""

    def on_events(self, _mask: int, /) -> int:
        """Nothing. Thread: the loop's."""
        return 0


NOBODY = Nobody()


class Poller:
    """One epoll descriptor and its sources."""

    __slots__ = ("_epoll", "_fd", "_sources", "_watched")

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._fd = self._epoll.fileno()
        # By descriptor: these are dense, and a list has 8 bytes for each, a dict 30 to 60.
        self._sources: list[Source] = []
        self._watched = 0

    def __len__(self) -> int:
        return self._watched

    def watch(self, fd: int, source: Source, mask: int) -> None:
        """Report `mask` of `fd` to `source` from now on; 0 (not even errors) ends the watch."""
        sources = self._sources
        known = 0 <= fd < len(sources) and sources[fd] is not NOBODY
        if not mask and not known:
            return
        self._control(fd, mask, known)
        if not known:
            if fd >= len(sources):
                sources.extend([NOBODY] * (fd + 1 - len(sources)))
            sources[fd] = source
            self._watched += 1
        elif not mask:
            sources[fd] = NOBODY
            self._watched -= 1

    def _control(self, fd: int, mask: int, known: bool) -> None:
        if not mask:
            self._epoll.unregister(fd)
        elif known:
            self._epoll.modify(fd, mask)
        else:
            self._epoll.register(fd, mask)

    def poll(self, wait_ns: int | None) -> list[tuple[Source, int]]:
        """Wait at most wait_ns (None: no limit) for reports. May block, without the interpreter lock."""
        if wait_ns is None:
            events = self._epoll.poll(None, MAX_EVENTS)
        elif 0 < wait_ns < FINE_WAIT_NS and self._fd < SELECT_LIMIT:
            if not select.select((self._fd,), (), (), wait_ns / NS_PER_S)[0]:
                return []
            events = self._epoll.poll(0, MAX_EVENTS)
        else:
            events = self._epoll.poll(max(wait_ns, 0) / NS_PER_S, MAX_EVENTS)
        sources = self._sources
        return [(sources[fd], mask) for fd, mask in events]

    def close(self) -> None:
        """Close the epoll descriptor. Idempotent."""
        self._sources.clear()
        self._watched = 0
        self._epoll.close()

    def __repr__(self) -> str:
        return f"<Poller fd {self._fd}, {self._watched} watched>"
