"""MRConnManager: the connection pools of one I/O runtime, one per node, all of the same size.

Role: the last but one link of the chain CONFIG SET WORKERS -> ... -> MR_UpdateConnPoolSize -> (I/O thread) -> Expand
or Shrink -> stop. It decides which connections exist. A topology update adds, rebuilds and removes pools; a resize
expands or shrinks all of them.

A shrink that drains takes time (`coordemu.coord.conn_shrink`), and the manager keeps its promises meanwhile:

* the surplus is hidden from the round robin, and stays in its pool, so that it is owned at any moment; with a plan that
  says so, Connected connections change places with others first, so that those that stay work;
* a node that is added gets the new size;
* any other resize, and any topology update that changes something, supersedes the drain. A larger size takes back as
  much of the surplus as it wants, and the rest is stopped gracefully. The same or a smaller size takes the surplus
  over into the new shrink: its plan, its deadline, its receipt. A topology update stops the surplus at once, gracefully
  too: it awaits its replies, and loses none;
* only one shrink drains at a time, but several may be stopping: their connections await their last replies, and
  `disconnect_all` closes these too.

Every `resize` makes exactly one receipt, also one that grows the pools or changes nothing ("nothing-pending", nothing
stopped). `on_receipt` may resize again; a reply callback must not (it may run in the middle of a stop): it schedules.

Thread: I/O (any, before the loop runs); `fill_state_dict` and `statistics` any. Upstream: MRConnManager,
src/coord/rmr/conn.c. Left out: MRConnManager_ConnectAll (connections begin to connect when they are made). Bound:
nodes x (size + surplus).
"""

from __future__ import annotations

from collections.abc import Callable

from coordemu.coord.conn import MRConn
from coordemu.coord.conn_context import ConnContext
from coordemu.coord.conn_options import ConnOptions
from coordemu.coord.conn_pool import MRConnPool, check_num
from coordemu.coord.conn_shrink import ConnShrink, nothing_stopped
from coordemu.coord.drain_receipt import DrainReceipt
from coordemu.coord.endpoint import MREndpoint
from coordemu.coord.shrink_plan import ShrinkPlan
from coordemu.native import PendingTable
from coordemu.runtime.base import Loop, Runtime

OnReceipt = Callable[[DrainReceipt], object]

_AT_ONCE = ShrinkPlan()


