"""Oracles: what must hold of a coordinator at rest, and of the books of an order; each says what does not.

Role: a search needs to know what is wrong without being told what to look for. `AT_REST` are conditions that become
true once all work is done and never before; the lab waits for them a while, and those that still fail are breaches.
`of_books` looks at what was counted on the way. A deadlock is none of these: the runtime sees it.

A breach is "leaked" (something is left that should be gone) or "broken" (all else).

Thread: the lab's, at a moment when no other task is in the middle of anything; they lock nothing. Upstream: none.
Left out: timing, which is the verdict's (`coordemu.lab.order_verdict`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from coordemu.coord.config import connections_per_io_thread
from coordemu.coord.conn_state import ConnState
from coordemu.coord.coordinator import Coordinator
from coordemu.coord.resize_record import Resize
from coordemu.lab.order_load import OrderLoad
from coordemu.shards.in_process_fleet import InProcessFleet

LEAKED, BROKEN = "leaked", "broken"


@dataclass(frozen=True, slots=True)
class Breach:
    """What does not hold. kind: `LEAKED` or `BROKEN`.  name: of the oracle, part of the signature.  sentence: with
    numbers."""

    kind: str
    name: str
    sentence: str


# Given the coordinator and its shards: "" when it holds, else what does not.
RestOracle = Callable[[Coordinator, InProcessFleet], str]


def _queues(coordinator: Coordinator, fleet: InProcessFleet) -> str:
    for io in coordinator.cluster.io_runtimes:
        sums = io.queue.statistics()
        if sums["size"] or sums["pending"]:
            return f"{io.queue.name} holds {sums['size']} requests, {sums['pending']} are under way"
        if io.pending.pending_total(0):
            return f"io {io.index} counts {io.pending.pending_total(0)} outstanding replies"
        if not io.ready:
            return f"io {io.index} lets no request through"
    return ""


def _queries(coordinator: Coordinator, fleet: InProcessFleet) -> str:
    sums = coordinator.queries.statistics()
    if sums["in_flight"] or sums["held"]:
        return f"{sums['in_flight']} queries in flight, {sums['held']} held"
    if sums["submitted"] != sums["replied"] + sums["failed"]:
        return f"the sums of the queries do not add up: {sums}"
    return ""


def _gate(coordinator: Coordinator, fleet: InProcessFleet) -> str:
    mode = coordinator.queries.gate.mode
    return "" if mode == "open" else f"the admission gate is left on {mode!r}"


def _resizes(coordinator: Coordinator, fleet: InProcessFleet) -> str:
    for resize in coordinator.resizer.history:
        if not resize.complete:
            size = f"{resize.workers_before} -> {resize.workers_after}"
            return f"the change {size} has {len(resize.receipts)} of {resize.receipts_expected} receipts"
    for io in coordinator.cluster.io_runtimes:
        if io.manager.draining is not None:
            return f"io {io.index} still drains"
    return ""


def _threads(coordinator: Coordinator, fleet: InProcessFleet) -> str:
    workers = coordinator.workers
    stats = workers.stats()
    wanted = workers.target_num_workers()
    if stats.num_threads != wanted:
        return f"{stats.num_threads} worker threads are wanted, and WORKERS is {wanted}"
    if stats.num_threads_alive not in ((wanted,) if workers.pool.is_initialized else (0, wanted)):
        return f"{stats.num_threads_alive} worker threads live, and {wanted} are wanted"
    if stats.incomplete_jobs:
        return f"{stats.incomplete_jobs} jobs are left in the pool"
    return ""


def _connections(coordinator: Coordinator, fleet: InProcessFleet) -> str:
    cluster = coordinator.cluster
    wanted = connections_per_io_thread(coordinator.config)
    share = cluster.conns_per_node
    if share != wanted and not any(map(_gave_back, coordinator.resizer.history)):
        return f"{share} connections per node are asked for, and WORKERS wants {wanted}"
    nodes = {node.node_id for node in cluster.topology.nodes}
    for io in cluster.io_runtimes:
        if set(io.manager.pools) != nodes:
            return f"io {io.index} has pools of {sorted(io.manager.pools)}, the topology {sorted(nodes)}"
        for pool in io.manager.pools.values():
            connected = sum(conn.state is ConnState.CONNECTED for conn in pool.conns)
            if not pool.num == len(pool.conns) == connected == share:
                have = f"{pool.num} in turn, {len(pool.conns)} owned, {connected} connected"
                return f"io {io.index}, {pool.node_id}: {have}, and {share} are wanted"
    return ""


def _gave_back(resize: Resize) -> bool:
    """A deadline may leave more connections than are wanted: the policy says so."""
    return any(receipt.outcome == "deadline" and receipt.num_to == receipt.num_from for receipt in resize.receipts)


def _transports(coordinator: Coordinator, fleet: InProcessFleet) -> str:
    for io in coordinator.cluster.io_runtimes:
        owned = sum(len(pool.conns) for pool in io.manager.pools.values())
        closing, open_now = len(io.manager.context.closing), io.loop.statistics()["transports"]
        if closing or open_now != owned:
            return f"io {io.index} has {open_now} transports open, {closing} closing, and owns {owned}"
    return ""


def _shard_side(coordinator: Coordinator, fleet: InProcessFleet) -> str:
    owned: dict[str, int] = {}
    for io in coordinator.cluster.io_runtimes:
        for pool in io.manager.pools.values():
            owned[str(pool.endpoint)] = owned.get(str(pool.endpoint), 0) + len(pool.conns)
    for shard, sums in zip(fleet.shards, fleet.statistics(), strict=True):
        wanted = owned.get(str(shard.address), 0)
        if sums["connections"] != wanted:
            return f"shard {shard.address} has {sums['connections']} connections, and the pools {wanted}"
    return ""


AT_REST: tuple[tuple[str, str, RestOracle], ...] = (
    (BROKEN, "queries at rest", _queries),
    (BROKEN, "work queue empty", _queues),
    (BROKEN, "resizes complete", _resizes),
    (BROKEN, "admission gate open", _gate),
    (BROKEN, "threads as wanted", _threads),
    (BROKEN, "connections as wanted", _connections),
    (LEAKED, "transports owned", _transports),
    (LEAKED, "connections at the shards", _shard_side),
)


def at_rest(coordinator: Coordinator, fleet: InProcessFleet) -> bool:
    """Whether all of `AT_REST` hold. Thread: see the file."""
    return not any(oracle(coordinator, fleet) for _, _, oracle in AT_REST)


def rest_breaches(coordinator: Coordinator, fleet: InProcessFleet) -> list[Breach]:
    """Those of `AT_REST` that do not hold. Thread: see the file."""
    said = [(kind, name, oracle(coordinator, fleet)) for kind, name, oracle in AT_REST]
    return [Breach(kind, name, sentence) for kind, name, sentence in said if sentence]


def of_books(coordinator: Coordinator, load: OrderLoad) -> list[Breach]:
    """What the clients, the queries and the receipts say of each other, once all is over. Thread: see the file."""
    found = [Breach(BROKEN, "one answer each", mistake) for mistake in load.mistakes[:1]]
    raised = coordinator.workers.stats().job_errors
    if raised:
        found.append(Breach(BROKEN, "no job raises", f"{raised} jobs raised an error"))
    sums = coordinator.queries.statistics()
    clients = (load.sent, load.replied, len(load.failures))
    host = (sums["submitted"], sums["replied"], sums["failed"])
    if clients != host:
        counts = f"the clients count (sent, replied, failed) {clients}, the coordinator {host}"
        found.append(Breach(BROKEN, "clients and coordinator agree", counts))
    for resize in coordinator.resizer.history:
        for receipt in resize.receipts:
            left = receipt.still_in_flight
            if left and (left < 0 or not (receipt.outcome == "superseded" or _gave_back(resize))):
                text = f"a receipt ({receipt.outcome}) of {receipt.pending} replies leaves {left} without a fate"
                found.append(Breach(BROKEN, "receipts add up", text))
        if len(resize.receipts) > resize.receipts_expected:
            found.append(Breach(BROKEN, "receipts add up", "a change of size has a receipt too many"))
    return found
