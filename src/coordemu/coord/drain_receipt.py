"""DrainReceipt: what a shrink of the connection pools did with the replies that were in flight.

Role: upstream's shrink tells nobody anything; the incident could be argued about for weeks because no
number said what became of the replies of a stopped connection. Here every shrink ends in one receipt per
I/O runtime, a value that a test asserts on and a report prints.

Thread: made on the I/O thread that owns the connections, then handed over; frozen.
Upstream: nothing; the write-up proposes a log line. Left out: which queries the replies belonged to (the
queries' own outcomes say that).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

OUTCOMES = ("drained", "deadline", "nothing-pending", "superseded")


@dataclass(frozen=True, slots=True)
class NodeDrain:
    """One node's share of a receipt: replies pending at the start, and what became of them."""

    pending: int = 0
    delivered: int = 0
    failed: int = 0
    lost: int = 0
    connections_stopped: int = 0


@dataclass(frozen=True, slots=True)
class DrainReceipt:
    """How one shrink of one I/O runtime ended.

    outcome: "nothing-pending" (no reply was outstanding), "drained" (the last one came), "deadline" (time ran
        out, or no drain was asked for and replies were outstanding at the stop: then waited_ns is 0),
        "superseded" (a later resize or topology change took over).
    num_from, num_to: connections per node before and after.
    started_ns, ended_ns: on the runtime's clock; ended_ns is when the surplus was stopped (or given back).
    waited_ns: how long the drain waited: it was over at started_ns + waited_ns.
    last_reply_ns: when the last awaited reply was handed over, 0 when none was. The drain's completion latency is
        started_ns + waited_ns - last_reply_ns; ended_ns also holds the closing of the sockets.
    pending: replies outstanding on the surplus at the start.
    delivered, failed, lost: what became of them. Their sum is pending, but for connections that were given back to the
        round robin (at_deadline "keep" or "raise", superseded): see `still_in_flight`.
    polls, wake_ups: how often the drain looked, and how often it was woken.
    connections_stopped: over all nodes.  by_node: the same, per "host:port".
    io_runtime: which I/O runtime, from 0.
    """

    outcome: str
    num_from: int
    num_to: int
    started_ns: int
    ended_ns: int
    waited_ns: int
    last_reply_ns: int
    pending: int
    delivered: int
    failed: int
    lost: int
    polls: int
    wake_ups: int
    connections_stopped: int
    by_node: Mapping[str, NodeDrain] = field(default_factory=dict)
    io_runtime: int = 0

    def __post_init__(self) -> None:
        if self.outcome not in OUTCOMES:
            raise ValueError(f"outcome {self.outcome!r} is none of {', '.join(OUTCOMES)}")

    @property
    def still_in_flight(self) -> int:
        """Replies that were pending at the start and are awaited further, on connections that were given back."""
        return self.pending - self.delivered - self.failed - self.lost

    def to_json(self) -> dict[str, Any]:
        """A dict of plain values, as the result file holds it."""
        return asdict(self)
