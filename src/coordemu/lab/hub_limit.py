"""HubLimit: the Hub's own count of how much it has let through lately.

Role: a web API's rate limit as its clients meet it: at most so many requests in any window of that length, exactly.
What is turned away counts for nothing. A client is told how many it has left, and when there is room again.

Thread: the Hub's loop. Upstream: none. Left out: limits per client or path, waiting (the client does that). Bound: as
many times are kept as the limit lets through in one window.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from coordemu.runtime.base import NS_PER_S


@dataclass(frozen=True, slots=True)
class LimitAnswer:
    """granted: whether the request may pass.  remaining: how many more may at once.  reset_ns: until the next one may
    that may not now (0: one may now)."""

    granted: bool
    remaining: int
    reset_ns: int


class HubLimit:
    """At most `limit` requests in any half-open window of window_ns (more than 0). limit: 0 or more; 0: no limit."""

    def __init__(self, limit: int, window_ns: int = NS_PER_S) -> None:
        if limit < 0 or window_ns <= 0:
            raise ValueError(f"a limit of {limit} requests per {window_ns} ns")
        self.limit = limit
        self.window_ns = window_ns
        self._granted: deque[int] = deque()

    def ask(self, now_ns: int) -> LimitAnswer:
        """Let one request pass, if it may. now_ns: the clock; where it goes back the newest time that was seen holds.
        Never blocks."""
        if not self.limit:
            return LimitAnswer(True, 0, 0)
        granted = self._granted
        if granted:
            now_ns = max(now_ns, granted[-1])
        while granted and granted[0] + self.window_ns <= now_ns:
            granted.popleft()
        passes = len(granted) < self.limit
        if passes:
            granted.append(now_ns)
        remaining = self.limit - len(granted)
        return LimitAnswer(passes, remaining, 0 if remaining else granted[0] + self.window_ns - now_ns)

    def __repr__(self) -> str:
        return f"<HubLimit {len(self._granted)} of {self.limit} in {self.window_ns} ns>"
