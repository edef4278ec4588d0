"""Resize: the record of one CONFIG SET WORKERS, from its arrival to its last drain receipt.

Role: upstream leaves a log line; here each resize leaves what was done when, and what the I/O threads reported. The
`Resizer` (`coordemu.coord.resize`) writes it, the lab makes timelines of it, tests assert on it.

Thread: main writes; the I/O threads append to `receipts` and `journal` (one step each); any reads.
Upstream: none. Left out: what became of single queries, which `coordemu.coord.query` counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from coordemu.coord.drain_receipt import DrainReceipt
from coordemu.coord.resize_policy import ResizePolicy


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One row of a resize's timeline: when (runtime clock), what was done, what came of it."""

    at_ns: int
    action: str
    result: str


@dataclass(slots=True)
class Resize:
    """What became of one CONFIG SET WORKERS.

    policy: by which it was carried out.
    workers_before, workers_after, conns_before, conns_after: what was, and what was asked for.
    started_ns, returned_ns: of the command, on the runtime's clock; returned_ns is 0 while it runs.
    error: why it was refused, or "". With at_deadline "raise" and a drain that outlives the command: that it failed.
    polls: how often main looked while it drained.
    receipts_expected, receipts: one per I/O runtime, in order of arrival; none when the trigger was put off and a later
        change has called it off.
    journal: at most a few dozen rows.
    """

    policy: ResizePolicy
    workers_before: int
    workers_after: int
    conns_before: int
    conns_after: int
    started_ns: int
    returned_ns: int = 0
    error: str = ""
    polls: int = 0
    receipts_expected: int = 0
    receipts: list[DrainReceipt] = field(default_factory=list)
    journal: list[JournalEntry] = field(default_factory=list)

    @property
    def shrinks(self) -> bool:
        """True when threads are taken away."""
        return self.workers_after < self.workers_before

    @property
    def complete(self) -> bool:
        """The command has returned and every drain receipt is there."""
        return bool(self.returned_ns) and len(self.receipts) >= self.receipts_expected
