"""The wait-for graph, on every runtime: chains, their ends, and their words."""

from __future__ import annotations

from itertools import pairwise

import pytest

from coordemu.runtime import wait_for
from coordemu.runtime.base import NS_PER_MS, NS_PER_S
from coordemu.runtime.wait_for import WaitEdge


class Layer:
    """A layer's own waitable."""

    def __init__(self, name, holders=(), any_suffices=None):
        self.name = name
        self.owed = list(holders)
        if any_suffices is not None:
            self.any_suffices = any_suffices

    def holders(self):
        return list(self.owed)


class Hung:
    """Tasks that hang until the test is over, however it ends."""

    def __init__(self, rt, until):
        self._rt = rt
        self._until = until
        self._events = []

    def on(self, name, owed_by=None):
        """A task "worker" that waits for an event of that name."""
        event = self._rt.event(name, owed_by)
        self._events.append(event)
        task = self._rt.spawn(event.wait, name="worker")
        self._until(lambda: task.waiting_on is event)
        return task

    def free(self):
        for event in self._events:
            event.set()


@pytest.fixture
def hung(rt, until):
    made = Hung(rt, until)
    yield made
    made.free()


@pytest.fixture
def stubborn(rt):
    """`stubborn(lock)`: wait for a lock that may never come, again and again until the test is over."""
    over = rt.cell(False, "over")

    def take(lock):
        while not over.value:
            if lock.acquire(100 * NS_PER_MS):
                lock.release()
                return

    yield take
    over.value = True


@pytest.fixture
def caught(rt, until):
    """`caught(task, kind)`: the task's chain, as soon as it is of that kind."""

    def catch(task, kind):
        found = []
        until(lambda: found.append(wait_for.chain_from(rt, task)) or found[-1].kind == kind)
        return found[-1]

    return catch


def settle(until, *pairs):
    """Until each task waits for what has that name."""
    until(lambda: all(getattr(task.waiting_on, "name", None) == name for task, name in pairs))


def test_a_task_that_runs(rt):
    chain = wait_for.chain_from(rt, rt.current())
    assert (chain.kind, chain.steps, chain.sentence) == ("runs", ("main",), "main runs")
    assert chain.since_ns == 0
    assert wait_for.edges(rt) == []
    running = wait_for.render(rt).removeprefix("[runs] ").split(", ")
    assert sorted(running) == sorted(task.name for task in rt.tasks())


def test_a_task_that_waits_for_one_that_runs(rt, until):
    lock = rt.lock("module lock")
    with lock:
        task = rt.spawn(lambda: lock.acquire() and lock.release(), name="worker")
        until(lambda: task.waiting_on is lock)
        before = rt.now_ns()
        chain = wait_for.chain_from(rt, task)
        assert (chain.kind, chain.steps) == ("waits", ("worker", "module lock", "main"))
        assert chain.sentence == "worker waits for lock 'module lock', held by main, which runs"
        assert 0 < chain.since_ns <= before <= chain.at_ns
        assert wait_for.edges(rt) == [WaitEdge("worker", "module lock", ("main",), chain.since_ns)]
        assert wait_for.chain_from(rt, task) == chain  # two looks at the same wait are equal
    task.join()


def test_two_locks_taken_in_opposite_orders_are_a_cycle(rt, stubborn, caught):
    a, b = rt.lock("A"), rt.lock("B")
    both = rt.barrier(2, "both hold one")

    def take(first, second):
        with first:
            both.wait()
            stubborn(second)

    one = rt.spawn(take, a, b, name="one")
    two = rt.spawn(take, b, a, name="two")
    chain = caught(one, "cycle")
    assert chain.steps == ("one", "B", "two", "A", "one")
    assert chain.sentence == "one waits for lock 'B', held by two; two waits for lock 'A', held by one: a cycle"
    assert caught(two, "cycle").steps == ("two", "A", "one", "B", "two")
    outsider = rt.spawn(stubborn, a, name="outsider")
    chain = caught(outsider, "cycle")
    assert chain.steps == ("outsider", "A", "one", "B", "two", "A")
    assert chain.sentence.endswith("two waits for lock 'A': a cycle that closes at lock 'A'")


