"""The workers' facade: what a change of WORKERS becomes, its logs, operation events, drain, and the incident."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from coordemu.coord.config import Config, workers_setter
from coordemu.coord.thpool_admin import ThpoolError, ThpoolPaused
from coordemu.coord.workers import WorkersThreadPool
from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Runtime
from coordemu.runtime.wait_for import Chain, chain_from

LONG_NS = 30 * NS_PER_S
Log = list[tuple[str, str]]
Eventually = Callable[..., Any]


class Bench:
    """Workers over a configuration, their log, and the operations that reach the pool."""

    def __init__(self, rt: Runtime, config: Config, yield_cb: Callable[[Any], object] | None = None) -> None:
        self.rt = rt
        self.log: Log = []
        self.config = config
        self.workers = WorkersThreadPool(rt, self.config, lambda *line: self.log.append(line), yield_cb)

    def set(self, number: int, reduce: str = "async") -> int:
        self.config.config_set("WORKERS", number)
        return self.workers.set_num_workers(reduce)

    def start(self) -> None:
        self.workers.add_work(lambda _: None, None)
        self.rt.poll_until(lambda: self.workers.stats().incomplete_jobs == 0, NS_PER_MS, "no jobs", LONG_NS)

    def notices(self) -> list[str]:
        return [line for level, line in self.log if level == "notice"]

    def pool_steps(self) -> list[str]:
        return [event.ours for event in self.rt.trace_events() if event.ours.startswith("Thpool.")]


@pytest.fixture
def bench(rt: Runtime) -> Iterator[Callable[..., Bench]]:
    benches: list[Bench] = []

    def make(yield_cb: Callable[[Any], object] | None = None, **values: Any) -> Bench:
        benches.append(Bench(rt, Config(**values), yield_cb))
        return benches[-1]

    yield make
    for each in benches:
        if each.workers.paused:
            each.workers.resume()
        each.workers.destroy()


Make = Callable[..., Bench]


def test_the_pool_is_called_workers_and_starts_with_the_first_job(bench: Make) -> None:
    it = bench(workers=3)
    assert (it.workers.num_threads, it.workers.num_threads_alive) == (3, 0)
    it.start()
    assert sorted(task.name for task in it.workers.threads()) == ["workers-0", "workers-1", "workers-2"]
    assert it.notices() == ["workers threadpool enabled, size 3"]
    assert bench().notices() == ["workers threadpool disabled, size 0"]


def test_the_tickets_come_from_the_configuration(bench: Make, eventually: Eventually) -> None:
    it = bench(workers=1, workers_priority_bias_threshold=0)
    done: list[str] = []
    it.workers.pool.pause_threads_no_wait()
    for label in ("l0", "l1"):
        it.workers.add_work(done.append, label, "low")
    for label in ("h0", "h1"):
        it.workers.add_work(done.append, label)  # high, unless said otherwise
    it.workers.resume()
    eventually(lambda: len(done) == 4)
    assert done == ["h0", "l0", "h1", "l1"]


@pytest.mark.parametrize(
    ("before", "after", "reduce", "steps", "notices"),
    [
        (2, 2, "async", [], []),
        (2, 4, "async", ["add_threads"], ["changing the workers threadpool from 2 to 4 threads"]),
        (2, 4, "sync", ["add_threads"], ["changing the workers threadpool from 2 to 4 threads"]),
        (4, 1, "sync", ["remove_threads"], ["changing the workers threadpool from 4 to 1 threads"]),
        (
            4,
            1,
            "async",
            ["schedule_config_reduce_threads_job"],
            ["changing the workers threadpool from 4 to 1 threads"],
        ),
        (
            3,
            0,
            "sync",
            ["terminate_when_empty", "remove_threads"],
            ["changing the workers threadpool from 3 to 0 threads", "workers threadpool disabled, size was 3"],
        ),
        (
            3,
            0,
            "async",
            ["schedule_config_reduce_threads_job"],
            ["changing the workers threadpool from 3 to 0 threads", "workers threadpool disabled, size was 3"],
        ),
    ],
)
def test_each_change_becomes_its_operation(
    bench: Make, before: int, after: int, reduce: str, steps: list[str], notices: list[str], eventually: Eventually
) -> None:
    it = bench(workers=before)
    it.start()
    seen, logged = len(it.pool_steps()), len(it.notices())
    assert it.set(after, reduce) == after
    assert it.pool_steps()[seen:] == [f"Thpool.{step}" for step in steps]
    assert it.notices()[logged:] == notices
    assert it.workers.num_threads == after
    eventually(lambda: it.workers.num_threads_alive == after)
    assert it.workers.pool.is_initialized == (after > 0)


def test_enabling_from_nothing_is_said_and_starts_nothing_yet(bench: Make) -> None:
    it = bench()
    assert it.set(2) == 2
    assert it.notices()[1:] == [
        "changing the workers threadpool from 0 to 2 threads",
        "workers threadpool enabled, size 2",
    ]
    assert it.workers.num_threads_alive == 0
    it.start()
    assert it.workers.num_threads_alive == 2


def test_another_way_of_reducing_is_refused(bench: Make) -> None:
    it = bench(workers=1)
    with pytest.raises(ValueError, match="handoff"):
        it.set(0, "handoff")
    assert it.workers.num_threads == 1


def test_an_operation_event_has_the_larger_of_both_numbers(bench: Make, eventually: Eventually) -> None:
    it = bench(workers=2, min_operation_workers=5)
    it.start()
    assert it.workers.operation_event_begin() == 5
    assert it.workers.num_threads_alive == 5
    assert it.workers.operation_event_begin() == 5
    assert it.set(7) == 7
    assert it.set(3) == 5
    assert it.workers.operation_event_end() == 5
    assert it.workers.statistics()["events"] == 1
    assert it.workers.operation_event_end() == 3
    assert it.workers.in_operation_event is False
    eventually(lambda: it.workers.num_threads_alive == 3)
    with pytest.raises(ThpoolError, match="no operation event"):
        it.workers.operation_event_end()


def test_a_paused_pool_is_not_reduced_and_an_event_that_would_have_to_stays_open(bench: Make) -> None:
    it = bench(workers=2, min_operation_workers=4)
    it.start()
    it.workers.operation_event_begin()
    it.workers.pause()
    logged = len(it.log)
    for reduce in ("sync", "async"):
        with pytest.raises(ThpoolPaused):
            it.workers.operation_event_end(reduce)
    assert it.workers.in_operation_event
    assert it.workers.num_threads == 4
    assert it.log[logged:] == []
    it.workers.resume()
    assert it.workers.operation_event_end() == 2


def test_pause_and_resume_refuse_what_is_so_already_and_what_has_no_workers(bench: Make) -> None:
    it = bench(workers=1)
    with pytest.raises(ThpoolError, match="not paused"):
        it.workers.resume()
    it.workers.pause(wait=False)
    assert repr(it.workers.pool).startswith("<Thpool workers UNINITIALIZED paused ")
    with pytest.raises(ThpoolError, match="paused already"):
        it.workers.pause()
    it.workers.resume()
    assert not it.workers.paused
    with pytest.raises(ThpoolError, match="no workers"):
        bench().workers.pause()


def test_drain_does_nothing_on_a_paused_pool(bench: Make) -> None:
    yields: list[Any] = []
    it = bench(workers=1, yield_cb=yields.append)
    it.workers.pause()
    it.workers.add_work(lambda _: None, None)
    logged = len(it.notices())
    assert it.workers.drain() is False
    assert yields == []
    assert it.notices()[logged:] == []
    assert it.workers.stats().total_pending_jobs == 1


class FastPolls:
    """A runtime whose polls ask for 100 ms and take none: ten yields need not take a second."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self.intervals: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rt, name)

    def poll_until(self, predicate: Callable[[], bool], interval_ns: int, *args: Any, **rest: Any) -> bool:
        self.intervals.append(interval_ns)
        return predicate()


