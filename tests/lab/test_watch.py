"""The watchdog's eyes, on real tasks that wait for each other and a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from coordemu.coord.host import Host
from coordemu.lab.prober import PingProber
from coordemu.lab.watch import CONFIRM_NS, OVERDUE_NS, HangWatch
from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Event, Task

PATIENCE_NS = 10 * NS_PER_S
WATCHDOG_MS = 8000


class Stage:
    """A main task that waits for an event, whose holders the test chooses; stands in for host and prober."""

    def __init__(self, rt: Any) -> None:
        self.rt = rt
        self.holders: list[Any] = []
        self.gap_ns = 0
        self.go_on: Event = rt.event("the go-ahead", owed_by=lambda: self.holders)
        self.task: Task | None = None
        self.ends: list[Event] = []

    def gap_now_ns(self) -> int:
        return self.gap_ns

    def main_waits(self) -> None:
        self.task = self.rt.spawn(self.go_on.wait, name="main")
        self.ends.append(self.go_on)

    def worker_waits_for(self, holder: Any) -> Task:
        event = self.rt.event("the other side", owed_by=lambda: [holder])
        self.ends.append(event)
        return cast(Task, self.rt.spawn(event.wait, name="worker"))

    def watch(self, watchdog_ms: int = WATCHDOG_MS) -> HangWatch:
        return HangWatch(self.rt, cast(Host, self), cast(PingProber, self), watchdog_ms)

    def tick(self, duration_ns: int) -> None:
        self.rt.at_ns += duration_ns
        self.gap_ns += duration_ns

    def finish(self) -> None:
        for event in self.ends:
            event.set()
        for task in self.rt.tasks():
            assert task.adopted or task.join(PATIENCE_NS)


@pytest.fixture
def stage(hand_clock: Any) -> Iterator[Stage]:
    one = Stage(hand_clock)
    yield one
    one.finish()


@pytest.fixture
def cycle(stage: Stage, eventually: Callable[..., Any]) -> Stage:
    """main waits for worker, which waits for main."""
    stage.main_waits()
    worker = stage.worker_waits_for(stage.task)
    stage.holders = [worker]
    assert stage.task is not None
    eventually(lambda: stage.task and stage.task.waiting_on and worker.waiting_on)
    return stage


def test_nothing_is_wrong_while_pings_are_answered(cycle: Stage) -> None:
    watch = cycle.watch()
    cycle.gap_ns = OVERDUE_NS - 1
    for _ in range(5):
        cycle.rt.at_ns += NS_PER_S
        assert not watch.hung()
    assert (watch.verdict, watch.sentence, watch.chain) == ("", "", None)


def test_a_cycle_is_a_deadlock_once_it_has_been_seen_for_a_while(cycle: Stage) -> None:
    watch = cycle.watch()
    cycle.tick(OVERDUE_NS)
    assert not watch.hung()
    cycle.tick(CONFIRM_NS - 1)
    assert not watch.hung()
    cycle.tick(1)
    assert watch.hung()
    assert watch.verdict == "deadlocked"
    assert watch.sentence == (
        "main waits for event 'the go-ahead', owed by worker; worker waits for event 'the other side', owed by main: "
        "a cycle"
    )
    assert watch.chain is not None
    assert watch.chain.kind == "cycle"
    cycle.gap_ns = 0  # what was found stays
    assert watch.hung()


def test_an_orphan_is_a_deadlock_too(stage: Stage, eventually: Callable[..., Any]) -> None:
    stage.holders = ["nobody: the replies were dropped"]
    stage.main_waits()
    eventually(lambda: stage.task and stage.task.waiting_on)
    watch = stage.watch()
    stage.tick(OVERDUE_NS)
    assert not watch.hung()
    stage.tick(CONFIRM_NS)
    assert watch.hung()
    assert watch.verdict == "deadlocked"
    assert watch.sentence.endswith("owed by nobody: the replies were dropped: an orphan")


def test_a_suspicion_ends_with_the_next_answer(cycle: Stage) -> None:
    watch = cycle.watch()
    cycle.tick(OVERDUE_NS)
    assert not watch.hung()
    cycle.gap_ns = 0
    cycle.rt.at_ns += CONFIRM_NS
    assert not watch.hung()
    cycle.tick(OVERDUE_NS)
    assert not watch.hung()  # suspected anew
    cycle.tick(CONFIRM_NS)
    assert watch.hung()


def test_another_chain_is_another_suspicion(stage: Stage, eventually: Callable[..., Any]) -> None:
    stage.holders = ["nobody: one"]
    stage.main_waits()
    eventually(lambda: stage.task and stage.task.waiting_on)
    watch = stage.watch()
    stage.tick(OVERDUE_NS)
    assert not watch.hung()
    stage.holders = ["nobody: two"]
    stage.tick(CONFIRM_NS)
    assert not watch.hung()
    stage.tick(CONFIRM_NS)
    assert watch.hung()
    assert "nobody: two" in watch.sentence


def test_waiting_for_a_shard_is_unresponsive_after_the_watchdogs_time(
    stage: Stage, eventually: Callable[..., Any]
) -> None:
    stage.holders = ["shard 127.0.0.1:7001"]
    stage.main_waits()
    eventually(lambda: stage.task and stage.task.waiting_on)
    watch = stage.watch()
    stage.tick(OVERDUE_NS)
    assert not watch.hung()
    stage.tick(WATCHDOG_MS * NS_PER_MS - OVERDUE_NS - 1)
    assert not watch.hung()
    stage.tick(1)
    assert watch.hung()
    assert watch.verdict == "unresponsive"
    assert watch.sentence.startswith("no PING answered for 8000 ms; main waits for event 'the go-ahead'")
    assert "shard 127.0.0.1:7001" in watch.sentence


def test_a_short_watchdog_is_not_made_longer(stage: Stage, eventually: Callable[..., Any]) -> None:
    stage.holders = ["shard 127.0.0.1:7001"]
    stage.main_waits()
    eventually(lambda: stage.task and stage.task.waiting_on)
    watch = stage.watch(watchdog_ms=100)
    stage.tick(100 * NS_PER_MS - 1)
    assert not watch.hung()
    stage.tick(1)
    assert watch.hung()
    assert watch.verdict == "unresponsive"


def test_a_main_thread_that_died_is_told_at_once(stage: Stage) -> None:
    def die() -> None:
        raise KeyError("a bug")

    stage.task = stage.rt.spawn(die, name="main")
    assert stage.task is not None
    assert stage.task.join(PATIENCE_NS)
    watch = stage.watch()
    assert watch.hung()
    assert (watch.verdict, watch.sentence) == ("unresponsive", "the main thread has ended: KeyError('a bug')")


def test_before_the_main_thread_there_is_nothing_to_say(stage: Stage) -> None:
    stage.tick(NS_PER_S)
    assert not stage.watch().hung()
