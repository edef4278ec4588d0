"""Behaviours of the reference's list that no other file here has: large pools, races of few steps in great number, a
time limit that ends with its call. On both runtimes, the numbers smaller in the simulator."""

from __future__ import annotations

import pytest

from coordemu.pool.conn_state_machine import ConnStateMachine
from coordemu.pool.handoff_record import HandoffRecord
from coordemu.pool.pool_conn import PoolConn
from coordemu.pool.pool_conn_state import PoolConnState
from coordemu.pool.pool_context import PoolContext
from coordemu.pool.pool_errors import DeadlineExceeded, PoolTimeout
from coordemu.pool.pool_hooks import PlainHook
from coordemu.pool.pooled_conn import PooledConn
from coordemu.pool.turns import NoTurn, Turns
from coordemu.pool.want_conn import WantConn, WantConnQueue
from coordemu.resp_encode import bulk
from coordemu.runtime.base import NS_PER_MS, NS_PER_S
from coordemu.runtime.threads import ThreadsRuntime

S = PoolConnState


@pytest.fixture
def rounds(rt):
    """How often a race is run: often on threads, a few times where each run costs more."""
    return 2_000 if isinstance(rt, ThreadsRuntime) else 60


def test_a_hundred_taken_and_the_next_one_is_bounded_by_the_time_out(rt, make_pool, until, rested):
    pool = make_pool(pool_size=100, min_idle_conns=32, pool_timeout_ms=20)
    until(lambda: len(pool.register.idle) == 32 and not pool.turns.held)
    loans = [pool.get() for _ in range(100)]
    began_ns = rt.now_ns()
    with pytest.raises(PoolTimeout, match="100 of 100 in use"):
        pool.get()
    assert rt.now_ns() - began_ns >= 20 * NS_PER_MS
    statistics = pool.statistics()
    assert (statistics["total"], statistics["idle"], statistics["timeouts"]) == (100, 0, 1)
    for loan in loans:
        pool.put(loan)
    rested(pool)
    assert pool.statistics()["idle"] == 100


def test_a_thousand_open_connections_are_a_thousand(make_pool, until, rested):
    pool = make_pool(pool_size=1_000, min_idle_conns=50)
    until(lambda: len(pool.register.idle) == 50 and not pool.turns.held)
    loans = [pool.get() for _ in range(1_000)]
    statistics = pool.statistics()
    assert (statistics["idle"], statistics["total"], statistics["turns_held"]) == (0, 1_000, 1_000)
    for loan in loans:
        pool.put(loan)
    rested(pool)


def test_callers_whose_dials_all_fail_leave_nothing(rt, make_pool, dialer, start, until, rested):
    dialer.broken = ConnectionError("refused")
    pool = make_pool(pool_size=10, dialer_retries=1, probe_interval_ms=60_000)
    calls = [start(pool.get) for _ in range(100)]
    assert {str(call.failure()) for call in calls} == {"refused"}
    until(lambda: not pool.turns.held)
    statistics = pool.statistics()
    assert (statistics["wants"], statistics["total"], statistics["pending"]) == (0, 0, 0)
    assert statistics["failed_dials"] + statistics["refused_dials"] == 100
    assert statistics["longest_wants"] <= 2 * pool.options.pool_size
    rested(pool)
    pool.close()


def test_callers_in_a_hurry_whose_dials_fail_later_leave_no_want(rt, make_pool, dialer, start, until, rested):
    dialer.takes_ns = 10 * NS_PER_MS
    dialer.broken = ConnectionError("refused")
    pool = make_pool(pool_size=20, dialer_retries=1, probe_interval_ms=60_000, pool_timeout_ms=2)

    def hurried():
        with pytest.raises((DeadlineExceeded, PoolTimeout, ConnectionError)):
            pool.get(PoolContext.after(rt, 3 * NS_PER_MS))

    for call in [start(hurried) for _ in range(60)]:
        call.join()
    until(lambda: not pool.turns.held)
    assert pool.statistics()["wants"] == 0
    rested(pool)
    pool.close()


