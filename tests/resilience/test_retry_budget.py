"""The budget: its sum, its window, two who come at once; against a plain model, in time that a test moves."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from searches import check_survives, failures_found

from coordemu.explore.dpor import exhaust
from coordemu.explore.order import PASSED
from coordemu.explore.program import ProgramSubject
from coordemu.resilience.resilience_errors import UnknownFault
from coordemu.resilience.retry_budget import BUCKETS, BUDGET_FAULTS, OVERDRAWN, RetryBudget
from coordemu.resilience.retry_recipes import give_back_against_take, two_for_the_last
from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Runtime
from coordemu.runtime.sim import SimRuntime


def take_all(budget: RetryBudget) -> int:
    taken = 0
    while budget.take() is not None:
        taken += 1
    return taken


def test_the_floor_is_there_without_any_load(rt: Runtime) -> None:
    budget = RetryBudget(rt, ratio_percent=20, min_per_s=3, window_ms=2_000)
    assert budget.left == 6
    assert take_all(budget) == 6
    assert budget.statistics()["refused"] == 1


def test_a_share_of_the_first_tries(rt: Runtime) -> None:
    budget = RetryBudget(rt, ratio_percent=20, min_per_s=0, window_ms=3_600_000)
    assert budget.take() is None
    for _ in range(14):
        budget.first()
    assert take_all(budget) == 2
    budget.first()
    assert take_all(budget) == 1
    assert budget.statistics() == {
        "first_tries": 15, "retries": 3, "all_first_tries": 15, "granted": 3, "refused": 3, "given_back": 0,
    }  # fmt: skip


def test_what_is_given_back_another_can_have(rt: Runtime) -> None:
    budget = RetryBudget(rt, 0, 1, 1_000)
    number = budget.take()
    assert number is not None
    assert budget.take() is None
    budget.give_back(number)
    assert budget.take() is not None


def test_the_window_slides(shifted: Any) -> None:
    budget = RetryBudget(shifted, 100, 0, 1_000)
    for _ in range(5):
        budget.first()
    assert take_all(budget) == 5
    shifted.pass_ms(500)
    for _ in range(3):
        budget.first()
    assert budget.left == 3
    shifted.pass_ms(500)
    assert budget.statistics()["first_tries"] == 3
    assert take_all(budget) == 3
    shifted.pass_ms(1_000)
    assert budget.left == 0
    assert budget.statistics()["all_first_tries"] == 8


@pytest.mark.parametrize("passed_ms", [899, 900, 999, 1_000, 1_100, 9_999])
def test_a_retry_that_is_given_back_late_is_forgotten_already(shifted: Any, passed_ms: int) -> None:
    """The clock stands at the begin of a part: the window has ten of them, and is over after 1,000 ms."""
    budget = RetryBudget(shifted, 0, 2, 1_000)
    early = budget.take()
    assert early is not None
    shifted.pass_ms(passed_ms)
    assert budget.take() is not None
    assert budget.left == (passed_ms >= 1_000)
    budget.give_back(early)
    assert budget.left == 1


def test_jumps_of_the_clock(shifted: Any) -> None:
    budget = RetryBudget(shifted, 100, 1, 1_000)
    for _ in range(4):
        budget.first()
    assert take_all(budget) == 5
    shifted.pass_ms(-900)
    assert budget.left == 0
    budget.first()
    assert take_all(budget) == 1
    shifted.pass_ms(10**12)
    assert take_all(budget) == 1
    shifted.pass_ms(-(10**11))
    assert take_all(budget) == 0
    shifted.pass_ms(10**11 + 1_000)
    assert take_all(budget) == 1


def test_many_threads_never_overdraw(rt: Runtime) -> None:
    budget = RetryBudget(rt, 50, 5, 3_600_000)
    floor = budget.floor
    taken = [0] * 4

    def caller(place: int) -> None:
        for _ in range(100):
            budget.first()
            taken[place] += budget.take() is not None
            taken[place] += budget.take() is not None

    for task in [rt.spawn(caller, place, name=f"caller {place}") for place in range(4)]:
        task.join()
    numbers = budget.statistics()
    # Under the interpreter lock no entry is lost; with the floor all may be granted that were asked for.
    assert numbers["first_tries"] == 400
    assert sum(taken) == numbers["granted"] <= 400 * 50 // 100 + floor


@pytest.mark.parametrize(
    "bad", [{"ratio_percent": -1}, {"ratio_percent": 1001}, {"min_per_s": -1}, {"window_ms": 0}, {"window_ms": 10**9}]
)
def test_bounds(rt: Runtime, bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="retry budget: ratio_percent"):
        RetryBudget(rt, **bad)
    with pytest.raises(UnknownFault, match="did you mean 'budget-overdrawn'"):
        RetryBudget(rt, faults=["budget-overdrown"])


def test_repr_says_what_there_is(rt: Runtime) -> None:
    assert repr(RetryBudget(rt, 20, 10, 10_000, "hub")) == "<RetryBudget 'hub' 20 % + 100, 0 retries>"


class HandClock:
    """A runtime whose clock the machine moves."""

    def __init__(self) -> None:
        self.at_ns = 5 * NS_PER_S
        self._inner = SimRuntime()

    def now_ns(self) -> int:
        return self.at_ns

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class BudgetMachine(RuleBasedStateMachine):
    """The model keeps a list of everything with the part of time in which it came, and adds it all up each time."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = HandClock()
        self.ratio, self.per_s, self.window_ms = 30, 2, 1_000
        self.budget = RetryBudget(self.clock, self.ratio, self.per_s, self.window_ms)
        self.part = self.now_part()
        self.firsts: list[int] = []
        self.retries: list[int] = []
        self.held: deque[int] = deque()

    def now_part(self) -> int:
        return self.clock.at_ns * BUCKETS // (self.window_ms * NS_PER_MS)

    def look(self) -> None:
        """Time goes on for the model only forwards."""
        self.part = max(self.part, self.now_part())

    def in_window(self, parts: list[int]) -> int:
        return sum(self.part - part < BUCKETS for part in parts)

    @rule(count=st.integers(1, 20))
    def first_tries(self, count: int) -> None:
        self.look()
        for _ in range(count):
            self.budget.first()
            self.firsts.append(self.part)

    @rule(count=st.integers(1, 5))
    def takes(self, count: int) -> None:
        self.look()
        for _ in range(count):
            spent = (self.in_window(self.retries) + 1) * 100
            affords = spent <= self.ratio * self.in_window(self.firsts) + self.per_s * self.window_ms // 1000 * 100
            number = self.budget.take()
            assert (number is not None) == affords
            if number is not None:
                assert number == self.part
                self.retries.append(number)
                self.held.append(number)

    @precondition(lambda self: self.held)
    @rule(newest=st.booleans())
    def gives_back(self, newest: bool) -> None:
        self.look()
        number = self.held.pop() if newest else self.held.popleft()
        self.budget.give_back(number)
        self.retries.remove(number)

    @rule(passed_ms=st.sampled_from([1, 50, 100, 101, 333, 900, 1_000, 5_000]))
    def time_passes(self, passed_ms: int) -> None:
        self.clock.at_ns += passed_ms * NS_PER_MS

    @rule(back_ms=st.integers(1, 3_000))
    def the_clock_goes_back(self, back_ms: int) -> None:
        self.clock.at_ns -= back_ms * NS_PER_MS

    @invariant()
    def it_agrees_with_the_model(self) -> None:
        self.look()
        numbers = self.budget.statistics()
        assert numbers["first_tries"] == self.in_window(self.firsts)
        assert numbers["retries"] == self.in_window(self.retries) >= 0
        assert numbers["all_first_tries"] == len(self.firsts)
        assert numbers["granted"] - numbers["given_back"] == len(self.retries)

    @invariant()
    def retries_never_amplify(self) -> None:
        """In the window, and over all time with one floor more per window in it."""
        floor = self.per_s * self.window_ms // 1000
        windows, left = 0, sorted(self.retries)
        while left:
            windows += 1
            last = left[-1]
            left = [part for part in left if last - part >= BUCKETS]
        assert len(self.retries) * 100 <= self.ratio * len(self.firsts) + floor * 100 * windows


BudgetMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestBudgetMachine = BudgetMachine.TestCase


def subject(program: Any, *faults: str) -> ProgramSubject:
    return ProgramSubject(lambda rt: program(rt, frozenset(faults)), program.__name__)


@pytest.mark.parametrize("program", [two_for_the_last, give_back_against_take])
def test_the_search_finds_the_fault_and_the_mended_form_survives(program: Any) -> None:
    assert len(list(failures_found(subject(program, OVERDRAWN), OVERDRAWN, length=60))) == 3
    mended = subject(program)
    check_survives(mended, "random", 200)
    every = exhaust(mended)
    assert every.complete
    assert set(every.verdicts) == {PASSED}


def test_the_mended_form_on_threads(rt_threads: Runtime) -> None:
    for _ in range(5):
        two_for_the_last(rt_threads, frozenset())
        give_back_against_take(rt_threads, frozenset())


def test_every_fault_has_its_sentence() -> None:
    assert all(sentence.endswith(".") for sentence in BUDGET_FAULTS.values())
