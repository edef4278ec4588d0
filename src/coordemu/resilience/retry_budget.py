"""RetryBudget: how many retries all callers together may make, as a share of their first tries.

Role: where everything fails, every call is tried as often as it may be, and an outage is answered with several times
the load. A budget is shared by the callers of one service. Each first try is entered, each retry has to be granted, and
is only if, of the last `window_ms`,

    retries granted * 100 + 100 <= ratio_percent * first tries + 100 * floor,  floor = min_per_s * window_ms / 1000

so that a service that fails altogether sees at most (100 + ratio_percent) % of the load, and a little more where there
is hardly any. A retry is granted when its attempt has failed, before the pause; a caller who does not come to make it
gives it back.

The window is a ring of BUCKETS parts, and slides a part at a time: what is entered now counts for at least nine tenths
of the window, and for the window at most. A retry stays in it at least as long as the first tries that it was granted
for, so no first try pays twice; over any time the sum holds with one floor more for each window in it.

Entering a first try takes no lock. Two threads that do so at once in the same moment could at worst lose one of the two
entries (not under CPython with its interpreter lock, which changes threads between such steps only), or enter one a
part later: the budget would be smaller, never larger. The clock may stand still or jump: backwards nothing moves,
forwards the window is empty.

Thread: any. Upstream: Finagle's RetryBudget and gRPC's retry throttling; the Python libraries of the reference's
section 7 have none. Left out: a budget shared by processes. Bounds: BUCKETS parts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType

from coordemu.resilience.resilience_errors import check_faults
from coordemu.runtime.base import NS_PER_MS, Runtime

BUCKETS = 10
MAX_WINDOW_MS = 24 * 3_600_000
# What a retry costs; a first try brings ratio_percent.
PRICE = 100

OVERDRAWN = "budget-overdrawn"

BUDGET_FAULTS: Mapping[str, str] = MappingProxyType({
    OVERDRAWN: "What is left is looked at under the lock and taken under it, but the lock is given back in between: "
    "two callers who come at once for the last retry both have it.",
})  # fmt: skip


class RetryBudget:
    """A budget. ratio_percent: 0 to 1000, retries per hundred first tries.  min_per_s: 0 or more, retries that may be
    made whatever the load.  window_ms: 1 to a day.  faults: of BUDGET_FAULTS. Raises ValueError outside the bounds."""

    def __init__(
        self,
        rt: Runtime,
        ratio_percent: int = 20,
        min_per_s: int = 10,
        window_ms: int = 10_000,
        name: str = "retry budget",
        faults: Collection[str] = (),
    ) -> None:
        if not 0 <= ratio_percent <= 1000 or min_per_s < 0 or not 1 <= window_ms <= MAX_WINDOW_MS:
            raise ValueError(f"{name}: ratio_percent {ratio_percent}, min_per_s {min_per_s}, window_ms {window_ms}")
        self.name = name
        self.ratio_percent = ratio_percent
        self.min_per_s = min_per_s
        self.window_ms = window_ms
        self.floor = min_per_s * window_ms // 1000
        self.faults = check_faults(faults, BUDGET_FAULTS, name)
        self._now_ns = rt.now_ns
        self._lock = rt.lock(name)
        self._part_ns = window_ms * NS_PER_MS // BUCKETS
        # The newest part has its own number and end; its first tries are `_fresh` until it is no longer the newest.
        self._newest = rt.now_ns() // self._part_ns
        self._ends_ns = (self._newest + 1) * self._part_ns
        self._fresh = 0
        # Of the ring, by part number modulo BUCKETS; the newest's first tries are missing.
        self._firsts = [0] * BUCKETS
        self._retries = [0] * BUCKETS
        self._firsts_sum = 0
        self._retries_sum = 0
        self._first_tries = 0
        self._granted = 0
        self._refused = 0
        self._given_back = 0

    # -- entering and taking

    def first(self) -> None:
        """Enter a first try. Thread: any. Never blocks for long."""
        if self._now_ns() >= self._ends_ns:
            with self._lock:
                self._slide_locked()
        self._fresh += 1

    def take(self) -> int | None:
        """Have a retry granted: a number for `give_back`; None: it is not. Thread: any. Never blocks for long."""
        if OVERDRAWN in self.faults:
            with self._lock:
                self._slide_locked()
                enough = self._affords_locked()
            # Whoever comes here in the meantime finds the same.
            with self._lock:
                return self._take_locked(enough)
        with self._lock:
            self._slide_locked()
            return self._take_locked(self._affords_locked())

    def _affords_locked(self) -> bool:
        firsts = self._firsts_sum + self._fresh
        return (self._retries_sum + 1) * PRICE <= self.ratio_percent * firsts + self.floor * PRICE

    def _take_locked(self, enough: bool) -> int | None:
        if not enough:
            self._refused += 1
            return None
        self._granted += 1
        self._retries_sum += 1
        self._retries[self._newest % BUCKETS] += 1
        return self._newest

    def give_back(self, number: int) -> None:
        """A retry that was granted under this number is not made; it can be granted to another, as long as it is in
        the window. Thread: any. Never blocks for long."""
        with self._lock:
            self._slide_locked()
            self._given_back += 1
            if self._newest - number < BUCKETS:
                self._retries[number % BUCKETS] -= 1
                self._retries_sum -= 1

    def _slide_locked(self) -> None:
        """Make the part of now the newest; what falls out of the window is forgotten."""
        now_ns = self._now_ns()
        if now_ns < self._ends_ns:
            return
        number = now_ns // self._part_ns
        fresh, self._fresh = self._fresh, 0
        self._first_tries += fresh
        self._firsts_sum += fresh
        self._firsts[self._newest % BUCKETS] += fresh
        for part in range(self._newest + 1, min(number, self._newest + BUCKETS) + 1):
            place = part % BUCKETS
            self._firsts_sum -= self._firsts[place]
            self._retries_sum -= self._retries[place]
            self._firsts[place] = self._retries[place] = 0
        self._newest = number
        self._ends_ns = (number + 1) * self._part_ns

    # -- looks

    @property
    def left(self) -> int:
        """Retries that would be granted now. Thread: any. May block shortly."""
        with self._lock:
            self._slide_locked()
            firsts = self._firsts_sum + self._fresh
            return max(0, self.ratio_percent * firsts // PRICE + self.floor - self._retries_sum)

    def statistics(self) -> dict[str, int]:
        """In the window: first_tries, retries. Since the start: all_first_tries, granted (those given back included),
        refused, given_back. Thread: any. May block shortly."""
        with self._lock:
            self._slide_locked()
            return {
                "first_tries": self._firsts_sum + self._fresh,
                "retries": self._retries_sum,
                "all_first_tries": self._first_tries + self._fresh,
                "granted": self._granted,
                "refused": self._refused,
                "given_back": self._given_back,
            }

    def __repr__(self) -> str:
        return f"<RetryBudget {self.name!r} {self.ratio_percent} % + {self.floor}, {self._retries_sum} retries>"
