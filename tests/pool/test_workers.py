"""Handoff and re-authentication of connections while their pool is in use. On both runtimes."""

from __future__ import annotations

import pytest

from coordemu.pool.background_workers import BackgroundWorkers
from coordemu.pool.handoff import HandoffHook, HandoffOptions
from coordemu.pool.handoff_record import HandoffMark, HandoffRecord
from coordemu.pool.invariants import check_removed
from coordemu.pool.pool_conn_state import PoolConnState
from coordemu.pool.reauthentication import ReauthHook

S = PoolConnState


class NewWire:
    """What the new endpoint's dial returns."""

    def __init__(self, endpoint):
        self.endpoint = endpoint
        self.closes = 0

    def close(self):
        self.closes += 1


@pytest.fixture
def pool(make_pool):
    return make_pool(pool_size=4)


class Movers:
    """A dialer to new endpoints."""

    def __init__(self):
        self.calls = []
        self.failures = 0
        self.gate = None

    def __call__(self, endpoint, timeout_ns):
        self.calls.append((endpoint, timeout_ns))
        if self.gate is not None:
            self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise ConnectionError("refused")
        return NewWire(endpoint)


@pytest.fixture
def movers():
    return Movers()


@pytest.fixture
def hand_off(rt, pool, movers):
    hook = HandoffHook(rt, pool, movers, HandoffOptions(retries=2, retry_delay_ms=1))
    pool.add_hook(hook)
    return hook


def test_a_later_announcement_counts(rt):
    record = HandoffRecord(rt, "conn")
    assert record.mark is None
    assert record.set("a", 1)
    assert not record.set("b", 1)
    assert record.set("c", 2)
    assert record.mark == HandoffMark("c", 2)
    taken = record.queue()
    assert taken.queued
    assert record.queue() is None
    assert record.take_back(taken)
    assert not record.mark.queued
    taken = record.queue()
    assert record.set("d", 3)
    assert not record.take_back(taken)
    assert not record.clear(taken)
    assert record.clear(record.mark)
    assert record.mark is None
    assert record.queue() is None
    assert not record.set("d", 3)
    assert record.set("e", 4)


def test_idle_connections_move_at_once(pool, hand_off, movers, until, rested):
    conns = [pool.get(), pool.get()]
    for conn in conns:
        pool.put(conn)
    old = [conn.resource for conn in conns]
    assert hand_off.announce("b:1", 1) == 2
    assert hand_off.announce("b:1", 1) == 0
    until(lambda: not hand_off.workers.busy)
    for conn, wire in zip(conns, old, strict=True):
        assert conn.resource.endpoint == "b:1"
        assert wire.closes == 1
        assert conn.conn.handoff.mark is None
        assert conn.state is S.IDLE
    assert movers.calls[0] == ("b:1", 15_000 * 10**6)
    rested(pool)
    assert pool.get().conn in [each.conn for each in conns]


def test_one_in_use_moves_when_it_is_given_back(pool, hand_off, until, rested):
    conn = pool.get()
    hand_off.announce("b:1", 1)
    assert conn.state is S.IN_USE
    assert conn.resource.closes == 0
    pool.put(conn)
    until(lambda: not hand_off.workers.busy)
    assert conn.resource.endpoint == "b:1"
    rested(pool)
    assert pool.removals() == {}


def test_callers_pass_over_one_that_is_being_moved(rt, pool, hand_off, movers, dialer, until, rested):
    movers.gate = rt.event("the new endpoint")
    conn = pool.get()
    pool.put(conn)
    hand_off.announce("b:1", 1)
    until(lambda: movers.calls)
    look = pool.snapshot()
    assert (look.conns[0].state, look.conns[0].owned_by) == ("UNUSABLE", "handoff")
    assert look.occupancy.unusable == 1
    other = pool.get()
    assert other is not conn
    movers.gate.set()
    until(lambda: not hand_off.workers.busy)
    pool.put(other)
    rested(pool)


def test_a_second_try_succeeds(pool, hand_off, movers, until, rested):
    movers.failures = 1
    conn = pool.get()
    hand_off.announce("b:1", 1)
    pool.put(conn)
    until(lambda: not hand_off.workers.busy)
    assert conn.resource.endpoint == "b:1"
    assert len(movers.calls) == 2
    rested(pool)


def test_one_that_cannot_be_moved_is_removed_from_where_it_is(pool, hand_off, movers, until, rested):
    movers.failures = 2
    conn = pool.get()
    hand_off.announce("b:1", 1)
    pool.put(conn)
    until(lambda: not hand_off.workers.busy)
    check_removed(conn.conn)
    assert pool.removals() == {"handoff_failed": 1}
    assert str(hand_off.last_error) == "refused"
    rested(pool)


def test_a_fresh_one_that_is_marked_in_its_dial_goes_to_its_caller(rt, pool, hand_off, dialer, start, until, rested):
    class Announcer:
        def on_get(self, conn, is_new):
            hand_off.announce("b:1", 1)
            return True

        def on_put(self, conn):
            return (True, False)

        def on_remove(self, conn, reason):
            pass

    pool.remove_hook(hand_off)
    announcer = Announcer()
    pool.add_hook(announcer)
    pool.add_hook(hand_off)
    conn = pool.get()
    assert conn.conn.handoff.mark is not None
    pool.remove_hook(announcer)
    pool.put(conn)
    until(lambda: not hand_off.workers.busy)
    assert conn.resource.endpoint == "b:1"
    rested(pool)


