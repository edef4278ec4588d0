"""Detected: what the issue detector makes of a test: slow operations, error bursts, exhaustion, state conflicts.

Role: the warning lines of detect mode. As upstream's, the slow counters look at successes only and are nested (one of
two seconds counts in all three), and an error burst is an error less than 100 ms after the one before it, whoever had
them. Other than there, state conflicts are counted: a state machine's refusal that reached a caller, and a rule of
the pool that does not hold at the test's end. There they are declared, and only their shadow in latency shows.

Thread: frozen, any. Upstream: issue_detector.go of the example application. Left out: live detection; upstream's block
comes at the end as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from coordemu.lab.pool_metrics import CONFLICT, POOL_TIMEOUT, TaskTally
from coordemu.runtime.base import NS_PER_MS

SLOW_NS = 100 * NS_PER_MS
LONG_WAIT_NS = 500 * NS_PER_MS
VERY_SLOW_NS = 1_000 * NS_PER_MS
BURST_NS = 100 * NS_PER_MS
ROW_WORTH_SAYING = 2


@dataclass(frozen=True, slots=True)
class Detected:
    """Counts. longest_failure_row: operations of one task that failed one after the other, at most."""

    very_slow: int = 0
    slow: int = 0
    long_waits: int = 0
    error_bursts: int = 0
    pool_exhaustion: int = 0
    state_conflicts: int = 0
    longest_failure_row: int = 0

    def lines(self) -> list[str]:
        """A warning for each count that is not zero; one line that says so when all are."""
        warnings = [
            (self.very_slow, "very slow operations (over 1 s)"),
            (self.slow, "slow operations (over 100 ms)"),
            (self.error_bursts, "error bursts (an error within 100 ms of the one before)"),
            (self.pool_exhaustion, "times the pool was exhausted (pool time-outs)"),
            (self.long_waits, "long waits (over 500 ms)"),
            (self.state_conflicts, "state conflicts"),
        ]
        lines = [f"{count} {words}" for count, words in warnings if count]
        if self.longest_failure_row >= ROW_WORTH_SAYING:
            lines.append(f"{self.longest_failure_row} operations of one task failed in a row")
        return lines or ["No issues detected"]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def detect(tallies: Sequence[TaskTally], broken_rules: int = 0) -> Detected:
    """Look at tasks that have ended. broken_rules: of the pools, at the end. Thread: any."""
    latencies = [latency_ns for tally in tallies for latency_ns in tally.latencies_ns]
    failed_at = sorted(at_ns for tally in tallies for at_ns in tally.failed_at_ns)
    return Detected(
        very_slow=sum(latency_ns > VERY_SLOW_NS for latency_ns in latencies),
        slow=sum(latency_ns > SLOW_NS for latency_ns in latencies),
        long_waits=sum(latency_ns > LONG_WAIT_NS for latency_ns in latencies),
        error_bursts=sum(later - earlier < BURST_NS for earlier, later in pairwise(failed_at)),
        pool_exhaustion=sum(tally.by_kind.get(POOL_TIMEOUT, 0) for tally in tallies),
        state_conflicts=sum(tally.by_kind.get(CONFLICT, 0) for tally in tallies) + broken_rules,
        longest_failure_row=max((tally.longest_row for tally in tallies), default=0),
    )
