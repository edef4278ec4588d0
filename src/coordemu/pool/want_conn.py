"""WantConn: a caller's wish for a connection whose dial is under way; and the queue of such wishes.

Role: a dial does not end with its caller. Who gives up leaves the dial to itself; its connection then goes to the first
in the queue who still waits, or into the idle list. Of delivery and giving up one comes first, decided by one
compare-and-swap: so either the caller has the connection, or whoever dialed it still has.

Thread: `deliver` the dial's, `cancel` and `wait` the caller's, the queue's methods any. Upstream: wantConn and
wantConnQueue (internal/pool/want_conn.go). Left out: the dial's context, which here is the pool's own (but for the
fault nil-context). Bound of the queue: wants that still wait, of which each has a turn: the pool's size; finished ones
are taken out when their dial ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from coordemu.pool.pool_context import PoolContext, park
from coordemu.pool.pooled_conn import PooledConn
from coordemu.runtime.base import Holder, Runtime


class Delivery(NamedTuple):
    """What a want got: a connection or an error; neither: its caller has given up.  from_dial: False for an error that
    is not its dial's, which then is still under way."""

    conn: PooledConn | None = None
    error: Exception | None = None
    from_dial: bool = True


GIVEN_UP = Delivery()


class WantConn:
    """One wish. name: of the caller.  owed_by: who dials, for the wait-for graph."""

    def __init__(self, rt: Runtime, name: str, owed_by: Callable[[], Sequence[Holder]]) -> None:
        self.name = name
        self._rt = rt
        self._delivery = rt.cell(_nothing(), f"delivery to {name}")
        # Read by the dial under the fault nil-context only.
        self.dial_ctx = rt.cell(True, f"dial context of {name}")
        self._event = rt.event(f"a connection for {name}", owed_by=owed_by)

    @property
    def done(self) -> bool:
        """Served, or given up."""
        return self._delivery.value is not None

    def deliver(self, conn: PooledConn | None, error: Exception | None = None, from_dial: bool = True) -> bool:
        """Serve the caller. False: it has been served, or has given up; then nothing was changed.

        Upstream: tryDeliver.
        """
        if not self._delivery.compare_exchange(None, Delivery(conn, error, from_dial)):
            return False
        self._event.set()
        return True

    def wait(self, ctx: PoolContext | None) -> Delivery | None:
        """Until it is served or the context ends; None then. May block, as long as the dial does."""
        park(self._rt, self._event, ctx, None)
        return self._delivery.value

    def cancel(self) -> Delivery:
        """Give up. What was delivered before, or GIVEN_UP. Upstream: cancel."""
        self.dial_ctx.value = False
        if self._delivery.compare_exchange(None, GIVEN_UP):
            self._event.set()
            return GIVEN_UP
        delivered = self._delivery.value
        return delivered if delivered is not None else GIVEN_UP

    def __repr__(self) -> str:
        return f"<WantConn of {self.name} {self._delivery!r}>"


def _nothing() -> Delivery | None:
    return None


class WantConnQueue:
    """The wishes whose dials are under way, in the order of their coming."""

    def __init__(self, rt: Runtime, name: str) -> None:
        self._lock = rt.lock(f"{name} wants")
        self._wants: deque[WantConn] = deque()
        self._longest = 0

    def enqueue(self, want: WantConn) -> None:
        """Append. Upstream: enqueue."""
        with self._lock:
            self._wants.append(want)
            self._longest = max(self._longest, len(self._wants))

    def dequeue(self) -> WantConn | None:
        """Take the first. Upstream: dequeue."""
        with self._lock:
            return self._wants.popleft() if self._wants else None

    def discard(self, want: WantConn) -> None:
        """Take this one out, wherever it is. Upstream: prunes finished ones at the front only."""
        with self._lock:
            if want in self._wants:
                self._wants.remove(want)

    def drop_front_done(self) -> int:
        """Take finished ones out, up to the first that still waits. How many. Upstream: discardDoneAtFront."""
        dropped = 0
        with self._lock:
            while self._wants and self._wants[0].done:
                self._wants.popleft()
                dropped += 1
        return dropped

    def serve_first(self, conn: PooledConn) -> bool:
        """Give the connection to the first who still waits. False: nobody does. Thread: any."""
        while (want := self.dequeue()) is not None:
            if want.deliver(conn):
                return True
        return False

    def fail_all(self, error: Exception) -> None:
        """Give every one who waits this error; the queue is empty afterwards. Thread: any."""
        while (want := self.dequeue()) is not None:
            want.deliver(None, error, from_dial=False)

    def __len__(self) -> int:
        return len(self._wants)

    @property
    def longest(self) -> int:
        """The most that it ever held."""
        return self._longest

    def __repr__(self) -> str:
        return f"<WantConnQueue {len(self._wants)} wants>"
