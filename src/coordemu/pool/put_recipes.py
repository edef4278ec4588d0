"""Recipes of callers that give a connection back twice: while nobody has it, and when another has it by then.

Role: what a loan is for (`conn_loan`). The faulty forms look at less than whose hand-out it is, or at nothing.

Thread: the recipe's main task. Upstream: putConn, which knows of no hand-out. Left out: what `pool_recipes` has.
Bounds: see `recipe_base`.
"""

from __future__ import annotations

from contextlib import suppress

from coordemu.pool import pool_faults
from coordemu.pool.conn_pool import ConnPool
from coordemu.pool.invariants import check_invariants, demand
from coordemu.pool.pool_errors import NotInHand, PoolExhausted, PoolTimeout, TurnsOverfull
from coordemu.pool.recipe_base import Crew, PoolRecipe, recipe_pool
from coordemu.runtime.base import Runtime


def _settle(pool: ConnPool, crew: Crew) -> None:
    """Until the dials are over whose callers have gone."""
    crew.until(lambda: not pool.dials.slots.held and not pool.register.dialing, "the dials to end")


def two_puts(rt: Runtime, faults: frozenset[str]) -> None:
    """One connection is given back twice, by two tasks."""
    pool = recipe_pool(rt, faults)
    conn = pool.get()
    _settle(pool, Crew(rt))
    crew = Crew(rt)

    def putter() -> None:
        with suppress(NotInHand, TurnsOverfull):
            pool.put(conn)

    crew.add("one", putter)
    crew.add("other", putter)
    crew.join()
    check_invariants(pool)


def stale_put(rt: Runtime, faults: frozenset[str]) -> None:
    """One caller gives its connection back twice; another has it by then."""
    pool = recipe_pool(rt, faults, max_active_conns=1)
    crew = Crew(rt)
    first = pool.get()

    def forgetful() -> None:
        pool.put(first)
        rt.sleep_ns(0)
        with suppress(NotInHand, TurnsOverfull):
            pool.put(first)

    def next_one() -> None:
        try:
            loan = pool.get()
        except (PoolExhausted, PoolTimeout):
            return
        rt.sleep_ns(0)
        demand("S2", loan.current, f"{loan.name} was taken from a caller that has it")
        pool.put(loan)

    crew.add("forgetful", forgetful)
    crew.add("next", next_one)
    crew.join()
    _settle(pool, crew)
    check_invariants(pool)


PUT_RECIPES = (
    PoolRecipe("two-puts", "one is given back twice", (pool_faults.DOUBLE_PUT,), two_puts),
    PoolRecipe("stale-put", "one is given back twice, and another has it", (pool_faults.STALE_PUT,), stale_put),
)
