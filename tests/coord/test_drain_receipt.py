"""The receipt of a shrink as a value."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from coordemu.coord.drain_receipt import OUTCOMES, DrainReceipt, NodeDrain

FIELDS: dict[str, Any] = {
    "outcome": "drained",
    "num_from": 13,
    "num_to": 1,
    "started_ns": 100,
    "ended_ns": 900,
    "waited_ns": 800,
    "last_reply_ns": 850,
    "pending": 5,
    "delivered": 3,
    "failed": 1,
    "lost": 1,
    "polls": 2,
    "wake_ups": 1,
    "connections_stopped": 24,
}


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_the_outcomes(outcome: str) -> None:
    assert DrainReceipt(**{**FIELDS, "outcome": outcome}).outcome == outcome


@pytest.mark.parametrize("outcome", ["", "Drained", "pending", "lost"])
def test_another_outcome_is_refused(outcome: str) -> None:
    with pytest.raises(ValueError, match="is none of drained, deadline, nothing-pending, superseded"):
        DrainReceipt(**{**FIELDS, "outcome": outcome})


def test_what_it_says_by_itself() -> None:
    receipt = DrainReceipt(**FIELDS)
    assert (receipt.io_runtime, dict(receipt.by_node)) == (0, {})
    assert NodeDrain() == NodeDrain(pending=0, delivered=0, failed=0, lost=0, connections_stopped=0)


def test_what_is_awaited_further_is_what_had_no_fate_yet() -> None:
    assert DrainReceipt(**FIELDS).still_in_flight == 0
    kept = {"outcome": "deadline", "delivered": 1, "failed": 0, "lost": 0}
    assert DrainReceipt(**{**FIELDS, **kept}).still_in_flight == 4


def test_it_is_plain_values_in_json() -> None:
    by_node = {"127.0.0.1:7001": NodeDrain(pending=5, delivered=3, failed=1, lost=1, connections_stopped=24)}
    written = json.loads(json.dumps(DrainReceipt(**FIELDS, by_node=by_node, io_runtime=2).to_json()))
    shares = {"pending": 5, "delivered": 3, "failed": 1, "lost": 1, "connections_stopped": 24}
    assert written == {**FIELDS, "io_runtime": 2, "by_node": {"127.0.0.1:7001": shares}}


def test_two_of_the_same_are_equal_and_none_can_be_changed() -> None:
    receipt: Any = DrainReceipt(**FIELDS)
    assert receipt == DrainReceipt(**FIELDS)
    with pytest.raises(FrozenInstanceError):
        receipt.lost = 0
