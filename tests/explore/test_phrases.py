"""Steps written short: they come back as they were, repeated sequences are written once, nonsense is one line."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordemu.explore.phrases import fold, unfold
from coordemu.runtime.sim_schedule import ScheduleError

STEPS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["x", "acquire lock", "read cell", "1"])))


@given(STEPS, st.integers(1, 5))
@settings(max_examples=200, deadline=None)
def test_what_was_folded_unfolds(steps: list[tuple[str, str]], times: int) -> None:
    whole = steps * times
    phrases, segments = fold(whole)
    assert unfold(phrases, segments, len(whole)) == tuple(whole)


def test_a_sequence_that_comes_back_is_written_once() -> None:
    job = [("worker", "acquire queue"), ("worker", "read jobs"), ("worker", "release it all")]
    phrases, segments = fold([*job, ("main", "look"), *job, ("main", "look"), *job])
    assert phrases == {"1": ["acquire queue", "read jobs", "release it all"]}
    assert segments == [["worker", 1], ["main", "look"], ["worker", 1], ["main", "look"], ["worker", 1]]


def test_what_comes_once_stands_in_full() -> None:
    assert fold([("a", "x"), ("a", "y"), ("b", "x")]) == ({}, [["a", "x", "y"], ["b", "x"]])
    assert fold([]) == ({}, [])


def test_many_equal_steps_become_short() -> None:
    phrases, segments = fold([("main", "poll operator")] * 512)
    assert len(str(phrases)) + len(str(segments)) < 600


@pytest.mark.parametrize(
    ("phrases", "segments", "count", "words"),
    [
        ([], [], 0, "phrases"),
        ({"1": []}, [], 0, "phrases"),
        ({"1": [2]}, [], 0, "phrases"),
        ({}, {}, 0, "segments"),
        ({}, [], "0", "no number of steps"),
        ({}, [], True, "no number of steps"),
        ({}, [], -1, "no number of steps"),
        ({}, [["a"]], 1, "step 1 is"),
        ({}, [["a", "x"], 7], 2, "step 2 is 7"),
        ({}, [["a", "x", 1]], 2, "step 2, of 'a', is 1, which names nothing"),
        ({"True": ["x"]}, [["a", True]], 1, "step 1, of 'a', is True"),
        ({}, [["a", None]], 1, "step 1, of 'a', is None"),
        ({}, [["a", "x"]], 2, "step 2 of 2 is missing: is it truncated"),
        ({}, [["a", "x", "y"]], 1, "step 2 is one more than the 1"),
        ({"1": ["x"] * 1000}, [["a", *[1] * 1000]], 5, "step 6 is one more"),
    ],
)
def test_nonsense_is_named_by_its_step(phrases: object, segments: object, count: object, words: str) -> None:
    with pytest.raises(ScheduleError, match=words) as info:
        unfold(phrases, segments, count)
    assert "\n" not in str(info.value)
