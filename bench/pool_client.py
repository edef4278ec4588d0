"""The cluster client with its pools, beside redis-py's cluster client, on a real cluster of three nodes.

Role: 100 callers, each a thread that sends one command after the other and waits for its reply, SET and GET in turn;
pools of 10 connections per node. redis-py's pool is its blocking one, which waits for a connection as ours does; what
its default pool does with 100 callers and 10 connections is counted besides. Both look at a connection's health each
time that it is handed out; ours is measured besides with connections that are looked at only when they were not handed
out within the last 50 ms. *By hand* is a bound: each thread has a
socket per node of its own, no pool, no slots, no states, nobody to wait for.

Thread: the clients' callers. Upstream: the goal of the client-side pool, three times redis-py's throughput. Left out:
asyncio; nodes that fail.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import hiredis
import redis
from redis.cluster import RedisCluster

from bench.clients import WrongReply, threads_for
from bench.measure import PER_S, Case, Contender, Effort, Progress, Report, run_case, silent
from coordemu.pool.batching_client import BatchingClient
from coordemu.pool.cluster_client import ClusterClient, ClusterOptions
from coordemu.pool.pool_options import PoolOptions
from coordemu.pool.slot_map import slot_of
from coordemu.runtime.base import Address
from coordemu.runtime.threads import ThreadsRuntime
from coordemu.shards import redis_cluster
from coordemu.shards.fd_limit import raise_fd_limit

CALLERS = 100
POOL_SIZE = 10
POOL_TIMEOUT_S = 5
NODES = 3
GOAL = 3.0
PY = "redis-py RedisCluster, blocking pools"
OURS = "ClusterClient"
SELDOM = "ClusterClient, health checks after 50 ms"
BATCHED = "ClusterClient, shared pipelines"
BY_HAND = "by hand: a socket per caller and node"
VALUE = b"value"

Execute = Callable[..., Any]


def callers(execute: Execute, ok: tuple[Any, ...], number: int = CALLERS) -> Callable[[float], float]:
    """`number` threads, SET and GET in turn on keys of their own; commands per second. ok: what SET may answer."""

    def body(caller: int, ended: Callable[[], bool]) -> int:
        count = 0
        while not ended():
            key = f"bench:{caller}:{count % 64}"
            if execute("SET", key, VALUE) not in ok or execute("GET", key) != VALUE:
                raise WrongReply(key)
            count += 2
        return count

    return lambda seconds: threads_for(seconds, number, body)


class RedisPyCluster:
    """redis-py's cluster client. blocking: whether its pools wait for a connection; its default ones raise."""

    def __init__(self, addresses: list[Address], blocking: bool) -> None:
        more: dict[str, Any] = {"max_connections": POOL_SIZE}
        if blocking:
            more |= {"connection_pool_class": redis.BlockingConnectionPool, "timeout": POOL_TIMEOUT_S}
        # Made otherwise than from a URL it leaves the class of the pools out of account.
        make: Any = RedisCluster.from_url
        self.client = make(f"redis://{addresses[0]}", **more)

    def execute(self, *command: Any) -> Any:
        """One command."""
        return self.client.execute_command(*command)

    def close(self) -> None:
        """Close the connections."""
        self.client.close()
        self.client.disconnect_connection_pools()


