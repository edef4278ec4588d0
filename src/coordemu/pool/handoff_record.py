"""HandoffRecord: that a connection is to move to another endpoint, and whether somebody has begun with it.

Role: a note beside the state machine. It is set when the server announces a move, and looked at when the connection is
given back: whoever queues the work says so here, and the worker clears it. The note is one immutable value in a cell;
each change is a compare-and-swap against what was read, so that nobody undoes another's.

Thread: any. Upstream: the handoff state of Conn (internal/pool/conn.go: MarkForHandoff, MarkQueuedForHandoff,
ClearHandoffState). Left out: the retry counter (the worker's own). Bound: one value.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any

from coordemu.pool import pool_faults
from coordemu.runtime.base import Runtime


@dataclass(frozen=True, slots=True)
class HandoffMark:
    """endpoint: where to.  sequence: of the announcement; a later one counts.  queued: a worker will see to it.
    done: one has; kept for its sequence."""

    endpoint: Any
    sequence: int
    queued: bool = False
    done: bool = False


class HandoffRecord:
    """The note of one connection."""

    def __init__(self, rt: Runtime, name: str, faults: AbstractSet[str] = frozenset()) -> None:
        self._mark = rt.cell(_nothing(), f"{name} handoff")
        self._faults = faults

    @property
    def mark(self) -> HandoffMark | None:
        """What is to be done; None: nothing. Thread: any. Upstream: ShouldHandoff."""
        found = self._mark.value
        return None if found is None or found.done else found

    def set(self, endpoint: Any, sequence: int) -> bool:
        """It is to move. False: as late an announcement is known. Thread: any. Upstream: MarkForHandoff."""
        while True:
            found = self._mark.value
            if found is not None and found.sequence >= sequence:
                return False
            if self._mark.compare_exchange(found, HandoffMark(endpoint, sequence)):
                return True

    def queue(self) -> HandoffMark | None:
        """Take the work on: the mark as it is now; None: there is none, or another was faster. Thread: any."""
        found = self._mark.value
        if found is None or found.queued or found.done:
            return None
        taken = replace(found, queued=True)
        return taken if self._mark.compare_exchange(found, taken) else None

    def take_back(self, taken: HandoffMark) -> bool:
        """It could not be queued after all. False: it has changed meanwhile, and stays as it is. Thread: any."""
        before = replace(taken, queued=False)
        if pool_faults.HANDOFF_ROLLBACK in self._faults:
            self._mark.value = before
            return True
        return self._mark.compare_exchange(taken, before)

    def clear(self, done: HandoffMark | None) -> bool:
        """What was taken on is done. False: a later announcement has come, and stays. Thread: the worker's."""
        return done is None or self._mark.compare_exchange(done, replace(done, queued=False, done=True))

    def __repr__(self) -> str:
        return f"<HandoffRecord {self._mark!r}>"


def _nothing() -> HandoffMark | None:
    return None
