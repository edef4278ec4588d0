"""The ledger of the backfill: every message has one place in the account, and a broken rule is named."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordemu.lab.backfill_ledger import BackfillLedger, content_of
from coordemu.lab.backfill_store import Outcome
from coordemu.runtime.threads import ThreadsRuntime

PLANNED = 5
NOTES = st.lists(
    st.tuples(st.sampled_from(("put", "taken", "let go", "lost", "row", "dead")), st.integers(0, PLANNED - 1)),
    max_size=30,
)


def play(notes: list[tuple[str, int]]) -> tuple[BackfillLedger, dict[int, Outcome]]:
    """A ledger with notes, and the outcomes of a store in which the first stands."""
    ledger = BackfillLedger(ThreadsRuntime(seed=1), PLANNED)
    outcomes: dict[int, Outcome] = {}
    for what, message in notes:
        if what == "put":
            ledger.put(message)
        elif what == "taken":
            ledger.taken(message, "w")
        elif what == "let go":
            ledger.let_go(message, "done")
        elif what == "lost":
            ledger.lost(message, f"lost {message}")
        elif what == "row":
            outcomes.setdefault(message, Outcome(2**62, content_of(message)))
        else:
            outcomes.setdefault(message, Outcome(1, b"", "poison"))
    return ledger, outcomes


@given(notes=NOTES, ended=st.booleans(), survives=st.booleans())
@settings(max_examples=200)
def test_every_message_has_exactly_one_place(notes: list[tuple[str, int]], ended: bool, survives: bool) -> None:
    ledger, outcomes = play(notes)
    account = ledger.settle(outcomes, survives, ended)
    dead = {message for message, outcome in outcomes.items() if outcome.reason}
    noted = {message for what, message in notes if what == "lost"}
    assert set(account.dead) == dead
    assert account.done == len(outcomes) - len(dead)
    unplaced = set(range(PLANNED)) - set(outcomes)
    assert set(account.lost) == (unplaced if ended else unplaced & noted)
    assert set(account.left) == (set() if ended else unplaced - noted)
    assert account.done + len(account.dead) + len(account.lost) + len(account.left) == account.planned == PLANNED
    assert account.false_alarms == len(noted & set(outcomes))
    assert account.conserved == (not (survives and account.lost))
    json.dumps(account.to_json())


def test_wrong_content_and_strangers_break_the_account(rt: ThreadsRuntime) -> None:
    ledger = BackfillLedger(rt, 2)
    ledger.taken(7, "w")
    account = ledger.settle({0: Outcome(1, b"x"), 9: Outcome(1, b"y")}, True, False)
    assert len(account.broken) == 2
    assert "message 0 was stored with the content b'x'" in account.broken[0]
    assert "2 messages that nobody planned: message 7 (taken by w), message 9 (stored)" in account.broken[1]


def test_what_is_lost_without_a_note_says_where_it_was_seen_last(rt: ThreadsRuntime) -> None:
    ledger = BackfillLedger(rt, 3)
    ledger.put(0)
    ledger.put(1)
    ledger.taken(1, "worker 4")
    account = ledger.settle({}, False, True)
    assert account.lost == {
        0: "unseen, and in no queue; last put",
        1: "unseen, and in no queue; last taken by worker 4",
        2: "unseen, and in no queue; last never put",
    }
    assert account.sentence() == "3 messages = 0 done + 0 dead-lettered + 3 lost"
    assert ledger.settle({}, True, True).broken == (
        "3 messages were lost: " + ", ".join(f"{message} ({why})" for message, why in account.lost.items()),
    )


def test_counts(rt: ThreadsRuntime) -> None:
    ledger = BackfillLedger(rt, 2)
    for _ in range(2):
        ledger.put(0)
        ledger.taken(0, "w")
        ledger.lost(0, "dropped")
    assert (ledger.put_so_far, ledger.deliveries, ledger.in_hand, ledger.noted_lost) == (1, 2, 2, 1)
    ledger.let_go(0, "gone")
    assert ledger.in_hand == 1
    assert ledger.is_lost(0)
    assert not ledger.is_lost(1)
    assert ledger.settle({}, False, False).again == 1


def test_bounds(rt: ThreadsRuntime) -> None:
    with pytest.raises(ValueError, match="0 messages"):
        BackfillLedger(rt, 0)
