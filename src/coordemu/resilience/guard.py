"""Guard: breaker, limiter, bulkhead and retry around any callable, in one order.

    retry  >  breaker  >  limiter  >  bulkhead  >  the call

Role: what an application calls its services through. Any of the layers may be missing. The order, from outside:

    retry     is outermost, so that each attempt passes all the others: the breaker sees attempts, not calls, and a
              service that it has given up gets no attempts. Each retry is granted by the budget, whoever refused.
    breaker   comes before the lines: while it is open nobody stands in one, and no token is spent.
    limiter   comes before the bulkhead: who waits for a token takes no slot from who has one.
    bulkhead  is innermost: a slot is held for as long as the call takes, and no longer.

What a refusal means to the layers outside of it:

    bulkhead  BulkheadFull: the token is spent (the rate stays below its limit). To the breaker it is nothing: the
              permit is given back and no result is counted. To the retry it is back-pressure.
    limiter   RateLimited: likewise; the retry waits for as long as the limiter says.
    breaker   BreakerOpen: to the retry it is back-pressure; it waits for as long as the breaker says, if total_ms and
              the caller's deadline leave room for that, and gives up at once otherwise.
    budget    BudgetSpent, attempts or time RetriesExhausted: to the caller, with the last error as the cause.

What is counted for the breaker is what came of the call itself: its return is a success; an error is a failure, if what
`classify` says of it `counts` (the breaker's own rule is not asked), and is ignored otherwise; Cancelled, and what is
no Exception, give the permit back. However an attempt ends, slot and permit are back when it has.

A time limit is one of the attempt, lines included. It goes down as the deadline of a context of the attempt's own,
which the caller's context ends as well. What the limit ended is TimeLimited, whatever was under way: in a line it is
back-pressure, in the call a failure of which nobody knows whether it was carried out. Only who is given the context
(`call_with_context`) can be ended by it; where the function takes none, the limit bounds the lines alone.

Thread: any number of callers; no lock is held while the function runs. May block: in the lines, in the function, and
for the retry's delays. Upstream: resilience4j's Decorators and Polly's pipelines, whose order is the user's. Left out:
fallbacks; results that count as failures. Bounds: those of the layers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Protocol, TypeVar

from coordemu.pool.pool_context import Alarm, PoolContext, check
from coordemu.pool.pool_errors import Cancelled, DeadlineExceeded, PoolError
from coordemu.resilience.breaker_options import BreakerOptions
from coordemu.resilience.error_class import Classify, classify
from coordemu.resilience.resilience_errors import TimeLimited, check_faults
from coordemu.resilience.retry import Retry
from coordemu.runtime.base import NS_PER_MS, Runtime

T = TypeVar("T")

BREAKER, LIMITER, BULKHEAD, CALL = "breaker", "limiter", "bulkhead", "call"
FAILED, IGNORED, CANCELLED = "failed", "ignored", "cancelled"
COUNTED = (FAILED, IGNORED, CANCELLED, "breaker_refused", "limiter_refused", "bulkhead_refused", "time_limited")

REFUSAL_KEEPS_PERMIT = "refusal-keeps-permit"
REFUSAL_COUNTS = "refusal-counts"

GUARD_FAULTS: Mapping[str, str] = MappingProxyType({
    REFUSAL_KEEPS_PERMIT: "Who is refused in a line, or cancelled there, keeps the breaker's permit: a half-open "
    "breaker waits for the result of a probe that was never made.",
    REFUSAL_COUNTS: "A refusal by a line of our own counts as a failure of what was to be called: our own limits open "
    "the breaker of a service that is well.",
})  # fmt: skip


class PermitLike(Protocol):
    """What a guard needs of a breaker's permit (`breaker_permit.Permit`)."""

    def success(self, duration_ns: int | None = None) -> bool: ...
    def failure(self, error: BaseException | None = None, duration_ns: int | None = None) -> bool: ...
    def ignore(self) -> bool: ...
    def cancel(self) -> bool: ...


class BreakerLike(Protocol):
    """What a guard needs of a breaker (`CircuitBreaker`)."""

    @property
    def options(self) -> BreakerOptions: ...
    def acquire(self) -> PermitLike: ...


class LimiterLike(Protocol):
    """What a guard needs of a limiter (`TokenBucket`, `SlidingLog`)."""

    def acquire(self, n: int = 1, timeout_ns: int | None = None, ctx: PoolContext | None = None) -> object: ...


