"""Searches that workers, in processes of their own, can carry out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coordemu.explore.portfolio import plan_of
from coordemu.explore.ranges import Work

# Subjects that a worker can import: two tasks that take two locks, one the other way round; and bad ones.
SUBJECTS = '''
import os, signal, time
from coordemu.explore.program import ProgramSubject

class Described(ProgramSubject):
    def __init__(self, function, description):
        super().__init__(function, description["kind"])
        self.description = description

    def describe(self):
        return dict(self.description)

def crossing(sim):
    a, b = sim.lock("a"), sim.lock("b")
    counter = sim.cell(0, "counter")
    def one():
        with a, b:
            counter.value += 1
    def other():
        with b, a:
            counter.value += 1
    def lone():
        counter.value += 1
    tasks = [sim.spawn(each, name=each.__name__) for each in (one, other, lone, lone)]
    for task in tasks:
        task.join()
    if counter.value < 4:
        raise AssertionError(f"{counter.value} of 4 counted")

def make(description):
    kind = description["kind"]
    def killing(sim):
        """Dies at one order, as often as it may."""
        if sim.core.strategy.name == description["at"]:
            for time_ in range(description["times"]):
                mark = os.path.join(description["directory"], str(time_))
                if not os.path.exists(mark):
                    open(mark, "w").close()
                    os.kill(os.getpid(), signal.SIGKILL)
        crossing(sim)
    def chatting(sim):
        print("a subject that prints")
        crossing(sim)
    def hanging(sim):
        if sim.core.strategy.name == description["at"]:
            time.sleep(600)
        crossing(sim)
    known = {"crossing": crossing, "killing": killing, "chatting": chatting, "hanging": hanging}
    if kind == "raising":
        raise RuntimeError("no luck today")
    if kind == "leaving":
        raise SystemExit("this one leaves")
    if kind not in known:
        raise ValueError(f"no subject is called {kind!r}")
    return Described(known[kind], description)
'''
LENGTH = 60
ORDERS = 120


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Work]:
    """`work(kind, count, strategy, **description)`: a search of a subject that workers find on the path."""
    (tmp_path / "orders_subjects.py").write_text(SUBJECTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "orders_subjects", raising=False)

    def make(
        kind: str = "crossing", count: int | None = ORDERS, strategy: str = "random", at: int = 0, **description: Any
    ) -> Work:
        plan = plan_of("random", 7, at, LENGTH)
        told = {"kind": kind, "at": f"random {plan.seed}", "directory": str(tmp_path), **description}
        return Work(told, "orders_subjects:make", strategy, 7, LENGTH, count)

    return make
