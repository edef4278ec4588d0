"""Retry: call a function again when its error says that it may go well the next time.

Role: the outermost layer of a `Guard`, or alone around any callable. After a failed attempt these are asked in order,
and the first that says no ends the call:

    1. the error's class            PERMANENT (or unanswered, where the options forbid that): the error itself is raised
    2. attempts                     RetriesExhausted
    3. the caller's context         Cancelled or DeadlineExceeded, if it has ended during the attempt
    4. total_ms, context's deadline RetriesExhausted at once, if the next attempt would not begin before
    5. the budget                   BudgetSpent

Then the caller pauses, for the delay that `retry_policy` makes of the back-off and of what the error says. A cancelled
context wakes it; the retry that it was granted is given back to the budget then, and Cancelled is raised. Whether the
context has ended is asked once more after the pause, with nothing between that and the attempt: once `cancel` has
returned, no attempt begins.

The error of the last attempt is the cause of what is raised. What is no Exception (KeyboardInterrupt, the end of a
simulated task) passes through.

Where nothing fails this costs a look at the clock, a count and the budget's entry: no lock, no object. The counter is a
plain one; see `retry_budget` for what two threads can do to such a count at most.

Thread: any number of callers; a pause blocks its own. No lock is held while the function or a listener runs. Upstream:
the loop of tenacity and resilience4j's Retry. Left out: retries because of a result; hedging. Bounds: `attempts`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

from coordemu.pool.pool_context import PoolContext, check, pause
from coordemu.resilience.error_class import Classified, Classify, ErrorClass, classify
from coordemu.resilience.resilience_errors import BudgetSpent, RetriesExhausted, check_faults
from coordemu.resilience.retry_budget import RetryBudget
from coordemu.resilience.retry_policy import RetryOptions, backoff_ns, with_suggestion
from coordemu.runtime.base import NS_PER_MS, Runtime

T = TypeVar("T")

RETRY_AFTER_CANCEL = "retry-after-cancel"
CANCEL_KEEPS_GRANT = "cancel-keeps-grant"

RETRY_FAULTS: Mapping[str, str] = MappingProxyType({
    RETRY_AFTER_CANCEL: "Whether the pause was cut short is asked of the pause alone: a caller who is cancelled just "
    "when the time is over makes another attempt.",
    CANCEL_KEEPS_GRANT: "A caller who is cancelled in a pause keeps the retry that the budget granted: the budget is "
    "drained by calls that were never made.",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class RetryEvent:
    """One attempt has failed, and another follows. name: of the retry.  attempt: that failed, 1 or more.  delay_ns:
    until the next.  error: what it raised.  said: what its class says."""

    name: str
    attempt: int
    delay_ns: int
    error: Exception
    said: Classified


class _Course:
    """One call that did not go well at once."""

    __slots__ = ("attempt", "backoff_ns", "began_ns", "ctx", "error")

    def __init__(self, ctx: PoolContext | None, began_ns: int, error: Exception) -> None:
        self.ctx = ctx
        self.began_ns = began_ns
        self.error = error
        self.attempt = 1
        self.backoff_ns = 0

    def waited_ns(self, now_ns: int) -> int:
        """Since the first attempt began; 0 for a clock that went back."""
        return max(0, now_ns - self.began_ns)


class Retry:
    """A retry. classify: what an error means.  budget: shared by all who call the same service; None: no bound.
    on_retry: told before each pause, in the caller's thread; what it raises ends the call.  faults: of RETRY_FAULTS."""

    def __init__(
        self,
        rt: Runtime,
        options: RetryOptions | None = None,
        classify: Classify = classify,
        budget: RetryBudget | None = None,
        name: str = "retry",
        on_retry: Callable[[RetryEvent], object] | None = None,
        faults: Collection[str] = (),
    ) -> None:
        self.name = name
        self.options = options or RetryOptions()
        self.budget = budget
        self.faults = check_faults(faults, RETRY_FAULTS, name)
        self._rt = rt
        self._now_ns = rt.now_ns
        self._first = None if budget is None else budget.first
        self._classify = classify
        self._on_retry = on_retry
        self._lock = rt.lock(name)
        self._calls = 0
        self._counts = dict.fromkeys(
            ("retries", "recovered", "permanent", "exhausted", "budget_spent", "ended", "delay_ns"), 0
        )
        self._classes = dict.fromkeys(ErrorClass, 0)

    def call(self, function: Callable[[], T], ctx: PoolContext | None = None) -> T:
        """What the function returns, after as many attempts as it takes.

        Raises what the function raised (permanent errors), RetriesExhausted, BudgetSpent, Cancelled, DeadlineExceeded
        (the context; before the first attempt, too). Thread: any. Blocks as the function does, and for the delays.
        """
        if ctx is not None:
            check(ctx)
        self._calls += 1
        if self._first is not None:
            self._first()
        began_ns = self._now_ns()
        try:
            return function()
        except Exception as error:
            course = _Course(ctx, began_ns, error)
        try:
            return self._again(function, course)
        finally:
            # An error holds the frames that it came through, and they would hold the error.
            del course.error

    def _again(self, function: Callable[[], T], course: _Course) -> T:
        while True:
            said = self._classify(course.error)
            self._count_error(said)
            self._stop_by_class(said, course)
            self._stop_by_number(course)
            self._stop_by_context(course)
            delay_ns = self._delay_ns(said, course)
            self._stop_by_time(delay_ns, course)
            self._wait(RetryEvent(self.name, course.attempt, delay_ns, course.error, said), course)
            course.attempt += 1
            try:
                result = function()
            except Exception as caught:
                course.error = caught
            else:
                self._count("recovered")
                return result

    def _delay_ns(self, said: Classified, course: _Course) -> int:
        random = self._rt.random
        course.backoff_ns = backoff_ns(self.options, course.attempt, course.backoff_ns, random)
        return with_suggestion(self.options, course.backoff_ns, said.delay_ns, said.told, random)

    # -- what ends a call

    def _stop_by_class(self, said: Classified, course: _Course) -> None:
        if not said.again or (said.unanswered and not self.options.unanswered):
            self._count("permanent")
            raise course.error

    def _stop_by_number(self, course: _Course) -> None:
        if course.attempt >= self.options.attempts:
            raise self._exhausted(course, "that is as often as it may be tried")

    def _stop_by_context(self, course: _Course) -> None:
        ended = course.ctx.error() if course.ctx is not None else None
        if ended is not None:
            self._count("ended")
            raise ended from course.error

    def _stop_by_time(self, delay_ns: int, course: _Course) -> None:
        now_ns = self._now_ns()
        total_ms, ctx = self.options.total_ms, course.ctx
        if total_ms and course.waited_ns(now_ns) + delay_ns >= total_ms * NS_PER_MS:
            raise self._exhausted(course, f"another attempt would begin after {total_ms} ms")
        if ctx is not None and ctx.deadline_ns is not None and now_ns + delay_ns >= ctx.deadline_ns:
            raise self._exhausted(course, "another attempt would begin after the caller's deadline")

    def _exhausted(self, course: _Course, why: str) -> RetriesExhausted:
        self._count("exhausted")
        error = RetriesExhausted(course.attempt, course.waited_ns(self._now_ns()), course.error, why)
        error.__cause__ = course.error
        return error

    # -- the pause

    def _wait(self, event: RetryEvent, course: _Course) -> None:
        """Have the retry granted, and pause. Raises, and gives it back, when the caller does not come to make it."""
        budget, grant = self.budget, None
        if budget is not None:
            grant = budget.take()
            if grant is None:
                self._count("budget_spent")
                waited_ns = course.waited_ns(self._now_ns())
                raise BudgetSpent(course.attempt, waited_ns, course.error, f"{budget.name} is spent") from course.error
        try:
            if self._on_retry is not None:
                self._on_retry(event)
            self._count_retry(event.delay_ns)
            if RETRY_AFTER_CANCEL in self.faults and course.ctx is not None:
                self._pause_and_go_on(event.delay_ns, course.ctx)
            elif not pause(self._rt, event.delay_ns, course.ctx, f"the next attempt of {self.name}"):
                self._stop_by_context(course)
        except BaseException:
            if budget is not None and grant is not None and CANCEL_KEEPS_GRANT not in self.faults:
                budget.give_back(grant)
            raise

    def _pause_and_go_on(self, delay_ns: int, ctx: PoolContext) -> None:
        """The faulty form: woken by the time, it does not look at the context again."""
        event = self._rt.event("the next attempt", owed_by=lambda: ("the time",))
        ctx.attach(event)
        woken = event.wait(delay_ns)
        ctx.detach(event)
        if woken:
            check(ctx)

    # -- counting

    def _count(self, what: str) -> None:
        with self._lock:
            self._counts[what] += 1

    def _count_error(self, said: Classified) -> None:
        with self._lock:
            self._classes[said.error_class] += 1

    def _count_retry(self, delay_ns: int) -> None:
        with self._lock:
            self._counts["retries"] += 1
            self._counts["delay_ns"] += delay_ns

    def statistics(self) -> dict[str, int]:
        """Since the start. calls; errors of attempts by class: recoverable, permanent_errors, back_pressure; retries
        (that were granted), delay_ns (what they were to wait); and how calls ended that did not go well at once:
        recovered, permanent, exhausted, budget_spent, ended (by the context). Thread: any."""
        with self._lock:
            return {
                "calls": self._calls,
                **self._counts,
                "recoverable": self._classes[ErrorClass.RECOVERABLE],
                "permanent_errors": self._classes[ErrorClass.PERMANENT],
                "back_pressure": self._classes[ErrorClass.BACK_PRESSURE],
            }

    def __repr__(self) -> str:
        return f"<Retry {self.name!r} {self.options.attempts} attempts, {self._calls} calls>"
