"""PoolMetrics: what became of the operations of a test, summed up from one tally per task.

Role: each task counts its own operations in a `TaskTally`, so that counting costs no lock and hides no race; the sums
are made when the tasks have ended. Every operation that was begun has an outcome: success, or a failure with its
kind. What has none is `unaccounted`, and a fault of ours.

Thread: a tally its task's (others may look at its counts); metrics are frozen, any. Upstream: Metrics of the example
application, whose time-outs and state conflicts are declared and never counted. Left out: latencies of failures.
Bound: eight bytes per success, and as many per failure; reasons are kinds of errors.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import hiredis

from coordemu.pool.pool_conn_state import IllegalMove, InvalidStateTransition
from coordemu.pool.pool_errors import ConnFailed, ConnUnusable, DeadlineExceeded, NotInHand, PoolTimeout, TurnsOverfull
from coordemu.runtime.base import NS_PER_MS, NS_PER_S

POOL_TIMEOUT, TIMEOUT, CONFLICT, OTHER = "pool timeout", "timeout", "state conflict", "other"
# The upper ends of the histogram's classes; the last class has none.
BUCKETS_MS = (1, 5, 10, 50)
_BUCKETS_NS = tuple(end * NS_PER_MS for end in BUCKETS_MS)
BUCKET_NAMES = ("<1ms", "<5ms", "<10ms", "<50ms", ">=50ms")
_CONFLICTS = (IllegalMove, InvalidStateTransition, ConnUnusable, NotInHand, TurnsOverfull)


def kind_of(error: BaseException) -> str:
    """POOL_TIMEOUT, TIMEOUT (a server or a deadline), CONFLICT (a state that should not be) or OTHER. Of an error that
    names a cause, the cause counts."""
    if isinstance(error.__cause__, Exception) and not isinstance(error, ConnFailed):
        return kind_of(error.__cause__)
    if isinstance(error, PoolTimeout):
        return POOL_TIMEOUT
    if isinstance(error, _CONFLICTS):
        return CONFLICT
    late = isinstance(error, (DeadlineExceeded, TimeoutError)) or getattr(error, "kind", "") == "timeout"
    return TIMEOUT if late else OTHER


def reason_of(error: BaseException) -> str:
    """The kind of error in a few words, without what differs from one to the next."""
    if isinstance(error, hiredis.ReplyError):
        return f"reply {str(error).split(' ', 1)[0]}"
    cause = error.__cause__
    own = f"{type(error).__name__} ({error.kind})" if isinstance(error, ConnFailed) else type(error).__name__
    return f"{own}: {reason_of(cause)}" if isinstance(cause, Exception) and not isinstance(error, ConnFailed) else own


class TaskTally:
    """The counts of one task."""

    __slots__ = (
        "begun", "by_kind", "failed_at_ns", "failures_in_row", "latencies_ns", "longest_row", "reasons",
    )  # fmt: skip

    def __init__(self) -> None:
        self.begun = 0
        self.latencies_ns: array[int] = array("q")
        self.failed_at_ns: array[int] = array("q")
        self.by_kind: dict[str, int] = {}
        self.reasons: dict[str, list[Any]] = {}
        self.failures_in_row = 0
        self.longest_row = 0

    @property
    def ended(self) -> int:
        """Operations with an outcome. Thread: any."""
        return len(self.latencies_ns) + len(self.failed_at_ns)

    def succeeded(self, latency_ns: int) -> None:
        """One is done. Thread: the task's."""
        self.latencies_ns.append(latency_ns)
        self.failures_in_row = 0

    def failed(self, error: BaseException, at_ns: int) -> None:
        """One has failed, at this time of the runtime's clock. Thread: the task's."""
        kind = kind_of(error)
        self.by_kind[kind] = self.by_kind.get(kind, 0) + 1
        entry = self.reasons.setdefault(reason_of(error), [0, str(error)])
        entry[0] += 1
        self.failures_in_row += 1
        self.longest_row = max(self.longest_row, self.failures_in_row)
        self.failed_at_ns.append(at_ns)

    def __repr__(self) -> str:
        return f"<TaskTally {self.begun} begun, {self.ended} ended>"


