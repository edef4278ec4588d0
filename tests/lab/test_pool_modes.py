"""The tests of the pool's modes: what they are, and how they are scaled."""

from __future__ import annotations

import json
import math

import pytest

from coordemu.lab.pool_modes import MODES, POOL_TESTS, mode_tests


def test_every_test_of_every_mode_is_there() -> None:
    counts = {mode: len(mode_tests(mode)) for mode in MODES}
    assert counts == {"basic": 4, "advanced": 5, "detect": 4, "all": 13}
    assert [test.name for test in mode_tests("detect")] == ["detect.1", "detect.2", "detect.3", "detect.4"]


@pytest.mark.parametrize(
    ("name", "tasks", "operations", "pool_size", "timeout_ms"),
    [
        ("basic.1", 100, 5000, 5, 6000),
        ("basic.2", 250, 250, 5, 2000),
        ("basic.3", 100, 0, 8, 3000),
        ("basic.4", 300, 1000, 10, 5000),
        ("advanced.1", 200, 10, 2, 1000),
        ("advanced.2", 50, 100, 5, 2000),
        ("advanced.3", 100, 200, 2, 3000),
        ("advanced.4", 64, 100, 10, 5000),
        ("advanced.5", 200, 0, 100, 5000),
        ("detect.1", 100, 1, 5, 2000),
        ("detect.2", 50, 1, 8, 3000),
        ("detect.3", 20, 1, 5, 2000),
        ("detect.4", 100, 20, 3, 1000),
    ],
)
def test_the_parameters_are_the_programs(
    name: str, tasks: int, operations: int, pool_size: int, timeout_ms: int
) -> None:
    test = POOL_TESTS[name]
    assert (test.tasks, test.operations) == (tasks, operations)
    assert (test.pool.pool_size, test.pool.pool_timeout_ms) == (pool_size, timeout_ms)
    assert bool(test.duration_ms) == (operations == 0)


def test_the_options_that_force_redials_are_there() -> None:
    long = POOL_TESTS["advanced.3"].pool
    assert (long.max_idle_conns, long.max_active_conns) == (1, 5)
    assert POOL_TESTS["advanced.2"].pool.max_idle_conns == 1
    assert POOL_TESTS["basic.3"].pool.min_idle_conns == 2
    pipelines = POOL_TESTS["advanced.4"]
    assert (pipelines.pool.min_idle_conns, pipelines.pool.max_idle_conns) == (5, 5)
    assert pipelines.planned * pipelines.batch == 640_000


def test_the_scale_changes_the_tasks_and_the_limit_the_operations() -> None:
    basic = POOL_TESTS["basic.1"]
    assert basic.scaled(1) == basic
    assert (basic.scaled(0.5).tasks, basic.scaled(0.5).operations) == (50, 5000)
    assert (basic.scaled(2, 10_000).tasks, basic.scaled(2, 10_000).operations) == (200, 50)
    assert basic.scaled(0.001).tasks == 1
    assert POOL_TESTS["advanced.4"].scaled(1, 10).operations == 1  # each task has one, whatever the limit
    assert POOL_TESTS["detect.2"].scaled(1, 250).planned == 250
    assert POOL_TESTS["advanced.5"].scaled(0.2).subscribers == 2
    assert POOL_TESTS["basic.3"].scaled(1, 5).duration_ms == 5000


@pytest.mark.parametrize(("scale", "most"), [(0.0, 0), (-1.0, 0), (10.1, 0), (math.nan, 0), (1.0, -1)])
def test_a_scale_that_makes_no_sense_is_refused(scale: float, most: int) -> None:
    with pytest.raises(ValueError, match="scale"):
        POOL_TESTS["basic.1"].scaled(scale, most)


def test_an_unknown_mode_names_those_there_are() -> None:
    with pytest.raises(ValueError, match="basic, advanced, detect, all"):
        mode_tests("fast")


def test_a_test_is_plain_json() -> None:
    for test in mode_tests("all"):
        data = json.loads(json.dumps(test.to_json()))
        assert (data["mode"], data["pool"]["pool_size"]) == (test.mode, test.pool.pool_size)
