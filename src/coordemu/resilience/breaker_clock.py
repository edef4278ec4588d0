"""BreakerClock: time as a breaker counts it: what has passed, and never a step back.

Role: the seam's clock does not go back, but the machine under it may be suspended, moved or restored, and tests set it
as they like. So a breaker adds up what passes between its looks: a step back counts as no time at all, and an open
breaker stays open for what is left of its time, not for as long as the clock is behind. A step ahead cannot be told
from time that passed.

Thread: any, under the breaker's lock. Upstream: none. Left out: a limit to a step ahead. Bound: two integers.
"""

from __future__ import annotations

from coordemu.runtime.base import Runtime


class BreakerClock:
    """`now_ns` is the time at the last look."""

    __slots__ = ("_rt", "_seen_ns", "now_ns")

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._seen_ns = rt.now_ns()
        self.now_ns = self._seen_ns

    def look(self) -> int:
        """The time now, ns; at least that of the last look."""
        seen_ns = self._rt.now_ns()
        passed_ns = seen_ns - self._seen_ns
        self._seen_ns = seen_ns
        if passed_ns > 0:
            self.now_ns += passed_ns
        return self.now_ns
