"""The verdict's rules, in their order."""

from __future__ import annotations

import pytest

from coordemu.lab.result import VERDICTS, PingSums, QuerySums
from coordemu.lab.verdict import GAP_LIMIT_MS, judge

GOOD = QuerySums(10, 10)
FAILED = QuerySums(10, 7, 3)
LOST = QuerySums(10, 6, 3, 1)
STALLED = QuerySums(10, 10, max_gap_ms=GAP_LIMIT_MS + 1)
PING = PingSums(5, 5, 12.4)
LATE_PING = PingSums(5, 5, GAP_LIMIT_MS + 200)


@pytest.mark.parametrize(
    ("hang", "error", "queries", "ping", "verdict", "says"),
    [
        ("", "", GOOD, PING, "healthy", "all 10 queries replied, longest PING gap 12 ms"),
        ("", "", FAILED, PING, "degraded", "3 of 10 queries failed"),
        ("", "", GOOD, LATE_PING, "degraded", "PING stood still for 1200 ms"),
        ("", "", STALLED, PING, "degraded", "no query ended for 1001 ms"),
        ("", "ERR no", FAILED, LATE_PING, "refused", "ERR no"),
        ("", "ERR no", LOST, PING, "lost", "1 of 10 queries never got an outcome"),
        ("deadlocked", "ERR no", LOST, LATE_PING, "deadlocked", "who waits"),
        ("unresponsive", "", LOST, LATE_PING, "unresponsive", "who waits"),
    ],
)
def test_rules(hang: str, error: str, queries: QuerySums, ping: PingSums, verdict: str, says: str) -> None:
    assert judge(hang, "who waits" if hang else "", error, queries, ping) == (verdict, says)
    assert verdict in VERDICTS


def test_all_reasons_are_told() -> None:
    sums = QuerySums(10, 9, 1, max_gap_ms=1500)
    assert judge("", "", "", sums, LATE_PING) == (
        "degraded",
        "1 of 10 queries failed; PING stood still for 1200 ms; no query ended for 1500 ms",
    )


def test_a_gap_of_just_a_second_is_no_fault() -> None:
    still = QuerySums(10, 10, max_gap_ms=GAP_LIMIT_MS)
    assert judge("", "", "", still, PingSums(5, 5, GAP_LIMIT_MS))[0] == "healthy"
