"""Recipes of the pool pressure: two who look at once, two changes, two first callers of a node.

Role: each shows one fault of `pool_pressure` or `node_turns`. The pool is a single turn, so that one caller more or
less is a change of level.

Thread: the recipe's main task. Upstream: none. Left out: time; every look is new, and pressure may end at once.
Bounds: see `recipe_base`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from coordemu.pool.turns import Turns
from coordemu.resilience.node_turns import TWO_LIMITS, NodeTurns
from coordemu.resilience.pool_pressure import STALE_LOOK, TOLD_OUT_OF_ORDER, LevelChange, PoolPressure
from coordemu.resilience.pressure_gauge import PressureLevel, PressureOptions
from coordemu.resilience.recipe_base import Crew, ResilienceRecipe, demand
from coordemu.runtime.base import Runtime

NODE = "node"
AN_HOUR_MS = 3_600_000


class OneTurnPool:
    """A pool as the pressure sees it: its turns, and that it is open."""

    phase = "open"

    def __init__(self, rt: Runtime, size: int = 1) -> None:
        self.turns = Turns(rt, size, "turns")


def two_looks(rt: Runtime, faults: frozenset[str]) -> None:
    """One looks, while another takes the only connection and looks then."""
    pool = OneTurnPool(rt)
    options = PressureOptions(min_ms=0, look_ms=AN_HOUR_MS)
    pressure = PoolPressure(rt, lambda: {NODE: pool}, options, faults=faults)
    crew = Crew(rt)

    def taker() -> None:
        pool.turns.acquire()
        pressure.look_again()

    crew.add("looker", pressure.look_again)
    crew.add("taker", taker)
    crew.join()
    level = pressure.look().level
    demand("P1", level is PressureLevel.PRESSED, f"the connection is taken, and the level is {level.value}")


def two_changes(rt: Runtime, faults: frozenset[str]) -> None:
    """One sees that the only connection is taken; another then gives it back and looks, too."""
    pool = OneTurnPool(rt)
    pressure = PoolPressure(rt, lambda: {NODE: pool}, PressureOptions(min_ms=0, look_ms=0), faults=faults)
    told: list[LevelChange] = []
    pressure.subscribe(told.append)
    pool.turns.acquire()
    crew = Crew(rt)

    def giver() -> None:
        crew.until(lambda: bool(pressure.history), "the first change")
        pool.turns.release()
        pressure.look_again()

    crew.add("looker", pressure.look_again)
    crew.add("giver", giver)
    crew.join()
    happened = [change.target.value for change in pressure.history]
    heard = [change.target.value for change in told]
    demand("P2", heard == happened, f"the level became {' and '.join(happened)}, and was told as {' and '.join(heard)}")


def first_callers(rt: Runtime, faults: frozenset[str]) -> None:
    """Two are the first who want a node's only place."""
    places = NodeTurns(rt, 1, "places", faults)
    lock = rt.lock("inside")
    inside: list[int] = [0, 0]

    def come(step: int) -> None:
        with lock:
            inside[0] += step
            inside[1] = max(inside)

    def caller() -> None:
        with places.hold(NODE):
            come(1)
            come(-1)

    crew = Crew(rt)
    crew.add("one", caller)
    crew.add("other", caller)
    crew.join()
    demand("P3", inside[1] <= 1, f"{inside[1]} have the one place of a node")


PRESSURE_RECIPES: Mapping[str, ResilienceRecipe] = MappingProxyType({
    recipe.name: recipe
    for recipe in (
        ResilienceRecipe("two-looks", "one looks while another takes and looks", (STALE_LOOK,), two_looks),
        ResilienceRecipe("two-changes", "the level goes up and down again", (TOLD_OUT_OF_ORDER,), two_changes),
        ResilienceRecipe("first-callers", "two are the first at a node", (TWO_LIMITS,), first_callers),
    )
})  # fmt: skip

# (recipe, fault), for each fault that a recipe shows.
PRESSURE_SHOWN: tuple[tuple[str, str], ...] = tuple(
    (recipe.name, fault) for recipe in PRESSURE_RECIPES.values() for fault in recipe.faults
)
