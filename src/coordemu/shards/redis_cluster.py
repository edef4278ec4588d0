"""RedisCluster: a few Redis servers of our own, joined to a cluster, all of them masters.

Role: so that ``cluster://`` URLs and their topology are tried on the real thing. Slots are shared out evenly.

Thread: any, one at a time; blocks for the two to three seconds that a new cluster takes before it calls itself sound.
Upstream: the cluster that its tests start. Left out: replicas, moving slots, failover.
"""

from __future__ import annotations

from typing import Self

import hiredis

from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Address, Runtime
from coordemu.shards.real_redis import RedisServer
from coordemu.shards.resp_client import RespClientError
from coordemu.shards.shard_errors import ShardError

SLOTS = 16_384
JOIN_TIMEOUT_S = 20


class RedisCluster:
    """count masters (3 or more). `start` and `stop`, or a with statement. password: of every node, None for none."""

    def __init__(self, rt: Runtime, count: int = 3, password: str | None = None) -> None:
        if count < 3:
            raise ValueError(f"a cluster of {count}: Redis wants 3 masters at least")
        self._rt = rt
        self.servers = [RedisServer(rt, cluster=True, password=password) for _ in range(count)]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<RedisCluster {', '.join(str(address) for address in self.addresses)}>"

    @property
    def addresses(self) -> list[Address]:
        """Where the nodes listen, by index."""
        return [server.address for server in self.servers]

    def start(self) -> Self:
        """Start the nodes, share out the slots, join them, wait until each sees all.

        Raises ShardError, with nothing left behind. May block.
        """
        try:
            for server in self.servers:
                server.start()
            self._join()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop all nodes. Idempotent. May block."""
        for server in self.servers:
            server.stop()

    def statistics(self) -> dict[str, int]:
        """How many nodes there are, and how many are alive."""
        return {"nodes": len(self.servers), "alive": sum(server.alive for server in self.servers)}

    def _join(self) -> None:
        count = len(self.servers)
        first = self.servers[0].address
        try:
            for index, server in enumerate(self.servers):
                server.ask("CLUSTER", "ADDSLOTS", *range(SLOTS * index // count, SLOTS * (index + 1) // count))
                server.ask("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
                if index:
                    server.ask("CLUSTER", "MEET", first.host, first.port)
        except (hiredis.ReplyError, RespClientError) as problem:
            raise ShardError(f"cluster: {problem}") from problem
        joined = self._rt.poll_until(
            lambda: all(self._sound(server) for server in self.servers),
            50 * NS_PER_MS,
            "the cluster's nodes know each other",
            JOIN_TIMEOUT_S * NS_PER_S,
            lambda: [f"redis-server {address}" for address in self.addresses],
        )
        if not joined:
            raise ShardError(f"cluster: its nodes did not join within {JOIN_TIMEOUT_S} s")

    def _sound(self, server: RedisServer) -> bool:
        try:
            info, slots = server.ask("CLUSTER", "INFO"), server.ask("CLUSTER", "SLOTS")
        except (hiredis.ReplyError, RespClientError):
            return False
        return (
            isinstance(info, bytes)
            and b"cluster_state:ok" in info
            and isinstance(slots, list)
            and len(slots) == len(self.servers)
        )
