"""Hooks: their order, what they may say, and that every removal is told once. On both runtimes."""

from __future__ import annotations

import pytest

from coordemu.pool.invariants import check_removed
from coordemu.pool.pool_conn_state import PoolConnState
from coordemu.pool.pool_errors import HookRefused
from coordemu.pool.pool_hooks import PlainHook, PutVerdict

S = PoolConnState


class Recorder(PlainHook):
    """Says what it was told to say, and writes down what it was asked."""

    def __init__(self, name, log, get=True, put=PutVerdict(), raises=()):  # noqa: B008 (frozen)
        self.name, self.log, self.get, self.put, self.raises = name, log, get, put, raises

    def on_get(self, conn, is_new):
        self.log.append((self.name, "get", is_new))
        if "get" in self.raises:
            raise ValueError("a hook's own")
        return self.get

    def on_put(self, conn):
        self.log.append((self.name, "put"))
        if "put" in self.raises:
            raise ValueError("a hook's own")
        return self.put

    def on_remove(self, conn, reason):
        self.log.append((self.name, "remove", reason))
        if "remove" in self.raises:
            raise ValueError("a hook's own")


@pytest.fixture
def log():
    return []


@pytest.fixture
def pool(make_pool):
    return make_pool(pool_size=2, max_idle_conns=1)


def test_hooks_are_asked_in_the_order_of_their_adding(pool, log):
    first, second = Recorder("first", log), Recorder("second", log)
    pool.add_hook(first)
    pool.add_hook(second)
    conn = pool.get()
    pool.put(conn)
    assert log == [("first", "get", True), ("second", "get", True), ("first", "put"), ("second", "put")]
    assert len(pool.hooks) == 2
    assert pool.remove_hook(first)
    assert not pool.remove_hook(first)
    assert len(pool.hooks) == 1
    pool.get()
    assert log[-1] == ("second", "get", False)


def test_a_failing_get_hook_ends_the_asking_and_the_connection(pool, log, rested):
    conn = pool.get()
    pool.put(conn)
    pool.add_hook(Recorder("first", log, raises=("get",)))
    pool.add_hook(Recorder("second", log))
    with pytest.raises(ValueError, match="a hook's own"):
        pool.get()  # the idle one is closed, the fresh one too
    assert log[:3] == [("first", "get", False), ("first", "remove", "hook_error"), ("second", "remove", "hook_error")]
    assert ("second", "get", True) not in log
    assert pool.removals() == {"hook_error": 2}
    check_removed(conn.conn)
    rested(pool)


def test_a_refused_idle_connection_is_listed_again_and_another_is_dialed(pool, log, rested):
    conn = pool.get()
    pool.put(conn)

    class Refuse(Recorder):
        def on_get(self, conn, is_new):
            return is_new

    pool.add_hook(Refuse("hook", log))
    other = pool.get()
    assert other is not conn
    statistics = pool.statistics()
    assert statistics["refused"] == pool.options.get_attempts
    assert (statistics["hits"], statistics["misses"]) == (0, 2)
    assert conn.state is S.IDLE
    rested(pool)
    pool.put(other)


def test_a_refused_fresh_connection_is_closed_and_its_turn_is_free_again(make_pool, log, rested):
    pool = make_pool(pool_size=1)
    hook = Recorder("hook", log, get=False)
    pool.add_hook(hook)
    for _ in range(3):
        with pytest.raises(HookRefused):
            pool.get()
    rested(pool)
    assert pool.statistics()["pending"] == 0
    pool.remove_hook(hook)
    pool.put(pool.get())


def test_a_put_hook_that_wants_it_removed_ends_the_asking(pool, log, rested):
    conn = pool.get()
    pool.add_hook(Recorder("first", log, put=PutVerdict(False, True)))
    pool.add_hook(Recorder("second", log))
    pool.put(conn)
    assert log == [("first", "put"), ("first", "remove", "hook"), ("second", "remove", "hook")]
    check_removed(conn.conn)
    rested(pool)


def test_a_put_hook_that_does_not_want_it_pooled_lets_the_others_be_asked(pool, log, rested):
    conn = pool.get()
    pool.add_hook(Recorder("first", log, put=PutVerdict(should_pool=False)))
    pool.add_hook(Recorder("second", log))
    pool.put(conn)
    assert log[:2] == [("first", "put"), ("second", "put")]
    check_removed(conn.conn)
    rested(pool)


