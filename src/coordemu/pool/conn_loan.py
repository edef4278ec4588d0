"""ConnLoan: a connection in one caller's hand, from its get to its put: the ticket of that hand-out.

Role: what `ConnPool.get` returns, and what `put` and `remove` want back. A connection is lent out many times, a loan is
one of those times; the connection knows which loan it is out on. A second put of a loan that has ended is refused, also
when somebody else has the connection by then: that one has another loan. The identity of the object is the ticket, so
the check is one comparison, and nobody can come by a valid one but by a get.

Thread: its caller's; it may be passed on to another. Upstream: none; a Get there returns the connection itself, and
whoever has seen it once can put it. Left out: an end by itself; a loan that is dropped is a turn that is lost, as it is
there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coordemu.pool.pool_conn_state import PoolConnState
    from coordemu.pool.pooled_conn import PooledConn


class ConnLoan:
    """One hand-out. conn: of the pool; it stays the pool's, and outlives the loan."""

    __slots__ = ("conn",)

    def __init__(self, conn: PooledConn) -> None:
        self.conn = conn

    @property
    def resource(self) -> Any:
        """What the dialer returned: what commands go through."""
        return self.conn.resource

    @property
    def conn_id(self) -> int:
        """The connection's number in its pool."""
        return self.conn.conn_id

    @property
    def name(self) -> str:
        """The connection's."""
        return self.conn.name

    @property
    def state(self) -> PoolConnState:
        """The connection's; another's business once the loan has ended."""
        return self.conn.state

    @property
    def current(self) -> bool:
        """Whether it has not ended yet."""
        return self.conn.loan is self

    def __repr__(self) -> str:
        return f"<ConnLoan of {self.conn!r}{'' if self.current else ', ended'}>"
