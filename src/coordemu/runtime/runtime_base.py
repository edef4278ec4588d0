"""RuntimeBase: what a runtime has, whatever plays its tasks: chance, and a record of what happened.

Role: `ThreadsRuntime` and `SimRuntime` are this with a clock, tasks, primitives and loops of their own.

Thread: any. Upstream: none. Left out: the registries of tasks, which have nothing in common but that they list them.
Bound: 65,536 trace events.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence

from coordemu.runtime import base
from coordemu.runtime.trace_ring import TraceRing


class Chance(random.Random):
    """`random.Random`, whose expovariate has its default rate only from Python 3.12 on."""

    def expovariate(self, lambd: float = 1.0) -> float:
        """An exponential variate with rate `lambd` (not 0)."""
        return super().expovariate(lambd)


class RuntimeBase(ABC):
    """Chance and trace. seed: of `random`; None takes one from the system."""

    def __init__(self, seed: int | None) -> None:
        self._seed = seed
        self._random = Chance(seed)
        self._ring = TraceRing()

    @property
    def random(self) -> base.Random:
        """The chance that layers may use. Threads race for its numbers; in the simulator what a task draws depends on
        the schedule alone. Thread: any."""
        return self._random

    @abstractmethod
    def now_ns(self) -> int:
        """The clock, ns. Thread: any."""

    @abstractmethod
    def current(self) -> base.Task:
        """The calling task. Thread: any."""

    @abstractmethod
    def tasks(self) -> Sequence[base.Task]:
        """All that are alive. Thread: any."""

    def trace(self, upstream: str, ours: str, detail: str = "") -> None:
        """Record a step with time and task. Bounded: the newest 65,536 are kept. No schedule point of the simulator's.

        Thread: any. Never blocks.
        """
        self._ring.record(self.now_ns(), self.current().name, upstream, ours, detail)

    def trace_events(self) -> Sequence[base.TraceEvent]:
        """The steps that are kept, oldest first. Thread: any."""
        return self._ring.events()

    def statistics(self) -> dict[str, int]:
        """tasks (alive), trace_kept, trace_recorded. Thread: any."""
        ring = self._ring.statistics()
        return {"tasks": len(self.tasks()), "trace_kept": ring["kept"], "trace_recorded": ring["recorded"]}
