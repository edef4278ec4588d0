"""What only the simulator has: virtual time, exact waits, runs that end badly, drains without the C waits."""

from __future__ import annotations

import pytest

from coordemu.native import PendingTable
from coordemu.runtime.base import NS_PER_MS, NS_PER_S
from coordemu.runtime.sim import SimRuntime
from coordemu.runtime.sim_greenlets import parked_count
from coordemu.runtime.sim_outcome import SimDeadlock, SimStepLimit
from coordemu.runtime.sim_schedule import make_strategy

HOUR_NS = 3600 * NS_PER_S


def run(scenario, strategy=None, **options):
    rt = SimRuntime(strategy, **options)
    return rt.run(lambda: scenario(rt), name="test")


def outcomes(scenario, name="random", seeds=100, **options):
    return [run(scenario, make_strategy(name, seed, 30), **options) for seed in range(seeds)]


# ---- time


def test_an_hour_of_keep_alives_takes_few_steps_and_an_hour():
    ticks = []

    def scenario(rt):
        loop = rt.loop("io")
        loop.timer(lambda: ticks.append(rt.now_ns()), "keep-alive").start(NS_PER_S, NS_PER_S)
        loop.timer(loop.stop, "end").start(HOUR_NS)
        loop.run()
        loop.close()

    outcome = run(scenario).check()
    assert len(ticks) == 3600
    assert ticks[-1] - ticks[0] == HOUR_NS - NS_PER_S
    assert outcome.now_ns == NS_PER_S + HOUR_NS
    assert outcome.steps < 8000


def test_a_loop_that_looks_every_microsecond_for_an_hour_takes_few_steps():
    looks = []

    def scenario(rt):
        go = rt.cell(False, "go")

        def setter():
            rt.sleep_ns(HOUR_NS)
            go.value = True

        rt.spawn(setter, name="setter")
        assert rt.poll_until(lambda: bool(looks.append(1)) or go.value, 1000, "go")
        assert HOUR_NS <= rt.now_ns() - NS_PER_S <= HOUR_NS + 1000

    assert run(scenario).check().steps < 3000
    assert len(looks) < 1000


def test_a_wait_with_time_enough_only_times_out_when_the_clock_is_a_choice():
    """The setter could have gone; whether time passes first is a choice, if the clock is explored."""
    seen = []

    def scenario(rt):
        event = rt.event("reply")
        rt.spawn(event.set, name="setter")
        seen.append(event.wait(NS_PER_MS))

    assert all(outcome.ok for outcome in outcomes(scenario))
    assert set(seen) == {True}
    seen.clear()
    assert all(outcome.ok for outcome in outcomes(scenario, clock="explored"))
    assert set(seen) == {True, False}


# ---- orders


def lost_wake_up(rt, careful):
    lock = rt.lock("queue")
    condition = rt.condition(lock, "not empty", owed_by=list)
    ready = rt.cell(False, "ready")

    def sleeper():
        if careful:
            with lock:
                while not ready.value:
                    condition.wait()
        elif not ready.value:
            with lock:
                condition.wait()

    def waker():
        with lock:
            ready.value = True
            condition.notify()

    for task in [rt.spawn(sleeper, name="sleeper"), rt.spawn(waker, name="waker")]:
        task.join()


@pytest.mark.parametrize("name", ["random", "pct2"])
def test_a_lost_wake_up_is_found_and_its_cure_survives(name):
    found = [each for each in outcomes(lambda rt: lost_wake_up(rt, careful=False), name) if not each.ok]
    assert found
    assert {each.kind for each in found} == {"deadlock"}
    assert "sleeper waits for condition 'not empty', which nobody can end: an orphan" in found[0].wait_for
    assert all(each.ok for each in outcomes(lambda rt: lost_wake_up(rt, careful=True), name))


