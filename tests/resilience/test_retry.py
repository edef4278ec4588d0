"""Retry: what ends a call and what does not, pauses that a cancel wakes, the budget, and tenacity as an oracle."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any
from unittest import mock

import hiredis
import pytest
import tenacity
from hypothesis import given, settings
from hypothesis import strategies as st
from searches import check_survives, failures_found

from coordemu.explore.dpor import exhaust
from coordemu.explore.order import PASSED
from coordemu.explore.program import ProgramSubject
from coordemu.pool.pool_context import PoolContext
from coordemu.pool.pool_errors import Cancelled, DeadlineExceeded
from coordemu.resilience.error_class import Classified, ErrorClass, HttpStatusError, classify
from coordemu.resilience.resilience_errors import BreakerOpen, BudgetSpent, RetriesExhausted, UnknownFault
from coordemu.resilience.retry import CANCEL_KEEPS_GRANT, RETRY_AFTER_CANCEL, RETRY_FAULTS, Retry, RetryEvent
from coordemu.resilience.retry_budget import RetryBudget
from coordemu.resilience.retry_policy import RetryOptions
from coordemu.resilience.retry_recipes import cancel_at_the_end_of_a_pause
from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Runtime
from coordemu.runtime.sim import SimRuntime

QUICK = RetryOptions(attempts=4, base_ms=1, max_ms=2, jitter="none")


class Service:
    """Raises what it is told to, one after the other, and then returns its number of calls."""

    def __init__(self, rt: Runtime, *errors: BaseException, takes_ns: int = 0) -> None:
        self.rt = rt
        self.errors = list(errors)
        self.takes_ns = takes_ns
        self.at_ns: list[int] = []

    def __call__(self) -> int:
        self.at_ns.append(self.rt.now_ns())
        if self.takes_ns:
            self.rt.sleep_ns(self.takes_ns)
        if self.errors:
            raise self.errors.pop(0)
        return len(self.at_ns)

    @property
    def calls(self) -> int:
        return len(self.at_ns)

    @property
    def gaps_ms(self) -> list[int]:
        return [(b - a) // NS_PER_MS for a, b in zip(self.at_ns, self.at_ns[1:], strict=False)]


def counts(retry: Retry, **wanted: int) -> None:
    numbers = retry.statistics()
    assert {name: numbers[name] for name in wanted} == wanted


def test_what_goes_well_is_called_once(rt: Runtime) -> None:
    retry = Retry(rt, QUICK)
    assert retry.call(Service(rt)) == 1
    assert retry.call(lambda: None) is None
    counts(retry, calls=2, retries=0, recovered=0, exhausted=0, recoverable=0)


def test_what_may_go_well_the_next_time_is_tried_again(rt: Runtime) -> None:
    retry = Retry(rt, QUICK)
    service = Service(rt, ConnectionResetError(), hiredis.ReplyError("TRYAGAIN"), HttpStatusError(503, 1))
    assert retry.call(service) == 4
    counts(retry, calls=1, retries=3, recovered=1, recoverable=2, back_pressure=1, permanent_errors=0)


@pytest.mark.parametrize("error", [hiredis.ReplyError("WRONGTYPE"), HttpStatusError(404), ValueError("no")])
def test_what_is_permanent_is_raised_as_it_is(rt: Runtime, error: Exception) -> None:
    retry = Retry(rt, QUICK)
    service = Service(rt, TimeoutError(), error)
    with pytest.raises(type(error)) as caught:
        retry.call(service)
    assert caught.value is error
    assert service.calls == 2
    counts(retry, permanent=1, permanent_errors=1, retries=1, recovered=0)


def test_attempts_are_counted_with_the_first(rt: Runtime) -> None:
    for attempts in (1, 2, 4):
        retry = Retry(rt, RetryOptions(attempts=attempts, base_ms=0))
        service = Service(rt, *[TimeoutError(number) for number in range(9)])
        with pytest.raises(RetriesExhausted, match=f"gave up after {attempts} attempts") as caught:
            retry.call(service)
        assert service.calls == attempts
        assert caught.value.attempts == attempts
        assert caught.value.last is caught.value.__cause__
        assert caught.value.last.args == (attempts - 1,)
        counts(retry, exhausted=1, retries=attempts - 1)


class Stop(BaseException):
    """What ends a task."""


def test_what_is_no_exception_passes_through(rt: Runtime) -> None:
    service = Service(rt, TimeoutError(), Stop())
    with pytest.raises(Stop):
        Retry(rt, QUICK).call(service)
    assert service.calls == 2


def test_what_may_have_been_done_is_not_done_again_where_that_is_forbidden(rt: Runtime) -> None:
    once = Retry(rt, RetryOptions(base_ms=0, unanswered=False))
    with pytest.raises(ConnectionResetError):
        once.call(Service(rt, ConnectionResetError()))
    service = Service(rt, ConnectionRefusedError())
    refused = Retry(rt, RetryOptions(base_ms=0, unanswered=False), classify=quickly)
    assert refused.call(service) == 2


def quickly(error: BaseException) -> Classified:
    """The table without its delays."""
    said = classify(error)
    return Classified(said.error_class, 0, said.why, False, said.counts, said.unanswered)


# -- delays, in virtual time


def in_sim(program: Callable[[SimRuntime], None], **options: Any) -> None:
    sim = SimRuntime(**options)
    sim.run(lambda: program(sim)).check()


def test_pauses_are_as_long_as_the_back_off_says() -> None:
    def program(rt: SimRuntime) -> None:
        service = Service(rt, *[TimeoutError()] * 5)
        options = RetryOptions(attempts=6, base_ms=100, factor=2, max_ms=500, jitter="none")
        assert Retry(rt, options).call(service) == 6
        assert service.gaps_ms == [100, 200, 400, 500, 500]

    in_sim(program)


def test_what_is_told_wins_and_what_is_suggested_is_a_floor() -> None:
    def program(rt: SimRuntime) -> None:
        told = HttpStatusError(503, 3 * NS_PER_S)
        service = Service(rt, told, HttpStatusError(429, NS_PER_MS), hiredis.ReplyError("LOADING"), TimeoutError())
        options = RetryOptions(attempts=9, base_ms=100, factor=10, jitter="none")
        Retry(rt, options).call(service)
        # 100, 1,000, 10,000, 10,000 without them
        assert service.gaps_ms == [3_000, 1, 10_000, 10_000]
        service = Service(rt, hiredis.ReplyError("LOADING"))
        Retry(rt, options).call(service)
        assert service.gaps_ms == [1_000]

    in_sim(program)


def test_an_open_breaker_says_when() -> None:
    def program(rt: SimRuntime) -> None:
        service = Service(rt, BreakerOpen("hub", "OPEN", 30 * NS_PER_S))
        Retry(rt, RetryOptions(jitter="none")).call(service)
        assert service.gaps_ms == [30_000]

    in_sim(program)


def test_nobody_waits_for_an_attempt_that_would_begin_too_late() -> None:
    def program(rt: SimRuntime) -> None:
        began_ns = rt.now_ns()
        service = Service(rt, HttpStatusError(503, 30 * NS_PER_S))
        retry = Retry(rt, RetryOptions(total_ms=30_000, jitter="none"))
        with pytest.raises(RetriesExhausted, match="another attempt would begin after 30000 ms") as caught:
            retry.call(service)
        assert caught.value.attempts == 1
        ctx = PoolContext.after(rt, 30 * NS_PER_S)
        service = Service(rt, HttpStatusError(503, 30 * NS_PER_S))
        with pytest.raises(RetriesExhausted, match="after the caller's deadline"):
            Retry(rt, RetryOptions(total_ms=0)).call(service, ctx)
        assert rt.now_ns() == began_ns
        counts(retry, exhausted=1, retries=0, delay_ns=0)

    in_sim(program)


def test_total_time_counts_from_the_first_attempt() -> None:
    def program(rt: SimRuntime) -> None:
        service = Service(rt, *[TimeoutError()] * 99, takes_ns=300 * NS_PER_MS)
        with pytest.raises(RetriesExhausted) as caught:
            Retry(rt, RetryOptions(attempts=99, total_ms=1_000, base_ms=100, max_ms=100, jitter="none")).call(service)
        # begins at 0, 400, 800; the fourth would at 1,200
        assert service.calls == 3
        assert caught.value.waited_ns == 1_100 * NS_PER_MS

    in_sim(program)


def test_a_clock_that_goes_back_ends_nothing_and_prolongs_nothing(shifted: Any) -> None:
    def back() -> None:
        shifted.pass_ms(-500)
        raise TimeoutError

    with pytest.raises(RetriesExhausted) as caught:
        Retry(shifted, RetryOptions(attempts=3, base_ms=0, total_ms=10)).call(back)
    assert (caught.value.attempts, caught.value.waited_ns) == (3, 0)


# -- the context


def test_a_context_that_has_ended_calls_nothing(rt: Runtime) -> None:
    service = Service(rt)
    ctx = PoolContext(rt)
    ctx.cancel()
    with pytest.raises(Cancelled):
        Retry(rt).call(service, ctx)
    with pytest.raises(DeadlineExceeded):
        Retry(rt).call(service, PoolContext.after(rt, 0))
    assert service.calls == 0


def test_cancel_wakes_who_pauses(rt: Runtime, start: Any, until: Any) -> None:
    budget = RetryBudget(rt, 0, 1, 3_600_000)
    retry = Retry(rt, RetryOptions(base_ms=3_000_000, max_ms=3_000_000, total_ms=0, jitter="none"), budget=budget)
    service = Service(rt, ConnectionResetError())
    ctx = PoolContext(rt)
    left = budget.left
    call = start(lambda: retry.call(service, ctx))
    until(lambda: retry.statistics()["retries"] == 1)
    ctx.cancel()
    error = call.failure()
    assert isinstance(error, Cancelled)
    assert isinstance(error.__cause__, ConnectionResetError)
    assert service.calls == 1
    assert budget.left == left
    counts(retry, ended=1, retries=1)


def test_a_context_that_ends_during_the_attempt_ends_the_call(rt: Runtime) -> None:
    ctx = PoolContext(rt)
    retry = Retry(rt, QUICK)

    def cancelled_meanwhile() -> None:
        ctx.cancel()
        raise TimeoutError

    with pytest.raises(Cancelled):
        retry.call(cancelled_meanwhile, ctx)
    counts(retry, ended=1, retries=0)


# -- the budget


def test_a_spent_budget_ends_the_call_before_the_pause() -> None:
    def program(rt: SimRuntime) -> None:
        budget = RetryBudget(rt, 0, 2, 1_000)
        retry = Retry(rt, RetryOptions(attempts=9, base_ms=10, jitter="none"), budget=budget)
        service = Service(rt, *[TimeoutError()] * 9)
        with pytest.raises(BudgetSpent, match=r"gave up after 3 attempts in 30 ms \(retry budget is spent\)"):
            retry.call(service)
        assert service.gaps_ms == [10, 20]
        counts(retry, budget_spent=1, retries=2, exhausted=0)
        assert budget.statistics()["all_first_tries"] == 1

    in_sim(program)


def test_an_outage_is_not_amplified() -> None:
    def program(rt: SimRuntime) -> None:
        budget = RetryBudget(rt, 20, 0, 10_000)
        retry = Retry(rt, RetryOptions(attempts=5, base_ms=1), budget=budget)
        service = Service(rt, *[TimeoutError()] * 10_000)
        for _ in range(1_000):
            with pytest.raises(RetriesExhausted):
                retry.call(service)
        assert 1_150 < service.calls <= 1_200

    in_sim(program)


def test_who_does_not_come_gives_the_retry_back(rt: Runtime) -> None:
    budget = RetryBudget(rt, 0, 1, 1_000)

    def refuse(event: RetryEvent) -> None:
        raise ValueError(event.attempt)

    with pytest.raises(ValueError, match="1"):
        Retry(rt, QUICK, budget=budget, on_retry=refuse).call(Service(rt, TimeoutError()))
    assert budget.left == 1


def test_a_listener_is_told_before_each_pause(rt: Runtime) -> None:
    told: list[RetryEvent] = []
    errors = [ConnectionResetError("one"), hiredis.ReplyError("TRYAGAIN")]
    Retry(rt, QUICK, name="hub", on_retry=told.append, classify=quickly).call(Service(rt, *errors))
    assert [(event.name, event.attempt, event.delay_ns, str(event.error)) for event in told] == [
        ("hub", 1, NS_PER_MS, "one"),
        ("hub", 2, 2 * NS_PER_MS, "TRYAGAIN"),
    ]
    assert told[0].said.error_class is ErrorClass.RECOVERABLE


def test_an_error_is_not_kept_alive_by_the_frames_that_it_holds(rt: Runtime) -> None:
    class Big:
        pass

    def fail() -> None:
        big = Big()
        kept.append(weakref.ref(big))
        raise TimeoutError

    kept: list[Any] = []
    gc.disable()
    try:
        with suppress(RetriesExhausted):
            Retry(rt, RetryOptions(attempts=3, base_ms=0)).call(fail)
        assert [ref() for ref in kept] == [None] * 3
    finally:
        gc.enable()


def test_a_classify_of_the_callers_own(rt: Runtime) -> None:
    def all_again(error: BaseException) -> Classified:
        return Classified(ErrorClass.RECOVERABLE, 0, "why not")

    assert Retry(rt, QUICK, all_again).call(Service(rt, ValueError(), KeyError())) == 3


def test_faults_and_repr(rt: Runtime) -> None:
    with pytest.raises(UnknownFault, match="did you mean 'retry-after-cancel'"):
        Retry(rt, faults=["retry-after-cancle"])
    assert all(sentence.endswith(".") for sentence in RETRY_FAULTS.values())
    assert repr(Retry(rt, name="hub")) == "<Retry 'hub' 4 attempts, 0 calls>"


def test_many_callers_at_once(rt: Runtime) -> None:
    retry = Retry(rt, RetryOptions(attempts=3, base_ms=0), classify=quickly)

    def caller() -> None:
        for number in range(50):
            service = Service(rt, *[TimeoutError()] * (number % 3))
            assert retry.call(service) == number % 3 + 1

    tasks = [rt.spawn(caller, name=f"caller {number}") for number in range(4)]
    for task in tasks:
        task.join()
        assert task.error is None
    counts(retry, calls=200, retries=4 * 49, recovered=4 * 33)


# -- tenacity, where its rules are the same


class VirtualTime:
    """What tenacity asks of the module `time`."""

    def __init__(self, rt: SimRuntime) -> None:
        self.rt = rt

    def monotonic(self) -> float:
        return self.rt.now_ns() / NS_PER_S

    def sleep(self, seconds: float) -> None:
        self.rt.sleep_ns(round(seconds * NS_PER_S))


def calls_of(play: Callable[[SimRuntime, Callable[[], int]], Any], fails: int, takes_ns: int) -> tuple[Any, list[int]]:
    """What came of it, and when the attempts began."""
    sim = SimRuntime()
    service = Service(sim, *[TimeoutError()] * fails, takes_ns=takes_ns)
    results: list[Any] = []

    def program() -> None:
        try:
            results.append(play(sim, service))
        except (RetriesExhausted, tenacity.RetryError):
            results.append("gave up")

    sim.run(program).check()
    return results[0], service.at_ns


@given(
    st.integers(1, 8), st.integers(0, 8), st.integers(0, 50), st.integers(0, 40), st.sampled_from([1.0, 2.0]),
    st.integers(0, 150), st.booleans(),
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_stops_and_pauses_are_tenacitys(
    attempts: int, fails: int, takes_2ms: int, base_2ms: int, factor: float, total_2ms: int, no_delay: bool
) -> None:
    """Of times that are even, an odd total is never met to the nanosecond, where rounding would decide."""
    takes_ms, base_ms, total_ms = 2 * takes_2ms, 0 if no_delay else 2 * base_2ms, 2 * total_2ms + 1
    options = RetryOptions(attempts, total_ms, base_ms, factor, max_ms=base_ms + 100, jitter="none")

    def ours(sim: SimRuntime, service: Callable[[], int]) -> Any:
        return Retry(sim, options, quickly).call(service)

    def oracle(sim: SimRuntime, service: Callable[[], int]) -> Any:
        time = VirtualTime(sim)
        # Without delays the two ways to count time are one: whether the pause to come is in it.
        by_time = tenacity.stop_after_delay if no_delay else tenacity.stop_before_delay
        retrying = tenacity.Retrying(
            sleep=time.sleep,
            stop=tenacity.stop_after_attempt(attempts) | by_time(total_ms / 1000),
            wait=tenacity.wait_exponential(base_ms / 1000, (base_ms + 100) / 1000, factor),
            retry=tenacity.retry_if_exception_type(TimeoutError),
        )
        with mock.patch("tenacity.time", SimpleNamespace(monotonic=time.monotonic)):
            return retrying(service)

    assert calls_of(ours, fails, takes_ms * NS_PER_MS) == calls_of(oracle, fails, takes_ms * NS_PER_MS)


# -- searches


def subject(*faults: str) -> ProgramSubject:
    return ProgramSubject(lambda rt: cancel_at_the_end_of_a_pause(rt, frozenset(faults)), "cancel-vs-pause")


@pytest.mark.parametrize("fault", RETRY_FAULTS)
def test_the_search_finds_each_fault(fault: str) -> None:
    for failure in failures_found(subject(fault), fault, length=60):
        assert {RETRY_AFTER_CANCEL: "R2", CANCEL_KEEPS_GRANT: "R1"}[fault] in str(failure)


@pytest.mark.parametrize("strategy", ["random", "pct3", "pos"])
def test_the_mended_form_survives(strategy: str) -> None:
    check_survives(subject(), strategy, 300)


def test_the_mended_form_survives_every_class_of_orders() -> None:
    every = exhaust(subject())
    assert every.complete
    assert set(every.verdicts) == {PASSED}
    assert every.runs > 2


def test_the_mended_form_on_threads(rt_threads: Runtime) -> None:
    for _ in range(5):
        cancel_at_the_end_of_a_pause(rt_threads, frozenset())
