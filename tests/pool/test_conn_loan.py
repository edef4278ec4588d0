"""A loan is the ticket of one hand-out: whoever gives it back twice is refused, whoever has the connection by then."""

from __future__ import annotations

import pytest

from coordemu.pool.conn_pool import ConnPool
from coordemu.pool.pool_conn_state import PoolConnState
from coordemu.pool.pool_errors import NotInHand
from coordemu.pool.recipe_base import quick_dial, recipe_options

S = PoolConnState


def test_a_loan_shows_its_connection_and_whether_it_has_ended(make_pool):
    pool = make_pool(pool_size=1)
    loan = pool.get()
    conn = loan.conn
    assert (loan.conn_id, loan.name, loan.resource, loan.state) == (conn.conn_id, conn.name, conn.resource, S.IN_USE)
    assert loan.current
    assert "ended" not in repr(loan)
    pool.put(loan)
    assert not loan.current
    assert repr(loan).endswith(", ended>")


@pytest.mark.parametrize("give", ["put", "remove"])
def test_a_second_put_of_what_another_has_is_refused_and_changes_nothing(make_pool, rested, give):
    pool = make_pool(pool_size=2)
    first = pool.get()
    pool.put(first)
    second = pool.get()
    assert second.conn is first.conn
    before = pool.snapshot()
    with pytest.raises(NotInHand, match="for a second time; it is in a caller's hand by now"):
        getattr(pool, give)(first)
    after = pool.snapshot()
    assert (
        (after.turns_held, after.total, after.listed) == (before.turns_held, before.total, before.listed) == (1, 1, 0)
    )
    assert second.current
    assert second.state is S.IN_USE
    assert second.resource.closes == 0
    pool.put(second)
    rested(pool)


def test_a_loan_of_a_removed_connection_is_ended_too(make_pool, rested):
    pool = make_pool(pool_size=1)
    loan = pool.get()
    pool.remove(loan)
    fresh = pool.get()
    for give in (pool.put, pool.remove):
        with pytest.raises(NotInHand, match="gone"):
            give(loan)
    assert fresh.current
    pool.put(fresh)
    rested(pool)


def test_a_loan_may_be_given_back_by_another_task(make_pool, start, rested):
    pool = make_pool(pool_size=1)
    loan = start(pool.get).join()
    start(lambda: pool.put(loan)).join()
    assert pool.turns.held == 0
    rested(pool)


def test_during_the_handshake_of_the_next_caller_an_old_loan_is_refused_too(make_pool, start, until, rt, rested):
    go, refused = rt.event("go"), []

    def accept(conn, is_new):
        if stale:
            go.wait()
        return True

    stale = []
    pool = make_pool(pool_size=2)
    loan = pool.get()
    pool.put(loan)
    stale.append(loan)
    hook = type("Hook", (), {"on_get": staticmethod(accept)})()
    hook.on_remove = lambda conn, reason: None
    pool.add_hook(hook)
    call = start(pool.get)
    until(lambda: loan.conn.place.value == "in a caller's hand")
    # The other has it, and its get has not returned: there is no loan at all that could end.
    try:
        pool.put(loan)
    except NotInHand as error:
        refused.append(error)
    go.set()
    taken = call.join()
    assert refused
    assert taken.current
    pool.remove_hook(hook)
    pool.put(taken)
    rested(pool)


def test_of_many_who_give_the_same_loan_back_one_does(make_pool, start, rested):
    pool = make_pool(pool_size=2)
    loan = pool.get()
    calls = [start(lambda: pool.put(loan)) for _ in range(8)]
    outcomes = []
    for call in calls:
        try:
            outcomes.append(call.join())
        except NotInHand:
            outcomes.append("refused")
    assert sorted(map(str, outcomes)) == ["None"] + ["refused"] * 7
    rested(pool)


def test_forgetful_callers_hinder_nobody(rt, make_pool, start, rested):
    """Each gives back twice; whatever happens in between, nobody loses a connection that it has."""
    pool = make_pool(pool_size=2)

    def caller():
        refused = 0
        for _ in range(20):
            loan = pool.get()
            assert loan.state is S.IN_USE
            rt.sleep_ns(0)
            assert loan.current
            assert loan.state is S.IN_USE
            pool.put(loan)
            rt.sleep_ns(0)
            for give in (pool.put, pool.remove):
                try:
                    give(loan)
                except NotInHand:
                    refused += 1
        return refused

    calls = [start(caller) for _ in range(5)]
    assert [call.join() for call in calls] == [40] * 5
    assert pool.statistics()["total"] <= 2
    rested(pool)


def test_the_old_form_takes_it_from_whoever_has_it(rt):
    pool = ConnPool(rt, quick_dial, recipe_options(), faults=("stale-put",))
    first = pool.get()
    pool.put(first)
    second = pool.get()
    pool.put(first)
    assert not second.current
    assert second.state is S.IDLE
    with pytest.raises(NotInHand):
        pool.put(second)
