"""Resilience: what breaker, rate limiter and bulkhead cost around a call that does nothing; 12 threads at once.

Role: everything here lets every call through, which is what nearly every call of a healthy program meets. Ours: the
three through `Guard`, by hand, each alone; beside them pybreaker, tenacity and pyrate-limiter (the cheaper of its two
kinds), each alone, one inside the other, and the sum of the three in the same round. They do not do the same things:
tenacity is a retry, which our guard is measured with, too; none of them is a bulkhead; pybreaker holds its lock across
the call.

Then 12 threads call at once, sharing one guard, beside one thread. Only one of them can run Python at a time, so the
best that 12 can do is what one does; what is measured is what they lose to each other. Processor time per call tells
that apart from what the machine gives to others. The sliding log and pybreaker hold a lock over calls: a thread that is
interrupted there makes the others queue.

Thread: the caller's, and 12 of its own. Upstream: none. Left out: calls that fail or are refused (but for one table),
free-threaded Python, where the fast paths would have to be looked at again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from threading import Barrier, Thread
from typing import Any

import pybreaker
import pyrate_limiter
import tenacity

from bench.measure import (
    NS,
    PER_S,
    Case,
    CaseResult,
    Contender,
    Effort,
    Progress,
    Report,
    Row,
    cost_ns,
    run_case,
    silent,
    tabulate,
)
from coordemu.pool.turns import Turns
from coordemu.resilience.bulkhead import Bulkhead
from coordemu.resilience.circuit_breaker import CircuitBreaker
from coordemu.resilience.guard import Guard
from coordemu.resilience.resilience_errors import ResilienceError
from coordemu.resilience.retry import Retry
from coordemu.resilience.sliding_log import SlidingLog
from coordemu.resilience.token_bucket import TokenBucket
from coordemu.runtime.threads import ThreadsRuntime

THREADS = 12
# Nobody is refused: a billion calls a second.
PLENTY = 1_000_000_000
GOAL_NS, GOAL_TIMES = 2_000, 5

NOTHING = "the call alone"
GUARD = "Guard: breaker, limiter, bulkhead"
GUARD_RETRY = "Guard: retry, breaker, limiter, bulkhead"
BY_HAND = "the three by hand"
BREAKER, TENACITY, LIMITER = "pybreaker", "tenacity", "pyrate-limiter"
NESTED = "pybreaker, tenacity, pyrate-limiter, nested"
SUM = "their sum, each alone"


def nothing() -> None:
    """The call."""


class Ours:
    """One of each, wide open."""

    def __init__(self) -> None:
        self.rt = ThreadsRuntime(seed=1)
        self.rt.current()
        self.breaker = CircuitBreaker(self.rt)
        self.bucket = TokenBucket(self.rt, PLENTY, PLENTY)
        self.log = SlidingLog(self.rt, PLENTY, 1)
        self.bulkhead = Bulkhead(self.rt, THREADS)
        self.turns = Turns(self.rt, THREADS, "turns")
        self.guard = self.make_guard(self.bulkhead)
        self.guard_retry = self.make_guard(self.bulkhead, Retry(self.rt))

    def make_guard(self, bulkhead: Bulkhead, retry: Retry | None = None) -> Guard:
        """A guard of its own, over the breaker and the bucket."""
        return Guard(self.rt, retry, self.breaker, self.bucket, bulkhead, name="bench")

    def by_hand(self, function: Callable[[], None]) -> None:
        """What a guard does, without what it does for errors' sake."""
        permit = self.breaker.acquire()
        self.bucket.acquire()
        self.bulkhead.acquire()
        try:
            function()
        finally:
            self.bulkhead.release()
        permit.success()


class Theirs:
    """One of each, wide open."""

    def __init__(self) -> None:
        self.breaker = pybreaker.CircuitBreaker()
        self.retry = tenacity.Retrying(stop=tenacity.stop_after_attempt(3), reraise=True)
        rates = [pyrate_limiter.Rate(PLENTY, 1000)]
        # No thread that empties the log meanwhile; it is emptied between the samples.
        self.log_bucket = pyrate_limiter.InMemoryBucket(rates)
        self.log = self._limiter(self.log_bucket)
        self.bucket = self._limiter(pyrate_limiter.StateBucket(rates, algorithm=pyrate_limiter.TokenBucket()))

    @staticmethod
    def _limiter(bucket: pyrate_limiter.AbstractBucket) -> pyrate_limiter.Limiter:
        return pyrate_limiter.Limiter(pyrate_limiter.SingleBucketFactory(bucket, schedule_leak=False))

    def nested(self, function: Callable[[], None]) -> None:
        """All three around it."""
        self.breaker.call(self.retry, self.limited, function)

    def limited(self, function: Callable[[], None]) -> None:
        """A token, and the call."""
        self.log.try_acquire("bench")
        function()


