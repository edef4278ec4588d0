"""The recipes and faults of the whole layer by name, and which recipe shows which fault.

Role: what commands and tests look up. Every fault has a recipe; a test sees to that.

Thread: a table, any. Upstream: none. Left out: nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType

from coordemu.resilience.breaker_faults import BREAKER_FAULTS
from coordemu.resilience.breaker_recipes import BREAKER_RECIPES
from coordemu.resilience.guard import GUARD_FAULTS
from coordemu.resilience.limiter_faults import LIMITER_FAULTS
from coordemu.resilience.limiter_recipes import LIMITER_RECIPES
from coordemu.resilience.node_turns import NODE_FAULTS
from coordemu.resilience.pool_pressure import PRESSURE_FAULTS
from coordemu.resilience.pressure_recipes import PRESSURE_RECIPES
from coordemu.resilience.recipe_base import ResilienceRecipe
from coordemu.resilience.resilience_errors import check_faults
from coordemu.resilience.retry import RETRY_FAULTS
from coordemu.resilience.retry_budget import BUDGET_FAULTS
from coordemu.resilience.retry_recipes import RETRY_RECIPES

RESILIENCE_RECIPES: Mapping[str, ResilienceRecipe] = MappingProxyType({
    recipe.name: recipe
    for recipe in (
        *BREAKER_RECIPES,
        *RETRY_RECIPES.values(),
        *LIMITER_RECIPES.values(),
        *PRESSURE_RECIPES.values(),
    )
})  # fmt: skip

RESILIENCE_FAULTS: Mapping[str, str] = MappingProxyType(
    {
        **BREAKER_FAULTS,
        **RETRY_FAULTS,
        **BUDGET_FAULTS,
        **GUARD_FAULTS,
        **LIMITER_FAULTS,
        **PRESSURE_FAULTS,
        **NODE_FAULTS,
    }
)

# (recipe, fault), for each fault that a recipe shows.
RESILIENCE_SHOWN: tuple[tuple[str, str], ...] = tuple(
    (recipe.name, fault) for recipe in RESILIENCE_RECIPES.values() for fault in recipe.faults
)


def check_resilience_faults(names: Collection[str]) -> frozenset[str]:
    """The names as a set. Raises UnknownFault for another, with the nearest. Thread: any."""
    return check_faults(names, RESILIENCE_FAULTS, "the resilience layer")