def test_a_full_queue_ends_the_connection(rt, pool, movers, until, rested):
    movers.gate = rt.event("the new endpoint")
    hook = HandoffHook(rt, pool, movers, HandoffOptions(workers=1, max_queued=1))
    pool.add_hook(hook)
    conns = [pool.get() for _ in range(3)]
    hook.announce("b:1", 1)
    pool.put(conns[0])
    until(lambda: movers.calls)
    pool.put(conns[1])
    pool.put(conns[2])
    assert pool.removals() == {"hook": 1}
    check_removed(conns[2].conn)
    movers.gate.set()
    until(lambda: not hook.workers.busy)
    assert hook.workers.statistics()["refused"] == 1
    rested(pool)


def test_one_closed_while_it_is_moved_closes_the_new_resource_too(rt, pool, hand_off, movers, until):
    movers.gate = rt.event("the new endpoint")
    conn = pool.get()
    pool.put(conn)
    hand_off.announce("b:1", 1)
    until(lambda: movers.calls)
    pool.close()
    movers.gate.set()
    until(lambda: not hand_off.workers.busy)
    check_removed(conn.conn)
    assert conn.resource.closes == 1


@pytest.mark.parametrize("bad", [{"timeout_ms": 0}, {"retries": 0}, {"workers": -1}])
def test_handoff_options_have_bounds(bad):
    with pytest.raises(ValueError, match="out of bounds"):
        HandoffOptions(**bad)


def test_workers_come_and_go(rt, start, until):
    done = []
    workers = BackgroundWorkers(rt, "workers", done.append, 2, 100)
    for number in range(20):
        assert workers.submit(number)
    until(lambda: not workers.busy)
    assert sorted(done) == list(range(20))
    assert workers.statistics() == {"queued": 0, "running": 0, "done": 20, "refused": 0, "failed": 0}
    with pytest.raises(ValueError, match="0 workers"):
        BackgroundWorkers(rt, "workers", done.append, 0, 1)


@pytest.fixture
def renewed():
    return []


@pytest.fixture
def hook(rt, pool, renewed):
    def authenticate(conn):
        assert conn.state is S.UNUSABLE
        if getattr(conn.resource, "refuses", False):
            raise PermissionError("WRONGPASS")
        renewed.append(conn.conn_id)

    made = ReauthHook(rt, pool, authenticate)
    pool.add_hook(made)
    return made


def test_idle_ones_are_authenticated_at_once_and_others_at_their_put(pool, hook, renewed, until, rested):
    idle, held = pool.get(), pool.get()
    pool.put(idle)
    assert hook.credentials_changed() == 2
    until(lambda: renewed == [idle.conn_id])
    assert held.state is S.IN_USE
    pool.put(held)
    until(lambda: not hook.busy)
    assert renewed == [idle.conn_id, held.conn_id]
    assert idle.state is held.state is S.IDLE
    assert hook.statistics() == {"marked": 0, "scheduled": 0, "done": 2, "failed": 0}
    rested(pool)


def test_one_that_is_refused_is_removed(pool, hook, renewed, until, rested):
    conn = pool.get()
    conn.resource.refuses = True
    pool.put(conn)
    hook.credentials_changed()
    until(lambda: not hook.busy)
    check_removed(conn.conn)
    assert pool.removals() == {"auth_error": 1}
    assert hook.statistics()["failed"] == 1
    assert str(hook.last_error) == "WRONGPASS"
    rested(pool)


def test_a_change_while_it_is_in_use_is_done_once(pool, hook, renewed, until, rested):
    conn = pool.get()
    hook.credentials_changed()
    hook.credentials_changed()
    pool.put(conn)
    until(lambda: not hook.busy)
    assert renewed == [conn.conn_id]
    again = pool.get()
    assert again.conn is conn.conn
    pool.put(again)
    assert renewed == [conn.conn_id]
    rested(pool)


def test_one_whose_handshake_is_still_to_come_is_not_authenticated_twice(make_pool, rt, until, rested):
    pool = make_pool(pool_size=4, min_idle_conns=2)
    renewed = []
    hook = ReauthHook(rt, pool, lambda conn: renewed.append(conn.conn_id))
    pool.add_hook(hook)
    until(lambda: len(pool.register.idle) == 2 and not pool.turns.held)
    hook.credentials_changed()
    conn = pool.get()
    assert not hook.busy
    pool.put(conn)
    until(lambda: not hook.busy)
    assert renewed == []
    until(lambda: not pool.turns.held)
    rested(pool)


def test_changes_under_load_leave_everything_in_order(pool, hook, renewed, start, until, rested):
    pool.put(pool.get())

    def caller():
        for _ in range(15):
            pool.put(pool.get())

    def provider():
        for _ in range(5):
            hook.credentials_changed()

    for call in [start(caller), start(caller), start(provider)]:
        call.join()
    until(lambda: not hook.busy)
    rested(pool)
    assert renewed
