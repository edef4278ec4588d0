"""The prober: what it counts, and which gaps it sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from coordemu.lab.prober import PingProber
from coordemu.runtime.base import NS_PER_MS
from coordemu.runtime.threads import ThreadsRuntime


@pytest.fixture
def prober(rt: ThreadsRuntime, chosen_host: Any) -> Iterator[PingProber]:
    one = PingProber(rt, chosen_host.host.address, 1)
    yield one
    one.stop()


def test_it_goes_on_asking(prober: PingProber, rt: ThreadsRuntime, eventually: Callable[..., Any]) -> None:
    eventually(lambda: prober.answered >= 5)
    sums = prober.sums()
    assert 5 <= sums.answered <= sums.sent
    assert prober.error == ""
    stamps = list(prober.answers_ns)
    assert stamps == sorted(stamps)
    # One PING at a time: the next goes out a millisecond after the last answer.
    assert all(later - earlier >= NS_PER_MS for earlier, later in pairwise(stamps))
    assert prober.first_answer_after(stamps[2]) == stamps[2]
    assert prober.first_answer_after(stamps[1] + 1) == stamps[2]
    assert prober.first_answer_after(rt.now_ns() + 10**12) is None


def test_a_gap_is_seen_while_it_lasts_and_after(
    prober: PingProber, chosen_host: Any, eventually: Callable[..., Any]
) -> None:
    eventually(lambda: prober.answered >= 2)
    prober.mark()
    with chosen_host.host.module_lock:
        eventually(lambda: prober.gap_now_ns() > 30 * NS_PER_MS)
        answered = prober.answered
        assert prober.sums().max_gap_ms > 30
    eventually(lambda: prober.answered > answered)
    assert prober.sums().max_gap_ms > 30
    prober.mark()
    assert prober.sums().max_gap_before_ms > 30
    answered = prober.answered
    eventually(lambda: prober.answered > answered)
    prober.mark()
    assert prober.sums().max_gap_before_ms > 0


def test_a_host_that_hangs_up(prober: PingProber, chosen_host: Any, eventually: Callable[..., Any]) -> None:
    eventually(lambda: prober.answered >= 1)
    chosen_host.hang_up()
    eventually(lambda: prober.error)
    sums = prober.sums()
    eventually(lambda: prober.gap_now_ns() > 5 * NS_PER_MS)
    assert prober.sums().answered == sums.answered
    assert prober.sums().sent == sums.sent
