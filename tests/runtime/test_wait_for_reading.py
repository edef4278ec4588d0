"""The reading of a graph that changes meanwhile: a task that moved between two reads is not stuck."""

from __future__ import annotations

from coordemu.runtime import wait_for


class FakeTask:
    """A task whose waits are a script: each read of since and on takes one step. A look reads ahead, in the middle, and
    at its end."""

    error = None
    ident = 1
    alive = True

    def __init__(self, name, *script):
        self.name = name
        self._script = list(script)

    @property
    def waiting_since_ns(self):
        return self._script[0][0]

    @property
    def waiting_on(self):
        on = self._script[0][1]
        if len(self._script) > 1:
            self._script.pop(0)
        return on

    def join(self, timeout_ns=None):
        return False

    def call_stack(self):
        return []


class FakeLock:
    kind = "lock"
    relation = "held by"

    def __init__(self, name):
        self.name = name
        self.owner = None

    def holders(self):
        return [self.owner]


class FakeRuntime:
    def __init__(self, *tasks):
        self._tasks = tasks

    def now_ns(self):
        return 100

    def tasks(self):
        return self._tasks


def opposite_locks(last_read, first_read=lambda a: (2, a)):
    """Two tasks that seem to wait for each other; the second's wait, read at last, is `last_read`."""
    a, b = FakeLock("A"), FakeLock("B")
    one, two = FakeTask("one", (1, b)), FakeTask("two", first_read(a), (2, a), last_read(a))
    a.owner, b.owner = one, two
    return FakeRuntime(one, two), one


def test_tasks_that_stay_where_they_were_are_a_cycle():
    rt, one = opposite_locks(lambda a: (2, a))
    chain = wait_for.chain_from(rt, one)
    assert (chain.kind, chain.since_ns, chain.at_ns) == ("cycle", 1, 100)


def test_a_task_that_runs_at_the_second_read_breaks_the_cycle():
    rt, one = opposite_locks(lambda a: (0, None))
    assert wait_for.chain_from(rt, one).kind == "waits"


def test_a_task_that_waits_anew_for_the_same_breaks_the_cycle():
    rt, one = opposite_locks(lambda a: (3, a))
    chain = wait_for.chain_from(rt, one)
    assert (chain.kind, chain.steps) == ("waits", ("one", "B", "two"))
    assert [edge.waiter for edge in wait_for.edges(rt)] == ["one", "two"]  # by now it stays in its new wait


def test_a_wait_that_is_younger_than_the_look_makes_no_cycle():
    """What its task was seen to hold it may have given away before it came to wait."""
    for first_read in (lambda a: (0, None), lambda a: (1, a), lambda a: (2, FakeLock("other"))):
        rt, one = opposite_locks(lambda a: (2, a), first_read)
        assert wait_for.chain_from(rt, one).kind == "waits"


def test_a_task_that_waits_for_something_else_breaks_the_cycle():
    rt, one = opposite_locks(lambda a: (2, FakeLock("other")))
    assert wait_for.chain_from(rt, one).kind == "waits"


def test_a_task_that_moved_itself_runs():
    lock = FakeLock("A")
    task = FakeTask("mover", (1, lock), (1, lock), (2, lock))
    lock.owner = task
    assert wait_for.chain_from(FakeRuntime(task), task).kind == "runs"


def test_render_gives_the_time_waited():
    rt, _ = opposite_locks(lambda a: (2, a))
    assert wait_for.render(rt).splitlines()[0] == (
        "[cycle, 0.000 s] one waits for lock 'B', held by two; two waits for lock 'A', held by one: a cycle"
    )
    assert wait_for.render(FakeRuntime()) == ""
