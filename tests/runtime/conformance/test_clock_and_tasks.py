"""The clock, waiting by sleeping, tasks, chance and the trace, on every runtime."""

from __future__ import annotations

import pytest

from coordemu.runtime.base import NS_PER_MS, NS_PER_S, DrainWait


def test_the_clock_never_goes_back_and_a_sleep_lasts_at_least_its_time(rt):
    before = rt.now_ns()
    rt.sleep_ns(3 * NS_PER_MS)
    assert rt.now_ns() - before >= 3 * NS_PER_MS
    rt.sleep_ns(0)
    with pytest.raises(ValueError, match="negative"):
        rt.sleep_ns(-1)


def test_poll_until_returns_at_once_when_the_predicate_holds(rt):
    asked = []
    assert rt.poll_until(lambda: not asked.append(1), NS_PER_S, "nothing")
    assert len(asked) == 1
    assert rt.current().waiting_on is None


def test_poll_until_polls_until_the_predicate_holds(rt):
    answers = iter([False, False, False, True])
    before = rt.now_ns()
    assert rt.poll_until(lambda: next(answers), NS_PER_MS, "the fourth answer", timeout_ns=10 * NS_PER_S)
    assert rt.now_ns() - before >= 3 * NS_PER_MS


def test_poll_until_gives_up_at_its_deadline(rt):
    before = rt.now_ns()
    assert not rt.poll_until(lambda: False, NS_PER_S, "the impossible", timeout_ns=2 * NS_PER_MS)
    assert NS_PER_S > rt.now_ns() - before >= 2 * NS_PER_MS  # it did not sleep a whole interval
    assert not rt.poll_until(lambda: False, NS_PER_S, "the impossible", timeout_ns=0)


def test_poll_until_passes_on_what_the_predicate_raises_and_refuses_a_negative_interval(rt):
    calls = []

    def fails_the_second_time():
        calls.append(1)
        return len(calls) == 2 and 1 // 0

    with pytest.raises(ZeroDivisionError):
        rt.poll_until(fails_the_second_time, 0, "a failing predicate")
    assert rt.current().waiting_on is None
    with pytest.raises(ValueError, match="interval"):
        rt.poll_until(lambda: True, -1, "nothing")


def test_poll_until_shows_why_and_who_while_it_waits(rt, until):
    go = rt.cell(False, "go")
    me = rt.current()
    task = rt.spawn(lambda: rt.poll_until(lambda: go.value, NS_PER_MS, "drained", owed_by=lambda: [me]), name="poller")
    until(lambda: task.waiting_on is not None)
    assert task.waiting_on.name == "drained"
    assert list(task.waiting_on.holders()) == [me]
    assert 0 < task.waiting_since_ns <= rt.now_ns()
    go.value = True
    assert task.join(10 * NS_PER_S)
    assert task.waiting_on is None
    assert task.waiting_since_ns == 0


class Gate:
    """A drain gate that says how it was asked, and who waited meanwhile."""

    name = "gate"
    drained = True

    def __init__(self, rt):
        self.rt = rt
        self.seen = []

    def wait_by_polling(self, interval_ns, timeout_ns):
        self.seen.append(("poll", interval_ns, timeout_ns, self.rt.current().waiting_on.name))
        return DrainWait("drained", 1, 2, 0)

    def wait_for_wake(self, timeout_ns):
        self.seen.append(("wake", timeout_ns, self.rt.current().waiting_on.name))
        return DrainWait("deadline", 3, 0, 4)


@pytest.mark.parametrize("harness", ["threads"], indirect=True)  # the simulator must not call a gate's own waits
def test_drain_wait_asks_the_gate_and_is_seen_waiting_there(rt):
    gate = Gate(rt)
    assert rt.drain_wait(gate, 500, 10) == DrainWait("drained", 1, 2, 0)
    assert rt.drain_wait(gate, 700) == DrainWait("deadline", 3, 0, 4)
    assert gate.seen == [("poll", 10, 500, "gate"), ("wake", 700, "gate")]
    assert rt.current().waiting_on is None


