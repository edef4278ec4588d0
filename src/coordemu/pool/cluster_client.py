"""ClusterClient: commands to a cluster through one pool per node.

Role: what an application holds. A command goes to the node that serves its key's slot, on a connection of that node's
pool; where the node says that the slot has moved (MOVED) or that this one key is elsewhere (ASK), the command follows.
What fails for want of a connection is tried again after a delay, at most `max_redirects` times; what was sent and not
answered is not, unless it only reads: nobody knows whether it was carried out.

Every call ends with a reply or an error. A MOVED corrects the one slot at once and has the whole map asked for again,
by one caller at a time (`SlotMapHolder`).

Thread: any number of callers. May block. Upstream: ClusterClient (osscluster.go). Left out: replicas, transactions,
subscriptions, a limiter. Bounds: a pool per known node; `max_redirects` per command.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import hiredis

from coordemu.pool.command_route import (
    TRY_LATER,
    ClusterError,
    only_reads,
    redirect_of,
    slot_of_command,
    target_of,
)
from coordemu.pool.conn_pool import ConnPool
from coordemu.pool.pool_conn import Command, PoolConn
from coordemu.pool.pool_conn_state import IllegalMove, InvalidStateTransition
from coordemu.pool.pool_context import PoolContext, pause
from coordemu.pool.pool_errors import (
    ConnFailed,
    ConnUnusable,
    NotInHand,
    PoolClosed,
    PoolError,
    PoolTimeout,
    TurnsOverfull,
)
from coordemu.pool.pool_listener import PoolListener
from coordemu.pool.pool_options import PoolOptions
from coordemu.pool.pool_snapshot import PoolSnapshot
from coordemu.pool.pooled_conn import PooledConn
from coordemu.pool.slot_map import slot_of
from coordemu.pool.slot_map_holder import SlotMapHolder
from coordemu.pool.sticky_conn import StickyConn
from coordemu.runtime.base import NS_PER_MS, Address, Runtime

# Told with (node, waiting, max_waiting).
NodePressure = Callable[[Address, int, int], None]
# Makes the listener of a node's pool.
Listen = Callable[[Address], PoolListener]
_CONFLICTS = (IllegalMove, InvalidStateTransition, ConnUnusable, NotInHand, TurnsOverfull)


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """pool: of each node's pool.  max_redirects: tries after the first, 0 or more.  read_timeout_ms: for the reply to a
    command, 0: no limit.  min_retry_backoff_ms, max_retry_backoff_ms: the delay before another try, doubling, with
    jitter; 0 or more.  password: for AUTH, None: none. Raises ValueError outside the bounds."""

    pool: PoolOptions = field(default_factory=lambda: PoolOptions(pool_size=5))
    max_redirects: int = 3
    read_timeout_ms: int = 5_000
    min_retry_backoff_ms: int = 10
    max_retry_backoff_ms: int = 1_000
    password: str | None = None

    def __post_init__(self) -> None:
        low = min(self.max_redirects, self.read_timeout_ms, self.min_retry_backoff_ms)
        if low < 0 or self.max_retry_backoff_ms < self.min_retry_backoff_ms:
            raise ValueError(f"{self.max_redirects=}, {self.read_timeout_ms=}, {self.min_retry_backoff_ms=}")


class ClusterClient:
    """A client. addresses: nodes to ask for the map, one or more (ValueError otherwise).  faults: of the pools.
    on_pressure: told when the line for a node's connections grows to its mark, and when it has fallen below.  listen:
    makes the listener of a node's pool, when that is made.

    Servers that are no cluster are taken for one whose slots are shared out evenly over `addresses`.
    """

    def __init__(
        self,
        rt: Runtime,
        addresses: Sequence[Address],
        options: ClusterOptions | None = None,
        name: str = "cluster",
        faults: Collection[str] = (),
        on_pressure: NodePressure | None = None,
        listen: Listen | None = None,
    ) -> None:
        if not addresses:
            raise ValueError(f"{name}: no addresses")
        self.name = name
        self.options = options or ClusterOptions()
        self._rt = rt
        self._faults = faults
        self._on_pressure = on_pressure
        self._listen = listen
        self._lock = rt.lock(f"{name} nodes")
        # Replaced as a whole, under the lock, and read without it.
        self._pools = rt.cell(_no_pools(), f"{name} pools")
        # What the asker may need for one node: a turn, a dial, a reply.
        limits = self.options.pool
        patience_ms = limits.pool_timeout_ms + limits.dial_timeout_ms + self.options.read_timeout_ms
        self._slots = SlotMapHolder(rt, name, addresses, self._ask_for_slots, max(1, patience_ms) * NS_PER_MS)
        self._read_timeout_ns = self.options.read_timeout_ms * NS_PER_MS or None
        self._closed = False
        self._counts = dict.fromkeys(("moved", "asked", "retries", "unanswered"), 0)
        self._by_node: dict[Address, dict[str, int]] = {}

    # -- commands

    def execute(self, *command: str | bytes | int, ctx: PoolContext | None = None) -> Any:
        """One command; its reply. An error reply of the server (but MOVED and its like) is raised.

        Raises hiredis.ReplyError, ConnFailed (it was sent, and nobody knows its outcome), ClusterError (it was not, in
        as many tries as there are), PoolTimeout and the other errors of `ConnPool.get`. Thread: any. Blocks.
        """
        (reply,) = self._run_group((command,), slot_of_command(command), ctx)
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    def pipeline(self, commands: Sequence[Command], ctx: PoolContext | None = None) -> list[Any]:
        """Many commands, those of one node in one go; their replies in the order of asking, errors among them as
        values: what a node's whole share raised stands in each place of it. Thread: any. Blocks."""
        shares: dict[Address | None, list[int]] = {}
        slots = [slot_of_command(command) for command in commands]
        current = self._slots.get(ctx)
        for index, slot in enumerate(slots):
            shares.setdefault(current.node_of(slot) if slot is not None else None, []).append(index)
        replies: list[Any] = [None] * len(commands)
        for indexes in shares.values():
            group = [commands[index] for index in indexes]
            try:
                answers = self._run_group(group, slots[indexes[0]], ctx, follow=False)
            except PoolError as error:
                answers = [error] * len(group)
            for index, answer in zip(indexes, answers, strict=True):
                if redirect_of(answer):
                    answer = self._one_of_pipeline(commands[index], slots[index], ctx)
                replies[index] = answer
        return replies

    def _one_of_pipeline(self, command: Command, slot: int | None, ctx: PoolContext | None) -> Any:
        try:
            return self._run_group((command,), slot, ctx)[0]
        except PoolError as error:
            return error

    def _run_group(
        self, commands: Sequence[Command], slot: int | None, ctx: PoolContext | None, follow: bool = True
    ) -> list[Any]:
        """Commands for one node, tried until they have replies. follow: whether redirections are followed."""
        options = self.options
        target: Address | None = None
        asking = False
        last: Exception | None = None
        reads_only: bool | None = None
        for attempt in range(options.max_redirects + 1):
            address = target or self._node_for(slot, ctx, attempt)
            try:
                replies = self._on_node(address, commands, asking, ctx)
            except ConnFailed as error:
                if reads_only is None:
                    reads_only = only_reads(commands)
                if error.sent and not reads_only:
                    self._count("unanswered")
                    raise
                last = error
            except (PoolTimeout, OSError) as error:
                last = error
            else:
                kind = redirect_of(replies[0]) if follow else ""
                if not kind:
                    return replies
                last = replies[0]
                if kind in TRY_LATER:
                    self._count("retries")
                    self._pause(attempt, ctx)
                    continue
                moved_slot, target = target_of(replies[0], address)
                asking = kind == "ASK"
                self._count("asked" if asking else "moved")
                if not asking:
                    self._slots.slot_moved(moved_slot, target)
                    self._slots.reload(ctx)
                continue
            # No connection, or one that broke under a read: perhaps the map is old.
            target, asking = None, False
            self._count("retries")
            if attempt < options.max_redirects:
                self._pause(attempt, ctx)
                self._slots.reload(ctx)
        if isinstance(last, PoolTimeout):
            raise last
        raise ClusterError(f"{self.name}: no node would have it in {options.max_redirects + 1} tries: {last}") from last

    def _on_node(
        self, address: Address, commands: Sequence[Command], asking: bool, ctx: PoolContext | None
    ) -> list[Any]:
        """One try. The connection is given back, or removed when it failed."""
        pool = self._pools.value.get(address) or self._pool_of(address)
        try:
            loan = pool.get(ctx)
        except PoolError as error:
            self._note(address, error)
            raise
        healthy = False
        try:
            wire: PoolConn = loan.resource
            timeout_ns = self._read_timeout_ns
            if loan.conn.relaxed.count:
                timeout_ns = loan.conn.relaxed.of(timeout_ns)
            if ctx is not None and ctx.deadline_ns is not None:
                left_ns = max(1, ctx.deadline_ns - self._rt.now_ns())
                timeout_ns = left_ns if timeout_ns is None else min(timeout_ns, left_ns)
            replies = wire.pipeline([("ASKING",), *commands] if asking else commands, timeout_ns)
            healthy = True
        except ConnFailed as error:
            self._note(address, error)
            raise
        finally:
            if healthy:
                pool.put(loan)
            else:
                pool.remove(loan, "broken")
        return replies[1:] if asking else replies

    def _note(self, address: Address, error: PoolError) -> None:
        """Count what a node's caller was told, by node."""
        if isinstance(error, ConnFailed):
            what = "reply_timeouts" if error.kind == "timeout" else "broken"
        elif isinstance(error, PoolTimeout):
            what = "pool_timeouts"
        else:
            what = "state_conflicts" if isinstance(error, _CONFLICTS) else "refused_gets"
        with self._lock:
            counts = self._by_node.setdefault(address, {})
            counts[what] = counts.get(what, 0) + 1

    def _pause(self, attempt: int, ctx: PoolContext | None) -> None:
        options = self.options
        top_ms = min(options.max_retry_backoff_ms, options.min_retry_backoff_ms << min(attempt, 20))
        delay_ms = self._rt.random.uniform(options.min_retry_backoff_ms, max(top_ms, options.min_retry_backoff_ms))
        if not pause(self._rt, round(delay_ms * NS_PER_MS), ctx, "another try") and ctx is not None:
            error = ctx.error()
            if error is not None:
                raise error

    # -- nodes

    def _pool_of(self, address: Address) -> ConnPool:
        with self._lock:
            if self._closed:
                raise PoolClosed(f"{self.name} is closed")
            pools = self._pools.value
            pool = pools.get(address)
            if pool is None:
                pool = ConnPool(
                    self._rt,
                    lambda timeout_ns: PoolConn(self._rt, address, timeout_ns),
                    self.options.pool,
                    f"{self.name} {address}",
                    self._faults,
                    initialize=self._authenticate if self.options.password is not None else None,
                    health_check=PoolConn.healthy,
                    on_pressure=partial(self._on_pressure, address) if self._on_pressure is not None else None,
                    listener=self._listen(address) if self._listen is not None else None,
                )
                self._pools.value = {**pools, address: pool}
            return pool

    def _authenticate(self, conn: PooledConn) -> None:
        assert self.options.password is not None
        reply = conn.resource.call("AUTH", self.options.password, timeout_ns=self.options.read_timeout_ms * NS_PER_MS)
        if isinstance(reply, hiredis.ReplyError):
            raise ConnFailed("connect", f"{conn.resource.address}: {reply}")

    def _node_for(self, slot: int | None, ctx: PoolContext | None, attempt: int) -> Address:
        current = self._slots.get(ctx)
        owner = current.node_of(slot) if slot is not None else None
        if owner is not None:
            return owner
        return current.nodes[(attempt + int(self._rt.random.random() * len(current.nodes))) % len(current.nodes)]

    def _ask_for_slots(self, address: Address, ctx: PoolContext | None) -> Any:
        return self._on_node(address, (("CLUSTER", "SLOTS"),), False, ctx)[0]

    def reload(self) -> bool:
        """Ask for the map again. False: nobody answered, or another is asking. Thread: any. Blocks."""
        return self._slots.reload()

    def sticky(self, key: str | bytes, ctx: PoolContext | None = None) -> StickyConn:
        """One connection to the node of a key, for commands that belong together; the caller closes it.

        Raises as `SlotMapHolder.get`; PoolClosed. Thread: any. May block. Upstream: Conn, Watch.
        """
        slot = slot_of(key if isinstance(key, bytes) else key.encode())
        return StickyConn(self._pool_of(self._node_for(slot, ctx, 0)))

    def close(self) -> None:
        """Close the pools. Idempotent. Thread: any."""
        with self._lock:
            self._closed = True
            pools = list(self._pools.value.values())
        self._slots.close()
        for pool in pools:
            if pool.phase != "closed":
                pool.close()

    # -- looks

    def _count(self, what: str, number: int = 1) -> None:
        with self._lock:
            self._counts[what] += number

    @property
    def pools(self) -> dict[Address, ConnPool]:
        """By node, those that were needed so far."""
        return dict(self._pools.value)

    def snapshot(self) -> dict[str, PoolSnapshot]:
        """By node: where its connections are. Thread: any."""
        return {str(address): pool.snapshot() for address, pool in self.pools.items()}

    def statistics(self) -> dict[str, int]:
        """The client's own counts, and the sums over its pools, pending included. Thread: any."""
        total: dict[str, int] = {}
        for pool in self.pools.values():
            for key, value in pool.statistics().items():
                total[key] = total.get(key, 0) + value
        with self._lock:
            return {**total, **self._counts, "maps": self._slots.maps, "nodes": len(self._pools.value)}

    def statistics_by_node(self) -> dict[str, dict[str, int]]:
        """By node: what its pool counts; what callers were told: pool_timeouts, reply_timeouts, broken (connections),
        state_conflicts, refused_gets (any other error of a get); and "closed <reason>". Thread: any."""
        told = ("pool_timeouts", "reply_timeouts", "broken", "state_conflicts", "refused_gets")
        found: dict[str, dict[str, int]] = {}
        for address, pool in self.pools.items():
            with self._lock:
                counts = dict.fromkeys(told, 0) | self._by_node.get(address, {})
            reasons = {f"closed {reason}": count for reason, count in pool.removals().items()}
            found[str(address)] = {**pool.statistics(), **counts, **reasons}
        return found

    def __repr__(self) -> str:
        return f"<ClusterClient {self.name!r} {len(self.pools)} nodes>"


def _no_pools() -> dict[Address, ConnPool]:
    return {}
