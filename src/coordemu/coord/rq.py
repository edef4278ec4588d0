"""MRWorkQueue: the requests that wait for the I/O thread, and how many it has under way.

Role: stands between the threads that ask (workers, main) and the one that does (I/O). `push` comes from any thread,
`pop` and `done` from the I/O thread. A request that was popped counts as pending until `done`; while `max_pending`
(connections per node x 50) are pending, nothing is popped. The requests that change the pools sit in the same queue,
behind the queries, and they lower its limit: both matter to a shrink.

One rule differs from upstream's. There, a pop that meets the limit sends the loop a wake-up at once, so the thread
turns without rest until a reply makes room. Here the queue remembers that somebody was turned away, and the `done`
(or the larger limit) that makes room sends the wake-up: the same requests run in the same order, but the turning
costs no processor time, and a run whose replies never come stands still instead of spinning (on a simulator it could
not even be told from progress). ``spin=True`` is upstream's rule.

Thread: push any; the rest I/O; all under one lock. Upstream: MRWorkQueue, src/coord/rmr/rq.c.
Bound: none, as upstream's; a warning tells of growth. Left out: nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from coordemu.runtime.base import Holder, Runtime, Waitable

PENDING_FACTOR = 50
WARN_STEP = 1024


class QueueItem(NamedTuple):
    """A request: `callback(io_runtime, data)` is to run on the I/O thread."""

    callback: Callable[[Any, Any], object]
    data: Any


class MRWorkQueue:
    """FIFO of requests with a limit on how many may be under way. A `Waitable`, for those that the limit holds back."""

    # One completion makes room: a waiter is blocked only if all holders are.
    any_suffices = True

    def __init__(
        self,
        rt: Runtime,
        max_pending: int,
        name: str,
        wake: Callable[[], None],
        log: Callable[[str, str], None],
        spin: bool = False,
    ) -> None:
        """max_pending: 1 or more.  wake: has the loop try to pop again.  log: level and line.  spin: upstream's rule
        at the limit.

        Raises ValueError for a limit below 1. Thread: any.
        """
        self.name = name
        self._lock = rt.lock(name)
        self._items: deque[QueueItem] = deque()
        self._wake = wake
        self._log = log
        self._spin = spin
        self._pending = 0
        self._max_pending = self._checked(max_pending)
        self._turned_away = False
        self._closed = False
        self._stuck_head: QueueItem | None = None
        self._warned_size = 0
        # Requests under way that can say whom they wait for, oldest first; they come and go on the I/O thread. Bound:
        # the limit.
        self.under_way: dict[Waitable, None] = {}
        self._popped_ever = 0
        self._at_limit_ever = 0
        self._warnings = 0

    @staticmethod
    def _checked(max_pending: int) -> int:
        if max_pending < 1:
            raise ValueError(f"max_pending {max_pending} is below 1")
        return max_pending

    @property
    def pending(self) -> int:
        """Requests popped and not completed."""
        return self._pending

    @property
    def max_pending(self) -> int:
        """While this many are pending, nothing is popped."""
        return self._max_pending

    def set_max_pending(self, max_pending: int) -> None:
        """Change the limit (1 or more, else ValueError). Requests that are under way stay so even if they are more.

        Thread: I/O (any before the loop has started). Never blocks for long. Upstream: RQ_UpdateMaxPending.
        """
        with self._lock:
            self._max_pending = self._checked(max_pending)
            wake = self._room_again_locked()
        if wake:
            self._wake()

    def push(self, callback: Callable[[Any, Any], object], data: Any) -> bool:
        """Append a request. False when the queue is closed: then nothing was queued.

        Thread: any. Never blocks for long. Upstream: RQ_Push.
        """
        with self._lock:
            if self._closed:
                return False
            self._items.append(QueueItem(callback, data))
        return True

    def pop(self) -> QueueItem | None:
        """Take the first request, which then is pending. None when there is none, or when the limit is reached.

        Thread: I/O. Never blocks for long. Upstream: RQ_Pop.
        """
        warn_size = 0
        with self._lock:
            if not self._items:
                return None
            if self._pending < self._max_pending:
                self._stuck_head = None
                self._pending += 1
                self._popped_ever += 1
                return self._items.popleft()
            self._at_limit_ever += 1
            self._turned_away = True
            warn_size = self._growth_to_warn_of_locked()
        if warn_size:
            limit = f"{self._max_pending} under way"
            self._log("warning", f"{self.name}: {warn_size} requests wait behind {limit}, and the first does not move")
        if self._spin:
            self._wake()
        return None

    def _growth_to_warn_of_locked(self) -> int:
        head, size = self._items[0], len(self._items)
        if head is not self._stuck_head:
            self._stuck_head, self._warned_size = head, size
            return 0
        if size <= self._warned_size + WARN_STEP:
            return 0
        self._warned_size = size
        self._warnings += 1
        return size

    def done(self) -> None:
        """A request that was popped is completed. Raises ValueError when none is pending.

        Thread: I/O. Never blocks for long. Upstream: RQ_Done.
        """
        with self._lock:
            if not self._pending:
                raise ValueError(f"{self.name}: a request was completed that was not pending")
            self._pending -= 1
            wake = self._room_again_locked()
        if wake:
            self._wake()

    def _room_again_locked(self) -> bool:
        if self._turned_away and self._pending < self._max_pending:
            self._turned_away = False
            return not self._spin
        return False

    def close(self) -> list[QueueItem]:
        """Refuse further requests and hand out those that still wait. Thread: I/O, at its end. Upstream: RQ_Free."""
        with self._lock:
            self._closed = True
            left = list(self._items)
            self._items.clear()
        return left

    def __len__(self) -> int:
        return len(self._items)

    @property
    def full(self) -> bool:
        """As many are under way as may be."""
        return self._pending >= self._max_pending

    def holders(self) -> Sequence[Holder]:
        """Whom a request waits for that a full queue holds back: those under way; any of them will do. Thread: any."""
        for _ in range(3):
            try:
                return list(self.under_way)
            except RuntimeError:
                continue  # the I/O thread changed it while it was read
        return ["the requests under way"]

    def statistics(self) -> dict[str, int]:
        """size, pending, max_pending; popped, times at the limit and warnings since the start. Thread: any."""
        return {
            "size": len(self._items),
            "pending": self._pending,
            "max_pending": self._max_pending,
            "popped": self._popped_ever,
            "at_limit": self._at_limit_ever,
            "warnings": self._warnings,
        }

    def __repr__(self) -> str:
        return f"<MRWorkQueue {self.name!r} size={len(self._items)} pending={self._pending}/{self._max_pending}>"