class BulkheadLike(Protocol):
    """What a guard needs of a bulkhead (`Bulkhead`)."""

    def acquire(self, timeout_ns: int | None = None, ctx: PoolContext | None = None) -> object: ...
    def release(self) -> None: ...


class AttemptContext(PoolContext):
    """The context of one attempt: ends with its own deadline, by its own `cancel`, and with its caller's context.

    outer: the caller's; None: it has none.  limit_ns: of the attempt, above 0.
    """

    def __init__(self, rt: Runtime, limit_ns: int, outer: PoolContext | None, name: str = "attempt") -> None:
        self.limit_ns = limit_ns
        self.limit_at_ns = rt.now_ns() + limit_ns
        self.outer = outer
        limits = [self.limit_at_ns]
        if outer is not None and outer.deadline_ns is not None:
            limits.append(outer.deadline_ns)
        super().__init__(rt, min(limits), name)

    def error(self) -> PoolError | None:
        """Why it has ended: what the caller's says, if anything; Cancelled or DeadlineExceeded of its own; or None."""
        ended = self.outer.error() if self.outer is not None else None
        return ended if ended is not None else super().error()

    def attach(self, event: Alarm) -> None:
        """Set `event` when this or the caller's is cancelled; at once when one was. Thread: any."""
        super().attach(event)
        if self.outer is not None:
            self.outer.attach(event)

    def detach(self, event: Alarm) -> None:
        """Forget it again. Thread: any."""
        super().detach(event)
        if self.outer is not None:
            self.outer.detach(event)

    @property
    def limited(self) -> bool:
        """Whether it is the attempt's limit that has ended it, and not its caller."""
        if self.outer is not None and self.outer.error() is not None:
            return False
        return isinstance(super().error(), DeadlineExceeded)


