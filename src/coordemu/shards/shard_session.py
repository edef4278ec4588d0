"""Session: one connection's conversation with an embedded shard, and what handlers may know of that shard.

Role: what `coordemu.shards.command_table` and the modules of commands work with. A handler gets the session and the
command's words and returns the encoded reply; what it asks of the connection beyond that it leaves in `wants`, which is
`NOTHING` for nearly every command, so that the plain path looks at one field.

`plain` tells in one look that nothing stands between the command and its handler: the client is authenticated, queues
no transaction, and does not listen to channels by protocol 2.

Thread: the shard's loop. Upstream: the client structure of a Redis server. Left out: the client's name, its database
(there is one), WATCH.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from coordemu.shards.blocked_clients import BlockedClients, Wait
from coordemu.shards.fault_plan import FaultPlan
from coordemu.shards.shard_values import Keyspace
from coordemu.shards.subscriptions import Subscriptions

# What a command asks of its connection: nothing; to close once it is answered; to serve those that wait, once it is
# answered; to run nothing more before `Session.wait` has come to its end.
NOTHING, QUIT, SERVE, BLOCK = 0, 1, 2, 3


class ShardState(Protocol):
    """What handlers may know of the shard. store: its strings, the same dictionary as keyspace.strings."""

    store: dict[bytes, bytes]
    keyspace: Keyspace
    blocked: BlockedClients
    subscriptions: Subscriptions

    @property
    def password(self) -> bytes | None: ...
    @property
    def faults(self) -> FaultPlan: ...
    def set_faults(self, plan: FaultPlan) -> None: ...
    def statistics(self) -> dict[str, int]: ...


class SessionClient(Protocol):
    """The connection of a session."""

    def deliver(self, message: bytes) -> None:
        """Send what the client did not ask for. Thread: the shard's loop."""
        ...


class Session:
    """One connection's state.

    ident: its number.  protocol: 2 or 3.  service_ns: how long serving the last command takes, set by its handler.
    wants, wait: what the last command asks of the connection.  queue: the commands of a transaction, None outside of
    one.  channels: that it listens to.  client: its connection, None when there is none (any more).
    """

    __slots__ = (
        "authenticated",
        "channels",
        "client",
        "executing",
        "flawed",
        "ident",
        "plain",
        "protocol",
        "queue",
        "service_ns",
        "shard",
        "wait",
        "wants",
    )

    def __init__(self, shard: ShardState, ident: int, client: SessionClient | None = None) -> None:
        self.shard = shard
        self.ident = ident
        self.client = client
        self.protocol = 2
        self.plain = self.authenticated = shard.password is None
        self.service_ns = 0
        self.wants = NOTHING
        self.wait: Wait | None = None
        self.queue: list[tuple[Handler, list[bytes]]] | None = None
        self.flawed = False  # a command of the transaction was refused: EXEC will be, too
        self.executing = False
        self.channels: dict[bytes, None] = {}

    def settle(self) -> None:
        """Find out anew whether it is plain: the password, the transaction, the channels or the protocol changed."""
        listens = self.protocol == 2 and bool(self.channels)
        self.plain = self.authenticated and self.queue is None and not listens

    def block(self, wait: Wait, instead: bytes | None = None) -> bytes:
        """Wait; the reply comes later. In a transaction nothing waits: its reply is `instead`, None: a time-out's."""
        if self.executing:
            return wait.nothing if instead is None else instead
        self.wait = wait
        self.wants = BLOCK
        return b""

    def signal(self, key: bytes) -> None:
        """A list or stream at this key has got something. A transaction signals once it is over."""
        if self.shard.blocked.signal(key) and not self.executing:
            self.wants = SERVE

    def deliver(self, message: bytes) -> None:
        """Send what the client did not ask for; lost when it has gone."""
        if self.client is not None:
            self.client.deliver(message)


Handler = Callable[[Session, list[bytes]], bytes]
# name -> handler, and how many words the command has, its name included: at least, at most
CommandTable = dict[bytes, tuple[Handler, int, int]]
ANY_NUMBER = 2**63
