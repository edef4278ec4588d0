"""Relaxed time limits: nested, never negative, over by themselves, and gone once a connection has moved."""

from __future__ import annotations

import pytest

from coordemu.pool.handoff import HandoffHook, HandoffOptions
from coordemu.pool.relaxed_timeout import RelaxedTimeout
from coordemu.runtime.base import NS_PER_MS, NS_PER_S


def test_the_longer_limit_counts_while_it_is_relaxed(rt):
    relaxed = RelaxedTimeout(rt, "conn")
    assert relaxed.of(5) == 5
    relaxed.relax(20, NS_PER_S * 100)
    assert (relaxed.of(5), relaxed.of(50), relaxed.of(None)) == (20, 50, None)
    relaxed.relax(10, NS_PER_S * 100)
    assert relaxed.of(5) == 20
    assert relaxed.restore()
    assert relaxed.of(5) == 20
    assert relaxed.restore()
    assert relaxed.of(5) == 5
    assert not relaxed.restore()


def test_three_reasons_and_ten_who_restore_at_once(rt, start):
    relaxed = RelaxedTimeout(rt, "conn")
    for _ in range(3):
        relaxed.relax(20, NS_PER_S * 100)
    calls = [start(relaxed.restore) for _ in range(10)]
    assert sum(call.join() for call in calls) == 3
    assert (relaxed.count, relaxed.timeout_ns, relaxed.of(5)) == (0, 0, 5)


def test_it_ends_by_itself(rt):
    relaxed = RelaxedTimeout(rt, "conn")
    relaxed.relax(20, 2 * NS_PER_MS)
    rt.sleep_ns(5 * NS_PER_MS)
    assert relaxed.of(5) == 5
    assert (relaxed.count, relaxed.restore()) == (0, False)
    assert "0 reasons" in repr(relaxed)


def test_bounds(rt):
    for bad in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="relaxed to"):
            RelaxedTimeout(rt, "conn").relax(*bad)


def test_a_marked_connection_is_relaxed_until_it_has_moved(rt, make_pool, dialer, start, until, rested):
    pool = make_pool(pool_size=1)
    go = rt.event("go")

    def dial_to(endpoint, timeout_ns):
        go.wait()
        return dialer(timeout_ns)

    hook = HandoffHook(rt, pool, dial_to, HandoffOptions(relaxed_timeout_ms=700))
    pool.add_hook(hook)
    loan = pool.get()
    hook.announce("b:1", 1)
    hook.announce("b:1", 2)
    assert loan.conn.relaxed.of(NS_PER_MS) == 700 * NS_PER_MS
    pool.put(loan)
    go.set()
    until(lambda: not hook.workers.busy)
    assert loan.conn.relaxed.of(NS_PER_MS) == NS_PER_MS
    assert loan.conn.relaxed.count == 0
    rested(pool)


def test_or_not_at_all(make_pool, dialer, rt):
    pool = make_pool(pool_size=1)
    hook = HandoffHook(rt, pool, lambda endpoint, timeout_ns: dialer(timeout_ns), HandoffOptions(relaxed_timeout_ms=0))
    loan = pool.get()
    hook.announce("b:1", 1)
    assert loan.conn.relaxed.count == 0
    pool.put(loan)
