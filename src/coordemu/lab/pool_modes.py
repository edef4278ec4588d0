"""PoolTest: one test of the pool's modes as a value, and the three modes as they were described.

Role: what ``coordemu pool`` runs. A test says how many tasks do how many operations of which kind of work, through
pools of which options, per node; `PoolTest.scaled` makes it smaller or larger. The parameters are those of the example
application's program, which its own description gives otherwise in places.

Thread: frozen, any. Upstream: main.go, advanced.go and issue_detector.go of the example application. Left out: the
read and write time-outs, which are the client's defaults there and here. Bound: the tests that are listed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any

from coordemu.pool.pool_options import PoolOptions

BASIC, ADVANCED, DETECT, ALL = "basic", "advanced", "detect", "all"
MAX_SCALE = 10.0
# Kinds of work.
SETS, MIXED, THREE, BULK, PUBSUB, THIRDS = "sets", "mixed", "three", "bulk", "pubsub", "thirds"


@dataclass(frozen=True, slots=True)
class PoolTest:
    """A test.

    name: "basic.1".  title: upstream's.  work: SETS (a SET each), MIXED (60 % GET, 40 % SET on a hundred keys), THREE
    (a pipeline of SET, GET, INCR), BULK (a pipeline of `batch` SETs), PUBSUB (half of the tasks publish, half GET or
    SET), THIRDS (SET, GET and a pipeline of both in turn).  keys: how the keys begin.
    tasks: at once, 1 or more.  operations: of each task and round, 1 or more; 0: as many as fit into duration_ms.
    rounds: so often new tasks begin, with rest_ms after each.  fresh_client: each round has a client of its own.
    batch: commands of an operation.  pause_top_us: after each operation a task rests for 0 to this, drawn evenly.
    subscribers: connections that listen meanwhile.  timeouts_expected: pool time-outs do not count against it.
    pool: of each node's pool.
    """

    name: str
    title: str
    work: str
    keys: str
    tasks: int
    operations: int
    pool: PoolOptions
    rounds: int = 1
    rest_ms: int = 0
    fresh_client: bool = False
    duration_ms: int = 0
    batch: int = 1
    pause_top_us: int = 0
    subscribers: int = 0
    timeouts_expected: bool = False

    @property
    def mode(self) -> str:
        """The first part of its name."""
        return self.name.partition(".")[0]

    @property
    def planned(self) -> int:
        """Operations in all; 0: as many as fit into its time."""
        return self.tasks * self.operations * self.rounds

    def scaled(self, scale: float, most_commands: int = 0) -> PoolTest:
        """The same with `scale` times the tasks (0 < scale <= MAX_SCALE), and at most so many commands in all as long
        as each task has an operation; 0: as many as the test says. Raises ValueError."""
        if not 0 < scale <= MAX_SCALE or most_commands < 0:
            raise ValueError(f"scale {scale}, at most {most_commands} commands")
        tasks = max(1, round(self.tasks * scale))
        operations = self.operations
        if most_commands and operations:
            operations = max(1, min(operations, most_commands // (tasks * self.rounds * self.batch)))
        subscribers = max(1, round(self.subscribers * scale)) if self.subscribers else 0
        return replace(self, tasks=tasks, operations=operations, subscribers=subscribers)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"mode": self.mode, **asdict(self)}


def _pool(pool_size: int, timeout_s: int, min_idle: int = 0, max_idle: int = 0, max_active: int = 0) -> PoolOptions:
    return PoolOptions(
        pool_size=pool_size, pool_timeout_ms=timeout_s * 1000, min_idle_conns=min_idle, max_idle_conns=max_idle,
        max_active_conns=max_active,
    )  # fmt: skip


_DEFAULTS = PoolOptions(pool_size=5)
_TESTS = (
    PoolTest("basic.1", "Basic Concurrent Operations", SETS, "user", 100, 5000, _DEFAULTS),
    PoolTest(
        "basic.2", "High Concurrency Stress", SETS, "stress", 250, 250, _pool(5, 2),
        pause_top_us=99, timeouts_expected=True,
    ),
    PoolTest(
        "basic.3", "Pool Behavior Under Load", SETS, "worker", 100, 0, _pool(8, 3, min_idle=2),
        duration_ms=5_000, pause_top_us=49_000,
    ),
    PoolTest("basic.4", "Mixed Read/Write", MIXED, "data", 300, 1000, _pool(10, 5)),
    PoolTest("advanced.1", "Extreme Contention", SETS, "extreme", 200, 10, _pool(2, 1)),
    PoolTest("advanced.2", "Rapid Cycles", SETS, "rapid", 50, 100, _pool(5, 2, max_idle=1)),
    PoolTest(
        "advanced.3", "Long-Running Operations", THREE, "long", 100, 200,
        _pool(2, 3, max_idle=1, max_active=5), batch=3, pause_top_us=19_000,
    ),
    PoolTest(
        "advanced.4", "Concurrent Pipelines", BULK, "pipeline", 64, 100,
        _pool(10, 5, min_idle=5, max_idle=5), batch=100,
    ),
    PoolTest(
        "advanced.5", "PubSub with Get/Set", PUBSUB, "pubsub", 200, 0, _pool(100, 5),
        duration_ms=10_000, subscribers=10,
    ),
    PoolTest("detect.1", "Thundering Herd", SETS, "herd", 100, 1, _pool(5, 2)),
    PoolTest("detect.2", "Bursty Traffic", SETS, "burst", 50, 1, _pool(8, 3), rounds=5, rest_ms=100),
    PoolTest(
        "detect.3", "Connection Churn", SETS, "churn", 20, 1, _pool(5, 2), rounds=10, rest_ms=50, fresh_client=True
    ),
    PoolTest("detect.4", "Race Condition Detection", THIRDS, "race", 100, 20, _pool(3, 1)),
)  # fmt: skip
POOL_TESTS: Mapping[str, PoolTest] = MappingProxyType({test.name: test for test in _TESTS})
MODES = (BASIC, ADVANCED, DETECT, ALL)


def mode_tests(mode: str) -> tuple[PoolTest, ...]:
    """The tests of a mode of MODES, in order. Raises ValueError for another."""
    if mode not in MODES:
        raise ValueError(f"no mode {mode!r}; there are {', '.join(MODES)}")
    return tuple(test for test in _TESTS if mode in (ALL, test.mode))
