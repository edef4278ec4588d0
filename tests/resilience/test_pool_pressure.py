"""Pool pressure: levels of real pools, cheap looks, what changes and who is told. On both runtimes."""

from __future__ import annotations

import pytest
from counted_pools import CountedPool as Pool
from counted_pools import Wire

from coordemu.pool.cluster_client import ClusterClient, ClusterOptions
from coordemu.pool.conn_pool import ConnPool
from coordemu.pool.pool_options import PoolOptions
from coordemu.resilience.pool_pressure import MOST_CHANGES, PoolPressure, pools_of
from coordemu.resilience.pressure_gauge import PressureLevel, PressureOptions
from coordemu.resilience.pressure_reading import Health, NodePressure, PressureReading
from coordemu.resilience.resilience_errors import UnknownFault
from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Address

CALM, PRESSED = PressureLevel.CALM, PressureLevel.PRESSED
AT_ONCE = PressureOptions(min_ms=0, look_ms=0)


@pytest.fixture
def pool():
    return Pool()


def make(rt, pools, options=AT_ONCE, **more):
    return PoolPressure(rt, lambda: pools, options, **more)


def test_a_real_pool_is_seen_as_it_fills_and_empties(rt):
    pool = ConnPool(rt, lambda timeout_ns: Wire(), PoolOptions(pool_size=20))
    pressure = make(rt, {"a": pool})
    conns = [pool.get() for _ in range(16)]
    assert pressure.look().pressure == 0.8
    assert pressure.level() is CALM
    conns.append(pool.get())
    reading = pressure.look()
    assert (reading.held, reading.size, reading.level, reading.health) == (17, 20, PRESSED, Health.STRAINED)
    assert reading.free == pytest.approx(0.15)
    for _ in range(3):
        pool.put(conns.pop())
    assert pressure.level("a") is PRESSED
    pool.put(conns.pop())
    assert pressure.level("a") is CALM
    assert [(change.source, change.target, change.node) for change in pressure.history] == [
        (CALM, PRESSED, "a"), (PRESSED, CALM, "a"),
    ]  # fmt: skip
    for conn in conns:
        pool.put(conn)
    pool.close()
    assert pressure.look().health is Health.SHUT


def test_callers_who_wait_make_it_starved(rt, start, until):
    pool = ConnPool(rt, lambda timeout_ns: Wire(), PoolOptions(pool_size=1))
    pressure = make(rt, {"a": pool})
    conn = pool.get()
    assert pressure.look().health is Health.FULL
    call = start(pool.get)
    until(lambda: pool.turns.waiting == 1)
    assert pressure.look().health is Health.STARVED
    assert pressure.look().waiting == 1
    assert pressure.look().pressure == 1.0
    pool.put(conn)
    pool.put(call.join())
    assert pressure.look().health is Health.HEALTHY
    pool.close()


def test_all_are_pressed_as_soon_as_one_node_is(rt):
    pools = {"a": Pool(), "b": Pool(10)}
    pressure = make(rt, pools)
    pools["b"].turns.held = 9
    reading = pressure.look()
    assert (reading.level, reading.level_of("a"), reading.level_of("b")) == (PRESSED, CALM, PRESSED)
    assert reading.pressure == 0.3
    assert reading.highest == 0.9
    assert reading.pressure_at("a") == 0
    # A node that has no pool yet goes by the worst.
    assert reading.level_of("c") is PRESSED
    assert reading.pressure_at("c") == 0.9


def test_without_a_pool_there_is_none(rt):
    reading = make(rt, {}).look()
    assert (reading.pressure, reading.highest, reading.free, reading.level) == (0, 0, 1, CALM)
    assert reading.health is Health.HEALTHY


