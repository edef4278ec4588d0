"""ConnWatch: whoever follows the last replies of connections that are being taken away.

Role: the interface between a connection (`coordemu.coord.conn`) and the shrink that awaits its replies
(`coordemu.coord.conn_shrink`), so that neither imports the other.

Thread: I/O. Upstream: none; upstream's shrink follows nothing. Left out: nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from coordemu.coord.conn import MRConn


class ConnWatch(Protocol):
    """Told about the connections whose `watch` it is. Thread: I/O."""

    def on_replies(self, conn: MRConn, drained: bool) -> None:
        """What had come was handed over, or what waited has failed, and it is counted. drained: that completed the
        armed drain."""
        ...

    def on_closed(self, conn: MRConn) -> None:
        """The connection has closed for good; no callback of it runs from now on. Told instead of `on_replies` when
        the last reply closed it."""
        ...
