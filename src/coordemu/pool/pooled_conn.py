"""PooledConn: one connection of a pool: what the dialer returned, its state machine, and where it is.

Role: what a pool is made of; a caller has it by a `ConnLoan`. The pool keeps its place (`Place`) under its own lock;
callers and workers move its state through the machine. A worker's hook that takes it says so (`claim`), and the pool,
which finds it UNUSABLE at its put, knows whose it is and lists it at the far end without a word; a state that nobody
owns up to is a fault and is said.

Thread: any. Upstream: Conn (internal/pool/conn.go). Left out: deadlines and buffers of the socket (they are the dialed
object's).
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from coordemu.pool import pool_faults
from coordemu.pool.conn_loan import ConnLoan
from coordemu.pool.conn_state_machine import States
from coordemu.pool.faulty_state_machine import make_state_machine
from coordemu.pool.handoff_record import HandoffRecord
from coordemu.pool.pool_conn_state import InvalidStateTransition, PoolConnState
from coordemu.pool.relaxed_timeout import RelaxedTimeout
from coordemu.runtime.base import Runtime, Task

CLAIMABLE: States = (PoolConnState.IN_USE, PoolConnState.IDLE, PoolConnState.CREATED)


class Resource(Protocol):
    """What a dialer returns: anything that can be closed."""

    def close(self) -> None: ...


class Place(Enum):
    """Where a connection of the pool is; exactly one holds."""

    HAND_OVER = "being handed over"
    IDLE_LIST = "in the idle list"
    HAND = "in a caller's hand"
    BORROWED = "borrowed by a drainer"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class ConnSnapshot:
    """A look at a connection. state: of the machine.  place: in the pool.  holder: the task that has it, or "".
    owned_by: the hook whose worker it is with, or "".  age_ns: since it was dialed.  unused_ns: since it was last used.
    """

    conn_id: int
    state: str
    place: str
    holder: str
    owned_by: str
    pooled: bool
    age_ns: int
    unused_ns: int


class PooledConn:
    """One connection. pooled: whether it may be listed again (extras beyond the pool's size may not)."""

    def __init__(
        self,
        rt: Runtime,
        conn_id: int,
        resource: Any,
        pool_name: str,
        pooled: bool,
        expires_ns: int | None,
        faults: AbstractSet[str],
    ) -> None:
        self.conn_id = conn_id
        self.name = f"{pool_name}#{conn_id}"
        self.resource = resource
        self.machine = make_state_machine(rt, self.name, faults)
        self.pooled = pooled
        self.created_ns = self.used_ns = rt.now_ns()
        self.expires_ns = expires_ns
        self.dial_ns = 0
        self.close_on_put = ""
        self.place = Place.HAND_OVER
        # Where it was when it was crossed out.
        self.left_from = Place.HAND_OVER
        self.holder: Task | None = None
        # The one that its caller has; None while no caller has it.
        self.loan: ConnLoan | None = None
        self.owned_by = ""
        self.claimed = False
        self.closes = 0
        self.removals_told = 0
        self._rt = rt
        self._faults = faults
        self._torn_down = False
        self._resource_lock = rt.lock(f"{self.name} resource")
        self.handoff = HandoffRecord(rt, self.name, faults)
        self.relaxed = RelaxedTimeout(rt, self.name)

    @property
    def state(self) -> PoolConnState:
        """Of its machine."""
        return self.machine.state

    def touch(self) -> None:
        """It was used just now. Thread: its holder's. Upstream: every read and write does this."""
        self.used_ns = self._rt.now_ns()

    def claim(self, owner: str, sources: States = CLAIMABLE) -> bool:
        """A hook takes it for its worker: any of `sources` -> UNUSABLE, owned by `owner`. False: it could not be had.

        Thread: the hook's, within OnPut (or a worker's). Upstream: MarkQueuedForHandoff, without an owner.
        """
        try:
            self.machine.try_transition(sources, PoolConnState.UNUSABLE)
        except InvalidStateTransition:
            return False
        self.owned_by = owner
        # Until the next caller takes it: the worker may be done before the put that it was claimed in.
        self.claimed = True
        return True

    def give_back(self) -> bool:
        """The worker is done with it: UNUSABLE or INITIALIZING -> IDLE. False: it was closed meanwhile. Thread: any."""
        self.owned_by = ""
        return self.machine.return_from_work()

    def close(self) -> bool:
        """Close the machine and what was dialed, once. True for the call that did. Raises what the resource raises.

        Thread: any. May block as long as the resource's close does. Upstream: Conn.Close.
        """
        first = self.machine.close()
        if pool_faults.TEARDOWN_SKIPPED in self._faults and not first:
            return False
        # Not by the machine's answer: a failed handshake has closed the machine already.
        with self._resource_lock:
            if self._torn_down:
                return False
            self._torn_down = True
            self.closes += 1
            resource = self.resource
        resource.close()
        return True

    def swap_resource(self, resource: Any) -> Any:
        """Put another in the place of what was dialed, and hand the old one out; whoever swaps closes that. When this
        was closed meanwhile the new one comes back instead.

        Thread: of who has it INITIALIZING. Upstream: SetNetConn.
        """
        with self._resource_lock:
            if self._torn_down:
                return resource
            old, self.resource = self.resource, resource
            return old

    def snapshot(self) -> ConnSnapshot:
        """A look at it. Thread: any. Never blocks."""
        now_ns = self._rt.now_ns()
        holder = self.holder
        return ConnSnapshot(
            self.conn_id,
            self.machine.state.value,
            self.place.value,
            holder.name if holder is not None else "",
            self.owned_by,
            self.pooled,
            now_ns - self.created_ns,
            now_ns - self.used_ns,
        )

    def __repr__(self) -> str:
        return f"<PooledConn {self.name!r} {self.machine!r} {self.place.value}>"
