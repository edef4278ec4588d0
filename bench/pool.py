"""Thread pool: jobs per second, and the time from push to start, against the pools that Python offers.

Role: `coordemu.coord.thpool.Thpool` with all of its features on (priorities, tickets, admin jobs, pause, wait-for
graph) and 8 threads; no-op jobs. *One at a time*: push, wait until it has run, push the next. *Batches of 64*: push
64, wait until all have run. *20,000 at once*: the same with 20,000. *Push to start*: from just before the push to the
job's first line, on an idle pool. All wait by the same means, a raw lock that the last job releases; the executor's
own `Future.result` is not used.

Thread: the caller's pushes. Upstream: redisearch_thpool_add_work, add_n_work (deps/thpool). Left out: jobs that do
something.
"""

from __future__ import annotations

import time
from _thread import allocate_lock
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from queue import SimpleQueue
from threading import Thread
from time import perf_counter_ns
from typing import Any, Protocol

from bench.load_threads import BusyThreads
from bench.measure import PER_S, US, Case, Contender, Effort, Progress, Report, run_case, silent
from coordemu.coord.thpool import Thpool
from coordemu.runtime.threads import ThreadsRuntime

THREADS = 8
EXECUTOR = "ThreadPoolExecutor(8)"
SIMPLE = "SimpleQueue + 8 threads"
OURS = "Thpool(8)"
OURS_EACH = "Thpool(8), pushed one by one"

Job = Callable[[Any], object]


class Pool(Protocol):
    """What the measurements need of a pool."""

    def push(self, job: Job) -> None:
        """One job."""

    def push_n(self, jobs: Sequence[Job]) -> None:
        """Several, as this pool would have it."""

    def close(self) -> None:
        """End its threads."""


class ExecutorPool:
    """concurrent.futures; it has no batch of its own, so it gets one job after the other."""

    def __init__(self, threads: int = THREADS) -> None:
        self._pool = ThreadPoolExecutor(threads)

    def push(self, job: Job) -> None:
        """One job."""
        self._pool.submit(job, None)

    def push_n(self, jobs: Sequence[Job]) -> None:
        """One after the other."""
        submit = self._pool.submit
        for job in jobs:
            submit(job, None)

    def close(self) -> None:
        """End its threads."""
        self._pool.shutdown()


class QueuePool:
    """The least that one can write: threads that take jobs from a SimpleQueue."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._threads = [Thread(target=self._work) for _ in range(THREADS)]
        for thread in self._threads:
            thread.start()

    def _work(self) -> None:
        get = self._queue.get
        while (job := get()) is not None:
            job(None)

    def push(self, job: Job) -> None:
        """One job."""
        self._queue.put(job)

    def push_n(self, jobs: Sequence[Job]) -> None:
        """One after the other."""
        put = self._queue.put
        for job in jobs:
            put(job)

    def close(self) -> None:
        """End its threads."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()


class OurPool:
    """Thpool. each: push batches one by one, instead of by add_n_work."""

    def __init__(self, threads: int = THREADS, each: bool = False) -> None:
        self._pool = Thpool(ThreadsRuntime(seed=1), threads, 1, lambda level, line: None, "bench")
        self._each = each

    def push(self, job: Job) -> None:
        """One job."""
        self._pool.add_work(job, None)

    def push_n(self, jobs: Sequence[Job]) -> None:
        """One add_n_work, or one by one."""
        if self._each:
            add_work = self._pool.add_work
            for job in jobs:
                add_work(job, None)
        else:
            self._pool.add_n_work([(job, None) for job in jobs])

    def close(self) -> None:
        """End its threads. Raises AssertionError when a job raised."""
        self._pool.destroy()
        assert not self._pool.get_stats().job_errors


def one_at_a_time(pool: Pool, jobs: int) -> Callable[[], float]:
    """A sampler: jobs per second, each pushed when the one before has run."""
    done = allocate_lock()
    done.acquire()

    def job(_arg: Any) -> None:
        done.release()

    def sample() -> float:
        push, wait = pool.push, done.acquire
        began = perf_counter_ns()
        for _ in range(jobs):
            push(job)
            wait()
        return jobs * 1e9 / (perf_counter_ns() - began)

    return sample


