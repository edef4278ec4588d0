"""The thread pool: pause, drain, wait, and the end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coordemu.coord.thpool import Thpool
from coordemu.coord.thpool_admin import ThpoolError
from coordemu.runtime.base import NS_PER_S, Runtime, Task
from coordemu.runtime.wait_for import chain_from

LONG_NS = 30 * NS_PER_S
Until = Callable[..., None]
WaitsFor = Callable[[Task, str], bool]
Check = Callable[[Thpool], bool]
Start = Callable[[Thpool], None]


Make = Callable[..., Thpool]


def test_pause_stops_pulling_and_waits_for_what_is_in_progress(
    make: Make, rt: Runtime, until: Until, waits_for: WaitsFor, all_asleep: Check
) -> None:
    pool = make(2)
    gate = rt.event("gate")
    done: list[int] = []

    def work(number: int) -> None:
        gate.wait(LONG_NS)
        done.append(number)

    pool.add_n_work([(work, number) for number in range(2)])
    until(lambda: pool.num_jobs_in_progress == 2)
    pauser = rt.spawn(pool.pause_threads, name="pauser")
    until(lambda: waits_for(pauser, "workers: nothing in progress"))
    assert pool.paused
    pool.add_n_work([(work, number) for number in range(2, 5)])
    gate.set()
    assert pauser.join(LONG_NS)
    assert sorted(done) == [0, 1]
    stats = pool.get_stats()
    assert (stats.total_pending_jobs, stats.num_jobs_in_progress) == (3, 0)
    until(lambda: all_asleep(pool))
    assert stats.total_pending_jobs == 3
    pool.resume_threads()
    until(lambda: sorted(done) == [0, 1, 2, 3, 4])
    assert not pool.paused


def test_pause_without_waiting_returns_while_a_job_runs(make: Make, rt: Runtime, until: Until) -> None:
    pool = make(1)
    gate = rt.event("gate")
    pool.add_work(lambda _: gate.wait(LONG_NS), None)
    until(lambda: pool.num_jobs_in_progress == 1)
    pool.pause_threads_no_wait()
    assert pool.paused
    assert pool.num_jobs_in_progress == 1
    gate.set()
    pool.resume_threads()


def test_resuming_what_is_not_paused_is_refused(make: Make) -> None:
    with pytest.raises(ThpoolError, match="not paused"):
        make(1).resume_threads()


def test_who_waits_for_a_paused_pool_waits_for_whoever_paused_it(
    make: Make, rt: Runtime, until: Until, waits_for: WaitsFor, all_asleep: Check, start_idle: Start
) -> None:
    pool = make(1)
    start_idle(pool)
    pool.pause_threads_no_wait()
    pool.add_work(lambda _: None, None)
    until(lambda: all_asleep(pool))
    drainer = rt.spawn(pool.wait, name="drainer")
    until(lambda: waits_for(drainer, "workers: no jobs left"))
    assert rt.current().name in chain_from(rt, drainer).steps
    pool.resume_threads()
    assert drainer.join(LONG_NS)


def test_a_pause_that_meets_threads_at_a_barrier_is_a_cycle(
    make: Make, rt: Runtime, until: Until, start_idle: Start
) -> None:
    """A pause right after a scheduled shrink waits for a thread that waits for one that the pause holds back."""
    pool = make(2)
    start_idle(pool)
    gate = rt.event("gate")
    pool.add_work(lambda _: gate.wait(LONG_NS), None)
    until(lambda: pool.num_jobs_in_progress == 1)
    pool.schedule_config_reduce_threads_job(2)
    until(lambda: pool.num_jobs_in_progress == 2)
    pauser = rt.spawn(pool.pause_threads, name="pauser")
    until(lambda: pool.paused)
    gate.set()
    until(lambda: chain_from(rt, pauser).kind == "cycle")
    assert set(chain_from(rt, pauser).steps) >= {"pauser", "workers: remove 2 threads", "workers: jobs"}
    pool.resume_threads()
    assert pauser.join(LONG_NS)
    until(lambda: pool.num_threads_alive == 0)


def test_drain_yields_between_looks_until_few_enough_are_left(make: Make, rt: Runtime) -> None:
    pool = make(1)
    gate = rt.event("gate")
    pool.add_n_work([(lambda _: gate.wait(LONG_NS), None)] * 3)
    yields: list[str] = []

    def on_yield(ctx: str) -> None:
        yields.append(ctx)
        if len(yields) == 3:
            gate.set()

    pool.drain(1, on_yield, "ctx", 3)
    assert yields == []  # three jobs are not more than three
    pool.drain(1, on_yield, "ctx", 2)
    assert len(yields) >= 3
    assert set(yields) == {"ctx"}
    assert pool.incomplete_jobs <= 2
    pool.drain(1, None, None, 0)
    assert pool.incomplete_jobs == 0


@pytest.mark.parametrize(("timeout_ms", "threshold"), [(0, 0), (1, -1)])
def test_drain_refuses_impossible_arguments(make: Make, timeout_ms: int, threshold: int) -> None:
    with pytest.raises(ValueError, match="timeout_ms"):
        make(1).drain(timeout_ms, None, None, threshold)


def test_wait_returns_when_nothing_is_left(make: Make) -> None:
    pool = make(2)
    done: list[int] = []
    pool.add_n_work([(done.append, number) for number in range(20)])
    pool.wait()
    assert len(done) == 20
    assert pool.incomplete_jobs == 0


def test_terminate_threads_ends_a_pause_keeps_the_queue_and_can_be_followed_by_more(
    make: Make, rt: Runtime, until: Until, waits_for: WaitsFor
) -> None:
    pool = make(2)
    gate = rt.event("gate")
    done: list[int] = []
    pool.add_n_work([(lambda _: gate.wait(LONG_NS), None)] * 2)
    until(lambda: pool.num_jobs_in_progress == 2)
    pool.pause_threads_no_wait()
    pool.add_n_work([(done.append, number) for number in range(3)])
    ender = rt.spawn(pool.terminate_threads, name="ender")
    until(lambda: waits_for(ender, "workers: terminate threads"))
    gate.set()
    assert ender.join(LONG_NS)
    assert (pool.paused, pool.is_initialized, pool.num_threads_alive, pool.num_threads) == (False, False, 0, 2)
    assert done == []
    assert pool.get_stats().total_pending_jobs == 3
    pool.add_work(done.append, 3)
    until(lambda: sorted(done) == [0, 1, 2, 3])
    assert pool.num_threads_alive == 2


def test_terminate_threads_without_threads_does_nothing(make: Make) -> None:
    pool = make(2)
    pool.terminate_threads()
    assert pool.num_threads == 2
    assert not pool.is_initialized


def test_a_worker_cannot_end_its_own_pool(make: Make, until: Until) -> None:
    pool = make(1)
    pool.add_work(lambda _: pool.terminate_threads(), None)
    until(lambda: pool.get_stats().job_errors == 1)
    assert "a worker can't end its own pool" in pool.job_errors[0]


def test_destroy_lets_the_jobs_finish_joins_the_threads_and_is_final(make: Make, rt: Runtime) -> None:
    pool = make(2)
    done: list[int] = []
    pool.add_n_work([(done.append, number) for number in range(50)])
    tasks = pool.tasks()
    pool.destroy()
    assert sorted(done) == list(range(50))
    assert not any(task.alive for task in tasks)
    pool.destroy()
    for refused in (
        lambda: pool.add_work(done.append, 1),
        lambda: pool.add_threads(1),
        lambda: pool.remove_threads(1),
        lambda: pool.schedule_config_reduce_threads_job(1),
    ):
        with pytest.raises(ThpoolError, match="destroyed"):
            refused()
    assert len(done) == 50


def test_destroy_does_not_wait_for_jobs_that_nobody_will_do(
    make: Make, logs: list[tuple[str, str]], start_idle: Start
) -> None:
    paused = make(1)
    start_idle(paused)
    paused.pause_threads_no_wait()
    paused.add_n_work([(print, None)] * 2)
    paused.destroy()
    assert ("warning", "workers: 2 jobs were never run") in logs
    threadless = make(0, name="none")
    threadless.add_work(print, None)
    threadless.destroy()
    assert ("warning", "none: 1 jobs were never run") in logs


def test_statistics_are_plain_and_complete(make: Make, start_idle: Start) -> None:
    pool = make(2, bias=1)
    start_idle(pool)
    assert pool.statistics() == {
        "state": "INITIALIZED",
        "paused": False,
        "total_jobs_done": 1,
        "total_pending_jobs": 0,
        "admin_priority_pending_jobs": 0,
        "high_priority_pending_jobs": 0,
        "low_priority_pending_jobs": 0,
        "num_threads_alive": 2,
        "num_threads": 2,
        "num_jobs_in_progress": 0,
        "job_errors": 0,
        "members": 2,
        "not_started": 0,
        "broadcasts": 0,
        "leaving": 0,
    }
    assert repr(pool) == "<Thpool workers INITIALIZED threads=2/2 queued=0 in_progress=0 done=1>"
