"""EmbeddedHost: several embedded shards on one loop, by index.

Role: what a shard process hosts, and what a simulator can host beside the coordinator: ports found, shards made,
killed, restarted and told their faults by number.

Thread: the loop's, for everything (or any, while the loop does not run). Upstream: the cluster that its tests start.
Left out: a store shared between shards, slots.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from coordemu.runtime.base import Address, Loop, Runtime
from coordemu.shards.embedded_shard import EmbeddedShard
from coordemu.shards.fault_plan import NO_FAULTS, FaultPlan
from coordemu.shards.port_range import server_ports
from coordemu.shards.shard_errors import ShardUrlError

MAX_SHARDS = 4096
_TAKEN = (errno.EADDRINUSE, errno.EACCES)


class EmbeddedHost:
    """Shards 0 to count-1.

    rt, loop: where they live.  count: 1 to 4096.  unix_dir: a directory that exists, for unix sockets in it; "" for
    TCP on 127.0.0.1. addresses: where to listen, one per shard, instead of finding ports.  faults, password: for each.
    Raises ShardUrlError when count is out of bounds or does not fit addresses.
    """

    def __init__(
        self,
        rt: Runtime,
        loop: Loop,
        count: int = 3,
        *,
        faults: FaultPlan = NO_FAULTS,
        password: str | None = None,
        unix_dir: str = "",
        addresses: Sequence[Address] = (),
    ) -> None:
        if not 1 <= count <= MAX_SHARDS:
            raise ShardUrlError(f"{count} shards: not within 1..{MAX_SHARDS}")
        if addresses and len(addresses) != count:
            raise ShardUrlError(f"{len(addresses)} addresses for {count} shards")
        if not addresses and unix_dir:
            addresses = [Address(path=os.path.join(unix_dir, f"shard-{index}.sock")) for index in range(count)]
        self._ports = server_ports()
        self._find_ports = not addresses
        self.shards = [EmbeddedShard(rt, loop, at, faults, password) for at in addresses or [Address()] * count]

        def make(port: int) -> EmbeddedShard:
            return EmbeddedShard(rt, loop, Address(port=port), faults, password)

        self._make = make

    def __repr__(self) -> str:
        return f"<EmbeddedHost {sum(shard.up for shard in self.shards)} of {len(self.shards)} up>"

    @property
    def addresses(self) -> list[Address]:
        """Where each listens; final once started."""
        return [shard.address for shard in self.shards]

    def start(self) -> list[Address]:
        """Start all. Returns their addresses. Raises OSError, with none left listening, when one can't be had."""
        try:
            for index, shard in enumerate(self.shards):
                if self._find_ports:
                    self.shards[index] = self._start_at_free_port()
                else:
                    shard.start()
        except OSError:
            self.stop()
            raise
        self._find_ports = False
        return self.addresses

    def stop(self) -> None:
        """Stop all. Idempotent."""
        for shard in self.shards:
            shard.stop()

    def shard(self, index: int) -> EmbeddedShard:
        """One shard. Raises ShardUrlError when there is no such index."""
        if not 0 <= index < len(self.shards):
            raise ShardUrlError(f"no shard {index}: there are 0 to {len(self.shards) - 1}")
        return self.shards[index]

    def kill(self, index: int) -> None:
        """Stop one, cutting its connections. Raises ShardUrlError for a wrong index."""
        self.shard(index).stop()

    def restart(self, index: int) -> None:
        """Start one again at its address. Raises OSError when the port is gone, ShardUrlError for a wrong index."""
        self.shard(index).start()

    def set_faults(self, plan: FaultPlan, index: int | None = None) -> None:
        """Change the plan of one, or of all (None). Raises ShardUrlError for a wrong index."""
        for shard in self.shards if index is None else [self.shard(index)]:
            shard.set_faults(plan)

    def statistics(self) -> list[dict[str, int]]:
        """Each shard's, by index."""
        return [shard.statistics() for shard in self.shards]

    def _start_at_free_port(self) -> EmbeddedShard:
        for port in self._ports:
            shard = self._make(port)
            try:
                shard.start()
            except OSError as problem:
                if problem.errno not in _TAKEN:
                    raise
            else:
                return shard
        raise OSError(errno.EADDRNOTAVAIL, "no free port for a shard")
