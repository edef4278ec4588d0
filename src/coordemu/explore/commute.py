"""Commute: the same run with fewer switches, by exchanging neighbours that do not touch the same thing.

Role: a random order switches all the time, mostly between steps that have nothing to do with each other. Two steps of
different actors that touch no object in common, or only read it, can change places, and every object still sees the
same history. So the order is taken apart into what each step must come after, and put together again by keeping to an
actor as long as its next step is free to come. What must come after what: an actor's own steps, two touches of an
object unless both only read it, an actor's first step after the step that made it, makings of actors of one name
(whose keys count them), and everything over a moment at which time passed.

What footprints do not show (a draw of the runtime's chance, the quiet of a sleeping loop) can make the new order come
out otherwise; whoever uses it plays it and looks.

Thread: pure. Upstream: none. Left out: proving anything; that is `coordemu.explore.dpor`'s. Bounds: linear in steps and
touches, times the number of heuristics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from coordemu.explore.segments import Segment
from coordemu.runtime.sim_schedule import CLOCK_NAME, PICK_KEY, Replay, Schedule, Step
from coordemu.runtime.sim_task import READ, Actor, Touch


class Births(Replay):
    """A replay that notes in which step each actor was made. `born_in`: (key, name, index of the step, -1 before)."""

    def __init__(self, schedule: Schedule) -> None:
        self.born_in: list[tuple[str, str, int]] = []
        self._length = len(schedule.steps)
        super().__init__(schedule)

    def born(self, actor: Actor) -> None:
        """Note it."""
        self.born_in.append((actor.key, actor.name, self._length - self.left - 1))


@dataclass(slots=True)
class _Unit:
    """A step with the picks inside it. after: the places of units that must come before it."""

    key: str
    span: int
    after: set[int]


def commuted(
    steps: Sequence[Step],
    footprints: Sequence[Sequence[Touch]],
    time_passed_at: Sequence[int],
    born_in: Sequence[tuple[str, str, int]],
    only_needed: bool = False,
) -> tuple[Segment, ...]:
    """Segments of the order with the fewest switches that was found. The arguments are those of one recorded run.

    only_needed: leave out, after the last moment at which time passed, what the last step does not need (for a run
    that its last step ended).
    """
    units, spans = _units(steps, footprints, time_passed_at, born_in)
    wanted = _needed(units, spans) if only_needed else None
    orders = [_arrange(units, spans, choose, wanted) for choose in (_earliest, _longest, _fewest_left)]
    best = min(orders, key=_turns)
    own: dict[str, int] = {}
    found: list[Segment] = []
    for key in best:
        own[key] = own.get(key, 0) + 1
        if found and found[-1][0] == key:
            found.pop()
        found.append((key, own[key]))
    return tuple(found)


def _turns(order: Sequence[str]) -> int:
    return sum(1 for a, b in pairwise(order) if a != b)


def _units(
    steps: Sequence[Step],
    footprints: Sequence[Sequence[Touch]],
    time_passed_at: Sequence[int],
    born_in: Sequence[tuple[str, str, int]],
) -> tuple[list[_Unit], list[int]]:
    """The units, and where each stretch between two moments ends."""
    borders = sorted(set(time_passed_at))
    units: list[_Unit] = []
    unit_of: list[int] = []
    span = 0
    ends: list[int] = []
    for index, (key, _) in enumerate(steps):
        while span < len(borders) and borders[span] <= index and not (key == PICK_KEY and unit_of):
            ends.append(len(units))
            span += 1
        if key == PICK_KEY and units:
            unit_of.append(len(units) - 1)
            continue
        unit_of.append(len(units))
        units.append(_Unit(key, len(ends), set()))
    ends.append(len(units))
    _link_touches(units, unit_of, footprints)
    _link_births(units, unit_of, born_in)
    return units, ends


def _link_touches(units: list[_Unit], unit_of: Sequence[int], footprints: Sequence[Sequence[Touch]]) -> None:
    last_of: dict[str, int] = {}
    writer: dict[int, int] = {}
    readers: dict[int, set[int]] = {}
    for at, unit in enumerate(units):
        if unit.key in last_of:
            unit.after.add(last_of[unit.key])
        last_of[unit.key] = at
    for index, touches in enumerate(footprints):
        at = unit_of[index]
        for uid, how in touches:
            if uid in writer:
                units[at].after.add(writer[uid])
            if how == READ:
                readers.setdefault(uid, set()).add(at)
            else:
                units[at].after |= readers.pop(uid, set())
                writer[uid] = at
        units[at].after.discard(at)


def _link_births(units: list[_Unit], unit_of: Sequence[int], born_in: Sequence[tuple[str, str, int]]) -> None:
    first_of: dict[str, int] = {}
    for at, unit in enumerate(units):
        first_of.setdefault(unit.key, at)
    makers: dict[str, int] = {}
    for key, name, index in born_in:
        if index < 0:
            continue
        maker = unit_of[index]
        if key in first_of:
            # A task is made before its spawner's step "spawn" and can go on after it; what runs by itself, at once.
            units[first_of[key]].after.add(maker)
            spawned = next((at for at in range(maker + 1, first_of[key]) if units[at].key == units[maker].key), None)
            if spawned is not None:
                units[first_of[key]].after.add(spawned)
            units[first_of[key]].after.discard(first_of[key])
        if name in makers and makers[name] != maker:
            units[maker].after.add(makers[name])
        makers[name] = maker


def _needed(units: Sequence[_Unit], ends: Sequence[int]) -> set[int]:
    """What the last unit needs, and all of the stretches before the last."""
    begin = ends[-2] if len(ends) > 1 else 0
    wanted = set(range(begin))
    todo = [len(units) - 1] if units else []
    while todo:
        at = todo.pop()
        if at not in wanted:
            wanted.add(at)
            todo.extend(units[at].after)
    return wanted


_Choose = Callable[[dict[str, list[int]], Callable[[str], int]], str]


def _earliest(waiting: dict[str, list[int]], _run: Callable[[str], int]) -> str:
    """Whose next step was first."""
    return min(waiting, key=lambda key: waiting[key][0])


def _longest(waiting: dict[str, list[int]], run: Callable[[str], int]) -> str:
    """Who can go on for the most steps."""
    return max(waiting, key=lambda key: (run(key), -waiting[key][0]))


def _fewest_left(waiting: dict[str, list[int]], run: Callable[[str], int]) -> str:
    """Who is nearest to its last step, among those that get there in one go; else who goes longest."""
    return max(waiting, key=lambda key: (run(key) == len(waiting[key]), run(key), -waiting[key][0]))


def _arrange(units: Sequence[_Unit], ends: Sequence[int], choose: _Choose, wanted: set[int] | None) -> list[str]:
    """The actors of an order in which each goes on as long as it may. choose: who is next when one may not."""
    order: list[str] = []
    done: set[int] = set()
    begin = 0
    current = ""
    for end in ends:
        left: dict[str, list[int]] = {}
        clock: list[int] = []
        for at in range(begin, end):
            if wanted is None or at in wanted:
                (clock if units[at].key == CLOCK_NAME else left.setdefault(units[at].key, [])).append(at)
        first = begin

        def run(key: str, left: dict[str, list[int]] = left, first: int = first) -> int:
            """How many steps an actor could take now, one after the other."""
            taken: set[int] = set()
            for at in left[key]:
                if any(before >= first and before not in done and before not in taken for before in units[at].after):
                    break
                taken.add(at)
            return len(taken)

        while left:
            if current not in left or not run(current):
                ready = {key: places for key, places in left.items() if run(key)}
                current = choose(ready, run)
            count = run(current)
            order += [current] * count
            done.update(left[current][:count])
            del left[current][:count]
            if not left[current]:
                del left[current]
        if clock:  # it settles every order, so it comes last
            order += [CLOCK_NAME] * len(clock)
            done.update(clock)
            current = CLOCK_NAME
        begin = end
    return order