@pytest.mark.parametrize("fifo", [False, True])
def test_a_drain_that_was_cut_short_and_taken_up_again_shows_each_once(rt, make_pool, rested, fifo):
    pool = make_pool(pool_size=16, fifo=fifo)
    loans = [pool.get() for _ in range(16)]
    for loan in loans:
        pool.put(loan)
    seen, ctx = [], PoolContext(rt)

    def visit(conn):
        if conn.conn_id not in seen:
            seen.append(conn.conn_id)
        if len(seen) == 7:
            ctx.cancel()

    with pytest.raises(Exception, match="cancelled"):
        pool.drain_idle(visit, ctx)
    assert len(seen) == 7
    assert pool.drain_idle(visit) == 16
    assert sorted(seen) == list(range(1, 17))
    assert pool.statistics()["idle"] == 16
    rested(pool)


def test_late_comers_do_not_overtake_those_who_wait(rt, start, until):
    machine = ConnStateMachine(rt, "conn")
    machine.acquire()
    machine.move(S.INITIALIZING, S.IN_USE)
    order, calls = [], []

    def worker(number):
        machine.wait_and_transition((S.IDLE,), S.UNUSABLE)
        order.append(number)
        machine.move(S.UNUSABLE, S.IDLE)

    for number in range(6):
        calls.append(start(lambda number=number: worker(number)))
        until(lambda number=number: len(machine.snapshot().waiting) == number + 1)
    machine.release()
    # It may be IDLE for a moment between two of them; who comes now stands behind those who were there.
    late = [start(lambda number=number: worker(number)) for number in (6, 7)]
    for call in [*calls, *late]:
        call.join()
    assert order[:6] == sorted(order[:6])
    assert sorted(order) == list(range(8))
    assert machine.check_quiet() == []


def test_who_waits_for_a_handshake_gets_its_turn_after_it(rt, start, until):
    machine = ConnStateMachine(rt, "conn")
    assert machine.acquire()
    inside, most = [], []

    def user(number):
        machine.wait_and_transition((S.IDLE,), S.IN_USE)
        inside.append(number)
        most.append(len(inside))
        rt.sleep_ns(0)
        inside.remove(number)
        assert machine.release()

    calls = [start(lambda number=number: user(number)) for number in range(5)]
    until(lambda: len(machine.snapshot().waiting) == 5)
    assert not most
    machine.move(S.INITIALIZING, S.IDLE)
    for call in calls:
        call.join()
    assert most == [1] * 5
    assert machine.state is S.IDLE


def test_hooks_come_and_go_on_a_pool_in_use(make_pool, start, rested):
    pool = make_pool(pool_size=3)

    def caller():
        for _ in range(30):
            pool.put(pool.get())

    def operator():
        for _ in range(30):
            hook = PlainHook()
            pool.add_hook(hook)
            assert pool.remove_hook(hook)

    first, second = PlainHook(), PlainHook()
    pool.add_hook(first)
    assert len(pool.hooks) == 1
    pool.add_hook(second)
    assert len(pool.hooks) == 2
    assert pool.remove_hook(first)
    for call in [start(caller), start(caller), start(operator), start(operator)]:
        call.join()
    assert len(pool.hooks) == 1
    rested(pool)


def test_dropping_finished_wants_while_others_come_and_go(rt, start):
    queue = WantConnQueue(rt, "pool")

    def put():
        for number in range(20):
            want = WantConn(rt, "caller", lambda: ["a dial"])
            if number % 2:
                want.cancel()
            queue.enqueue(want)

    def drop():
        return sum(queue.drop_front_done() for _ in range(30))

    def take():
        return sum(queue.dequeue() is not None for _ in range(10))

    putters, droppers, takers = ([start(each) for _ in range(3)] for each in (put, drop, take))
    for call in putters:
        call.join()
    gone = sum(call.join() for call in [*droppers, *takers])
    assert len(queue) == 60 - gone
    assert queue.longest <= 60


