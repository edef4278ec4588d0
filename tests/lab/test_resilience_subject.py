"""A recipe of the resilience layer as a subject: made again from plain values, searched, and named by its rules."""

from __future__ import annotations

import json
import pickle

import pytest
from click.testing import CliRunner

from coordemu.cli import main
from coordemu.explore.order import OrderPlan, play
from coordemu.explore.search import length_of, search_range
from coordemu.lab.client_pool_subject import CLIENT_POOL
from coordemu.lab.resilience_subject import RESILIENCE, ResilienceSubject
from coordemu.lab.scenario import ScenarioError
from coordemu.lab.subjects import recipe_family, recipe_for, subject_from
from coordemu.pool.pool_faults import POOL_FAULTS
from coordemu.resilience.recipe_list import RESILIENCE_FAULTS, RESILIENCE_RECIPES, RESILIENCE_SHOWN
from coordemu.resilience.resilience_errors import UnknownFault

OVERDRAWN = ResilienceSubject("last-retry", ("budget-overdrawn",))


def test_a_description_makes_the_same_again() -> None:
    again = subject_from(json.loads(json.dumps(OVERDRAWN.describe())))
    assert again.name == OVERDRAWN.name == "resilience-last-retry, with budget-overdrawn"
    assert pickle.loads(pickle.dumps(OVERDRAWN)).describe() == again.describe()
    plan = OrderPlan("pos", 3, length=40)
    assert play(again, plan).schedule == play(OVERDRAWN, plan).schedule


def test_every_fault_has_a_recipe_and_no_two_families_share_a_name() -> None:
    assert {fault for _, fault in RESILIENCE_SHOWN} == set(RESILIENCE_FAULTS)
    assert not set(RESILIENCE_FAULTS) & set(POOL_FAULTS)
    assert set(RESILIENCE.scenarios) == {f"resilience-{name}" for name in RESILIENCE_RECIPES}
    assert recipe_family("resilience-last-retry") is ResilienceSubject
    assert recipe_family("mod-11658") is None
    assert recipe_for("budget-overdrawn") == ("resilience-last-retry", "the resilience layer")
    assert recipe_for("cake") == ("", "")
    assert CLIENT_POOL.recipe_for("budget-overdrawn") == ""


@pytest.mark.parametrize(("recipe", "fault"), RESILIENCE_SHOWN)
def test_a_search_finds_each_fault(recipe: str, fault: str) -> None:
    subject = ResilienceSubject(recipe, (fault,))
    found = search_range(subject, "portfolio", 1, 0, 3_000, length_of(subject), stop_at_first=True).found
    assert found, f"{fault} is not found"
    assert found[0].failure.kind in ("broken", "deadlocked")


@pytest.mark.parametrize("recipe", RESILIENCE_RECIPES)
def test_the_mended_form_survives(recipe: str) -> None:
    subject = ResilienceSubject(recipe)
    result = search_range(subject, "portfolio", 1, 0, 200, length_of(subject))
    assert result.verdicts == {"healthy": 200}, result.found[:1]


def test_what_does_not_exist_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ScenarioError, match="did you mean 'resilience-last-retry'"):
        RESILIENCE.scenario("resilience-last-retri")
    with pytest.raises(UnknownFault, match="did you mean 'budget-overdrawn'"):
        ResilienceSubject("last-retry", ("budget-overdrawm",))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["resilience-cake"], "no recipe of the resilience layer is called 'resilience-cake'"),
        (["resilience-last-retry", "--fault", "cake"], "--fault: "),
        (
            ["resilience-last-retry", "--policy", "upstream-7410"],
            "--policy has no meaning for a recipe of the",
        ),
        (["resilience-last-retry", "--clients", "3"], "--clients has no meaning for a recipe of the resilience layer"),
        (["mod-11658", "--fault", "budget-overdrawn"], "is of the resilience layer; resilience-last-retry shows it"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(main, ["explore", *arguments])
    assert result.exit_code == 2
    assert said in result.stderr


def test_the_command_finds_shrinks_and_tells() -> None:
    arguments = ["explore", "resilience-last-retry", "--fault", "budget-overdrawn", "--schedules", "100"]
    result = CliRunner().invoke(main, arguments)
    assert "R1 2 retries were granted, and one was left" in result.stdout
