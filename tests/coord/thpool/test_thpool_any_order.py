"""Pool operations in any order: every job is done once, and the number of threads is the one wanted."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from coordemu.runtime.base import Runtime

Until = Callable[..., None]

COUNTS = st.integers(1, 3)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["push", "push high", "push held", "push nested"]), COUNTS),
        st.tuples(st.sampled_from(["add", "schedule", "remove"]), COUNTS),
        st.tuples(
            st.sampled_from(["schedule when empty", "when empty", "terminate", "hold", "let go", "resume"]), st.just(0)
        ),
        st.tuples(st.sampled_from(["pause", "pause and wait"]), st.just(0)),
    ),
    max_size=25,
)


class AnyOrder:
    """Carries out steps; keeps the gate open for those that wait for running jobs."""

    def __init__(self, crew: Any, n: int, until: Until) -> None:
        self.crew = crew
        self.until = until
        self.pool = self.crew.pool
        self.crew.gate.set()
        self.numbers = count()
        self.pushed: list[int] = []
        self.wanted = n

    def number(self) -> int:
        number = next(self.numbers)
        self.pushed.append(number)
        return number

    def nested(self, number: int) -> None:
        self.pool.add_work(self.crew.done.append, self.number())
        self.crew.done.append(number)

    def free_to_block(self) -> None:
        self.crew.gate.set()
        if self.pool.paused:
            self.pool.resume_threads()

    def push(self, kind: str, n: int) -> None:
        if not self.pool.is_initialized:
            self.free_to_block()  # a revival waits for the threads that are left
        job = {"push held": self.crew.work, "push nested": self.nested}.get(kind, self.crew.done.append)
        self.pool.add_n_work([(job, self.number()) for _ in range(n)], "high" if kind == "push high" else "low")

    def step(self, what: str, n: int) -> None:
        pool = self.pool
        if what.startswith("push"):
            self.push(what, n)
        elif what == "add":
            if pool.num_threads + n <= 6:
                self.free_to_block()  # new threads may have to wait for a revival
                self.wanted = pool.add_threads(n)
        elif what in ("schedule", "remove", "schedule when empty", "when empty"):
            if pool.paused:
                pool.resume_threads()
            n = min(n, pool.num_threads)
            if what == "schedule":
                self.wanted = pool.schedule_config_reduce_threads_job(n)
            elif what == "schedule when empty":
                self.wanted = pool.schedule_config_reduce_threads_job(pool.num_threads, when_empty=True)
            else:
                self.crew.gate.set()
                if what == "when empty":
                    pool.terminate_when_empty()
                else:
                    self.wanted = pool.remove_threads(n)
        elif what == "terminate":
            self.crew.gate.set()
            pool.terminate_threads()
        elif what == "hold":
            self.crew.gate.clear()
        elif what == "let go":
            self.crew.gate.set()
        elif what == "resume":
            if pool.paused:
                pool.resume_threads()
        elif what == "pause":
            pool.pause_threads_no_wait()
        else:
            self.free_to_block()
            self.until(lambda: pool.statistics()["broadcasts"] == 0)
            pool.pause_threads()
            assert pool.num_jobs_in_progress == 0

    def finish(self) -> None:
        self.free_to_block()
        if self.pool.num_threads == 0:
            self.wanted = self.pool.add_threads(1)
        self.push("push", 1)
        self.until(self.crew.settled)
        assert self.pool.num_threads == self.wanted


def carry_out(rt: Runtime, run: AnyOrder, steps: list[tuple[str, int]]) -> None:
    for what, number in steps:
        run.step(what, number)
        assert run.pool.num_threads == run.wanted
    run.finish()
    assert sorted(run.crew.done) == sorted(run.pushed)
    run.until(lambda: run.crew.asleep() == run.wanted)
    stats = run.pool.statistics()
    assert (stats["members"], stats["leaving"], stats["broadcasts"], stats["not_started"]) == (run.wanted, 0, 0, 0)
    assert stats["total_jobs_done"] == len(run.pushed)
    assert stats["job_errors"] == 0
    run.pool.destroy()
    assert not [task for task in rt.tasks() if task.name.startswith("workers")]


@settings(max_examples=60, deadline=None)
@given(n=st.integers(0, 4), steps=STEPS)
def test_any_order_does_every_job_once_and_ends_with_the_number_wanted(
    n: int,
    steps: list[tuple[str, int]],
    new_crowd: Callable[..., Any],
    until_on: Callable[..., None],
    runtime_kind: str,
    make_runtime: Callable[[str], Runtime],
    play: Callable[..., None],
) -> None:
    rt = make_runtime(runtime_kind)
    run = AnyOrder(new_crowd(rt, n), n, partial(until_on, rt))
    play(rt, lambda: carry_out(rt, run, steps))
