"""Reduce a pool while holding a lock that its jobs need: who waits for the threads hangs, who does not is fine."""

import pytest

from coordemu.coord.thpool import Thpool

THREADS = 2


def shrink_with_the_lock_held(rt, reduce):
    lock = rt.lock("module lock")
    done = []

    def job(number):
        with lock:
            done.append(number)

    pool = Thpool(rt, THREADS, 0, lambda level, line: None, "pool")
    pool.add_n_work([(job, number) for number in range(THREADS)])
    with lock:
        reduce(pool)
    pool.destroy()
    assert sorted(done) == list(range(THREADS))


@pytest.mark.interleavings(n=500, expect="deadlocked")
def test_waiting_for_the_threads(sim_rt):
    shrink_with_the_lock_held(sim_rt, Thpool.terminate_when_empty)


@pytest.mark.interleavings(n=500)
def test_telling_them_and_going_on(sim_rt):
    shrink_with_the_lock_held(sim_rt, lambda pool: pool.schedule_config_reduce_threads_job(THREADS, when_empty=True))
