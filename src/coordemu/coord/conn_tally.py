"""ConnTally: what became of the replies that one connection owed when a shrink began.

Role: the shrink keeps one per surplus connection and adds them up for its receipt. The hidden connection gets no more
commands, so what was pending at the start and is neither outstanding nor failed nor lost has been delivered: nothing
needs to be counted per reply.

Thread: I/O. Upstream: none. Left out: nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from coordemu.coord.conn import MRConn
from coordemu.coord.drain_receipt import NodeDrain


class ConnTally:
    """One connection's share."""

    __slots__ = (
        "_failed_before", "conn", "delivered", "failed", "lost", "outstanding", "pending", "stopped",
    )  # fmt: skip

    def __init__(self, conn: MRConn) -> None:
        """Starts from what the connection owes now."""
        self.conn = conn
        self.pending = self.outstanding = conn.outstanding
        self.delivered = self.failed = self.lost = 0
        self.stopped = False
        self._failed_before = conn.failed

    def update(self) -> bool:
        """Read the connection. True when replies were delivered since the last reading."""
        conn, before = self.conn, self.delivered
        outstanding = self.outstanding = conn.outstanding
        failed = self.failed = conn.failed - self._failed_before
        lost = self.lost = conn.lost
        delivered = self.delivered = self.pending - outstanding - failed - lost
        return delivered > before

    def __repr__(self) -> str:
        came = f"delivered={self.delivered} failed={self.failed} lost={self.lost}"
        return f"<ConnTally {self.conn.name} pending={self.pending} {came}>"


def sum_by_node(tallies: Iterable[ConnTally]) -> dict[str, NodeDrain]:
    """The tallies added up per "host:port". Thread: I/O."""
    sums: dict[str, NodeDrain] = {}
    for tally in tallies:
        node = str(tally.conn.endpoint)
        before = sums.get(node, NodeDrain())
        sums[node] = NodeDrain(
            before.pending + tally.pending,
            before.delivered + tally.delivered,
            before.failed + tally.failed,
            before.lost + tally.lost,
            before.connections_stopped + tally.stopped,
        )
    return sums