def test_drain_yields_every_100_ms_and_logs_every_tenth_yield(rt: Runtime, eventually: Eventually) -> None:
    fast = FastPolls(rt)
    gate = rt.event("gate")
    yields: list[Any] = []

    def on_yield(ctx: Any) -> None:
        yields.append(ctx)
        if len(yields) == 25:
            gate.set()
            eventually(lambda: it.workers.stats().incomplete_jobs == 0)

    it = Bench(cast(Runtime, fast), Config(workers=1), on_yield)
    it.workers.add_work(lambda _: gate.wait(LONG_NS), None)
    assert it.workers.drain(0, "ctx") is True
    assert yields == ["ctx"] * 25
    assert fast.intervals == [100 * NS_PER_MS] * 25
    assert [line for level, line in it.log if level == "verbose" and line.startswith("yield")] == [
        "yield 10 while the workers finish, one every 100 ms",
        "yield 20 while the workers finish, one every 100 ms",
    ]
    assert it.notices()[-1] == "draining the workers threadpool down to 0 jobs"
    assert it.workers.statistics()["yields"] == 0
    it.workers.destroy()


def test_statistics_and_repr(bench: Make) -> None:
    it = bench(workers=1)
    it.start()
    it.set(2)
    numbers = it.workers.statistics()
    assert (numbers["changes"], numbers["events"], numbers["num_threads_alive"]) == (1, 0, 2)
    assert repr(it.workers).startswith("<WorkersThreadPool <Thpool workers INITIALIZED threads=2/2 ")


# --- the setter, with the module lock held --------------------------------------------------------------------------


