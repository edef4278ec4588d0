"""Tallies, their sums, and what the detector makes of them."""

from __future__ import annotations

from collections.abc import Sequence

import hiredis
import pytest

from coordemu.lab.pool_detector import Detected, detect
from coordemu.lab.pool_metrics import (
    BUCKET_NAMES,
    CONFLICT,
    OTHER,
    POOL_TIMEOUT,
    TIMEOUT,
    PoolMetrics,
    TaskTally,
    kind_of,
    reason_of,
    sum_up,
)
from coordemu.pool.cluster_client import ClusterError
from coordemu.pool.pool_conn_state import IllegalMove, PoolConnState
from coordemu.pool.pool_errors import (
    ConnFailed,
    ConnUnusable,
    DeadlineExceeded,
    NotInHand,
    Occupancy,
    PoolClosed,
    PoolExhausted,
    PoolTimeout,
    TurnsOverfull,
)
from coordemu.runtime.base import NS_PER_MS

MS = NS_PER_MS
NO_TURN = PoolTimeout("pool", 2_000 * MS, Occupancy(5, 5, 0, 0, 0, 7))


def caused_by(cause: Exception) -> ClusterError:
    error = ClusterError("no node would have it")
    error.__cause__ = cause
    return error


def tally(latencies_ms: Sequence[float] = (), failures: Sequence[tuple[Exception, float]] = ()) -> TaskTally:
    made = TaskTally()
    for latency_ms in latencies_ms:
        made.begun += 1
        made.succeeded(round(latency_ms * MS))
    for error, at_ms in failures:
        made.begun += 1
        made.failed(error, round(at_ms * MS))
    return made


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (NO_TURN, POOL_TIMEOUT),
        (ConnFailed("timeout", "silent", sent=True), TIMEOUT),
        (DeadlineExceeded("passed"), TIMEOUT),
        (TimeoutError("slow"), TIMEOUT),
        (caused_by(ConnFailed("timeout", "silent")), TIMEOUT),
        (caused_by(NO_TURN), POOL_TIMEOUT),
        (NotInHand("twice"), CONFLICT),
        (TurnsOverfull("twice"), CONFLICT),
        (ConnUnusable("taken"), CONFLICT),
        (IllegalMove("conn", PoolConnState.CLOSED, PoolConnState.IDLE), CONFLICT),
        (PoolExhausted("cap"), OTHER),
        (PoolClosed("closed"), OTHER),
        (hiredis.ReplyError("ERR no"), OTHER),
        (caused_by(hiredis.ReplyError("CLUSTERDOWN")), OTHER),
        (ConnectionRefusedError("no"), OTHER),
    ],
)
def test_each_error_is_of_one_kind(error: Exception, kind: str) -> None:
    assert kind_of(error) == kind


def test_reasons_leave_out_what_differs() -> None:
    assert reason_of(hiredis.ReplyError("WRONGTYPE of key 17")) == "reply WRONGTYPE"
    assert reason_of(ConnFailed("closed", "10.0.0.1:7")) == "ConnFailed (closed)"
    assert reason_of(caused_by(ConnectionRefusedError("10.0.0.1"))) == "ClusterError: ConnectionRefusedError"


def test_sums_add_up() -> None:
    one = tally([0.5, 1, 4.9], [(NO_TURN, 1), (ConnFailed("timeout", "a"), 2)])
    two = tally([5, 9.9, 10, 49, 50, 2000], [(ConnFailed("timeout", "b"), 500), (NotInHand("x"), 900)])
    metrics = sum_up([one, two], 20, 1_000 * MS)
    assert (metrics.begun, metrics.total, metrics.successful, metrics.failed) == (13, 13, 9, 4)
    assert (metrics.pool_timeouts, metrics.timeouts, metrics.conflicts, metrics.unaccounted) == (1, 2, 1, 0)
    assert dict(zip(BUCKET_NAMES, metrics.histogram, strict=True)) == {
        "<1ms": 1, "<5ms": 2, "<10ms": 2, "<50ms": 2, ">=50ms": 2,
    }  # fmt: skip
    assert sum(metrics.histogram) == metrics.successful
    assert (metrics.p50_ns, metrics.longest_ns) == (round(9.9 * MS), 2000 * MS)
    assert metrics.per_s == 13
    assert metrics.longest_failure_row == 2
    assert next((reason.name, reason.count, reason.example) for reason in metrics.reasons) == (
        "ConnFailed (timeout)", 2, "a",
    )  # fmt: skip


def test_an_operation_without_an_outcome_is_seen() -> None:
    made = tally([1])
    made.begun += 1
    assert sum_up([made], 2, 1).unaccounted == 1


def test_nothing_at_all_divides_by_nothing() -> None:
    metrics = sum_up([], 0, 0)
    assert (metrics.total, metrics.average_ns, metrics.per_s, metrics.share(0)) == (0, 0, 0.0, 0.0)
    assert metrics.to_json()["histogram"] == dict.fromkeys(BUCKET_NAMES, 0)
    assert metrics == PoolMetrics()


def test_a_success_ends_a_row_of_failures() -> None:
    made = tally([], [(NO_TURN, 1), (NO_TURN, 2)])
    made.begun += 2
    made.succeeded(1)
    made.failed(NO_TURN, 3)
    assert (made.longest_row, made.failures_in_row, made.begun, made.ended) == (2, 1, 4, 4)


# ---- the detector


def test_slow_counters_are_nested_and_look_at_successes() -> None:
    detected = detect([tally([100, 100.1, 500.5, 1000, 2000], [(NO_TURN, 5000)])])
    assert (detected.slow, detected.long_waits, detected.very_slow) == (4, 3, 1)


def test_a_burst_is_an_error_soon_after_another_whoever_had_them() -> None:
    one = tally([], [(NO_TURN, 1000), (NO_TURN, 1300)])
    two = tally([], [(PoolClosed("x"), 1099), (PoolClosed("x"), 1199)])
    detected = detect([one, two])
    assert detected.error_bursts == 1  # 1099; 1199 is 100 ms after, and so no burst, and 1300 is 101 ms after
    assert detected.pool_exhaustion == 2
    assert detect([tally([], [(NO_TURN, 7)])]).error_bursts == 0


def test_state_conflicts_are_counted() -> None:
    detected = detect([tally([], [(NotInHand("x"), 1)])], broken_rules=2)
    assert detected.state_conflicts == 3
    assert "3 state conflicts" in detected.lines()


def test_the_lines_name_what_is_not_zero() -> None:
    assert Detected().lines() == ["No issues detected"]
    assert Detected(slow=3, error_bursts=1).lines() == [
        "3 slow operations (over 100 ms)",
        "1 error bursts (an error within 100 ms of the one before)",
    ]
    assert len(Detected(1, 1, 1, 1, 1, 1, 2).lines()) == 7
