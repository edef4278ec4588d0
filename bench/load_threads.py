"""Busy threads: Python threads that compute, as a worker does, beside what is measured.

Role: the case that users feel is the loaded interpreter; a benchmark puts its samples between `BusyThreads(n)`'s
brackets.

Thread: the caller's makes and ends them. Upstream: none. Left out: threads that compute without the interpreter lock.
"""

from __future__ import annotations

import threading
import time


class BusyThreads:
    """n threads that count in a loop until the end of the with statement."""

    def __init__(self, n: int) -> None:
        self._stop = False
        self._counts = [0] * n
        self._threads = [threading.Thread(target=self._burn, args=(index,), daemon=True) for index in range(n)]
        self._began = 0.0

    def _burn(self, index: int) -> None:
        counts = self._counts
        while not self._stop:
            for _ in range(1000):
                pass
            counts[index] += 1

    def __enter__(self) -> BusyThreads:
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop = True
        for thread in self._threads:
            thread.join()

    def loops_per_s(self) -> float:
        """Loops of 1,000 turns per second so far, of all threads together."""
        return sum(self._counts) / (time.monotonic() - self._began)
