"""The pairs of bench/pool_pairs.py in their short form: nothing is wrong, and faults that are switched on are seen."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench.pool_pairs import Pairs  # noqa: E402
from coordemu.runtime.threads import ThreadsRuntime  # noqa: E402


def test_everything_goes_wrong_now_and_then_and_every_rule_holds(rt_threads: ThreadsRuntime) -> None:
    result = Pairs(rt_threads, 6_000, callers=8, pool_size=4).carry_out()
    assert result.wrong == []
    assert result.pairs >= 6_000
    assert result.refused > 0
    assert {"broken", "init_error", "stale"} <= set(result.removals)
    assert set(result.outcomes) >= {"Cancelled", "ConnectionError"}
    assert result.lines()[-1] == "every rule holds"


@pytest.mark.parametrize(
    ("fault", "said"),
    [("stale-put", "was accepted"), ("teardown-skipped", "S6"), ("eviction-skips-hook", "S6 hooks were told")],
)
def test_a_fault_is_seen(rt_threads: ThreadsRuntime, fault: str, said: str) -> None:
    result = Pairs(rt_threads, 3_000, callers=8, pool_size=4, faults=(fault,)).carry_out()
    assert any(said in sentence for sentence in result.wrong), result.lines()
