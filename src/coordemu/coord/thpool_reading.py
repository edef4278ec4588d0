"""ThpoolReading: a thread pool's numbers.

Role: the base of `coordemu.coord.thpool.Thpool`: it makes the parts that all operations share, and answers questions
about them.
Thread: any; what is said to take the lock may wait for it for the length of one push or pull.
Upstream: redisearch_thpool_get_stats, redisearch_thpool_get_num_threads and the like in deps/thpool/thpool.c.
Left out: nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from coordemu.coord.thpool_crew import Crew
from coordemu.coord.thpool_state import INITIALIZED, Log, PoolState
from coordemu.coord.thpool_stats import ThpoolStats
from coordemu.runtime.base import Runtime, Task


class ThpoolReading:
    """The parts of a pool and what can be read from them. The arguments are those of `coordemu.coord.thpool.Thpool`."""

    def __init__(self, rt: Runtime, n_threads: int, num_high_priority_bias: int, log: Log, name: str) -> None:
        if n_threads < 0:
            raise ValueError(f"n_threads {n_threads} is below 0")
        self._pool = PoolState(rt, num_high_priority_bias, log, name)
        self._pool.num_threads = n_threads
        self._crew = Crew(self._pool)

    def __repr__(self) -> str:
        stats = self.get_stats()
        return (
            f"<Thpool {self.name} {self._pool.state.value}{' paused' if self.paused else ''} "
            f"threads={stats.num_threads_alive}/{stats.num_threads} queued={stats.total_pending_jobs} "
            f"in_progress={stats.num_jobs_in_progress} done={stats.total_jobs_done}>"
        )

    @property
    def name(self) -> str:
        """The pool's name, 10 characters at most."""
        return self._pool.name

    @property
    def num_threads(self) -> int:
        """Threads wanted. Upstream: redisearch_thpool_get_num_threads."""
        return self._pool.num_threads

    @property
    def num_threads_alive(self) -> int:
        """Threads that exist or are being started, those included that have been told to go."""
        return self._pool.num_threads_alive.value

    @property
    def num_jobs_in_progress(self) -> int:
        """Jobs pulled and not finished, admin jobs counted. Upstream: redisearch_thpool_num_jobs_in_progress."""
        return self._pool.num_jobs_in_progress.value

    @property
    def is_initialized(self) -> bool:
        """Whether a push finds threads, or threads on their way. Upstream: redisearch_thpool_is_initialized."""
        return self._pool.state.value == INITIALIZED

    @property
    def paused(self) -> bool:
        """Whether jobs are not pulled. Upstream: redisearch_thpool_paused."""
        return self._pool.paused

    @property
    def incomplete_jobs(self) -> int:
        """Queued and in progress, read together under the lock. Upstream: priority_queue_num_incomplete_jobs."""
        with self._pool.lock:
            return self._pool.incomplete_jobs_locked()

    @property
    def job_errors(self) -> tuple[str, ...]:
        """What jobs raised, a line each, the newest 64."""
        with self._pool.lock:
            return tuple(self._pool.job_errors)

    def tasks(self) -> Sequence[Task]:
        """The threads that exist now. Thread: any. Never blocks."""
        return [member.task for member in self._pool.members if member.task is not None]

    def get_stats(self) -> ThpoolStats:
        """All numbers in one reading. Thread: any; takes the lock. Upstream: redisearch_thpool_get_stats,
        deps/thpool/thpool.c.
        """
        pool = self._pool
        with pool.lock:
            admin, high, low = pool.queues.lengths_locked()
            return ThpoolStats(
                total_jobs_done=pool.total_jobs_done,
                total_pending_jobs=admin + high + low,
                admin_priority_pending_jobs=admin,
                high_priority_pending_jobs=high,
                low_priority_pending_jobs=low,
                num_threads_alive=pool.num_threads_alive.value,
                num_threads=pool.num_threads,
                num_jobs_in_progress=pool.num_jobs_in_progress.value,
                job_errors=pool.num_job_errors,
            )

    def statistics(self) -> dict[str, int | str | bool]:
        """`get_stats`, the crew's numbers, state and paused, as plain values. Thread: any; takes the lock."""
        return {
            "state": self._pool.state.value,
            "paused": self.paused,
            **self.get_stats().to_json(),
            **self._crew.statistics(),
        }
