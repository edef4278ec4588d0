"""ClusterClient: commands to a cluster through one pool per node.

Role: what an application holds. A command goes to the node that serves its key's slot, on a connection of that node's
pool; where the node says that the slot has moved (MOVED) or that this one key is elsewhere (ASK), the command follows.
What fails for want of a connection is tried again after a delay, at most `max_redirects` times; what was sent and not
answered is not, unless it only reads: nobody knows whether it was carried out.

Every call ends with a reply or an error. A MOVED corrects the one slot at once and has the whole map asked for again,
by one caller at a time.

Thread: any number of callers. May block. Upstream: ClusterClient (osscluster.go). Left out: replicas, transactions,
subscriptions, a limiter. Bounds: a pool per known node; `max_redirects` per command.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import hiredis

from coordemu.pool.conn_pool import ConnPool
from coordemu.pool.pool_conn import Command, ConnFailed, PoolConn
from coordemu.pool.pool_context import PoolContext, pause
from coordemu.pool.pool_errors import PoolClosed, PoolError, PoolTimeout
from coordemu.pool.pool_options import PoolOptions
from coordemu.pool.pool_snapshot import PoolSnapshot
from coordemu.pool.pooled_conn import PooledConn
from coordemu.pool.slot_map import SlotMap, even_map, parse_slots, slot_of
from coordemu.runtime.base import NS_PER_MS, Address, Runtime

READS = frozenset({b"GET", b"MGET", b"EXISTS", b"TTL", b"PING", b"ECHO", b"STRLEN", b"CLUSTER"})
WITHOUT_KEY = frozenset({b"PING", b"ECHO", b"CLUSTER", b"TIME", b"INFO", b"DBSIZE"})
TRY_LATER = ("TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN")


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


class ClusterError(PoolError):
    """A command has found no node that would have it, in as many tries as it had. The cause is its last one's."""


