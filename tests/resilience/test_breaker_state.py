"""Every line of the breaker's table, done to a real breaker, and every pair that is not in it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

from coordemu.resilience.breaker_state import (
    BREAKER_TABLE,
    BreakerAction,
    BreakerState,
    BreakerTrigger,
    IllegalTrigger,
    line_for,
)
from coordemu.resilience.circuit_breaker import BreakerOpen, BreakerOptions, CircuitBreaker, Permit

S, T, A = BreakerState, BreakerTrigger, BreakerAction
OPTIONS = BreakerOptions(failures_in_row=2, open_ms=10, half_open_permits=2, half_open_max_ms=100)
ILLEGAL = [pair for pair in product(S, T) if pair not in BREAKER_TABLE]


class Stage:
    """A breaker in a state. `permits` are of that state, `late` of an earlier one."""

    def __init__(self, shifted: Any, state: BreakerState) -> None:
        self.time = shifted
        self.breaker = CircuitBreaker(shifted, OPTIONS)
        self.late = self.breaker.acquire()
        self.permits: list[Permit] = []
        self.breaker.force_closed()
        if state in (S.OPEN, S.HALF_OPEN):
            self.breaker.acquire().failure()
            self.breaker.acquire().failure()
        if state is S.HALF_OPEN:
            self.time.pass_ms(10)
        if state is S.FORCED_OPEN:
            self.breaker.force_open()
        if state is S.DISABLED:
            self.breaker.disable()
        if state in (S.CLOSED, S.HALF_OPEN, S.DISABLED):
            self.permits.append(self.breaker.acquire())
        assert self.breaker.state is state

    def count(self, name: str) -> Any:
        return self.breaker.statistics()[name]


def call(stage: Stage) -> str:
    refusal: BreakerOpen | None = None
    try:
        stage.permits.append(stage.breaker.acquire())
    except BreakerOpen as error:
        refusal = error
    if refusal is None:
        return "admitted"
    assert refusal.state is stage.breaker.state
    assert refusal.retry_after_ns == stage.breaker.retry_after_ns
    return "refused"


def call_due(stage: Stage) -> str:
    stage.time.pass_ms(10)
    return call(stage)


def call_full(stage: Stage) -> str:
    stage.permits.append(stage.breaker.acquire())
    return call(stage)


def call_stuck(stage: Stage) -> str:
    stage.permits.append(stage.breaker.acquire())
    stage.time.pass_ms(100)
    return call(stage)


def last_success(stage: Stage) -> bool:
    stage.permits.append(stage.breaker.acquire())
    assert stage.permits.pop().success()
    return stage.permits[0].success()


def trip(stage: Stage) -> bool:
    stage.breaker.acquire().failure()
    return stage.permits[0].failure()


DO: dict[BreakerTrigger, Callable[[Stage], Any]] = {
    T.CALL: call,
    T.CALL_DUE: call_due,
    T.CALL_FULL: call_full,
    T.CALL_STUCK: call_stuck,
    T.SUCCESS: lambda stage: stage.permits[0].success(),
    T.LAST_SUCCESS: last_success,
    T.FAILURE: lambda stage: stage.permits[0].failure(),
    T.TRIP: trip,
    T.GIVE_BACK: lambda stage: stage.permits[0].ignore(),
    T.LATE: lambda stage: stage.late.failure(),
    T.FORCE_OPEN: lambda stage: stage.breaker.force_open(),
    T.FORCE_CLOSED: lambda stage: stage.breaker.force_closed(),
    T.DISABLE: lambda stage: stage.breaker.disable(),
    T.RESET: lambda stage: stage.breaker.reset(),
}


@pytest.mark.parametrize(("state", "trigger"), BREAKER_TABLE, ids=lambda each: each.name)
def test_a_line_does_what_it_says(shifted, state: BreakerState, trigger: BreakerTrigger) -> None:
    stage = Stage(shifted, state)
    line = BREAKER_TABLE[state, trigger]
    generation = stage.breaker.generation
    out = stage.count("probes_out")
    done = DO[trigger](stage)
    assert stage.breaker.state is line.target
    moved = line.target is not state or line.action is A.ENTER
    assert stage.breaker.generation == generation + moved
    if trigger.name.startswith("CALL"):
        assert done == ("refused" if line.action is A.REFUSE else "admitted")
    elif trigger not in (T.FORCE_OPEN, T.FORCE_CLOSED, T.DISABLE, T.RESET):
        assert done is True
    if trigger is T.LATE:
        assert stage.count("late") == 1
        assert stage.count("probes_out") == out
    if line.action is A.TAKE and not moved:
        assert stage.count("probes_out") == out + 1
    if line.action is A.TAKE and moved:
        assert stage.count("probes_out") == 1
    if line.action is A.PUT_BACK or (line.action is A.COUNT and state is S.HALF_OPEN and not moved):
        assert stage.count("probes_out") == out - 1
    assert stage.breaker.broken_rules() == []


def test_every_state_knows_a_caller_a_late_result_and_all_orders() -> None:
    for state in S:
        for trigger in (T.CALL, T.LATE, T.FORCE_OPEN, T.FORCE_CLOSED, T.DISABLE, T.RESET):
            assert (state, trigger) in BREAKER_TABLE
    # An open one lets nobody through, so that nobody of its own era can tell it anything.
    for state in (S.OPEN, S.FORCED_OPEN):
        for trigger in (T.SUCCESS, T.FAILURE, T.GIVE_BACK, T.TRIP):
            assert (state, trigger) in ILLEGAL
    assert set(DO) == set(T)


@pytest.mark.parametrize(("state", "trigger"), ILLEGAL, ids=lambda each: each.name)
def test_what_is_not_in_the_table_raises_and_changes_nothing(
    shifted, state: BreakerState, trigger: BreakerTrigger
) -> None:
    stage = Stage(shifted, state)
    before = stage.breaker.statistics()
    with pytest.raises(IllegalTrigger, match=f"breaker: {state.value} knows nothing of {trigger.name}") as caught:
        stage.breaker._follow_locked(trigger, 0, "")
    assert (caught.value.state, caught.value.trigger) == (state, trigger)
    with pytest.raises(IllegalTrigger):
        line_for("breaker", state, trigger)
    assert stage.breaker.statistics() == before
