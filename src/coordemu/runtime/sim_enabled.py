"""EnabledSet: the actors that can take their step now, in the order of their numbers.

Role: what a strategy chooses from. It changes several times per step, so it is kept as two lists, the actors and their
numbers, and searched by halving. Where many come or go at once (all who want a lock that was just released, or taken)
the lists are made anew.

Thread: the simulator's one. Upstream: none. Left out: why an actor can go on; the primitives know. Bound: the actors of
a run.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from operator import attrgetter

from coordemu.runtime.sim_task import Actor, SimTask

# From so many on the lists are made anew rather than changed one by one.
MANY = 4

_by_number = attrgetter("number")


class EnabledSet:
    """The set; `SimCore` is one. Every actor's `enabled` says whether it is in."""

    def __init__(self) -> None:
        self._enabled: list[Actor] = []
        self._numbers: list[int] = []

    def enable(self, actor: Actor) -> None:
        """It can take its step from now. Idempotent."""
        if not actor.enabled:
            actor.enabled = True
            number = actor.number
            numbers = self._numbers
            if not numbers or numbers[-1] < number:
                numbers.append(number)
                self._enabled.append(actor)
            else:
                at = bisect_left(numbers, number)
                numbers.insert(at, number)
                self._enabled.insert(at, actor)

    def disable(self, actor: Actor) -> None:
        """It cannot, until it is enabled. Idempotent."""
        if actor.enabled:
            actor.enabled = False
            at = bisect_left(self._numbers, actor.number)
            del self._numbers[at]
            del self._enabled[at]

    def enable_all(self, tasks: Sequence[SimTask]) -> None:
        """`enable` for several."""
        if len(tasks) < MANY:
            for task in tasks:
                self.enable(task)
            return
        new = [task for task in tasks if not task.enabled]
        for task in new:
            task.enabled = True
        self._enabled.extend(new)
        self._enabled.sort(key=_by_number)
        self._numbers[:] = map(_by_number, self._enabled)

    def block_all(self, tasks: Sequence[SimTask], now_ns: int) -> None:
        """What they could have taken is gone; those that could go on, and whose time is not up, wait from now on."""
        few = len(tasks) < MANY
        for task in tasks:
            if task.enabled and not task.expired:
                task.since_ns = now_ns
                if few:
                    self.disable(task)
                else:
                    task.enabled = False
        if not few:
            self._enabled[:] = [actor for actor in self._enabled if actor.enabled]
            self._numbers[:] = map(_by_number, self._enabled)
