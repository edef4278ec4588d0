"""ResilienceSubject: a recipe of the resilience layer, as a subject, with the faults that are on.

Role: the layer's family of `recipe_subject`: `coordemu explore resilience-<recipe>`, for the breaker, the retry, the
limiters, the bulkhead and the pool's pressure. The rules' letters are explained where each recipe is.

Thread: one play at a time. Upstream: none. Left out: what families share.
"""

from __future__ import annotations

from coordemu.lab.recipe_subject import RecipeBook, RecipeSubject
from coordemu.resilience.recipe_list import RESILIENCE_RECIPES, check_resilience_faults

RESILIENCE_KIND = "resilience"

RESILIENCE = RecipeBook(
    RESILIENCE_KIND, "resilience-", "the resilience layer", RESILIENCE_RECIPES, check_resilience_faults
)


class ResilienceSubject(RecipeSubject):
    """A recipe of the layer. recipe: its name, with or without the prefix; ScenarioError for another.  faults: of the
    layer; UnknownFault for another."""

    BOOK = RESILIENCE
