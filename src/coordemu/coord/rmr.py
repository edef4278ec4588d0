"""MRCtx: one fan-out: a command to every shard, its replies gathered, one completion.

Role: what a query holds while it waits. `fanout` schedules it on an I/O runtime; there the packed command goes to one
connection of every node, and each reply calls `_on_reply`. `expected` is the number of sends that succeeded: nodes
without a connection are not waited for (they stand in `unsent`), and with no send at all the fan-out completes at
once. The last reply marks the request completed on the work queue and calls `on_complete`; the reducer then runs
wherever its owner calls `reduce`, on main in this project as upstream.

*Waiting.* A fan-out is a `Waitable`: its holders are the connections that owe it a reply (all are needed), or, while
it is queued, whoever keeps the queue from moving. So a chain of waits goes main -> query -> connection -> shard, or
-> nobody. Nothing is kept per reply for that: a connection is asked whether this fan-out's callback is still in its
FIFO.

Thread: `fanout`, `holders` any; the rest I/O, and whoever was told of the completion after it. Upstream: MRCtx,
MR_Fanout, fanoutCallback (src/coord/rmr/rmr.c), MRCluster_FanoutCommand (cluster.c). Left out: MR_Map with a command
per shard, iterators and cursors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from coordemu.coord.cluster import MRCluster
from coordemu.coord.conn import MRConn
from coordemu.coord.io_runtime_ctx import IORuntimeCtx
from coordemu.runtime.base import Holder

NO_CONNECTION = "no connection to any shard"
NOT_EVERY_NODE = "not every shard has a connection"


class MRCtx:
    """A fan-out under way or completed.

    expected: sends that succeeded.  replied: replies that are no errors, kept in `replies` in the order of their
    arrival. errored: error replies, and replies that can't come any more; their texts are in `errors`.  unsent: ids
    of nodes without a connection. completed: True before `on_complete` runs.  A fan-out that sent nothing has its
    reason in `errors`, and errored is 0.
    """

    __slots__ = (
        "_on_complete", "_reducer", "_require_all", "_sent_to", "_started", "command", "completed", "errored", "errors",
        "expected", "io_runtime", "label", "replied", "replies", "unsent",
    )  # fmt: skip

    def __init__(
        self,
        io_runtime: IORuntimeCtx,
        command: bytes,
        on_complete: Callable[[MRCtx], object],
        label: str,
        require_all: bool,
        reducer: Callable[[MRCtx], Any] | None,
    ) -> None:
        """Made by `fanout`. Thread: any."""
        self.label = label
        self.command = command
        self.io_runtime = io_runtime
        self.expected = self.replied = self.errored = 0
        self.replies: list[Any] = []
        self.errors: list[str] = []
        self.unsent: list[str] = []
        self.completed = False
        self._on_complete = on_complete
        self._require_all = require_all
        self._reducer = reducer
        self._sent_to: list[MRConn] = []
        self._started = False

    def start(self) -> None:
        """Send to every node. Thread: I/O. Upstream: MRCluster_FanoutCommand."""
        pools = self.io_runtime.manager.pools
        if self._require_all:
            self.unsent = [node_id for node_id, pool in pools.items() if not pool.connected]
            if self.unsent:
                self._started = True
                self.errors.append(NOT_EVERY_NODE)
                self._complete()
                return
        command, on_reply, sent_to = self.command, self._on_reply, self._sent_to
        for node_id, pool in pools.items():
            conn = pool.get()
            if conn is not None and conn.send_command(command, on_reply):
                sent_to.append(conn)
            else:
                self.unsent.append(node_id)
        self.expected = len(sent_to)
        self._started = True
        self.io_runtime.queue.under_way[self] = None
        if not sent_to:
            self.errors.append(NO_CONNECTION)
            self._complete()

    def _on_reply(self, reply: Any, error: str | None) -> None:
        if error is None:
            self.replied += 1
            self.replies.append(reply)
        else:
            self.errored += 1
            self.errors.append(error)
        if self.replied + self.errored == self.expected:
            self._complete()

    def _complete(self) -> None:
        self.io_runtime.queue.under_way.pop(self, None)
        self.io_runtime.request_completed()
        self._sent_to = []
        self.completed = True
        self._on_complete(self)

    def reduce(self) -> Any:
        """Run the reducer on this context, which must be completed (else RuntimeError); None without a reducer.

        Thread: the owner's choice, upstream's main. May block: as the reducer does. Upstream: the reducer called from
        unblockHandler.
        """
        if not self.completed:
            raise RuntimeError(f"{self.name}: not completed")
        return None if self._reducer is None else self._reducer(self)

    @property
    def name(self) -> str:
        """ "query <name>: replies". Thread: any."""
        return f"query {self.label}: replies"

    def holders(self) -> Sequence[Holder]:
        """Who must act before it completes; all of them must. Thread: any."""
        if self.completed:
            return []
        if not self._started:
            return self.io_runtime.holders_of_queued()
        return [conn for conn in tuple(self._sent_to) if conn.owes(self._on_reply)]

    def __repr__(self) -> str:
        state = "completed" if self.completed else "sent" if self._started else "queued"
        return f"<MRCtx {self.label} {state} replied={self.replied} errored={self.errored} of {self.expected}>"


def _start(_io_runtime: IORuntimeCtx, ctx: MRCtx) -> None:
    ctx.start()


def fanout(
    cluster: MRCluster,
    command: bytes,
    on_complete: Callable[[MRCtx], object],
    *,
    name: str | None = None,
    require_all: bool = False,
    reducer: Callable[[MRCtx], Any] | None = None,
) -> MRCtx:
    """Send a packed command to every node, over an I/O runtime chosen round robin.

    command: as `coordemu.coord.conn_handshake.pack_command` makes it, packed once for all nodes.  on_complete: called
    once with the context, on the I/O thread (on the caller's, when the cluster was freed).  name: for the wait-for
    graph; None: a number.  require_all: send nothing unless every node has a connection.  reducer: see
    `MRCtx.reduce`. Thread: any. Never blocks for long. Raises RuntimeError when the I/O thread can't be started.
    Upstream: MR_Fanout.
    """
    label = name if name is not None else str(cluster.next_request_number())
    ctx = MRCtx(cluster.next_io_runtime(), command, on_complete, label, require_all, reducer)
    ctx.io_runtime.schedule(_start, ctx)
    return ctx