def test_a_late_comer_may_take_a_lock_that_was_just_released():
    orders = set()

    def scenario(rt):
        lock, order = rt.lock("L"), []

        def take(who):
            for _ in range(2):
                with lock:
                    order.append(who)

        for task in [rt.spawn(take, who, name=who) for who in "ab"]:
            task.join()
        orders.add("".join(order))

    assert all(outcome.ok for outcome in outcomes(scenario))
    assert orders == {"aabb", "abab", "abba", "baab", "baba", "bbaa"}


def test_a_read_and_a_write_of_a_cell_are_two_steps_but_an_exchange_is_one():
    sums = set()

    def scenario(rt):
        cell = rt.cell(0, "count")

        def add():
            cell.value += 1

        for task in [rt.spawn(add, name=f"t{i}") for i in range(2)]:
            task.join()
        sums.add(cell.value)

    assert all(outcome.ok for outcome in outcomes(scenario))
    assert sums == {1, 2}


# ---- bad ends


def test_a_deadlock_is_seen_although_time_limits_tick():
    def scenario(rt):
        lock = rt.lock("L")

        def fool():
            with lock:
                lock.acquire()

        rt.spawn(fool, name="fool")
        while True:
            rt.sleep_ns(10 * NS_PER_MS)

    outcome = run(scenario)
    assert outcome.kind == "deadlock"
    assert "fool waits for lock 'L', held by fool: a cycle" in outcome.wait_for
    assert outcome.now_ns < 10 * NS_PER_S


def test_a_cycle_that_a_time_limit_opens_is_no_deadlock():
    def scenario(rt):
        lock = rt.lock("L")
        with lock:
            assert not lock.acquire(5 * NS_PER_S)
            assert not rt.poll_until(lambda: False, 1000, "me", 5 * NS_PER_S, owed_by=lambda: [rt.current()])

    assert run(scenario).ok


def test_sleeping_loops_that_look_for_ever_are_a_deadlock():
    outcome = run(lambda rt: rt.poll_until(lambda: False, NS_PER_MS, "godot"))
    assert outcome.kind == "deadlock"
    assert "test waits for godot" in outcome.wait_for
    assert outcome.steps < 200


def test_a_wait_for_somebody_who_is_known_to_be_gone_is_a_deadlock_after_a_minute():
    def scenario(rt):
        gone = rt.event("reply", owed_by=lambda: ["nobody: the connection was dropped"])
        rt.spawn(gone.wait, name="worker")
        while True:
            rt.sleep_ns(NS_PER_S)

    outcome = run(scenario)
    assert outcome.kind == "deadlock"
    assert "nobody: the connection was dropped" in outcome.wait_for
    assert 60 * NS_PER_S < outcome.now_ns < 70 * NS_PER_S


