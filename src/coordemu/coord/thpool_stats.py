"""ThpoolStats: what a thread pool has done, holds and runs, read in one go.

Role: the value that `coordemu.coord.thpool.Thpool.get_stats` returns; results, logs and tests read it.
Thread: frozen, any. Upstream: thpool_stats, deps/thpool/thpool.h.
Left out: times; a job's duration is the business of whoever submits it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class ThpoolStats:
    """One reading, consistent in itself: all fields come from one critical section.

    total_jobs_done: jobs finished, admin jobs not counted.
    total_pending_jobs: queued, all three queues; the next three are its parts.
    num_threads_alive: threads that exist, those included that have been told to go and have not gone yet.
    num_threads: threads wanted.
    num_jobs_in_progress: pulled and not finished, admin jobs counted (a thread that waits at an admin job's barrier
    is one).
    job_errors: jobs that raised.
    """

    total_jobs_done: int
    total_pending_jobs: int
    admin_priority_pending_jobs: int
    high_priority_pending_jobs: int
    low_priority_pending_jobs: int
    num_threads_alive: int
    num_threads: int
    num_jobs_in_progress: int
    job_errors: int

    @property
    def incomplete_jobs(self) -> int:
        """Queued and in progress."""
        return self.total_pending_jobs + self.num_jobs_in_progress

    def to_json(self) -> dict[str, int]:
        """The fields as plain values."""
        return asdict(self)
