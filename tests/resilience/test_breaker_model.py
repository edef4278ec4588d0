"""A breaker under drawn calls, results, times and orders, against a plain model of the rules."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from coordemu.resilience.circuit_breaker import BreakerOpen, BreakerOptions, CircuitBreaker, Permit
from coordemu.runtime.base import NS_PER_MS
from coordemu.runtime.sim import SimRuntime

ENDS = ("success", "success", "failure", "failure", "ignore", "cancel")
DURATIONS_MS = st.sampled_from([0, 1, 4, 5, 6])

options = st.builds(
    BreakerOptions,
    failures_in_row=st.integers(0, 3),
    window=st.sampled_from(["none", "count", "time"]),
    window_size=st.integers(1, 6),
    window_ms=st.just(12),
    window_buckets=st.sampled_from([1, 3, 4]),
    failure_rate_percent=st.sampled_from([0, 34, 50, 100]),
    slow_call_ms=st.sampled_from([0, 5]),
    slow_rate_percent=st.sampled_from([0, 50, 100]),
    minimum_calls=st.integers(1, 5),
    open_ms=st.sampled_from([3, 5]),
    open_backoff_factor=st.sampled_from([1.0, 2.0]),
    open_max_ms=st.just(14),
    half_open_permits=st.integers(1, 3),
    half_open_successes=st.integers(0, 4),
    half_open_max_ms=st.sampled_from([0, 4]),
)


class Model:
    """The rules, read plainly: every result of the era is kept, and everything is counted anew each time."""

    def __init__(self, chosen: BreakerOptions) -> None:
        self.options = chosen
        self.now_ms = 0
        self.openings = 0
        self.generation = 0
        self.enter("CLOSED")

    def enter(self, state: str) -> None:
        self.state = state
        self.generation += 1
        self.results: list[tuple[bool, bool, int]] = []  # failed, slow, when
        self.out = 0
        self.all_out_since_ms = 0
        self.entered_ms = self.now_ms
        if state == "OPEN":
            self.openings += 1
        elif state != "HALF_OPEN":
            self.openings = 0

    @property
    def open_for_ms(self) -> int:
        times = self.options.open_backoff_factor ** (self.openings - 1)
        return int(self.options.open_ms if times == 1 else min(self.options.open_ms * times, self.options.open_max_ms))

    @property
    def retry_after_ms(self) -> int:
        return max(0, self.entered_ms + self.open_for_ms - self.now_ms) if self.state == "OPEN" else 0

    def acquire(self) -> bool:
        chosen = self.options
        if self.state == "OPEN" and not self.retry_after_ms:
            self.enter("HALF_OPEN")
        if self.state == "HALF_OPEN":
            if self.out < chosen.half_open_permits:
                self.out += 1
                if self.out == chosen.half_open_permits:
                    self.all_out_since_ms = self.now_ms
                return True
            if chosen.half_open_max_ms and self.now_ms - self.all_out_since_ms >= chosen.half_open_max_ms:
                self.enter("OPEN")
            return False
        return self.state in ("CLOSED", "DISABLED")

    def settle(self, generation: int, end: str, slow: bool) -> None:
        if generation != self.generation:
            return
        if self.state == "HALF_OPEN":
            self.out -= 1
        if end in ("ignore", "cancel") or self.state == "DISABLED":
            return
        self.results.append((end == "failure", slow, self.now_ms))
        if self.state == "CLOSED" and self.must_open():
            self.enter("OPEN")
        elif self.state == "HALF_OPEN":
            slow_rule = self.options.window != "none" and self.options.slow_rate_percent > 0
            if end == "failure" or (slow and slow_rule):
                self.enter("OPEN")
            elif len(self.results) == (self.options.half_open_successes or self.options.half_open_permits):
                self.enter("CLOSED")

    @property
    def row(self) -> int:
        count = 0
        for failed, _, _ in reversed(self.results):
            if not failed:
                break
            count += 1
        return count

    def window(self) -> list[tuple[bool, bool, int]]:
        chosen = self.options
        if chosen.window == "none" or self.state != "CLOSED":
            return []
        if chosen.window == "count":
            return self.results[-chosen.window_size :]
        piece_ms = chosen.window_ms // chosen.window_buckets
        oldest = self.piece_of(self.now_ms, piece_ms) - chosen.window_buckets
        return [each for each in self.results if self.piece_of(each[2], piece_ms) > oldest]

    @staticmethod
    def piece_of(at_ms: int, piece_ms: int) -> int:
        # The simulator's clock begins at one second.
        return (1000 + at_ms) // piece_ms

    def must_open(self) -> bool:
        chosen = self.options
        if chosen.failures_in_row and self.row >= chosen.failures_in_row:
            return True
        found = self.window()
        enough = chosen.minimum_calls
        if chosen.window == "count":
            enough = min(enough, chosen.window_size)
        if chosen.window == "none" or len(found) < enough:
            return False
        failed, slow = (100 * sum(each[place] for each in found) / len(found) for place in (0, 1))
        by_failures = chosen.failure_rate_percent > 0 and failed >= chosen.failure_rate_percent
        by_slowness = chosen.slow_call_ms > 0 and 0 < chosen.slow_rate_percent <= slow
        return by_failures or by_slowness


class BreakerMachine(RuleBasedStateMachine):
    """One breaker and its model. Outside of tasks the simulator's clock is moved by hand."""

    @initialize(chosen=options)
    def begin(self, chosen: BreakerOptions) -> None:
        self.sim = SimRuntime()
        self.breaker = CircuitBreaker(self.sim, chosen)
        self.model = Model(chosen)
        self.permits: list[tuple[Permit, int, int]] = []
        self.heard: list[Any] = []
        self.breaker.subscribe(self.heard.append)

    @rule()
    def acquire(self) -> None:
        if self.model.acquire():
            self.permits.append((self.breaker.acquire(), self.model.generation, self.model.now_ms))
        else:
            with pytest.raises(BreakerOpen):
                self.breaker.acquire()

    @precondition(lambda self: self.permits)
    @rule(index=st.integers(0, 7), end=st.sampled_from(ENDS), duration_ms=DURATIONS_MS)
    def settle(self, index: int, end: str, duration_ms: int) -> None:
        permit, generation, _ = self.permits.pop(index % len(self.permits))
        slow = 0 < self.model.options.slow_call_ms <= duration_ms
        self.model.settle(generation, end, slow)
        told = {"duration_ns": duration_ms * NS_PER_MS} if end in ("success", "failure") else {}
        assert getattr(permit, end)(**told)
        assert not permit.success()

    @precondition(lambda self: self.permits)
    @rule(index=st.integers(0, 7), end=st.sampled_from(ENDS[:4]))
    def settle_by_the_clock(self, index: int, end: str) -> None:
        permit, generation, began_ms = self.permits.pop(index % len(self.permits))
        if self.went_back:
            end = "cancel"  # how long it took is anybody's guess
        took_ms = self.model.now_ms - began_ms
        self.model.settle(generation, end, 0 < self.model.options.slow_call_ms <= took_ms)
        assert getattr(permit, end)()

    went_back = False

    @rule(passed_ms=st.integers(1, 9))
    def time_passes(self, passed_ms: int) -> None:
        self.sim.core.clock.now_ns += passed_ms * NS_PER_MS
        self.model.now_ms += passed_ms

    @rule(passed_ms=st.integers(1, 900))
    def the_clock_is_set_back(self, passed_ms: int) -> None:
        assert self.breaker.retry_after_ns >= 0  # a look, so that what has passed is known
        self.went_back = True
        self.sim.core.clock.now_ns -= passed_ms * NS_PER_MS

    @rule(order=st.sampled_from(["force_open", "force_closed", "disable", "reset"]))
    def order(self, order: str) -> None:
        state = {"force_open": "FORCED_OPEN", "disable": "DISABLED"}.get(order, "CLOSED")
        getattr(self.breaker, order)()
        if state == "CLOSED" or self.model.state != state:
            self.model.enter(state)

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "model"):
            return
        model, counts = self.model, self.breaker.statistics()
        assert (counts["state"], counts["generation"]) == (model.state, model.generation)
        assert counts["retry_after_ns"] == model.retry_after_ms * NS_PER_MS
        assert counts["probes_out"] == model.out
        assert counts["under_way"] == len(self.permits)
        if model.state == "CLOSED":
            assert counts["failures_in_row"] == model.row
            found = model.window()
            assert counts["window_calls"] == len(found)
            assert counts["window_failed"] == sum(each[0] for each in found)
            assert counts["window_slow"] == sum(each[1] for each in found)
        assert self.breaker.broken_rules() == []
        assert len(self.heard) == model.generation - 1
        assert not self.heard or self.heard[-1].target.value == model.state


BreakerMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestBreaker = BreakerMachine.TestCase
