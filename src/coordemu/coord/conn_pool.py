"""MRConnPool: the connections to one node, and whose turn it is.

Role: between the connection manager, which has one pool per node, and the connections. `num` of them take part in the
round robin. The list may be longer: what lies beyond `num` is the surplus of a shrink under way, hidden from `get`,
but still owned by the pool, so that nothing is leaked if the topology changes in the meantime.

Thread: I/O. Upstream: MRConnPool, src/coord/rmr/conn.c. Left out: nothing. Bound: `num`, plus the surplus of one
shrink.
"""

from __future__ import annotations

from coordemu.coord.conn import MRConn
from coordemu.coord.conn_context import ConnContext
from coordemu.coord.conn_state import ConnState
from coordemu.coord.endpoint import MREndpoint

CONNECTED = ConnState.CONNECTED


class MRConnPool:
    """One node's connections."""

    __slots__ = ("_context", "conns", "endpoint", "node", "node_id", "num", "rr")

    def __init__(self, context: ConnContext, node_id: str, endpoint: MREndpoint, node: int, num: int) -> None:
        """Create `num` connections (1 or more, else ValueError), which begin to connect.

        node: the pool's row in the pending table. Upstream: _MR_NewConnPool.
        """
        self._context = context
        self.node_id = node_id
        self.endpoint = endpoint
        self.node = node
        self.rr = 0
        self.conns: list[MRConn] = []
        self.num = check_num(num)
        self.grow(num)

    def get(self) -> MRConn | None:
        """The next Connected connection: up to `num` tries, each of which moves the round robin on. None when there
        is none.

        Upstream: MRConnPool_Get.
        """
        conns, num = self.conns, self.num
        for _ in range(num):
            conn = conns[self.rr]
            self.rr = (self.rr + 1) % num
            if conn.state is CONNECTED:
                return conn
        return None

    def grow(self, num: int) -> int:
        """Have `num` connections in the round robin, creating those that are missing. Returns how many were created."""
        created = max(0, num - len(self.conns))
        for index in range(len(self.conns), num):
            self.conns.append(MRConn(self._context, self.endpoint, self.node, index))
        self.num = num
        return created

    def hide(self, num: int) -> None:
        """Leave only the first `num` (1 or more, else ValueError) in the round robin; the rest becomes the surplus.

        Upstream: the first half of MRConnManager_Shrink's loop body.
        """
        self.num = check_num(num)
        self.rr %= num

    def prefer_connected(self, num: int) -> int:
        """Before `hide`: have Connected connections among the first `num` as far as there are any. Returns how many
        changed places.

        Both of a pair get the other's place in the list and in the pending table. Not while a drain is armed.
        """
        self._context.flush_counts()
        idle = [conn for conn in self.conns[:num] if conn.state is not CONNECTED]
        ready = [conn for conn in self.conns[num:] if conn.state is CONNECTED]
        pairs = list(zip(idle, ready, strict=False))
        for first, second in pairs:
            self._change_places(first, second)
        return len(pairs)

    def _change_places(self, first: MRConn, second: MRConn) -> None:
        pending = self._context.pending
        owed = [(conn, pending.replies(self.node, conn.index), pending.sub_replies(self.node, conn.index))
                for conn in (first, second)]  # fmt: skip
        for conn, _, _ in owed:
            pending.detach(self.node, conn.index)
        first.index, second.index = second.index, first.index
        for conn, replies, sub_replies in owed:
            self.conns[conn.index] = conn
            pending.attach(self.node, conn.index)
            pending.set_connected(self.node, conn.index, connected=conn.state is CONNECTED)
            if replies or sub_replies:
                pending.count(self.node, conn.index, replies, sub_replies)

    def show(self, num: int) -> None:
        """Take hidden connections back into the round robin, up to `num` in all; none is created."""
        self.num = max(self.num, min(num, len(self.conns)))

    @property
    def surplus(self) -> list[MRConn]:
        """The hidden connections."""
        return self.conns[self.num :]

    def cut(self, keep: int) -> list[MRConn]:
        """Take all but the first `keep` out of the pool; the caller stops them. Never cuts into the round robin."""
        keep = max(keep, self.num)
        gone = self.conns[keep:]
        del self.conns[keep:]
        return gone

    def empty(self) -> list[MRConn]:
        """Take all out, for a pool that is given up; the caller stops them."""
        gone, self.conns, self.num, self.rr = self.conns, [], 0, 0
        return gone

    @property
    def connected(self) -> bool:
        """Whether `get` would find one; does not move the round robin."""
        return any(conn.state is CONNECTED for conn in self.conns[: self.num])

    def states(self) -> list[str]:
        """State names, the surplus included: a leak would be seen here. Thread: any."""
        return [conn.state.value for conn in tuple(self.conns)]

    def statistics(self) -> dict[str, int]:
        """num, rr, connections owned, connected, outstanding replies. Thread: any."""
        conns = tuple(self.conns)
        return {
            "num": self.num,
            "rr": self.rr,
            "owned": len(conns),
            "connected": sum(conn.state is CONNECTED for conn in conns),
            "outstanding": sum(conn.outstanding for conn in conns),
        }

    def __repr__(self) -> str:
        hidden = len(self.conns) - self.num
        return f"<MRConnPool {self.node_id} {self.endpoint} num={self.num} rr={self.rr} hidden={hidden}>"


def check_num(num: int) -> int:
    """`num` when it is 1 or more; else ValueError: upstream's `rr % num` would divide by zero. Thread: any."""
    if num < 1:
        raise ValueError(f"a node needs at least 1 connection, not {num}")
    return num
