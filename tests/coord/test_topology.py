"""Topologies and endpoints are values."""

from __future__ import annotations

import pytest

from coordemu.coord.endpoint import MREndpoint
from coordemu.coord.topology import MRClusterNode, MRClusterTopology
from coordemu.runtime.base import Address

A = MREndpoint(Address("127.0.0.1", 7001))
B = MREndpoint(Address(path="/tmp/b"), "pw")


def test_an_endpoint_is_its_address_and_password() -> None:
    assert str(A) == "127.0.0.1:7001"
    assert str(B) == "unix:/tmp/b"
    assert MREndpoint(Address("127.0.0.1", 7001)) == A
    assert MREndpoint(Address("127.0.0.1", 7001), "pw") != A
    assert MREndpoint(Address("127.0.0.1", 7002)) != A


def test_a_password_is_never_shown() -> None:
    assert "pw" not in repr(B)
    assert "pw" not in str(MRClusterNode("n", B))


def test_a_topology_of_endpoints() -> None:
    topology = MRClusterTopology.of(A, B)
    assert topology.num_shards == 2
    assert [str(node) for node in topology.nodes] == ["node-0 at 127.0.0.1:7001", "node-1 at unix:/tmp/b"]
    assert MRClusterTopology().num_shards == 0


def test_a_node_id_stands_once() -> None:
    with pytest.raises(ValueError, match="'n' stands twice"):
        MRClusterTopology((MRClusterNode("n", A), MRClusterNode("n", B)))