def _emptied(sample: Callable[[], Any], theirs: Theirs) -> Callable[[], Any]:
    def take() -> Any:
        theirs.log_bucket.flush()
        return sample()

    return take


def _contenders(names: dict[str, Any], statements: Sequence[tuple[str, str, bool]], ms: int) -> list[Contender]:
    theirs = names["theirs"]
    return [
        Contender(name, _emptied(cost_ns(statement, names, ms), theirs), ours) for name, statement, ours in statements
    ]


def _cost(names: dict[str, Any], effort: Effort, progress: Progress) -> list[CaseResult]:
    ms, rounds = effort.pick(3, 2, 1), effort.pick(25, 9, 1)
    statements = [
        (NOTHING, "nothing()", False),
        (BREAKER, "theirs.breaker.call(nothing)", False),
        (TENACITY, "theirs.retry(nothing)", False),
        (LIMITER, "theirs.limited(nothing)", False),
        (f"{LIMITER}, token bucket", "theirs.bucket.try_acquire('bench'); nothing()", False),
        (NESTED, "theirs.nested(nothing)", False),
        (GUARD, "ours.guard.call(nothing)", True),
        (GUARD_RETRY, "ours.guard_retry.call(nothing)", True),
        (BY_HAND, "ours.by_hand(nothing)", True),
    ]
    note = "Processor time of one thread; every call is let through. Their sum is that of the samples of each round."
    case = Case("around a call that does nothing, one thread", NS, _contenders(names, statements, ms), [], rounds, note)
    result = run_case(case, progress)
    parts = [result.row(name).samples for name in (BREAKER, TENACITY, LIMITER)]
    rows = [*result.rows, Row(SUM, False, [sum(each) for each in zip(*parts, strict=True)])]
    result = tabulate(result.title, NS, rows, [SUM, NESTED], note, [NOTHING])
    alone = [
        ("breaker: acquire, success", "ours.breaker.acquire().success()", True),
        ("token bucket: acquire", "ours.bucket.acquire()", True),
        ("sliding log: acquire", "ours.log.acquire()", True),
        ("bulkhead: acquire, release", "ours.bulkhead.acquire(); ours.bulkhead.release()", True),
        ("pool.turns.Turns: acquire, release", "ours.turns.acquire(); ours.turns.release()", True),
    ]
    each = run_case(Case("each alone", NS, _contenders(names, alone, ms), [], rounds), progress)
    refused = [
        (BREAKER, _refusal("theirs_open.call(nothing)", "pybreaker.CircuitBreakerError"), False),
        (LIMITER, "theirs_empty.try_acquire('bench', blocking=False)", False),
        ("breaker: acquire", _refusal("ours_open.acquire()", "ResilienceError"), True),
        ("token bucket: try_acquire", "ours_empty.try_acquire()", True),
        ("token bucket: acquire, no waiting", _refusal("ours_empty.acquire(1, 0)", "ResilienceError"), True),
        ("bulkhead: acquire, no waiting", _refusal("ours_full.acquire(0)", "ResilienceError"), True),
    ]
    no = run_case(Case("refused at once", NS, _contenders(names, refused, ms), [], rounds), progress)
    return [result, each, no]


def _refusal(statement: str, error: str) -> str:
    return f"try: {statement}\nexcept {error}: pass"


def _names() -> dict[str, Any]:
    ours, theirs = Ours(), Theirs()
    theirs_open = pybreaker.CircuitBreaker(fail_max=1, reset_timeout=86_400)
    theirs_open.open()
    ours_open = CircuitBreaker(ours.rt)
    ours_open.force_open()
    # One in an hour: nothing comes back while this runs.
    theirs_empty = Theirs._limiter(pyrate_limiter.InMemoryBucket([pyrate_limiter.Rate(1, 3_600_000)]))
    ours_empty = TokenBucket(ours.rt, Fraction(1, 3600), 1)
    ours_full = Bulkhead(ours.rt, 1)
    ours_empty.acquire()
    theirs_empty.try_acquire("bench", blocking=False)
    ours_full.acquire()
    return {
        "ours": ours, "theirs": theirs, "nothing": nothing, "theirs_open": theirs_open, "ours_open": ours_open,
        "ours_empty": ours_empty, "theirs_empty": theirs_empty, "ours_full": ours_full, "pybreaker": pybreaker,
        "ResilienceError": ResilienceError,
    }  # fmt: skip


