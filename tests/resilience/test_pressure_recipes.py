"""Each fault of pressure is found in the simulator, and the mended form survives every order, and threads."""

from __future__ import annotations

import pytest
from searches import check_survives

from coordemu.explore.dpor import exhaust
from coordemu.explore.order import PASSED
from coordemu.explore.program import ProgramSubject
from coordemu.explore.search import search_range
from coordemu.resilience.node_turns import NODE_FAULTS
from coordemu.resilience.pool_pressure import PRESSURE_FAULTS
from coordemu.resilience.pressure_recipes import PRESSURE_RECIPES, PRESSURE_SHOWN

ORDERS = 200


def subject(name: str, *faults: str) -> ProgramSubject:
    recipe = PRESSURE_RECIPES[name]
    return ProgramSubject(lambda rt: recipe.program(rt, frozenset(faults)), name)


def test_every_fault_has_a_recipe() -> None:
    assert {fault for _, fault in PRESSURE_SHOWN} == {*PRESSURE_FAULTS, *NODE_FAULTS}


@pytest.mark.parametrize(("name", "fault"), PRESSURE_SHOWN)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_fault_is_found(name: str, fault: str, seed: int) -> None:
    found = search_range(subject(name, fault), "portfolio", seed, 0, 1000, 100, stop_at_first=True).found
    assert found
    assert "RuleBroken" in str(found[0].failure)


@pytest.mark.parametrize("strategy", ["random", "pct3", "pos"])
@pytest.mark.parametrize("name", PRESSURE_RECIPES)
def test_the_mended_form_survives(name: str, strategy: str) -> None:
    mended = subject(name)
    check_survives(mended, strategy, ORDERS)


@pytest.mark.parametrize("name", ["two-looks", "first-callers"])
def test_every_class_of_orders_survives_and_the_fault_is_among_them(name: str) -> None:
    mended = exhaust(subject(name))
    assert mended.complete
    assert set(mended.verdicts) == {PASSED}
    assert exhaust(subject(name, *PRESSURE_RECIPES[name].faults)).found


@pytest.mark.parametrize("name", PRESSURE_RECIPES)
def test_a_mended_recipe_runs_on_threads_too(rt_threads, name: str) -> None:
    for _ in range(3):
        PRESSURE_RECIPES[name].program(rt_threads, frozenset())
