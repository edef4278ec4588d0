"""Guard: the order of its layers, what counts where, time limits. On both runtimes."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from typing import Any

import hiredis
import pytest

from coordemu.pool.pool_context import PoolContext, pause
from coordemu.pool.pool_errors import Cancelled, DeadlineExceeded, PoolExhausted
from coordemu.resilience.bulkhead import Bulkhead
from coordemu.resilience.circuit_breaker import BreakerOptions, BreakerState, CircuitBreaker
from coordemu.resilience.error_class import HttpStatusError, classify
from coordemu.resilience.guard import AttemptContext, Guard
from coordemu.resilience.resilience_errors import (
    BreakerOpen,
    BulkheadFull,
    RateLimited,
    RetriesExhausted,
    TimeLimited,
    UnknownFault,
)
from coordemu.resilience.retry import Retry
from coordemu.resilience.retry_budget import RetryBudget
from coordemu.resilience.retry_policy import RetryOptions
from coordemu.resilience.sliding_log import SlidingLog
from coordemu.resilience.token_bucket import TokenBucket
from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Runtime
from coordemu.runtime.sim import SimRuntime

LONG_NS = 3600 * NS_PER_S


class Stop(BaseException):
    """What ends a task."""


def failing(*errors: BaseException) -> Callable[[], str]:
    """Raises these, one after the other, and returns "done" from then on."""
    left = list(errors)

    def call() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return call


def ends(guard: Guard, **wanted: int) -> None:
    """What attempts have come to; what is not named is 0."""
    assert {name: count for name, count in guard.statistics().items() if count} == wanted


# -- the order


class Layer:
    """Stands for every layer, and writes down when it is asked."""

    def __init__(self, name: str, log: list[str], error: BaseException | None = None) -> None:
        self.name = name
        self.log = log
        self.error = error
        self.options = BreakerOptions(slow_call_ms=1)

    def acquire(self, *args: Any) -> Layer:
        self.log.append(f"{self.name} {args}" if args else self.name)
        if self.error is not None:
            raise self.error
        return self

    def release(self) -> None:
        self.log.append("release")

    def __getattr__(self, name: str) -> Callable[..., bool]:
        def end(*args: Any) -> bool:
            self.log.append(f"{name} {args}")
            return True

        return end


def test_the_layers_are_asked_in_the_order_that_is_stated(rt: Runtime) -> None:
    log: list[str] = []
    guard = Guard(
        rt,
        Retry(rt, RetryOptions(base_ms=0), on_retry=lambda event: log.append("retry")),
        *(Layer(name, log) for name in ("breaker", "limiter", "bulkhead")),
        limiter_wait_ms=1,
        bulkhead_wait_ms=0,
    )
    ctx = PoolContext(rt)
    error = PoolExhausted()
    function = failing(error)
    assert guard.call(lambda: log.append("call") or function(), ctx) == "done"
    lines = ["breaker", f"limiter {(1, NS_PER_MS, ctx)}", f"bulkhead {(0, ctx)}", "call", "release"]
    assert log[:7] == [*lines, "ignore ()", "retry"]
    assert log[7:12] == lines
    assert log[12].startswith("success (")
    assert len(log) == 13


@pytest.mark.parametrize("refuser", ["breaker", "limiter", "bulkhead"])
def test_who_is_refused_goes_no_further_and_gives_back_what_he_has(rt: Runtime, refuser: str) -> None:
    log: list[str] = []
    error = PoolExhausted(refuser)
    layers = [Layer(name, log, error if name == refuser else None) for name in ("breaker", "limiter", "bulkhead")]
    guard = Guard(rt, None, *layers)
    with pytest.raises(PoolExhausted) as caught:
        guard.call(lambda: log.append("call"))
    assert caught.value is error
    passed = [line.split(" ")[0] for line in log]
    assert (
        passed
        == {
            "breaker": ["breaker"],
            "limiter": ["breaker", "limiter", "ignore"],
            "bulkhead": ["breaker", "limiter", "bulkhead", "ignore"],
        }[refuser]
    )
    ends(guard, **{f"{refuser}_refused": 1})


def test_without_layers_it_is_the_call(rt: Runtime) -> None:
    guard = Guard(rt)
    assert guard.call(lambda: 7) == 7
    assert guard.call_with_context(lambda ctx: ctx) is None
    ctx = PoolContext(rt)
    assert guard.call_with_context(lambda inner: inner, ctx) is ctx
    with pytest.raises(ValueError, match="no"):
        guard.call(failing(ValueError("no")))
    ends(guard, passed=3, failed=1)


# -- what counts for the breaker


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (TimeoutError(), "failures"), (ConnectionResetError(), "failures"), (HttpStatusError(500), "failures"),
        (HttpStatusError(503), "failures"), (hiredis.ReplyError("LOADING"), "failures"), (ValueError(), "failures"),
        (DeadlineExceeded(), "failures"), (HttpStatusError(404), "ignored"), (HttpStatusError(429), "ignored"),
        (hiredis.ReplyError("WRONGTYPE"), "ignored"), (RateLimited("inner"), "ignored"),
        (BulkheadFull("inner"), "ignored"), (BreakerOpen("inner", "OPEN"), "ignored"), (PoolExhausted(), "ignored"),
        (Cancelled(), "cancelled"), (Stop(), "cancelled"),
    ],
    ids=lambda it: it if isinstance(it, str) else f"{type(it).__name__}-{it}",
)  # fmt: skip
def test_errors_of_the_call_count_as_the_table_says(rt: Runtime, error: BaseException, counts: str) -> None:
    breaker = CircuitBreaker(rt, BreakerOptions(failures_in_row=9))
    guard = Guard(rt, None, breaker, bulkhead=Bulkhead(rt, 1))
    with pytest.raises(type(error)):
        guard.call(failing(error))
    numbers = breaker.statistics()
    wanted = dict.fromkeys(("successes", "failures", "ignored", "cancelled", "under_way"), 0) | {counts: 1}
    assert {name: numbers[name] for name in wanted} == wanted
    ends(guard, **{"failed" if counts == "failures" else counts: 1})
    assert guard.call(lambda: 1) == 1
    assert breaker.statistics()["successes"] == 1


def test_our_own_limits_never_open_the_breaker(rt: Runtime, start: Any, until: Any) -> None:
    breaker = CircuitBreaker(rt, BreakerOptions(failures_in_row=1))
    bulkhead = Bulkhead(rt, 1)
    guard = Guard(rt, None, breaker, TokenBucket(rt, 1, 3), bulkhead, limiter_wait_ms=0, bulkhead_wait_ms=0)
    gate = rt.event("gate")
    call = start(lambda: guard.call(gate.wait))
    until(lambda: bulkhead.held == 1)
    for _ in range(2):
        with pytest.raises(BulkheadFull):
            guard.call(lambda: None)
    # Who found no slot has spent his token all the same.
    with pytest.raises(RateLimited):
        guard.call(lambda: None)
    gate.set()
    call.join()
    assert breaker.state is BreakerState.CLOSED
    numbers = breaker.statistics()
    assert (numbers["ignored"], numbers["successes"], numbers["failures"]) == (3, 1, 0)
    ends(guard, passed=1, bulkhead_refused=2, limiter_refused=1)


def test_the_breaker_sees_attempts_and_the_retry_sees_the_breaker() -> None:
    def program(rt: SimRuntime) -> None:
        breaker = CircuitBreaker(rt, BreakerOptions(failures_in_row=2, open_ms=5_000))
        budget = RetryBudget(rt, 0, 10, 10_000)
        retry = Retry(rt, RetryOptions(attempts=5, base_ms=10, jitter="none"), budget=budget)
        guard = Guard(rt, retry, breaker)
        began_ns = rt.now_ns()
        at_ms: list[int] = []

        def function() -> str:
            at_ms.append((rt.now_ns() - began_ns) // NS_PER_MS)
            if len(at_ms) <= 2:
                raise TimeoutError
            return "done"

        assert guard.call(function) == "done"
        # The second failure, at 10, opens it; the third attempt, at 30, is told to come at 5,010.
        assert at_ms == [0, 10, 10 + 5_000]
        assert breaker.state is BreakerState.CLOSED
        ends(guard, passed=1, failed=2, breaker_refused=1)
        assert budget.statistics()["retries"] == 3
        assert retry.statistics()["back_pressure"] == 1

    sim = SimRuntime()
    sim.run(lambda: program(sim)).check()


def test_a_breaker_that_is_open_for_longer_than_the_caller_has_ends_the_call_at_once() -> None:
    sim = SimRuntime()

    def program() -> None:
        breaker = CircuitBreaker(sim, BreakerOptions(failures_in_row=1, open_ms=30_000))
        guard = Guard(sim, Retry(sim, RetryOptions(total_ms=10_000, base_ms=0)), breaker)
        began_ns = sim.now_ns()
        with pytest.raises(RetriesExhausted) as caught:
            guard.call(failing(*[TimeoutError()] * 9))
        assert isinstance(caught.value.last, BreakerOpen)
        assert caught.value.attempts == 2
        assert sim.now_ns() == began_ns

    sim.run(program).check()


def test_the_call_is_measured_without_the_lines() -> None:
    sim = SimRuntime()

    def program() -> None:
        options = BreakerOptions(window="count", slow_call_ms=100, slow_rate_percent=1, minimum_calls=1)
        breaker = CircuitBreaker(sim, options)
        guard = Guard(sim, None, breaker, TokenBucket(sim, 1, 1))
        guard.call(lambda: None)
        guard.call(lambda: sim.sleep_ns(99 * NS_PER_MS))
        assert sim.now_ns() > NS_PER_S
        assert breaker.statistics()["slow"] == 0
        guard.call(lambda: sim.sleep_ns(100 * NS_PER_MS))
        assert breaker.state is BreakerState.OPEN

    sim.run(program).check()


def test_a_slow_failure_is_slow_too() -> None:
    sim = SimRuntime()

    def program() -> None:
        breaker = CircuitBreaker(sim, BreakerOptions(failures_in_row=9, slow_call_ms=100))
        guard = Guard(sim, None, breaker, TokenBucket(sim, 1, 1))
        for takes_ms in (100, 99):
            with pytest.raises(TimeoutError):
                guard.call(lambda takes_ms=takes_ms: sim.sleep_ns(takes_ms * NS_PER_MS) or failing(TimeoutError())())
        numbers = breaker.statistics()
        assert (numbers["failures"], numbers["slow"]) == (2, 1)

    sim.run(program).check()


# -- contexts and time limits


def wait_under(rt: Runtime) -> Callable[[PoolContext | None], str]:
    """A call that goes on until its context ends, as those of the pool do."""

    def call(ctx: PoolContext | None) -> str:
        assert ctx is not None
        if not pause(rt, LONG_NS, ctx, "the call"):
            error = ctx.error()
            assert error is not None
            raise error
        return "done"

    return call


def test_a_time_limit_ends_the_call_and_counts_as_a_failure(rt: Runtime) -> None:
    breaker = CircuitBreaker(rt, BreakerOptions(failures_in_row=9))
    bulkhead = Bulkhead(rt, 1)
    retry = Retry(rt, RetryOptions(attempts=3, base_ms=0))
    guard = Guard(rt, retry, breaker, bulkhead=bulkhead, time_limit_ms=2, name="hub")
    outer = PoolContext.after(rt, LONG_NS)
    with pytest.raises(RetriesExhausted, match=r"TimeLimited: hub: the attempt's 2 ms are over, in the call") as caught:
        guard.call_with_context(wait_under(rt), outer)
    assert isinstance(caught.value.last.__cause__, DeadlineExceeded)
    assert breaker.statistics()["failures"] == 3
    assert bulkhead.held == 0
    assert outer._events == []
    ends(guard, failed=3, time_limited=3)


@pytest.mark.parametrize("line", ["limiter", "bulkhead"])
def test_a_time_limit_in_a_line_is_no_failure(rt: Runtime, line: str) -> None:
    breaker = CircuitBreaker(rt, BreakerOptions(failures_in_row=1))
    bulkhead, bucket = Bulkhead(rt, 1), TokenBucket(rt, Fraction(1, 3600), 1)
    guard = Guard(rt, None, breaker, bucket if line == "limiter" else None, bulkhead if line == "bulkhead" else None, 2)
    bulkhead.acquire()
    bucket.acquire()
    with pytest.raises(TimeLimited) as caught:
        guard.call(lambda: pytest.fail("it was called"))
    assert caught.value.where == line
    assert classify(caught.value).why.endswith(line)
    assert breaker.state is BreakerState.CLOSED
    assert breaker.statistics()["ignored"] == 1
    ends(guard, **{f"{line}_refused": 1, "time_limited": 1})


def test_the_callers_own_deadline_is_not_the_attempts(rt: Runtime) -> None:
    guard = Guard(rt, Retry(rt, RetryOptions(base_ms=0)), time_limit_ms=3_600_000)
    with pytest.raises(DeadlineExceeded):
        guard.call_with_context(wait_under(rt), PoolContext.after(rt, 2 * NS_PER_MS))
    ends(guard, failed=1)


def test_a_deadline_that_the_function_has_of_its_own_stays_what_it_is(rt: Runtime) -> None:
    guard = Guard(rt, time_limit_ms=3_600_000)
    with pytest.raises(DeadlineExceeded):
        guard.call_with_context(failing_in_context(DeadlineExceeded("of its own")))
    ends(guard, failed=1)


def failing_in_context(error: Exception) -> Callable[[PoolContext | None], str]:
    return lambda ctx: failing(error)()


@pytest.mark.parametrize("time_limit_ms", [0, 3_600_000])
@pytest.mark.parametrize("where", ["limiter", "bulkhead", "call"])
def test_the_callers_cancel_ends_the_attempt_wherever_it_is(
    rt: Runtime, start: Any, until: Any, where: str, time_limit_ms: int
) -> None:
    breaker = CircuitBreaker(rt)
    bulkhead, bucket = Bulkhead(rt, 1), SlidingLog(rt, 2, 3_600_000)
    guard = Guard(rt, Retry(rt, RetryOptions(base_ms=0)), breaker, bucket, bulkhead, time_limit_ms)
    reached = rt.event("reached")
    if where == "limiter":
        bucket.acquire(2)
    elif where == "bulkhead":
        bulkhead.acquire()

    def function(ctx: PoolContext | None) -> str:
        reached.set()
        return wait_under(rt)(ctx)

    ctx = PoolContext(rt)
    call = start(lambda: guard.call_with_context(function, ctx))
    until(lambda: bucket.waiting or bulkhead.waiting or reached.is_set())
    ctx.cancel()
    assert isinstance(call.failure(), Cancelled)
    assert breaker.statistics()["cancelled"] == 1
    assert bulkhead.held == (where == "bulkhead")
    assert ctx._events == []
    ends(guard, cancelled=1)


def test_a_context_that_has_ended_calls_nothing(rt: Runtime) -> None:
    ctx = PoolContext(rt)
    ctx.cancel()
    breaker = CircuitBreaker(rt)
    for limit_ms in (0, 10):
        with pytest.raises(Cancelled):
            Guard(rt, None, breaker, time_limit_ms=limit_ms).call(lambda: 1, ctx)
    assert breaker.statistics()["permitted"] == 0


def test_an_attempts_context_ends_by_itself_too(rt: Runtime, start: Any, until: Any) -> None:
    outer = PoolContext.after(rt, LONG_NS)
    inner = AttemptContext(rt, 2 * LONG_NS, outer)
    assert inner.deadline_ns == outer.deadline_ns
    call = start(lambda: wait_under(rt)(inner))
    until(lambda: outer._events)
    inner.cancel()
    assert isinstance(call.failure(), Cancelled)
    assert outer.error() is None
    assert not inner.limited
    assert AttemptContext(rt, LONG_NS, None).error() is None


def test_an_error_is_not_kept_alive_by_the_frames_that_it_holds(rt: Runtime) -> None:
    class Big:
        pass

    def fail(ctx: PoolContext | None) -> None:
        big = Big()
        kept.append(weakref.ref(big))
        pause(rt, LONG_NS, ctx, "the call")
        raise DeadlineExceeded

    kept: list[Any] = []
    gc.disable()
    try:
        for attempts in (1, 3):
            guard = Guard(
                rt, Retry(rt, RetryOptions(attempts=attempts, base_ms=0)), CircuitBreaker(rt), time_limit_ms=1
            )
            with suppress(RetriesExhausted):
                guard.call_with_context(fail)
        assert [ref() for ref in kept] == [None] * 4
    finally:
        gc.enable()


@pytest.mark.parametrize("bad", ["time_limit_ms", "limiter_wait_ms", "bulkhead_wait_ms"])
def test_bounds(rt: Runtime, bad: str) -> None:
    with pytest.raises(ValueError, match=bad):
        Guard(rt, **{bad: -1})
    with pytest.raises(UnknownFault, match="did you mean 'refusal-counts'"):
        Guard(rt, faults=["refusal-count"])


def test_repr_names_the_layers_in_their_order(rt: Runtime) -> None:
    assert repr(Guard(rt)) == "<Guard 'guard' nothing>"
    text = repr(Guard(rt, Retry(rt), CircuitBreaker(rt), TokenBucket(rt, 1, 1), Bulkhead(rt, 1), name="hub"))
    assert [text.index(word) for word in ("<Retry", "<CircuitBreaker", "<TokenBucket", "<Bulkhead")] == sorted(
        text.index(word) for word in ("<Retry", "<CircuitBreaker", "<TokenBucket", "<Bulkhead")
    )
