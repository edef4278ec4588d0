"""Subjects by description: what a schedule file, or a process that searches a range of orders, makes its subject from.

Role: the way back from `Subject.describe`. It is the one place that knows every kind that can be made from plain
values; a program of a test, which only the test has, is not among them.

Thread: pure. Upstream: none. Left out: invariants, which are functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coordemu.coord.resize_policy import ResizePolicy
from coordemu.explore.order import Subject
from coordemu.lab.backfill_sim import BackfillSubject
from coordemu.lab.client_pool_subject import ClientPoolSubject
from coordemu.lab.order_run import KIND, CoordinatorSubject
from coordemu.lab.order_scenario import ORDER_SCENARIOS, OrderScenario, get_order_scenario
from coordemu.lab.recipe_subject import RecipeSubject
from coordemu.lab.resilience_subject import ResilienceSubject
from coordemu.lab.thpool_subject import (
    THPOOL_KIND,
    THPOOL_SCENARIOS,
    ThpoolScenario,
    ThpoolSubject,
    get_thpool_scenario,
)
from coordemu.runtime.sim_schedule import ScheduleError

__all__ = [
    "ORDER_SCENARIOS",
    "RECIPE_FAMILIES",
    "THPOOL_SCENARIOS",
    "RecipeFamily",
    "get_order_scenario",
    "get_thpool_scenario",
    "recipe_family",
    "recipe_for",
    "subject_from",
]


RecipeFamily = type[RecipeSubject] | type[BackfillSubject]
# The families of recipes, each with its book.
RECIPE_FAMILIES: tuple[RecipeFamily, ...] = (ClientPoolSubject, ResilienceSubject, BackfillSubject)


def recipe_family(name: str) -> RecipeFamily | None:
    """The family to which a scenario's name belongs, None for one that is no recipe's. Thread: any."""
    return next((family for family in RECIPE_FAMILIES if name.startswith(family.BOOK.prefix)), None)


def recipe_for(fault: str) -> tuple[str, str]:
    """The scenario that shows a fault of a recipe, and what the fault is of; two empty words for no such. Thread:
    any."""
    found = ((family.BOOK.recipe_for(fault), family.BOOK.title) for family in RECIPE_FAMILIES)
    return next((each for each in found if each[0]), ("", ""))


def subject_from(description: Mapping[str, Any]) -> Subject:
    """The subject that `describe` told of. Raises ScheduleError, a ValueError with one line, when it can't be made."""
    kind = description.get("kind") if isinstance(description, Mapping) else None
    if kind == "program":
        raise ScheduleError(f"the order is of the program {description.get('name')!r}: only its test can play it")
    if kind == "pytest":
        raise ScheduleError(
            f"the order is of a test; play it by: pytest {description.get('name')} --coordemu-replay=FILE"
        )
    families = {family.BOOK.kind: family for family in RECIPE_FAMILIES}
    if kind not in (KIND, THPOOL_KIND, *families):
        known = ", ".join(map(repr, (KIND, THPOOL_KIND, *families, "program")))
        raise ScheduleError(f"the order is of a subject of kind {kind!r}, which is none of {known}")
    try:
        if kind in families:
            return families[kind].from_description(description)
        faults = tuple(description.get("faults", ()))
        if kind == THPOOL_KIND:
            return ThpoolSubject(ThpoolScenario.from_json(description["scenario"]), description["reduce"], faults)
        scenario = OrderScenario.from_json(description["scenario"])
        fields = dict(description["policy"])
        policy = ResizePolicy(**{**fields, "order": tuple(fields["order"])})
        return CoordinatorSubject(scenario, policy, faults)
    except KeyError as err:
        raise ScheduleError(f"the description of the subject has no {err}") from None
    except (TypeError, ValueError) as err:
        raise ScheduleError(f"the subject can't be made: {err}") from None
