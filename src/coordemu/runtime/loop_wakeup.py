"""SentHandles, LoopWakeup and LoopAsync: how other threads wake a loop.

Role: the work queue, the topology update and the shutdown reach the I/O thread through an async handle. A send
puts the handle in a queue and, only when the loop really sits in its poll, writes to an eventfd; while the loop
is busy a send is an append. The eventfd is registered edge-triggered and never read: each write is an edge.

Why no wake-up is lost: the loop first says "I poll", then looks at the queue, then polls; a sender first
appends, then looks whether the loop polls. One of the two sees the other. Of several senders that find it polling
only the first writes.

Thread: `send` any, the rest the loop's. Bound: a handle is in the queue once, so the queue is as long as there
are handles. Upstream: uv_async_t, uv_async_send. Left out: passing data (the callback knows its queue).
"""

from __future__ import annotations

import os
from _thread import RLock
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable


class SentHandles(ABC):
    """The queue of sent handles of one loop. `wake_ups`: how often its poll was ended by a wake-up."""

    __slots__ = ("_sent", "wake_ups")

    def __init__(self) -> None:
        self._sent: deque[LoopAsync] = deque()
        self.wake_ups = 0

    def __len__(self) -> int:
        return len(self._sent)

    def send(self, handle: LoopAsync) -> None:
        """Queue a handle and wake the loop. Thread: any. Never blocks."""
        self._sent.append(handle)
        self.wake()

    @abstractmethod
    def wake(self) -> None:
        """End the loop's poll, if it sits in one. Thread: any. Never blocks."""

    def run_sent(self) -> int:
        """Call back the handles that are queued now. Returns how many. One that is sent meanwhile waits its turn."""
        count = 0
        for _ in range(len(self._sent)):
            try:
                handle = self._sent.popleft()
            except IndexError:  # a nested turn was faster
                break
            count += handle.fire()
        return count

    def close(self) -> None:
        """Forget the queue. Thread: the loop's."""
        self._sent.clear()


class LoopWakeup(SentHandles):
    """The queue with an eventfd (`fd`), which is a source of the loop's poller."""

    __slots__ = ("_closed", "_guard", "_polling", "_written", "fd")

    def __init__(self) -> None:
        super().__init__()
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._guard = RLock()  # reentrant: a signal handler may call stop while its thread is in here
        self._polling = False
        self._written = False
        self._closed = False

    def wake(self) -> None:
        """End the loop's poll, if it sits in one. Thread: any. Never blocks."""
        if self._polling and not self._written:
            with self._guard:  # against close, after which the descriptor's number may be someone else's
                if not self._closed:
                    self._written = True
                    os.eventfd_write(self.fd, 1)

    def before_poll(self) -> bool:
        """From now on senders write. True when a handle waits already, so that the poll must not block."""
        self._written = False
        self._polling = True
        return bool(self._sent)

    def after_poll(self) -> None:
        """Senders need not write any more."""
        self._polling = False

    def on_events(self, _mask: int) -> int:
        """The poller's report of a write. No callback by itself: 0. Thread: the loop's."""
        self.wake_ups += 1
        return 0

    def close(self) -> None:
        """Close the eventfd and forget the queue. Thread: the loop's."""
        with self._guard:
            self._closed = True
            super().close()
            os.close(self.fd)


class LoopAsync:
    """One wake-up handle. Made by `Loop.async_handle`."""

    __slots__ = ("_callback", "_closed", "_pending", "_sent", "name")

    def __init__(self, sent: SentHandles, callback: Callable[[], object], name: str) -> None:
        self.name = name
        self._sent = sent
        self._callback = callback
        self._pending = False
        self._closed = False

    def send(self) -> None:
        """Have the loop call back, once for all sends until then; nothing when closed. Thread: any. Never blocks.

        Upstream: uv_async_send.
        """
        if not self._pending and not self._closed:
            self._pending = True
            self._sent.send(self)

    def fire(self) -> int:
        """Call back if a send waits: 1, else 0. Thread: the loop's; called by the queue alone."""
        # Two racing senders may both have queued it; the second entry finds nothing to do. Cleared before the
        # callback, so that a send from then on counts anew.
        if self._closed or not self._pending:
            return 0
        self._pending = False
        self._callback()
        return 1

    def close(self) -> None:
        """No callback from now on. Idempotent. Thread: the loop's."""
        self._closed = True

    def __repr__(self) -> str:
        state = "closed" if self._closed else "sent" if self._pending else "idle"
        return f"<LoopAsync {self.name!r} {state}>"
