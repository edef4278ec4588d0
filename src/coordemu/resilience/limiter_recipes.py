"""Recipes of the limiters: a few who ask, one who gives back, one who cancels, one who comes late.

Role: each shows one or two faults of `limiter_faults`. What a bucket has let through is judged at the end, over the
whole of the run: more than burst + rate * time is too much, whatever the order.

Thread: the recipe's main task. Upstream: the reference's "semaphores" recipe, for the bulkhead's. Left out: time limits
(a cancelled context is one that comes when the order says so). Bounds: see `recipe_base`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from coordemu.pool.pool_context import PoolContext
from coordemu.pool.pool_errors import Cancelled
from coordemu.resilience import limiter_faults as faults_of
from coordemu.resilience.bulkhead import Bulkhead
from coordemu.resilience.faulty_limiters import make_bulkhead, make_sliding_log, make_token_bucket
from coordemu.resilience.rate_limiter import RateLimiter
from coordemu.resilience.recipe_base import Crew, ResilienceRecipe, demand, demand_all
from coordemu.resilience.resilience_errors import BulkheadFull
from coordemu.resilience.token_bucket import TokenBucket
from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Runtime

# Rates are so high that a recipe takes milliseconds on real threads.
PER_S = 1000


def _check_home(bulkhead: Bulkhead) -> None:
    """All have ended: every permit is home, and nobody is in line."""
    wrong = bulkhead.broken_rules()
    if bulkhead.held:
        wrong.append(f"S1 {bulkhead.held} permits are held, and nobody is inside")
    demand_all(bulkhead.name, wrong)


class _Inside:
    """How many are inside at once, counted by those who are."""

    def __init__(self, rt: Runtime) -> None:
        self._lock = rt.lock("inside")
        self._now = 0
        self.most = 0

    def come(self) -> None:
        """One more."""
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)

    def go(self) -> None:
        """One less."""
        with self._lock:
            self._now -= 1


def permit_waiter(rt: Runtime, faults: frozenset[str]) -> None:
    """A holder gives its permit back while another asks for it, without a limit."""
    bulkhead = make_bulkhead(rt, 1, faults=faults)
    bulkhead.acquire()
    crew = Crew(rt)

    def waiter() -> None:
        bulkhead.acquire()
        bulkhead.release()

    crew.add("waiter", waiter)
    crew.add("holder", bulkhead.release)
    crew.join()
    _check_home(bulkhead)


def permit_late_comer(rt: Runtime, faults: frozenset[str]) -> None:
    """One waits; the holder gives back; another tries, who came later."""
    bulkhead = make_bulkhead(rt, 1, faults=faults)
    bulkhead.acquire()
    crew = Crew(rt)

    def waiter() -> None:
        try:
            bulkhead.acquire()
        except BulkheadFull:
            demand("S8", False, "one who waited without a limit was sent away")
        bulkhead.release()

    def late() -> None:
        if bulkhead.try_acquire():
            bulkhead.release()

    crew.add("waiter", waiter)
    crew.until(lambda: bulkhead.waiting == 1, "the line")
    crew.add("holder", bulkhead.release)
    crew.add("late", late)
    crew.join()
    _check_home(bulkhead)


def permit_cancelled(rt: Runtime, faults: frozenset[str]) -> None:
    """Two wait, one of them is cancelled, the holder gives back. Never two inside."""
    bulkhead = make_bulkhead(rt, 1, faults=faults)
    bulkhead.acquire()
    inside = _Inside(rt)
    ctx = PoolContext(rt)
    crew = Crew(rt)

    def caller(mine: PoolContext | None) -> Callable[[], None]:
        def call() -> None:
            try:
                bulkhead.acquire(ctx=mine)
            except (Cancelled, BulkheadFull):
                return
            inside.come()
            inside.go()
            bulkhead.release()

        return call

    crew.add("first", caller(ctx))
    crew.add("second", caller(None))
    crew.add("holder", bulkhead.release)
    crew.add("canceller", ctx.cancel)
    crew.join()
    demand("S1", inside.most <= 1, f"{inside.most} were inside at once, and one may be")
    _check_home(bulkhead)


def permit_race(rt: Runtime, faults: frozenset[str]) -> None:
    """Two come at once for one permit, and take what they get; never two inside."""
    bulkhead = make_bulkhead(rt, 1, faults=faults)
    inside = _Inside(rt)
    crew = Crew(rt)

    def caller() -> None:
        if bulkhead.try_acquire():
            inside.come()
            inside.go()
            bulkhead.release()

    for name in ("first", "second"):
        crew.add(name, caller)
    crew.join()
    demand("S1", inside.most <= 1, f"{inside.most} were inside at once, and one may be")
    _check_home(bulkhead)


class _Meter:
    """What a bucket may have let through since this was made, however full it was then."""

    def __init__(self, rt: Runtime, bucket: TokenBucket) -> None:
        self._rt = rt
        self._bucket = bucket
        self._before = bucket.admitted
        self._began_ns = rt.now_ns()

    def check(self) -> None:
        """Raise when it was more."""
        bucket = self._bucket
        elapsed_ns = self._rt.now_ns() - self._began_ns
        most = (bucket.burst * NS_PER_S + bucket.rate_per_s * elapsed_ns) // NS_PER_S
        taken = bucket.admitted - self._before
        demand("L1", taken <= most, f"{taken} tokens were taken, and {most} there were")
        demand_all(bucket.name, bucket.broken_rules())


def _drained(rt: Runtime, burst: int, faults: frozenset[str]) -> tuple[TokenBucket, _Meter]:
    bucket = make_token_bucket(rt, PER_S, burst, faults=faults)
    meter = _Meter(rt, bucket)
    bucket.acquire(burst)
    return bucket, meter


def _one_of_two_cancelled(rt: Runtime, limiter: RateLimiter) -> None:
    """Two wait in line, without a limit; the one who is likely to be the first of them is cancelled."""
    ctx = PoolContext(rt)
    crew = Crew(rt)

    def cancelled() -> None:
        try:
            limiter.acquire(ctx=ctx)
        except Cancelled:
            return

    crew.add("first", cancelled)
    crew.add("second", limiter.acquire)
    crew.add("canceller", ctx.cancel)
    crew.join()


def place_cancelled(rt: Runtime, faults: frozenset[str]) -> None:
    """Two wait for a token each, without a limit; one of them is cancelled."""
    bucket, meter = _drained(rt, 1, faults)
    _one_of_two_cancelled(rt, bucket)
    meter.check()


def big_and_small(rt: Runtime, faults: frozenset[str]) -> None:
    """A big request waits; a small one joins the line, another only tries."""
    bucket, meter = _drained(rt, 2, faults)
    crew = Crew(rt)

    def late() -> None:
        rt.sleep_ns(NS_PER_S // PER_S)
        bucket.try_acquire()

    crew.add("big", lambda: bucket.acquire(2))
    crew.until(lambda: bucket.waiting == 1 or crew.any_ended, "the line")
    crew.add("small", bucket.acquire)
    crew.add("late", late)
    crew.join()
    meter.check()


def spend_race(rt: Runtime, faults: frozenset[str]) -> None:
    """Two come at once for the last token."""
    bucket = make_token_bucket(rt, 1, 1, faults=faults)
    meter = _Meter(rt, bucket)
    crew = Crew(rt)
    for name in ("first", "second"):
        crew.add(name, bucket.try_acquire)
    crew.join()
    meter.check()


def old_clock(rt: Runtime, faults: frozenset[str]) -> None:
    """One looks at a bucket; time passes, another empties it; then all that is left is taken."""
    bucket, meter = _drained(rt, 1, faults)
    meters = [meter]
    crew = Crew(rt)

    def later() -> None:
        rt.sleep_ns(20 * NS_PER_MS)
        meters.append(_Meter(rt, bucket))
        bucket.try_acquire()

    crew.add("early", bucket.try_acquire)
    crew.add("later", later)
    crew.join()
    bucket.try_acquire()
    for each in meters:
        each.check()


def many_looks(rt: Runtime, faults: frozenset[str]) -> None:
    """Two look for a token, again and again, more often than tokens come."""
    bucket, meter = _drained(rt, 1, faults)
    crew = Crew(rt)

    def hurried() -> None:
        for _ in range(4):
            rt.sleep_ns(NS_PER_S // PER_S // 10)
            bucket.try_acquire()

    for name in ("first", "second"):
        crew.add(name, hurried)
    crew.join()
    meter.check()


def log_race(rt: Runtime, faults: frozenset[str]) -> None:
    """Two come at once for the last place in the window, an hour long."""
    log = make_sliding_log(rt, 2, 3_600_000, faults=faults)
    log.acquire()
    crew = Crew(rt)
    for name in ("first", "second"):
        crew.add(name, log.try_acquire)
    crew.join()
    demand("L1", log.admitted == 2, f"{log.admitted} units were taken in one window, and 2 there are")
    demand_all(log.name, log.broken_rules())


def log_place_cancelled(rt: Runtime, faults: frozenset[str]) -> None:
    """Two wait for the window to pass, without a limit; one of them is cancelled."""
    log: RateLimiter = make_sliding_log(rt, 1, 1, faults=faults)
    log.acquire()
    _one_of_two_cancelled(rt, log)
    demand("Q4", not log.waiting, f"{log.waiting} wait, and all have ended")


LIMITER_RECIPES: Mapping[str, ResilienceRecipe] = MappingProxyType({
    recipe.name: recipe
    for recipe in (
        ResilienceRecipe(
            "permit-waiter", "one gives a permit back, one asks", (faults_of.PERMIT_WAKE_LOST,), permit_waiter
        ),
        ResilienceRecipe(
            "permit-late-comer",
            "one waits for a permit, one gives back, one comes late",
            (faults_of.PERMIT_STOLEN,),
            permit_late_comer,
        ),
        ResilienceRecipe(
            "permit-cancelled",
            "two wait for a permit, one is cancelled, one gives back",
            (faults_of.PERMIT_DOUBLE_RELEASE, faults_of.PERMIT_LOST_ON_CANCEL),
            permit_cancelled,
        ),
        ResilienceRecipe("permit-race", "two try for one permit", (faults_of.PERMIT_BY_STORE,), permit_race),
        ResilienceRecipe(
            "place-cancelled",
            "two wait for a token, one is cancelled",
            (faults_of.PLACE_NOT_HANDED_ON, faults_of.CANCEL_REFUNDS),
            place_cancelled,
        ),
        ResilienceRecipe(
            "big-and-small",
            "a big request waits, a small one joins, another tries",
            (faults_of.TOKENS_STOLEN, faults_of.SMALL_FIRST),
            big_and_small,
        ),
        ResilienceRecipe("spend-race", "two try for the last token", (faults_of.SPEND_BY_STORE,), spend_race),
        ResilienceRecipe(
            "old-clock", "one looks, time passes, another spends", (faults_of.CLOCK_BEFORE_STATE,), old_clock
        ),
        ResilienceRecipe("many-looks", "two look more often than tokens come", (faults_of.REFILL_DRIFTS,), many_looks),
        ResilienceRecipe(
            "log-race", "two try for the last place in a window", (faults_of.LOG_LOOKS_THEN_NOTES,), log_race
        ),
        ResilienceRecipe("log-place-cancelled", "two wait for a window, one is cancelled", (), log_place_cancelled),
    )
})  # fmt: skip

# (recipe, fault), for each fault that a recipe shows.
LIMITERS_SHOWN: tuple[tuple[str, str], ...] = tuple(
    (recipe.name, fault) for recipe in LIMITER_RECIPES.values() for fault in recipe.faults
)
