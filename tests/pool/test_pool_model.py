"""A pool under drawn calls: every rule holds after each, and it agrees with a plain model. In the simulator."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordemu.pool.conn_loan import ConnLoan
from coordemu.pool.conn_pool import ConnPool
from coordemu.pool.invariants import check_invariants, check_removed
from coordemu.pool.pool_conn_state import PoolConnState
from coordemu.pool.pool_errors import NotInHand, PoolExhausted, PoolTimeout
from coordemu.pool.pool_options import PoolOptions
from coordemu.pool.pooled_conn import PooledConn
from coordemu.pool.recipe_base import quick_dial
from coordemu.runtime.base import NS_PER_MS
from coordemu.runtime.sim import SimRuntime

S = PoolConnState
CALLS = (
    "get", "get", "get", "put", "put", "put", "remove", "again", "retire", "failover", "claim", "give back", "age",
    "drain",
)  # fmt: skip

options = st.builds(
    PoolOptions,
    pool_size=st.integers(1, 4),
    fifo=st.booleans(),
    pool_timeout_ms=st.just(1),
    max_idle_conns=st.integers(0, 3),
    max_active_conns=st.integers(0, 4),
    min_idle_conns=st.integers(0, 2),
    conn_max_idle_time_ms=st.sampled_from([0, 5]),
    pop_attempts=st.sampled_from([1, 2, 50]),
)


class Model:
    """What a plain reader of the rules expects."""

    def __init__(self, sim: SimRuntime, chosen: PoolOptions) -> None:
        self.sim = sim
        self.options = chosen
        self.pool = ConnPool(sim, quick_dial, chosen)
        self.held: list[ConnLoan] = []
        self.ended: list[ConnLoan] = []
        self.claimed: list[PooledConn] = []
        self.seen: dict[int, PooledConn] = {}

    def rest(self) -> None:
        pool = self.pool
        quiet = self.sim.poll_until(
            lambda: not pool.dials.slots.held and not pool.register.dialing and pool.turns.held == len(self.held),
            1000,
            "rest",
            10**9,
        )
        assert quiet, f"{pool!r} holds other turns than those of {len(self.held)} callers"
        check_invariants(pool)
        self.seen.update(pool.register.conns)
        for conn in self.seen.values():
            if conn.conn_id not in pool.register.conns:
                check_removed(conn)
        assert pool.statistics()["in_use"] == len(self.held)

    def call(self, what: str, index: int) -> None:
        pool, held = self.pool, self.held
        if what == "get":
            full = len(held) == self.options.pool_size
            try:
                conn = pool.get()
            except PoolTimeout:
                assert full
            except PoolExhausted:
                assert not full
                assert 0 < self.options.max_active_conns <= len(pool.register.conns)
            else:
                assert not full
                assert conn.state is S.IN_USE
                assert conn.conn not in [each.conn for each in held]
                held.append(conn)
        elif what in ("put", "remove") and held:
            conn = held.pop(index % len(held))
            pool.put(conn) if what == "put" else pool.remove(conn)
            self.ended.append(conn)
        elif what == "again" and self.ended:
            # Whoever has the connection by now, and in whatever state it is.
            for give in (pool.put, pool.remove):
                with pytest.raises(NotInHand):
                    give(self.ended[index % len(self.ended)])
        elif what == "retire":
            pool.retire()
            assert not pool.register.idle or self.options.min_idle_conns
        elif what == "failover":
            pool.filter(lambda conn: conn.conn_id % 2 == index % 2)
        elif what == "claim":
            idle = [conn for conn in pool.register.idle if conn.state is S.IDLE]
            if idle and idle[index % len(idle)].claim("worker", (S.IDLE,)):
                self.claimed.append(idle[index % len(idle)])
        elif what == "give back" and self.claimed:
            conn = self.claimed.pop(index % len(self.claimed))
            assert conn.give_back() == (conn.conn_id in pool.register.conns)
        elif what == "age":
            self.sim.sleep_ns(6 * NS_PER_MS)
        elif what == "drain" and not held:
            usable = [conn for conn in pool.register.idle if conn.state is S.IDLE]
            shown: list[Any] = []
            assert pool.drain_idle(shown.append) == len(usable) == len(shown)


@given(options, st.lists(st.tuples(st.sampled_from(CALLS), st.integers(0, 7)), max_size=40))
@settings(max_examples=120, deadline=None)
def test_drawn_calls_keep_every_rule(chosen: PoolOptions, calls: list[tuple[str, int]]) -> None:
    sim = SimRuntime()

    def main() -> None:
        model = Model(sim, chosen)
        model.rest()
        for what, index in calls:
            model.call(what, index)
            model.rest()
        model.pool.close()
        for conn in model.seen.values():
            check_removed(conn)

    sim.run(main).check()
