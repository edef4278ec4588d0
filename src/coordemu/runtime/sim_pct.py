"""Pct: random priorities with few changes.

Role: a bug that needs d decisions is found with probability 1/(n k^(d-1)) or better by one run, for n actors and k
steps (probabilistic concurrency testing). Who can go on with the highest priority goes; at depth - 1 random steps the
runner's priority drops below all that were given at first.

Two departures. Who gives way drops to the very end, or a loop that polls would be all that runs. And the explored clock
drops with each tick, but comes to the top again at depth - 1 random steps: which time limit fires early is a decision
like another.

Thread: the simulator's one. Upstream: none. Left out: fairness (see `sim_strategy.FairTail`).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from operator import attrgetter

from coordemu.runtime.sim_strategy import CLOCK_NAME, draw_pick
from coordemu.runtime.sim_task import Actor

_by_priority = attrgetter("priority")
# In the place of a priority, among the changes: the clock comes to the top.
_CLOCK_RISES = 0


class Pct:
    """Random priorities with depth - 1 random changes.

    seed: any number.  depth: 1 or more, how many decisions the wanted order needs.  length: 1 or more, about how many
    steps a run has; the changes fall among them.  Raises ValueError outside of the bounds.
    """

    def __init__(self, seed: int, depth: int = 3, length: int = 1000) -> None:
        if depth < 1 or length < 1:
            raise ValueError(f"PCT with depth {depth} and length {length}")
        self.name = f"pct{depth} {seed}"
        self._random = random.Random(seed)
        self._depth = depth
        # step -> the priority that its runner gets; below every first one, and not in the order of the steps
        self._changes = {self._random.randint(1, length): priority for priority in range(1, depth)}
        self._length = length
        self._lowest = 0.0
        self._step = 0
        self._clock: Actor | None = None

    def born(self, actor: Actor) -> None:
        """Draw its priority, above all that a change can give."""
        actor.priority = self._depth + self._random.random()
        if actor.name == CLOCK_NAME:
            self._clock = actor
            for _ in range(1, self._depth):
                self._changes.setdefault(self._random.randint(1, self._length), _CLOCK_RISES)

    def gave_way(self, actor: Actor) -> None:
        """Down to the very end, or it would come again at once."""
        self._lowest -= 1
        actor.priority = self._lowest

    def choose(self, enabled: Sequence[Actor], last: Actor) -> Actor:
        """As the class says."""
        self._step += 1
        change = self._changes.get(self._step)
        chosen = max(enabled, key=_by_priority)
        if change is not None:
            if change != _CLOCK_RISES:
                chosen.priority = float(change)
            elif self._clock is not None:
                self._clock.priority = self._depth + 1.0
            chosen = max(enabled, key=_by_priority)
        return chosen

    def pick(self, count: int, label: str, share: float) -> int:
        """By chance."""
        return draw_pick(self._random.random, count, share)
