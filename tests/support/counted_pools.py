"""Pools as pool pressure reads them, whose counters a test sets by hand."""

from __future__ import annotations


class Wire:
    """What a dial returns."""

    def close(self) -> None:
        """Nothing."""


class Turnstile:
    """Turns of the test's own."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.held = 0
        self.waiting = 0


class CountedPool:
    """A pool of the test's own."""

    def __init__(self, size: int = 20) -> None:
        self.turns = Turnstile(size)
        self.phase = "open"
