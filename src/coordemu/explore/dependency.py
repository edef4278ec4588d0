"""Dependency: which steps of a run could have come in another order, and which orders are the same.

Role: two steps of different actors are *dependent* when they touch an object in common and not both only read it. A run
is then a partial order (`Past`): what an actor does comes in its own order, dependent steps come in theirs, who was let
go on comes after who let it, and before time passes everything has happened that comes before it. Two runs with the
same partial order are the same for the program; `fingerprint` tells whether they are.

Locks need care. Who wants a held lock cannot go on, so a release and the acquisition after it are never to be had in
the other order; what can be exchanged is the two acquisitions. A *try* is different: it can come before the release,
and fails. The step that ends a run while others could go on (an exception) depends on everything: it decides how far
they come. So do the steps of the explored clock, each of which may end somebody's wait.

A step may touch several objects: the one that its actor had announced, and all up to its next schedule point.

Thread: pure; one run each. Upstream: none. Left out: what is shared and touched without the runtime's knowledge (plain
fields outside of any lock). It is not seen, and orders that differ in nothing else are taken for the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from coordemu.runtime.sim_task import ACQUIRE, READ, RELEASE, Touch

# What a step does to an object, as a set of bits.
READS, WRITES, ACQUIRES, RELEASES = (1 << how for how in range(4))
# An "object" that every step touches.
ALL = 0

# uid -> bits
Footprint = dict[int, int]

# actor -> the steps that let it go on, of which it has made no use yet
Pending = dict[int, tuple[int, ...]]

# (actor, how many-th step of its own, label, what came before it as (actor, steps) pairs)
Event = tuple[str, int, str, tuple[tuple[str, int], ...]]
Fingerprint = tuple[Event, ...]

assert (1 << READ, 1 << ACQUIRE, 1 << RELEASE) == (READS, ACQUIRES, RELEASES)


def footprint_of(touches: Iterable[Touch]) -> Footprint:
    """Touches, put together by object."""
    found: Footprint = {}
    for uid, how in touches:
        found[uid] = found.get(uid, 0) | 1 << how
    return found


def dependent(one: Footprint, other: Footprint) -> bool:
    """Whether steps with these footprints may not change places."""
    if (one.get(ALL, 0) | other.get(ALL, 0)) & WRITES:
        return True
    if len(one) > len(other):
        one, other = other, one
    return any(uid in other and bits | other[uid] != READS for uid, bits in one.items())


class _Object:
    """What has happened to one object: steps by number, -1 for none."""

    __slots__ = ("acquired", "reads", "written")

    def __init__(self) -> None:
        self.written = -1  # the last that was not only a read
        self.reads: list[int] = []  # since then
        self.acquired = -1


# An object, and what it was before.
_Change = tuple[_Object, int, list[int], int, int]


class Past:
    """The partial order of one run, step by step.

    By number of the step, from 0 on: `actors` (-1 for a pick), `footprints`, `before` (a bit for each step that comes
    before it in the partial order) and `races` (the earlier steps that it could have come before).
    """

    def __init__(self) -> None:
        self.actors: list[int] = []
        self.footprints: list[Footprint] = []
        self.before: list[int] = []
        self.races: list[Sequence[int]] = []
        self._objects: dict[int, _Object] = {}
        self._last: dict[int, int] = {}
        self.cut = -1  # the step that ended the run while others could go on
        self._floor = 0
        # For each step: what was pending, the floor and its actor's last step before it; what it changed.
        self._undo: list[tuple[Pending, int, int | None, list[_Change]]] = []

    def settle(self) -> None:
        """All steps so far come before all that follow: time has passed."""
        self._floor = (1 << len(self.actors)) - 1

    def reserve(self, actor: int, pending: Pending | None = None) -> None:
        """A step begins: `fill` says what it touched. actor: -1 for a pick, which is not filled.
        pending: kept for `cut_back`."""
        self.actors.append(actor)
        self.footprints.append({})
        self.before.append(0)
        self.races.append(())
        self._undo.append((pending or {}, self._floor, self._last.get(actor), []))

    def cut_back(self, step: int) -> Pending:
        """Forget all from a step on, as if it had not begun. Returns what was pending then."""
        pending: Pending = {}
        self.cut = -1
        while len(self.actors) > step:
            actor = self.actors.pop()
            pending, self._floor, last, changes = self._undo.pop()
            if last is not None:
                self._last[actor] = last
            else:
                self._last.pop(actor, None)
            for met, written, reads, count, acquired in reversed(changes):
                met.written, met.reads, met.acquired = written, reads, acquired
                del reads[count:]
        del self.footprints[step:], self.before[step:], self.races[step:]
        return pending

    def own_past(self, actor: int, enabled_by: Sequence[int]) -> int:
        """What comes before the actor's next step whatever that touches. enabled_by: the steps that let it go on."""
        before = self.before
        past = self._floor
        last = self._last.get(actor)
        if last is not None:
            past |= before[last] | 1 << last
        for step in enabled_by:
            past |= before[step] | 1 << step
        return past

    def fill(self, step: int, footprint: Footprint, enabled_by: Sequence[int], wanted: int) -> None:
        """A step has ended. wanted: the lock for which its actor was waiting when it began, 0 for none."""
        actor = self.actors[step]
        own = self.own_past(actor, enabled_by)
        self.footprints[step] = footprint
        edges: dict[int, None] = {}
        races: list[int] = []
        if footprint.get(ALL, 0) & WRITES:
            edges.update((last, None) for last in self._last.values())
        else:
            for uid, bits in footprint.items():
                self._meet(uid, bits, uid == wanted, edges, own, races)
        for uid, bits in footprint.items():
            self._leave(uid, bits, step, self._undo[step][3])
        before = self.before
        past = own
        for edge in edges:
            past |= before[edge] | 1 << edge
        for edge in edges:
            if (
                not own >> edge & 1
                and self.actors[edge] != actor
                and not any(before[other] >> edge & 1 for other in edges)
                and not (wanted and self.footprints[edge].get(wanted, 0) & RELEASES)
                and edge not in races
            ):
                races.append(edge)
        before[step] = past
        self.races[step] = races
        self._last[actor] = step

    def _meet(self, uid: int, bits: int, waited: bool, edges: dict[int, None], own: int, races: list[int]) -> None:
        met = self._objects.get(uid)
        if met is None:
            return
        if met.written >= 0:
            edges[met.written] = None
        if bits != READS:
            edges.update(dict.fromkeys(met.reads))
        if waited and bits & ACQUIRES and met.acquired >= 0 and not own >> met.acquired & 1:
            races.append(met.acquired)

    def _leave(self, uid: int, bits: int, step: int, changes: list[_Change]) -> None:
        met = self._objects.get(uid)
        if met is None:
            met = self._objects[uid] = _Object()
        changes.append((met, met.written, met.reads, len(met.reads), met.acquired))
        if bits == READS:
            met.reads.append(step)
        else:
            met.written = step
            met.reads = []
            if bits & ACQUIRES:
                met.acquired = step

    def acquired(self, uid: int) -> int:
        """The last step that took a lock, -1 for none."""
        met = self._objects.get(uid)
        return -1 if met is None else met.acquired


def fingerprint(past: Past, keys: Sequence[str], labels: Sequence[str]) -> Fingerprint:
    """The same for two runs exactly when they are the same but for the order of independent steps.

    keys, labels: of each step, the picks among them.
    """
    masks: dict[str, int] = {}
    events: list[tuple[int, str, int, str]] = []
    for step, key in enumerate(keys):
        if past.actors[step] < 0:  # part of the step that it is in
            at, of, own, label = events[-1]
            events[-1] = (at, of, own, f"{label}, {labels[step]}")
            continue
        mask = masks.get(key, 0)
        events.append((step, key, mask.bit_count(), labels[step]))
        masks[key] = mask | 1 << step
    before = past.before
    found = []
    for step, key, own, label in events:
        seen = before[step]
        counts = tuple((other, count) for other in sorted(masks) if (count := (seen & masks[other]).bit_count()))
        found.append((key, own, label, counts))
    return tuple(sorted(found))