def test_a_client_s_pools_by_node(rt):
    client = ClusterClient(rt, [Address(port=1)], ClusterOptions(PoolOptions(pool_size=2)))
    pressure = PoolPressure(rt, pools_of(client), AT_ONCE)
    assert pressure.look().nodes == {}
    pool = client._pool_of(Address(port=1))
    assert list(pressure.look().nodes) == [str(Address(port=1))]
    assert pool.turns.try_acquire()
    assert pool.turns.try_acquire()
    assert pressure.level() is PRESSED
    pool.turns.release()
    pool.turns.release()
    client.close()


def test_a_look_is_good_for_its_time(rt, shifted, pool):
    asked = []
    pressure = PoolPressure(shifted, lambda: asked.append(1) or {"a": pool}, PressureOptions(look_ms=10))
    pressure.look()
    pool.turns.held = 20
    shifted.pass_ms(9)
    assert pressure.level() is CALM
    assert len(asked) == 1
    shifted.pass_ms(1)
    assert pressure.level() is PRESSED
    assert len(asked) == 2
    pool.turns.held = 19
    assert pressure.look_again().held == 19
    assert len(asked) == 3


def test_a_clock_that_jumps_breaks_nothing(rt, shifted, pool):
    pressure = PoolPressure(shifted, lambda: {"a": pool}, PressureOptions(look_ms=10, min_ms=1_000))
    shifted.pass_ms(10**9)
    pool.turns.held = 20
    assert pressure.level() is PRESSED
    shifted.pass_ms(-(10**9))
    pool.turns.held = 0
    # A reading of the future is none; and no time has passed, so pressure lasts.
    assert pressure.look().held == 0
    assert pressure.level() is PRESSED
    shifted.pass_ms(1_000)
    assert pressure.level() is CALM
    assert pressure.look().pressed_ns == 1_000 * NS_PER_MS
    assert pressure.statistics()["pressed_ns"] == 1_000 * NS_PER_MS


def test_time_under_pressure_is_counted_per_node_and_for_all(rt, shifted):
    pools = {"a": Pool(1), "b": Pool(1)}
    pressure = PoolPressure(shifted, lambda: pools, AT_ONCE)
    for held in ((1, 0), (1, 1), (0, 1), (0, 0), (0, 0)):
        pools["a"].turns.held, pools["b"].turns.held = held
        reading = pressure.look()
        shifted.pass_ms(10)
    assert reading.nodes["a"].pressed_ns == 20 * NS_PER_MS
    assert reading.nodes["b"].pressed_ns == 20 * NS_PER_MS
    assert reading.pressed_ns == 30 * NS_PER_MS
    assert reading.nodes["a"].in_level_ns == 20 * NS_PER_MS


def test_a_node_whose_pool_is_gone_is_forgotten_and_no_longer_under_pressure(rt):
    pools = {"a": Pool(1), "b": Pool(1)}
    pressure = make(rt, pools)
    pools["a"].turns.held = 1
    assert pressure.level() is PRESSED
    gone = pools.pop("a")
    del pools["b"]
    assert pressure.level() is CALM
    assert pressure.history[-1].why == "its pool is gone"
    assert len(pressure.history) == 2
    gone.turns.held = 0
    pools["a"] = gone
    assert pressure.level() is CALM
    assert pressure.statistics()["nodes"] == 1


def test_listeners_hear_every_change_once_and_may_ask_what_they_like(rt, pool):
    pressure = make(rt, {"a": pool})
    heard = []

    def curious(change):
        heard.append((change.target, pressure.look().level, pressure.statistics()["changes"]))

    end = pressure.subscribe(curious)
    pressure.subscribe(lambda change: heard.append(change.pressure))
    pool.turns.held = 20
    pressure.look()
    pressure.look()
    assert heard == [(PRESSED, PRESSED, 1), 1.0]
    end()
    end()
    pool.turns.held = 0
    pressure.look()
    assert heard[2:] == [0.0]


