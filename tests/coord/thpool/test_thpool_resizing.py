"""More threads or fewer: growing, both forms of shrinking, and the admin job itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from coordemu.coord.thpool import Thpool
from coordemu.coord.thpool_admin import TRANSITIONS, Broadcast, ThpoolError, ThpoolPaused, ThreadCtx, ThreadState
from coordemu.runtime.base import NS_PER_S, Runtime, Task

LONG_NS = 30 * NS_PER_S
Until = Callable[..., None]
WaitsFor = Callable[[Task, str], bool]
Make = Callable[[int], Any]


def test_growing_what_is_not_initialised_changes_the_number_only(crowd: Make) -> None:
    pool = crowd(1).pool
    assert pool.add_threads(2) == 3
    assert (pool.num_threads, pool.num_threads_alive) == (3, 0)


def test_growing_returns_when_every_new_thread_runs(crowd: Make) -> None:
    crew = crowd(1)
    crew.busy(1)
    assert crew.pool.add_threads(3) == 4
    assert crew.pool.num_threads_alive == 4
    assert sorted(task.name for task in crew.pool.tasks()) == [f"workers-{number}" for number in range(4)]
    assert crew.pool.statistics()["not_started"] == 0
    assert crew.pool.add_threads(0) == 4


@pytest.mark.parametrize("operation", ["add_threads", "remove_threads", "schedule_config_reduce_threads_job"])
@pytest.mark.parametrize("initialised", [False, True])
def test_impossible_numbers_are_refused_and_change_nothing(crowd: Make, operation: str, initialised: bool) -> None:
    crew = crowd(2)
    if initialised:
        crew.idle()
    for number in (-1,) if operation == "add_threads" else (-1, 3):
        with pytest.raises(ValueError, match=f"{number} threads is not within"):
            getattr(crew.pool, operation)(number)
    assert crew.pool.num_threads == 2
    assert crew.pool.get_stats().total_pending_jobs == 0


def test_numbers_of_threads_that_have_left_are_used_again(crowd: Make) -> None:
    crew = crowd(3)
    crew.idle()
    crew.pool.remove_threads(2)
    crew.pool.add_threads(2)
    assert sorted(task.name for task in crew.pool.tasks()) == ["workers-0", "workers-1", "workers-2"]


@pytest.mark.parametrize("operation", ["remove_threads", "schedule_config_reduce_threads_job"])
def test_shrinking_what_is_not_initialised_changes_the_number_only(crowd: Make, operation: str) -> None:
    pool = crowd(3).pool
    assert getattr(pool, operation)(2) == 1
    assert (pool.num_threads, pool.get_stats().total_pending_jobs) == (1, 0)


def test_a_scheduled_shrink_returns_at_once_and_each_thread_takes_one_admin_job(
    crowd: Make, rt: Runtime, until: Until
) -> None:
    crew = crowd(3)
    crew.busy(3)
    assert crew.pool.schedule_config_reduce_threads_job(2) == 1
    assert crew.pool.num_threads == 1
    assert crew.pool.num_threads_alive == 3
    stats = crew.pool.statistics()
    assert (stats["admin_priority_pending_jobs"], stats["broadcasts"], stats["leaving"]) == (2, 1, 2)
    crew.gate.set()
    until(crew.settled)
    stats = crew.pool.statistics()
    assert (stats["broadcasts"], stats["leaving"], stats["members"]) == (0, 0, 1)
    assert any(event.detail == "workers: remove 2 threads: all 2 threads came" for event in rt.trace_events())


def test_who_came_early_waits_at_the_barrier_and_a_new_thread_may_be_the_one_that_was_missing(
    crowd: Make, until: Until, waits_for: WaitsFor
) -> None:
    crew = crowd(2)
    crew.idle()
    crew.pool.add_work(crew.work, 1)
    until(lambda: crew.pool.num_jobs_in_progress == 1)
    crew.pool.schedule_config_reduce_threads_job(2)
    until(lambda: any(waits_for(task, "workers: remove 2 threads") for task in crew.pool.tasks()))
    assert crew.pool.num_threads_alive == 2
    crew.pool.add_threads(1)
    until(lambda: crew.pool.num_threads_alive == 1)
    assert crew.done == []  # the one that is left is the one that was busy
    crew.gate.set()
    until(crew.settled)
    assert crew.done == [1]


def test_told_to_leave_at_once_means_after_the_current_job(crowd: Make, until: Until) -> None:
    crew = crowd(1)
    crew.busy(1)
    crew.pool.add_n_work([(crew.done.append, 10), (crew.done.append, 11)])
    crew.pool.schedule_config_reduce_threads_job(1)
    assert crew.pool.is_initialized
    crew.gate.set()
    until(lambda: crew.pool.num_threads_alive == 0)
    assert crew.done == [0]
    assert crew.pool.get_stats().total_pending_jobs == 2
    crew.pool.add_threads(1)
    until(lambda: crew.done == [0, 10, 11])


def test_when_empty_must_be_all_of_them(crowd: Make) -> None:
    crew = crowd(3)
    crew.idle()
    with pytest.raises(ValueError, match="all 3 threads must go, not 2"):
        crew.pool.schedule_config_reduce_threads_job(2, when_empty=True)
    assert (crew.pool.num_threads, crew.pool.is_initialized) == (3, True)


def test_when_empty_makes_it_uninitialised_right_away_and_the_queue_is_done_first(crowd: Make, until: Until) -> None:
    crew = crowd(2)
    crew.busy(2)
    crew.pool.add_n_work([(crew.done.append, number) for number in range(10, 20)])
    assert crew.pool.schedule_config_reduce_threads_job(2, when_empty=True) == 0
    assert not crew.pool.is_initialized
    assert crew.pool.num_threads_alive == 2
    crew.gate.set()
    until(lambda: crew.pool.num_threads_alive == 0)
    assert sorted(crew.done) == [0, 1, *range(10, 20)]


def test_threads_that_leave_when_empty_ignore_a_pause(crowd: Make, rt: Runtime, until: Until) -> None:
    crew = crowd(2)
    crew.busy(2)
    second_gate = rt.event("second gate")
    crew.pool.add_n_work([(lambda _: second_gate.wait(LONG_NS), None)] * 2)
    crew.pool.schedule_config_reduce_threads_job(2, when_empty=True)
    crew.gate.set()
    # Both have taken their admin job once both are in the next two jobs.
    until(lambda: len(crew.done) == 2 and crew.pool.statistics()["broadcasts"] == 0)
    until(lambda: crew.pool.num_jobs_in_progress == 2 and crew.pool.get_stats().total_pending_jobs == 0)
    crew.pool.pause_threads_no_wait()
    crew.pool.add_n_work([(crew.done.append, 10), (crew.done.append, 11)])
    second_gate.set()
    until(lambda: crew.pool.num_threads_alive == 0)
    assert sorted(crew.done) == [0, 1, 10, 11]
    assert crew.pool.paused
    crew.pool.resume_threads()


@pytest.mark.parametrize(
    "operation",
    [
        lambda pool: pool.schedule_config_reduce_threads_job(1),
        lambda pool: pool.schedule_config_reduce_threads_job(2, when_empty=True),
        lambda pool: pool.remove_threads(1),
        lambda pool: pool.terminate_when_empty(),
    ],
    ids=["schedule", "schedule-when-empty", "remove", "terminate-when-empty"],
)
def test_a_paused_pool_cannot_be_reduced(crowd: Make, operation: Callable[[Thpool], object]) -> None:
    crew = crowd(2)
    crew.idle()
    crew.pool.pause_threads()
    with pytest.raises(ThpoolPaused, match="paused"):
        operation(crew.pool)
    stats = crew.pool.statistics()
    assert (stats["num_threads"], stats["state"], stats["total_pending_jobs"], stats["leaving"]) == (
        2,
        "INITIALIZED",
        0,
        0,
    )


def test_remove_threads_waits_at_the_barrier_and_then_until_they_have_gone(
    crowd: Make, until: Until, waits_for: WaitsFor
) -> None:
    crew = crowd(3)
    crew.busy(3)
    remover = crew.aside(crew.pool.remove_threads, 2)
    until(lambda: waits_for(remover, "workers: remove 2 threads"))
    assert crew.pool.num_threads == 1
    crew.gate.set()
    assert remover.join(LONG_NS)
    assert crew.pool.num_threads_alive == 1
    assert crew.pool.remove_threads(0) == 1


def test_removing_ends_with_a_poll_of_one_microsecond(
    make: Callable[..., Thpool], rt: Runtime, watched: Callable[[Runtime], Any]
) -> None:
    polls: list[tuple[str, int]] = []

    def poll_until(predicate: Callable[[], bool], interval_ns: int, why: str, *args: Any, **rest: Any) -> bool:
        polls.append((why, interval_ns))
        return rt.poll_until(predicate, interval_ns, why, *args, **rest)

    runtime = watched(rt)
    runtime.poll_until = poll_until
    pool = make(3, runtime=runtime)
    pool.add_work(lambda _: None, None)
    assert pool.remove_threads(2) == 1
    assert polls == [("workers: 1 threads alive", 1000)]


def test_the_second_wait_is_a_poll_that_names_who_is_to_leave(crowd: Make, until: Until, waits_for: WaitsFor) -> None:
    crew = crowd(2)
    crew.busy(2)
    crew.pool.schedule_config_reduce_threads_job(1)
    waiter = crew.aside(crew.pool.wait_until_alive, 1)
    until(lambda: waits_for(waiter, "workers: 1 threads alive"))
    crew.gate.set()
    assert waiter.join(LONG_NS)
    assert crew.pool.num_threads_alive == 1


def test_terminate_when_empty_waits_until_each_has_heard_and_not_longer(
    crowd: Make, rt: Runtime, until: Until, waits_for: WaitsFor
) -> None:
    crew = crowd(2)
    crew.busy(2)
    second_gate = rt.event("second gate")
    crew.pool.add_n_work([(lambda _: second_gate.wait(LONG_NS), None)] * 2)
    caller = crew.aside(crew.pool.terminate_when_empty)
    until(lambda: waits_for(caller, "workers: terminate when empty"))
    assert crew.pool.statistics()["state"] == "INITIALIZED"
    crew.gate.set()
    assert caller.join(LONG_NS)
    assert crew.pool.statistics()["state"] == "UNINITIALIZED"
    assert crew.pool.num_threads_alive == 2  # they have heard, and are in the jobs that were queued
    assert crew.pool.remove_threads(2) == 0  # only the number
    second_gate.set()
    until(lambda: crew.pool.num_threads_alive == 0)
    assert crew.pool.get_stats().total_jobs_done == 4


def test_terminate_when_empty_does_nothing_when_not_initialised(crowd: Make) -> None:
    pool = crowd(2).pool
    pool.terminate_when_empty()
    assert pool.num_threads == 2
    assert pool.get_stats().total_pending_jobs == 0


def test_nothing_leads_out_of_terminate_asap() -> None:
    assert set(TRANSITIONS) == set(ThreadState)
    assert not TRANSITIONS[ThreadState.TERMINATE_ASAP]
    ctx = ThreadCtx(0, "workers-0")
    broadcast = Broadcast("test", 1, every=False, on_passed=lambda _: None)
    broadcast.meet(ctx, ThreadState.TERMINATE_ASAP)
    for state in ThreadState:
        with pytest.raises(ThpoolError, match="no way leads"):
            broadcast.meet(ctx, state)
    assert ctx.state is ThreadState.TERMINATE_ASAP