def test_a_task_that_raises_ends_the_run_and_the_others_unwind():
    seen = []

    def scenario(rt):
        event = rt.event("never")

        def waits():
            try:
                event.wait()
            finally:
                seen.append("unwound")
                event.set()  # refused, as the run is over
                seen.append("not reached")

        rt.spawn(waits, name="waits")
        rt.sleep_ns(1)
        rt.spawn(lambda: 1 // 0, name="faulty").join()
        seen.append("not reached either")

    rt = SimRuntime()
    outcome = rt.run(lambda: scenario(rt), name="test")
    assert outcome.kind == "error"
    with pytest.raises(ZeroDivisionError):
        outcome.check()
    assert seen == ["unwound"]
    assert list(rt.tasks()) == []
    with pytest.raises(RuntimeError, match="over"):
        rt.finish()


def test_a_run_has_a_step_limit():
    def scenario(rt):
        while True:
            rt.sleep_ns(0)

    outcome = run(scenario, max_steps=500)
    assert outcome.kind == "step limit"
    assert outcome.steps == 500
    with pytest.raises(SimStepLimit, match="500 steps"):
        outcome.check()


def test_nothing_blocks_outside_of_tasks_and_the_rest_works_there():
    rt = SimRuntime()
    lock, event, cell = rt.lock("L"), rt.event("e"), rt.cell(1, "c")
    with lock:
        assert not lock.acquire(0)
        with pytest.raises(RuntimeError, match="outside"):
            lock.acquire()
    with pytest.raises(RuntimeError, match="outside"):
        event.wait()
    event.set()
    assert event.wait()
    cell.value += 1
    assert cell.value == 2
    assert rt.current().name == "outside"
    assert list(rt.tasks()) == []
    assert rt.core.steps == []


def test_a_run_is_not_started_from_inside_one():
    def scenario(rt):
        with pytest.raises(RuntimeError, match="inside"):
            rt.finish()

    run(scenario).check()


def test_a_runtime_refuses_nonsense():
    for options in ({"clock": "wall"}, {"max_steps": 0}, {"latency_ns": -1}):
        with pytest.raises(ValueError):  # noqa: PT011
            SimRuntime(**options)
    with pytest.raises(TypeError, match="not a lock of this runtime"):
        SimRuntime().condition(object(), "c")


def test_stacks_are_used_again():
    def scenario(rt):
        for task in [rt.spawn(lambda: rt.sleep_ns(1), name="t") for _ in range(20)]:
            task.join()

    run(scenario).check()
    before = parked_count()
    for _ in range(5):
        run(scenario).check()
    assert parked_count() == before >= 21


# ---- drains


def table_with_pending(replies=2):
    table = PendingTable("pending")
    table.attach(0, 1)
    table.set_connected(0, 1, True)
    table.count(0, 1, replies)
    assert table.begin_drain(1) == replies
    return table


@pytest.mark.parametrize("poll_ns", [None, 10 * NS_PER_MS])
def test_a_drain_ends_with_the_last_reply(poll_ns):
    def scenario(rt):
        table = table_with_pending()

        def answer():
            for _ in range(2):
                rt.sleep_ns(13 * NS_PER_MS)
                table.count(0, 1, -1)

        rt.spawn(answer, name="io")
        wait = rt.drain_wait(table, 5 * NS_PER_S, poll_ns)
        assert wait.outcome == "drained"
        if poll_ns is None:
            assert 26 * NS_PER_MS <= wait.waited_ns <= 26 * NS_PER_MS + 1000
            assert (wait.polls, wait.wake_ups) == (0, 1)
        else:
            assert (wait.waited_ns, wait.polls, wait.wake_ups) == (30 * NS_PER_MS, 4, 0)

    run(scenario).check()


def test_a_drain_ends_at_its_deadline_or_when_it_is_called_off():
    def scenario(rt):
        table = table_with_pending()
        wait = rt.drain_wait(table, 5 * NS_PER_S, 10 * NS_PER_MS)
        assert (wait.outcome, wait.waited_ns, wait.polls) == ("deadline", 5 * NS_PER_S, 501)
        rt.spawn(lambda: rt.sleep_ns(NS_PER_MS) or table.supersede(), name="other")
        assert rt.drain_wait(table, 5 * NS_PER_S).outcome == "superseded"
        with pytest.raises(ValueError, match="-1"):
            rt.drain_wait(table, -1)
        with pytest.raises(ValueError, match="poll_ns 0"):
            rt.drain_wait(table, 1, 0)

    run(scenario).check()


def test_a_drain_is_shown_as_a_wait_at_the_gate():
    def scenario(rt):
        table = table_with_pending()
        task = rt.spawn(lambda: rt.drain_wait(table, NS_PER_S), name="io")
        rt.sleep_ns(NS_PER_MS)
        assert task.waiting_on is not None
        assert task.waiting_on.name == "pending"

    run(scenario).check()


def test_a_deadlock_error_tells_the_waits():
    with pytest.raises(SimDeadlock, match="test waits for event 'e', which nobody can end"):
        run(lambda rt: rt.event("e").wait()).check()