def test_a_task_that_waits_for_itself_is_a_cycle(rt, stubborn, caught):
    lock = rt.lock("not reentrant")

    def twice():
        with lock:
            stubborn(lock)

    assert caught(rt.spawn(twice, name="fool"), "cycle").steps == ("fool", "not reentrant", "fool")


def test_the_incident_main_waits_for_a_worker_that_needs_mains_lock(rt, stubborn, caught, until):
    """Upstream's own account: the barrier misses one worker, which waits for the module lock, which main holds."""
    module_lock = rt.lock("module lock")
    workers = []
    barrier = rt.barrier(4, "workers: terminate when empty", expected=lambda: workers)

    def server():
        with module_lock:
            barrier.wait()

    def worker(i):
        if i == 3:
            until(module_lock.locked)
            stubborn(module_lock)
        barrier.wait()

    workers += [rt.spawn(worker, i, name=f"workers-{i}") for i in range(1, 4)]
    server_task = rt.spawn(server, name="server")
    until(lambda: barrier.arrived == 3)
    chain = caught(server_task, "cycle")
    assert chain.steps == ("server", "workers: terminate when empty", "workers-3", "module lock", "server")
    assert chain.sentence == (
        "server waits for barrier 'workers: terminate when empty', which misses workers-3; "
        "workers-3 waits for lock 'module lock', held by server: a cycle"
    )
    # A worker that came hangs on the same cycle, without being part of it.
    chain = caught(workers[0], "cycle")
    assert chain.steps == (
        "workers-1", "workers: terminate when empty", "workers-3", "module lock", "server",
        "workers: terminate when empty",
    )  # fmt: skip


def test_one_stuck_holder_of_several_is_enough_for_a_barriers_cycle(rt, stubborn, caught, until):
    lock = rt.lock("l")
    go = rt.event("go", owed_by=lambda: ["the test"])
    expected = []
    barrier = rt.barrier(3, "b", expected=lambda: expected)

    def holder():
        with lock:
            barrier.wait()

    def needs_lock():
        until(lock.locked)
        stubborn(lock)
        barrier.wait()

    def free():
        go.wait()
        barrier.wait()

    first = rt.spawn(holder, name="holder")
    expected += [rt.spawn(free, name="free"), rt.spawn(needs_lock, name="needs lock")]
    settle(until, (first, "b"), (expected[0], "go"))
    chain = caught(first, "cycle")
    assert chain.steps == ("holder", "b", "needs lock", "l", "holder")
    assert "which misses needs lock (and 1 more)" in chain.sentence
    assert caught(expected[0], "waits").steps == ("free", "go", "the test")
    assert "[cycle, " in wait_for.render(rt)
    go.set()


def test_a_wait_that_nobody_owes_is_an_orphan(rt, hung):
    task = hung.on("reply of query 7")
    chain = wait_for.chain_from(rt, task)
    assert (chain.kind, chain.steps) == ("orphan", ("worker", "reply of query 7"))
    assert chain.sentence == "worker waits for event 'reply of query 7', which nobody can end: an orphan"
    assert wait_for.edges(rt) == [WaitEdge("worker", "reply of query 7", (), chain.since_ns)]


def test_a_lock_whose_owner_has_ended_is_an_orphan(rt, stubborn, caught):
    lock = rt.lock("l")
    rt.spawn(lock.acquire, name="careless").join()
    chain = caught(rt.spawn(stubborn, lock, name="heir"), "orphan")
    assert chain.steps == ("heir", "l", "careless")
    assert chain.sentence == "heir waits for lock 'l', held by careless, which has ended: an orphan"