class ClusterClient:
    """A client. addresses: nodes to ask for the map, one or more (ValueError otherwise).  faults: of the pools.

    Servers that are no cluster are taken for one whose slots are shared out evenly over `addresses`.
    """

    def __init__(
        self,
        rt: Runtime,
        addresses: Sequence[Address],
        options: ClusterOptions | None = None,
        name: str = "cluster",
        faults: Collection[str] = (),
    ) -> None:
        if not addresses:
            raise ValueError(f"{name}: no addresses")
        self.name = name
        self.options = options or ClusterOptions()
        self._rt = rt
        self._seeds = tuple(addresses)
        self._faults = faults
        self._lock = rt.lock(f"{name} nodes")
        # Both are replaced as a whole, under the lock, and read without it.
        self._pools = rt.cell(_no_pools(), f"{name} pools")
        self._map = rt.cell(_no_map(), f"{name} slot map")
        self._asking = False
        self._closed = False
        self._counts = dict.fromkeys(("moved", "asked", "retries", "maps", "unanswered"), 0)

    # -- commands

    def execute(self, *command: str | bytes | int, ctx: PoolContext | None = None) -> Any:
        """One command; its reply. An error reply of the server (but MOVED and its like) is raised.

        Raises hiredis.ReplyError, ConnFailed (it was sent, and nobody knows its outcome), ClusterError (it was not, in
        as many tries as there are), PoolTimeout and the other errors of `ConnPool.get`. Thread: any. Blocks.
        """
        (reply,) = self._run_group((command,), _slot_of_command(command), ctx)
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    def pipeline(self, commands: Sequence[Command], ctx: PoolContext | None = None) -> list[Any]:
        """Many commands, those of one node in one go; their replies in the order of asking, errors among them as
        values: what a node's whole share raised stands in each place of it. Thread: any. Blocks."""
        shares: dict[Address | None, list[int]] = {}
        slots = [_slot_of_command(command) for command in commands]
        current = self._slot_map(ctx)
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
                if _redirect(answer) is not None:
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
        reads_only = all(_word(command) in READS for command in commands)
        for attempt in range(options.max_redirects + 1):
            address = target or self._node_for(slot, ctx, attempt)
            try:
                replies = self._on_node(address, commands, asking, ctx)
            except ConnFailed as error:
                if error.sent and not reads_only:
                    self._count("unanswered")
                    raise
                last = error
            except (PoolTimeout, OSError) as error:
                last = error
            else:
                kind = _redirect(replies[0]) if follow else None
                if kind is None:
                    return replies
                last = replies[0]
                if kind in TRY_LATER:
                    self._count("retries")
                    self._pause(attempt, ctx)
                    continue
                moved_slot, target = _target_of(replies[0], address)
                asking = kind == "ASK"
                self._count("asked" if asking else "moved")
                if not asking:
                    self._slot_moved(moved_slot, target)
                    self._ask_for_map(ctx)
                continue
            # No connection, or one that broke under a read: perhaps the map is old.
            target, asking = None, False
            self._count("retries")
            if attempt < options.max_redirects:
                self._pause(attempt, ctx)
                self._ask_for_map(ctx)
        if isinstance(last, PoolTimeout):
            raise last
        raise ClusterError(f"{self.name}: no node would have it in {options.max_redirects + 1} tries: {last}") from last

    def _on_node(
        self, address: Address, commands: Sequence[Command], asking: bool, ctx: PoolContext | None
    ) -> list[Any]:
        """One try. The connection is given back, or removed when it failed."""
        pool = self._pool_of(address)
        conn = pool.get(ctx)
        healthy = False
        try:
            wire: PoolConn = conn.resource
            sent = [("ASKING",), *commands] if asking else commands
            timeout_ns = self.options.read_timeout_ms * NS_PER_MS or None
            if ctx is not None and ctx.deadline_ns is not None:
                left_ns = max(1, ctx.deadline_ns - self._rt.now_ns())
                timeout_ns = left_ns if timeout_ns is None else min(timeout_ns, left_ns)
            replies = wire.pipeline(sent, timeout_ns)
            healthy = True
        finally:
            if healthy:
                pool.put(conn)
            else:
                pool.remove(conn, "broken")
        return replies[1:] if asking else replies

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
        pool = self._pools.value.get(address)
        if pool is not None:
            return pool
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
                )
                self._pools.value = {**pools, address: pool}
            return pool

    def _authenticate(self, conn: PooledConn) -> None:
        assert self.options.password is not None
        reply = conn.resource.call("AUTH", self.options.password, timeout_ns=self.options.read_timeout_ms * NS_PER_MS)
        if isinstance(reply, hiredis.ReplyError):
            raise ConnFailed("connect", f"{conn.resource.address}: {reply}")

    def _node_for(self, slot: int | None, ctx: PoolContext | None, attempt: int) -> Address:
        current = self._slot_map(ctx)
        owner = current.node_of(slot) if slot is not None else None
        if owner is not None:
            return owner
        return current.nodes[(attempt + int(self._rt.random.random() * len(current.nodes))) % len(current.nodes)]

    def _slot_map(self, ctx: PoolContext | None) -> SlotMap:
        found = self._map.value
        if found is None:
            self._ask_for_map(ctx)
            found = self._map.value
        # Another asks for the first map: until it has come, the even one.
        return found if found is not None else even_map(self._seeds)

    def _slot_moved(self, slot: int, to: Address) -> None:
        with self._lock:
            current = self._map.value
            if current is not None and current.node_of(slot) != to:
                self._map.value = current.moved(slot, to)

    def _ask_for_map(self, ctx: PoolContext | None) -> bool:
        """Ask the nodes, one after the other, until one answers. One caller at a time; the others go on with what is
        known. True when there is a new map. Upstream: clusterStateHolder.Reload."""
        with self._lock:
            if self._asking or self._closed:
                return False
            self._asking = True
            current = self._map.value
        generation = 0 if current is None else current.generation + 1
        known = current.nodes if current is not None else ()
        fresh: SlotMap | None = None
        try:
            for address in dict.fromkeys((*known, *self._seeds)):
                try:
                    (reply,) = self._on_node(address, (("CLUSTER", "SLOTS"),), False, ctx)
                    if isinstance(reply, hiredis.ReplyError):
                        fresh = even_map(self._seeds, generation)
                    else:
                        fresh = parse_slots(reply, address, generation)
                    break
                except (PoolError, OSError, ValueError):
                    continue
        finally:
            with self._lock:
                self._asking = False
                if fresh is not None:
                    self._map.value = fresh
                    self._counts["maps"] += 1
        return fresh is not None

    def reload(self) -> bool:
        """Ask for the map again. False: nobody answered, or another is asking. Thread: any. Blocks."""
        return self._ask_for_map(None)

    def close(self) -> None:
        """Close the pools. Idempotent. Thread: any."""
        with self._lock:
            self._closed = True
            pools = list(self._pools.value.values())
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
            return {**total, **self._counts, "nodes": len(self._pools.value)}

    def __repr__(self) -> str:
        return f"<ClusterClient {self.name!r} {len(self.pools)} nodes>"


def _no_pools() -> dict[Address, ConnPool]:
    return {}


def _no_map() -> SlotMap | None:
    return None


def _word(command: Command) -> bytes:
    word = command[0]
    return word.upper() if isinstance(word, bytes) else str(word).upper().encode()


def _slot_of_command(command: Command) -> int | None:
    """The slot of its key, which is its second word; None: it has none."""
    if len(command) < 2 or _word(command) in WITHOUT_KEY:
        return None
    key = command[1]
    return slot_of(key if isinstance(key, bytes) else str(key).encode())


def _redirect(reply: Any) -> str | None:
    """MOVED, ASK or one of TRY_LATER; None: a reply as any other."""
    if not isinstance(reply, hiredis.ReplyError):
        return None
    word = str(reply).split(" ", 1)[0]
    return word if word in ("MOVED", "ASK", *TRY_LATER) else None


def _target_of(reply: Any, asked: Address) -> tuple[int, Address]:
    """The slot and the address of "MOVED 3999 host:port"; an empty host is the one that was asked."""
    words = str(reply).split()
    try:
        host, _, port = words[2].rpartition(":")
        return int(words[1]), Address(host or asked.host, int(port))
    except (IndexError, ValueError):
        raise ClusterError(f"{asked} redirects to nowhere: {reply}") from None
