"""The recipes of the retry, its budget and the guard: small programs that show one fault in some order of their tasks.

Role: what `coordemu explore resilience-<name>` plays. The rules: R1 the budget's books agree with what was made; R2 no
attempt begins after its caller was cancelled; R3 who is told that he was cancelled has made no attempt since; B2 a
breaker's permit is out only while somebody has it; B3 a refusal of our own is no failure; S1 a slot is held only by
somebody; Q1 somebody gets through.

Thread: the recipe's main task. Upstream: none; B2 is resilience4j's lost permit. Left out: load. Bounds: two or three
tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType

from coordemu.pool.pool_context import PoolContext
from coordemu.pool.pool_errors import Cancelled
from coordemu.resilience.breaker_options import BreakerOptions
from coordemu.resilience.bulkhead import Bulkhead
from coordemu.resilience.circuit_breaker import CircuitBreaker
from coordemu.resilience.error_class import Classified, ErrorClass
from coordemu.resilience.guard import REFUSAL_COUNTS, REFUSAL_KEEPS_PERMIT, Guard
from coordemu.resilience.recipe_base import Crew, ResilienceRecipe, demand
from coordemu.resilience.resilience_errors import BreakerOpen, BulkheadFull
from coordemu.resilience.retry import CANCEL_KEEPS_GRANT, RETRY_AFTER_CANCEL, Retry
from coordemu.resilience.retry_budget import OVERDRAWN, RetryBudget
from coordemu.resilience.retry_policy import RetryOptions
from coordemu.runtime.base import NS_PER_MS, Runtime

HOUR_MS = 3_600_000


def _quickly(_error: BaseException) -> Classified:
    return Classified(ErrorClass.RECOVERABLE, 0, "a recipe's")


def two_for_the_last(rt: Runtime, faults: frozenset[str]) -> None:
    """Two callers come at once; the budget has one retry left."""
    budget = RetryBudget(rt, 100, 0, HOUR_MS, faults=faults)
    budget.first()
    granted: list[int] = []

    def caller() -> None:
        number = budget.take()
        if number is not None:
            granted.append(number)

    crew = Crew(rt)
    for name in ("one", "other"):
        crew.add(name, caller)
    crew.join()
    demand("R1", len(granted) == 1, f"{len(granted)} retries were granted, and one was left")
    demand("R1", budget.left == 0, f"{budget.left} are left after that")


def give_back_against_take(rt: Runtime, faults: frozenset[str]) -> None:
    """One gives a retry back while two ask for it: at most one of them has it, and none is lost."""
    budget = RetryBudget(rt, 100, 0, HOUR_MS, faults=faults)
    budget.first()
    number = budget.take()
    assert number is not None
    taken = number
    granted: list[int | None] = []
    crew = Crew(rt)
    crew.add("giver", lambda: budget.give_back(taken))
    for name in ("one", "other"):
        crew.add(name, lambda: granted.append(budget.take()))
    crew.join()
    had = sum(number is not None for number in granted)
    demand("R1", had + budget.left == 1, f"{had} had it, {budget.left} are left")


def cancel_at_the_end_of_a_pause(rt: Runtime, faults: frozenset[str]) -> None:
    """One pauses before another attempt; its caller is cancelled when the time is just over."""
    budget = RetryBudget(rt, 100, 0, HOUR_MS)
    options = RetryOptions(attempts=2, base_ms=10, total_ms=0, jitter="none")
    retry = Retry(rt, options, _quickly, budget, faults=faults)
    ctx = PoolContext(rt)
    cancelled: list[bool] = []
    attempts: list[bool] = []

    def attempt() -> None:
        attempts.append(bool(cancelled))
        if len(attempts) == 1:
            raise TimeoutError

    def caller() -> None:
        try:
            retry.call(attempt, ctx)
        except Cancelled:
            demand("R3", len(attempts) <= 1, "an attempt was made, and its caller told that it was cancelled")

    def canceller() -> None:
        rt.sleep_ns(10 * NS_PER_MS)
        ctx.cancel()
        cancelled.append(True)

    crew = Crew(rt)
    crew.add("caller", caller)
    crew.add("canceller", canceller)
    crew.join()
    demand("R2", not any(attempts), "an attempt began after its caller was cancelled")
    made, numbers = max(0, len(attempts) - 1), budget.statistics()
    demand("R1", numbers["retries"] == made, f"{made} retries were made, and the budget has {numbers['retries']}")


def refused_probe(rt: Runtime, faults: frozenset[str]) -> None:
    """Two callers come to a breaker whose time is over, and to one slot, for which nobody waits."""
    breaker = CircuitBreaker(rt, BreakerOptions(failures_in_row=1, open_ms=1, half_open_permits=2, half_open_max_ms=0))
    bulkhead = Bulkhead(rt, 1)
    guard = Guard(rt, None, breaker, bulkhead=bulkhead, bulkhead_wait_ms=0, faults=faults)

    def fail() -> str:
        raise TimeoutError

    with suppress(TimeoutError):
        guard.call(fail)
    rt.sleep_ns(2 * NS_PER_MS)
    results: list[str] = []

    def call() -> str:
        rt.sleep_ns(0)
        return "done"

    def caller() -> None:
        try:
            results.append(guard.call(call))
        except (BulkheadFull, BreakerOpen) as error:
            results.append(type(error).__name__)

    crew = Crew(rt)
    for name in ("one", "other"):
        crew.add(name, caller)
    crew.join()
    numbers = breaker.statistics()
    demand("B2", numbers["probes_out"] == 0, f"{numbers['probes_out']} permits are out, and nobody has one")
    demand("B3", numbers["failures"] == 1, "a refusal of our own was counted as a failure")
    demand("S1", bulkhead.held == 0, "a slot is held, and nobody holds it")
    demand("Q1", "done" in results, f"nobody was let through: {results}")


RETRY_RECIPES: Mapping[str, ResilienceRecipe] = MappingProxyType({
    recipe.name: recipe
    for recipe in (
        ResilienceRecipe("last-retry", "two ask for the last retry of a budget", (OVERDRAWN,), two_for_the_last),
        ResilienceRecipe(
            "retry-given-back", "one gives a retry back, two ask for it", (OVERDRAWN,), give_back_against_take
        ),
        ResilienceRecipe(
            "cancelled-pause",
            "a caller is cancelled when the pause before its next attempt is just over",
            (RETRY_AFTER_CANCEL, CANCEL_KEEPS_GRANT),
            cancel_at_the_end_of_a_pause,
        ),
        ResilienceRecipe(
            "refused-probe",
            "two come through a half-open breaker to one slot",
            (REFUSAL_KEEPS_PERMIT, REFUSAL_COUNTS),
            refused_probe,
        ),
    )
})  # fmt: skip
