"""Every fault of the breaker is found in the simulator within few orders, and the mended form survives all of them."""

from __future__ import annotations

import pytest
from searches import check_survives, failures_found

from coordemu.explore.dfs import search_all
from coordemu.explore.dpor import exhaust
from coordemu.explore.order import PASSED
from coordemu.explore.program import ProgramSubject
from coordemu.resilience.breaker_faults import BREAKER_FAULTS, UnknownBreakerFault, check_breaker_faults
from coordemu.resilience.breaker_faulty import FaultyBreaker, make_breaker
from coordemu.resilience.breaker_recipes import BREAKER_RECIPES
from coordemu.resilience.recipe_base import ResilienceRecipe, RuleBroken, demand, demand_all

ORDERS = 300
RECIPES = {recipe.name: recipe for recipe in BREAKER_RECIPES}
SHOWN = [(recipe.name, fault) for recipe in BREAKER_RECIPES for fault in recipe.faults]
# By which rule, or by a deadlock.
BY_RULE = {
    "two-probes": "B1", "permits-reset-late": "B1", "lost-permit-on-cancel": "B2", "lost-permit-on-ignored": "B2",
    "permit-given-back-twice": "B1", "no-generation": "B3", "late-failure-restarts-timer": "B4",
    "probe-panic-jams": "B2", "half-open-for-ever": "B8", "opens-twice": "B5", "failure-count-lost": "B6",
    "calm-said-late": "B6", "events-out-of-order": "B7", "events-under-lock": "deadlocked",
    "lock-across-call": "deadlocked", "raw-clock": "B4",
}  # fmt: skip


def subject(name: str, *faults: str) -> ProgramSubject:
    recipe = RECIPES[name]
    return ProgramSubject(lambda rt: recipe.program(rt, frozenset(faults)), name)


def test_every_fault_has_a_recipe_and_a_sentence_with_its_source() -> None:
    assert sorted(fault for _, fault in SHOWN) == sorted(BREAKER_FAULTS) == sorted(BY_RULE)
    assert len(RECIPES) == len(BREAKER_RECIPES)
    for name, sentence in BREAKER_FAULTS.items():
        assert sentence.startswith("["), name
        assert sentence.endswith("."), name
    for recipe in BREAKER_RECIPES:
        assert isinstance(recipe, ResilienceRecipe)
        assert recipe.sentence


@pytest.mark.parametrize(("name", "fault"), SHOWN)
def test_a_fault_is_found_by_its_rule_and_again_with_another_seed(name: str, fault: str) -> None:
    for failure in failures_found(subject(name, fault), fault):
        if BY_RULE[fault] == "deadlocked":
            assert failure.kind == "deadlocked", failure
        else:
            assert failure.kind == "error", failure
            assert f": {BY_RULE[fault]} " in failure.sentence, failure


@pytest.mark.parametrize("strategy", ["random", "pct3", "pos"])
@pytest.mark.parametrize("name", RECIPES)
def test_the_mended_form_survives(name: str, strategy: str) -> None:
    check_survives(subject(name), strategy, ORDERS)


@pytest.mark.parametrize("name", RECIPES)
def test_the_mended_form_survives_all_orders_with_two_preemptions(name: str) -> None:
    result = search_all(subject(name), preemptions=2)
    assert result.complete
    assert set(result.verdicts) == {PASSED}
    assert result.runs > 10


@pytest.mark.parametrize("name", RECIPES)
def test_every_class_of_orders_survives_and_the_faults_are_among_them(name: str) -> None:
    mended = exhaust(subject(name))
    assert mended.complete
    assert set(mended.verdicts) == {PASSED}
    for fault in RECIPES[name].faults:
        assert exhaust(subject(name, fault), stop_at_first=True).found, fault


@pytest.mark.parametrize("name", RECIPES)
def test_a_mended_recipe_runs_on_threads_too(rt_threads, name: str) -> None:
    for _ in range(3):
        RECIPES[name].program(rt_threads, frozenset())


def test_faults_are_known_by_name(rt_threads) -> None:
    assert check_breaker_faults(BREAKER_FAULTS) == frozenset(BREAKER_FAULTS)
    with pytest.raises(UnknownBreakerFault, match="did you mean 'no-generation'"):
        make_breaker(rt_threads, faults=("no-generations",))
    with pytest.raises(UnknownBreakerFault, match="not the one word"):
        check_breaker_faults("two-probes")
    assert not isinstance(make_breaker(rt_threads), FaultyBreaker)
    faulty = make_breaker(rt_threads, faults=("two-probes",))
    assert isinstance(faulty, FaultyBreaker)
    assert faulty.faults == {"two-probes"}


def test_what_is_broken_is_named_by_its_letters() -> None:
    demand("B1", True, "nothing")
    demand_all("breaker", [])
    with pytest.raises(RuleBroken, match="recipe: B1 two") as caught:
        demand("B1", False, "two")
    assert caught.value.rules == ("B1",)
    with pytest.raises(RuleBroken) as caught:
        demand_all("breaker", ["B2 one", "B1 two", "B2 three"])
    assert caught.value.rules == ("B1", "B2")
