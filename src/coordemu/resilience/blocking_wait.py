"""BlockingWait: how long a blocking read may wait, and how many may wait at once.

Role: BRPOP and XREADGROUP hold a connection for as long as they wait. Two things keep them from holding them all. The
time that they ask for gets shorter under pressure (the write-up: 1 s, and 0.5 s under pressure), so that connections
come back sooner; and a stated share of each node's connections is left to commands that do not block: at most `limit`
blocking reads are under way per node, the others wait in line without a connection.

The time is `blocking_ms` up to the mark below which pressure ends, `pressed_ms` where it begins or while the level is
PRESSED, and on the straight line between the two in between: never longer at a higher pressure.

Thread: any. Upstream: none; the write-up's adaptive time-out. Left out: cutting short what already waits on the server.
Bounds: `BlockingOptions`; a pool of one connection has one for both kinds.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from coordemu.pool.pool_context import PoolContext
from coordemu.resilience.node_turns import NodeTurns
from coordemu.resilience.pool_pressure import PoolPressure
from coordemu.resilience.pressure_gauge import PressureLevel, PressureOptions
from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Runtime


@dataclass(frozen=True, slots=True)
class BlockingOptions:
    """blocking_ms: 1 or more (0 would be for ever).  pressed_ms: 1 to blocking_ms.  pool_size: of each node's pool, 1
    or more.  non_blocking_percent: 0 to 99, the share left to others. Raises ValueError outside the bounds."""

    blocking_ms: int = 1_000
    pressed_ms: int = 500
    pool_size: int = 20
    non_blocking_percent: int = 20

    def __post_init__(self) -> None:
        if not 1 <= self.pressed_ms <= self.blocking_ms:
            raise ValueError(f"1 <= pressed_ms {self.pressed_ms} <= blocking_ms {self.blocking_ms} does not hold")
        if self.pool_size < 1 or not 0 <= self.non_blocking_percent <= 99:
            raise ValueError(f"pool_size {self.pool_size} or non_blocking_percent {self.non_blocking_percent}")

    @property
    def limit(self) -> int:
        """Blocking reads that may be under way per node: what is kept is rounded up, and one may always be."""
        kept = -(-self.pool_size * self.non_blocking_percent // 100)
        return max(1, self.pool_size - kept)


def blocking_ns(pressure: float, level: PressureLevel, options: BlockingOptions, marks: PressureOptions) -> int:
    """How long a blocking read may wait: from pressed_ms to blocking_ms, in ns. Never more at a higher pressure, and
    never more when PRESSED. Thread: any."""
    longest_ns, shortest_ns = options.blocking_ms * NS_PER_MS, options.pressed_ms * NS_PER_MS
    if level is PressureLevel.PRESSED or pressure > marks.enter:
        return shortest_ns
    if pressure <= marks.leave:
        return longest_ns
    share = (pressure - marks.leave) / (marks.enter - marks.leave)
    return max(shortest_ns, longest_ns - round(share * (longest_ns - shortest_ns)))


class BlockingWait:
    """The time and the places of blocking reads. faults: of NODE_FAULTS.

    A read: `with wait.hold(node): client.execute("BRPOP", key, wait.timeout_text(node))`.
    """

    def __init__(
        self,
        rt: Runtime,
        pressure: PoolPressure,
        options: BlockingOptions | None = None,
        name: str = "blocking reads",
        faults: Collection[str] = (),
    ) -> None:
        self.name = name
        self.options = options or BlockingOptions()
        self._pressure = pressure
        self._places = NodeTurns(rt, self.options.limit, name, faults)

    def timeout_ns(self, node: str | None = None) -> int:
        """What a read should ask for now; at a node that is not known: for the one that has most pressure. Thread: any.
        As `PoolPressure.look`."""
        reading = self._pressure.look()
        return blocking_ns(
            reading.pressure_at(node), reading.level_of(node), self.options, self._pressure.options
        )  # fmt: skip

    def timeout_ms(self, node: str | None = None) -> int:
        """The same in whole milliseconds, 1 or more; for XREADGROUP's BLOCK."""
        return max(1, self.timeout_ns(node) // NS_PER_MS)

    def timeout_text(self, node: str | None = None) -> str:
        """The same in seconds, as BRPOP reads it: "0.5"."""
        return f"{self.timeout_ms(node) * NS_PER_MS / NS_PER_S:.3f}".rstrip("0").rstrip(".")

    def hold(
        self, node: str = "", ctx: PoolContext | None = None, timeout_ns: int | None = None
    ) -> AbstractContextManager[None]:
        """A place among the blocking reads of a node, for the length of a `with`, in the order of coming.

        timeout_ns: how long to wait for it; None: no limit but the context's. Raises BulkheadFull, Cancelled,
        DeadlineExceeded. Thread: any. May block.
        """
        return self._places.hold(node, ctx, timeout_ns)

    @property
    def limit(self) -> int:
        """Blocking reads that may be under way per node."""
        return self.options.limit

    def statistics(self) -> dict[str, Any]:
        """limit, and what `NodeTurns` counts. Thread: any."""
        return {"limit": self.limit, **self._places.statistics()}

    def __repr__(self) -> str:
        return f"<BlockingWait {self.name!r} {self.limit} per node>"
