"""Guard: nothing is lost, whatever is raised where and in whatever order; and searches that find its faults."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from searches import check_survives, failures_found

from coordemu.explore.dpor import exhaust
from coordemu.explore.order import PASSED
from coordemu.explore.program import ProgramSubject
from coordemu.pool.pool_context import PoolContext, pause
from coordemu.pool.pool_errors import Cancelled, DeadlineExceeded
from coordemu.resilience.bulkhead import Bulkhead
from coordemu.resilience.circuit_breaker import BreakerOptions, CircuitBreaker
from coordemu.resilience.error_class import Classified, HttpStatusError, classify
from coordemu.resilience.guard import GUARD_FAULTS, REFUSAL_COUNTS, Guard
from coordemu.resilience.recipe_base import demand_all
from coordemu.resilience.resilience_errors import (
    RateLimited,
)
from coordemu.resilience.retry import Retry
from coordemu.resilience.retry_budget import RetryBudget
from coordemu.resilience.retry_policy import RetryOptions
from coordemu.resilience.retry_recipes import refused_probe
from coordemu.resilience.token_bucket import TokenBucket
from coordemu.runtime.base import NS_PER_MS, Runtime
from coordemu.runtime.sim import SimRuntime
from coordemu.runtime.sim_schedule import make_strategy


class Stop(BaseException):
    """What ends a task."""


def failing(error: BaseException) -> Callable[[], str]:
    def call() -> str:
        raise error

    return call


# -- conservation: what is taken comes back, whatever is raised where

ERRORS: dict[str, Callable[[], BaseException]] = {
    "timeout": TimeoutError,
    "gone": lambda: HttpStatusError(404),
    "busy": lambda: HttpStatusError(429, 3 * NS_PER_MS),
    "bug": lambda: ValueError("a bug"),
    "cancelled": Cancelled,
    "deadline": DeadlineExceeded,
    "rate": lambda: RateLimited("inner", 0, NS_PER_MS),
    "stop": Stop,
}
PLACES = ("breaker", "limiter", "bulkhead", "call", "release", "settle", "classify", "on_retry")
faults_of_a_call = st.dictionaries(st.sampled_from(PLACES), st.sampled_from(sorted(ERRORS)), max_size=3)


class Raises:
    """A layer that raises in its callers' plan's place, and is the real one otherwise. A taking raises before it takes,
    a giving back when it has given."""

    def __init__(self, real: Any, place: str, world: World) -> None:
        self.real = real
        self.place = place
        self.world = world
        self.taken = 0

    def acquire(self, *args: Any) -> Any:
        self.world.strike(self.place)
        result = self.real.acquire(*args)
        self.taken += 1
        return Settles(result, self.world) if self.place == "breaker" else result

    def release(self) -> None:
        self.real.release()
        self.world.strike("release")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


class Settles:
    """A permit that raises when it has been settled."""

    def __init__(self, real: Any, world: World) -> None:
        self.real = real
        self.world = world

    def __getattr__(self, name: str) -> Any:
        def end(*args: Any) -> bool:
            result = getattr(self.real, name)(*args)
            self.world.strike("settle")
            return bool(result)

        return end


class CountedGuard(Guard):
    """Counts the attempts that begin."""

    begun = 0

    def _attempt(self, function: Any, ctx: PoolContext | None) -> Any:
        self.begun += 1
        return super()._attempt(function, ctx)


class World:
    """A guard with all layers, callers with plans, and what must hold when they have ended."""

    def __init__(self, rt: SimRuntime, time_limit_ms: int, limiter_wait_ms: int | None) -> None:
        self.rt = rt
        self.plans: dict[str, dict[str, str]] = {}
        options = BreakerOptions(failures_in_row=2, open_ms=4, half_open_max_ms=0, slow_call_ms=1)
        self.breaker = Raises(CircuitBreaker(rt, options), "breaker", self)
        self.limiter = Raises(TokenBucket(rt, 1000, 2), "limiter", self)
        self.bulkhead = Raises(Bulkhead(rt, 1, max_waiting=1), "bulkhead", self)
        self.budget = RetryBudget(rt, 50, 3, 3_600_000)
        self.retry = Retry(
            rt,
            RetryOptions(attempts=3, base_ms=1, max_ms=3),
            budget=self.budget,
            on_retry=lambda event: self.strike("on_retry"),
        )
        self.guard = CountedGuard(
            rt, self.retry, self.breaker, self.limiter, self.bulkhead, time_limit_ms, limiter_wait_ms, 2, self.classify
        )
        self.contexts: list[PoolContext] = []
        self.inside = self.most_inside = self.called = 0

    def classify(self, error: BaseException) -> Classified:
        self.strike("classify")
        return classify(error)

    def strike(self, place: str) -> None:
        """Raise what the plan of the calling task has for this place, once."""
        error = self.plans[self.rt.current().name].pop(place, None)
        if error is not None:
            raise ERRORS[error]()

    def function(self, ctx: PoolContext | None) -> str:
        self.called += 1
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        try:
            if not pause(self.rt, NS_PER_MS, ctx, "the call"):
                error = ctx.error() if ctx is not None else None
                raise error or AssertionError
            self.strike("call")
        finally:
            self.inside -= 1
        return "done"

    def caller(self, name: str, plans: list[dict[str, str]], ctx: PoolContext) -> None:
        for plan in plans:
            self.plans[name] = dict(plan)
            with suppress(Exception, Stop):
                assert self.guard.call_with_context(self.function, ctx) == "done"

    def run(self, plans: list[list[dict[str, str]]], cancel_at_ms: int | None) -> None:
        tasks = []
        for number, mine in enumerate(plans):
            ctx = PoolContext(self.rt)
            self.contexts.append(ctx)
            name = f"caller {number}"
            tasks.append(self.rt.spawn(self.caller, name, mine, ctx, name=name))
        if cancel_at_ms is not None:
            self.rt.sleep_ns(cancel_at_ms * NS_PER_MS)
            self.contexts[0].cancel()
        for task in tasks:
            task.join()
        self.check()

    def check(self) -> None:
        breaker, bulkhead, limiter = self.breaker.real, self.bulkhead.real, self.limiter.real
        assert (bulkhead.held, bulkhead.waiting, limiter.waiting) == (0, 0, 0)
        demand_all("world", [*breaker.broken_rules(), *bulkhead.broken_rules(), *limiter.broken_rules()])
        numbers = breaker.statistics()
        assert (numbers["under_way"], numbers["probes_out"]) == (0, 0)
        assert numbers["permitted"] == self.breaker.taken
        assert limiter.admitted == self.limiter.taken
        assert self.called == self.bulkhead.taken <= self.limiter.taken <= self.breaker.taken <= self.guard.begun
        assert self.most_inside <= 1
        retries, firsts = self.budget.statistics()["retries"], self.retry.statistics()["calls"]
        assert firsts + retries == self.guard.begun
        assert retries * 100 <= 50 * firsts + 100 * self.budget.floor
        assert all(ctx._events == [] for ctx in self.contexts)
        ends = self.guard.statistics()
        # An attempt whose context had ended already, before it asked anybody, has no end of its own.
        assert sum(ends.values()) - ends["time_limited"] <= self.guard.begun
        ran = ends["passed"] + ends["failed"] + ends["ignored"]
        assert ran <= self.called <= ran + ends["cancelled"]


@given(
    st.lists(st.lists(faults_of_a_call, min_size=1, max_size=4), min_size=1, max_size=3),
    st.sampled_from([0, 0, 2, 3]), st.sampled_from([None, 0, 1]), st.none() | st.integers(0, 8), st.integers(0, 2**32),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_nothing_is_lost_whatever_is_raised_where(
    plans: list[list[dict[str, str]]],
    time_limit_ms: int,
    limiter_wait_ms: int | None,
    cancel_at_ms: int | None,
    seed: int,
) -> None:
    sim = SimRuntime(make_strategy("random", seed))
    sim.run(lambda: World(sim, time_limit_ms, limiter_wait_ms).run(plans, cancel_at_ms)).check()


# -- searches


def subject(*faults: str) -> ProgramSubject:
    return ProgramSubject(lambda rt: refused_probe(rt, frozenset(faults)), "refused-probe")


@pytest.mark.parametrize("fault", GUARD_FAULTS)
def test_the_search_finds_each_fault(fault: str) -> None:
    for failure in failures_found(subject(fault), fault, length=60):
        assert ("B3" if fault == REFUSAL_COUNTS else "B2") in failure.sentence


@pytest.mark.parametrize("strategy", ["random", "pct3", "pos"])
def test_the_mended_form_survives(strategy: str) -> None:
    check_survives(subject(), strategy, 300)


def test_the_mended_form_survives_every_class_of_orders() -> None:
    every = exhaust(subject(), limit=20_000)
    assert every.complete
    assert set(every.verdicts) == {PASSED}


def test_the_mended_form_on_threads(rt_threads: Runtime) -> None:
    for _ in range(5):
        refused_probe(rt_threads, frozenset())
