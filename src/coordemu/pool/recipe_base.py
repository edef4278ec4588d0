"""PoolRecipe: a small program that shows one fault in some order of its tasks, and none when it is mended.

Role: what searches play, on the simulator, and what the tests run on threads too. A recipe sets up as little as it
needs, lets a few tasks run, and checks the rules (`invariants`) when all have ended. A wait that nobody ends has no
deadline in a recipe, so that a lost wake-up is a deadlock, which the simulator sees by itself.

Thread: the recipe's main task; it spawns the others and waits for them. Upstream: the recipes of the reference's
section 8. Left out: load; `coordemu pool` has that. Bounds: two to five tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from coordemu.pool.conn_dialer import Dial
from coordemu.pool.conn_pool import ConnPool
from coordemu.pool.pool_options import PoolOptions
from coordemu.runtime.base import NS_PER_S, Runtime, Task

Program = Callable[[Runtime, frozenset[str]], None]
# Of recipes that run on real threads: far beyond what they take.
PATIENCE_NS = 20 * NS_PER_S
LONG_MS = 3_600_000
LOOK_EVERY_NS = 10_000_000


@dataclass(frozen=True, slots=True)
class PoolRecipe:
    """name: for commands.  sentence: what its tasks do.  faults: those that it shows, each by itself.  program: called
    with a runtime and the faults that are on; raises InvariantBroken (or what a task raised) when a rule is broken."""

    name: str
    sentence: str
    faults: tuple[str, ...]
    program: Program


class Crew:
    """The tasks of a recipe."""

    def __init__(self, rt: Runtime) -> None:
        self.rt = rt
        self._tasks: list[Task] = []

    def add(self, name: str, target: Callable[[], object]) -> Task:
        """Start one. Thread: the recipe's main task."""
        task = self.rt.spawn(target, name=name)
        self._tasks.append(task)
        return task

    def join(self) -> None:
        """Wait for all. Raises what the first of them raised. Blocks."""
        for task in self._tasks:
            task.join()
        for task in self._tasks:
            if task.error is not None:
                raise task.error

    def join_watching(self, look: Callable[[], object]) -> None:
        """As `join`, and meanwhile look, often: a rule that holds again later, or a wait that its time limit ends, is
        seen while it is wrong. look: raises then. Blocks."""

        def ended() -> bool:
            look()
            for task in self._tasks:
                if not task.alive and task.error is not None:
                    raise task.error
            return not any(task.alive for task in self._tasks)

        self.rt.poll_until(ended, LOOK_EVERY_NS, "the others")
        self.join()

    @property
    def any_ended(self) -> bool:
        """Whether one of them has."""
        return not all(task.alive for task in self._tasks)

    def until(self, predicate: Callable[[], bool], why: str) -> None:
        """Wait until it holds. Thread: any. Blocks."""
        self.rt.poll_until(predicate, 100_000, why)


class RecipeWire:
    """What a recipe's dial returns."""

    def __init__(self) -> None:
        self.closes = 0

    def close(self) -> None:
        """Count it."""
        self.closes += 1


def slow_dial(rt: Runtime, duration_ns: int = 1_000_000) -> Dial:
    """A dialer that takes duration_ns and succeeds."""

    def dial(timeout_ns: int | None) -> RecipeWire:
        rt.sleep_ns(duration_ns)
        return RecipeWire()

    return dial


def quick_dial(timeout_ns: int | None) -> RecipeWire:
    """A dialer that succeeds at once."""
    return RecipeWire()


def recipe_options(**chosen: Any) -> PoolOptions:
    """Two turns, an hour's patience and one attempt per dial, unless `chosen` says otherwise."""
    return PoolOptions(**{"pool_size": 2, "pool_timeout_ms": LONG_MS, "dialer_retries": 1, **chosen})


def recipe_pool(rt: Runtime, faults: frozenset[str], dial: Dial = quick_dial, **chosen: Any) -> ConnPool:
    """A pool with `recipe_options`."""
    return ConnPool(rt, dial, recipe_options(**chosen), faults=faults)
