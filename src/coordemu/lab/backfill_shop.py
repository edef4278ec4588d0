"""Workshop: what the tasks of a backfill share; and the faults that may be switched on in it.

Role: one frozen value goes to every worker, producer and the reaper. Two registers are in it: `Hands`, which tickets
living workers have, and `Outbox`, which messages the producers have put or are about to. Both are the memory of this
fleet, and gone with its process; the queues and the store are what lasts.

The faults are decisions that are easily made the wrong way round. Each loses messages in some order of tasks and
moment of a server's death, and none in most: a search shows them, and that the mended form survives the same search.

Thread: any. Upstream: none. Left out: several processes. Bounds: a ticket per worker, a number per message.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from coordemu.lab.backfill_ledger import BackfillLedger
from coordemu.lab.backfill_plan import BackfillPlan
from coordemu.lab.backfill_store import BackfillStore
from coordemu.lab.backfill_system import BackfillSystem
from coordemu.name_check import check_names
from coordemu.pool.pool_context import pause
from coordemu.pool.pool_errors import Cancelled, PoolClosed
from coordemu.runtime.base import NS_PER_MS, Runtime

# What only the end of the run raises: no word about the message.
ENDINGS = (Cancelled, PoolClosed)

ACK_FIRST = "ack-first"
REMOVE_FIRST = "remove-first"
OUTBOX_LATE = "outbox-late"
MARKER_LAST = "marker-last"
BACKFILL_FAULTS: Mapping[str, str] = MappingProxyType({
    ACK_FIRST: "A message is acknowledged before it is written: a worker that dies in between takes it along.",
    REMOVE_FIRST: "What is given back is removed before it is put again: a server that dies in between, or an error, "
    "leaves no ticket of it.",
    OUTBOX_LATE: "A message is noted in the outbox when its put was confirmed: a server that dies after the "
    "confirmation and before the note is restored without it.",
    MARKER_LAST: "The marker of a server that has forgotten is set when all was put again: one that dies twice, the "
    "second time before the marker, is taken for whole.",
})  # fmt: skip


class UnknownBackfillFault(ValueError):
    """There is no fault of that name; the message names the nearest one."""


def check_backfill_faults(names: Collection[str]) -> frozenset[str]:
    """The names, as a set. Raises UnknownBackfillFault. Thread: any."""
    return check_names(names, BACKFILL_FAULTS, "fault of the backfill", UnknownBackfillFault)


class Hands:
    """The tickets that living workers have in hand."""

    def __init__(self, rt: Runtime) -> None:
        self._lock = rt.lock("hands")
        self._packed: set[bytes] = set()

    def take(self, packed: bytes) -> None:
        """A worker has it. Thread: any, as all."""
        with self._lock:
            self._packed.add(packed)

    def drop(self, packed: bytes) -> None:
        """It has it no more."""
        with self._lock:
            self._packed.discard(packed)

    def has(self, packed: bytes) -> bool:
        """Whether one does."""
        with self._lock:
            return packed in self._packed

    def __len__(self) -> int:
        return len(self._packed)


class Outbox:
    """The messages that were put, or are about to be."""

    def __init__(self, rt: Runtime) -> None:
        self._lock = rt.lock("outbox")
        self._messages: dict[int, None] = {}

    def note(self, message: int) -> None:
        """It is about to be put. Thread: any."""
        with self._lock:
            self._messages[message] = None

    def messages(self) -> tuple[int, ...]:
        """All, in the order of their noting. Thread: any."""
        with self._lock:
            return tuple(self._messages)


@dataclass(frozen=True, slots=True)
class Workshop:
    """What the tasks of a run share. plan: in the laboratory's time.  survives: of the queues.  over: whether to end.
    faults: of BACKFILL_FAULTS."""

    rt: Runtime
    plan: BackfillPlan
    system: BackfillSystem
    store: BackfillStore
    ledger: BackfillLedger
    hands: Hands
    outbox: Outbox
    survives: bool
    over: Callable[[], bool]
    faults: frozenset[str] = frozenset()

    def rest(self, duration_ns: int, why: str) -> None:
        """Wait, unless the run ends before. Thread: any. Blocks."""
        pause(self.rt, duration_ns, self.system.ctx, why)

    @property
    def pause_ns(self) -> int:
        """What one rests after something has failed."""
        return max(1, round(self.plan.pause_ms * NS_PER_MS))
