"""What several tests of searches need: a program that can deadlock, and another order of the same class."""

from __future__ import annotations

from typing import Any

from coordemu.runtime.runtime_base import Chance
from coordemu.runtime.sim import SimRuntime


def two_locks(rt: SimRuntime) -> None:
    a, b = rt.lock("A"), rt.lock("B")

    def take(first: Any, second: Any) -> None:
        with first, second:
            pass

    tasks = [rt.spawn(take, a, b, name="one"), rt.spawn(take, b, a, name="two")]
    for task in tasks:
        task.join()


def another_order(past: Any, draw: Chance) -> list[int]:
    """The steps in another order that keeps every dependence."""
    left, done, order = set(range(len(past.actors))), 0, []
    while left:
        step = draw.choice(sorted(step for step in left if not past.before[step] & ~done))
        order.append(step)
        left.remove(step)
        done |= 1 << step
    return order
