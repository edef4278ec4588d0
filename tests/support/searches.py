"""What tests of switched faults search for: that each is found, whatever the seed, and the mended form survives."""

from __future__ import annotations

from collections.abc import Iterator

from coordemu.explore.order import PASSED, Failure, Subject
from coordemu.explore.portfolio import PORTFOLIO
from coordemu.explore.search import length_of, search_range

SEEDS = (0, 1, 2)


def failures_found(faulty: Subject, what: str, orders: int = 1000, length: int = 100) -> Iterator[Failure]:
    """The first failure of each of three searches. orders: of each.  length: that of a usual order, in steps."""
    for seed in SEEDS:
        found = search_range(faulty, PORTFOLIO, seed, 0, orders, length, stop_at_first=True).found
        assert found, f"{what} is not found by seed {seed}"
        yield found[0].failure


def check_survives(mended: Subject, strategy: str, orders: int) -> None:
    """Every order that the strategy makes passes."""
    result = search_range(mended, strategy, 7, 0, orders, length_of(mended))
    assert result.verdicts == {PASSED: orders}, result.found[:1]