def in_batches(pool: Pool, batch: int, batches: int) -> Callable[[], float]:
    """A sampler: jobs per second, a batch pushed when the one before has run."""
    done = allocate_lock()
    done.acquire()
    turn = count(1).__next__

    def job(_arg: Any) -> None:
        if not turn() % batch:
            done.release()

    jobs = [job] * batch

    def sample() -> float:
        push_n, wait = pool.push_n, done.acquire
        began = perf_counter_ns()
        for _ in range(batches):
            push_n(jobs)
            wait()
        return batch * batches * 1e9 / (perf_counter_ns() - began)

    return sample


def _push_to_start(pool: Pool, pause_s: float) -> Callable[[], float]:
    done = allocate_lock()
    done.acquire()
    started_ns = 0

    def job(_arg: Any) -> None:
        nonlocal started_ns
        started_ns = perf_counter_ns()
        done.release()

    def sample() -> float:
        time.sleep(pause_s)
        pushed_ns = perf_counter_ns()
        pool.push(job)
        done.acquire()
        return (started_ns - pushed_ns) / 1e3

    return sample


def _several(sampler: Callable[[], float], n: int) -> Callable[[], list[float]]:
    return lambda: [sampler() for _ in range(n)]


def run(effort: Effort, progress: Progress = silent) -> Report:
    """Measure. Blocks for some seconds."""
    report = Report("pool")
    rounds = effort.pick(20, 6, 1)
    pools: dict[str, Pool] = {
        EXECUTOR: ExecutorPool(), SIMPLE: QueuePool(), OURS: OurPool(), OURS_EACH: OurPool(each=True),
    }  # fmt: skip

    def case(
        title: str, unit: str, make: Callable[[Pool], Any], names: Sequence[str], turns: int, note: str = ""
    ) -> Case:
        contenders = [Contender(name, make(pools[name]), ours=name in (OURS, OURS_EACH)) for name in names]
        return Case(title, unit, contenders, [EXECUTOR, SIMPLE], turns, note)

    one, few, flood = effort.pick(2000, 500, 20), effort.pick(100, 20, 1), effort.pick(20_000, 20_000, 200)
    single = [EXECUTOR, SIMPLE, OURS]
    each = "Only Thpool has a push of several jobs; the others, and its last row, push one by one."
    start = effort.pick(50, 20, 1)
    try:
        cases = [
            case("one at a time, jobs/s", PER_S, lambda pool: one_at_a_time(pool, one), single, rounds),
            case("batches of 64, jobs/s", PER_S, lambda pool: in_batches(pool, 64, few), list(pools), rounds, each),
            case(
                f"{flood:,} at once, jobs/s", PER_S, lambda pool: in_batches(pool, flood, 1), list(pools), rounds, each
            ),
            case(
                "push to start, idle pool",
                US,
                lambda pool: _several(_push_to_start(pool, 0.001), start),
                single,
                rounds,
            ),
        ]
        report.cases = [run_case(each_case, progress) for each_case in cases]
        with BusyThreads(1):
            title, turns = "push to start, beside a busy thread", effort.pick(20, 6, 1)
            busy = case(title, US, lambda pool: _several(_push_to_start(pool, 0.001), 3), single, turns)
            report.cases.append(run_case(busy, progress))
    finally:
        for pool in pools.values():
            pool.close()
    ratios = [case.row(OURS).times_better[EXECUTOR] for case in report.cases[:4]]
    report.conclusion = (
        f"Thpool against {EXECUTOR}: one at a time {ratios[0]:.2f} times its jobs/s, batches of 64 {ratios[1]:.2f}, "
        f"{flood:,} at once {ratios[2]:.2f}; push to start {1 / ratios[3]:.2f} times its time"
    )
    return report
