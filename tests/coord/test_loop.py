"""LoopThread: exactly one starter, a start that may fail, and changes that only happen before it."""

from __future__ import annotations

from typing import Any

import pytest

from coordemu.coord.loop import LoopThread
from coordemu.runtime.base import Runtime


def test_one_of_many_starters_starts_it(rt: Runtime) -> None:
    for _ in range(20):
        runs: list[int] = []
        won: list[bool] = []
        thread = LoopThread(rt, "io", lambda runs=runs: runs.append(1))
        gate = rt.barrier(4, "together")

        def starter(thread: LoopThread = thread, won: list[bool] = won, gate: Any = gate) -> None:
            gate.wait()
            won.append(thread.start())

        starters = [rt.spawn(starter, name=f"starter {n}") for n in range(4)]
        for task in starters:
            assert task.join(10**10)
        assert thread.join(10**10)
        assert sorted(won) == [False, False, False, True]
        assert runs == [1]


def test_its_life(rt: Runtime) -> None:
    go = rt.event("go")
    thread = LoopThread(rt, "io", go.wait)
    assert repr(thread) == "<LoopThread 'io' not started>"
    assert not thread.started
    assert not thread.wait_created()
    assert thread.join()
    assert thread.start()
    assert not thread.start()
    assert thread.wait_created()
    assert repr(thread) == "<LoopThread 'io' running>"
    assert not thread.join(0)
    go.set()
    assert thread.join(10**10)
    assert repr(thread) == "<LoopThread 'io' ended>"


def test_a_creation_that_fails_is_known(rt: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(rt, "spawn", no_thread, raising=True)
    thread = LoopThread(rt, "io", lambda: None)
    with pytest.raises(RuntimeError, match="can't start"):
        thread.start()
    assert not thread.wait_created()
    assert thread.join(), "there is nothing to wait for"
    assert not thread.start(), "only one try"
    assert repr(thread) == "<LoopThread 'io' creation failed>"


def test_a_change_runs_only_before_the_start(rt: Runtime) -> None:
    thread = LoopThread(rt, "io", lambda: None)
    done: list[str] = []
    assert thread.run_unless_started(lambda: done.append("before"))
    thread.start()
    assert not thread.run_unless_started(lambda: done.append("after"))
    assert done == ["before"]
    thread.join()


def test_nobody_starts_it_during_a_change(rt: Runtime) -> None:
    began = rt.event("change began")
    order: list[str] = []
    thread = LoopThread(rt, "io", lambda: order.append("thread runs"))

    def start() -> None:
        began.wait()
        thread.start()

    starter = rt.spawn(start, name="starter")

    def change() -> None:
        began.set()
        starter.join(20_000_000)
        order.append("change ends")

    assert thread.run_unless_started(change)
    assert starter.join(10**10)
    assert thread.join(10**10)
    assert order == ["change ends", "thread runs"]
