"""Portfolio: which plan the n-th order of a search has.

Role: no strategy finds every bug. Priorities with few changes find at once what depends on two or three decisions, and
never what depends on ten; partial order sampling is the other way round; even draws are slow with many tasks, and have
no blind spot. So a search takes turns, and its first order is the plain one, in which nobody is interrupted. The plan
of an order depends on the search's seed and the order's number alone: a search is a range of numbers, and any division
of it plays the same orders.

The strategy is not all that differs. Part of the orders are played on the explored clock, where a time limit may fire
although the answer was on its way; part with chances, where what is legal but rare happens (a spurious wake-up, another
waiter than the first); and most with another seed of the runtime's chance.

Thread: pure. Upstream: none. Left out: shifting turns to what finds most (ranges would no longer be independent);
"dfs" and "dpor", whose orders depend on those before them (`dfs`, `dpor`).
"""

from __future__ import annotations

from difflib import get_close_matches

from coordemu.explore.order import OrderPlan
from coordemu.runtime.runtime_base import Chance

PORTFOLIO = "portfolio"
# What takes turns. What was measured to find most comes most often.
TURNS = ("pct3", "pos", "pct2", "pos", "pct5", "random", "pct1", "pos", "pct3", "pct9")
SAMPLED = ("run-on", "random", "pct1", "pct2", "pct3", "pct5", "pct9", "pos")
# One order after the other, each depending on those before: a range of these begins at 0.
SYSTEMATIC = ("dfs", "dpor")
STRATEGY_NAMES: tuple[str, ...] = (PORTFOLIO, *SAMPLED, *SYSTEMATIC)

# Shares of the orders.
EXPLORED_CLOCK, WITH_CHANCES, FIRST_RT_SEED = 0.4, 0.35, 0.25
# How often, in orders with chances, the rare thing happens.
CHANCES = (0.02, 0.05, 0.1)
_SEEDS = 2**31


def check_strategy(strategy: str) -> None:
    """Raises ValueError, with the nearest name, when no strategy of a search is called so."""
    if strategy not in STRATEGY_NAMES:
        nearest = get_close_matches(strategy, STRATEGY_NAMES, 1, 0.4)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise ValueError(f"no strategy is called {strategy!r}; there are {', '.join(STRATEGY_NAMES)}{hint}")


def plan_of(strategy: str, seed: int, number: int, length: int) -> OrderPlan:
    """The plan of one order of a search.

    strategy: one of STRATEGY_NAMES, but for the systematic.  seed: of the search.  number: from 0 on; 0 of the
    portfolio and of "run-on" is the plain order: nobody interrupted, time passes when nothing can run, no chances.
    length: 1 or more, about how many steps the program takes.
    Raises ValueError outside of the bounds, and for a strategy that has no plans.
    """
    check_strategy(strategy)
    if strategy in SYSTEMATIC:
        raise ValueError(f"{strategy!r} goes through the orders one after the other; an order of it has no plan")
    if number < 0 or length < 1:
        raise ValueError(f"order {number} of a program of {length} steps")
    if number == 0 and strategy in (PORTFOLIO, "run-on"):
        return OrderPlan("run-on", seed, length=length)
    draw = Chance((seed << 40) + number)
    name = TURNS[(number - 1) % len(TURNS)] if strategy == PORTFOLIO else strategy
    clock = "explored" if draw.random() < EXPLORED_CLOCK else "idle"
    chances = CHANCES[int(draw.random() * len(CHANCES))] if draw.random() < WITH_CHANCES else 0.0
    rt_seed = 1 if draw.random() < FIRST_RT_SEED else draw.randrange(1, _SEEDS)
    return OrderPlan(name, draw.randrange(_SEEDS), clock, rt_seed, chances, length)