def test_a_task_runs_under_its_name_with_its_arguments(rt):
    seen = []
    task = rt.spawn(lambda *args: seen.append((rt.current(), args)), 1, "two", name="worker-1")
    assert task.join(10 * NS_PER_S)
    assert seen == [(task, (1, "two"))]
    assert (task.name, task.alive, task.error) == ("worker-1", False, None)
    assert task.call_stack() == []
    assert task not in rt.tasks()


def test_tasks_lists_who_is_alive(rt):
    go = rt.event("go")
    tasks = [rt.spawn(go.wait, name=f"t{i}") for i in range(3)]
    assert [task for task in rt.tasks() if task in tasks] == tasks
    assert rt.current() in rt.tasks()
    assert len({task.ident for task in rt.tasks()}) == len(rt.tasks())
    go.set()
    assert all(task.join(10 * NS_PER_S) for task in tasks)
    assert not set(tasks) & set(rt.tasks())


def test_what_a_task_raises_is_kept_and_not_raised_by_join(rt, caplog):
    task = rt.spawn(lambda: 1 // 0, name="faulty")
    assert task.join(10 * NS_PER_S)
    assert isinstance(task.error, ZeroDivisionError)
    assert [record.getMessage() for record in caplog.records if record.name == "coordemu"] == [
        f"task faulty ended with {task.error!r}"
    ]


def test_join_has_a_time_limit_and_is_seen_as_a_wait(rt, until):
    go = rt.event("go")
    task = rt.spawn(go.wait, name="slow")
    assert not task.join(NS_PER_MS)
    assert not task.join(0)
    joiner = rt.spawn(task.join, name="joiner")
    until(lambda: joiner.waiting_on is not None)
    assert joiner.waiting_on.name == "slow"
    assert list(joiner.waiting_on.holders()) == [task]
    go.set()
    assert joiner.join(10 * NS_PER_S)
    assert task.join(0)


def test_a_call_stack_shows_where_a_task_is(rt, until):
    go = rt.event("go")

    def deeply_nested():
        go.wait()

    task = rt.spawn(lambda: deeply_nested(), name="deep")
    until(lambda: task.waiting_on is go)
    stack = task.call_stack()
    inner = [i for i, line in enumerate(stack) if "deeply_nested" in line]
    outer = [i for i, line in enumerate(stack) if "<lambda>" in line and "test_clock_and_tasks" in line]
    assert inner
    assert outer
    assert outer[0] < inner[0]  # outermost first
    assert "test_clock_and_tasks.py:" in stack[inner[0]]
    go.set()
    task.join()


def test_chance_is_seeded(rt):
    assert 0 <= rt.random.random() < 1
    assert 1 <= rt.random.randint(1, 3) <= 3
    assert 2 <= rt.random.uniform(2, 3) <= 3
    assert rt.random.expovariate() >= 0
    assert rt.random.choice("a") == "a"
    items = [1, 2, 3]
    rt.random.shuffle(items)
    assert sorted(items) == [1, 2, 3]


def test_the_trace_says_when_who_and_what(rt):
    before = rt.now_ns()
    rt.trace("MRConnManager_Shrink", "MRConnManager.shrink", "13 -> 1")
    rt.spawn(rt.trace, "uv_stop", "Loop.stop", name="io").join()
    first, second = rt.trace_events()
    assert (first.task, first.upstream, first.ours, first.detail) == (
        rt.current().name, "MRConnManager_Shrink", "MRConnManager.shrink", "13 -> 1",
    )  # fmt: skip
    assert (second.task, second.upstream, second.detail) == ("io", "uv_stop", "")
    assert before <= first.at_ns <= second.at_ns <= rt.now_ns()


def test_the_trace_keeps_the_newest_65536(rt):
    for i in range(65_540):
        rt.trace("a", "b", str(i))
    events = rt.trace_events()
    assert len(events) == 65_536
    assert (events[0].detail, events[-1].detail) == ("4", "65539")
