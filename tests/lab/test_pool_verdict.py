"""The verdict, at both sides of each threshold."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordemu.lab.pool_detector import Detected
from coordemu.lab.pool_metrics import PoolMetrics
from coordemu.lab.pool_modes import POOL_TESTS
from coordemu.lab.pool_verdict import BROKEN, FAIR, GOOD, WARNING, PoolVerdict, judge, worst
from coordemu.runtime.base import NS_PER_MS

TEST = POOL_TESTS["basic.1"]
EXCUSED = POOL_TESTS["basic.2"]
QUICK = PoolMetrics(begun=1000, successful=1000, average_ns=2 * NS_PER_MS, histogram=(600, 400, 0, 0, 0))


def with_failures(failed: int, **kinds: int) -> PoolMetrics:
    successful = 1000 - failed
    return replace(QUICK, successful=successful, failed=failed, histogram=(successful, 0, 0, 0, 0), **kinds)


def slow(from_50_ms: int) -> PoolMetrics:
    return replace(QUICK, histogram=(1000 - from_50_ms, 0, 0, 0, from_50_ms))


@pytest.mark.parametrize(
    ("metrics", "detected", "level"),
    [
        (QUICK, Detected(), GOOD),
        (with_failures(9), Detected(), GOOD),
        (with_failures(10), Detected(), FAIR),
        (with_failures(50), Detected(), FAIR),
        (with_failures(51), Detected(), WARNING),
        (replace(QUICK, average_ns=10 * NS_PER_MS - 1), Detected(), GOOD),
        (replace(QUICK, average_ns=10 * NS_PER_MS), Detected(), FAIR),
        (replace(QUICK, average_ns=50 * NS_PER_MS), Detected(), FAIR),
        (replace(QUICK, average_ns=50 * NS_PER_MS + 1), Detected(), WARNING),
        (replace(QUICK, histogram=(0, 501, 499, 0, 0)), Detected(), GOOD),
        (replace(QUICK, histogram=(0, 500, 500, 0, 0)), Detected(), FAIR),
        (with_failures(1, pool_timeouts=1), Detected(), GOOD),
        (with_failures(2, pool_timeouts=2), Detected(), FAIR),
        (with_failures(10, pool_timeouts=10), Detected(), FAIR),
        (with_failures(11, pool_timeouts=11), Detected(), WARNING),
        (slow(100), Detected(), GOOD),
        (slow(101), Detected(), WARNING),
        (QUICK, Detected(slow=10), GOOD),
        (QUICK, Detected(slow=11), WARNING),
        (with_failures(2), Detected(error_bursts=1), WARNING),
        (PoolMetrics(), Detected(), WARNING),
    ],
)
def test_both_sides_of_each_threshold(metrics: PoolMetrics, detected: Detected, level: str) -> None:
    verdict = judge(TEST, metrics, detected)
    assert verdict.level == level
    assert bool(verdict.reasons) == (level != GOOD)


def test_expected_pool_timeouts_do_not_count() -> None:
    metrics = with_failures(300, pool_timeouts=300)
    bursts = Detected(error_bursts=299, pool_exhaustion=300)
    assert judge(EXCUSED, metrics, bursts).level == GOOD
    assert judge(TEST, metrics, bursts).level == WARNING
    others = with_failures(300, pool_timeouts=240)
    assert judge(EXCUSED, others, bursts).level == WARNING


@pytest.mark.parametrize(
    ("metrics", "detected", "rules", "crashes"),
    [
        (replace(QUICK, begun=1001), Detected(), (), 0),
        (QUICK, Detected(state_conflicts=1), (), 0),
        (QUICK, Detected(), ("S1 turns",), 0),
        (QUICK, Detected(), (), 1),
    ],
)
def test_no_figure_makes_up_for_a_fault(
    metrics: PoolMetrics, detected: Detected, rules: tuple[str, ...], crashes: int
) -> None:
    assert judge(TEST, metrics, detected, rules, crashes).level == BROKEN


def test_the_worst_of_several() -> None:
    assert worst([]) == GOOD
    assert worst([PoolVerdict(GOOD), PoolVerdict(WARNING), PoolVerdict(FAIR)]) == WARNING
    assert worst([PoolVerdict(BROKEN), PoolVerdict(WARNING)]) == BROKEN