def test_a_mark_that_is_taken_back_while_a_worker_clears_it_stays_cleared(rt, start, rounds):
    for sequence in range(rounds // 10):
        record = HandoffRecord(rt, "conn")
        record.set("b:1", sequence)
        taken = record.queue()
        calls = [
            start(lambda record=record, taken=taken: record.clear(taken)),
            start(lambda r=record, t=taken: r.take_back(t)),
        ]
        cleared, rolled_back = (call.join() for call in calls)
        assert cleared != rolled_back
        assert (record.mark is None) == cleared


def test_health_is_looked_at_while_the_socket_is_swapped(rt, start, rounds):
    class Wire:
        def __init__(self):
            self.closes = 0

        def healthy(self):
            return self.closes == 0

        def close(self):
            self.closes += 1

    conn = PooledConn(rt, 1, Wire(), "pool", True, None, frozenset())
    wires = [conn.resource]

    def swap():
        for _ in range(rounds):
            wires.append(Wire())
            conn.swap_resource(wires[-1]).close()

    def look():
        return [wire.healthy() or wire is not conn.resource for wire in (conn.resource for _ in range(rounds))]

    calls = [start(look), start(swap), start(look)]
    assert all(all(call.join() or [True]) for call in calls)
    conn.close()
    assert [wire.closes for wire in wires] == [1] * (rounds + 1)


def test_hooks_added_while_connections_close_are_told_at_most_once_each(make_pool, start, rounds):
    for _ in range(max(5, rounds // 100)):
        pool = make_pool(pool_size=4)
        told = []

        class Tell(PlainHook):
            def on_remove(self, conn, reason):
                told.append((id(self), conn.conn_id))  # noqa: B023

        pool.add_hook(Tell())
        for loan in [pool.get() for _ in range(4)]:
            pool.put(loan)
        hooks = [Tell() for _ in range(4)]
        adder = start(lambda pool=pool, hooks=hooks: [pool.add_hook(hook) for hook in hooks])
        closer = start(pool.close)
        adder.join()
        closer.join()
        assert len(told) == len(set(told))
        assert len({conn_id for _, conn_id in told}) == 4


def test_many_releases_against_the_shortest_time_limit_conserve_the_turn(rt, start, rounds):
    turns = Turns(rt, 1, "turns")

    def hurried():
        got = 0
        for _ in range(rounds):
            try:
                turns.acquire(deadline_ns=rt.now_ns() + 1_000)
            except NoTurn:
                continue
            got += 1
            turns.release()
        return got

    assert sum(call.join() for call in [start(hurried), start(hurried)]) > 0
    assert (turns.held, turns.waiting, turns.broken_rules()) == (0, 0, [])


def test_a_probe_has_the_dials_time_limit_or_none(make_pool, dialer, until):
    for dial_timeout_ms, seen in ((40, 40 * NS_PER_MS), (0, None)):
        dialer.broken, dialer.timeouts_ns = ConnectionError("refused"), []
        pool = make_pool(pool_size=1, dialer_retries=1, dial_timeout_ms=dial_timeout_ms, probe_interval_ms=1)
        with pytest.raises(ConnectionError):
            pool.get()
        until(lambda pool=pool: pool.statistics()["probes"] >= 1)
        assert dialer.timeouts_ns[1] == seen
        dialer.broken = None
        until(lambda pool=pool: not pool.statistics()["probing"])
        pool.put(pool.get())
        pool.close()


def test_a_time_limit_ends_with_its_call(rt, scene, start, until):
    scene()
    node = scene.cluster.nodes[0]
    wire = PoolConn(rt, node.address, 20 * NS_PER_S)
    assert wire.call("PING", timeout_ns=50 * NS_PER_MS) == b"PONG"
    seen = []
    scene.cluster.order(lambda: setattr(node, "script", lambda words, asking: seen.append(words) or "silent"))
    call = start(lambda: wire.call("GET", "key"))
    until(lambda: seen)
    rt.sleep_ns(80 * NS_PER_MS)
    (transport,) = node.transports.values()
    scene.cluster.order(lambda: transport.write(bulk(b"late")))
    assert call.join() == b"late"
    assert wire.healthy()
    wire.close()
    assert not wire.healthy()
    scene.end()


def test_looking_at_a_connections_health_takes_nothing_from_its_next_reply(rt, scene):
    scene()
    node = scene.cluster.nodes[0]
    wire = PoolConn(rt, node.address, 20 * NS_PER_S)
    for _ in range(3):
        assert wire.healthy()
        assert wire.call("PING") == b"PONG"
    wire.close()
    scene.end()


def test_what_comes_unasked_makes_a_connection_unhealthy(rt, scene, until):
    scene()
    node = scene.cluster.nodes[0]
    wire = PoolConn(rt, node.address, 20 * NS_PER_S)
    assert wire.call("PING") == b"PONG"
    (transport,) = node.transports.values()
    scene.cluster.order(lambda: transport.write(bulk(b"unasked")))
    until(lambda: not wire.healthy())
    wire.close()
    scene.end()
