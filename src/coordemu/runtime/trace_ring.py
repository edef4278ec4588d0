"""TraceRing: the newest steps that tasks thought worth recording.

Role: a layer calls `Runtime.trace` at the steps of a resize; a report prints them as the call chain with thread
and time. The ring holds the newest 65,536 and forgets the oldest, so that a long run costs no memory.

Thread: any for both methods; neither blocks, since a bounded deque appends and copies in one step under the
interpreter lock. Upstream: its log lines. Left out: levels, and any way to wait for an entry.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from coordemu.runtime.base import TraceEvent

TRACE_CAPACITY = 65_536


class TraceRing:
    """A bounded record of steps. capacity: how many are kept, 1 or more (ValueError otherwise)."""

    __slots__ = ("_entries", "_recorded")

    def __init__(self, capacity: int = TRACE_CAPACITY) -> None:
        if capacity < 1:
            raise ValueError(f"capacity {capacity} is below 1")
        # Plain tuples: an event object is built only for what is read.
        self._entries: deque[tuple[int, str, str, str, str]] = deque(maxlen=capacity)
        self._recorded = 0

    def record(self, at_ns: int, task: str, upstream: str, ours: str, detail: str) -> None:
        """Append one step; the arguments are `TraceEvent`'s fields. Thread: any. Never blocks."""
        self._entries.append((at_ns, task, upstream, ours, detail))
        self._recorded += 1

    def events(self) -> Sequence[TraceEvent]:
        """What is kept, oldest first, in the order of recording. Thread: any. Never blocks."""
        return tuple(TraceEvent(*entry) for entry in tuple(self._entries))

    def statistics(self) -> dict[str, int]:
        """kept, recorded (since the start; racing tasks may make it a little low), capacity. Thread: any."""
        return {"kept": len(self._entries), "recorded": self._recorded, "capacity": self._entries.maxlen or 0}

    def __repr__(self) -> str:
        return f"<TraceRing {len(self._entries)}/{self._entries.maxlen}>"
