"""Plans of a portfolio: pure, mixed, and refused in words."""

from __future__ import annotations

import pytest

from coordemu.explore.order import OrderPlan
from coordemu.explore.portfolio import PORTFOLIO, SAMPLED, STRATEGY_NAMES, SYSTEMATIC, TURNS, check_strategy, plan_of


def test_the_first_order_is_the_plain_one():
    assert plan_of(PORTFOLIO, 7, 0, 300) == OrderPlan("run-on", 7, "idle", 1, 0.0, 300)
    assert plan_of("run-on", 7, 0, 300) == plan_of(PORTFOLIO, 7, 0, 300)


@pytest.mark.parametrize("strategy", [PORTFOLIO, *SAMPLED])
def test_a_plan_depends_on_seed_and_number_alone(strategy):
    plans = [plan_of(strategy, 3, number, 100) for number in range(200)]
    assert plans == [plan_of(strategy, 3, number, 100) for number in range(200)]
    assert len(set(plans)) == 200
    assert not {plan.seed for plan in plans[1:]} & {plan_of(strategy, 4, number, 100).seed for number in range(1, 200)}


def test_the_portfolio_mixes_strategies_clocks_chances_and_seeds():
    plans = [plan_of(PORTFOLIO, 1, number, 100) for number in range(1, 1001)]
    assert {plan.strategy for plan in plans} == set(TURNS)
    for name in set(TURNS):
        ours = [plan for plan in plans if plan.strategy == name]
        explored = sum(plan.clock == "explored" for plan in ours) / len(ours)
        chances = sum(plan.chances > 0 for plan in ours) / len(ours)
        assert 0.25 < explored < 0.55
        assert 0.2 < chances < 0.5
        assert any(plan.rt_seed == 1 for plan in ours)
        assert len({plan.rt_seed for plan in ours}) > len(ours) / 2
    assert {plan.chances for plan in plans} == {0.0, 0.02, 0.05, 0.1}


@pytest.mark.parametrize("strategy", [PORTFOLIO, *SAMPLED])
def test_every_plan_has_a_strategy_that_exists(strategy):
    for number in range(12):
        plan_of(strategy, 1, number, 100).runtime()


def test_an_unknown_strategy_names_the_nearest():
    with pytest.raises(ValueError, match=r"no strategy is called 'pct33'; .* did you mean 'pct3'"):
        plan_of("pct33", 1, 0, 10)
    with pytest.raises(ValueError, match="no strategy is called 'quite other'; there are portfolio") as info:
        check_strategy("quite other")
    assert "did you mean" not in str(info.value)
    for strategy in STRATEGY_NAMES:
        check_strategy(strategy)


def test_what_has_no_plans_says_so():
    for strategy in SYSTEMATIC:
        with pytest.raises(ValueError, match="one after the other"):
            plan_of(strategy, 1, 0, 10)
    with pytest.raises(ValueError, match="order -1"):
        plan_of(PORTFOLIO, 1, -1, 10)
    with pytest.raises(ValueError, match="of 0 steps"):
        plan_of(PORTFOLIO, 1, 0, 0)
