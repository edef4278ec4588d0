"""Coordinator: the whole thing put together, main thread, workers, I/O threads and what connects them.

Role: builds the layers in upstream's order, hands each the values it calls upwards through (log, yield, trigger),
and takes them down again without leaving a thread or socket. A test or a lab run needs this one object:

    with Coordinator(rt, options, endpoints, policy, shard_command) as coordinator:
        ...talk RESP to coordinator.host.address...

Commands: PING, CONFIG GET, CONFIG SET (WORKERS, CONN_PER_SHARD and what `coordemu.coord.config` holds), FT.SEARCH,
and upstream's debug command ``_FT.DEBUG SHARD_CONNECTION_STATES``.

Thread: built and stopped on any thread but its own; the command handlers run on main with the module lock held.
Upstream: RediSearch_InitModuleInternal, initSearchCluster (src/module.c). Left out: indexes, the keyspace, RDB.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from coordemu import resp_encode
from coordemu.coord.cluster import MRCluster
from coordemu.coord.config import Config, ConfigError, connections_per_io_thread
from coordemu.coord.conn_options import ConnOptions
from coordemu.coord.endpoint import MREndpoint
from coordemu.coord.history import check_faults
from coordemu.coord.host import Host, HostClient, Reply
from coordemu.coord.query import Queries, ShardCommand
from coordemu.coord.resize import Resizer, ResizeRefused
from coordemu.coord.resize_policy import ResizePolicy
from coordemu.coord.topology import MRClusterNode, MRClusterTopology
from coordemu.coord.workers import WorkersThreadPool
from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Address, Runtime

LOGS_KEPT = 1000


@dataclass(frozen=True, slots=True)
class CoordinatorOptions:
    """Sizes and options of one coordinator.

    workers: 0 to 16 (more with no_limits).  conn_per_shard: 0 = WORKERS + 1.  io_threads: 1 to 256.
    conn: connection options.  address: where clients connect, None = a free port on loopback.
    topology_validation_timeout_ms: how long queries may wait for a connection to every node; 0 = for ever.
    faults: historical faults that are on, names of `coordemu.coord.history.HISTORICAL_FAULTS`; UnknownFault (a
    ValueError, with the nearest name) for another.
    """

    workers: int = 0
    conn_per_shard: int = 0
    io_threads: int = 1
    no_limits: bool = False
    conn: ConnOptions = field(default_factory=ConnOptions)
    address: Address | None = None
    topology_validation_timeout_ms: int = 30_000
    faults: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        object.__setattr__(self, "faults", check_faults(self.faults))


class Coordinator:
    """Host, configuration, workers, cluster, queries and resizer of one process."""

    def __init__(
        self,
        rt: Runtime,
        options: CoordinatorOptions,
        endpoints: Sequence[MREndpoint],
        policy: ResizePolicy,
        shard_command: ShardCommand,
        log: Callable[[str, str], None] | None = None,
    ) -> None:
        """endpoints: one per shard, at least one.  shard_command: see `Queries`.  log: called with level and line;
        the newest 1,000 lines are kept in `logs` in any case. Raises ConfigError for sizes out of bounds. Nothing is
        started yet."""
        self._rt = rt
        self._log_to = log
        self.logs: deque[tuple[str, str]] = deque(maxlen=LOGS_KEPT)
        self.config = Config(
            workers=options.workers,
            conn_per_shard=options.conn_per_shard,
            search_io_threads=options.io_threads,
            topology_validation_timeout_ms=options.topology_validation_timeout_ms,
            connect_timeout_ms=options.conn.connect_timeout_ms,
            limits=not options.no_limits,
        )
        self.host = Host(rt, self._log, options.address)
        self.workers = WorkersThreadPool(
            rt, self.config, self._log, yield_cb=lambda ctx: self.host.yield_(),
            by_number=policy.reduce == "by-number", faults=options.faults,
        )  # fmt: skip
        topology = MRClusterTopology(
            tuple(MRClusterNode(f"node-{number}", endpoint) for number, endpoint in enumerate(endpoints))
        )
        self.cluster = MRCluster(
            rt,
            topology,
            num_io_threads=options.io_threads,
            conns_per_node=connections_per_io_thread(self.config),
            options=options.conn,
            topology_validation_timeout_ms=options.topology_validation_timeout_ms,
            log=self._log,
        )
        self.queries = Queries(rt, self.host, self.config, self.workers, self.cluster, shard_command)
        self.resizer = Resizer(rt, self.host, self.config, self.workers, self.cluster, self.queries, policy)
        self.config.on_workers_changed = self.resizer.set_workers
        self.config.on_conn_per_shard_changed = lambda old, new: self.resizer.set_conn_per_shard()
        self.host.command("CONFIG", self._config_command)
        self.host.command("FT.SEARCH", self.queries.command)
        self.host.command("_FT.DEBUG", self._debug_command)

    def start(self, ready_timeout_ns: int = 10 * NS_PER_S) -> bool:
        """Connect to every shard and start the main thread. True when every connection of every node stands, and the
        I/O threads let queries through.

        ready_timeout_ns: how long to wait for that. Blocks. Raises OSError when the host can't listen, RuntimeError
        when no thread can be had; nothing is left running then.
        """
        try:
            self.cluster.start()
            self.host.start()
        except (OSError, RuntimeError):
            self.stop()
            raise
        return self._rt.poll_until(
            lambda: self.connected() and self.cluster.ready, NS_PER_MS, "connections to the shards", ready_timeout_ns
        )

    def connected(self) -> bool:
        """Every connection of every node is Connected. Thread: any."""
        names = [name for names in self.cluster.fill_state_dict().values() for name in names]
        # An I/O runtime that has not applied its topology yet has no connections to show.
        wanted = len(self.cluster.topology.nodes) * self.cluster.num_io_threads * self.cluster.conns_per_node
        return len(names) >= wanted and all(name == "Connected" for name in names)

    def stop(self) -> None:
        """Take everything down: I/O threads, host, workers. Idempotent. Blocks until they have ended.

        The I/O threads go first: that fails what still waits for a silent shard, on main or on a worker, which would
        otherwise not end. Thread: none of theirs.
        """
        self.cluster.free()
        self.host.stop()
        self.workers.destroy()

    def __enter__(self) -> Coordinator:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _log(self, level: str, line: str) -> None:
        self.logs.append((level, line))
        if self._log_to is not None:
            self._log_to(level, line)

    def _config_command(self, client: HostClient, args: Sequence[bytes]) -> Reply:
        words = [arg.decode(errors="replace") for arg in args]
        verb = words[0].upper() if words else ""
        if verb == "GET" and len(words) == 2:
            found = self.config.config_get(words[1])
            flat = [part for pair in found.items() for part in pair]
            return resp_encode.array([resp_encode.bulk(str(part).encode()) for part in flat])
        if verb == "SET" and len(words) == 3:
            try:
                self.config.config_set(words[1], words[2])
            except (ConfigError, ResizeRefused) as err:
                text = str(err)
                return resp_encode.error(text if text.startswith("ERR ") else f"ERR {text}")
            return resp_encode.OK
        return resp_encode.error("ERR CONFIG takes GET <name> or SET <name> <value>")

    def _debug_command(self, client: HostClient, args: Sequence[bytes]) -> Reply:
        if len(args) != 1 or args[0].upper() != b"SHARD_CONNECTION_STATES":
            return resp_encode.error("ERR _FT.DEBUG takes SHARD_CONNECTION_STATES")
        parts: list[bytes] = []
        for node, states in sorted(self.cluster.fill_state_dict().items()):
            parts.append(resp_encode.bulk(node.encode()))
            parts.append(resp_encode.array([resp_encode.bulk(state.encode()) for state in states]))
        return resp_encode.array(parts)

    def statistics(self) -> dict[str, object]:
        """Of every part, by its name. Thread: any."""
        return {
            "host": self.host.statistics(),
            "queries": self.queries.statistics(),
            "resizer": self.resizer.statistics(),
            "cluster": self.cluster.statistics(),
        }

    def __repr__(self) -> str:
        return f"<Coordinator {self.host.address} workers={self.config.workers} conns={self.cluster.conns_per_node}>"
