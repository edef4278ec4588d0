"""AdmissionGate: lets new queries in, holds them back, or turns them away while a resize is under way.

Role: stands between the query command and the worker pool. The write-ups' first step, "pause", can't be the
pool's own pause: upstream forbids reducing a paused pool, because its threads would never take the admin jobs. So the
pause is this gate, in front of the pool: what is inside finishes, what is outside waits here, in arrival order.

Thread: main, for every method. Upstream: none.
Bound: the gate holds at most one query per client connection, since a client's next command waits in its input.
Left out: per-client fairness and priorities.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

Q = TypeVar("Q")


class AdmissionGate(Generic[Q]):
    """Open, paused or rejecting. Nested closings do not add up: the last call counts."""

    def __init__(self) -> None:
        """Starts open."""
        self.mode = "open"
        self._held: deque[Q] = deque()
        self._held_ever = 0
        self._rejected = 0

    def close(self, mode: str) -> None:
        """Stop admitting. mode: "pause" (hold) or "reject" (turn away). Raises ValueError for another word."""
        if mode not in ("pause", "reject"):
            raise ValueError(f"a gate is closed with 'pause' or 'reject', not {mode!r}")
        self.mode = mode

    def offer(self, query: Q) -> str:
        """Ask to go in. Returns "admitted", "held" (the gate keeps it until `open`), or "rejected"."""
        if self.mode == "open":
            return "admitted"
        if self.mode == "pause":
            self._held.append(query)
            self._held_ever += 1
            return "held"
        self._rejected += 1
        return "rejected"

    def open(self) -> list[Q]:
        """Admit again. Returns what was held, in arrival order; the caller runs it."""
        self.mode = "open"
        held = list(self._held)
        self._held.clear()
        return held

    def statistics(self) -> dict[str, int]:
        """held now, held ever, rejected ever."""
        return {"held": len(self._held), "held_ever": self._held_ever, "rejected": self._rejected}

    def __repr__(self) -> str:
        return f"<AdmissionGate {self.mode} held={len(self._held)}>"
