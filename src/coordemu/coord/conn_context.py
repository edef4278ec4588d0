"""ConnContext: what all connections of one I/O runtime share.

Role: the connections' way to their surroundings, so that each of them holds one reference instead of eight: the loop,
the options, the log, and the shared count of outstanding replies.

*Counting.* The I/O thread knows what is outstanding from the connections' own FIFOs. Other threads, and a drain's
gate, read `PendingTable`. The table is told in batches: a send only marks its connection dirty, and the dirty ones
are counted when the callback of the loop that sent on them ends (`flush_counts`); replies are counted once per batch
read. So the table is exact whenever the I/O thread is not inside one of its callbacks.

*Inboxes.* A connection has an inbox (`ReplyInbox`) only while it awaits a reply or holds a part of one; those that
nobody needs at the moment wait here.

Thread: I/O. Upstream: none of its own; hiredis' `replies` and `sub.replies` stand for the counts. Left out: nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from coordemu.coord.conn_options import ConnOptions
from coordemu.coord.endpoint import MREndpoint
from coordemu.coord.reply_fifo import ReplyInbox
from coordemu.native import PendingTable
from coordemu.runtime.base import NS_PER_S, Loop, Runtime

if TYPE_CHECKING:
    from coordemu.coord.conn import MRConn

LOG_INTERVAL_NS = 60 * NS_PER_S
SPARE_INBOXES = 64


class ConnContext:
    """Loop, options, log and counts of one I/O runtime's connections."""

    __slots__ = (
        "_log", "_logged_ns", "closing", "dirty", "handed", "loop", "options", "pending", "rt", "spare_inboxes",
    )  # fmt: skip

    def __init__(
        self, rt: Runtime, loop: Loop, options: ConnOptions, pending: PendingTable, log: Callable[[str, str], None]
    ) -> None:
        """pending: this I/O runtime's table.  log: called with level and line. Thread: any."""
        self.rt = rt
        self.loop = loop
        self.options = options
        self.pending = pending
        # Connections that sent since the last flush. Bound: connections x batches in one callback.
        self.dirty: list[MRConn] = []
        # Stopped, but not closed yet, in the order of stopping: they still await replies. Nothing else refers to them.
        self.closing: dict[MRConn, None] = {}
        # Empty ones. Each may keep a buffer of 16 KiB.
        self.spare_inboxes: deque[ReplyInbox] = deque(maxlen=SPARE_INBOXES)
        # Replies and confirmations that callbacks were given, of all connections.
        self.handed = 0
        self._log = log
        # Bound: endpoints in use x 2 kinds of trouble.
        self._logged_ns: dict[tuple[MREndpoint, str], int] = {}

    def flush_counts(self) -> None:
        """Tell the table what was sent. Thread: I/O, at the end of each callback that may have sent."""
        count = self.pending.count
        for conn in self.dirty:
            if sent := conn.uncounted:
                conn.uncounted = 0
                count(conn.node, conn.index, sent)
        self.dirty.clear()

    def log(self, level: str, line: str) -> None:
        """Log a line. Thread: any."""
        self._log(level, line)

    def log_rarely(self, endpoint: MREndpoint, kind: str, line: str) -> None:
        """Log a warning, at most one of this kind per endpoint and minute: all its connections fail together, again
        and again.

        Thread: I/O.
        """
        now_ns = self.rt.now_ns()
        last_ns = self._logged_ns.get((endpoint, kind))
        if last_ns is None or now_ns - last_ns >= LOG_INTERVAL_NS:
            self._logged_ns[endpoint, kind] = now_ns
            self._log("warning", line)

    def forget(self, endpoint: MREndpoint) -> None:
        """The endpoint is gone; should it come back, its troubles are worth a line again. Thread: I/O."""
        for key in [key for key in self._logged_ns if key[0] == endpoint]:
            del self._logged_ns[key]

    def __repr__(self) -> str:
        counts = f"handed={self.handed} dirty={len(self.dirty)} closing={len(self.closing)}"
        return f"<ConnContext {self.pending.name!r} {counts}>"
