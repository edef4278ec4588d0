"""SlotMapHolder: the slot map that a cluster client goes by, and the one caller at a time who asks for a newer one.

Role: the map is a value that is replaced as a whole. While there is none yet, who needs it asks; whoever else needs it
meanwhile waits for that answer, within its own deadline and the client's patience. When there is one nobody waits
for a newer one: who is told that a slot has moved corrects that slot and asks, and if somebody asks already, goes on.

When no node has an answer, the slots are taken to be shared out evenly over the seeds, for this command, by all who
waited: each would be told the same if it asked for itself. An asker whose own context ended says nothing about the
nodes; then the next one asks.

Thread: any. Upstream: clusterStateHolder (osscluster.go). Left out: asking at intervals. Bound: one asker.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import hiredis

from coordemu.pool.pool_context import PoolContext, check, park
from coordemu.pool.pool_errors import NoSlotMap, PoolError
from coordemu.pool.slot_map import SlotMap, even_map, parse_slots
from coordemu.runtime.base import Address, Event, Holder, Runtime

# Called with a node and the asker's context: the reply to CLUSTER SLOTS, an error reply as a value.
Ask = Callable[[Address, PoolContext | None], Any]


class SlotMapHolder:
    """The map of one client. seeds: nodes to ask besides those that are known, one or more.  patience_ns: how long
    somebody waits for the first map at most, 1 or more, None: as long as it takes."""

    def __init__(
        self, rt: Runtime, name: str, seeds: Sequence[Address], ask: Ask, patience_ns: int | None = None
    ) -> None:
        self.name = name
        self.maps = 0
        self._rt = rt
        self._seeds = tuple(seeds)
        self._ask = ask
        self._patience_ns = patience_ns
        self._lock = rt.lock(f"{name} slot map lock")
        # Replaced under the lock, and read without it.
        self._map = rt.cell(_no_map(), f"{name} slot map")
        self._asker = ""
        self._waits: list[Event] = []
        self._failures = 0
        self._closed = False

    @property
    def known(self) -> SlotMap | None:
        """The map, if there is one."""
        return self._map.value

    def get(self, ctx: PoolContext | None = None) -> SlotMap:
        """The map; asked for when there is none.

        Raises Cancelled, DeadlineExceeded (the context), NoSlotMap (somebody else asks, for too long). Thread: any.
        May block, while there is none.
        """
        found = self._map.value
        return found if found is not None else self._first(ctx)

    def _first(self, ctx: PoolContext | None) -> SlotMap:
        deadline_ns = None if self._patience_ns is None else self._rt.now_ns() + self._patience_ns
        while True:
            with self._lock:
                found, failures = self._map.value, self._failures
                if found is not None:
                    return found
                if self._closed:
                    return even_map(self._seeds)
                event = self._begin_or_wait_locked()
            if event is None:
                self._carry_out(ctx)
            else:
                park(self._rt, event, ctx, deadline_ns)
                self._leave(event)
            check(ctx)
            if self._map.value is None:
                if self._failures != failures:
                    return even_map(self._seeds)
                if deadline_ns is not None and self._rt.now_ns() >= deadline_ns:
                    who = self._asker or "nobody"
                    raise NoSlotMap(f"{self.name}: no slot map in time; {who} asks for it")

    def _begin_or_wait_locked(self) -> Event | None:
        """Be the asker (None), or an event of the end of another's asking."""
        if not self._asker:
            self._asker = self._rt.current().name
            return None
        event = self._rt.event(f"the slot map of {self.name}", owed_by=self._owed_by)
        self._waits.append(event)
        return event

    def _leave(self, event: Event) -> None:
        with self._lock:
            if event in self._waits:
                self._waits.remove(event)

    def _owed_by(self) -> Sequence[Holder]:
        return [f"{self._asker or 'whoever'} who asks the nodes"]

    def reload(self, ctx: PoolContext | None = None) -> bool:
        """Ask for a newer one. True: there is a new map. False: nobody answered, or another asks already.

        Thread: any. Blocks. Upstream: Reload.
        """
        with self._lock:
            if self._asker or self._closed:
                return False
            self._asker = self._rt.current().name
        return self._carry_out(ctx)

    def _carry_out(self, ctx: PoolContext | None) -> bool:
        """Ask the nodes, one after the other, until one answers. The asker's part."""
        fresh: SlotMap | None = None
        try:
            fresh = self._ask_around(ctx)
        finally:
            ended = ctx is not None and ctx.error() is not None
            with self._lock:
                self._asker = ""
                if fresh is not None:
                    self._map.value = fresh
                    self.maps += 1
                elif not ended:
                    self._failures += 1
                waits, self._waits = self._waits, []
            for event in waits:
                event.set()
        return fresh is not None

    def _ask_around(self, ctx: PoolContext | None) -> SlotMap | None:
        current = self._map.value
        generation = 0 if current is None else current.generation + 1
        known = current.nodes if current is not None else ()
        for address in dict.fromkeys((*known, *self._seeds)):
            if self._closed or (ctx is not None and ctx.error() is not None):
                break
            try:
                reply = self._ask(address, ctx)
                if isinstance(reply, hiredis.ReplyError):
                    return even_map(self._seeds, generation)
                return parse_slots(reply, address, generation)
            except (PoolError, OSError, ValueError):
                continue
        return None

    def slot_moved(self, slot: int, to: Address) -> None:
        """One slot is elsewhere. Thread: any."""
        with self._lock:
            current = self._map.value
            if current is not None and current.node_of(slot) != to:
                self._map.value = current.moved(slot, to)

    def close(self) -> None:
        """Nobody is asked any more, and nobody waits. Thread: any."""
        with self._lock:
            self._closed = True
            waits, self._waits = self._waits, []
        for event in waits:
            event.set()

    def __repr__(self) -> str:
        found = self._map.value
        return f"<SlotMapHolder {self.name!r} {'no map' if found is None else f'{len(found.nodes)} nodes'}>"


def _no_map() -> SlotMap | None:
    return None
