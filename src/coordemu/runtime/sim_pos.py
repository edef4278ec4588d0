"""Pos: partial order sampling.

Role: every operation that is announced gets a random priority when it is announced, and the highest goes. When one has
been chosen, the announced ones that are after the same object draw anew: the order among those is what the next steps
decide, and without the new draw who lost once would be bound to come late. Orders that differ in more than the sequence
of independent steps come up far more evenly than by a random walk, so bugs that need many decisions about one object
are found by this when by nothing else.

What an operation is after is what its label says behind the verb ("acquire L" and "try L": L). Who gives way goes
behind all that did not. The explored clock draws as others do, but seldom among them.

Thread: the simulator's one. Upstream: none. Left out: that two reads do not conflict; fairness (see
`sim_strategy.FairTail`).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from operator import attrgetter
from sys import intern

from coordemu.runtime.sim_strategy import CLOCK_NAME, CLOCK_SHARE, draw_pick
from coordemu.runtime.sim_task import Actor

_by_priority = attrgetter("priority")


# label -> what it is after; a memo, the same for all runs.
_objects: dict[str, str] = {}
_MEMO = 100_000


def _learn(actors: Sequence[Actor]) -> None:
    if len(_objects) > _MEMO:
        _objects.clear()
    for actor in actors:
        _objects[actor.label] = intern(actor.label.partition(" ")[2])


class Pos:
    """Random priorities of operations. seed: any number."""

    def __init__(self, seed: int) -> None:
        self.name = f"pos {seed}"
        self._random = random.Random(seed).random

    def born(self, actor: Actor) -> None:
        """Draw for its first operation."""
        actor.priority = self._random()

    def gave_way(self, actor: Actor) -> None:
        """Its next operation comes behind all others; the clock's, mostly."""
        if actor.name != CLOCK_NAME or self._random() > CLOCK_SHARE:
            actor.priority = self._random() - 1

    def choose(self, enabled: Sequence[Actor], last: Actor) -> Actor:
        """As the class says."""
        chosen = max(enabled, key=_by_priority)
        objects = _objects
        try:
            wanted = objects[chosen.label]
            rivals = [actor for actor in enabled if objects[actor.label] is wanted] if wanted else ()
        except KeyError:
            _learn(enabled)
            wanted = objects[chosen.label]
            rivals = [actor for actor in enabled if objects[actor.label] is wanted] if wanted else ()
        draw = self._random
        if len(rivals) > 1:
            for actor in rivals:
                actor.priority = draw()
        chosen.priority = draw()
        return chosen

    def pick(self, count: int, label: str, share: float) -> int:
        """By chance."""
        return draw_pick(self._random, count, share)
