"""The small form of the backfill in many orders: conservation holds, and each fault of it is found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coordemu.explore.order import OrderPlan
from coordemu.explore.portfolio import PORTFOLIO
from coordemu.explore.replay import difference, replay
from coordemu.explore.schedule_file import ScheduleFile
from coordemu.explore.search import search_range
from coordemu.explore.shrink import shrink
from coordemu.lab.backfill_shop import (
    ACK_FIRST,
    BACKFILL_FAULTS,
    MARKER_LAST,
    OUTBOX_LATE,
    REMOVE_FIRST,
    UnknownBackfillFault,
)
from coordemu.lab.backfill_sim import BACKFILL, BackfillSubject, small_plan
from coordemu.lab.hub_plan import HubPlan, Span
from coordemu.lab.order_verdict import HEALTHY
from coordemu.lab.scenario import ScenarioError
from coordemu.lab.subjects import subject_from
from coordemu.runtime.base import NS_PER_MS
from coordemu.runtime.sim_schedule import ScheduleError

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


def test_a_failing_order_is_saved_replayed_and_shrunk(tmp_path: Path) -> None:
    subject = BackfillSubject.named("backfill", (ACK_FIRST,))
    found = search_range(subject, PORTFOLIO, 1, 5, 5, LENGTH, stop_at_first=True).found[0]
    ScheduleFile(subject.describe(), found.plan, found.verdict, found.failure, found.schedule).save(tmp_path / "found")
    file = ScheduleFile.load(tmp_path / "found")
    again = subject_from(file.subject)
    assert again == subject
    assert difference(file, replay(again, file)) == ""
    less = shrink(again, found.plan, found.schedule, found.failure, 12)
    assert less.failure.signature == found.failure.signature
    assert less.subject.describe()["plan"]["messages"] < 6
    smaller = ScheduleFile(less.subject.describe(), less.plan, found.verdict, less.failure, less.schedule)
    assert difference(smaller, replay(subject_from(smaller.subject), smaller)) == ""


def test_a_description_makes_the_same_subject_again() -> None:
    hub = HubPlan.parse("latency=20ms,jitter=1.5ms,fail=5%:500/503,slow=3x:2s@1s,outage=1s@5s/503")
    plan = replace(small_plan(), hub=hub, kills=(Span(NS_PER_MS, 3),), poison=0.1)
    subject = BackfillSubject(plan, deaths=1, forgets=False, chaos=(), faults=(REMOVE_FIRST,))
    assert subject_from(json.loads(json.dumps(subject.describe()))) == subject


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"plan": None}, "can't be made"),
        ({"plan": {"messages": 0}}, "messages 0 is not within"),
        ({"plan": {"hub": "fast"}}, "hub plan"),
        ({"plan": {"massages": 3}}, "massages"),
        ({"deaths": -1}, "deaths=-1"),
        ({"forgets": "no"}, "forgets='no'"),
        ({"faults": ["ack-last"]}, "no fault of the backfill is called 'ack-last'"),
    ],
)
def test_what_can_not_be_made_is_said_in_one_line(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ScheduleError, match=said) as caught:
        subject_from({**BackfillSubject().describe(), **change})
    assert "\n" not in str(caught.value)


def test_each_case_names_faults_that_are_shown_in_it() -> None:
    shown = {(fault, forgets) for fault, forgets, *_ in SHOWN}
    named = {(fault, case.forgets) for case in BACKFILL.scenarios.values() for fault in case.faults}
    assert named >= shown
    assert [BackfillSubject.named(name, ()).forgets for name in BACKFILL.scenarios] == [True, False]
    with pytest.raises(ScenarioError, match="did you mean 'backfill-remembering'"):
        BackfillSubject.named("backfill-remember", ())
