"""Every fault of the limiters is found in the simulator within few orders; the mended forms survive all of them."""

from __future__ import annotations

import pytest
from searches import check_survives, failures_found

from coordemu.explore.dfs import search_all
from coordemu.explore.dpor import exhaust
from coordemu.explore.order import PASSED
from coordemu.explore.program import ProgramSubject
from coordemu.resilience.bulkhead import Bulkhead
from coordemu.resilience.faulty_limiters import make_bulkhead, make_sliding_log, make_token_bucket
from coordemu.resilience.limiter_faults import BUCKET_FAULTS, BULKHEAD_FAULTS, LIMITER_FAULTS, LOG_FAULTS
from coordemu.resilience.limiter_recipes import LIMITER_RECIPES, LIMITERS_SHOWN
from coordemu.resilience.resilience_errors import UnknownFault
from coordemu.resilience.sliding_log import SlidingLog
from coordemu.resilience.token_bucket import TokenBucket

ORDERS = 200
FEW = 10_000
# All orders with up to two preemptions are 20 to 4,000; of this one there are more than 30,000.
LARGE = ("permit-cancelled",)


def subject(name: str, *faults: str) -> ProgramSubject:
    recipe = LIMITER_RECIPES[name]
    return ProgramSubject(lambda rt: recipe.program(rt, frozenset(faults)), name)


def test_every_fault_has_a_recipe_and_a_sentence() -> None:
    assert {fault for _, fault in LIMITERS_SHOWN} == set(LIMITER_FAULTS) == BULKHEAD_FAULTS | BUCKET_FAULTS | LOG_FAULTS
    for name, sentence in LIMITER_FAULTS.items():
        assert sentence.endswith("."), name
    for recipe in LIMITER_RECIPES.values():
        assert recipe.sentence


@pytest.mark.parametrize(("name", "fault"), LIMITERS_SHOWN)
def test_a_fault_is_found_and_again_with_another_seed(name: str, fault: str) -> None:
    for failure in failures_found(subject(name, fault), fault, FEW):
        assert failure.kind in ("error", "deadlocked")


@pytest.mark.parametrize("strategy", ["portfolio", "random", "pct3", "pos"])
@pytest.mark.parametrize("name", LIMITER_RECIPES)
def test_the_mended_form_survives(name: str, strategy: str) -> None:
    check_survives(subject(name), strategy, ORDERS)


@pytest.mark.parametrize("name", LIMITER_RECIPES)
def test_all_orders_with_few_preemptions_survive(name: str) -> None:
    result = search_all(subject(name), preemptions=1 if name in LARGE else 2)
    assert result.complete
    assert set(result.verdicts) == {PASSED}
    assert result.runs > 2


@pytest.mark.parametrize("name", [name for name in LIMITER_RECIPES if name not in LARGE])
def test_every_class_of_orders_survives(name: str) -> None:
    result = exhaust(subject(name))
    assert result.complete
    assert set(result.verdicts) == {PASSED}


# clock-before-state needs time to pass while somebody can run, which is not among the orders of the plain clock.
@pytest.mark.parametrize(
    ("name", "fault"), [each for each in LIMITERS_SHOWN if each[0] not in LARGE and each[1] != "clock-before-state"]
)
def test_the_faults_are_among_the_classes_of_orders(name: str, fault: str) -> None:
    assert exhaust(subject(name, fault)).found


@pytest.mark.parametrize("name", LIMITER_RECIPES)
def test_a_mended_recipe_runs_on_threads_too(rt_threads, name: str) -> None:
    for _ in range(3):
        LIMITER_RECIPES[name].program(rt_threads, frozenset())


def test_faults_are_known_by_name(rt_threads) -> None:
    with pytest.raises(UnknownFault, match="did you mean 'small-first'"):
        make_token_bucket(rt_threads, 1, 1, faults=("smal-first",))
    with pytest.raises(UnknownFault, match="not the one word"):
        make_bulkhead(rt_threads, 1, faults="permit-stolen")
    # Those of another kind of limiter change nothing.
    assert type(make_bulkhead(rt_threads, 1, faults=LOG_FAULTS)) is Bulkhead
    assert type(make_token_bucket(rt_threads, 1, 1, faults=BULKHEAD_FAULTS)) is TokenBucket
    assert type(make_sliding_log(rt_threads, 1, 1, faults=BUCKET_FAULTS)) is SlidingLog
    assert make_bulkhead(rt_threads, 1, faults=LIMITER_FAULTS).faults == BULKHEAD_FAULTS
