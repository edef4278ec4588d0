"""The recipes by name, and which of them shows which fault.

Role: what commands and tests look up. Every fault of `pool_faults` has a recipe; a test sees to that.

Thread: a table, any. Upstream: none. Left out: nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from coordemu.pool.cluster_recipes import CLUSTER_RECIPES
from coordemu.pool.issue_recipes import ISSUE_RECIPES
from coordemu.pool.machine_recipes import MACHINE_RECIPES
from coordemu.pool.pool_recipes import POOL_PROPER_RECIPES
from coordemu.pool.put_recipes import PUT_RECIPES
from coordemu.pool.recipe_base import PoolRecipe
from coordemu.pool.turn_recipes import TURN_RECIPES
from coordemu.pool.worker_recipes import WORKER_RECIPES

POOL_RECIPES: Mapping[str, PoolRecipe] = MappingProxyType({
    recipe.name: recipe
    for recipe in (
        *MACHINE_RECIPES, *TURN_RECIPES, *POOL_PROPER_RECIPES, *PUT_RECIPES, *WORKER_RECIPES, *CLUSTER_RECIPES,
        *ISSUE_RECIPES,
    )
})  # fmt: skip

# (recipe, fault), for each fault that a recipe shows.
SHOWN: tuple[tuple[str, str], ...] = tuple(
    (recipe.name, fault) for recipe in POOL_RECIPES.values() for fault in recipe.faults
)
