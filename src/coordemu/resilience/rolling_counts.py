"""RollingCounts: how much some counters have grown over the last so many nanoseconds.

Role: an alert's share is one of what happened lately, and counters only ever grow. This keeps what they were at moments
of the past; the growth is what they are now, less what they were at the newest moment that is a window ago or more.

A counter that has become smaller was started anew: all that it shows is growth. Moments closer together than a
sixtieth of the window are not kept, so the window is up to that much longer than it says.

Thread: under the lock of who owns it. Upstream: none. Left out: a clock; the owner gives the time, which must not go
back. Bounds: MOMENTS + 2 moments.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

MOMENTS = 60


class RollingCounts:
    """Counters over a window. window_ns: 1 or more, ValueError otherwise."""

    def __init__(self, window_ns: int) -> None:
        if window_ns < 1:
            raise ValueError(f"window_ns {window_ns} is below 1")
        self.window_ns = window_ns
        self._step_ns = -(-window_ns // MOMENTS)
        self._moments: deque[tuple[int, tuple[int, ...]]] = deque()
        self._shown: tuple[int, ...] = ()
        self._grown: tuple[int, ...] = ()

    def show(self, at_ns: int, totals: Sequence[int]) -> None:
        """What the counters say. at_ns: never before the last one.  totals: always of the same counters. What they
        said at first is where growth begins. Thread: under the owner's lock."""
        shown = tuple(totals)
        if not self._moments:
            self._grown = (0,) * len(shown)
        else:
            growth = (now - last if now >= last else now for now, last in zip(shown, self._shown, strict=True))
            self._grown = tuple(map(sum, zip(self._grown, growth, strict=True)))
        self._shown = shown
        if not self._moments or at_ns - self._moments[-1][0] >= self._step_ns:
            self._moments.append((at_ns, self._grown))
        while len(self._moments) > 1 and self._moments[1][0] <= at_ns - self.window_ns:
            self._moments.popleft()

    def growth(self) -> tuple[int, ...]:
        """Of each counter, over the window that ends with the last `show`; () before the first. Thread: under the
        owner's lock."""
        if not self._moments:
            return ()
        return tuple(now - then for now, then in zip(self._grown, self._moments[0][1], strict=True))

    def __len__(self) -> int:
        return len(self._moments)

    def __repr__(self) -> str:
        return f"<RollingCounts {self.growth()} in {self.window_ns / 1e9:g} s, {len(self)} moments>"
