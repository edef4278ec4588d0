"""MRClusterTopology: which nodes the cluster has, as a value.

Role: handed to every I/O runtime, which compares it with the pools that it has: nodes that left are disconnected,
new ones and those whose endpoint changed get a fresh pool, all others are left alone.

Thread: frozen, any. Upstream: MRClusterTopology, MRClusterNode (src/coord/rmr/cluster_topology.h). Left out: slots
and shards with replicas: a node here is a shard's master, and every query goes to all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from coordemu.coord.endpoint import MREndpoint


@dataclass(frozen=True, slots=True)
class MRClusterNode:
    """One node. node_id: unique within its topology.  endpoint: where it is."""

    node_id: str
    endpoint: MREndpoint

    def __str__(self) -> str:
        return f"{self.node_id} at {self.endpoint}"


@dataclass(frozen=True, slots=True)
class MRClusterTopology:
    """The nodes, in the order in which commands go to them. Raises ValueError when a node_id stands twice."""

    nodes: tuple[MRClusterNode, ...] = ()

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for node in self.nodes:
            if node.node_id in seen:
                raise ValueError(f"node {node.node_id!r} stands twice in the topology")
            seen.add(node.node_id)

    @classmethod
    def of(cls, *endpoints: MREndpoint) -> MRClusterTopology:
        """A topology of these endpoints, with node ids "node-0", "node-1" and so on. Thread: any."""
        return cls(tuple(MRClusterNode(f"node-{i}", endpoint) for i, endpoint in enumerate(endpoints)))

    @property
    def num_shards(self) -> int:
        """How many nodes."""
        return len(self.nodes)
