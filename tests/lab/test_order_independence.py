"""The coordinator notes what its steps touch: other orders of a class, played, are of that class and end alike."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from orders import another_order

from coordemu.coord.resize_policy import get_policy
from coordemu.explore.order import OrderPlan, Played, Subject, play
from coordemu.explore.watcher import Watcher
from coordemu.lab.order_run import CoordinatorSubject
from coordemu.lab.subjects import get_order_scenario
from coordemu.runtime.runtime_base import Chance
from coordemu.runtime.sim_schedule import make_strategy
from coordemu.runtime.sim_task import Actor


class Sampled(Watcher):
    """Notes of an order that another strategy chooses."""

    def __init__(self, name: str, seed: int) -> None:
        super().__init__()
        self.inner = make_strategy(name, seed, 70)

    def born(self, actor: Actor) -> None:
        super().born(actor)
        self.inner.born(actor)

    def gave_way(self, actor: Actor) -> None:
        super().gave_way(actor)
        self.inner.gave_way(actor)

    def decide(self, step: int, enabled: Sequence[Actor], last: Actor) -> Actor:
        return self.inner.choose(enabled, last)


class Given(Watcher):
    """Notes of an order that is given."""

    def __init__(self, steps: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self.steps = steps

    def decide(self, step: int, enabled: Sequence[Actor], last: Actor) -> Actor:
        key, label = self.steps[step]
        for actor in enabled:
            if (actor.key, actor.label) == (key, label):
                return actor
        raise self.misfit(step)


def played(subject: Subject, watcher: Watcher) -> tuple[Played, object]:
    found = play(subject, OrderPlan(), watcher, footprints=True, prepare=watcher.attach)
    return found, watcher.fingerprint(found.schedule.steps)


@pytest.mark.parametrize("scenario", ["smallest", "small"])
@pytest.mark.parametrize("policy", ["coordemu-safe", "upstream-7410", "upstream-before"])
def test_other_orders_of_a_class_end_alike(scenario: str, policy: str) -> None:
    """If a step touched something that it does not note, another order of the same class would be another run."""
    subject = CoordinatorSubject(get_order_scenario(scenario), get_policy(policy))
    draw = Chance(1)
    for seed in range(24):
        watcher = Sampled(("random", "pos", "pct3", "pct9")[seed % 4], seed)
        first, found = played(subject, watcher)
        for _ in range(3):
            given = Given([first.schedule.steps[at] for at in another_order(watcher.past, draw)])
            again, found_again = played(subject, given)
            given.check()
            assert (again.verdict, found_again) == (first.verdict, found)
