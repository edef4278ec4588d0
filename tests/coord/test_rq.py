"""MRWorkQueue: order, limit, wake-ups, the growth warning, and all of it against a model."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from coordemu.coord.rq import WARN_STEP, MRWorkQueue
from coordemu.runtime.base import Runtime


def nothing(_io: Any, _data: Any) -> None:
    """A request that does nothing."""


class Recorder:
    """A queue with what it woke and logged."""

    def __init__(self, rt: Runtime, max_pending: int, spin: bool = False) -> None:
        self.wakes = 0
        self.lines: list[str] = []
        self.queue = MRWorkQueue(
            rt, max_pending, "queue", self.wake, lambda _level, line: self.lines.append(line), spin
        )

    def wake(self) -> None:
        self.wakes += 1

    def pop_data(self) -> Any:
        item = self.queue.pop()
        return None if item is None else item.data


def test_first_in_first_out_and_pending(rt: Runtime) -> None:
    r = Recorder(rt, 10)
    for data in "abc":
        assert r.queue.push(nothing, data)
    assert [r.pop_data() for _ in range(4)] == ["a", "b", "c", None]
    assert r.queue.pending == 3
    r.queue.done()
    assert r.queue.pending == 2
    assert repr(r.queue) == "<MRWorkQueue 'queue' size=0 pending=2/10>"


def test_the_callback_is_kept_with_its_data(rt: Runtime) -> None:
    r = Recorder(rt, 1)
    r.queue.push(nothing, 7)
    item = r.queue.pop()
    assert item is not None
    assert item == (nothing, 7)


def test_at_the_limit_nothing_is_popped_and_done_wakes_once(rt: Runtime) -> None:
    r = Recorder(rt, 2)
    for data in range(4):
        r.queue.push(nothing, data)
    assert [r.pop_data() for _ in range(3)] == [0, 1, None]
    assert r.wakes == 0
    r.queue.done()
    assert r.wakes == 1
    r.queue.done()
    assert r.wakes == 1, "nobody was turned away since the last wake-up"
    assert [r.pop_data() for _ in range(2)] == [2, 3]


def test_a_done_without_anybody_turned_away_wakes_nobody(rt: Runtime) -> None:
    r = Recorder(rt, 2)
    r.queue.push(nothing, 0)
    r.pop_data()
    r.queue.done()
    assert r.wakes == 0


def test_upstreams_rule_wakes_at_the_limit(rt: Runtime) -> None:
    r = Recorder(rt, 1, spin=True)
    r.queue.push(nothing, 0)
    r.queue.push(nothing, 1)
    r.pop_data()
    assert r.pop_data() is None
    assert r.pop_data() is None
    assert r.wakes == 2
    r.queue.done()
    assert r.wakes == 2
    assert r.pop_data() == 1


def test_a_lower_limit_holds_back_under_way_requests_and_a_larger_one_wakes(rt: Runtime) -> None:
    r = Recorder(rt, 650)
    for data in range(60):
        r.queue.push(nothing, data)
    for _ in range(55):
        r.pop_data()
    r.queue.set_max_pending(50)
    assert r.queue.pending == 55
    assert r.pop_data() is None
    for _ in range(5):
        r.queue.done()
    assert r.wakes == 0, "50 are still under way"
    assert r.pop_data() is None
    r.queue.done()
    assert r.wakes == 1
    assert r.pop_data() == 55
    assert r.pop_data() is None
    r.queue.set_max_pending(100)
    assert r.wakes == 2
    assert r.pop_data() == 56


def test_the_warning_needs_the_same_head_and_growth_beyond_the_last_warning(rt: Runtime) -> None:
    r = Recorder(rt, 1)
    r.queue.push(nothing, "under way")
    r.pop_data()
    r.queue.push(nothing, "head")
    r.pop_data()  # the head is seen for the first time, with size 1
    for _ in range(WARN_STEP):
        r.queue.push(nothing, "more")
    assert len(r.queue) == 1 + WARN_STEP
    r.pop_data()
    assert r.lines == []
    r.queue.push(nothing, "more")
    r.pop_data()
    assert len(r.lines) == 1
    assert f"{2 + WARN_STEP} requests wait behind 1 under way" in r.lines[0]
    r.pop_data()
    assert len(r.lines) == 1, "one warning per step of growth"
    for _ in range(WARN_STEP + 1):
        r.queue.push(nothing, "more")
    r.pop_data()
    assert len(r.lines) == 2
    assert r.queue.statistics()["warnings"] == 2


def test_a_head_that_moves_is_no_reason_to_warn(rt: Runtime) -> None:
    r = Recorder(rt, 1)
    for _ in range(WARN_STEP * 3):
        r.queue.push(nothing, None)
    r.queue.pop()
    r.queue.pop()
    for _ in range(5):
        for _ in range(WARN_STEP * 2):
            r.queue.push(nothing, None)
        r.queue.done()
        assert r.queue.pop() is not None
        r.queue.pop()
    assert r.lines == []


def test_done_without_pending_is_refused_and_changes_nothing(rt: Runtime) -> None:
    r = Recorder(rt, 1)
    with pytest.raises(ValueError, match="not pending"):
        r.queue.done()
    assert r.queue.pending == 0


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(limit: int, rt: Runtime) -> None:
    with pytest.raises(ValueError, match="below 1"):
        Recorder(rt, limit)
    r = Recorder(rt, 5)
    with pytest.raises(ValueError, match="below 1"):
        r.queue.set_max_pending(limit)
    assert r.queue.max_pending == 5


def test_a_closed_queue_hands_out_what_waits_and_takes_no_more(rt: Runtime) -> None:
    r = Recorder(rt, 1)
    r.queue.push(nothing, 1)
    r.queue.push(nothing, 2)
    assert [item.data for item in r.queue.close()] == [1, 2]
    assert not r.queue.push(nothing, 3)
    assert len(r.queue) == 0
    assert r.queue.close() == []


class QueueAgainstModel(RuleBasedStateMachine):
    """Pushes, pops, completions and limits in any order, against a deque and three numbers."""

    make_runtime: Callable[[], Runtime]

    def __init__(self) -> None:
        super().__init__()
        self.r = Recorder(type(self).make_runtime(), 2)
        self.waiting: deque[int] = deque()
        self.number = self.pending = self.wakes = 0
        self.limit = 2
        self.turned_away = False

    @rule(n=st.integers(1, 4))
    def push(self, n: int) -> None:
        for _ in range(n):
            assert self.r.queue.push(nothing, self.number)
            self.waiting.append(self.number)
            self.number += 1

    @rule()
    def pop(self) -> None:
        expected = None
        if self.waiting and self.pending < self.limit:
            expected = self.waiting.popleft()
            self.pending += 1
        elif self.waiting:
            self.turned_away = True
        assert self.r.pop_data() == expected

    def made_room(self) -> None:
        if self.turned_away and self.pending < self.limit:
            self.turned_away = False
            self.wakes += 1

    @precondition(lambda self: self.pending)
    @rule()
    def done(self) -> None:
        self.r.queue.done()
        self.pending -= 1
        self.made_room()

    @rule(limit=st.integers(1, 6))
    def change_limit(self, limit: int) -> None:
        self.r.queue.set_max_pending(limit)
        self.limit = limit
        self.made_room()

    @invariant()
    def agrees(self) -> None:
        numbers = self.r.queue.statistics()
        assert numbers["size"] == len(self.waiting) == len(self.r.queue)
        assert numbers["pending"] == self.pending
        assert numbers["max_pending"] == self.limit
        assert self.r.wakes == self.wakes


def test_the_queue_against_the_model(runtime_kind: str, make_runtime: Callable[[str], Runtime]) -> None:
    class OnRuntime(QueueAgainstModel):
        pass

    OnRuntime.make_runtime = staticmethod(lambda: make_runtime(runtime_kind))
    run_state_machine_as_test(OnRuntime, settings=settings(max_examples=60, stateful_step_count=40, deadline=None))