def test_a_failing_put_hook_has_it_removed(pool, log, rested):
    conn = pool.get()
    pool.add_hook(Recorder("hook", log, raises=("put",)))
    pool.put(conn)
    assert pool.removals() == {"hook_error": 1}
    check_removed(conn.conn)
    rested(pool)


def test_a_failing_remove_hook_hinders_nothing(pool, log, rested):
    conn = pool.get()
    pool.add_hook(Recorder("first", log, raises=("remove",)))
    pool.add_hook(Recorder("second", log))
    pool.remove(conn, "broken")
    assert ("second", "remove", "broken") in log
    assert pool.statistics()["hook_errors"] == 1
    check_removed(conn.conn)
    rested(pool)


def test_an_eviction_is_told(pool, log, rested):
    conns = [pool.get(), pool.get()]
    pool.add_hook(Recorder("hook", log))
    for conn in conns:
        pool.put(conn)
    assert log == [("hook", "put"), ("hook", "put"), ("hook", "remove", "evicted")]
    assert pool.statistics()["stale"] == 1
    check_removed(conns[1].conn)
    rested(pool)


def test_a_close_of_one_beside_the_pool_is_told(pool, log):
    conn = pool.new_conn()
    pool.add_hook(Recorder("hook", log))
    assert pool.close_conn(conn)
    assert not pool.close_conn(conn)
    assert log == [("hook", "remove", "removed")]
    check_removed(conn)


def test_a_connection_that_a_hook_closed_at_its_put_is_told_once(pool, log, rested):
    class Closer(PlainHook):
        def on_put(self, conn):
            conn.close()
            return PutVerdict()

    conn = pool.get()
    pool.add_hook(Closer())
    pool.add_hook(Recorder("hook", log))
    pool.put(conn)
    assert [entry for entry in log if entry[1] == "remove"] == [("hook", "remove", "closed")]
    assert (conn.conn.closes, conn.conn.removals_told) == (1, 1)
    rested(pool)


def test_a_state_that_a_hook_owns_is_said_so_and_goes_to_the_far_end(make_pool, rested):
    lines = []
    pool = make_pool(pool_size=2, log=lambda *line: lines.append(line))

    class Claim(PlainHook):
        def on_put(self, conn):
            if conn.conn_id == 2:
                assert conn.claim("handoff")
            return PutVerdict()

    one, two = pool.get(), pool.get()
    pool.add_hook(Claim())
    pool.put(one)
    pool.put(two)
    seen = {conn.conn_id: conn for conn in pool.snapshot().conns}
    assert (seen[2].state, seen[2].owned_by, seen[2].place) == ("UNUSABLE", "handoff", "in the idle list")
    assert (seen[1].state, seen[1].owned_by) == ("IDLE", "")
    assert [conn.conn_id for conn in pool.register.idle] == [1, 2]
    assert pool.snapshot().occupancy.unusable == 1
    assert lines == []
    rested(pool)
    assert pool.get().conn is one.conn
    assert two.conn.give_back()
    assert pool.get().conn is two.conn


def test_a_worker_that_is_done_before_its_put_has_ended_confuses_nobody(pool, rested):
    class Quick(PlainHook):
        def on_put(self, conn):
            assert conn.claim("re-authentication")
            assert conn.give_back()
            return PutVerdict()

    conn = pool.get()
    pool.add_hook(Quick())
    pool.put(conn)
    assert pool.removals() == {}
    assert conn.state is S.IDLE
    rested(pool)
    assert pool.get().conn is conn.conn


def test_a_state_that_nobody_owns_up_to_ends_the_connection(pool, rested):
    conn = pool.get()
    conn.conn.machine.try_transition((S.IN_USE,), S.IDLE)  # a late store by somebody
    pool.put(conn)
    assert pool.removals() == {"bad_state": 1}
    check_removed(conn.conn)
    rested(pool)


def test_what_is_not_there_any_more_cannot_be_claimed(pool):
    conn = pool.get()
    pool.remove(conn)
    assert not conn.conn.claim("handoff")
    assert conn.conn.owned_by == ""