class Threads:
    """So many threads that share out so many calls. Each sample is one round of them."""

    def __init__(self, call: Callable[[], object], threads: int, calls: int) -> None:
        self._call = call
        self._threads = threads
        self._each = calls // threads
        self.per_call_ns: list[float] = []

    def _work(self, start: Barrier) -> None:
        call = self._call
        start.wait()
        for _ in range(self._each):
            call()

    def calls_per_s(self) -> float:
        """One round; also keeps the processor time per call in ns."""
        start = Barrier(self._threads + 1)
        threads = [Thread(target=self._work, args=(start,)) for _ in range(self._threads)]
        for thread in threads:
            thread.start()
        start.wait()
        began, began_ns = time.perf_counter(), time.process_time_ns()
        for thread in threads:
            thread.join()
        took, took_ns = time.perf_counter() - began, time.process_time_ns() - began_ns
        calls = self._each * self._threads
        self.per_call_ns.append(took_ns / calls)
        return calls / took


def _one(name: str) -> str:
    return f"{name}, 1 thread"


def _many(name: str) -> str:
    return f"{name}, {THREADS} threads"


NARROW = "Guard, 4 slots"


def _at_once(ours: Ours, theirs: Theirs, effort: Effort, progress: Progress) -> list[CaseResult]:
    guard, narrow = ours.guard, ours.make_guard(Bulkhead(ours.rt, 4))
    calls = effort.pick(150_000, 40_000, 240)
    # pyrate-limiter's log would grow over a round; its token bucket does not.
    bodies: list[tuple[str, Callable[[], object], bool, int]] = [
        (NOTHING, nothing, False, calls * 4),
        ("Guard", lambda: guard.call(nothing), True, calls),
        (NARROW, lambda: narrow.call(nothing), True, calls),
        ("token bucket", ours.bucket.acquire, True, calls),
        ("sliding log", ours.log.acquire, True, calls),
        (BREAKER, lambda: theirs.breaker.call(nothing), False, calls // 2),
        (LIMITER, lambda: theirs.bucket.try_acquire("bench"), False, calls // 4),
    ]
    rounds = [
        (title(name), is_ours, Threads(body, threads, count))
        for name, body, is_ours, count in bodies
        for title, threads in ((_one, 1), (_many, THREADS))
    ]
    contenders = [Contender(title, each.calls_per_s, is_ours) for title, is_ours, each in rounds]
    title, base = f"{THREADS} threads at once", [_one("Guard")]
    wall = run_case(Case(title, PER_S, contenders, base, effort.pick(11, 5, 1)), progress)
    # The first round is not counted there, either.
    rows = [Row(title, is_ours, each.per_call_ns[1:]) for title, is_ours, each in rounds]
    return [wall, tabulate(f"{title}: processor time per call", NS, rows, base)]


def _ratio(case: CaseResult, name: str = "Guard") -> float:
    return case.row(_many(name)).median / case.row(_one(name)).median


def run(effort: Effort, progress: Progress = silent) -> Report:
    """Measure. Blocks for about half a minute."""
    report = Report("resilience")
    names = _names()
    report.cases += _cost(names, effort, progress)
    cost = report.cases[0]
    report.cases += _at_once(names["ours"], names["theirs"], effort, progress)
    guard = cost.row(GUARD)
    report.facts[f"Guard, the call in it included, ns (goal: at most {GOAL_NS})"] = round(guard.median)
    report.facts[f"their sum / Guard (goal: at least {GOAL_TIMES})"] = round(guard.times_better[SUM], 1)
    report.facts["their sum / Guard with a retry"] = round(cost.row(GUARD_RETRY).times_better[SUM], 1)
    wall, cpu = report.cases[-2:]
    for name in ("Guard", NARROW, "token bucket", "sliding log", NOTHING, BREAKER, LIMITER):
        calls, spent = _ratio(wall, name), _ratio(cpu, name)
        report.facts[f"{name}: {THREADS} threads / one"] = f"calls {calls:.2f}, processor time per call {spent:.2f}"
    report.conclusion = (
        f"breaker, limiter and bulkhead around a call that does nothing: {guard.median:,.0f} ns through Guard, "
        f"{cost.row(BY_HAND).median:,.0f} ns by hand; pybreaker, tenacity and pyrate-limiter together "
        f"{guard.times_better[SUM]:.1f} times as much; {THREADS} threads at once: {_ratio(wall):.2f} times the calls "
        f"of one, {_ratio(cpu):.2f} times its processor time per call"
    )
    return report