@dataclass(frozen=True, slots=True)
class Reason:
    """Failures of one kind: how many, and what the first of them said."""

    name: str
    count: int
    example: str


@dataclass(frozen=True, slots=True)
class PoolMetrics:
    """A test's sums. planned: 0 where a test runs for a time.  begun = successful + failed + unaccounted.
    timeouts, pool_timeouts, conflicts: of the failed ones.  latencies, histogram (by `BUCKET_NAMES`): of the successful
    ones.  elapsed_ns: from the first task's start to the last one's end, rests of rounds included."""

    planned: int = 0
    begun: int = 0
    successful: int = 0
    failed: int = 0
    timeouts: int = 0
    pool_timeouts: int = 0
    conflicts: int = 0
    elapsed_ns: int = 0
    average_ns: int = 0
    p50_ns: int = 0
    p99_ns: int = 0
    longest_ns: int = 0
    histogram: tuple[int, ...] = (0,) * len(BUCKET_NAMES)
    longest_failure_row: int = 0
    reasons: tuple[Reason, ...] = field(default=())

    @property
    def total(self) -> int:
        """Operations with an outcome."""
        return self.successful + self.failed

    @property
    def unaccounted(self) -> int:
        """Operations without one."""
        return self.begun - self.total

    @property
    def per_s(self) -> float:
        """Operations with an outcome per second; failures count, as upstream's planned ones do not."""
        return self.total * NS_PER_S / self.elapsed_ns if self.elapsed_ns else 0.0

    def share(self, count: int) -> float:
        """`count` as a share of all; 0.0 where there are none (upstream prints NaN)."""
        return count / self.total if self.total else 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        values = asdict(self)
        values["histogram"] = dict(zip(BUCKET_NAMES, self.histogram, strict=True))
        return {**values, "total": self.total, "unaccounted": self.unaccounted, "per_s": round(self.per_s, 1)}


def sum_up(tallies: Sequence[TaskTally], planned: int, elapsed_ns: int) -> PoolMetrics:
    """The metrics of tasks that have ended. Thread: any."""
    latencies = sorted(latency_ns for tally in tallies for latency_ns in tally.latencies_ns)
    buckets = [0] * len(BUCKET_NAMES)
    for latency_ns in latencies:
        buckets[bisect_right(_BUCKETS_NS, latency_ns)] += 1
    kinds = {kind: sum(tally.by_kind.get(kind, 0) for tally in tallies) for kind in (POOL_TIMEOUT, TIMEOUT, CONFLICT)}
    reasons: dict[str, Reason] = {}
    for tally in tallies:
        for name, (count, example) in tally.reasons.items():
            before = reasons.get(name)
            reasons[name] = Reason(name, count + (before.count if before else 0), before.example if before else example)
    return PoolMetrics(
        planned=planned,
        begun=sum(tally.begun for tally in tallies),
        successful=len(latencies),
        failed=sum(len(tally.failed_at_ns) for tally in tallies),
        timeouts=kinds[TIMEOUT],
        pool_timeouts=kinds[POOL_TIMEOUT],
        conflicts=kinds[CONFLICT],
        elapsed_ns=elapsed_ns,
        average_ns=sum(latencies) // len(latencies) if latencies else 0,
        p50_ns=_at(latencies, 0.5),
        p99_ns=_at(latencies, 0.99),
        longest_ns=latencies[-1] if latencies else 0,
        histogram=tuple(buckets),
        longest_failure_row=max((tally.longest_row for tally in tallies), default=0),
        reasons=tuple(sorted(reasons.values(), key=lambda reason: (-reason.count, reason.name))),
    )


def _at(ordered: Sequence[int], share: float) -> int:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0
