"""Limiters and bulkhead against simple models, step by step in virtual time, by hypothesis: who is served when.

Every step happens at a time of its own residue, so that nothing that is due falls on another step or deadline: the
model need not know about ties.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import ceil
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from coordemu.pool.pool_context import PoolContext
from coordemu.pool.pool_errors import Cancelled
from coordemu.resilience.bulkhead import Bulkhead
from coordemu.resilience.resilience_errors import BulkheadFull, RateLimited
from coordemu.resilience.sliding_log import SlidingLog
from coordemu.resilience.token_bucket import TokenBucket
from coordemu.runtime.base import NS_PER_MS
from coordemu.runtime.sim import SimRuntime
from coordemu.runtime.sim_schedule import make_strategy

LATE_NS = 500_000
SERVED, REFUSED, CANCELLED = "served", "refused", "cancelled"


class BucketModel:
    """Tokens as a fraction, and when they were so many."""

    def __init__(self, now_ns: int, units: int, unit_ms: int) -> None:
        self.most = units
        self.per_ns = Fraction(1, unit_ms * NS_PER_MS)
        self.level = Fraction(units)
        self.at_ns = now_ns

    def _settle(self, now_ns: int) -> None:
        self.level = min(Fraction(self.most), self.level + self.per_ns * (now_ns - self.at_ns))
        self.at_ns = now_ns

    def due(self, n: int, now_ns: int) -> int:
        self._settle(now_ns)
        return max(0, ceil((n - self.level) / self.per_ns))

    def take(self, n: int, now_ns: int) -> None:
        assert self.due(n, now_ns) == 0
        self.level -= n


class LogModel:
    """When each unit was taken."""

    def __init__(self, now_ns: int, units: int, window_ms: int) -> None:
        self.most = units
        self.window_ns = window_ms * NS_PER_MS
        self.taken_ns: list[int] = []

    def due(self, n: int, now_ns: int) -> int:
        for at_ns in [now_ns, *(taken_ns + self.window_ns for taken_ns in self.taken_ns)]:
            used = sum(taken_ns > at_ns - self.window_ns for taken_ns in self.taken_ns)
            if at_ns >= now_ns and used + n <= self.most:
                return at_ns - now_ns
        raise AssertionError("never due")

    def take(self, n: int, now_ns: int) -> None:
        assert self.due(n, now_ns) == 0
        self.taken_ns += [now_ns] * n


class PermitModel:
    """Free permits. Nothing is due by time."""

    NEVER_NS = 10**18

    def __init__(self, limit: int) -> None:
        self.free = limit

    def due(self, n: int, now_ns: int) -> int:
        return 0 if self.free else self.NEVER_NS

    def take(self, n: int, now_ns: int) -> None:
        self.free -= 1
        assert self.free >= 0


class Ask:
    """A caller: what it asked for, and what the model says of it."""

    def __init__(self, number: int, n: int, deadline_ns: int | None) -> None:
        self.number = number
        self.n = n
        self.deadline_ns = deadline_ns
        self.outcome: tuple[str, int] | None = None


class LineModel:
    """First come, first served."""

    def __init__(self, units: Any, max_waiting: int, now_ns: int) -> None:
        self.units = units
        self.max_waiting = max_waiting
        self.now_ns = now_ns
        self.line: list[Ask] = []

    def advance(self, to_ns: int) -> None:
        while self.line:
            due_ns = self.now_ns + self.units.due(self.line[0].n, self.now_ns)
            first = min(self.line, key=lambda ask: ask.deadline_ns or 10**30)
            ends_ns = first.deadline_ns or 10**30
            if min(due_ns, ends_ns) > to_ns:
                break
            if due_ns < ends_ns:
                first = self.line[0]
                self.units.take(first.n, due_ns)
            self.now_ns = min(due_ns, ends_ns)
            first.outcome = (SERVED if due_ns < ends_ns else REFUSED, self.now_ns)
            self.line.remove(first)
        self.now_ns = to_ns

    def ask(self, ask: Ask, hopeless: bool) -> None:
        if not self.line and self.units.due(ask.n, self.now_ns) == 0:
            self.units.take(ask.n, self.now_ns)
            ask.outcome = (SERVED, self.now_ns)
        elif hopeless or 0 < self.max_waiting <= len(self.line):
            ask.outcome = (REFUSED, self.now_ns)
        else:
            self.line.append(ask)

    def cancel(self, ask: Ask) -> None:
        if ask in self.line:
            self.line.remove(ask)
            ask.outcome = (CANCELLED, self.now_ns)


class Machine(RuleBasedStateMachine):
    """What both have in common: the simulator in steps, callers as tasks of it, and the comparison."""

    def prepare(self, seed: int) -> None:
        self.sim = SimRuntime(make_strategy("random", seed))
        self.asks: list[tuple[Ask, PoolContext]] = []
        self.outcomes: dict[int, tuple[str, int]] = {}
        self.model: LineModel

    def step(self, wait_ms: int, action: Callable[[], Any]) -> Any:
        """Let time pass, compare, and act."""
        answers = []

        def main() -> None:
            self.sim.sleep_ns(wait_ms * NS_PER_MS + 1)
            self.model.advance(self.sim.now_ns())
            self.compare()
            answers.append(action())

        self.sim.run(main, wait_for_all=False).check()
        return answers[0]

    def compare(self) -> None:
        assert self.outcomes == {ask.number: ask.outcome for ask, _ in self.asks if ask.outcome is not None}
        assert self.subject.waiting == len(self.model.line)
        assert self.subject.broken_rules() == []

    def start(self, ask: Ask, call: Callable[[PoolContext], int]) -> None:
        ctx = PoolContext(self.sim)
        self.asks.append((ask, ctx))

        def caller() -> None:
            began_ns = self.sim.now_ns()
            try:
                how, waited_ns = SERVED, call(ctx)
            except (RateLimited, BulkheadFull) as error:
                how, waited_ns = REFUSED, error.waited_ns
            except Cancelled:
                how, waited_ns = CANCELLED, self.sim.now_ns() - began_ns
            assert waited_ns == self.sim.now_ns() - began_ns
            self.outcomes[ask.number] = (how, self.sim.now_ns())

        self.sim.spawn(caller, name=f"caller {ask.number}")

    def limit_ns(self, limit_ms: int | None) -> int | None:
        return limit_ms and limit_ms * NS_PER_MS + LATE_NS

    @precondition(lambda self: self.model.line)
    @rule(wait_ms=st.integers(0, 3), data=st.data())
    def cancel(self, wait_ms: int, data: Any) -> None:
        waiting = [(ask, ctx) for ask, ctx in self.asks if ask.outcome is None]
        ask, ctx = data.draw(st.sampled_from(waiting), label="who")

        def act() -> None:
            self.model.cancel(ask)
            ctx.cancel()

        self.step(wait_ms, act)

    @rule(wait_ms=st.integers(0, 12))
    def wait(self, wait_ms: int) -> None:
        self.step(wait_ms, lambda: None)

    def teardown(self) -> None:
        if not hasattr(self, "model"):
            return

        def act() -> None:
            for ask, ctx in self.asks:
                if ask.outcome is None:
                    self.model.cancel(ask)
                    ctx.cancel()

        self.step(0, act)
        self.step(0, lambda: None)
        assert not self.model.line
        self.sim.finish().check()


class LimiterMachine(Machine):
    """Token bucket or sliding log."""

    @initialize(
        kind=st.sampled_from(["bucket", "log"]),
        units=st.integers(1, 4),
        unit_ms=st.integers(1, 5),
        max_waiting=st.sampled_from([0, 0, 1, 2]),
        seed=st.integers(0, 99),
    )
    def begin(self, kind: str, units: int, unit_ms: int, max_waiting: int, seed: int) -> None:
        self.prepare(seed)
        self.units = units
        if kind == "bucket":
            rate = Fraction(1000, unit_ms)
            self.subject: Any = TokenBucket(self.sim, rate, units, "limiter", max_waiting)
            model: Any = BucketModel(self.sim.now_ns(), units, unit_ms)
        else:
            self.subject = SlidingLog(self.sim, units, unit_ms, "limiter", max_waiting)
            model = LogModel(self.sim.now_ns(), units, unit_ms)
        self.model = LineModel(model, max_waiting, self.sim.now_ns())

    @rule(wait_ms=st.integers(0, 3), share=st.integers(0, 3), limit_ms=st.sampled_from([None, None, 0, 1, 3, 9]))
    def ask(self, wait_ms: int, share: int, limit_ms: int | None) -> None:
        n = 1 + share % self.units

        def act() -> None:
            limit_ns, now_ns = self.limit_ns(limit_ms), self.sim.now_ns()
            ask = Ask(len(self.asks), n, limit_ns and now_ns + limit_ns)
            hopeless = limit_ns is not None and (limit_ns == 0 or limit_ns < self.model.units.due(n, now_ns))
            self.model.ask(ask, hopeless)
            self.start(ask, lambda ctx: self.subject.acquire(n, limit_ns, ctx))

        self.step(wait_ms, act)

    @rule(wait_ms=st.integers(0, 3), share=st.integers(0, 3))
    def attempt(self, wait_ms: int, share: int) -> None:
        n = 1 + share % self.units

        def act() -> tuple[bool, bool]:
            ask = Ask(-1, n, None)
            self.model.ask(ask, hopeless=True)
            return self.subject.try_acquire(n), ask.outcome == (SERVED, self.sim.now_ns())

        got, expected = self.step(wait_ms, act)
        assert got == expected


class BulkheadMachine(Machine):
    """A bulkhead."""

    @initialize(limit=st.integers(1, 3), max_waiting=st.sampled_from([0, 0, 1, 2]), seed=st.integers(0, 99))
    def begin(self, limit: int, max_waiting: int, seed: int) -> None:
        self.prepare(seed)
        self.subject = Bulkhead(self.sim, limit, "bulkhead", max_waiting)
        self.permits = PermitModel(limit)
        self.model = LineModel(self.permits, max_waiting, self.sim.now_ns())

    @rule(wait_ms=st.integers(0, 3), limit_ms=st.sampled_from([None, None, 0, 1, 3, 9]))
    def ask(self, wait_ms: int, limit_ms: int | None) -> None:
        def act() -> None:
            limit_ns = self.limit_ns(limit_ms)
            ask = Ask(len(self.asks), 1, limit_ns and self.sim.now_ns() + limit_ns)
            self.model.ask(ask, hopeless=limit_ns == 0)
            self.start(ask, lambda ctx: self.subject.acquire(limit_ns, ctx))

        self.step(wait_ms, act)

    @rule(wait_ms=st.integers(0, 3))
    def attempt(self, wait_ms: int) -> None:
        def act() -> tuple[bool, bool]:
            ask = Ask(-1, 1, None)
            self.model.ask(ask, hopeless=True)
            return self.subject.try_acquire(), ask.outcome == (SERVED, self.sim.now_ns())

        got, expected = self.step(wait_ms, act)
        assert got == expected

    @rule(wait_ms=st.integers(0, 3))
    def release(self, wait_ms: int) -> None:
        def act() -> None:
            if self.permits.free < self.subject.limit:
                self.permits.free += 1
                self.model.advance(self.sim.now_ns())
                self.subject.release()

        self.step(wait_ms, act)

    def compare(self) -> None:
        super().compare()
        assert self.subject.held == self.subject.limit - self.permits.free


STEPS = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestLimiter = LimiterMachine.TestCase
TestLimiter.settings = STEPS
TestBulkhead = BulkheadMachine.TestCase
TestBulkhead.settings = STEPS
