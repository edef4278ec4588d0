"""The table of a connection's moves, enforced: by example, and against a model with drawn moves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordemu.pool.conn_state_machine import ConnStateMachine
from coordemu.pool.pool_conn_state import (
    MOVES,
    USABLE,
    IllegalMove,
    InvalidStateTransition,
    PoolConnState,
    check_moves,
)
from coordemu.runtime.sim import SimRuntime

S = PoolConnState
LEGAL = [(source, to) for source in S for to in S if to in MOVES[source]]
ILLEGAL = [(source, to) for source in S for to in S if to not in MOVES[source]]


def machine_in(state: PoolConnState) -> ConnStateMachine:
    machine = ConnStateMachine(SimRuntime(), "conn")
    for step in {
        S.CREATED: [],
        S.INITIALIZING: [S.INITIALIZING],
        S.IDLE: [S.INITIALIZING, S.IDLE],
        S.IN_USE: [S.INITIALIZING, S.IN_USE],
        S.UNUSABLE: [S.UNUSABLE],
        S.CLOSED: [S.CLOSED],
    }[state]:
        machine.try_transition((machine.state,), step)
    assert machine.state is state
    return machine


def test_a_new_machine_is_created() -> None:
    assert machine_in(S.CREATED).state is S.CREATED


def test_the_six_states_have_upstreams_names() -> None:
    assert [state.value for state in S] == ["CREATED", "INITIALIZING", "IDLE", "IN_USE", "UNUSABLE", "CLOSED"]


@pytest.mark.parametrize(("source", "to"), LEGAL)
def test_a_legal_move_is_made(source: PoolConnState, to: PoolConnState) -> None:
    machine = machine_in(source)
    assert machine.try_transition((source,), to) is source
    assert machine.state is to


@pytest.mark.parametrize(("source", "to"), ILLEGAL)
def test_an_illegal_move_raises_and_changes_nothing(source: PoolConnState, to: PoolConnState) -> None:
    machine = machine_in(source)
    for attempt in (
        lambda: machine.try_transition((source,), to),
        lambda: machine.move(source, to),
        lambda: machine.wait_and_transition((source,), to),
    ):
        with pytest.raises(IllegalMove, match=f"conn: {source.value} -> {to.value} is no move") as caught:
            attempt()
        assert (caught.value.source, caught.value.target) == (source, to)
    assert machine.state is source


def test_closed_is_absorbing() -> None:
    assert MOVES[S.CLOSED] == frozenset()
    machine = machine_in(S.CLOSED)
    assert not machine.close()
    assert not machine.acquire()
    assert not machine.release()
    assert not machine.return_from_work()
    assert machine.state is S.CLOSED


def test_every_state_but_closed_can_be_closed() -> None:
    for state in set(S) - {S.CLOSED}:
        assert machine_in(state).close()


def test_several_sources_and_an_error_that_names_them_all() -> None:
    machine = machine_in(S.IDLE)
    assert machine.try_transition((S.CREATED, S.IDLE, S.UNUSABLE), S.INITIALIZING) is S.IDLE
    text = "conn: CREATED or IDLE -> UNUSABLE was asked for, but it is INITIALIZING"
    with pytest.raises(InvalidStateTransition, match=text) as caught:
        machine.try_transition((S.CREATED, S.IDLE), S.UNUSABLE)
    assert caught.value.found is S.INITIALIZING
    assert machine.state is S.INITIALIZING


def test_one_illegal_source_spoils_the_call_even_if_another_fits() -> None:
    machine = machine_in(S.IDLE)
    with pytest.raises(IllegalMove):
        machine.try_transition((S.IDLE, S.CLOSED), S.IN_USE)
    assert machine.state is S.IDLE


def test_a_move_from_nowhere_is_refused() -> None:
    with pytest.raises(ValueError, match="from nowhere"):
        check_moves("conn", (), S.IDLE)


def test_used_and_unusable_as_upstream_derives_them() -> None:
    machine = machine_in(S.IDLE)
    assert machine.acquire()
    assert machine.state is S.IN_USE
    machine.try_transition((S.IN_USE,), S.UNUSABLE)
    assert machine.state not in USABLE
    assert machine.return_from_work()
    assert machine.state in USABLE


@given(st.lists(st.tuples(st.sampled_from(S), st.sampled_from(S)), max_size=30))
def test_drawn_moves_against_a_model(moves: list[tuple[PoolConnState, PoolConnState]]) -> None:
    machine = ConnStateMachine(SimRuntime(), "conn")
    model = S.CREATED
    for source, to in moves:
        try:
            moved = machine.move(source, to)
        except IllegalMove:
            assert to not in MOVES[source]
            moved = False
        else:
            assert to in MOVES[source]
            assert moved == (source is model)
        model = to if moved else model
        assert machine.state is model
