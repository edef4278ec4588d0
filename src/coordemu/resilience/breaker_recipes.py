"""Recipes of the circuit breaker: callers that come at once, results that come late, probes that do not come back.

Role: each shows one or more of `breaker_faults`. The rules, by their letters:

    B1  no more probes are under way than there are permits       B5  one outage opens it once
    B2  no permit is lost: a caller gets through when nobody       B6  failures in a row open it, and only those
        has one                                                   B7  listeners hear the moves in their order
    B3  a result of an earlier era changes nothing                B8  half-open comes to an end
    B4  the open time comes to an end, and when it should

The times are short, so that a recipe runs on real threads, too: what must hold after a time holds later as well.

Thread: the recipe's main task. Upstream: the reference's "breaker" recipe (three probes; limit) and its traps.
Left out: windows; their arithmetic has no orders. Bounds: see `recipe_base`; one breaker, permits for one probe.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from coordemu.resilience import breaker_faults
from coordemu.resilience.breaker_events import BreakerEvent
from coordemu.resilience.breaker_faulty import make_breaker
from coordemu.resilience.breaker_options import BreakerOptions
from coordemu.resilience.breaker_permit import Permit
from coordemu.resilience.breaker_state import BreakerState
from coordemu.resilience.circuit_breaker import CircuitBreaker
from coordemu.resilience.recipe_base import Crew, ResilienceRecipe, demand, demand_all
from coordemu.resilience.resilience_errors import BreakerOpen
from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Runtime

OPEN_MS = 2
HOUR_NS = 3_600 * NS_PER_S


class Panic(BaseException):
    """What ends a call and is no Exception."""


def _breaker(rt: Runtime, faults: frozenset[str], **chosen: Any) -> CircuitBreaker:
    """One that opens with the first failure, for OPEN_MS, and waits for its probes for ever, unless `chosen` says
    otherwise."""
    options = {"failures_in_row": 1, "open_ms": OPEN_MS, "half_open_max_ms": 0, **chosen}
    return make_breaker(rt, BreakerOptions(**options), "breaker", faults)


def _due(rt: Runtime, faults: frozenset[str], **chosen: Any) -> CircuitBreaker:
    """One that was opened, and whose open time is over."""
    breaker = _breaker(rt, faults, **chosen)
    breaker.acquire().failure()
    rt.sleep_ns(OPEN_MS * NS_PER_MS)
    return breaker


def _try(breaker: CircuitBreaker) -> Permit | None:
    try:
        return breaker.acquire()
    except BreakerOpen:
        return None


def three_probes(rt: Runtime, faults: frozenset[str]) -> None:
    """Three callers come when the open time is over, and none of their calls has ended yet."""
    breaker = _due(rt, faults)
    permits: list[Permit] = []

    def caller() -> None:
        permit = _try(breaker)
        if permit is not None:
            permits.append(permit)

    crew = Crew(rt)
    for number in range(3):
        crew.add(f"caller {number + 1}", caller)
    crew.join()
    demand("B1", len(permits) <= 1, f"{len(permits)} probes are under way, and 1 may be")
    demand("B2", len(permits) == 1, "nobody was let through, and the open time is over")
    demand_all(breaker.name, breaker.broken_rules())


def _gives_up(give_up: Callable[[Permit], bool]) -> Callable[[Runtime, frozenset[str]], None]:
    def program(rt: Runtime, faults: frozenset[str]) -> None:
        breaker = _due(rt, faults)

        def caller() -> None:
            permit = _try(breaker)
            if permit is not None:
                give_up(permit)

        crew = Crew(rt)
        crew.add("first", caller)
        crew.add("second", caller)
        crew.join()
        demand("B2", _try(breaker) is not None, "nobody has a permit, and a caller is turned away")
        demand_all(breaker.name, breaker.broken_rules())

    return program


def probe_ends_twice(rt: Runtime, faults: frozenset[str]) -> None:
    """A watchdog cancels a probe in the moment in which it succeeds; two are to succeed, so others come after."""
    breaker = _due(rt, faults, half_open_successes=2)
    probe = breaker.acquire()
    settled: list[bool] = []
    crew = Crew(rt)
    crew.add("watchdog", lambda: settled.append(probe.cancel()))
    crew.add("worker", lambda: settled.append(probe.success()))
    crew.join()
    granted = [_try(breaker) is not None for _ in range(2)]
    demand("B1", granted == [True, False], f"{sum(granted)} probes are under way, and 1 may be")
    demand("B1", sum(settled) == 1, f"a permit was settled {sum(settled)} times")
    demand_all(breaker.name, breaker.broken_rules())


def stale_success(rt: Runtime, faults: frozenset[str]) -> None:
    """A call from before the outage succeeds while a probe is under way, which fails."""
    breaker = _breaker(rt, faults, failures_in_row=2)
    old = breaker.acquire()
    breaker.acquire().failure()
    breaker.acquire().failure()
    rt.sleep_ns(OPEN_MS * NS_PER_MS)
    probes: list[bool] = []

    def prober() -> None:
        permit = _try(breaker)
        probes.append(permit is not None)
        if permit is not None:
            permit.failure()

    crew = Crew(rt)
    crew.add("old call", old.success)
    crew.add("prober", prober)
    crew.join()
    demand("B2", probes == [True], "the open time was over, and nobody was let through")
    demand("B3", breaker.state is BreakerState.OPEN, f"the probe failed, and the breaker is {breaker.state.value}")
    demand_all(breaker.name, breaker.broken_rules())


def late_failure(rt: Runtime, faults: frozenset[str]) -> None:
    """A slow call from before the outage fails in the middle of the open time."""
    breaker = _breaker(rt, faults)
    old = breaker.acquire()
    let_through: list[bool] = []

    def caller() -> None:
        rt.sleep_ns(OPEN_MS * NS_PER_MS)
        let_through.append(_try(breaker) is not None)

    def slow_call() -> None:
        rt.sleep_ns(OPEN_MS * NS_PER_MS // 2)
        old.failure()

    breaker.acquire().failure()
    crew = Crew(rt)
    crew.add("caller", caller)
    crew.add("slow call", slow_call)
    crew.join()
    demand("B4", let_through == [True], "the open time is over, and the caller is turned away")
    demand_all(breaker.name, breaker.broken_rules())


def panicking_probe(rt: Runtime, faults: frozenset[str]) -> None:
    """Two callers come when the open time is over; what they call ends with what is no Exception."""
    breaker = _due(rt, faults)

    def panic() -> None:
        raise Panic("the end of it")

    def caller() -> None:
        try:
            breaker.call(panic)
        except (BreakerOpen, Panic):
            return

    crew = Crew(rt)
    crew.add("first", caller)
    crew.add("second", caller)
    crew.join()
    demand("B2", _try(breaker) is not None, "nobody has a permit, and a caller is turned away")


def lost_probe(rt: Runtime, faults: frozenset[str]) -> None:
    """A probe never comes back; another caller comes, and comes again."""
    breaker = _due(rt, faults, half_open_max_ms=OPEN_MS)

    def caller() -> None:
        for _ in range(3):
            if _try(breaker) is not None:
                return
            rt.sleep_ns(OPEN_MS * NS_PER_MS)
        demand("B8", _try(breaker) is not None, "a lost probe keeps everybody out")

    crew = Crew(rt)
    crew.add("probe", breaker.acquire)
    crew.until(lambda: breaker.state is BreakerState.HALF_OPEN, "the probe")
    crew.add("caller", caller)
    crew.join()


def two_failures(rt: Runtime, faults: frozenset[str]) -> None:
    """Two calls fail at once, each of which is enough to open the breaker."""
    breaker = _breaker(rt, faults, open_backoff_factor=2.0)
    first, second = breaker.acquire(), breaker.acquire()
    crew = Crew(rt)
    crew.add("first", first.failure)
    crew.add("second", second.failure)
    crew.join()
    opened = breaker.statistics()["opened"]
    demand("B5", opened == 1, f"one outage opened it {opened} times")
    demand("B5", breaker.retry_after_ns <= OPEN_MS * NS_PER_MS, "one outage counts as two for the back-off")


def failures_at_once(rt: Runtime, faults: frozenset[str]) -> None:
    """Two calls fail at once, which together are enough to open the breaker."""
    breaker = _breaker(rt, faults, failures_in_row=2)
    first, second = breaker.acquire(), breaker.acquire()
    crew = Crew(rt)
    crew.add("first", first.failure)
    crew.add("second", second.failure)
    crew.join()
    demand("B6", breaker.state is BreakerState.OPEN, "2 failures in a row, and it is closed")


def success_between(rt: Runtime, faults: frozenset[str]) -> None:
    """One caller's success comes into another's failure, success, failure, failure: no three are in a row."""
    breaker = _breaker(rt, faults, failures_in_row=3)
    breaker.acquire().failure()
    good = breaker.acquire()

    def unlucky() -> None:
        breaker.acquire().failure()
        breaker.acquire().success()
        breaker.acquire().failure()
        breaker.acquire().failure()

    crew = Crew(rt)
    crew.add("lucky", good.success)
    crew.add("unlucky", unlucky)
    crew.join()
    demand("B6", breaker.state is BreakerState.CLOSED, "there were no 3 failures in a row, and it is open")


def two_orders(rt: Runtime, faults: frozenset[str]) -> None:
    """Two operators move the breaker at once; a journal writes down what its listener hears."""
    breaker = _breaker(rt, faults)
    journal = rt.lock("journal")
    heard: list[BreakerEvent] = []

    def listener(event: BreakerEvent) -> None:
        with journal:
            heard.append(event)

    def reporter() -> None:
        with journal:
            breaker.statistics()

    breaker.subscribe(listener)
    crew = Crew(rt)
    crew.add("first", breaker.force_open)
    crew.add("second", breaker.disable)
    crew.add("reporter", reporter)
    crew.join()
    demand("B7", len(heard) == 2, f"2 moves, and {len(heard)} were heard of")
    expected = BreakerState.CLOSED
    for event in heard:
        demand("B7", event.source is expected, f"a move from {event.source.value} was heard, after one to {expected}")
        expected = event.target


def calls_that_meet(rt: Runtime, faults: frozenset[str]) -> None:
    """Two calls through a closed breaker, of which one waits for the other."""
    breaker = _breaker(rt, faults)
    met = rt.event("the other call")
    crew = Crew(rt)
    crew.add("waits", lambda: breaker.call(met.wait))
    crew.add("comes", lambda: breaker.call(met.set))
    crew.join()


class _ClockThatIsSet:
    """A runtime whose clock can be set: `behind_ns` is how far it is behind the true one."""

    def __init__(self, rt: Runtime) -> None:
        self._true = rt
        self._behind = rt.cell(0, "behind_ns")

    def set_back(self, delta_ns: int) -> None:
        self._behind.value = delta_ns

    def now_ns(self) -> int:
        return self._true.now_ns() - self._behind.value

    def __getattr__(self, name: str) -> Any:
        return getattr(self._true, name)


def clock_set_back(rt: Runtime, faults: frozenset[str]) -> None:
    """The clock is set back by an hour while the breaker opens; a caller looks, waits, looks and waits."""
    clock = _ClockThatIsSet(rt)
    breaker = _breaker(cast(Runtime, clock), faults)
    call = breaker.acquire()
    crew = Crew(rt)
    crew.add("call", call.failure)
    crew.add("operator", lambda: clock.set_back(HOUR_NS))
    crew.join()
    # What passed before the clock was set was not seen if nobody looked: after a look the whole time is enough.
    permit = _try(breaker)
    rt.sleep_ns(OPEN_MS * NS_PER_MS)
    demand("B4", permit is not None or _try(breaker) is not None, "the open time is over, and a caller is turned away")


BREAKER_RECIPES = (
    ResilienceRecipe(
        "three-probes",
        "three callers come when the open time is over",
        (breaker_faults.TWO_PROBES, breaker_faults.PERMITS_RESET_LATE),
        three_probes,
    ),
    ResilienceRecipe(
        "cancelled-probe",
        "two probes are cancelled, and another caller comes",
        (breaker_faults.LOST_PERMIT_ON_CANCEL,),
        _gives_up(Permit.cancel),
    ),
    ResilienceRecipe(
        "ignored-probe",
        "two probes end in a way that does not count, and another caller comes",
        (breaker_faults.LOST_PERMIT_ON_IGNORED,),
        _gives_up(Permit.ignore),
    ),
    ResilienceRecipe(
        "probe-ends-twice",
        "a probe is cancelled in the moment in which it succeeds",
        (breaker_faults.PERMIT_GIVEN_BACK_TWICE,),
        probe_ends_twice,
    ),
    ResilienceRecipe(
        "stale-success",
        "a call from before the outage succeeds while a probe is under way, which fails",
        (breaker_faults.NO_GENERATION,),
        stale_success,
    ),
    ResilienceRecipe(
        "late-failure",
        "a call from before the outage fails in the middle of the open time",
        (breaker_faults.LATE_FAILURE_RESTARTS_TIMER,),
        late_failure,
    ),
    ResilienceRecipe(
        "panicking-probe",
        "two probes end with what is no Exception, and another caller comes",
        (breaker_faults.PROBE_PANIC_JAMS,),
        panicking_probe,
    ),
    ResilienceRecipe(
        "lost-probe",
        "a probe never comes back, and another caller comes again and again",
        (breaker_faults.HALF_OPEN_FOR_EVER,),
        lost_probe,
    ),
    ResilienceRecipe(
        "two-failures",
        "two calls fail at once, each of which is enough to open the breaker",
        (breaker_faults.OPENS_TWICE,),
        two_failures,
    ),
    ResilienceRecipe(
        "failures-at-once",
        "two calls fail at once, which together are enough to open the breaker",
        (breaker_faults.FAILURE_COUNT_LOST,),
        failures_at_once,
    ),
    ResilienceRecipe(
        "success-between",
        "a success comes into another caller's failures, of which no three are in a row",
        (breaker_faults.CALM_SAID_LATE,),
        success_between,
    ),
    ResilienceRecipe(
        "two-orders",
        "two operators move the breaker at once, a listener writes a journal, and a reporter reads",
        (breaker_faults.EVENTS_OUT_OF_ORDER, breaker_faults.EVENTS_UNDER_LOCK),
        two_orders,
    ),
    ResilienceRecipe(
        "calls-that-meet",
        "two calls go through a closed breaker, of which one waits for the other",
        (breaker_faults.LOCK_ACROSS_CALL,),
        calls_that_meet,
    ),
    ResilienceRecipe(
        "clock-set-back",
        "the clock is set back by an hour while the breaker opens",
        (breaker_faults.RAW_CLOCK,),
        clock_set_back,
    ),
)
