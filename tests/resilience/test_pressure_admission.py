"""Low-priority work under pressure: refused, or in line until it is calm, one at a time. On both runtimes."""

from __future__ import annotations

import pickle

import pytest
from counted_pools import CountedPool

from coordemu.pool.pool_context import PoolContext
from coordemu.pool.pool_errors import Cancelled, DeadlineExceeded
from coordemu.resilience.pool_pressure import PoolPressure
from coordemu.resilience.pressure_admission import AdmissionOptions, PressureAdmission
from coordemu.resilience.pressure_gauge import PressureOptions
from coordemu.resilience.resilience_errors import PressureRefused
from coordemu.runtime.base import NS_PER_MS, NS_PER_S

FULL, FREE = 20, 0


@pytest.fixture
def pool() -> CountedPool:
    return CountedPool()


def make(rt, pool, low: str = "wait", wait_ms: int = 10_000, **pressure) -> PressureAdmission:
    options = PressureOptions(**{"min_ms": 0, "look_ms": 0, **pressure})
    return PressureAdmission(rt, PoolPressure(rt, lambda: {"a": pool}, options), AdmissionOptions(low, wait_ms))


@pytest.mark.parametrize("low", ["refuse", "wait", "admit"])
def test_without_pressure_it_goes_on_at_once(rt, pool, low: str) -> None:
    admission = make(rt, pool, low)
    assert admission.admit_low() == admission.admit_low("a") == 0
    assert admission.statistics() == {"admitted": 2, "waited": 0, "wait_ns": 0, "refused": 0, "waiting": 0}


def test_it_is_refused_with_the_reason(rt, pool) -> None:
    admission = make(rt, pool, "refuse", min_ms=500)
    pool.turns.held = 19
    with pytest.raises(PressureRefused, match=r"refused: 95% of the connections of a are held") as caught:
        admission.admit_low("a")
    assert caught.value.retry_after_ns == 500 * NS_PER_MS
    assert caught.value.waited_ns == 0
    assert admission.statistics()["refused"] == 1
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)


def test_it_is_let_through_when_that_is_the_rule(rt, pool) -> None:
    pool.turns.held = FULL
    assert make(rt, pool, "admit").admit_low("a") == 0


def test_it_waits_for_calm(rt, pool, start, until) -> None:
    admission = make(rt, pool)
    pool.turns.held = FULL
    call = start(admission.admit_low)
    until(lambda: admission._gates.statistics()["held"] == 1)
    pool.turns.held = FREE
    assert call.join() > 0
    counts = admission.statistics()
    assert (counts["admitted"], counts["waited"], counts["refused"]) == (1, 1, 0)
    assert counts["wait_ns"] == call.value


def test_it_waits_so_long_and_no_longer(rt, pool) -> None:
    admission = make(rt, pool, wait_ms=5)
    pool.turns.held = FULL
    with pytest.raises(PressureRefused, match=r"after [\d.]+ ms: 100%") as caught:
        admission.admit_low()
    assert caught.value.waited_ns >= 5 * NS_PER_MS
    with pytest.raises(PressureRefused) as caught:
        admission.admit_low(timeout_ns=0)
    assert caught.value.waited_ns == 0


def test_who_is_in_line_is_refused_in_time_too(rt, pool, start, until) -> None:
    admission = make(rt, pool, wait_ms=60_000)
    pool.turns.held = FULL
    head = start(admission.admit_low)
    until(lambda: admission._gates.statistics()["held"] == 1)
    with pytest.raises(PressureRefused) as caught:
        admission.admit_low(timeout_ns=3 * NS_PER_MS)
    assert caught.value.waited_ns >= 3 * NS_PER_MS
    pool.turns.held = FREE
    head.join()


def test_the_line_goes_in_one_at_a_time_in_order_and_each_looks(sim, pool) -> None:
    """In virtual time: on threads nobody knows how long a caller takes to make pressure again."""
    order: list[int] = []

    def main() -> None:
        admission = make(sim, pool)
        pool.turns.held = FULL

        def caller(number: int) -> None:
            admission.admit_low("a")
            # Who has come in makes it pressure again, but not in the same moment.
            order.append(number)
            sim.sleep_ns(NS_PER_MS // 2)
            pool.turns.held = FULL

        tasks = []
        for number in range(4):
            tasks.append(sim.spawn(caller, number, name=f"caller {number}"))
            sim.sleep_ns(5 * NS_PER_MS)
        assert admission.statistics()["waiting"] == 3
        for count in range(1, 5):
            pool.turns.held = FREE
            sim.sleep_ns(5 * NS_PER_MS)
            assert order == list(range(count))
        for task in tasks:
            task.join()

    sim.run(main).check()
    assert order == [0, 1, 2, 3]


def test_a_node_s_line_does_not_hold_up_another_node(rt, start, until) -> None:
    pools = {"a": CountedPool(), "b": CountedPool()}
    pressure = PoolPressure(rt, lambda: pools, PressureOptions(min_ms=0, look_ms=1))
    admission = PressureAdmission(rt, pressure)
    pools["a"].turns.held = FULL
    call = start(lambda: admission.admit_low("a"))
    until(lambda: admission._gates.statistics()["held"] == 1)
    assert admission.admit_low("b") == 0
    pools["a"].turns.held = FREE
    call.join()


def test_a_wait_can_be_cancelled_and_leaves_the_line_in_order(rt, pool, start, until) -> None:
    admission = make(rt, pool)
    pool.turns.held = FULL
    contexts = [PoolContext(rt) for _ in range(2)]
    head = start(lambda: admission.admit_low(ctx=contexts[0]))
    until(lambda: admission._gates.statistics()["held"] == 1)
    second = start(lambda: admission.admit_low(ctx=contexts[1]))
    until(lambda: admission.statistics()["waiting"] == 1)
    contexts[1].cancel()
    assert isinstance(second.failure(), Cancelled)
    contexts[0].cancel()
    assert isinstance(head.failure(), Cancelled)
    pool.turns.held = FREE
    admission.admit_low()
    with pytest.raises(Cancelled):
        admission.admit_low(ctx=contexts[0])
    pool.turns.held = FULL
    with pytest.raises(DeadlineExceeded):
        admission.admit_low(ctx=PoolContext.after(rt, 2 * NS_PER_MS))
    assert admission._gates.statistics()["held"] == 0


def test_a_clock_that_goes_back_does_not_make_it_wait_longer(sim, pool) -> None:
    class Behind:
        """The simulator, with a clock that a test can put back."""

        back_ns = 0

        def now_ns(self) -> int:
            return sim.now_ns() - self.back_ns

        def __getattr__(self, name):
            return getattr(sim, name)

    def main() -> None:
        pool.turns.held = FULL
        clock = Behind()
        admission = make(clock, pool, wait_ms=20)

        def put_back() -> None:
            sim.sleep_ns(5 * NS_PER_MS)
            clock.back_ns = 3_600 * NS_PER_S

        task = sim.spawn(put_back, name="the clock")
        began_ns = sim.now_ns()
        with pytest.raises(PressureRefused):
            admission.admit_low("a")
        assert sim.now_ns() - began_ns == 20 * NS_PER_MS
        task.join()

    sim.run(main).check()


@pytest.mark.parametrize("bad", [{"low": "sometimes"}, {"wait_ms": -1}])
def test_bounds(bad) -> None:
    with pytest.raises(ValueError, match=r"low 'sometimes'|below 0"):
        AdmissionOptions(**bad)
