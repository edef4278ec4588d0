"""What is printed of the pool's tests, and of one that runs."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from coordemu.lab.pool_detector import Detected
from coordemu.lab.pool_metrics import PoolMetrics, Reason
from coordemu.lab.pool_modes import POOL_TESTS
from coordemu.lab.pool_result import PoolTestResult
from coordemu.lab.pool_run import PoolLook
from coordemu.lab.pool_verdict import GOOD, WARNING, PoolVerdict
from coordemu.pool.pool_errors import Occupancy
from coordemu.pool.pool_snapshot import PoolSnapshot
from coordemu.pool.pooled_conn import ConnSnapshot
from coordemu.report.pool_progress import PoolProgress
from coordemu.report.pool_report import (
    live_lines,
    live_table,
    print_pool_summary,
    print_pool_test,
    progress_line,
    states_of,
    to_json,
)
from coordemu.runtime.base import NS_PER_MS, NS_PER_S

COUNTS = dict.fromkeys(
    ("hits", "misses", "timeouts", "total", "idle", "stale", "unusable", "most_open", "longest_line"), 0
) | {"wait_count": 4, "wait_ns": 10 * NS_PER_MS, "hits": 321}
METRICS = PoolMetrics(
    planned=100, begun=100, successful=90, failed=10, timeouts=3, pool_timeouts=7, elapsed_ns=2 * NS_PER_S,
    average_ns=4 * NS_PER_MS, histogram=(45, 20, 15, 9, 1),
    reasons=(Reason("PoolTimeout", 7, "no turn\nwithin [2000] ms"), Reason("ConnFailed (timeout)", 3, "silent")),
)  # fmt: skip
RESULT = PoolTestResult(
    replace(POOL_TESTS["basic.2"], operations=40), METRICS, Detected(slow=2, pool_exhaustion=7),
    PoolVerdict(WARNING, ("90.0% succeed, under 95%",)), {"127.0.0.1:7000": COUNTS},
    {"127.0.0.1:7000": {"evicted": 5}}, {"maps": 1, "moved": 2}, {"published": 9}, ("a note",),
)  # fmt: skip


def conn(number: int, state: str) -> ConnSnapshot:
    return ConnSnapshot(number, state, "in a caller's hand", "", "", True, 0, 0)


SNAPSHOT = PoolSnapshot(
    "pool", "open", Occupancy(5, 2, 1, 1, 1, 33), 3, 34, 4, 1, 0,
    (conn(1, "IN_USE"), conn(2, "IN_USE"), conn(3, "IDLE"), conn(4, "UNUSABLE")),
)  # fmt: skip
LOOK = PoolLook(POOL_TESTS["basic.1"], 1, 4, 250, 500_000, 3 * NS_PER_S // 2, lambda: {"127.0.0.1:7000": SNAPSHOT})


def test_a_test_has_all_its_blocks(printed: Callable[..., str]) -> None:
    text = printed(print_pool_test, RESULT)
    for part in (
        "basic.2: High Concurrency Stress",
        "250 tasks x 40 operations (described: 250 x 250 operations), pool size 5 per node, pool timeout 2 s",
        "throughput 50 operations/s",
        "total operations: 100",
        "successful:       90 (90.0%)",
        "failed:           10 (10.0%)",
        "timeouts:         3 (3.0%)",
        "pool timeouts:    7 (7.0%)",
        "average latency:  4.00 ms",
        "failed: 7 x PoolTimeout: no turn within [2000] ms",
        "127.0.0.1:7000",
        "321",
        "5 evicted",
        "published: 9",
        "client: 2 moved",
        "note: a note",
        "detector: 2 slow operations (over 100 ms)",
        "verdict: warning: 90.0% succeed, under 95%",
    ):
        assert part in text, part
    bars = [line.count("#") for line in text.splitlines() if "ms " in line and "%" in line and "<" in line]
    assert bars == [40, 18, 14, 8]
    assert all(len(line) <= 132 for line in text.splitlines() if "|" in line)


def test_a_test_in_which_nothing_ran_prints_no_nan(printed: Callable[..., str]) -> None:
    text = printed(print_pool_test, PoolTestResult(POOL_TESTS["basic.3"], PoolMetrics(), Detected(), PoolVerdict(GOOD)))
    assert "nan" not in text.lower()
    assert "successful:       0 (-)" in text
    assert "No issues detected" in text


def test_a_fault_of_ours_is_said(printed: Callable[..., str]) -> None:
    broken = replace(RESULT, metrics=replace(METRICS, begun=101), crashes=("KeyError",))
    text = printed(print_pool_test, broken)
    assert "without an outcome: 1" in text
    assert "a task ended by KeyError" in text


@pytest.mark.parametrize(("complete", "words"), [(True, "All tests completed"), (False, "Not all tests were run")])
def test_the_summary_has_a_row_per_test(printed: Callable[..., str], complete: bool, words: str) -> None:
    good = replace(RESULT, test=POOL_TESTS["detect.1"], verdict=PoolVerdict(GOOD))
    text = printed(print_pool_summary, [RESULT, good], complete)
    assert f"{words}: 1 good, 1 warning; at worst warning" in text
    assert "detect.1" in text
    assert "…" not in text


def test_the_json_is_json() -> None:
    data: dict[str, Any] = json.loads(json.dumps(to_json([RESULT], {"shards": "embedded:3"}, {"cpus": 2})))
    (result,) = data["results"]
    assert data["verdict"] == "warning"
    assert result["metrics"]["histogram"] == {"<1ms": 45, "<5ms": 20, "<10ms": 15, "<50ms": 9, ">=50ms": 1}
    assert result["described"] == {"tasks": 250, "operations": 250}
    assert result["detector"]["pool_exhaustion"] == 7
    assert result["nodes"]["127.0.0.1:7000"]["hits"] == 321


# ---- while it runs


def test_the_live_table_counts_connections_by_state(printed: Callable[..., str]) -> None:
    assert states_of(SNAPSHOT) == {
        "CREATED": 0, "INITIALIZING": 0, "IDLE": 1, "IN_USE": 2, "UNUSABLE": 1, "CLOSED": 0,
    }  # fmt: skip
    text = printed(lambda console: console.print(live_table(LOOK)))
    assert "3/5" in text
    assert "33" in text
    assert live_lines(LOOK) == ["basic.1 127.0.0.1:7000: 2 of 5 in use, 1 idle, 1 dialing, 1 unusable, 33 waiting"]


def test_the_progress_line_has_the_plan_where_there_is_one() -> None:
    assert progress_line(LOOK) == "basic.1 Basic Concurrent Operations (1 of 4): 250/500000 operations, 1.5 s"
    assert "250 operations" in progress_line(replace(LOOK, planned=0))


def shown(terminal: bool, live: bool, looks: list[PoolLook]) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=132, color_system=None)
    with PoolProgress(live, console) as progress:
        for look in looks:
            progress.watch(look)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_terminal_sees_progress_or_the_table() -> None:
    assert "250/500000" in shown(True, False, [LOOK])
    assert "IN_USE" in shown(True, True, [LOOK])


def test_without_a_terminal_only_the_live_table_is_said_once_a_second() -> None:
    later = [replace(LOOK, elapsed_ns=LOOK.elapsed_ns + step * NS_PER_S // 2) for step in range(4)]
    assert shown(False, False, later) == ""
    assert shown(False, True, later).count("33 waiting") == 2
    assert shown(False, True, [LOOK, replace(LOOK, number=2)]).count("33 waiting") == 2
