"""PressureReading: how full each node's pool is, at one moment, as plain values.

Role: what `PoolPressure` has seen in its last look. Of each node its turns, its level and its health; of all of them
the sums. All together are PRESSED as soon as one node is: a command goes to the node of its key, and that others have
connections free does not help it.

Thread: frozen, any. Upstream: PoolStats, which counts time-outs after the fact. Left out: single connections
(`pool_snapshot`). Bounds: one entry per node.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from coordemu.resilience.pressure_gauge import PressureLevel, pressure_of


class Health(Enum):
    """A pool's state in one word, the best first.

    HEALTHY: connections are free.  STRAINED: under pressure.  FULL: no turn is free.  STARVED: none is, and callers
    wait for one.  SHUT: closed, or being drained.
    """

    HEALTHY = "healthy"
    STRAINED = "strained"
    FULL = "full"
    STARVED = "starved"
    SHUT = "shut"


ORDER = tuple(Health)


@dataclass(frozen=True, slots=True)
class NodePressure:
    """One node. held, size: turns.  waiting: callers in line.  level: with hysteresis.  in_level_ns: for how long it
    has been at that.  pressed_ns: time under pressure, all in all."""

    node: str
    held: int
    size: int
    waiting: int
    phase: str
    level: PressureLevel
    in_level_ns: int
    pressed_ns: int

    @property
    def pressure(self) -> float:
        """Share of the turns that are held, 0 to 1."""
        return pressure_of(self.held, self.size)

    @property
    def free(self) -> float:
        """Share of the turns that are free, 0 to 1."""
        return 1.0 - self.pressure

    @property
    def health(self) -> Health:
        """In one word."""
        if self.phase != "open":
            return Health.SHUT
        if self.held >= self.size:
            return Health.STARVED if self.waiting else Health.FULL
        return Health.STRAINED if self.level is PressureLevel.PRESSED else Health.HEALTHY

    def to_json(self) -> dict[str, Any]:
        """For a report."""
        return {
            "node": self.node,
            "held": self.held,
            "size": self.size,
            "waiting": self.waiting,
            "pressure": self.pressure,
            "level": self.level.value,
            "health": self.health.value,
            "in_level_ns": self.in_level_ns,
            "pressed_ns": self.pressed_ns,
        }


@dataclass(frozen=True, slots=True)
class PressureReading:
    """A look at all nodes. at_ns: when.  pressed_ns: time in which one of them or more was under pressure.

    highest: the pressure of the node that has most; what alerts go by.  level: PRESSED when a node is. Both are found
    once, since they are asked for with every operation.
    """

    at_ns: int
    nodes: Mapping[str, NodePressure] = field(default_factory=dict)
    pressed_ns: int = 0
    highest: float = field(init=False)
    level: PressureLevel = field(init=False)

    def __post_init__(self) -> None:
        pressed = any(each.level is PressureLevel.PRESSED for each in self.nodes.values())
        object.__setattr__(self, "highest", max((each.pressure for each in self.nodes.values()), default=0.0))
        object.__setattr__(self, "level", PressureLevel.PRESSED if pressed else PressureLevel.CALM)

    @property
    def held(self) -> int:
        """Turns that are held, of all nodes."""
        return sum(each.held for each in self.nodes.values())

    @property
    def size(self) -> int:
        """Turns, of all nodes."""
        return sum(each.size for each in self.nodes.values())

    @property
    def waiting(self) -> int:
        """Callers in line, of all nodes."""
        return sum(each.waiting for each in self.nodes.values())

    @property
    def pressure(self) -> float:
        """Share of all turns that are held, 0 to 1."""
        return pressure_of(self.held, self.size)

    @property
    def free(self) -> float:
        """Share of all turns that are free, 0 to 1."""
        return 1.0 - self.pressure

    @property
    def health(self) -> Health:
        """The worst of all nodes'; without any: HEALTHY."""
        return max((each.health for each in self.nodes.values()), key=ORDER.index, default=Health.HEALTHY)

    def level_of(self, node: str | None) -> PressureLevel:
        """Of a node; of one that is not known (None, or without a pool yet) as of all. Thread: any."""
        found = self.nodes.get(node) if node is not None else None
        return found.level if found is not None else self.level

    def pressure_at(self, node: str | None) -> float:
        """Of a node; of one that is not known the highest. Thread: any."""
        found = self.nodes.get(node) if node is not None else None
        return found.pressure if found is not None else self.highest

    def to_json(self) -> dict[str, Any]:
        """For a report."""
        return {
            "at_ns": self.at_ns,
            "pressure": self.pressure,
            "highest": self.highest,
            "level": self.level.value,
            "health": self.health.value,
            "waiting": self.waiting,
            "pressed_ns": self.pressed_ns,
            "nodes": [each.to_json() for each in self.nodes.values()],
        }
