"""IORuntimeCtx: one I/O runtime: a loop in a thread of its own, the requests for it, and the connections that it owns.

Role: everything that touches a connection runs here. Other threads hand in requests (`schedule`) and topologies
(`schedule_topology`); both only note them and wake the loop. Resizes are requests like queries, so *the shrink runs
on the I/O thread*, in order with the queries.

The gate. A topology that created connections closes it (`ready` is false): requests then wait in the queue. A timer
looks at 0 ms and every 1 ms whether every node has a Connected connection, and opens it; a second timer, if
configured, opens it all the same after a while, with a warning that names the nodes without one, so that requests
fail instead of hanging. A topology that created no connection leaves the gate alone.

The end. Stop the loop; turn it once more without blocking, so that requests that wait are processed; close every
connection while the loop still lives; then fail what could not be processed: with no pools left, each remaining
request completes at once with "no connection" (upstream frees them unrun); close the handles; turn once more. A
request that comes later still runs on its sender's thread, with the same result.

Thread: `schedule`, `schedule_topology`, `statistics`, `holders_of_queued` any; `free` any but its own; the rest I/O.
Upstream: src/coord/rmr/io_runtime_ctx.c. Left out: reference counts of the topology. Bounds: the queue's, see
`coordemu.coord.rq`; one pending topology.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from coordemu.coord.conn_manager import MRConnManager, OnReceipt
from coordemu.coord.conn_options import ConnOptions
from coordemu.coord.conn_pool import check_num
from coordemu.coord.drain_receipt import DrainReceipt
from coordemu.coord.loop import LoopThread
from coordemu.coord.rq import PENDING_FACTOR, MRWorkQueue
from coordemu.coord.shrink_plan import ShrinkPlan
from coordemu.coord.topology import MRClusterTopology
from coordemu.native import PendingTable
from coordemu.runtime.base import NS_PER_MS, Cell, Holder, Runtime, Task

VALIDATION_INTERVAL_MS = 1


class IORuntimeCtx:
    """A loop thread with its queue, gate and connection manager."""

    def __init__(
        self,
        rt: Runtime,
        conns_per_node: int,
        options: ConnOptions,
        topology_validation_timeout_ms: int,
        log: Callable[[str, str], None],
        index: int = 0,
    ) -> None:
        """conns_per_node: 1 or more.  topology_validation_timeout_ms: 0 = the gate waits for ever.  index: which I/O
        runtime.

        Raises ValueError outside the bounds. Starts no thread. Thread: any. Upstream: IORuntimeCtx_Create.
        """
        if topology_validation_timeout_ms < 0:
            raise ValueError(f"topology_validation_timeout_ms {topology_validation_timeout_ms} is below 0")
        check_num(conns_per_node)
        self._rt = rt
        self._log = log
        self.index = index
        self.loop = rt.loop(f"io {index}")
        self.pending = PendingTable(f"pending replies of io {index}")
        self.manager = MRConnManager(rt, self.loop, options, self.pending, conns_per_node, log, index)
        self.queue = MRWorkQueue(
            rt, conns_per_node * PENDING_FACTOR, f"queue of io {index}", self._wake, log, spin=options.spin_at_limit
        )
        self.thread = LoopThread(rt, f"io {index}", self._run)
        self._topology = MRClusterTopology()
        self._pending_topology: Cell[MRClusterTopology | None] = rt.cell(None, f"io {index}: pending topology")
        self._request_async = self.loop.async_handle(self._on_requests, f"io {index}: requests")
        self._topology_async = self.loop.async_handle(self._on_topology, f"io {index}: topology")
        self._shutdown_async = self.loop.async_handle(self.loop.stop, f"io {index}: shutdown")
        self._validation_timer = self.loop.timer(self._validate, f"io {index}: topology validation")
        self._failure_timer = self.loop.timer(self._give_up_validation, f"io {index}: topology failure")
        self._validation_timeout_ms = topology_validation_timeout_ms
        # Upstream's loop_th_ready and pendingItems; only the I/O thread writes them.
        self.ready = False
        self._pending_items = False
        self._freed = False
        self._topologies_applied = self._topologies_dropped = 0

    # ---- from any thread

    @property
    def task(self) -> Task | None:
        """The I/O thread; None before it was started."""
        return self.thread.task

    def start(self) -> bool:
        """Start the I/O thread. True for the one caller that did. Raises RuntimeError when no thread can be had."""
        return self.thread.start()

    def schedule(self, callback: Callable[[IORuntimeCtx, Any], object], data: Any) -> None:
        """Have `callback(io_runtime, data)` run on the I/O thread, which the first call starts. It must lead to one
        `request_completed`. After `free` it runs at once, on the caller's thread, without any connection.

        Never blocks for long. Raises RuntimeError when no thread can be had. Upstream: IORuntimeCtx_Schedule.
        """
        if self._freed:
            callback(self, data)
            return
        self.thread.start()
        if self.queue.push(callback, data):
            self._request_async.send()
        else:
            callback(self, data)

    def schedule_topology(self, topology: MRClusterTopology) -> None:
        """Have the topology applied. One that waits still is dropped. Does not start the thread.

        Never blocks. Upstream: IORuntimeCtx_Schedule_Topology.
        """
        if self._pending_topology.exchange(topology) is not None:
            self._topologies_dropped += 1
        self._topology_async.send()

    def request_completed(self) -> None:
        """A scheduled request has done all that it does. Thread: I/O. Upstream: IORuntimeCtx_RequestCompleted."""
        if not self._freed:
            self.queue.done()

    def holders_of_queued(self) -> Sequence[Holder]:
        """Who must act before a request that is still queued runs: the nodes that the gate waits for; the requests that
        fill the queue up to its limit; or just the I/O thread.
        """
        if not self.ready:
            missing = [f"shard {pool.endpoint}: not connected yet" for pool in self.manager.unconnected()]
            if missing:
                return missing
        elif self.queue.full:
            return [self.queue]
        task = self.task
        return [task] if task is not None else ["nobody: the I/O thread was not started"]

    # ---- requests

    def _wake(self) -> None:
        self._request_async.send()

    def _on_requests(self) -> None:
        if not self.ready:
            self._pending_items = True
            return
        self._run_requests()

    def _run_requests(self) -> None:
        pop = self.queue.pop
        while (item := pop()) is not None:
            item.callback(self, item.data)
        self.manager.context.flush_counts()

    # ---- resize

    def update_conn_pool_size(self, num: int, plan: ShrinkPlan, on_receipt: OnReceipt | None = None) -> None:
        """Resize every pool to `num` and the queue's limit with it. on_receipt: called exactly once.

        Thread: I/O (any while the thread is not started). May block: with drain "block-loop".
        Upstream: IORuntimeCtx_UpdateConnPoolSize.
        """

        def receipt_made(receipt: DrainReceipt) -> None:
            # The surplus may have been given back at the deadline.
            self.queue.set_max_pending(self.manager.num * PENDING_FACTOR)
            if on_receipt is not None:
                on_receipt(receipt)

        self.manager.resize(num, plan, receipt_made)
        self.queue.set_max_pending(self.manager.num * PENDING_FACTOR)

    # ---- topology and the gate

    def _on_topology(self) -> None:
        topology = self._pending_topology.exchange(None)
        if topology is not None and self.apply_topology(topology):
            self.ready = False
            self._validation_timer.start(0, VALIDATION_INTERVAL_MS * NS_PER_MS)
            if self._validation_timeout_ms:
                self._failure_timer.start(self._validation_timeout_ms * NS_PER_MS)

    def apply_topology(self, topology: MRClusterTopology) -> int:
        """Disconnect the nodes that left, add the others. Returns how many pools were created or rebuilt.

        Thread: I/O. Upstream: IORuntimeCtx_UpdateNodes, IORuntimeCtx_UpdateNodesAndConnectAll.
        """
        staying = {node.node_id for node in topology.nodes}
        for node_id in [node_id for node_id in self.manager.pools if node_id not in staying]:
            self.manager.disconnect(node_id)
        created = sum(self.manager.add(node.node_id, node.endpoint) for node in topology.nodes)
        # Commands go out in the topology's order.
        self.manager.pools = {node.node_id: self.manager.pools[node.node_id] for node in topology.nodes}
        self._topology = topology
        self._topologies_applied += 1
        what = f"{len(topology.nodes)} nodes, {created} of them new or rebuilt"
        self._rt.trace("uvUpdateTopologyRequest", "IORuntimeCtx.apply_topology", what)
        return created

    def _validate(self) -> None:
        if not self.manager.unconnected():
            self._open_gate()

    def _give_up_validation(self) -> None:
        missing = ", ".join(str(pool.endpoint) for pool in self.manager.unconnected())
        self._log(
            "warning",
            f"io {self.index}: no connection to {missing} within {self._validation_timeout_ms} ms; going on without",
        )
        self._open_gate()

    def _open_gate(self) -> None:
        self._validation_timer.stop()
        self._failure_timer.stop()
        self.ready = True
        if self._pending_items:
            self._pending_items = False
            self._request_async.send()

    # ---- the thread, and the end

    def _run(self) -> None:
        try:
            self.loop.run()
            self.loop.run_once(0)
        finally:
            self._tear_down()

    def _tear_down(self) -> None:
        self.manager.disconnect_all()
        self._freed = True
        left = self.queue.close()
        for item in left:
            item.callback(self, item.data)
        self.manager.context.flush_counts()
        for handle in (self._request_async, self._topology_async, self._shutdown_async):
            handle.close()
        for timer in (self._validation_timer, self._failure_timer):
            timer.close()
        self.loop.run_once(0)
        self.loop.close()

    def free(self, timeout_ns: int | None = None) -> bool:
        """End the thread, if there is one, and give everything up. True when it has ended; False on time-out.

        Idempotent. Blocks. A drain that blocks the I/O thread is called off. Raises RuntimeError on the I/O thread
        itself. Upstream: IORuntimeCtx_FireShutdown, IORuntimeCtx_Free.
        """
        if self.task is not None and self._rt.current() is self.task:
            raise RuntimeError(f"io {self.index} can't free itself")
        if self.thread.run_unless_started(self._free_unstarted):
            return True
        if not self.thread.wait_created():
            self._free_unstarted()
            return True
        self._shutdown_async.send()
        self.pending.supersede()
        if not self.thread.join(timeout_ns):
            return False
        task = self.task
        if task is not None and task.error is not None:
            self._log("warning", f"io {self.index} ended by an error: {task.error!r}")
        return True

    def _free_unstarted(self) -> None:
        if not self._freed:
            self._tear_down()

    def statistics(self) -> dict[str, dict[str, int]]:
        """Of the queue, the connections, the loop, and the runtime itself. Thread: any."""
        return {
            "runtime": {
                "ready": int(self.ready),
                "topologies_applied": self._topologies_applied,
                "topologies_dropped": self._topologies_dropped,
            },
            "queue": self.queue.statistics(),
            "connections": self.manager.statistics(),
            "loop": self.loop.statistics(),
        }

    def __repr__(self) -> str:
        return f"<IORuntimeCtx {self.index} {'ready' if self.ready else 'gate closed'} {self.queue!r} {self.manager!r}>"
