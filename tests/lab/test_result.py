"""Results: what they refuse, what they sum up, and that their JSON form loses nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordemu.coord.drain_receipt import DrainReceipt, NodeDrain
from coordemu.coord.resize_policy import POLICIES
from coordemu.lab.result import SCHEMA_VERSION, VERDICTS, ChainStep, PingSums, QuerySums, Result, TimelineRow
from coordemu.lab.scenario import SCENARIOS

text = st.text(max_size=20)
ms = st.floats(0, 1e7)
count = st.integers(0, 1000)


def receipt(outcome: str = "drained", waited_ns: int = 20_000_000) -> dict[str, Any]:
    by_node = {"127.0.0.1:7001": NodeDrain(33, 30, 2, 1, 12)}
    return DrainReceipt(outcome, 13, 1, 5, 25, waited_ns, 24, 33, 30, 2, 1, 3, 1, 12, by_node).to_json()


sums = st.builds(
    lambda replied, failed, lost, reasons, gap: QuerySums(
        replied + failed + lost, replied, failed, lost, reasons, 1.5, 2.5, 3.5, gap
    ),
    count,
    count,
    count,
    st.dictionaries(text, count, max_size=3),
    ms,
)
results = st.builds(
    Result,
    scenario=st.sampled_from(list(SCENARIOS.values())).map(lambda scenario: scenario.to_json()),
    policy=st.sampled_from(list(POLICIES.values())).map(lambda policy: policy.to_json()),
    runtime=st.sampled_from(["threads", "sim"]),
    seed=st.integers(),
    verdict=st.sampled_from(VERDICTS),
    why=text,
    as_expected=st.sampled_from([None, True, False]),
    workers=st.tuples(count, count),
    connections=st.tuples(count, count),
    config_set_ms=st.lists(st.none() | ms, max_size=3).map(tuple),
    config_set_error=text,
    queries=sums,
    ping=st.builds(PingSums, count, count, ms, ms),
    receipts=st.lists(st.just(receipt()), max_size=2).map(tuple),
    timeline=st.lists(st.builds(TimelineRow, st.none() | ms, text, text), max_size=3).map(tuple),
    chain=st.lists(st.builds(ChainStep, ms, text, text, text, text), max_size=3).map(tuple),
    wait_for=st.lists(st.fixed_dictionaries({"waiter": text, "since_ms": st.none() | ms}), max_size=2).map(tuple),
    cycle=text,
    stacks=st.dictionaries(text, st.lists(text, max_size=3), max_size=2),
    logs=st.lists(text, max_size=2).map(tuple),
    resources=st.just({"before": {"threads": 1}, "after": {"threads": 1}}),
    machine=st.just({"cpus": 2}),
)


@given(results)
def test_the_json_form_is_read_back(result: Result) -> None:
    again = Result.from_json(json.loads(json.dumps(result.to_json())))
    assert again == result
    assert again.to_json() == result.to_json()


@pytest.fixture
def result() -> Result:
    return Result(
        scenario={},
        policy={},
        runtime="threads",
        seed=1,
        verdict="healthy",
        why="",
        as_expected=None,
        workers=(12, 0),
        connections=(13, 1),
        config_set_ms=(0.5,),
        config_set_error="",
        queries=QuerySums(3, 2, 1),
        ping=PingSums(),
    )


def test_the_verdict_is_a_known_one(result: Result) -> None:
    with pytest.raises(ValueError, match="verdict 'fine' is none of healthy"):
        replace(result, verdict="fine")


@given(count, count, count, st.integers(-5, 5))
def test_the_sums_add_up_or_there_is_no_result(replied: int, failed: int, lost: int, off: int) -> None:
    def make() -> Result:
        queries = QuerySums(replied + failed + lost + off, replied, failed, lost)
        return Result({}, {}, "threads", 1, "healthy", "", None, (1, 0), (2, 1), (), "", queries, PingSums())

    if off:
        with pytest.raises(ValueError, match="the sums do not add up"):
            make()
    else:
        assert make().queries.sent == replied + failed + lost


def test_another_schema_is_refused(result: Result) -> None:
    data = {**result.to_json(), "schema_version": SCHEMA_VERSION + 1}
    with pytest.raises(ValueError, match=f"result of schema version {SCHEMA_VERSION + 1}, this program reads"):
        Result.from_json(data)
    del data["schema_version"]
    with pytest.raises(ValueError, match="result of schema version None"):
        Result.from_json(data)


def test_the_drain_in_one_word_is_the_worst(result: Result) -> None:
    assert result.drain_outcome == ""
    assert result.drain_ms is None
    outcomes = ["nothing-pending", "drained", "superseded", "deadline"]
    for upto, outcome in enumerate(outcomes, 1):
        several = replace(
            result, receipts=tuple(receipt(each, n * 1_000_000) for n, each in enumerate(outcomes[:upto]))
        )
        assert several.drain_outcome == outcome
        assert several.drain_ms == upto - 1
