"""Scenario: what a run is made of, apart from the policy: sizes, load, shards, times.

Role: a frozen value that goes to the child process as JSON and into the result. `SCENARIOS` holds the named ones; every
field can be overridden on the command line, and the same checks refuse a bad value there and here.

Thread: frozen, any. Upstream: tests/pytests/test_config.py's load test around MOD-11658 gave the sizes of
``mod-11658``. Left out: recorded traffic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from typing import Any

from coordemu.coord.config import MAX_WORKERS, MAX_WORKERS_NO_LIMITS
from coordemu.lab.duration import Latency
from coordemu.runtime.base import NS_PER_MS
from coordemu.shards.fault_plan import FaultPlan
from coordemu.shards.shard_errors import ShardUrlError
from coordemu.shards.shard_url import parse_shard_url

MAX_IO_THREADS = 256


class ScenarioError(ValueError):
    """A scenario that can't be run; the message is one line for the user."""


def parse_plan(text: str) -> tuple[int, ...]:
    """``12:0`` or ``4:9:2``: the sizes of WORKERS in turn, the first one at the start. Raises ScenarioError."""
    parts = text.split(":")
    if len(parts) < 2:
        raise ScenarioError(f"--workers {text}: give the size at the start and at least one more, for example 12:0")
    try:
        return tuple(int(part) for part in parts)
    except ValueError:
        raise ScenarioError(
            f"--workers {text}: sizes are whole numbers separated by colons, for example 12:0"
        ) from None


