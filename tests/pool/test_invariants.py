"""The check itself: a pool whose books are wrong in some way is told so, by the rule's letters. In the simulator."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coordemu.pool.conn_pool import ConnPool
from coordemu.pool.invariants import InvariantBroken, broken_rules, check_invariants, check_removed, demand
from coordemu.pool.pool_conn_state import PoolConnState
from coordemu.pool.pool_options import PoolOptions
from coordemu.pool.pooled_conn import Place
from coordemu.pool.recipe_base import quick_dial
from coordemu.runtime.sim import SimRuntime

S = PoolConnState


def state(conn, to):
    conn.machine._state.value = to


BROKEN: dict[str, tuple[str, Callable[[ConnPool], object]]] = {
    "a turn too many": ("S1", lambda pool: setattr(pool.turns, "_free", 9)),
    "a turn that nobody has": ("Q1", lambda pool: pool.turns.try_acquire()),
    "held, and not in use": ("S2", lambda pool: state(pool.register.conns[2], S.IDLE)),
    "listed, and in use": ("S2", lambda pool: state(pool.register.conns[1], S.IN_USE)),
    "listed twice": ("Q3", lambda pool: pool.register.idle.push(pool.register.conns[1])),
    "listed nowhere": ("Q3", lambda pool: pool.register.idle.remove(pool.register.conns[1])),
    "given to nobody": ("Q3", lambda pool: setattr(pool.register.conns[2], "place", Place.HAND_OVER)),
    "gone, and listed": ("Q3", lambda pool: pool.register.conns.pop(1)),
    "unusable, and nobody's": ("Q5", lambda pool: state(pool.register.conns[1], S.UNUSABLE)),
    "closed, and still here": ("Q3", lambda pool: state(pool.register.conns[1], S.CLOSED)),
    "pooled and not counted": ("Q7", lambda pool: setattr(pool.register, "num_pooled", 5)),
    "a dial that never ends": ("Q7", lambda pool: setattr(pool.register, "dialing", 1)),
    "a slot that is kept": ("Q7", lambda pool: pool.dials.slots.try_acquire()),
    "one waiter counted": ("Q4", lambda pool: setattr(pool.register.conns[1].machine._num_waiters, "value", 1)),
    "served out of order": ("S8", lambda pool: setattr(pool.turns, "out_of_order", 1)),
    "more than the cap": ("Q9", lambda pool: setattr(pool.register, "most_open", 5)),
}


def test_a_sound_pool_has_nothing_wrong_and_each_fault_is_named() -> None:
    sim = SimRuntime()

    def main() -> None:
        for name, (rule, spoil) in BROKEN.items():
            pool = ConnPool(sim, quick_dial, PoolOptions(pool_size=3, max_active_conns=3))
            one, _two = pool.get(), pool.get()
            pool.put(one)
            sim.poll_until(lambda pool=pool: not pool.dials.slots.held, 1000, "the dials to end")
            assert broken_rules(pool) == []
            spoil(pool)
            with pytest.raises(InvariantBroken) as caught:
                check_invariants(pool)
            assert rule in caught.value.rules, name

    sim.run(main).check()


def test_a_removed_connection_that_is_not_closed_is_told() -> None:
    sim = SimRuntime()

    def main() -> None:
        pool = ConnPool(sim, quick_dial)
        conn = pool.get()
        with pytest.raises(InvariantBroken, match="closed 0 times"):
            check_removed(conn.conn)
        pool.remove(conn)
        check_removed(conn.conn)

    sim.run(main).check()


def test_a_demand() -> None:
    demand("S2", True, "all is well")
    with pytest.raises(InvariantBroken, match="S2 it is not") as caught:
        demand("S2", False, "it is not")
    assert caught.value.rules == ("S2",)
