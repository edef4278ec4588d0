"""The connection's table: what it allows leads where upstream says, all else raises and changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordemu.coord.conn_state import (
    TRANSITIONS,
    ConnAction,
    ConnEvent,
    ConnState,
    IllegalTransition,
    next_state,
)

ANY_STATE = st.sampled_from(ConnState)
ANY_EVENT = st.sampled_from(ConnEvent)


def test_the_names_are_upstreams() -> None:
    assert [state.value for state in ConnState] == [
        "Connecting", "Reconnecting", "Authenticating", "ReAuth", "Connected", "Freeing",
    ]  # fmt: skip


@given(ANY_STATE, ANY_EVENT)
def test_every_pair_has_an_answer_or_is_illegal(state: ConnState, event: ConnEvent) -> None:
    before = dict(TRANSITIONS)
    if (state, event) in TRANSITIONS:
        after, action = next_state(state, event)
        assert isinstance(after, ConnState)
        assert isinstance(action, ConnAction)
    else:
        with pytest.raises(IllegalTransition, match=state.value):
            next_state(state, event)
    assert dict(TRANSITIONS) == before


def test_the_table_can_not_be_changed() -> None:
    table: Any = TRANSITIONS
    with pytest.raises(TypeError):
        table[ConnState.FREEING, ConnEvent.RETRY] = (ConnState.CONNECTED, ConnAction.CONNECT)


@given(ANY_EVENT)
def test_freeing_is_terminal(event: ConnEvent) -> None:
    with pytest.raises(IllegalTransition):
        next_state(ConnState.FREEING, event)


@given(st.lists(ANY_EVENT, max_size=30))
def test_any_walk_ends_in_freeing_by_a_stop_and_only_by_it(events: list[ConnEvent]) -> None:
    state = ConnState.CONNECTING
    for event in events:
        if state is ConnState.FREEING:
            break
        try:
            state, _ = next_state(state, event)
        except IllegalTransition:
            continue
        assert (state is ConnState.FREEING) == (event is ConnEvent.STOP)
    if state is not ConnState.FREEING:
        assert next_state(state, ConnEvent.STOP) == (ConnState.FREEING, ConnAction.DISCONNECT)


def test_every_state_can_be_reached() -> None:
    reached = {ConnState.CONNECTING}
    for _ in ConnState:
        reached |= {after for (state, _), (after, _) in TRANSITIONS.items() if state in reached}
    assert reached == set(ConnState)


@pytest.mark.parametrize(
    ("events", "states"),
    [
        (["OPENED", "LOST", "RETRY", "OPENED"], ["CONNECTED", "RECONNECTING", "CONNECTING", "CONNECTED"]),
        (["OPENED_FOR_HANDSHAKE", "ACCEPTED"], ["AUTHENTICATING", "CONNECTED"]),
        (
            ["OPENED_FOR_HANDSHAKE", "REFUSED", "RETRY", "REFUSED", "LOST"],
            ["AUTHENTICATING", "REAUTH", "AUTHENTICATING", "REAUTH", "RECONNECTING"],
        ),
        (["LOST", "STOP"], ["RECONNECTING", "FREEING"]),
    ],
)
def test_upstreams_walks(events: list[str], states: list[str]) -> None:
    state = ConnState.CONNECTING
    for event, expected in zip(events, states, strict=True):
        state, _ = next_state(state, ConnEvent[event])
        assert state is ConnState[expected]
