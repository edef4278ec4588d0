"""What a search does about the garbage collector: each order's cycles go, and afterwards all is as before."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from coordemu.explore.order_garbage import ENOUGH, OrderGarbage


class Cycle:
    def __init__(self) -> None:
        self.me = self


@pytest.fixture(autouse=True)
def collector_on() -> Iterator[None]:
    gc.collect()
    gc.enable()
    yield
    gc.enable()


def test_what_an_order_left_is_taken_away_before_the_next() -> None:
    with OrderGarbage() as garbage:
        assert not gc.isenabled()
        cycles = [Cycle() for _ in range(ENOUGH)]
        last = weakref.ref(cycles[-1])
        del cycles
        assert last() is not None
        garbage.after_order()
        assert last() is None
    assert gc.isenabled()


def test_little_garbage_is_left_for_later() -> None:
    with OrderGarbage() as garbage:
        garbage.after_order()
        last = weakref.ref(Cycle())
        garbage.after_order()
        assert last() is not None
    gc.collect()
    assert last() is None


def test_what_was_there_before_is_collected_afterwards() -> None:
    before = [Cycle()]
    last = weakref.ref(before[0])
    with OrderGarbage():
        before.clear()
        gc.collect()
        assert last() is not None
    gc.collect()
    assert last() is None


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    with OrderGarbage(), OrderGarbage():
        pass
    assert not gc.isenabled()
