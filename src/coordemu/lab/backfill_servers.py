"""The servers of a backfill: who plays Redis, on real threads and in the simulator, and the way beside the pools.

Role: a run needs addresses, and somebody who kills and restarts; `ShardFleet` and `InProcessFleet` are both that. For
what the laboratory itself asks (are the queues empty, what is left to delete) there is `SideDoor`, a connection per
node of its own: to ask through the pools under test would change what is seen, and fail when they are full.

Thread: any, one at a time. Upstream: none. Left out: sentinels. Bound: a connection per node.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, Self

import hiredis

from coordemu.pool.command_route import slot_of_command
from coordemu.pool.pool_conn import Command, PoolConn
from coordemu.pool.pool_errors import ConnFailed
from coordemu.pool.slot_map import SlotMap, even_map, parse_slots, slot_of
from coordemu.runtime.base import NS_PER_S, Address, Runtime
from coordemu.shards.in_process_fleet import InProcessFleet

TIMEOUT_NS = 5 * NS_PER_S
TRIES = 3
PAUSE_NS = NS_PER_S // 100
MOST_TAGS = 100_000


class BackfillServers(Protocol):
    """What a run knows of its servers."""

    @property
    def addresses(self) -> Sequence[Address]: ...
    @property
    def password(self) -> str | None: ...
    def kill(self, index: int) -> None: ...
    def restart(self, index: int) -> None: ...


class ForgetfulFleet(InProcessFleet):
    """Embedded shards of the simulator that lose all their keys when they are killed, as a Redis does that keeps
    nothing on disk."""

    def kill(self, index: int) -> None:
        """As by force, and with it what it knew. Blocks."""
        super().kill(index)
        self.shards[index].keyspace.clear()


class SideDoor:
    """Connections of the laboratory's own, made when they are needed."""

    def __init__(self, rt: Runtime, addresses: Sequence[Address], password: str | None) -> None:
        self._rt = rt
        self._addresses = tuple(addresses)
        self._password = password
        self._conns: dict[Address, PoolConn] = {}
        self._map: SlotMap | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def map(self) -> SlotMap:
        """Who serves which slots. Raises ConnFailed, OSError. Blocks."""
        if self._map is None:
            (reply,) = self._ask(self._addresses[0], (("CLUSTER", "SLOTS"),))
            is_cluster = not isinstance(reply, hiredis.ReplyError)
            self._map = parse_slots(reply, self._addresses[0]) if is_cluster else even_map(self._addresses)
        return self._map

    def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """Commands with keys of one node, in one go; errors among the replies. Raises ConnFailed, OSError, ValueError
        for a command without a key, or with one that nobody serves. Blocks."""
        slot = slot_of_command(commands[0])
        node = None if slot is None else self.map().node_of(slot)
        if node is None:
            raise ValueError(f"nobody serves slot {slot}, of {commands[0][0]!r}")
        return self._ask(node, commands)

    def execute(self, *command: str | bytes | int) -> Any:
        """One command with a key. Raises as `pipeline`, and hiredis.ReplyError. Blocks."""
        (reply,) = self.pipeline((command,))
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    def _ask(self, node: Address, commands: Sequence[Command]) -> list[Any]:
        """What the laboratory asks may be asked again: it has the same effect twice."""
        for _ in range(TRIES - 1):
            try:
                return self._ask_once(node, commands)
            except ConnFailed:
                self._rt.sleep_ns(PAUSE_NS)
        return self._ask_once(node, commands)

    def _ask_once(self, node: Address, commands: Sequence[Command]) -> list[Any]:
        conn = self._conns.get(node)
        if conn is None:
            conn = PoolConn(self._rt, node, TIMEOUT_NS)
            self._conns[node] = conn
            if self._password is not None:
                answer = conn.call("AUTH", self._password, timeout_ns=TIMEOUT_NS)
                if isinstance(answer, hiredis.ReplyError):
                    raise ConnFailed("connect", f"{node}: {answer}")
        try:
            return conn.pipeline(commands, TIMEOUT_NS)
        except ConnFailed:
            self._conns.pop(node).close()
            raise

    def close(self) -> None:
        """End them. Idempotent."""
        for conn in self._conns.values():
            conn.close()
        self._conns.clear()

    def __repr__(self) -> str:
        return f"<SideDoor to {len(self._conns)} of {len(self._addresses)}>"


def tags_for(slots: SlotMap, prefix: str) -> dict[Address, str]:
    """A hash tag for each node that serves any slot. Raises ValueError when none is found for one. Thread: any."""
    wanted = {slots.nodes[index] for index in set(slots.owners) if index >= 0}
    found: dict[Address, str] = {}
    for number in range(MOST_TAGS):
        tag = f"{prefix}-{number}"
        node = slots.node_of(slot_of(b"{%s}" % tag.encode()))
        if node is not None:
            found.setdefault(node, tag)
        if len(found) == len(wanted):
            return {node: found[node] for node in slots.nodes if node in found}
    raise ValueError(f"no key for {len(wanted) - len(found)} of the nodes in {MOST_TAGS} tries")