def test_a_listener_that_raises_is_kept_and_the_others_are_told(rt, pool):
    pressure = make(rt, {"a": pool})
    heard = []
    pressure.subscribe(lambda change: 1 / 0)
    pressure.subscribe(heard.append)
    pool.turns.held = 20
    assert pressure.level() is PRESSED
    assert len(heard) == 1
    assert [type(error) for error in pressure.errors] == [ZeroDivisionError]
    assert pressure.statistics()["listener_errors"] == 1


def test_what_a_listener_changes_is_told_after_it(rt, pool):
    pressure = make(rt, {"a": pool})
    heard = []

    def relieve(change):
        heard.append(change.target)
        pool.turns.held = 0
        pressure.look()
        heard.append("done")

    pressure.subscribe(relieve)
    pool.turns.held = 20
    pressure.look()
    assert heard == [PRESSED, "done", CALM, "done"]


def test_pools_that_can_t_be_had_raise_and_the_next_look_works(rt, pool):
    answers = [{"a": pool}, RuntimeError("no map"), {"a": pool}]

    def pools():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    pressure = PoolPressure(rt, pools, AT_ONCE)
    pressure.look()
    with pytest.raises(RuntimeError, match="no map"):
        pressure.look()
    assert pressure.look().size == 20


def test_many_who_look_at_once_agree(rt, pool, start):
    pressure = make(rt, {"a": pool})
    heard = []
    pressure.subscribe(lambda change: heard.append(change.target))

    def work(number):
        for step in range(30):
            pool.turns.held = 20 if (step + number) % 2 else 0
            pressure.look()

    for call in [start(lambda number=number: work(number)) for number in range(4)]:
        call.join()
    history = [change.target for change in pressure.history]
    assert heard == history
    assert history == [PRESSED, CALM] * (len(history) // 2) + [PRESSED] * (len(history) % 2)
    statistics = pressure.statistics()
    assert statistics["looks"] + statistics["thrown_away"] == 120
    assert statistics["changes"] == len(history)


def test_the_history_has_a_bound(rt, pool):
    pressure = make(rt, {"a": pool})
    for number in range(MOST_CHANGES + 10):
        pool.turns.held = 0 if number % 2 else 20
        pressure.look()
    assert len(pressure.history) == MOST_CHANGES
    assert pressure.statistics()["changes"] == MOST_CHANGES + 10


def test_virtual_time_under_pressure(sim):
    def main():
        pool = ConnPool(sim, lambda timeout_ns: Wire(), PoolOptions(pool_size=5))
        pressure = PoolPressure(sim, lambda: {"a": pool})
        conns = [pool.get() for _ in range(5)]
        pressure.look()
        for _ in range(60):
            sim.sleep_ns(NS_PER_S)
            pressure.look()
        assert pressure.look().pressed_ns == 60 * NS_PER_S
        for conn in conns:
            pool.put(conn)
        assert pressure.look_again().level is CALM
        pool.close()

    sim.run(main).check()


def test_plain_values_for_a_report(rt):
    node = NodePressure("a", 3, 4, 2, "open", CALM, 5, 6)
    reading = PressureReading(1, {"a": node}, 6)
    assert reading.to_json() == {
        "at_ns": 1, "pressure": 0.75, "highest": 0.75, "level": "calm", "health": "healthy", "waiting": 2,
        "pressed_ns": 6,
        "nodes": [{
            "node": "a", "held": 3, "size": 4, "waiting": 2, "pressure": 0.75, "level": "calm", "health": "healthy",
            "in_level_ns": 5, "pressed_ns": 6,
        }],
    }  # fmt: skip


def test_names_and_faults(rt, pool):
    pressure = make(rt, {"a": pool}, name="p", faults=("stale-look",))
    assert pressure.faults == {"stale-look"}
    assert repr(pressure) == "<PoolPressure 'p' 0 nodes, 0 changes>"
    with pytest.raises(UnknownFault, match="did you mean 'stale-look'"):
        make(rt, {}, faults=("stale",))
