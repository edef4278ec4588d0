"""PoolVerdict: a test's result in one word, by the thresholds that the example's documents give.

Role: *good* is what they call good: over 99 % succeed, 10 ms on average at most, most operations within 5 ms, hardly
any pool time-outs. *warning* is what they call one: under 95 %, over 50 ms on average, over 1 % pool time-outs, many
operations of 50 ms or more, any error burst, operations over 100 ms repeatedly. What is neither is *fair*. *broken* is
ours: an operation without an outcome, or a state conflict; no figure makes up for that.

Thread: a function of values, any. Upstream: prose only; nothing there decides. "Many", "most", "hardly any" and
"repeatedly" are numbers here (see the constants). Left out: the log lines' share, since nothing is pooled as is here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from coordemu.lab.pool_detector import Detected
from coordemu.lab.pool_metrics import PoolMetrics
from coordemu.lab.pool_modes import PoolTest
from coordemu.runtime.base import NS_PER_MS

GOOD, FAIR, WARNING, BROKEN = "good", "fair", "warning", "broken"
# From the best to the worst.
LEVELS = (GOOD, FAIR, WARNING, BROKEN)
GOOD_SUCCESS, BAD_SUCCESS = 0.99, 0.95
GOOD_AVERAGE_MS, BAD_AVERAGE_MS = 10, 50
FEW_POOL_TIMEOUTS, MANY_POOL_TIMEOUTS = 0.001, 0.01
MOST_WITHIN_5_MS = 0.5
MANY_FROM_50_MS = 0.1
REPEATEDLY_OVER_100_MS = 0.01


@dataclass(frozen=True, slots=True)
class PoolVerdict:
    """level: one of LEVELS.  reasons: why it is no better; none when it is good."""

    level: str
    reasons: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def judge(
    test: PoolTest, metrics: PoolMetrics, detected: Detected, broken_rules: Sequence[str] = (), crashes: int = 0
) -> PoolVerdict:
    """The verdict. broken_rules: of the pools, as sentences.  crashes: tasks that ended by an error of our own."""
    broken = _broken(metrics, detected, broken_rules, crashes)
    if broken:
        return PoolVerdict(BROKEN, tuple(broken))
    if not metrics.total:
        return PoolVerdict(WARNING, ("nothing ran",))
    bad, fair = _bad(test, metrics, detected), _not_good(test, metrics)
    if bad:
        return PoolVerdict(WARNING, tuple(bad))
    return PoolVerdict(FAIR, tuple(fair)) if fair else PoolVerdict(GOOD)


def worst(verdicts: Sequence[PoolVerdict]) -> str:
    """The worst level among them; good when there are none."""
    return max((verdict.level for verdict in verdicts), key=LEVELS.index, default=GOOD)


def _broken(metrics: PoolMetrics, detected: Detected, rules: Sequence[str], crashes: int) -> list[str]:
    reasons = []
    if metrics.unaccounted:
        reasons.append(f"{metrics.unaccounted} operations have no outcome")
    if crashes:
        reasons.append(f"{crashes} tasks ended by an error that is no outcome")
    if detected.state_conflicts:
        reasons.append(f"{detected.state_conflicts} state conflicts")
    return [*reasons, *rules]


def _bad(test: PoolTest, metrics: PoolMetrics, detected: Detected) -> list[str]:
    excused = metrics.pool_timeouts if test.timeouts_expected else 0
    success = metrics.share(metrics.successful + excused)
    reasons = []
    if success < BAD_SUCCESS:
        reasons.append(f"{success:.1%} succeed, under {BAD_SUCCESS:.0%}")
    if metrics.average_ns > BAD_AVERAGE_MS * NS_PER_MS:
        reasons.append(f"{metrics.average_ns / NS_PER_MS:.1f} ms on average, over {BAD_AVERAGE_MS} ms")
    timeouts = metrics.share(metrics.pool_timeouts - excused)
    if timeouts > MANY_POOL_TIMEOUTS:
        reasons.append(f"{timeouts:.1%} pool time-outs, over {MANY_POOL_TIMEOUTS:.0%}")
    slow = metrics.histogram[-1] / metrics.successful if metrics.successful else 0.0
    if slow > MANY_FROM_50_MS:
        reasons.append(f"{slow:.1%} take 50 ms or more, over {MANY_FROM_50_MS:.0%}")
    if detected.error_bursts and metrics.failed > excused:
        reasons.append(f"{detected.error_bursts} error bursts")
    very_slow = detected.slow / metrics.successful if metrics.successful else 0.0
    if very_slow > REPEATEDLY_OVER_100_MS:
        reasons.append(f"{very_slow:.1%} take more than 100 ms, over {REPEATEDLY_OVER_100_MS:.0%}")
    return reasons


def _not_good(test: PoolTest, metrics: PoolMetrics) -> list[str]:
    excused = metrics.pool_timeouts if test.timeouts_expected else 0
    success = metrics.share(metrics.successful + excused)
    reasons = []
    if success <= GOOD_SUCCESS:
        reasons.append(f"{success:.1%} succeed, not over {GOOD_SUCCESS:.0%}")
    if metrics.average_ns >= GOOD_AVERAGE_MS * NS_PER_MS:
        reasons.append(f"{metrics.average_ns / NS_PER_MS:.1f} ms on average, not under {GOOD_AVERAGE_MS} ms")
    quick = sum(metrics.histogram[:2]) / metrics.successful if metrics.successful else 0.0
    if quick <= MOST_WITHIN_5_MS:
        reasons.append(f"{quick:.1%} take less than 5 ms, not most of them")
    timeouts = metrics.share(metrics.pool_timeouts - excused)
    if timeouts > FEW_POOL_TIMEOUTS:
        reasons.append(f"{timeouts:.1%} pool time-outs, over {FEW_POOL_TIMEOUTS:.1%}")
    return reasons