class ByHand:
    """Sockets per thread. owners: address by slot."""

    def __init__(self, owners: Callable[[int], Address]) -> None:
        self._owners = owners
        self._local = threading.local()
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []

    def execute(self, *command: Any) -> Any:
        """One command, on the thread's own socket to the key's node."""
        pack: Any = hiredis.pack_command
        peers: dict[Address, tuple[socket.socket, hiredis.Reader]] = self._local.__dict__.setdefault("peers", {})
        address = self._owners(slot_of(str(command[1]).encode()))
        if address not in peers:
            sock = socket.create_connection((address.host, address.port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peers[address] = (sock, hiredis.Reader())
            with self._lock:
                self._sockets.append(sock)
        sock, reader = peers[address]
        sock.sendall(pack(command))
        while (reply := reader.gets()) is False:
            reader.feed(sock.recv(65_536))
        return reply

    def close(self) -> None:
        """Close the sockets."""
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()


def refused_by_default_pool(addresses: list[Address], seconds: float) -> str:
    """What redis-py's default pools of 10 do when 100 callers come."""
    client = RedisPyCluster(addresses, blocking=False)
    counts = {"commands": 0, "failed": 0}
    lock = threading.Lock()

    def body(caller: int, ended: Callable[[], bool]) -> int:
        done = failed = 0
        while not ended():
            try:
                client.execute("SET", f"bench:{caller}:{done % 64}", VALUE)
            except (redis.RedisError, OSError):
                failed += 1
            done += 1
        with lock:
            counts["commands"] += done
            counts["failed"] += failed
        return done

    try:
        threads_for(seconds, CALLERS, body)
    finally:
        client.close()
    share = counts["failed"] / counts["commands"] if counts["commands"] else 0.0
    return f"{counts['failed']} of {counts['commands']} commands failed ({share:.0%})"


def run(effort: Effort, progress: Progress = silent) -> Report:
    """Measure. Blocks for about half a minute. Raises ShardError when no cluster can be started."""
    report = Report("pool_client")
    raise_fd_limit()
    seconds = effort.pick(1500, 600, 60) / 1e3
    number = effort.pick(CALLERS, CALLERS, 6)
    with ExitStack() as stack:
        rt = ThreadsRuntime(seed=1)
        cluster = stack.enter_context(redis_cluster.RedisCluster(rt, NODES))
        addresses = cluster.addresses
        options = ClusterOptions(pool=PoolOptions(pool_size=POOL_SIZE, pool_timeout_ms=POOL_TIMEOUT_S * 1000))
        ours, under = (ClusterClient(rt, addresses, options, name) for name in ("pooled", "shared"))
        trusting = replace(options, pool=replace(options.pool, health_check_after_ms=50))
        seldom = ClusterClient(rt, addresses, trusting, "seldom checked")
        batching = BatchingClient(rt, under, NODES)
        theirs = RedisPyCluster(addresses, blocking=True)
        bare = ByHand(lambda slot: addresses[slot * NODES // redis_cluster.SLOTS])
        for client in (ours, under, seldom, theirs, bare):
            stack.callback(client.close)
        works = {
            name: callers(execute, ok, number)
            for name, execute, ok in (
                (PY, theirs.execute, (True,)),
                (BY_HAND, bare.execute, ("OK", b"OK")),
                (OURS, ours.execute, ("OK", b"OK")),
                (SELDOM, seldom.execute, ("OK", b"OK")),
                (BATCHED, batching.execute, ("OK", b"OK")),
            )
        }
        contenders = [
            Contender(name, partial(work, seconds), ours=name in (OURS, SELDOM, BATCHED))
            for name, work in works.items()
        ]
        title = f"{number} callers, pools of {POOL_SIZE} x {NODES} nodes, SET and GET, commands/s"
        case = run_case(Case(title, PER_S, contenders, [PY], effort.pick(7, 4, 1), "", [BY_HAND]), progress)
        report.cases.append(case)
        report.facts["pool time-outs of ours"] = sum(each.statistics()["timeouts"] for each in (ours, under, seldom))
        sums = batching.statistics()
        report.facts["commands per shared pipeline"] = round(sums["commands"] / max(1, sums["batches"]), 1)
        report.facts["redis-py's default pools"] = refused_by_default_pool(addresses, seconds)
    plain, trusting_times, shared = (case.row(name).times_better[PY] for name in (OURS, SELDOM, BATCHED))
    report.facts["goal"] = f"{GOAL:g} times redis-py: {'reached' if plain >= GOAL else 'not reached'} by {OURS}, " + (
        f"{'reached' if shared >= GOAL else 'not reached'} with shared pipelines"
    )
    report.conclusion = (
        f"{OURS} {plain:.2f} times redis-py's commands/s, with fewer health checks {trusting_times:.2f} times, with "
        f"shared pipelines {shared:.2f} times (goal {GOAL:g})"
    )
    return report
