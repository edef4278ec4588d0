"""Recipes of what stands around the pools: the first slot map, and a connection that several commands share.

Role: neither has a fault of the model to show; searches go through their orders to see that there is none of ours.

* first-map: three callers need the slot map, one of them is cancelled while it asks or waits, and the first node that
  is asked fails. Each has a map or its own error, and nobody asks beside another.
* sticky: two callers share one connection, a third closes it, and the pool is retired meanwhile. Nobody has it beside
  another, and its turn is given back, once.

Thread: the recipe's main task. Upstream: none. Left out: servers. Bounds: see `recipe_base`.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from coordemu.pool.invariants import check_invariants, demand
from coordemu.pool.pool_context import PoolContext
from coordemu.pool.pool_errors import BadConn, Cancelled, ConnFailed, PoolClosed, PoolTimeout
from coordemu.pool.recipe_base import Crew, PoolRecipe, recipe_pool
from coordemu.pool.slot_map import SLOTS
from coordemu.pool.slot_map_holder import SlotMapHolder
from coordemu.pool.sticky_conn import StickyConn
from coordemu.runtime.base import Address, Runtime

_SEEDS = (Address(port=1), Address(port=2))
_HOME = Address(port=7)


def first_map(rt: Runtime, faults: frozenset[str]) -> None:
    """Three callers without a map; one is cancelled; the first node fails."""
    asking: list[str] = []

    def ask(address: Address, ctx: PoolContext | None) -> Any:
        asking.append(rt.current().name)
        demand("S2", len(asking) == 1, f"{' and '.join(asking)} ask at the same time")
        rt.sleep_ns(0)
        asking.remove(rt.current().name)
        error = ctx.error() if ctx is not None else None
        if error is not None:
            raise error
        if address == _SEEDS[0]:
            raise ConnFailed("connect", "refused")
        return [[0, SLOTS - 1, [_HOME.host.encode(), _HOME.port]]]

    holder = SlotMapHolder(rt, "client", _SEEDS, ask)
    ctx = PoolContext(rt)
    crew = Crew(rt)

    def caller(ctx: PoolContext | None = None) -> None:
        with suppress(Cancelled):
            found = holder.get(ctx)
            demand("Q3", found.nodes == (_HOME,), f"a caller was given {found.nodes}, and a node has answered")

    crew.add("one", lambda: caller(ctx))
    crew.add("other", caller)
    crew.add("third", caller)
    crew.add("canceller", ctx.cancel)
    crew.join()
    demand("Q3", holder.maps == 1, f"{holder.maps} maps came for one that was wanted")


def sticky(rt: Runtime, faults: frozenset[str]) -> None:
    """Two share a connection, one closes it, and the pool is retired."""
    pool = recipe_pool(rt, faults)
    shared = StickyConn(pool)
    crew = Crew(rt)
    inside: list[str] = []

    def caller() -> None:
        try:
            loan = shared.get()
        except (BadConn, PoolClosed, PoolTimeout):
            return
        inside.append(rt.current().name)
        demand("S2", len(inside) == 1, f"{' and '.join(inside)} have {loan.name}")
        rt.sleep_ns(0)
        demand("S2", loan.current, f"{loan.name} was taken from a caller that has it")
        inside.remove(rt.current().name)
        shared.put(loan)

    crew.add("one", caller)
    crew.add("other", caller)
    crew.add("closer", shared.close)
    crew.add("operator", pool.retire)
    crew.join()
    crew.until(lambda: not pool.dials.slots.held and not pool.register.dialing, "the dials to end")
    demand("S1", pool.turns.held == 0, f"{pool.turns.held} turns are held, and the connection was closed")
    check_invariants(pool)


CLUSTER_RECIPES = (
    PoolRecipe("first-map", "three need the slot map, one is cancelled, a node fails", (), first_map),
    PoolRecipe("sticky", "two share a connection, a third closes it", (), sticky),
)
