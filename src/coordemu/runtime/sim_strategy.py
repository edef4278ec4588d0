"""Strategies: who takes the next step.

Role: at every step the core shows a strategy the actors that can go on (in the order of their numbers, each with the
label of its step) and the one that went last; the strategy names one of them. All chance in a strategy comes from its
own seed, so the same seed makes the same schedule.

Here are the two that have no idea: `RunOn` keeps to one task until it cannot go on, which is the order with the fewest
switches, and `RandomWalk` draws evenly. `sim_pct` and `sim_pos` have priorities. An order that is chosen by priorities
may starve somebody for ever, which is no fault of the program; `FairTail` ends such a choice after a number of steps
and draws evenly from there on, so that a run that still does not end has no such excuse.

Thread: the simulator's one. Upstream: none. Left out: the record of what was chosen (`sim_schedule`), searches that
know all orders (`coordemu.explore`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Protocol

from coordemu.runtime.sim_task import Actor

CLOCK_NAME = "the clock"
# Of the choices in which the explored clock could advance, the share in which a random walk lets it.
CLOCK_SHARE = 0.05
# A run may take at least so many steps, or so many times its usual length, before the choice turns fair; and then may
# take FAIR_FACTOR times as many in all.
UNFAIR_STEPS, UNFAIR_LENGTHS, FAIR_FACTOR = 10_000, 20, 10


def unfair_steps(length: int) -> int:
    """After how many steps the choice turns fair, for a program of about `length` steps (1 or more)."""
    return max(UNFAIR_STEPS, UNFAIR_LENGTHS * length)


def step_limit(length: int) -> int:
    """After how many steps, most of them fair, a run of a program of about `length` steps is believed never to end."""
    return FAIR_FACTOR * unfair_steps(length)


class Strategy(Protocol):
    """What decides."""

    name: str

    def born(self, actor: Actor) -> None:
        """An actor was made. Called once for each, in the order of their numbers."""
        ...

    def gave_way(self, actor: Actor) -> None:
        """The actor has nothing urgent: a sleep of no time, a tick of the clock."""
        ...

    def choose(self, enabled: Sequence[Actor], last: Actor) -> Actor:
        """One of `enabled` (at least one, by number). last: the actor that went last, which may not be among them."""
        ...

    def pick(self, count: int, label: str, share: float) -> int:
        """One of 0 .. count - 1 (count: 2 or more). share: how often, about, it should be another than 0, the plain
        case."""
        ...


def draw_pick(draw: Callable[[], float], count: int, share: float) -> int:
    """A pick by chance. draw: evenly within 0.0 .. 1.0."""
    return 1 + int(draw() * (count - 1)) if draw() < share else 0


class RunOn:
    """Keep to one actor until it cannot go on; then the next by number, around the circle."""

    def __init__(self) -> None:
        self.name = "run-on"
        self._passed: Actor | None = None

    def born(self, actor: Actor) -> None:
        """Nothing to note."""

    def gave_way(self, actor: Actor) -> None:
        """The next choice is another's, if there is one."""
        self._passed = actor

    def choose(self, enabled: Sequence[Actor], last: Actor) -> Actor:
        """As the class says."""
        passed, self._passed = self._passed, None
        if last.enabled and last is not passed:
            return last
        number = last.number
        for actor in enabled:
            if actor.number > number:
                return actor
        return enabled[0]

    def pick(self, count: int, label: str, share: float) -> int:
        """The plain case."""
        return 0


class RandomWalk:
    """Draw evenly at each step. seed: any number."""

    def __init__(self, seed: int) -> None:
        self.name = f"random {seed}"
        self._random = random.Random(seed).random

    def born(self, actor: Actor) -> None:
        """Nothing to note."""

    def gave_way(self, actor: Actor) -> None:
        """Nothing to note: the next draw is even again."""

    def choose(self, enabled: Sequence[Actor], last: Actor) -> Actor:
        """As the class says; but the clock is drawn seldom where others can go on."""
        count = len(enabled)
        chosen = enabled[int(self._random() * count)]
        while chosen.name == CLOCK_NAME and count > 1 and self._random() > CLOCK_SHARE:
            chosen = enabled[int(self._random() * count)]
        return chosen

    def pick(self, count: int, label: str, share: float) -> int:
        """By chance."""
        return draw_pick(self._random, count, share)


class FairTail:
    """Another strategy for a number of steps, then even draws.

    inner: the strategy.  seed: of the even draws.  after: the steps, 0 or more (ValueError otherwise).
    """

    def __init__(self, inner: Strategy, seed: int, after: int) -> None:
        if after < 0:
            raise ValueError(f"a fair tail after {after} steps")
        self.name = inner.name
        self.inner = inner
        self.born = inner.born
        self.gave_way = inner.gave_way
        self.pick = inner.pick
        self._choose = inner.choose
        self._seed = seed
        self._left = after

    def choose(self, enabled: Sequence[Actor], last: Actor) -> Actor:
        """As the class says."""
        self._left -= 1
        if self._left == -1:
            self._choose = RandomWalk(self._seed).choose
        return self._choose(enabled, last)
