"""ClientPoolSubject: a recipe of the client-side pool, as a subject, with the pool's faults that are on.

Role: the pool's family of `recipe_subject`: `coordemu explore pool-<recipe>`. Its rules are those of
`coordemu.pool.invariants`.

Thread: one play at a time. Upstream: none. Left out: what families share.
"""

from __future__ import annotations

from collections.abc import Sequence

from coordemu.coord.history import HISTORICAL_FAULTS
from coordemu.lab.recipe_subject import RecipeBook, RecipeSubject
from coordemu.pool.pool_faults import POOL_FAULTS, UnknownPoolFault, check_pool_faults
from coordemu.pool.pool_recipe_list import POOL_RECIPES

CLIENT_POOL_KIND = "client-pool"
PREFIX = "pool-"


def _checked(names: Sequence[str]) -> frozenset[str]:
    for name in names:
        if name in HISTORICAL_FAULTS and name not in POOL_FAULTS:
            raise UnknownPoolFault(f"{name!r} is a fault of the coordinator; a recipe of the client pool has its own")
    return check_pool_faults(names)


CLIENT_POOL = RecipeBook(CLIENT_POOL_KIND, PREFIX, "the client pool", POOL_RECIPES, _checked)


class ClientPoolSubject(RecipeSubject):
    """A recipe of the pool. recipe: its name, with or without PREFIX; ScenarioError for another.  faults: of the pool;
    UnknownPoolFault for another."""

    BOOK = CLIENT_POOL
