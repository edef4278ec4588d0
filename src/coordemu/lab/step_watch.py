"""StepWatch: a user's invariant, asked before every step of an order.

Role: stands between the runtime and its strategy, so that it sees every moment at which another task could run. The
first breach is kept with its step, and the order goes on: an exception here would come out in the middle of some task,
whose layer might swallow it.

Thread: the simulator's one. Upstream: none. Left out: calm stretches, which are no part of an order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from coordemu.runtime.sim import SimRuntime
from coordemu.runtime.sim_schedule import Strategy
from coordemu.runtime.sim_task import Actor


class StepWatch:
    """Asks, and passes everything on to the strategy that it stands for. breach: what was said first, "" for nothing.
    step: before which step that was, from 1."""

    def __init__(self, inner: Strategy, ask: Callable[[], str]) -> None:
        """inner: who chooses.  ask: "" when all is well; it must only look, for it is asked in the middle of things."""
        self._inner = inner
        self._ask = ask
        self._steps = 0
        self.breach = ""
        self.step = 0

    @classmethod
    def put_on(cls, sim: SimRuntime, ask: Callable[[], str]) -> StepWatch:
        """Have it asked from the next step on. Thread: before the run, or in a calm stretch."""
        core = sim.core
        watch = cls(core.strategy, ask)
        core.strategy = watch
        core._choose = watch.choose
        return watch

    @property
    def name(self) -> str:
        """The strategy's."""
        return self._inner.name

    @name.setter
    def name(self, name: str) -> None:
        """Refused: raises AttributeError."""
        raise AttributeError(f"the strategy has a name of its own, and is not called {name!r}")

    def born(self, actor: Actor) -> None:
        """Passed on."""
        self._inner.born(actor)

    def gave_way(self, actor: Actor) -> None:
        """Passed on."""
        self._inner.gave_way(actor)

    def choose(self, enabled: Sequence[Actor], last: Actor) -> Actor:
        """Ask, unless there was a breach; then passed on."""
        self._steps += 1
        if not self.breach:
            self.breach = self._ask()
            self.step = self._steps
        return self._inner.choose(enabled, last)

    def pick(self, count: int, label: str, share: float) -> int:
        """Passed on."""
        self._steps += 1
        return self._inner.pick(count, label, share)
