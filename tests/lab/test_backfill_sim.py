"""The small form of the backfill in many orders: conservation holds, and each fault of it is found."""

from __future__ import annotations

import json

import pytest

from coordemu.explore.order import OrderPlan
from coordemu.explore.portfolio import PORTFOLIO
from coordemu.explore.search import search_range
from coordemu.lab.backfill_shop import (
    ACK_FIRST,
    BACKFILL_FAULTS,
    MARKER_LAST,
    OUTBOX_LATE,
    REMOVE_FIRST,
    UnknownBackfillFault,
)
from coordemu.lab.backfill_sim import BackfillSubject
from coordemu.lab.order_verdict import HEALTHY

LENGTH = 3_500
# A fault, whether the server forgets, and orders of the portfolio in which the search below finds it.
SHOWN = (
    (ACK_FIRST, True, 5, 10),
    (MARKER_LAST, True, 5, 10),
    (REMOVE_FIRST, False, 30, 40),
    (OUTBOX_LATE, True, 290, 300),
)


@pytest.mark.parametrize("forgets", [True, False])
def test_the_mended_form_survives(forgets: bool) -> None:
    result = search_range(BackfillSubject(forgets=forgets), PORTFOLIO, 7, 0, 25, LENGTH)
    assert result.verdicts == {HEALTHY: 25}


@pytest.mark.parametrize(("fault", "forgets", "first", "last"), SHOWN)
def test_a_fault_loses_messages_in_some_order(fault: str, forgets: bool, first: int, last: int) -> None:
    subject = BackfillSubject(faults=(fault,), forgets=forgets)
    result = search_range(subject, PORTFOLIO, 1, first, last - first, LENGTH, stop_at_first=True)
    assert result.found
    failure = result.found[0].failure
    assert failure.kind == "broken"
    assert "left" in failure.sentence
    # The same order, without the fault.
    assert BackfillSubject(forgets=forgets).play(result.found[0].plan.runtime()).failure is None


def test_all_faults_are_shown() -> None:
    assert {fault for fault, *_ in SHOWN} == set(BACKFILL_FAULTS)
    with pytest.raises(UnknownBackfillFault, match="did you mean"):
        BackfillSubject(faults=("ack-last",))


def test_the_same_order_twice_is_the_same() -> None:
    plan = OrderPlan("random", 5, "explored", 3)
    first, second = (BackfillSubject().play(plan.runtime()) for _ in range(2))
    assert first.outcome.schedule.steps == second.outcome.schedule.steps


def test_smaller_and_description() -> None:
    subject = BackfillSubject()
    smaller = [each.describe()["plan"] for each in subject.smaller()]
    assert [(plan["messages"], plan["concurrency"]) for plan in smaller] == [(5, 3), (6, 2)]
    assert json.loads(json.dumps(subject.describe()))["kind"] == "backfill"
    assert "mended" in subject.name
