"""ShardFleet: the shards of one run, whatever stands behind them.

Role: a run says which shards it wants (`ShardSpec`) and gets endpoints. Embedded ones are started in one process, real
Redis servers are started one by one or as a cluster, and those that are there already are checked and attached to.
What only our own can do (kill, restart, faults) raises ShardError on the others.

Thread: any, one at a time; start, kill, restart and stop block. Upstream: none. Left out: changing the number of
shards (a topology change uses a part of the endpoints).
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from coordemu.runtime.base import Address, Runtime
from coordemu.shards.fault_plan import NO_FAULTS, FaultPlan
from coordemu.shards.real_redis import RedisServer
from coordemu.shards.redis_cluster import RedisCluster
from coordemu.shards.shard_command import query_command
from coordemu.shards.shard_errors import ShardError, ShardUrlError
from coordemu.shards.shard_process import ShardProcess, private_directory
from coordemu.shards.shard_url import ShardSpec, check_reachable, parse_shard_url


@dataclass(frozen=True, slots=True)
class ShardEndpoint:
    """What a connection needs to know of a shard. password: None for none."""

    address: Address
    password: str | None = None

    def __str__(self) -> str:
        return str(self.address)

    def __repr__(self) -> str:
        return f"<ShardEndpoint {self.address}{' with a password' if self.password is not None else ''}>"


class ShardFleet:
    """Some shards, by index. Made by `ShardFleet.start`; ended by `stop`, or as a with statement's value.

    kind: "embedded", "redis" or "cluster"; which commands they understand.  spec: what was asked for, resolved.
    """

    def __init__(self, spec: ShardSpec, password: str | None) -> None:
        self.spec = spec
        self.kind = spec.kind
        self._password = password
        self._process: ShardProcess | None = None
        self._servers: Sequence[RedisServer] = ()
        self._unix_dir = ""

    @classmethod
    def start(
        cls,
        rt: Runtime,
        spec: ShardSpec | str,
        faults: FaultPlan = NO_FAULTS,
        seed: int = 1,
        password: str | None = None,
    ) -> ShardFleet:
        """Start the shards, or attach to them after a check that they are there.

        rt: for the clock and the questions.  spec: a `ShardSpec` or its text.  faults: for embedded shards.  seed: of
        their jitter.  password: for shards that we start; those that are there have theirs in the spec. Raises
        ShardUrlError for a spec that makes no sense or can't be combined with the rest, ShardError when the shards
        can't be had; nothing is left running then. Thread: any. May block.
        """
        wanted = parse_shard_url(spec) if isinstance(spec, str) else spec
        if wanted.kind != "embedded" and not faults.is_empty:
            raise ShardUrlError(f"shards: {wanted} are real servers; a fault plan needs embedded ones")
        if not wanted.own and password is not None:
            raise ShardUrlError(f"shards: the password of {wanted} belongs into its URL")
        fleet = cls(check_reachable(rt, wanted), password if wanted.own else wanted.password)
        if wanted.own:
            try:
                fleet._start_own(rt, faults, seed)
            except BaseException:
                fleet.stop()
                raise
        return fleet

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<ShardFleet {self.spec} {len(self)} shards>"

    def __len__(self) -> int:
        return len(self.addresses)

    @property
    def password(self) -> str | None:
        """The password of every shard, None for none."""
        return self._password

    @property
    def addresses(self) -> list[Address]:
        """Each shard's address, by index; none after `stop`, when they were ours."""
        if self._process is not None:
            return self._process.endpoints
        if self._servers:
            return [server.address for server in self._servers]
        return list(self.spec.addresses)

    @property
    def endpoints(self) -> list[ShardEndpoint]:
        """Each shard's address and password, by index."""
        return [ShardEndpoint(address, self._password) for address in self.addresses]

    def query_command(self, query_id: int | str, service_ns: int) -> tuple[bytes, ...]:
        """`coordemu.shards.shard_command.query_command` for this kind."""
        return query_command(self.kind, query_id, service_ns)

    def kill(self, index: int) -> None:
        """End one shard as by force: a Redis server by SIGKILL, an embedded one by closing its port and cutting its
        connections.

        Raises ShardError for a shard that is not ours, or that does not exist. May block.
        """
        if self._process is not None:
            self._process.kill(self._checked(index))
        else:
            self._server(index).kill()

    def restart(self, index: int) -> None:
        """Bring one shard back at its address.

        Raises ShardError when it is not ours, does not exist, or can't start. May block.
        """
        if self._process is not None:
            self._process.restart(self._checked(index))
        else:
            self._server(index).restart()

    def set_faults(self, plan: FaultPlan, index: int | None = None) -> None:
        """Change the fault plan of one embedded shard, or of all (None). Raises ShardError on others. May block."""
        if self._process is None:
            raise ShardError(f"{self.spec}: only embedded shards take a fault plan")
        self._process.set_faults(plan, index)

    def statistics(self) -> list[dict[str, int]]:
        """Each shard's statistics, by index: an embedded one's counts, a server's starts; empty for those that are not
        ours.

        Raises ShardError when the shard process does not answer. May block.
        """
        if self._process is not None:
            return self._process.statistics()
        return [server.statistics() for server in self._servers]

    def stop(self) -> None:
        """End those that are ours. Idempotent. May block."""
        if self._process is not None:
            self._process.stop()
            self._process = None
        for server in self._servers:
            server.stop()
        self._servers = ()
        if self._unix_dir:
            shutil.rmtree(self._unix_dir, ignore_errors=True)
            self._unix_dir = ""

    def _start_own(self, rt: Runtime, faults: FaultPlan, seed: int) -> None:
        count = self.spec.count
        if self.kind == "embedded":
            self._unix_dir = private_directory() if self.spec.unix else ""
            self._process = ShardProcess(
                rt,
                count,
                faults=faults,
                password=self._password,
                unix_dir=self._unix_dir or None,
                removes_unix_dir=self.spec.unix,
                seed=seed,
            ).start()
        elif self.kind == "cluster":
            self._servers = RedisCluster(rt, count, self._password).start().servers
        else:
            self._servers = [RedisServer(rt, unix=self.spec.unix, password=self._password) for _ in range(count)]
            for server in self._servers:
                server.start()

    def _checked(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise ShardError(f"no shard {index}: there are 0 to {len(self) - 1}")
        return index

    def _server(self, index: int) -> RedisServer:
        if not self._servers:
            raise ShardError(f"{self.spec}: these servers are not ours to kill or start")
        return self._servers[self._checked(index)]
