"""OpTally: what became of the operations of a backfill, one tally per task, and their sums.

Role: an operation is one attempt at one thing: a command (or a pipeline) to Redis, a request to the Hub, a write into
the store. It ends well or by a time-out (for a connection of the pool, for a reply, for a slot of the store), or by
another error. A retry is another operation: an attempt that timed out is not undone by one that went well.

What our own limits let nobody do is no operation, since nothing was begun; it is counted apart, as a wait in vain (the
caller stood in line until its time was over) or as a refusal at once. The shares that the write-up speaks of are taken
with the waits in vain as time-outs: else a limit would be a way to hide them.

Thread: a tally its task's, others may look at its counts; sums any. Upstream: the write-up's counters. Left out:
latencies one by one. Bound: a few numbers per kind of operation.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from coordemu.lab.pool_metrics import POOL_TIMEOUT, TIMEOUT, Reason, kind_of, reason_of
from coordemu.pool.pool_errors import Cancelled
from coordemu.resilience.resilience_errors import BulkheadFull, RateLimited, ResilienceError

PUT, TAKE, HUB, STORE, FINISH, REAP = "put", "take", "hub", "store", "finish", "reap"
OPERATIONS = (PUT, TAKE, HUB, STORE, FINISH, REAP)
IN_VAIN, REFUSED, OTHER = "waited in vain", "refused", "error"
FAILURES = (POOL_TIMEOUT, TIMEOUT, OTHER, IN_VAIN, REFUSED)
MOST_REASONS = 100


class OpTally:
    """The counts of one task."""

    __slots__ = ("began", "failed", "longest_ns", "ok", "reasons")

    def __init__(self) -> None:
        self.began = dict.fromkeys(OPERATIONS, 0)
        self.ok = dict.fromkeys(OPERATIONS, 0)
        self.failed: dict[tuple[str, str], int] = {}
        self.longest_ns = dict.fromkeys(OPERATIONS, 0)
        self.reasons: dict[str, list[Any]] = {}

    def begin(self, what: str) -> None:
        """One is begun. Thread: the task's, as all that count."""
        self.began[what] += 1

    def end(self, what: str) -> None:
        """It went well."""
        self.ok[what] += 1

    def fail(self, what: str, error: BaseException) -> None:
        """It did not. What the end of the run called off counts for nothing."""
        if isinstance(error, Cancelled):
            self.began[what] -= 1
            return
        kind = kind_of(error)
        self._failed(what, kind if kind in (POOL_TIMEOUT, TIMEOUT) else OTHER, error)

    def refuse(self, what: str, error: ResilienceError) -> None:
        """A limit of our own did not let it begin."""
        waited_ns = error.waited_ns if isinstance(error, (RateLimited, BulkheadFull)) else 0
        self._failed(what, IN_VAIN if waited_ns > 0 else REFUSED, error)

    def took(self, what: str, duration_ns: int) -> None:
        """How long the caller was away for it, retries and lines included."""
        self.longest_ns[what] = max(self.longest_ns[what], duration_ns)

    def _failed(self, what: str, kind: str, error: BaseException) -> None:
        self.failed[(what, kind)] = self.failed.get((what, kind), 0) + 1
        reason = f"{what}: {reason_of(error)}"
        if reason in self.reasons or len(self.reasons) < MOST_REASONS:
            entry = self.reasons.setdefault(reason, [0, str(error)])
            entry[0] += 1

    def __repr__(self) -> str:
        return f"<OpTally {sum(self.began.values())} begun, {sum(self.ok.values())} ok>"


@dataclass(frozen=True, slots=True)
class OpSums:
    """The sums of many tallies. operations: begun, by what.  failed: by (what, kind).  longest_ns: of a caller's
    absence, by what."""

    operations: dict[str, int] = field(default_factory=dict)
    failed: dict[tuple[str, str], int] = field(default_factory=dict)
    longest_ns: dict[str, int] = field(default_factory=dict)
    reasons: tuple[Reason, ...] = ()

    @property
    def total(self) -> int:
        """Operations, and waits in vain for one."""
        return sum(self.operations.values()) + self.of_kind(IN_VAIN)

    def of_kind(self, *kinds: str) -> int:
        """Failures of these kinds, whatever they were of."""
        return sum(count for (_, kind), count in self.failed.items() if kind in kinds)

    @property
    def timeouts(self) -> int:
        """Of a pool, of a reply, of the store's slots, and of the lines before our own limits."""
        return self.of_kind(POOL_TIMEOUT, TIMEOUT, IN_VAIN)

    @property
    def errors(self) -> int:
        """Other errors."""
        return self.of_kind(OTHER)

    @property
    def timeout_share(self) -> float:
        """Of all operations, 0 to 1."""
        return self.timeouts / self.total if self.total else 0.0

    @property
    def error_share(self) -> float:
        """Of all operations, 0 to 1."""
        return self.errors / self.total if self.total else 0.0

    def to_json(self) -> dict[str, Any]:
        """All of it, shares included."""
        return {
            "total": self.total,
            "operations": self.operations,
            "timeouts": self.timeouts,
            "timeout_share": self.timeout_share,
            "errors": self.errors,
            "error_share": self.error_share,
            "refused": self.of_kind(REFUSED),
            "failed": {f"{what}: {kind}": count for (what, kind), count in sorted(self.failed.items())},
            "longest_ms": {what: ns / 1e6 for what, ns in self.longest_ns.items()},
            "reasons": [{"name": each.name, "count": each.count, "example": each.example} for each in self.reasons],
        }


def sum_ops(tallies: Iterable[OpTally]) -> OpSums:
    """The sums. Thread: any; while tasks still count, a moment may be torn."""
    operations = dict.fromkeys(OPERATIONS, 0)
    longest_ns = dict.fromkeys(OPERATIONS, 0)
    failed: dict[tuple[str, str], int] = {}
    reasons: dict[str, list[Any]] = {}
    for tally in tallies:
        for what in OPERATIONS:
            operations[what] += tally.began[what]
            longest_ns[what] = max(longest_ns[what], tally.longest_ns[what])
        for key, count in list(tally.failed.items()):
            failed[key] = failed.get(key, 0) + count
        for name, (count, example) in list(tally.reasons.items()):
            entry = reasons.setdefault(name, [0, example])
            entry[0] += count
    ordered = sorted(reasons.items(), key=lambda item: (-item[1][0], item[0]))
    return OpSums(
        operations, failed, longest_ns, tuple(Reason(name, count, example) for name, (count, example) in ordered)
    )
