"""RetryOptions: how often a call is tried, and how long to wait in between.

Role: a value that goes into `Retry`, and the pure functions that make a delay of it: of the number of the attempt that
failed, the delay before, and one draw of chance. Nothing here knows a clock.

The back-off after attempt n has the ceiling min(max_ms, base_ms * factor ** (n - 1)), and the jitter says what is made
of it:

    none          the ceiling
    full          anything from 0 to the ceiling
    equal         half of it, and anything from 0 to the other half
    decorrelated  anything from base_ms to three times the delay before (base_ms at first), max_ms at most; no factor

What an error says of delays comes on top (`error_class`). A *suggested* delay is a floor under the back-off. A delay
that was *told* replaces it, whether longer or shorter, and max_ms does not bound it; total_ms does, in `Retry`. Nobody
comes earlier than told; but with any jitter up to base_ms later, since many are told the same.

Thread: frozen, any. Upstream: resilience4j's IntervalFunction, Polly's and tenacity's rules, and the four jitters that
AWS compares. Left out: linear back-off; a max of less than base.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType

from coordemu.runtime.base import NS_PER_MS, Random

YEAR_MS = 366 * 24 * 3_600_000
NONE, FULL, EQUAL, DECORRELATED = "none", "full", "equal", "decorrelated"
JITTERS = (NONE, FULL, EQUAL, DECORRELATED)
# Of decorrelated jitter: how much longer than the last a delay may be.
GROWTH = 3


@dataclass(frozen=True, slots=True)
class RetryOptions:
    """Options of one retry. Raises ValueError outside the bounds.

    attempts: in all, the first included, 1 or more.  total_ms: from the first attempt's begin; no attempt begins when
    it is over, and nobody waits for one that would; 0: no limit.  base_ms: the first ceiling.  factor: 1 or more, how
    it grows.  max_ms: base_ms or more, the highest.  All of them a year at most.  jitter: one of JITTERS.
    unanswered: whether to try again what may have been carried out already; False for what must not be done twice.
    """

    attempts: int = 4
    total_ms: int = 60_000
    base_ms: int = 100
    factor: float = 2.0
    max_ms: int = 10_000
    jitter: str = FULL
    unanswered: bool = True

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts {self.attempts} is below 1")
        for field in fields(self):
            if field.name.endswith("_ms") and not 0 <= getattr(self, field.name) <= YEAR_MS:
                raise ValueError(f"{field.name} {getattr(self, field.name)} is not within 0..{YEAR_MS}")
        if not 1 <= self.factor < float("inf"):
            raise ValueError(f"factor {self.factor} is below 1, or no number")
        if self.max_ms < self.base_ms:
            raise ValueError(f"max_ms {self.max_ms} is below base_ms {self.base_ms}")
        if self.jitter not in JITTERS:
            raise ValueError(f"jitter {self.jitter!r} is none of {', '.join(JITTERS)}")


def ceiling_ns(options: RetryOptions, attempt: int) -> int:
    """The back-off's ceiling after attempt number `attempt` (1 or more) has failed, without jitter. Thread: any."""
    try:
        grown_ms = options.base_ms * options.factor ** (attempt - 1)
    except OverflowError:
        return options.max_ms * NS_PER_MS if options.base_ms else 0
    # The bound first: beyond it the product may be infinite.
    return round(min(grown_ms, options.max_ms) * NS_PER_MS)


def _none(options: RetryOptions, attempt: int, previous_ns: int, random: Random) -> int:
    return ceiling_ns(options, attempt)


def _full(options: RetryOptions, attempt: int, previous_ns: int, random: Random) -> int:
    return round(random.uniform(0, ceiling_ns(options, attempt)))


def _equal(options: RetryOptions, attempt: int, previous_ns: int, random: Random) -> int:
    top_ns = ceiling_ns(options, attempt)
    return round(random.uniform(top_ns / 2, top_ns))


def _decorrelated(options: RetryOptions, attempt: int, previous_ns: int, random: Random) -> int:
    base_ns, max_ns = options.base_ms * NS_PER_MS, options.max_ms * NS_PER_MS
    return min(max_ns, round(random.uniform(base_ns, max(base_ns, previous_ns * GROWTH))))


_BACK_OFF: Mapping[str, Callable[[RetryOptions, int, int, Random], int]] = MappingProxyType({
    NONE: _none,
    FULL: _full,
    EQUAL: _equal,
    DECORRELATED: _decorrelated,
})  # fmt: skip


def backoff_ns(options: RetryOptions, attempt: int, previous_ns: int, random: Random) -> int:
    """The back-off after attempt number `attempt` has failed: 0 to max_ms.

    attempt: 1 or more.  previous_ns: the back-off before; at the first, whatever is below base_ms counts as base_ms.
    random: drawn from once at most. Thread: any.
    """
    if options.jitter == DECORRELATED:
        previous_ns = max(previous_ns, options.base_ms * NS_PER_MS)
    return _BACK_OFF[options.jitter](options, attempt, previous_ns, random)


def with_suggestion(options: RetryOptions, backoff_ns: int, suggested_ns: int, told: bool, random: Random) -> int:
    """The delay, of a back-off and of what the error says: suggested_ns 0 or more, 0: nothing.

    told: whether the other side said so itself. Never less than suggested_ns. Thread: any.
    """
    if suggested_ns <= 0 or (not told and backoff_ns >= suggested_ns):
        return backoff_ns
    spread_ns = 0 if options.jitter == NONE else round(random.uniform(0, options.base_ms * NS_PER_MS))
    return suggested_ns + spread_ns