class Server:
    """CONFIG SET WORKERS 0 on a main task with the module lock, while a query needs that lock."""

    def __init__(self, rt: Runtime, bench: Make, reduce: str) -> None:
        self.rt = rt
        self.bench = bench(workers=4)
        self.module_lock = rt.lock("module lock")
        self.give_up = rt.event("give up")
        self.replied = rt.cell(0, "queries replied")
        self.triggered: list[int] = []
        self.bench.config.on_workers_changed = workers_setter(
            lambda: self.bench.workers.set_num_workers(reduce), lambda: self.triggered.append(self.replied.value)
        )

    def query(self, _: Any) -> None:
        while not self.module_lock.acquire(timeout_ns=100 * NS_PER_MS):
            if self.give_up.is_set():
                return
        self.replied.value += 1
        self.module_lock.release()

    def needed(self) -> bool:
        return "module lock" in [getattr(task.waiting_on, "name", "") for task in self.bench.workers.threads()]

    def main(self) -> None:
        with self.module_lock:
            self.bench.workers.add_work(self.query, None)
            self.rt.poll_until(self.needed, NS_PER_MS, "a worker that needs the module lock", LONG_NS)
            self.bench.config.config_set("WORKERS", 0)


def test_before_the_fix_main_hangs_and_the_trigger_is_never_reached(
    rt: Runtime, bench: Make, eventually: Eventually
) -> None:
    server = Server(rt, bench, "sync")
    main = rt.spawn(server.main, name="main")
    looks: list[Chain] = []

    def in_a_cycle() -> bool:
        looks.append(chain_from(rt, main))
        return looks[-1].kind == "cycle"

    eventually(in_a_cycle)
    assert {"workers: terminate when empty", "module lock"} < set(looks[-1].steps)
    assert server.triggered == []  # the shrink of the connections has not even been asked for
    server.give_up.set()
    assert main.join(LONG_NS)
    assert server.triggered == [0]


def test_after_the_fix_the_setter_returns_and_the_query_is_answered(
    rt: Runtime, bench: Make, eventually: Eventually
) -> None:
    server = Server(rt, bench, "async")
    main = rt.spawn(server.main, name="main")
    assert main.join(LONG_NS)
    assert main.error is None
    assert server.triggered == [0]
    eventually(lambda: server.bench.workers.num_threads_alive == 0)
    assert server.replied.value == 1


# ---- a pool by number


def test_a_pool_by_number_is_changed_in_its_own_way_whatever_is_said(rt: Runtime, eventually: Eventually) -> None:
    log: Log = []
    config = Config(workers=0)
    workers = WorkersThreadPool(rt, config, lambda *line: log.append(line), by_number=True)
    done: list[int] = []
    for number, reduce in ((3, "by-number"), (1, "sync"), (0, "async"), (2, "by-number")):
        config.config_set("WORKERS", number)
        assert workers.set_num_workers(reduce) == number
        workers.add_work(done.append, number)
        eventually(lambda: workers.stats().incomplete_jobs == 0 and workers.num_threads_alive == workers.num_threads)
    assert done == [3, 1, 0, 2]
    notices = [line for level, line in log if level == "notice"]
    assert notices == [
        "workers threadpool disabled, size 0",
        "changing the workers threadpool from 0 to 3 threads",
        "workers threadpool enabled, size 3",
        "changing the workers threadpool from 3 to 1 threads",
        "changing the workers threadpool from 1 to 0 threads",
        "workers threadpool disabled, size was 1",
        "changing the workers threadpool from 0 to 2 threads",
        "workers threadpool enabled, size 2",
    ]
    steps = [event.ours for event in rt.trace_events() if event.ours.startswith("Thpool")]
    assert set(steps) == {"ThpoolByNumber.set_num_threads", "ThpoolByNumber.start"}
    workers.destroy()


def test_a_paused_pool_by_number_is_reduced_all_the_same(rt: Runtime, eventually: Eventually) -> None:
    config = Config(workers=3)
    workers = WorkersThreadPool(rt, config, lambda *_: None, by_number=True)
    workers.add_work(lambda _: None, None)
    eventually(lambda: workers.stats().total_jobs_done == 1)
    workers.pause()
    config.config_set("WORKERS", 1)
    assert workers.set_num_workers("by-number") == 1
    eventually(lambda: workers.num_threads_alive == 1)
    workers.resume()
    workers.destroy()


def test_upstreams_pool_takes_by_number_for_async(bench: Callable[..., Bench], eventually: Eventually) -> None:
    site = bench(workers=2)
    site.start()
    assert site.set(0, "by-number") == 0
    assert site.pool_steps()[-1] == "Thpool.schedule_config_reduce_threads_job"
    eventually(lambda: site.workers.num_threads_alive == 0)