@dataclass(frozen=True, slots=True)
class Scenario:
    """One experiment.

    name, summary: what it is called, and a sentence.
    workers: WORKERS at the start, then after each CONFIG SET; each 0 to 16 (8192 with no_limits).
    clients: query clients, one connection and at most one query under way each; 1 to 10,000.
    in_flight: how many of them may have a query under way at once; 0 = all.
    latency: service time of a query on every shard, a `Latency`.
    work_ms: how long a query works after its replies, without the module lock.
    lock_share: 0.0 to 1.0, share of queries that then take the module lock to load documents.
    load_ms: how long these hold it.
    open_ms: how long every query holds the module lock at its start (0: it takes it and lets go).
    shards: what to talk to, see `coordemu.shards.shard_url`.
    faults: fault plan of embedded shards, see `coordemu.shards.fault_plan`.
    conn_per_shard: CONN_PER_SHARD (0: WORKERS + 1).
    io_threads: 1 to 256.
    protocol: RESP 2 or 3 towards the shards.
    warm_ms: load before the first CONFIG SET.
    pause_ms: between two of them.
    after_ms: load after the last.
    settle_ms: how long outstanding queries are awaited after the load has ended; their own longest time is added.
    ping_interval_ms: between an answered PING and the next.
    watchdog_ms: no PING answered for so long: the host hangs.
    kill_shard: index of a shard to kill (SIGKILL) while the last CONFIG SET is on its way; -1 = none.
    restart_after_ms: when it comes back; 0 = it does not.
    no_limits: allow sizes above upstream's limits.
    seed: of every draw.
    """

    name: str = "custom"
    summary: str = ""
    workers: tuple[int, ...] = (12, 0)
    clients: int = 12
    in_flight: int = 0
    latency: str = "20ms"
    work_ms: float = 0.0
    lock_share: float = 0.25
    load_ms: float = 1.0
    open_ms: float = 0.0
    shards: str = "embedded:3"
    faults: str = ""
    conn_per_shard: int = 0
    io_threads: int = 1
    protocol: int = 2
    warm_ms: int = 400
    pause_ms: float = 0.0
    after_ms: int = 800
    settle_ms: int = 1500
    ping_interval_ms: int = 5
    watchdog_ms: int = 8000
    kill_shard: int = -1
    restart_after_ms: int = 0
    no_limits: bool = False
    seed: int = 1

    def __post_init__(self) -> None:
        limit = MAX_WORKERS_NO_LIMITS if self.no_limits else MAX_WORKERS
        if len(self.workers) < 1:
            raise ScenarioError("a scenario needs at least one size of WORKERS")
        for size in self.workers:
            if size < 0:
                raise ScenarioError(f"WORKERS {size} is below 0")
            if size > limit:
                hint = "" if self.no_limits else " (--no-limits lifts upstream's limit)"
                raise ScenarioError(f"WORKERS {size} is above the limit of {limit}{hint}")
        self._within("clients", 1, 10_000)
        self._within("in_flight", 0, 10_000)
        self._within("lock_share", 0, 1)
        self._within("io_threads", 1, MAX_IO_THREADS)
        self._within("conn_per_shard", 0, 1_000_000)
        self._within("ping_interval_ms", 1, 60_000)
        self._within("watchdog_ms", 100, 600_000)
        for name in (
            "work_ms",
            "load_ms",
            "open_ms",
            "warm_ms",
            "pause_ms",
            "after_ms",
            "settle_ms",
            "restart_after_ms",
        ):
            self._within(name, 0, 3_600_000)
        if self.protocol not in (2, 3):
            raise ScenarioError(f"protocol {self.protocol} is neither 2 nor 3")
        try:
            Latency.parse(self.latency)
        except ValueError as err:
            raise ScenarioError(f"latency: {err}") from None
        self._check_shards()

    def _check_shards(self) -> None:
        try:
            spec, faults = parse_shard_url(self.shards), FaultPlan.parse(self.faults)
        except ShardUrlError as err:
            raise ScenarioError(str(err)) from None
        if spec.kind != "embedded" and not faults.is_empty:
            raise ScenarioError(f"faults: {spec} are real servers; a fault plan needs embedded shards")
        self._within("kill_shard", -1, spec.count - 1)
        if self.kill_shard >= 0 and not spec.own:
            raise ScenarioError(f"kill_shard: {spec} are not ours to kill; embedded:N, redis:N and cluster:N are")

    def _within(self, name: str, low: float, high: float) -> None:
        value = getattr(self, name)
        if not low <= value <= high:
            raise ScenarioError(f"{name} {value} is not within {low}..{high}")

    def override(self, **changes: Any) -> Scenario:
        """This scenario with some fields changed; None means unchanged. Raises ScenarioError."""
        real = {key: value for key, value in changes.items() if value is not None}
        return replace(self, **real) if real else self

    def to_json(self) -> dict[str, Any]:
        """All fields as plain values."""
        return {**asdict(self), "workers": list(self.workers)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Scenario:
        """What `to_json` wrote. Raises ScenarioError for unknown fields and bad values."""
        unknown = set(data) - {f.name for f in fields(cls)}
        if unknown:
            raise ScenarioError(f"unknown scenario fields: {', '.join(sorted(unknown))}")
        return cls(**{**data, "workers": tuple(data["workers"])})

    @property
    def longest_query_ns(self) -> int:
        """An upper bound of one query's own time, waiting for others apart."""
        own_ms = self.work_ms + self.load_ms + self.open_ms
        return Latency.parse(self.latency).longest_ns + round(own_ms * NS_PER_MS)


_ALL = (
    Scenario(
        name="mod-11658",
        summary="The incident: 12 workers, 13 connections per shard, 12 queries in flight, then CONFIG SET WORKERS 0.",
    ),
    Scenario(
        name="partial-shrink",
        summary="12 workers to 4: queries go on in the remaining workers while the surplus connections are taken away.",
        workers=(12, 4),
    ),
    Scenario(
        name="sawtooth",
        summary="Sizes up and down under load: 4, 9, 2, 12, 1, with a short pause between.",
        workers=(4, 9, 2, 12, 1),
        pause_ms=50.0,
    ),
    Scenario(
        name="there-and-back",
        summary="12 workers to 0 and, 5 ms later, to 4: the next query revives a pool whose old threads still work.",
        workers=(12, 0, 4),
        pause_ms=5.0,
        lock_share=1.0,
    ),
    Scenario(
        name="slow-shard",
        summary="mod-11658 with replies that take 50 to 400 ms: whatever waits a fixed time waits too short.",
        latency="50ms..400ms",
        after_ms=1500,
    ),
    Scenario(
        name="shard-killed",
        summary="mod-11658 with one shard killed as soon as CONFIG SET has been sent, back after a second (real "
        "Redis or embedded).",
        latency="100ms",
        kill_shard=0,
        restart_after_ms=1000,
        after_ms=2500,
    ),
)

SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for scenario in _ALL}


def get_scenario(name: str) -> Scenario:
    """The named scenario. Raises ScenarioError with the nearest name."""
    try:
        return SCENARIOS[name]
    except KeyError:
        near = get_close_matches(name, SCENARIOS, n=1, cutoff=0.0)[0]  # however far: one of a few names
        raise ScenarioError(
            f"no scenario is called {name!r}; did you mean {near!r}? (see: coordemu scenarios)"
        ) from None