def test_a_chain_goes_on_through_a_layers_waitables(rt, hung):
    conn = Layer("conn 127.0.0.1:7001#5", ["shard 127.0.0.1:7001"])
    query = Layer("query 7: replies", [conn])
    task = hung.on("query 7", owed_by=lambda: [query])
    chain = wait_for.chain_from(rt, task)
    assert chain.kind == "waits"
    assert chain.steps == ("worker", "query 7", "query 7: replies", "conn 127.0.0.1:7001#5", "shard 127.0.0.1:7001")
    assert chain.sentence == (
        "worker waits for event 'query 7', owed by query 7: replies, which is up to conn 127.0.0.1:7001#5, "
        "which is up to shard 127.0.0.1:7001"
    )
    assert WaitEdge("query 7: replies", "conn 127.0.0.1:7001#5", ("shard 127.0.0.1:7001",), 0) in wait_for.edges(rt)

    conn.owed = ["nobody: the connection was stopped and its replies dropped"]
    chain = wait_for.chain_from(rt, task)
    assert chain.kind == "orphan"
    assert chain.steps[-2:] == ("conn 127.0.0.1:7001#5", conn.owed[0])
    assert chain.sentence.endswith(
        "which is up to nobody: the connection was stopped and its replies dropped: an orphan"
    )
    query.owed.append(Layer("conn 127.0.0.1:7002#1", ["shard 127.0.0.1:7002"]))
    assert wait_for.chain_from(rt, task).kind == "orphan"  # every connection must answer
    query.any_suffices = True
    assert wait_for.chain_from(rt, task).steps[-1] == "shard 127.0.0.1:7002"  # now one is enough
    query.owed = query.owed[:1]
    assert wait_for.chain_from(rt, task).kind == "orphan"


def test_a_way_around_a_cycle_is_not_a_cycle(rt, hung):
    """A waits for B, and B for A or for a shard: as long as the shard may answer, nothing is stuck."""
    a, b = Layer("a"), Layer("b", any_suffices=True)
    a.owed, b.owed = [b], [a, "shard"]
    task = hung.on("e", owed_by=lambda: [a])
    chain = wait_for.chain_from(rt, task)
    assert (chain.kind, chain.steps) == ("waits", ("worker", "e", "a", "b", "shard"))
    b.owed = [a]
    chain = wait_for.chain_from(rt, task)
    assert (chain.kind, chain.steps) == ("cycle", ("worker", "e", "a", "b", "a"))
    assert chain.sentence.endswith("a, which is up to b, which is up to a: a cycle that closes at a")


def test_a_holders_callable_that_raises_is_reported_not_raised(rt, hung):
    task = hung.on("e", owed_by=lambda: [][0])
    chain = wait_for.chain_from(rt, task)
    assert chain.kind == "waits"
    assert "IndexError" in chain.steps[-1]


def test_waitables_without_end_are_cut(rt, hung):
    class Endless(Layer):
        def holders(self):
            return [Endless("deeper")]

    task = hung.on("e", owed_by=lambda: [Endless("top")])
    chain = wait_for.chain_from(rt, task)
    assert (chain.kind, chain.steps[-1]) == ("waits", "more than can be looked at")


def test_a_wide_graph_is_read_in_one_go(rt, hung):
    """Layers of waitables, each held by all of the next layer: the ways are countless, the reading is not."""
    layers = [[Layer(f"{depth}.{i}") for i in range(20)] for depth in range(20)]
    for upper, lower in pairwise(layers):
        for waitable in upper:
            waitable.owed = lower
    task = hung.on("e", owed_by=lambda: [layers[0][0]])
    chain = wait_for.chain_from(rt, task)
    assert (chain.kind, len(chain.steps)) == ("orphan", 22)
    for waitable in layers[-1]:
        waitable.owed = [layers[0][0]]
    assert wait_for.chain_from(rt, task).kind == "cycle"


def test_a_semaphore_and_a_released_barrier_are_not_orphans(rt, until):
    semaphore = rt.semaphore(0, "tickets")
    barrier = rt.barrier(2, "b")
    tasks = [rt.spawn(semaphore.acquire, name="s"), rt.spawn(barrier.wait, name="b")]
    settle(until, (tasks[0], "tickets"), (tasks[1], "b"))
    assert [wait_for.chain_from(rt, task).kind for task in tasks] == ["waits", "waits"]
    semaphore.release()
    barrier.wait()
    assert all(task.join(10 * NS_PER_S) for task in tasks)
    assert wait_for.chain_from(rt, tasks[0]).sentence == "s has ended"