class Guard:
    """The layers around what is called. Those that are None are missing.

    time_limit_ms: of one attempt, 0: none.  limiter_wait_ms, bulkhead_wait_ms: how long to stand in that line at most;
    None: as long as the contexts allow; 0: not at all.  classify: what an error means, to the breaker here; the retry
    has its own.  faults: of GUARD_FAULTS. Raises ValueError for times below 0.
    """

    def __init__(
        self,
        rt: Runtime,
        retry: Retry | None = None,
        breaker: BreakerLike | None = None,
        limiter: LimiterLike | None = None,
        bulkhead: BulkheadLike | None = None,
        time_limit_ms: int = 0,
        limiter_wait_ms: int | None = None,
        bulkhead_wait_ms: int | None = None,
        classify: Classify = classify,
        name: str = "guard",
        faults: Collection[str] = (),
    ) -> None:
        if min(time_limit_ms, limiter_wait_ms or 0, bulkhead_wait_ms or 0) < 0:
            raise ValueError(f"{name}: {time_limit_ms=}, {limiter_wait_ms=}, {bulkhead_wait_ms=}")
        self.name = name
        self.retry = retry
        self.breaker = breaker
        self.limiter = limiter
        self.bulkhead = bulkhead
        self.time_limit_ms = time_limit_ms
        self.faults = check_faults(faults, GUARD_FAULTS, name)
        self._rt = rt
        self._limit_ns = time_limit_ms * NS_PER_MS
        self._limiter_wait_ns = None if limiter_wait_ms is None else limiter_wait_ms * NS_PER_MS
        self._bulkhead_wait_ns = None if bulkhead_wait_ms is None else bulkhead_wait_ms * NS_PER_MS
        # Only where a slow call matters, and lines lie between the permit and the call, is the call measured here.
        lines = limiter is not None or bulkhead is not None
        self._timed = breaker is not None and breaker.options.slow_call_ms > 0 and lines
        self._classify = classify
        self._lock = rt.lock(name)
        self._passed = 0
        self._counts = dict.fromkeys(COUNTED, 0)

    # -- calling

    def call(self, function: Callable[[], T], ctx: PoolContext | None = None) -> T:
        """What the function returns.

        Raises what it raised, and what the module's docstring says of the layers; Cancelled or DeadlineExceeded, when
        the caller's context has ended. Thread: any. Blocks.
        """
        retry = self.retry
        if not self._limit_ns:
            if retry is None:
                return self._attempt(function, ctx)
            return retry.call(lambda: self._attempt(function, ctx), ctx)
        return self.call_with_context(lambda _: function(), ctx)

    def call_with_context(self, function: Callable[[PoolContext | None], T], ctx: PoolContext | None = None) -> T:
        """As `call`, for a function that takes the context of its attempt: with a time limit an `AttemptContext` of
        its own, without one the caller's. Thread: any. Blocks."""
        if self.retry is None:
            return self._attempt_in_context(function, ctx)
        return self.retry.call(lambda: self._attempt_in_context(function, ctx), ctx)

    def _attempt_in_context(self, function: Callable[[PoolContext | None], T], ctx: PoolContext | None) -> T:
        inner = AttemptContext(self._rt, self._limit_ns, ctx) if self._limit_ns else ctx
        return self._attempt(lambda: function(inner), inner)

    def _attempt(self, function: Callable[[], T], ctx: PoolContext | None) -> T:
        """One attempt: through the lines, and the call. Whatever is raised, slot and permit are back."""
        if ctx is not None:
            check(ctx)
        where, began_ns = BREAKER, 0
        permit: PermitLike | None = None
        try:
            if self.breaker is not None:
                permit = self.breaker.acquire()
            where = LIMITER
            if self.limiter is not None:
                self.limiter.acquire(1, self._limiter_wait_ns, ctx)
            where = BULKHEAD
            bulkhead = self.bulkhead
            if bulkhead is not None:
                bulkhead.acquire(self._bulkhead_wait_ns, ctx)
            where = CALL
            try:
                if self._timed:
                    began_ns = self._rt.now_ns()
                value = function()
            finally:
                if bulkhead is not None:
                    bulkhead.release()
        except BaseException as error:
            over = self._time_limited(error, where, ctx)
            try:
                self._settle(permit, over or error, where, began_ns)
                if over is not None:
                    raise over from error
                raise
            finally:
                # An error holds the frames that it came through, and this one would hold it.
                del over
        self._passed += 1
        if permit is not None:
            permit.success(self._took_ns(began_ns) if self._timed else None)
        return value

    def _took_ns(self, began_ns: int) -> int:
        return max(0, self._rt.now_ns() - began_ns)

    # -- what an error means

    def _time_limited(self, error: BaseException, where: str, ctx: PoolContext | None) -> TimeLimited | None:
        """What goes out instead, when it is the attempt's own limit that has ended it."""
        if isinstance(error, DeadlineExceeded) and isinstance(ctx, AttemptContext) and ctx.limited:
            return TimeLimited(self.name, ctx.limit_ns, where)
        return None

    def _settle(self, permit: PermitLike | None, error: BaseException, where: str, began_ns: int) -> None:
        """Give the permit back, with what it counts for; also when the user's own `classify` raises."""
        outcome = IGNORED
        try:
            outcome = self._outcome(error, where)
        finally:
            self._count(outcome, error, where)
            if permit is not None and not (where != CALL and REFUSAL_KEEPS_PERMIT in self.faults):
                self._give_back(permit, outcome, error, began_ns)

    def _count(self, outcome: str, error: BaseException, where: str) -> None:
        end = outcome if where == CALL or outcome == CANCELLED else f"{where}_refused"
        with self._lock:
            self._counts[end] += 1
            self._counts["time_limited"] += isinstance(error, TimeLimited)

    def _outcome(self, error: BaseException, where: str) -> str:
        if isinstance(error, Cancelled) or not isinstance(error, Exception):
            return CANCELLED
        if where != CALL:
            return FAILED if REFUSAL_COUNTS in self.faults else IGNORED
        return FAILED if self._classify(error).counts else IGNORED

    def _give_back(self, permit: PermitLike, outcome: str, error: BaseException, began_ns: int) -> None:
        if outcome == FAILED:
            permit.failure(error, self._took_ns(began_ns) if self._timed and began_ns else None)
        elif outcome == CANCELLED:
            permit.cancel()
        else:
            permit.ignore()

    # -- looks

    def statistics(self) -> dict[str, int]:
        """Of attempts since the start, by their ends. The function ran: passed, failed (the breaker counts it), ignored
        (it does not). It did not: breaker_refused, limiter_refused, bulkhead_refused (whatever they raised). Either:
        cancelled. Among them: time_limited. Thread: any."""
        with self._lock:
            return {"passed": self._passed, **self._counts}

    def __repr__(self) -> str:
        layers = [each for each in (self.retry, self.breaker, self.limiter, self.bulkhead) if each is not None]
        return f"<Guard {self.name!r} {' > '.join(map(repr, layers)) or 'nothing'}>"
