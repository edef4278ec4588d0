"""EmbeddedShard: a RESP server that is one shard, written over the runtime's loop.

Role: the far end of the coordinator's connections. It answers over whatever transports its loop offers, so the same
code serves real sockets in a process of its own (`coordemu.shards.shard_process`) and simulated ones beside the
coordinator. It holds the listener, the connections, the store, and the fault plan; connections do the talking.

Due replies of all connections share one heap and one timer: at most one entry per connection, so 1,000 connections that
wait cost one timer.

A kill ends connections, and with them what they waited for and listened to. The keys stay, with their expiry, as if all
had been on disk: a shard that comes back knows what it knew.

Thread: the loop's, for everything (or any, while the loop does not run). Upstream: a shard of the cluster. Left out:
losing data, memory limits (the store and the number of connections have no bound but the process's), TLS.
"""

from __future__ import annotations

import heapq
import os
import stat
from collections.abc import Callable

from coordemu.runtime.base import NS_PER_MS, Address, Listener, Loop, Runtime, Timer, Transport, TransportHandler
from coordemu.shards.blocked_clients import BlockedClients
from coordemu.shards.fault_plan import NO_FAULTS, FaultPlan
from coordemu.shards.shard_connection import ShardConnection
from coordemu.shards.shard_values import Keyspace
from coordemu.shards.subscriptions import Subscriptions

RELISTEN_DELAY_MS = 50


