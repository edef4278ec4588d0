"""MRCluster: all I/O runtimes of the coordinator, and what concerns all of them.

Role: the door through which the rest of the coordinator reaches the I/O threads: queries are spread over them round
robin, topologies go to each of them, and a resize is split between them.

Sizes. `conns_per_node`, here and in the constructor, is what *each* I/O runtime keeps per node.
`update_conn_pool_size` takes the total per node, divides it by the number of I/O threads and rounds up, so 13 over 2
threads makes 7 each. `pending_total(num)` takes a size per I/O runtime again: it counts the replies on connections
num.. of each.

A runtime whose thread has not been started is resized directly, on the caller's thread (with one shard upstream's I/O
threads may never run); the others get a request on their queue, behind the queries that wait there. Either way the
queue's limit then is size x 50.

Thread: any, for every method. Upstream: MRCluster (src/coord/rmr/cluster.c), MR_UpdateConnPoolSize
(src/coord/rmr/rmr.c). Left out: slot ranges; the coordinator here asks every shard.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

from coordemu.coord.conn_manager import OnReceipt
from coordemu.coord.conn_options import ConnOptions
from coordemu.coord.conn_pool import check_num
from coordemu.coord.drain_receipt import DrainReceipt
from coordemu.coord.io_runtime_ctx import IORuntimeCtx
from coordemu.coord.shrink_plan import ShrinkPlan
from coordemu.coord.topology import MRClusterTopology
from coordemu.runtime.base import NS_PER_MS, Runtime, Task

MAX_IO_THREADS = 256
_AT_ONCE = ShrinkPlan()


def _no_log(level: str, line: str) -> None:
    """Where nobody listens."""


def _run_request(io: IORuntimeCtx, action: Callable[[IORuntimeCtx], object]) -> None:
    action(io)
    io.request_completed()


class MRCluster:
    """The I/O runtimes, and which of them is next."""

    def __init__(
        self,
        rt: Runtime,
        topology: MRClusterTopology,
        num_io_threads: int = 1,
        conns_per_node: int = 1,
        options: ConnOptions | None = None,
        topology_validation_timeout_ms: int = 30_000,
        log: Callable[[str, str], None] = _no_log,
    ) -> None:
        """num_io_threads: 1 to 256.  conns_per_node: 1 or more, per I/O runtime.  topology_validation_timeout_ms: 0 =
        for ever.

        log: called with level and line. Raises ValueError outside the bounds. Starts no thread. Upstream:
        MR_NewCluster.
        """
        if not 1 <= num_io_threads <= MAX_IO_THREADS:
            raise ValueError(f"num_io_threads {num_io_threads} is not within 1..{MAX_IO_THREADS}")
        self._rt = rt
        self._conns_per_node = check_num(conns_per_node)
        self.io_runtimes: tuple[IORuntimeCtx, ...] = tuple(
            IORuntimeCtx(rt, conns_per_node, options or ConnOptions(), topology_validation_timeout_ms, log, index)
            for index in range(num_io_threads)
        )
        self.topology = topology
        self._turn = count()
        self._requests = count()
        # The last resize: how many I/O runtimes have taken it up. Appending is one step on any thread.
        self._taken_up: list[int] = []
        self.update_topology(topology)

    @property
    def num_io_threads(self) -> int:
        """How many I/O runtimes."""
        return len(self.io_runtimes)

    @property
    def conns_per_node(self) -> int:
        """Connections per node of each I/O runtime: what was asked for last, or the size before it when a deadline
        gave them back."""
        return self._conns_per_node

    @property
    def tasks(self) -> list[Task]:
        """The I/O threads that were started."""
        return [io.task for io in self.io_runtimes if io.task is not None]

    @property
    def ready(self) -> bool:
        """Every I/O runtime's gate is open."""
        return all(io.ready for io in self.io_runtimes)

    # ---- requests

    def start(self) -> None:
        """Start every I/O thread now, rather than with its first request. Raises RuntimeError when no thread can be
        had."""
        for io in self.io_runtimes:
            io.start()

    def wait_until_ready(self, timeout_ns: int | None = None) -> bool:
        """Wait until every gate is open. False on time-out. May block."""
        return self._rt.poll_until(
            lambda: self.ready, NS_PER_MS, "connections to the shards", timeout_ns, lambda: self.tasks
        )

    def next_io_runtime(self) -> IORuntimeCtx:
        """The next one, round robin. Upstream: MRCluster_GetIORuntimeCtx with the round-robin index."""
        return self.io_runtimes[next(self._turn) % len(self.io_runtimes)]

    def next_request_number(self) -> int:
        """A number for a request without a name, from 0."""
        return next(self._requests)

    def schedule(self, callback: Callable[[IORuntimeCtx, Any], object], data: Any) -> None:
        """Have `callback(io_runtime, data)` run on the next I/O thread; see `IORuntimeCtx.schedule`."""
        self.next_io_runtime().schedule(callback, data)

    def update_topology(self, topology: MRClusterTopology) -> None:
        """Give every I/O runtime a new topology. Upstream: MR_UpdateTopology."""
        self.topology = topology
        for io in self.io_runtimes:
            io.schedule_topology(topology)

    # ---- resize

    def update_conn_pool_size(self, num: int, plan: ShrinkPlan = _AT_ONCE, on_receipt: OnReceipt | None = None) -> None:
        """Have `num` connections per node over all I/O runtimes (1 or more, else ValueError), rounded up to equal
        shares.

        on_receipt: called exactly once per I/O runtime, on its thread, also when the pools grow or stay as they are.
        May block: only where a thread is not started. Upstream: MR_UpdateConnPoolSize.
        """
        share = -(-check_num(num) // len(self.io_runtimes))
        before, self._conns_per_node = self._conns_per_node, share
        taken_up: list[int] = []
        self._taken_up = taken_up

        def receipt_made(receipt: DrainReceipt) -> None:
            kept = receipt.outcome == "deadline" and receipt.num_to == receipt.num_from != share
            if kept and self._taken_up is taken_up:
                self._conns_per_node = before
            if on_receipt is not None:
                on_receipt(receipt)

        def resize(io: IORuntimeCtx) -> None:
            io.update_conn_pool_size(share, plan, receipt_made)
            taken_up.append(io.index)

        self._rt.trace(
            "MR_UpdateConnPoolSize", "MRCluster.update_conn_pool_size",
            f"{before} -> {share} on each of {len(self.io_runtimes)} I/O runtimes",
        )  # fmt: skip
        self._on_each(resize)

    def finish_shrink(self, polls: int = 0) -> None:
        """Drain "yield": main has waited; each I/O runtime stops its surplus, or does what the plan says at a deadline.

        polls: how often main looked; for the receipts. A runtime whose drain was superseded ignores it.
        """
        self._on_each(lambda io: io.manager.finish_shrink(polls))

    def abandon_shrink(self) -> None:
        """Drain "yield": main gives up; each I/O runtime gives its surplus back to the round robin."""
        self._on_each(lambda io: io.manager.abandon_shrink())

    def _on_each(self, action: Callable[[IORuntimeCtx], object]) -> None:
        for io in self.io_runtimes:
            if not io.thread.run_unless_started(partial(action, io)):
                self._rt.trace("IORuntimeCtx_Schedule", "IORuntimeCtx.schedule", f"on the queue of io {io.index}")
                io.schedule(_run_request, action)

    @property
    def shrink_hidden(self) -> bool:
        """Every I/O runtime has taken up the last resize: the surplus is out of the round robin, `pending_total` can
        only fall."""
        return len(self._taken_up) == len(self.io_runtimes)

    # ---- what others ask

    def pending_total(self, num: int) -> int:
        """Replies outstanding on connections num.. of every node, over all I/O runtimes. num: per I/O runtime, 0 or
        more."""
        return sum(io.pending.pending_total(num) for io in self.io_runtimes)

    def fill_state_dict(self) -> dict[str, list[str]]:
        """ "host:port" -> names of the connections' states, over all I/O runtimes. Upstream:
        SHARD_CONNECTION_STATES."""
        states: dict[str, list[str]] = {}
        for io in self.io_runtimes:
            io.manager.fill_state_dict(states)
        return states

    def free(self) -> None:
        """End every I/O runtime: its requests and replies complete with an error. Idempotent. Blocks. Thread: none of
        theirs."""
        for io in self.io_runtimes:
            io.free()

    def statistics(self) -> dict[str, int]:
        """Sums over the I/O runtimes: queue size and pending, connections by kind, outstanding replies; io_runtimes,
        conns_per_node."""
        sums = {"io_runtimes": len(self.io_runtimes), "conns_per_node": self._conns_per_node}
        for io in self.io_runtimes:
            queue, connections = io.queue.statistics(), io.manager.statistics()
            sums["queued"] = sums.get("queued", 0) + queue["size"]
            sums["requests_pending"] = sums.get("requests_pending", 0) + queue["pending"]
            for key in ("owned", "connected", "closing", "outstanding", "superseded"):
                sums[key] = sums.get(key, 0) + connections[key]
        return sums

    def __repr__(self) -> str:
        size = f"{len(self.io_runtimes)} I/O runtimes x {self._conns_per_node} connections"
        return f"<MRCluster {len(self.topology.nodes)} nodes, {size}>"
