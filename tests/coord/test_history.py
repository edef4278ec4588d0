"""Historical faults: each one, switched on, is found in the simulator; switched off, the same orders survive."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from coordemu.coord.config import Config
from coordemu.coord.coordinator import CoordinatorOptions
from coordemu.coord.history import (
    HISTORICAL_FAULTS,
    NO_WORKER_MARK,
    STATE_READ_OUTSIDE_LOCK,
    SYNC_REDUCE,
    UnknownFault,
    check_faults,
)
from coordemu.coord.thpool import Thpool
from coordemu.coord.workers import WorkersThreadPool
from coordemu.runtime.base import Event
from coordemu.runtime.sim import SimRuntime
from coordemu.runtime.sim_outcome import SimOutcome
from coordemu.runtime.sim_schedule import make_strategy

ORDERS = [(strategy, seed) for strategy in ("random", "pct2", "pct3", "pct5") for seed in range(25)]
Scenario = Callable[[SimRuntime, frozenset[str]], None]


def pool_of(rt: SimRuntime, n: int, faults: frozenset[str]) -> Thpool:
    return Thpool(rt, n, 0, lambda level, line: None, "workers", faults)


def two_submitters(rt: SimRuntime, faults: frozenset[str]) -> None:
    """MOD-17351: a query's round trip is over while main still initialises the pool; the I/O thread pushes, too."""
    pool = pool_of(rt, 1, faults)
    sent: Event = rt.event("sent", owed_by=pool.tasks)
    round_trip: Event = rt.event("round trip", owed_by=lambda: [io])
    done: list[int] = []

    def query(number: int) -> None:
        sent.set()
        round_trip.wait()
        done.append(number)

    def io_thread() -> None:
        sent.wait()
        pool.add_work(done.append, 1)
        round_trip.set()

    io = rt.spawn(io_thread, name="io 0")
    pool.add_work(query, 0)
    io.join()
    pool.wait()
    assert sorted(done) == [0, 1]
    pool.destroy()


def a_worker_pushes(rt: SimRuntime, faults: frozenset[str]) -> None:
    """MOD-16667: a job pushes to its own pool, which drains and is wanted again."""
    pool = pool_of(rt, 2, faults)
    done: list[int] = []

    def derives(number: int) -> None:
        pool.add_work(done.append, number + 1)
        done.append(number)

    pool.add_n_work([(derives, 0), (derives, 2)])
    pool.schedule_config_reduce_threads_job(2, when_empty=True)
    pool.add_threads(2)
    pool.wait()
    assert sorted(done) == [0, 1, 2, 3]
    pool.destroy()


def reduced_with_the_lock_held(rt: SimRuntime, faults: frozenset[str]) -> None:
    """MOD-11658 in small: whoever reduces the workers has the lock that one of them needs."""
    config = Config(workers=2)
    workers = WorkersThreadPool(rt, config, lambda level, line: None, by_number=True, faults=faults)
    module_lock = rt.lock("module lock")

    def load_documents(_: object) -> None:
        with module_lock:
            pass

    workers.add_work(load_documents, None)
    config.config_set("WORKERS", 0)
    with module_lock:
        workers.set_num_workers("by-number")
    workers.destroy()


SCENARIOS: dict[str, Scenario] = {
    STATE_READ_OUTSIDE_LOCK: two_submitters,
    NO_WORKER_MARK: a_worker_pushes,
    SYNC_REDUCE: reduced_with_the_lock_held,
}
FOUND = {
    STATE_READ_OUTSIDE_LOCK: "io 0 waits for barrier 'workers: run again'",
    NO_WORKER_MARK: "waits for barrier 'workers: run again'",
    SYNC_REDUCE: "test waits for barrier 'workers: terminate when empty'",
}


def explore(scenario: Scenario, faults: frozenset[str]) -> list[SimOutcome]:
    outcomes = []
    for strategy, seed in ORDERS:
        rt = SimRuntime(make_strategy(strategy, seed, 200))
        outcomes.append(rt.run(partial(scenario, rt, faults), name="test"))
    return outcomes


def test_every_fault_has_a_scenario_and_a_sentence_with_its_incident() -> None:
    assert list(HISTORICAL_FAULTS) == list(SCENARIOS) == list(FOUND)
    assert all(sentence.startswith("MOD-1") and sentence.endswith(".") for sentence in HISTORICAL_FAULTS.values())


@pytest.mark.parametrize("fault", HISTORICAL_FAULTS)
def test_switched_on_it_is_found(fault: str) -> None:
    outcomes = explore(SCENARIOS[fault], frozenset({fault}))
    hung = [outcome for outcome in outcomes if not outcome.ok]
    assert hung
    assert {outcome.kind for outcome in hung} == {"deadlock"}
    assert any(FOUND[fault] in outcome.wait_for for outcome in hung)


@pytest.mark.parametrize("fault", HISTORICAL_FAULTS)
def test_switched_off_the_same_orders_survive(fault: str) -> None:
    for outcome in explore(SCENARIOS[fault], frozenset()):
        assert outcome.check().kind == "done"


@pytest.mark.parametrize("fault", [STATE_READ_OUTSIDE_LOCK, NO_WORKER_MARK])
def test_a_worker_that_pushes_while_its_pool_is_being_initialised(fault: str) -> None:
    """Both switches are needed for it: the state must be misread, and the worker must not know what it is."""

    def derives_at_once(rt: SimRuntime, faults: frozenset[str]) -> None:
        pool = pool_of(rt, 1, faults)
        pool.add_work(lambda _: pool.add_work(lambda _: None, None), None)
        pool.wait()
        pool.destroy()

    both = explore(derives_at_once, frozenset({STATE_READ_OUTSIDE_LOCK, NO_WORKER_MARK}))
    assert any(outcome.kind == "deadlock" for outcome in both)
    assert all(outcome.ok for outcome in explore(derives_at_once, frozenset({fault})))


def test_with_a_fault_on_the_pool_is_upstreams_whatever_was_asked_for(rt: SimRuntime) -> None:
    config = Config(workers=1)
    assert WorkersThreadPool(rt, config, lambda *line: None, by_number=True).by_number
    faulty = WorkersThreadPool(rt, config, lambda *line: None, by_number=True, faults=frozenset({NO_WORKER_MARK}))
    assert not faulty.by_number
    assert faulty.faults == {NO_WORKER_MARK}


def test_names_are_checked_and_the_nearest_is_named() -> None:
    assert check_faults([SYNC_REDUCE, NO_WORKER_MARK]) == {NO_WORKER_MARK, SYNC_REDUCE}
    assert check_faults(()) == frozenset()
    with pytest.raises(ValueError, match="no historical fault is called 'sync-reduced'; did you mean 'sync-reduce'"):
        check_faults({"sync-reduced"})
    with pytest.raises(UnknownFault, match="did you mean 'no-worker-mark'"):
        CoordinatorOptions(faults=frozenset({"worker-mark"}))
    with pytest.raises(UnknownFault, match="not the one word 'sync-reduce'"):
        check_faults("sync-reduce")