class EmbeddedShard:
    """One shard. It listens from `start` to `stop`, and can be started again at the same address.

    rt, loop: where it lives.  address: where to listen; port 0 finds a free port once and keeps it.  faults: from the
    start on.  password: None for none.
    """

    def __init__(
        self,
        rt: Runtime,
        loop: Loop,
        address: Address | None = None,
        faults: FaultPlan = NO_FAULTS,
        password: str | None = None,
    ) -> None:
        self.loop = loop
        self.keyspace = Keyspace(rt.now_ns)
        self.store: dict[bytes, bytes] = self.keyspace.strings
        self.blocked = BlockedClients(self.keyspace, self._make_wait_timer)
        self.subscriptions = Subscriptions()
        self.commands = self.answered = self.protocol_errors = 0
        self.active = NO_FAULTS
        self.plain = True
        self.now_ns = rt.now_ns
        self.random = rt.random.random
        self._address = address if address is not None else Address()
        self._faults = faults
        self._password = None if password is None else password.encode()
        self._faults_set_ns = 0
        self._up = False
        self._listener: Listener | None = None
        # In the order of their coming: a set is walked in an order of its own in every process.
        self._connections: dict[ShardConnection, None] = {}
        self._accepted = self._refused = self._listen_failures = 0
        self._due: list[tuple[int, int, ShardConnection]] = []
        self._due_entries = 0  # breaks ties, first come first
        self._due_timer: Timer | None = None
        self._armed_ns: int | None = None
        self._span_timer: Timer | None = None

    def __repr__(self) -> str:
        state = "up" if self._up else "down"
        return f"<EmbeddedShard {self._address} {state} connections={len(self._connections)} faults={self._faults}>"

    @property
    def address(self) -> Address:
        """Where it listens, with the port that was found."""
        return self._address

    @property
    def password(self) -> bytes | None:
        """What AUTH must give; None when there is none."""
        return self._password

    @property
    def faults(self) -> FaultPlan:
        """The plan as it was set; `active` is what holds of it now."""
        return self._faults

    @property
    def up(self) -> bool:
        """Whether it was started and not stopped (its port may be closed all the same, by the plan)."""
        return self._up

    def start(self) -> Address:
        """Listen, and begin with the plan. Returns the address. Does nothing when up.

        Raises OSError when the address can't be had. Thread: the loop's. May block: no.
        """
        if self._up:
            return self._address
        self._open_listener()
        self._due_timer = self.loop.timer(self._on_due, f"replies due {self._address}")
        self._span_timer = self.loop.timer(self._apply_plan, f"fault plan {self._address}")
        self._up = True
        self._faults_set_ns = self.now_ns()
        self._apply_plan()
        return self._address

    def stop(self) -> None:
        """Close the port and cut every connection, as the death of the process would. Idempotent.

        The address and the store stay, for another start. Thread: the loop's. May block: no.
        """
        if not self._up:
            return
        self._up = False
        self._close_listener()
        for connection in list(self._connections):
            connection.abort()
        for timer in (self._due_timer, self._span_timer):
            if timer is not None:
                timer.close()
        self._due_timer = self._span_timer = self._armed_ns = None
        self._due.clear()
        self.blocked.close()

    def set_faults(self, plan: FaultPlan) -> None:
        """Change the plan; its span and counts begin now. Thread: the loop's. May block: no."""
        self._faults = plan
        self._faults_set_ns = self.now_ns()
        if self._up:
            self._apply_plan()

    def statistics(self) -> dict[str, int]:
        """Counts since it was made, and what it holds now (connections, replies waiting, keys)."""
        return {
            "connections": len(self._connections),
            "accepted": self._accepted,
            "refused": self._refused,
            "commands": self.commands,
            "answered": self.answered,
            "waiting": sum(connection.waiting for connection in self._connections),
            "protocol_errors": self.protocol_errors,
            "listen_failures": self._listen_failures,
            "keys": len(self.keyspace.strings) + len(self.keyspace.typed),
            "blocked": len(self.blocked),
            "subscriptions": len(self.subscriptions),
        }

    def wake_at(self, due_ns: int, connection: ShardConnection) -> None:
        """Call connection.on_due once due_ns has come. One entry per connection: its earliest. Thread: the loop's."""
        if connection.wake_ns is not None and connection.wake_ns <= due_ns:
            return
        connection.wake_ns = due_ns
        self._due_entries += 1
        heapq.heappush(self._due, (due_ns, self._due_entries, connection))
        self._arm()

    def forget(self, connection: ShardConnection) -> None:
        """The connection has ended. Thread: the loop's."""
        self._connections.pop(connection, None)

    def _make_wait_timer(self, callback: Callable[[], None]) -> Timer:
        return self.loop.timer(callback, f"blocked clients {self._address}")

    def _accept(self, transport: Transport) -> TransportHandler:
        self._accepted += 1
        connection = ShardConnection(self, transport, self._accepted)
        self._connections[connection] = None
        if self.active.refuse == "accept":
            self._refused += 1
            connection.hang_up()
        return connection

    def _open_listener(self) -> None:
        _remove_socket_file(self._address.path)
        self._listener = self.loop.listen(self._address, self._accept)
        self._address = self._listener.address

    def _close_listener(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _apply_plan(self) -> None:
        elapsed_ns = self.now_ns() - self._faults_set_ns
        self.active = self._faults.at(elapsed_ns)
        self.plain = self.active.is_empty
        change_ns = self._faults.next_change_ns(elapsed_ns)
        if self.active.refuse == "listen":
            self._close_listener()
        elif self._listener is None:
            try:
                self._open_listener()
            except OSError:
                # Somebody has taken the port meanwhile. Trying on beats ending the whole process.
                self._listen_failures += 1
                change_ns = min(change_ns or RELISTEN_DELAY_MS * NS_PER_MS, RELISTEN_DELAY_MS * NS_PER_MS)
        for connection in list(self._connections):
            connection.faults_changed()
        if self._span_timer is not None:
            if change_ns is None:
                self._span_timer.stop()
            else:
                self._span_timer.start(change_ns)

    def _arm(self) -> None:
        if self._due_timer is None or not self._due:
            return
        first_ns = self._due[0][0]
        if self._armed_ns is None or first_ns < self._armed_ns:
            self._armed_ns = first_ns
            self._due_timer.start(max(0, first_ns - self.now_ns()))

    def _on_due(self) -> None:
        now_ns = self.now_ns()
        self._armed_ns = -1  # keeps wake_at from arming the timer once per connection below
        while self._due and self._due[0][0] <= now_ns:
            due_ns, _, connection = heapq.heappop(self._due)
            if connection.wake_ns == due_ns and not connection.ended:
                connection.wake_ns = None
                connection.on_due(now_ns)
        self._armed_ns = None
        self._arm()


def _remove_socket_file(path: str) -> None:
    """A unix socket's file outlives its listener, and would keep a new one from listening."""
    try:
        if path and stat.S_ISSOCK(os.stat(path).st_mode):
            os.unlink(path)
    except FileNotFoundError:
        pass
