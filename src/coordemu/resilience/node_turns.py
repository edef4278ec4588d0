"""NodeTurns: a limit for each node: so many may do something there at once, the others wait in line.

Role: the pool's `Turns` (in the order of coming, with a deadline and a way to cancel), one set per node, made when the
node is first named. Blocking reads and low-priority work have one each.

Thread: any. Upstream: none. Left out: forgetting a node; clusters have few, and a set that somebody holds must stay.
Bounds: `size` per node, and a set per name that was ever given; the line of a node has none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

from coordemu.pool.pool_context import PoolContext
from coordemu.pool.turns import NoTurn, Turns
from coordemu.resilience.resilience_errors import BulkheadFull, check_faults
from coordemu.runtime.base import Runtime

TWO_LIMITS = "two-limits"
NODE_FAULTS: Mapping[str, str] = MappingProxyType({
    TWO_LIMITS: "who finds no limit for a node makes one without looking again: two first callers have one each, and "
    "twice as many as may get through.",
})  # fmt: skip


class NodeTurns:
    """Limits. size: per node, 1 or more.  faults: of NODE_FAULTS. Raises ValueError outside the bounds."""

    def __init__(self, rt: Runtime, size: int, name: str, faults: Collection[str] = ()) -> None:
        if size < 1:
            raise ValueError(f"{name}: size {size} is below 1")
        self.name = name
        self.size = size
        self._rt = rt
        self._lock = rt.lock(name)
        self._faults = check_faults(faults, NODE_FAULTS, name)
        # Replaced as a whole, under the lock, and read without it.
        self._turns = rt.cell(_no_turns(), f"{name} nodes")

    def of(self, node: str) -> Turns:
        """A node's; made when there is none yet. Thread: any."""
        found = self._turns.value.get(node)
        if found is not None:
            return found
        if TWO_LIMITS in self._faults:
            return self._make(node)
        with self._lock:
            return self._turns.value.get(node) or self._make(node)

    def _make(self, node: str) -> Turns:
        made = Turns(self._rt, self.size, f"{self.name} {node}".rstrip())
        self._turns.value = {**self._turns.value, node: made}
        return made

    def acquire(
        self, node: str = "", ctx: PoolContext | None = None, timeout_ns: int | None = None
    ) -> tuple[Turns, int]:
        """Take a place at a node, in the order of coming: what has the `release` that gives it back, and how long it
        took, ns (0: nobody was in line).

        timeout_ns: 0 or more; None: no limit but the context's. Raises BulkheadFull, Cancelled, DeadlineExceeded.
        Thread: any. May block.
        """
        turns = self.of(node)
        began_ns = self._rt.now_ns()
        deadline_ns = None if timeout_ns is None else began_ns + max(0, timeout_ns)
        try:
            return turns, turns.acquire(ctx, deadline_ns)
        except NoTurn:
            waited_ns = max(0, self._rt.now_ns() - began_ns)
            raise BulkheadFull(turns.name, waited_ns, turns.size, turns.waiting) from None

    @contextmanager
    def hold(self, node: str = "", ctx: PoolContext | None = None, timeout_ns: int | None = None) -> Iterator[None]:
        """A place for the length of a `with`. As `acquire`."""
        turns, _ = self.acquire(node, ctx, timeout_ns)
        try:
            yield
        finally:
            turns.release()

    def statistics(self) -> dict[str, int]:
        """nodes, and the sums over them: held, waiting, waits, wait_ns, longest_line. Thread: any."""
        each = [turns.statistics() for turns in self._turns.value.values()]
        return {
            "nodes": len(each),
            "held": sum(found["size"] - found["free"] for found in each),
            "waiting": sum(found["waiting"] for found in each),
            "waits": sum(found["waits"] for found in each),
            "wait_ns": sum(found["wait_ns"] for found in each),
            "longest_line": max((found["longest_line"] for found in each), default=0),
        }

    def __repr__(self) -> str:
        return f"<NodeTurns {self.name!r} {self.size} at each of {len(self._turns.value)} nodes>"


def _no_turns() -> dict[str, Turns]:
    return {}
