"""SlotMap: which node serves which of the 16,384 slots, and which slot a key is in.

Role: the cluster client's idea of the cluster: a value that is replaced as a whole when the servers were asked again,
and corrected in one slot when one of them says that it has moved.

Thread: frozen, any. Upstream: clusterState and hashtag (osscluster.go, internal/hashtag). Left out: replicas.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from coordemu.runtime.base import Address

SLOTS = 16_384


def slot_of(key: bytes) -> int:
    """The slot of a key, 0 to 16,383; of "{tag}" in it, if there is one that is not empty. Upstream: hashtag.Slot."""
    begin = key.find(b"{")
    if begin >= 0:
        end = key.find(b"}", begin + 1)
        if end > begin + 1:
            key = key[begin + 1 : end]
    return crc_hqx(key, 0) % SLOTS


@dataclass(frozen=True, slots=True)
class SlotMap:
    """owners: per slot the index of its node, -1: nobody's.  nodes: their addresses.  generation: how many maps came
    before."""

    owners: tuple[int, ...]
    nodes: tuple[Address, ...]
    generation: int = 0

    def node_of(self, slot: int) -> Address | None:
        """Who serves it; None: nobody, as far as is known."""
        index = self.owners[slot]
        return self.nodes[index] if index >= 0 else None

    def moved(self, slot: int, to: Address) -> SlotMap:
        """The same with one slot elsewhere."""
        nodes = self.nodes if to in self.nodes else (*self.nodes, to)
        owners = (*self.owners[:slot], nodes.index(to), *self.owners[slot + 1 :])
        return SlotMap(owners, nodes, self.generation)


def even_map(nodes: Sequence[Address], generation: int = 0) -> SlotMap:
    """Slots shared out evenly, in the order of the nodes: for servers that are no cluster. ValueError without nodes."""
    if not nodes:
        raise ValueError("a slot map without nodes")
    return SlotMap(tuple(slot * len(nodes) // SLOTS for slot in range(SLOTS)), tuple(nodes), generation)


def parse_slots(reply: Any, asked: Address, generation: int = 0) -> SlotMap:
    """The map that CLUSTER SLOTS describes. asked: who answered, for entries that leave the host out.

    Raises ValueError for anything that is no such reply.
    """
    owners = [-1] * SLOTS
    nodes: dict[Address, int] = {}
    try:
        for first, last, master, *_replicas in reply:
            host = master[0].decode() if master[0] else asked.host
            index = nodes.setdefault(Address(host, int(master[1])), len(nodes))
            if not 0 <= first <= last < SLOTS:
                raise ValueError(f"slots {first} to {last}")
            owners[first : last + 1] = [index] * (last - first + 1)
    except (TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{asked} answers CLUSTER SLOTS with what is no table of slots") from error
    if not nodes:
        raise ValueError(f"{asked} knows of no slots that anybody serves")
    return SlotMap(tuple(owners), tuple(nodes), generation)
