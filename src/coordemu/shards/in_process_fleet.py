"""InProcessFleet: embedded shards beside the coordinator, on one loop of the same runtime.

Role: what `ShardFleet` is to a run on real threads, for a run in the simulator: addresses, and kill, restart and faults
by index. Shards in a process of their own cannot be simulated; here one task, "shards", turns one loop for all of them,
so every byte between coordinator and shard is a step of the schedule.

What changes a shard runs on that loop's task. The caller waits for it, or (`post_kill`, `post_restart`) does not: then
its moment is the schedule's choice.

Thread: any, one at a time; `stop`, `kill`, `restart` and `set_faults` block, in the runtime's time. Upstream: none.
Left out: real servers, unix sockets. Bound: the actions that are posted and not carried out.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from coordemu.runtime.base import Address, Runtime
from coordemu.shards.embedded_shard import EmbeddedShard
from coordemu.shards.fault_plan import NO_FAULTS, FaultPlan
from coordemu.shards.shard_command import query_command
from coordemu.shards.shard_errors import ShardError
from coordemu.shards.shard_fleet import ShardEndpoint

KIND = "embedded"


class InProcessFleet:
    """Some embedded shards, by index, started when made.

    rt: the runtime that they live on.  count: 1 or more, else ShardError.  faults: from the start on.  password: None
    for none.  Thread: any. Raises OSError when an address can't be had.
    """

    def __init__(self, rt: Runtime, count: int, faults: FaultPlan = NO_FAULTS, password: str | None = None) -> None:
        if count < 1:
            raise ShardError(f"a fleet of {count} shards")
        self.kind = KIND
        self._rt = rt
        self._password = password
        self.loop = rt.loop("shards")
        self.shards = tuple(EmbeddedShard(rt, self.loop, faults=faults, password=password) for _ in range(count))
        for shard in self.shards:
            shard.start()
        self._addresses = [shard.address for shard in self.shards]
        self._task = rt.spawn(self.loop.run, name="shards")
        self._stopped = False

    def __len__(self) -> int:
        return len(self.shards)

    def __repr__(self) -> str:
        return f"<InProcessFleet {len(self)} shards{' stopped' if self._stopped else ''}>"

    @property
    def password(self) -> str | None:
        """The password of every shard, None for none."""
        return self._password

    @property
    def addresses(self) -> list[Address]:
        """Each shard's address, by index."""
        return list(self._addresses)

    @property
    def endpoints(self) -> list[ShardEndpoint]:
        """Each shard's address and password, by index."""
        return [ShardEndpoint(address, self._password) for address in self._addresses]

    def query_command(self, query_id: int | str, service_ns: int) -> tuple[bytes, ...]:
        """`coordemu.shards.shard_command.query_command` for embedded shards. Thread: any."""
        return query_command(KIND, query_id, service_ns)

    def post_kill(self, index: int) -> None:
        """Have one shard end as by force, soon. Raises ShardError for one that does not exist. Never blocks."""
        self._post(self.shards[self._checked(index)].stop)

    def post_restart(self, index: int) -> None:
        """Have one shard come back at its address, soon. Raises as `post_kill`. Never blocks."""
        self._post(self.shards[self._checked(index)].start)

    def kill(self, index: int) -> None:
        """Close one shard's port and cut its connections. Raises ShardError for one that does not exist. Blocks."""
        self._carry_out(self.shards[self._checked(index)].stop)

    def restart(self, index: int) -> None:
        """Bring one shard back at its address. Raises ShardError for one that does not exist. Blocks."""
        self._carry_out(self.shards[self._checked(index)].start)

    def set_faults(self, plan: FaultPlan, index: int | None = None) -> None:
        """Change the fault plan of one shard, or of all (None). Raises ShardError for one that does not exist.
        Blocks."""
        chosen = self.shards if index is None else [self.shards[self._checked(index)]]
        for shard in chosen:
            self._carry_out(partial(shard.set_faults, plan))

    def statistics(self) -> list[dict[str, int]]:
        """Each shard's counts, by index. Thread: any. Never blocks."""
        return [shard.statistics() for shard in self.shards]

    def stop(self) -> None:
        """End them all, and their task. Idempotent. Blocks until it has ended."""
        if self._stopped:
            return
        self._stopped = True
        self.loop.stop()
        self._task.join()
        for shard in self.shards:
            shard.stop()
        self.loop.close()

    def _checked(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise ShardError(f"no shard {index}: there are 0 to {len(self) - 1}")
        return index

    def _post(self, action: Callable[[], object]) -> None:
        self.loop.post(action, "shards: orders")

    def _carry_out(self, action: Callable[[], object]) -> None:
        done = self._rt.event("shards: order carried out", owed_by=lambda: [self._task])

        def act() -> None:
            action()
            done.set()

        self._post(act)
        done.wait()
