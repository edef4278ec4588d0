"""Lanes: the last steps of a run, one column per actor, for a reader.

Role: the end of a failure's report. Few actors have their labels in their own columns; many have a mark there, and the
label stands at the right. Deliveries and handshakes of the network share one lane, a pick is in the lane of the actor
in whose step it came. A schedule knows no times; `Timed`, around the strategy of a run, notes them.

Thread: any. Upstream: none. Left out: colours, and the wait-for graph at the end (`SimOutcome.wait_for`). Bounds:
`last` rows of at most `width` characters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coordemu.explore.order import Played
from coordemu.runtime.base import NS_PER_MS
from coordemu.runtime.sim import SimRuntime
from coordemu.runtime.sim_schedule import CLOCK_NAME, PICK_KEY, Schedule, Strategy
from coordemu.runtime.sim_task import Actor

LAST = 40
WIDTH = 120
# A column narrower than this holds a mark instead of a label.
LABEL_WIDTH = 14
MARK = "*"
NETWORK = "network"
_NUMBER_AT_END = re.compile(r"[0-9]+$")
_END_OF_ROUTE = re.compile(r"(?<!\S)(?:\S+:)?([0-9]+)(?:~[0-9]+)?(?!\S)")
_NETWORK_LABELS = ("deliver ", "arrive")


class Timed:
    """A strategy that notes when each step was chosen. strategy: who decides.  Give `attach` to `play` as `prepare`.

    `times_ns` has the virtual time of each step of the schedule, picks included.
    """

    def __init__(self, strategy: Strategy) -> None:
        self.name = strategy.name
        self.times_ns: list[int] = []
        self._strategy = strategy
        self._sim: SimRuntime | None = None

    def attach(self, sim: SimRuntime) -> None:
        """The runtime whose clock it is."""
        self._sim = sim

    def _note(self) -> None:
        self.times_ns.append(self._sim.now_ns() if self._sim is not None else 0)

    def born(self, actor: Actor) -> None:
        """As the strategy has it."""
        self._strategy.born(actor)

    def gave_way(self, actor: Actor) -> None:
        """As the strategy has it."""
        self._strategy.gave_way(actor)

    def choose(self, enabled: Sequence[Actor], last: Actor) -> Actor:
        """As the strategy has it."""
        chosen = self._strategy.choose(enabled, last)
        self._note()
        return chosen

    def pick(self, count: int, label: str, share: float) -> int:
        """As the strategy has it."""
        choice = self._strategy.pick(count, label, share)
        self._note()
        return choice


@dataclass(frozen=True, slots=True)
class LaneRow:
    """One step. step: from 1.  time_ns: virtual, None when it was not noted."""

    step: int
    lane: str
    actor: str
    label: str
    time_ns: int | None

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return {
            "step": self.step,
            "lane": self.lane,
            "actor": self.actor,
            "label": self.label,
            "time_ns": self.time_ns,
        }


def route(text: str, ports: Mapping[str, str]) -> str:
    """A key or label of the network ("20003 to 127.0.0.1:20000") with names for its ends. ports: a port's number -> who
    stands behind it; what is not in it keeps its number."""
    return _END_OF_ROUTE.sub(lambda end: ports.get(end.group(1), end.group()), text.removeprefix("connect to "))


def ports_of(facts: Mapping[str, Any]) -> Mapping[str, str]:
    """The names of ports among the facts of a run ("ports"); none when there are none."""
    found = facts.get("ports")
    return found if isinstance(found, Mapping) else {}


def lane_rows(
    source: Played | Schedule, last: int = LAST, times_ns: Sequence[int] = (), before_step: int | None = None
) -> list[LaneRow]:
    """The last steps of a run, as values. last: how many, 0 or more.  times_ns: of all its steps (`Timed`), or none.
    before_step: only what comes before this one (counted from 1, None: all)."""
    ports = ports_of(source.facts) if isinstance(source, Played) else {}
    steps = (source.schedule if isinstance(source, Played) else source).steps
    end = len(steps) if before_step is None else max(0, min(len(steps), before_step - 1))
    rows: list[LaneRow] = []
    lane = ""
    for number, (key, label) in enumerate(steps[:end], 1):
        text = f"pick {label}" if key == PICK_KEY else label
        if key != PICK_KEY:
            lane = _lane_of(key, label)
            text = f"{label} {route(key, ports)}" if lane == NETWORK else label
        time_ns = times_ns[number - 1] if number <= len(times_ns) else None
        rows.append(LaneRow(number, lane, key, text, time_ns))
    return rows[max(0, end - last) :]


def _lane_of(key: str, label: str) -> str:
    return NETWORK if " to " in key and label.startswith(_NETWORK_LABELS) else key


def lanes(
    source: Played | Schedule,
    last: int = LAST,
    times_ns: Sequence[int] = (),
    before_step: int | None = None,
    width: int = WIDTH,
) -> list[str]:
    """The same as lines of text, headed by the actors. width: of a line, 60 or more."""
    rows = lane_rows(source, last, times_ns, before_step)
    if not rows:
        return ["(no steps)"]
    shown = {row.lane for row in rows}
    steps = (source.schedule if isinstance(source, Played) else source).steps
    # In the order in which they came in the whole run, but what is no task at the right.
    names = [name for name in dict.fromkeys(_lane_of(*step) for step in steps) if name in shown]
    names.sort(key=lambda name: (name == NETWORK, name == CLOCK_NAME))
    timed = any(row.time_ns is not None for row in rows)
    step_width = max(len(str(rows[-1].step)), 4)
    left = step_width + (12 if timed else 0)
    room = width - left
    column = room // len(names) - 1
    labelled = column >= LABEL_WIDTH
    if not labelled:
        column = max(3, min(12, (room * 3 // 5) // len(names) - 1))
    head = "step".rjust(step_width) + ("virtual ms".rjust(12) if timed else "")
    lines = [(head + "".join(" " + _cut(name, column).ljust(column) for name in names)).rstrip()[:width]]
    for row in rows:
        line = str(row.step).rjust(step_width)
        if timed:
            line += (f"{row.time_ns / NS_PER_MS:.3f}" if row.time_ns is not None else "").rjust(12)
        at = names.index(row.lane)
        if labelled:
            line += " " * ((column + 1) * at + 1) + _cut(row.label, column)
        else:
            cells = [" " + (MARK if place == at else ".").ljust(column) for place in range(len(names))]
            line += "".join(cells) + f" {row.lane}: {row.label}"
        lines.append(_cut(line.rstrip(), width))
    return lines


def _cut(text: str, width: int) -> str:
    """What fits, the end of a name rather than its middle: names of a kind differ in their numbers."""
    if len(text) <= width:
        return text
    if width < 6:
        number = _NUMBER_AT_END.search(text)
        digits = number.group()[-width:] if number is not None else ""
        return text[: width - len(digits)] + digits
    tail = min(width // 3, 6)
    return text[: width - tail - 2] + ".." + text[-tail:]