class MRConnManager:
    """Pools by node id."""

    def __init__(
        self,
        rt: Runtime,
        loop: Loop,
        options: ConnOptions,
        pending: PendingTable,
        conns_per_node: int,
        log: Callable[[str, str], None],
        io_runtime: int = 0,
    ) -> None:
        """conns_per_node: 1 or more, else ValueError.  log: called with level and line.  io_runtime: which one, for
        receipts."""
        self.context = ConnContext(rt, loop, options, pending, log)
        self.pools: dict[str, MRConnPool] = {}
        self.num = check_num(conns_per_node)
        self._rt = rt
        self._io_runtime = io_runtime
        self._draining: ConnShrink | None = None
        # Rows of the pending table, dense, so that it stays small: freed ones are used again.
        self._free_rows: list[int] = []
        self._next_row = 0
        self._expands = self._shrinks = self._superseded = 0

    # ---- topology

    def add(self, node_id: str, endpoint: MREndpoint) -> bool:
        """Have a pool for this node. False when there is one with the same endpoint, which is left alone; else it is
        (re)built: True.

        The connections of a replaced pool are stopped gracefully. Upstream: MRConnManager_Add.
        """
        pool = self.pools.get(node_id)
        if pool is not None and pool.endpoint == endpoint:
            return False
        self._supersede_for_topology()
        if pool is not None:
            self._give_up(pool, "graceful")
        row = self._free_rows.pop() if self._free_rows else self._take_row()
        self.pools[node_id] = MRConnPool(self.context, node_id, endpoint, row, self.num)
        return True

    def _take_row(self) -> int:
        self._next_row += 1
        return self._next_row - 1

    def disconnect(self, node_id: str, stop: str = "graceful") -> bool:
        """Remove a node's pool and stop its connections. False when there is none. Upstream:
        MRConnManager_Disconnect."""
        pool = self.pools.get(node_id)
        if pool is None:
            return False
        self._supersede_for_topology()
        del self.pools[node_id]
        self._give_up(pool, stop)
        return True

    def disconnect_all(self, reason: str = "the I/O runtime is shut down") -> None:
        """Remove every pool and close every connection, also those that await replies: their callbacks run with the
        reason.

        A drain under way is superseded; every shrink makes its receipt. Upstream: MRConnManager_Stop; its graceful
        disconnect followed by the end of the loop leaves callbacks unrun, here they fail.
        """
        self._supersede_for_topology()
        for node_id in list(self.pools):
            self.disconnect(node_id)
        for conn in list(self.context.closing):
            conn.cut(reason)

    def _give_up(self, pool: MRConnPool, stop: str) -> None:
        conns = pool.empty()
        self._free_rows.append(pool.node)
        what = f"{pool.endpoint}: {len(conns)} connections, {stop}, the node leaves"
        self._rt.trace("MRConn_Stop", "MRConn.stop", what)
        for conn in conns:
            conn.stop(stop)
        self.context.forget(pool.endpoint)

    def _supersede_for_topology(self) -> None:
        if self._draining is not None:
            self._superseded += 1
            self._draining.supersede(self.num)

    # ---- use

    def get(self, node_id: str) -> MRConn | None:
        """A Connected connection of this node, by round robin; None when there is none. Upstream: MRConn_Get."""
        pool = self.pools.get(node_id)
        return None if pool is None else pool.get()

    def unconnected(self) -> list[MRConnPool]:
        """Pools without a single Connected connection. Thread: any."""
        return [pool for pool in tuple(self.pools.values()) if not pool.connected]

    # ---- resize

    def resize(self, num: int, plan: ShrinkPlan = _AT_ONCE, on_receipt: OnReceipt | None = None) -> None:
        """Expand or shrink, whichever leads to `num` connections per node (1 or more, else ValueError and nothing
        changes).

        on_receipt: called exactly once, now or when the shrink has ended. May block: with drain "block-loop".
        Upstream: the choice in IORuntimeCtx_UpdateConnPoolSize.
        """
        if check_num(num) < self.num or (num == self.num and self._draining is not None):
            self.shrink(num, plan, on_receipt)
            return
        before, started_ns = self.num, self._rt.now_ns()
        self.expand(num)
        if on_receipt is not None:
            on_receipt(nothing_stopped(before, num, started_ns, self._rt.now_ns(), self._io_runtime))

    def expand(self, num: int) -> int:
        """Have `num` connections per node; a drain under way is superseded, its surplus taken back first. Returns how
        many were created.

        Raises ValueError, and changes nothing, when num is below the present number. Upstream: MRConnManager_Expand.
        """
        if num < self.num:
            raise ValueError(f"expand to {num}: there are {self.num} connections per node")
        if num == self.num and self._draining is None:
            return 0
        self._expands += 1
        what = f"{self.num} -> {num} on {len(self.pools)} nodes"
        self._rt.trace("MRConnManager_Expand", "MRConnManager.expand", what)
        draining = self._draining
        self.give_back(num)
        if draining is not None:
            self._superseded += 1
            draining.supersede(num)
        return sum(pool.grow(num) for pool in self.pools.values())

    def shrink(self, num: int, plan: ShrinkPlan = _AT_ONCE, on_receipt: OnReceipt | None = None) -> ConnShrink:
        """Take connections num.. of every node away, as the plan says. The round robin no longer sees them when this
        returns.

        num: 1 or more, and not more than the present number, else ValueError and nothing changes. A drain under way
        is superseded, and what it hid becomes surplus of this shrink. on_receipt: called exactly once. May block:
        with drain "block-loop", for the plan's timeout. Upstream: MRConnManager_Shrink.
        """
        if check_num(num) > self.num:
            raise ValueError(f"shrink to {num}: there are {self.num} connections per node")
        self._shrinks += 1
        before = self.num
        if self._draining is not None:
            self._superseded += 1
            before = self._draining.num_from
            self._draining.supersede(before)
        self.num = num
        for pool in self.pools.values():
            if plan.stay == "connected":
                pool.prefer_connected(num)
            pool.hide(num)
        shrink = ConnShrink(
            self.context, self, list(self.pools.values()), plan, before, num, self._io_runtime, on_receipt
        )
        self._draining = shrink
        shrink.begin()
        return shrink

    def begin_shrink(self, num: int, plan: ShrinkPlan, on_receipt: OnReceipt | None = None) -> ConnShrink:
        """`shrink` for drain "yield": hides the surplus and leaves the waiting to the main thread. ValueError for
        another drain."""
        if plan.drain != "yield":
            raise ValueError(f"begin_shrink is for drain 'yield', not {plan.drain!r}")
        return self.shrink(num, plan, on_receipt)

    def finish_shrink(self, polls: int = 0) -> bool:
        """The main thread has waited: stop the surplus, or do what the plan says when replies are still outstanding.

        polls: how often main looked. False when no yield drain is under way (it was superseded).
        """
        return self._draining is not None and self._draining.finish(polls)

    def abandon_shrink(self) -> bool:
        """The main thread gives the drain up: the surplus goes back to the round robin. False as in `finish_shrink`."""
        return self._draining is not None and self._draining.abandon()

    @property
    def draining(self) -> ConnShrink | None:
        """The shrink that awaits replies now."""
        return self._draining

    def drain_ended(self, shrink: ConnShrink) -> None:
        """See `ShrinkOwner`."""
        if self._draining is shrink:
            self._draining = None

    def give_back(self, num: int) -> None:
        """See `ShrinkOwner`: the hidden connections below `num` are in the round robin again."""
        self.num = num
        for pool in self.pools.values():
            pool.show(num)

    # ---- what others ask

    def fill_state_dict(self, states: dict[str, list[str]]) -> None:
        """Append the state names of every pool to `states["host:port"]`; the surplus is shown too. Thread: any.

        Upstream: MRConnManager_FillStateDict.
        """
        for pool in tuple(self.pools.values()):
            states.setdefault(str(pool.endpoint), []).extend(pool.states())

    def statistics(self) -> dict[str, int]:
        """nodes, num, connections (owned, connected, closing), outstanding, expands, shrinks, superseded, draining.
        Thread: any."""
        pools = [pool.statistics() for pool in tuple(self.pools.values())]
        return {
            "nodes": len(pools),
            "num": self.num,
            "owned": sum(pool["owned"] for pool in pools),
            "connected": sum(pool["connected"] for pool in pools),
            "closing": len(self.context.closing),
            "outstanding": sum(pool["outstanding"] for pool in pools),
            "expands": self._expands,
            "shrinks": self._shrinks,
            "superseded": self._superseded,
            "draining": int(self._draining is not None),
        }

    def __repr__(self) -> str:
        draining = f" draining {self._draining.num_from} -> {self._draining.num_to}" if self._draining else ""
        return f"<MRConnManager {len(self.pools)} nodes num={self.num} closing={len(self.context.closing)}{draining}>"
