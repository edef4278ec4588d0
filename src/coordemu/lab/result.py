"""Result: everything that one run showed, as a frozen value with a stable JSON form.

Role: what `run` and `compare` print from, what ``--json`` writes, what a test asserts on. Nothing is rounded away here;
the reports round.

Thread: frozen, any. Upstream: none. Left out: raw samples of latencies (the percentiles stand for them).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

SCHEMA_VERSION = 1
VERDICTS = ("healthy", "degraded", "refused", "unresponsive", "deadlocked", "lost")


@dataclass(frozen=True, slots=True)
class QuerySums:
    """What became of the queries, counted by the clients.

    sent = replied + failed + lost.  by_reason: the failures, by the error's text.  p50_ms, p99_ms, max_ms: of the
    replied ones. max_gap_ms: longest time without any query's outcome while at least one was under way, from the
    first CONFIG SET on.
    """

    sent: int = 0
    replied: int = 0
    failed: int = 0
    lost: int = 0
    by_reason: Mapping[str, int] = field(default_factory=dict)
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0
    max_gap_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class PingSums:
    """What the prober saw.

    max_gap_ms: longest time between two answers (or from the last one to the end of the run) from the first CONFIG
    SET on. max_gap_before_ms: the same before it: what this machine does without any resize.
    """

    sent: int = 0
    answered: int = 0
    max_gap_ms: float = 0.0
    max_gap_before_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class TimelineRow:
    """One row of the write-up's table. at_ms: since the CONFIG SET was sent; None: it never happened."""

    at_ms: float | None
    action: str
    result: str


@dataclass(frozen=True, slots=True)
class ChainStep:
    """One step of the call chain, as it was recorded: when, on which thread, upstream's function, ours."""

    at_ms: float
    thread: str
    upstream: str
    ours: str
    detail: str


@dataclass(frozen=True, slots=True)
class Result:
    """One run.

    scenario: all its fields.
    policy: all its fields.
    runtime: "threads" or "sim".
    seed: of every draw.
    verdict: one of `VERDICTS`.
    why: the verdict in a sentence.
    as_expected: whether it is what the policy's `expected` says; None where the policy expects nothing.
    workers: threads (at the start, alive at the end).
    connections: per node and I/O thread (before, after) the resizes.
    config_set_ms: of each CONFIG SET; None for one that never returned.
    config_set_error: of the last one, "" when it was accepted.
    queries: `QuerySums`.
    ping: `PingSums`.
    receipts: drain receipts of the last resize that shrank, one per I/O runtime.
    timeline: rows of that resize.
    chain: the recorded call chain, at most 200 steps.
    wait_for: edges of the wait-for graph, when the verdict needed it.
    cycle: the chain of waits in words, when there was one.
    stacks: of each thread, when it hung or lost queries.
    logs: notices and warnings of the layers, the newest 100.
    resources: threads, descriptors, sockets and memory of the process before and after the coordinator's life.
    machine: what it ran on.
    schema_version: of this form.
    """

    scenario: Mapping[str, Any]
    policy: Mapping[str, Any]
    runtime: str
    seed: int
    verdict: str
    why: str
    as_expected: bool | None
    workers: tuple[int, int]
    connections: tuple[int, int]
    config_set_ms: tuple[float | None, ...]
    config_set_error: str
    queries: QuerySums
    ping: PingSums
    receipts: tuple[Mapping[str, Any], ...] = ()
    timeline: tuple[TimelineRow, ...] = ()
    chain: tuple[ChainStep, ...] = ()
    wait_for: tuple[Mapping[str, Any], ...] = ()
    cycle: str = ""
    stacks: Mapping[str, list[str]] = field(default_factory=dict)
    logs: tuple[str, ...] = ()
    resources: Mapping[str, Any] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"verdict {self.verdict!r} is none of {', '.join(VERDICTS)}")
        if self.queries.sent != self.queries.replied + self.queries.failed + self.queries.lost:
            raise ValueError(f"the sums do not add up: {self.queries}")

    @property
    def drain_outcome(self) -> str:
        """The receipts' outcomes in one word: the worst of them, or "" when there is none."""
        order = ("deadline", "superseded", "drained", "nothing-pending")
        outcomes = {receipt["outcome"] for receipt in self.receipts}
        return next((outcome for outcome in order if outcome in outcomes), "")

    @property
    def drain_ms(self) -> float | None:
        """The longest drain of the last resize, None without a receipt."""
        return max((receipt["waited_ns"] / 1e6 for receipt in self.receipts), default=None)

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for json.dumps."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Result:
        """What `to_json` wrote. Raises ValueError for another schema version."""
        if data.get("schema_version") != SCHEMA_VERSION:
            raise ValueError(
                f"result of schema version {data.get('schema_version')}, this program reads {SCHEMA_VERSION}"
            )
        values = dict(data)
        values["queries"] = QuerySums(**data["queries"])
        values["ping"] = PingSums(**data["ping"])
        values["timeline"] = tuple(TimelineRow(**row) for row in data["timeline"])
        values["chain"] = tuple(ChainStep(**row) for row in data["chain"])
        for name in ("workers", "connections", "config_set_ms", "receipts", "wait_for", "logs"):
            values[name] = tuple(data[name])
        return cls(**values)
