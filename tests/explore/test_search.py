"""Ranges of orders: found, counted, put together, stopped."""

from __future__ import annotations

import json

import pytest

from coordemu.explore.order import Failure, OrderPlan, play
from coordemu.explore.portfolio import PORTFOLIO, plan_of
from coordemu.explore.program import ProgramSubject
from coordemu.explore.search import KEPT, Found, SearchResult, length_of, merge, search_range
from coordemu.runtime.sim_schedule import Replay, Schedule


def opposite(rt):
    """Two tasks take two locks in opposite orders, and one may fail over what it reads."""
    a, b, cell = rt.lock("A"), rt.lock("B"), rt.cell(0, "cell")

    def take(first, second):
        with first, second:
            cell.value += 1

    def read():
        assert (cell.value, cell.value) != (1, 2), "in between"

    tasks = [rt.spawn(take, a, b, name="one"), rt.spawn(take, b, a, name="two"), rt.spawn(read, name="reader")]
    for task in tasks:
        task.join()


SUBJECT = ProgramSubject(opposite, "opposite")


def test_both_failures_are_found_and_the_first_of_each_is_kept():
    result = search_range(SUBJECT, PORTFOLIO, 1, 0, 200, 30)
    assert result.orders == 200 == sum(result.verdicts.values())
    assert set(result.verdicts) == {"failed", "passed"}
    assert {found.failure.kind for found in result.found} == {"deadlocked", "error"}
    assert [found.number for found in result.found] == sorted(found.number for found in result.found)
    for found in result.found:
        assert found.plan == plan_of(PORTFOLIO, 1, found.number, 30)
        before = search_range(SUBJECT, PORTFOLIO, 1, 0, found.number, 30)
        assert found.failure.signature not in {each.failure.signature for each in before.found}
        again = play(SUBJECT, found.plan, Replay(found.schedule))
        assert again.failure == found.failure


def test_any_division_of_a_range_has_the_same_result():
    whole = search_range(SUBJECT, PORTFOLIO, 5, 0, 90, 30)
    parts = [search_range(SUBJECT, PORTFOLIO, 5, first, 18, 30) for first in range(0, 90, 18)]
    assert merge(parts) == whole
    assert merge(parts[::-1]) == whole
    assert merge([merge(parts[3:]), merge([parts[2], merge(parts[:2])])]) == whole
    assert merge([]) == SearchResult()
    assert merge([whole, SearchResult()]) == whole


def found(number, *signature):
    return Found(number, OrderPlan(), "failed", Failure("x", signature, "x"), Schedule("s", "idle", ()))


def result(*each):
    return SearchResult(len(each), 0, {"failed": len(each)}, each)


def test_what_is_kept_is_bounded_and_still_the_same_however_divided():
    parts = [result(*(found(number + 100 * part, f"kind {(number + part) % 70}") for number in range(64)))
             for part in range(3)]  # fmt: skip
    merged = merge(parts)
    assert len(merged.found) == KEPT
    assert merged.found == merge([parts[2], merge([parts[1], parts[0]])]).found
    numbers = [each.number for each in merged.found]
    assert numbers == sorted(numbers)
    assert len({each.failure.signature for each in merged.found}) == KEPT
    assert merge([result(found(9, "a")), result(found(2, "a"))]).found == (found(2, "a"),)


def test_a_result_goes_through_json():
    result = search_range(SUBJECT, PORTFOLIO, 1, 0, 60, 30)
    assert result.found
    assert SearchResult.from_json(json.loads(json.dumps(result.to_json()))) == result


def test_a_search_can_be_watched_and_stopped():
    seen = []
    result = search_range(SUBJECT, PORTFOLIO, 1, 10, 500, 30, on_order=seen.append, stop=lambda: len(seen) == 7)
    assert result.orders == 7 == len(seen)
    assert [played.plan for played in seen] == [plan_of(PORTFOLIO, 1, number, 30) for number in range(10, 17)]
    first = search_range(SUBJECT, PORTFOLIO, 1, 0, 500, 30, stop_at_first=True)
    assert len(first.found) == 1
    assert first.found[0].number == first.orders - 1


@pytest.mark.parametrize("strategy", ["dfs", "dpor"])
def test_a_systematic_search_begins_at_the_beginning(strategy):
    result = search_range(SUBJECT, strategy, 1, 0, 300, 30)
    assert result.orders <= 300
    assert {found.failure.kind for found in result.found} >= {"deadlocked"}
    with pytest.raises(ValueError, match="cannot begin at 10"):
        search_range(SUBJECT, strategy, 1, 10, 300, 30)


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="no strategy is called 'bst'"):
        search_range(SUBJECT, "bst", 1, 0, 1, 30)
    for first, count, length in ((-1, 1, 1), (0, -1, 1), (0, 1, 0)):
        with pytest.raises(ValueError, match="orders from"):
            search_range(SUBJECT, PORTFOLIO, 1, first, count, length)


def test_the_length_is_that_of_the_plain_order():
    assert length_of(SUBJECT) == play(SUBJECT, plan_of(PORTFOLIO, 0, 0, 1000)).steps
    assert length_of(ProgramSubject(lambda rt: None)) == 1


def spin(rt, ends):
    """One waits by reading again and again; the other writes, or not."""
    cell = rt.cell(0, "cell")

    def wait():
        while not cell.value:
            pass

    waiter = rt.spawn(wait, name="waiter")
    if ends:
        cell.value = 1
    waiter.join()


@pytest.mark.parametrize("strategy", ["run-on", "pct1", "pct3", "pct9", "pos", "random"])
def test_a_spinning_task_starves_nobody_for_ever(strategy):
    result = search_range(ProgramSubject(lambda rt: spin(rt, True)), strategy, 1, 0, 12, 10)
    assert result.verdicts == {"passed": 12}


def test_a_livelock_is_believed_after_a_fair_tail():
    result = search_range(ProgramSubject(lambda rt: spin(rt, False)), "pct3", 1, 0, 1, 10)
    assert [found.failure.kind for found in result.found] == ["livelock"]
    assert result.steps == 100_000
