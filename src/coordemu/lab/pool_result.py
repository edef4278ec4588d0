"""PoolTestResult: everything that one test of the pool showed, as a frozen value with a JSON form.

Role: what the report prints from, and what ``--json`` writes. Thread: frozen, any. Upstream: the blocks that the
example application prints, some of them for some modes only; here every test has all of them. Left out: the latency of
each operation. Bound: one entry per node.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from coordemu.lab.pool_detector import Detected
from coordemu.lab.pool_metrics import PoolMetrics
from coordemu.lab.pool_modes import POOL_TESTS, PoolTest
from coordemu.lab.pool_verdict import PoolVerdict


@dataclass(frozen=True, slots=True)
class PoolTestResult:
    """One test. test: as it was run.  nodes: each pool's statistics and removals by reason, by node; of several
    clients, their sums.  client: counts of the cluster client.  facts: what only this test counts.  notes: what was
    otherwise than described.  crashes: errors that ended a task.  cut_short: whether its time limit ended it."""

    test: PoolTest
    metrics: PoolMetrics
    detected: Detected
    verdict: PoolVerdict
    nodes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    removals: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    client: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    broken_rules: tuple[str, ...] = ()
    crashes: tuple[str, ...] = ()
    cut_short: bool = False

    @property
    def described(self) -> PoolTest:
        """The test as it was described; itself, when it is none of those."""
        return POOL_TESTS.get(self.test.name, self.test)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        described = self.described
        return {
            "test": self.test.to_json(),
            "described": {"tasks": described.tasks, "operations": described.operations},
            "metrics": self.metrics.to_json(),
            "detector": {**self.detected.to_json(), "lines": self.detected.lines()},
            "verdict": self.verdict.to_json(),
            "nodes": {node: dict(counts) for node, counts in self.nodes.items()},
            "removals": {node: dict(counts) for node, counts in self.removals.items()},
            "client": dict(self.client),
            "facts": dict(self.facts),
            "notes": list(self.notes),
            "broken_rules": list(self.broken_rules),
            "crashes": list(self.crashes),
            "cut_short": self.cut_short,
        }
