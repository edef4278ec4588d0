"""The gate in front of the pool: what it admits, holds back and turns away, and in which order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordemu.coord.admission import AdmissionGate


@pytest.fixture
def gate() -> AdmissionGate[int]:
    return AdmissionGate()


def test_it_is_open_at_first(gate: AdmissionGate[int]) -> None:
    assert gate.mode == "open"
    assert gate.offer(1) == "admitted"
    assert gate.open() == []
    assert gate.statistics() == {"held": 0, "held_ever": 0, "rejected": 0}


def test_paused_it_holds_queries_in_the_order_of_their_arrival(gate: AdmissionGate[int]) -> None:
    gate.close("pause")
    assert [gate.offer(number) for number in (3, 1, 2)] == ["held"] * 3
    assert gate.statistics() == {"held": 3, "held_ever": 3, "rejected": 0}
    assert repr(gate) == "<AdmissionGate pause held=3>"
    assert gate.open() == [3, 1, 2]
    assert gate.offer(4) == "admitted"
    assert gate.statistics() == {"held": 0, "held_ever": 3, "rejected": 0}


def test_rejecting_it_keeps_nothing(gate: AdmissionGate[int]) -> None:
    gate.close("reject")
    assert [gate.offer(number) for number in (1, 2)] == ["rejected"] * 2
    assert gate.open() == []
    assert gate.statistics() == {"held": 0, "held_ever": 0, "rejected": 2}


def test_closings_do_not_add_up_and_what_is_held_stays_held(gate: AdmissionGate[int]) -> None:
    gate.close("pause")
    assert gate.offer(1) == "held"
    gate.close("reject")
    assert gate.offer(2) == "rejected"
    gate.close("pause")
    assert gate.offer(3) == "held"
    assert gate.open() == [1, 3]
    assert gate.mode == "open"
    assert gate.open() == []


@pytest.mark.parametrize("mode", ["open", "", "Pause", "closed"])
def test_it_is_closed_by_two_words_only(gate: AdmissionGate[int], mode: str) -> None:
    gate.close("pause")
    with pytest.raises(ValueError, match=f"not '{mode}'"):
        gate.close(mode)
    assert gate.mode == "pause"


@given(st.lists(st.sampled_from(["offer", "pause", "reject", "open"]), max_size=60))
def test_nothing_is_lost_doubled_or_reordered(steps: list[str]) -> None:
    gate: AdmissionGate[int] = AdmissionGate()
    went_in: list[int] = []
    held: list[int] = []
    turned_away = 0
    for number, step in enumerate(steps):
        if step == "offer":
            answer = gate.offer(number)
            assert answer == {"open": "admitted", "pause": "held", "reject": "rejected"}[gate.mode]
            if answer == "admitted":
                went_in.append(number)
            elif answer == "held":
                held.append(number)
            turned_away += answer == "rejected"
        elif step == "open":
            out = gate.open()
            assert out == held
            went_in += out
            held = []
        else:
            gate.close(step)
            assert gate.mode == step
        assert gate.statistics()["held"] == len(held)
        assert gate.statistics()["rejected"] == turned_away
    assert len(set(went_in)) == len(went_in)
