"""BackfillStore: the database that the backfill fills, with its slots, its idempotency keys and its dead letters.

Role: what has come of a message for good is decided here, under one lock, and the first decision stands: a row, or a
dead letter with a reason. Whoever comes second with the same message is told so and changes nothing; how often that
happened is counted, so that nothing is done twice without being said.

Only so many writes are under way at once (`slots`, the database's limit of connections); who finds none waits in line,
and is turned away after `wait_ms`. A dead letter needs no slot: it goes to a table of its own, and its limit would say
nothing of the database's.

Thread: any; `write` blocks for a slot and for as long as a write takes. Upstream: the write-up's Postgres. Left out:
transactions, rows that change. Bound: a row per message.
"""

from __future__ import annotations

from dataclasses import dataclass

from coordemu.runtime.base import NS_PER_MS, Runtime

WRITTEN, DUPLICATE, BURIED = "written", "duplicate", "buried"


class StoreBusy(TimeoutError):
    """No slot came free in time; nothing was written."""

    def __init__(self, waited_ns: int, slots: int) -> None:
        super().__init__(f"store: none of {slots} slots within {waited_ns / 1e6:.0f} ms")
        self.waited_ns = waited_ns
        self.slots = slots


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a message. at_ns: when.  reason: "" for a row, else that of the dead letter."""

    at_ns: int
    content: bytes
    reason: str = ""


class BackfillStore:
    """An empty store. slots: 1 or more.  write_ms: how long a write takes, 0 or more.  wait_ms: for a slot, 0 or more.

    Raises ValueError outside the bounds.
    """

    def __init__(self, rt: Runtime, slots: int = 8, write_ms: float = 0.0, wait_ms: float = 1_000.0) -> None:
        if slots < 1 or write_ms < 0 or wait_ms < 0:
            raise ValueError(f"store: {slots=}, {write_ms=}, {wait_ms=}")
        self._rt = rt
        self._slots = slots
        self._write_ns = round(write_ms * NS_PER_MS)
        self._wait_ns = round(wait_ms * NS_PER_MS)
        self._free = rt.semaphore(slots, "store slots")
        self._lock = rt.lock("store")
        self._outcomes: dict[int, Outcome] = {}
        self._dead = 0
        self._duplicates = 0
        self._busy = 0
        self._turned_away = 0
        self._most_busy = 0

    def write(self, message: int, content: bytes) -> str:
        """Store a message's content under its number. WRITTEN, or DUPLICATE when it has an outcome already.

        Raises StoreBusy. Thread: any. Blocks.
        """
        began_ns = self._rt.now_ns()
        if not self._free.acquire(self._wait_ns):
            with self._lock:
                self._turned_away += 1
            raise StoreBusy(max(0, self._rt.now_ns() - began_ns), self._slots)
        try:
            with self._lock:
                self._busy += 1
                self._most_busy = max(self._most_busy, self._busy)
            if self._write_ns:
                self._rt.sleep_ns(self._write_ns)
            with self._lock:
                return self._decide_locked(message, Outcome(self._rt.now_ns(), content))
        finally:
            with self._lock:
                self._busy -= 1
            self._free.release()

    def bury(self, message: int, reason: str) -> str:
        """Make a dead letter of it. reason: why, not empty (ValueError). BURIED, or DUPLICATE when it has an outcome
        already. Thread: any. Blocks for the lock only."""
        if not reason:
            raise ValueError(f"message {message}: a dead letter without a reason")
        with self._lock:
            return self._decide_locked(message, Outcome(self._rt.now_ns(), b"", reason))

    def _decide_locked(self, message: int, outcome: Outcome) -> str:
        if message in self._outcomes:
            self._duplicates += 1
            return DUPLICATE
        self._outcomes[message] = outcome
        if outcome.reason:
            self._dead += 1
            return BURIED
        return WRITTEN

    def has(self, message: int) -> bool:
        """Whether it has an outcome. Thread: any."""
        return message in self._outcomes

    @property
    def done(self) -> int:
        """Rows. Thread: any."""
        return len(self._outcomes) - self._dead

    @property
    def dead(self) -> int:
        """Dead letters. Thread: any."""
        return self._dead

    def outcomes(self) -> dict[int, Outcome]:
        """All, by message. Thread: any."""
        with self._lock:
            return dict(self._outcomes)

    def statistics(self) -> dict[str, int]:
        """done, dead, duplicates (absorbed), turned_away, busy and most_busy (writes at once). Thread: any."""
        with self._lock:
            return {
                "done": len(self._outcomes) - self._dead,
                "dead": self._dead,
                "duplicates": self._duplicates,
                "turned_away": self._turned_away,
                "busy": self._busy,
                "most_busy": self._most_busy,
            }

    def __repr__(self) -> str:
        return f"<BackfillStore {self.done} done, {self._dead} dead, {self._busy} of {self._slots} slots busy>"
