"""The pool alone as a subject: small cases are exhausted, and the historical faults are found where they can show."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from coordemu.coord.history import NO_WORKER_MARK, STATE_READ_OUTSIDE_LOCK
from coordemu.coord.thpool import Thpool
from coordemu.explore.order import OrderPlan, play
from coordemu.lab.scenario import ScenarioError
from coordemu.lab.subjects import subject_from
from coordemu.lab.thpool_subject import MODES, THPOOL_SCENARIOS, ThpoolScenario, ThpoolSubject, get_thpool_scenario

PLANS = [OrderPlan(strategy, seed, length=80) for seed in range(20) for strategy in ("pos", "pct2", "random")]


def verdicts(subject: ThpoolSubject) -> set[str]:
    return {play(subject, plan).verdict for plan in PLANS}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", THPOOL_SCENARIOS)
def test_as_upstream_is_today_every_case_is_healthy(name: str, mode: str) -> None:
    assert verdicts(ThpoolSubject(get_thpool_scenario(name), mode)) == {"healthy"}


@pytest.mark.parametrize(
    ("fault", "name"), [(STATE_READ_OUTSIDE_LOCK, "thpool-round-trip"), (NO_WORKER_MARK, "thpool-derive")]
)
def test_a_fault_of_the_past_is_found(fault: str, name: str) -> None:
    subject = ThpoolSubject(get_thpool_scenario(name), "async", (fault,))
    found = next(played for played in (play(subject, plan) for plan in PLANS) if played.failure)
    assert found.verdict == "deadlocked"
    assert found.failure is not None
    assert "workers: run again" in " ".join(found.failure.signature)
    assert fault in subject.name


def test_a_description_makes_the_same_again() -> None:
    subject = ThpoolSubject(get_thpool_scenario("thpool-shrink"), "by-number")
    again = subject_from(json.loads(json.dumps(subject.describe())))
    assert again.describe() == subject.describe()
    assert pickle.loads(pickle.dumps(subject)).describe() == subject.describe()
    assert play(again, PLANS[3]).schedule == play(subject, PLANS[3]).schedule


def test_smaller_ones_come_to_an_end() -> None:
    subject = ThpoolSubject(ThpoolScenario("big", "", "push", (8, 0, 4), 8))
    steps = 0
    while smaller := subject.smaller():
        subject = smaller[0] if steps == 0 else smaller[-1]
        assert isinstance(subject, ThpoolSubject)
        steps += 1
        assert steps < 20
    assert (subject.scenario.workers, subject.scenario.jobs) == ((1,), 1)


def test_a_job_that_is_lost_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    real: Any = Thpool.add_n_work
    monkeypatch.setattr(Thpool, "add_n_work", lambda pool, jobs: real(pool, jobs[1:]))
    played = play(ThpoolSubject(get_thpool_scenario("thpool-start")), OrderPlan())
    assert played.failure is not None
    assert played.failure.signature == ("broken", "each job once")
    assert played.failure.sentence == "done are [1], pushed were [0, 1]"


def test_a_task_that_raises_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Thpool, "wait", lambda pool: 1 // 0)
    played = play(ThpoolSubject(get_thpool_scenario("thpool-jobs")), OrderPlan())
    assert played.verdict == "broken"


@pytest.mark.parametrize(
    "fields", [{"program": "x"}, {"workers": ()}, {"workers": (0,)}, {"workers": (17,)}, {"jobs": 0}, {"jobs": 65}]
)
def test_what_makes_no_sense_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ScenarioError):
        ThpoolScenario(**fields)


def test_unknown_names_and_fields_are_refused() -> None:
    with pytest.raises(ScenarioError, match="did you mean 'thpool-jobs'"):
        get_thpool_scenario("thpool-job")
    with pytest.raises(ScenarioError, match="unknown fields"):
        ThpoolScenario.from_json({"colour": 1})
    with pytest.raises(ScenarioError, match="not a pool's scenario"):
        ThpoolScenario.from_json({"workers": 3})
    with pytest.raises(ValueError, match="reduce 'handoff' is none of sync, async, by-number"):
        ThpoolSubject(get_thpool_scenario("thpool-jobs"), "handoff")
