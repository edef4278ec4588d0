"""PoolListener: told of what happens in a pool while it happens; PoolCounts: the listener that adds it up.

Role: statistics are looked at from time to time, a listener is called: for histograms, for a metrics system, for a test
that asks in which order things were. Each call says one thing: a connection was made ready (and how long its dial and
handshake took), a caller had its turn (and how long it stood in line for it; the dial is not in that), a caller's
time was up, a connection was closed (and why), one more or one less is idle or in use.

The counts add up: at rest, the sum of the changes is what there is. A change is told after it was made, by who made it
and outside all locks; what two tasks do at once may be told in either order.

Thread: the caller's, of get, put, or whoever dials or removes. Upstream: the metric callbacks of internal/pool/pool.go.
Left out: OpenTelemetry. What a listener raises is logged and goes no further. Bound: one listener per pool.
"""

from __future__ import annotations

from typing import Protocol

from coordemu.pool.conn_dialer import Log
from coordemu.pool.pooled_conn import Place, PooledConn
from coordemu.runtime.base import Runtime

IDLE, USED = "idle", "used"


class PoolListener(Protocol):
    """What can be listened to."""

    def created(self, conn: PooledConn, took_ns: int) -> None:
        """A connection is ready for its first caller. took_ns: its dial and its handshake, not what lay between."""
        ...

    def waited(self, waited_ns: int) -> None:
        """A caller has a turn. waited_ns: in line, 0 for who did not stand there; the dial comes after it."""
        ...

    def timed_out(self, waited_ns: int) -> None:
        """A caller had no turn, or no connection from a drainer, within the pool's time-out."""
        ...

    def closed(self, conn: PooledConn, reason: str) -> None:
        """A connection has left the pool and is about to be closed, for this reason."""
        ...

    def counted(self, state: str, change: int) -> None:
        """One more (1) or less (-1) is IDLE or USED."""
        ...


class PlainListener:
    """A listener that does nothing; to derive from."""

    def created(self, conn: PooledConn, took_ns: int) -> None:
        """Nothing."""

    def waited(self, waited_ns: int) -> None:
        """Nothing."""

    def timed_out(self, waited_ns: int) -> None:
        """Nothing."""

    def closed(self, conn: PooledConn, reason: str) -> None:
        """Nothing."""

    def counted(self, state: str, change: int) -> None:
        """Nothing."""


class PoolCounts(PlainListener):
    """A listener that adds up; one may listen to several pools."""

    def __init__(self, rt: Runtime, name: str = "pool") -> None:
        self._lock = rt.lock(f"{name} listener")
        self._sums = dict.fromkeys(
            ("created", "create_ns", "turns", "wait_ns", "longest_wait_ns", "timeouts", "closed", IDLE, USED), 0
        )
        self._reasons: dict[str, int] = {}

    def created(self, conn: PooledConn, took_ns: int) -> None:
        """Count it."""
        with self._lock:
            self._sums["created"] += 1
            self._sums["create_ns"] += took_ns

    def waited(self, waited_ns: int) -> None:
        """Count it."""
        with self._lock:
            self._sums["turns"] += 1
            self._sums["wait_ns"] += waited_ns
            self._sums["longest_wait_ns"] = max(self._sums["longest_wait_ns"], waited_ns)

    def timed_out(self, waited_ns: int) -> None:
        """Count it."""
        with self._lock:
            self._sums["timeouts"] += 1

    def closed(self, conn: PooledConn, reason: str) -> None:
        """Count it."""
        with self._lock:
            self._sums["closed"] += 1
            self._reasons[reason] = self._reasons.get(reason, 0) + 1

    def counted(self, state: str, change: int) -> None:
        """Count it."""
        with self._lock:
            self._sums[state] += change

    def statistics(self) -> dict[str, int]:
        """created and create_ns; turns, wait_ns and longest_wait_ns; timeouts; closed; idle and used, now. Thread:
        any."""
        with self._lock:
            return dict(self._sums)

    def reasons(self) -> dict[str, int]:
        """How many were closed, by reason. Thread: any."""
        with self._lock:
            return dict(sorted(self._reasons.items()))

    def __repr__(self) -> str:
        return f"<PoolCounts {self._sums['created']} created, {self._sums['closed']} closed>"


class Teller:
    """Tells one listener, and keeps the pool from what it raises."""

    def __init__(self, listener: PoolListener, log: Log, name: str) -> None:
        self.name = name
        self._listener = listener
        self._log = log

    def tell(self, what: str, *about: object) -> None:
        """Call its method of that name. Thread: any, outside all locks."""
        try:
            getattr(self._listener, what)(*about)
        except Exception as error:
            self._log("warning", f"{self.name}: a listener failed at {what}: {error}")

    def taken(self) -> None:
        """An idle one is in use."""
        self.tell("counted", IDLE, -1)
        self.tell("counted", USED, 1)

    def given_back(self, listed: bool) -> None:
        """One is not in use any more. listed: it is idle."""
        self.tell("counted", USED, -1)
        if listed:
            self.tell("counted", IDLE, 1)

    def removed(self, conn: PooledConn, reason: str) -> None:
        """It was crossed out, from where `left_from` says."""
        if conn.left_from is Place.IDLE_LIST:
            self.tell("counted", IDLE, -1)
        elif conn.left_from in (Place.HAND, Place.BORROWED):
            self.tell("counted", USED, -1)
        self.tell("closed", conn, reason)

    def __repr__(self) -> str:
        return f"<Teller of {self.name!r}>"
