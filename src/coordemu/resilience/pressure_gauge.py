"""PressureGauge: when a pool's pressure counts as pressure, with hysteresis.

Role: the pressure is the share of a pool's turns that are held, 0 to 1. The write-up's rule is "pressure when under
20 % of the connections are free": above `enter` (0.8) the level becomes PRESSED. It becomes CALM again only below
`leave`, and not before `min_ms` have passed: between the two marks nothing changes, so a pool that hovers about one
mark does not switch with every look.

    from     to       when
    CALM     PRESSED  pressure > enter
    PRESSED  CALM     pressure < leave, and PRESSED for min_ms or longer

Thread: under the lock of who owns it. Upstream: none. Left out: a smoothed pressure; two marks and a time are easier to
foretell. Bounds: a few numbers per gauge.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from coordemu.runtime.base import NS_PER_MS


class PressureLevel(Enum):
    """What the client goes by."""

    CALM = "calm"
    PRESSED = "pressed"


@dataclass(frozen=True, slots=True)
class PressureOptions:
    """enter, leave: marks, 0 < leave <= enter <= 1.  min_ms: shortest time under pressure, 0 or more.  look_ms: a look
    at the pools is good for so long, 0 or more; 0: every one is new. Raises ValueError outside the bounds."""

    enter: float = 0.8
    leave: float = 0.7
    min_ms: int = 500
    look_ms: int = 10

    def __post_init__(self) -> None:
        if not 0 < self.leave <= self.enter <= 1:
            raise ValueError(f"the marks of pressure are 0 < leave {self.leave} <= enter {self.enter} <= 1")
        if self.min_ms < 0 or self.look_ms < 0:
            raise ValueError(f"min_ms {self.min_ms} or look_ms {self.look_ms} is below 0")


NEXT: Mapping[PressureLevel, PressureLevel] = MappingProxyType({
    PressureLevel.CALM: PressureLevel.PRESSED,
    PressureLevel.PRESSED: PressureLevel.CALM,
})  # fmt: skip


def pressure_of(held: int, size: int) -> float:
    """The share of a pool's turns that are held: 0 to 1; of no turns: 0. Thread: any."""
    return min(1.0, max(0, held) / size) if size > 0 else 0.0


class PressureGauge:
    """One node's level. It starts CALM at now_ns."""

    def __init__(self, options: PressureOptions, now_ns: int) -> None:
        self.level = PressureLevel.CALM
        self.pressure = 0.0
        self.switches = 0
        self._options = options
        self._last_ns = now_ns
        self._in_level_ns = 0
        self._pressed_ns = 0

    @property
    def in_level_ns(self) -> int:
        """How long it has been at its level, as of the last look."""
        return self._in_level_ns

    @property
    def pressed_ns(self) -> int:
        """How long it was PRESSED, all in all, as of the last look."""
        return self._pressed_ns

    def show(self, now_ns: int, pressure: float) -> bool:
        """A look: time has passed, and the pressure is this. True when the level has changed.

        A clock that went back has not moved on: no time passed. Thread: under the owner's lock.
        """
        passed_ns = max(0, now_ns - self._last_ns)
        self._last_ns = now_ns
        self._in_level_ns += passed_ns
        if self.level is PressureLevel.PRESSED:
            self._pressed_ns += passed_ns
        self.pressure = pressure
        if not self._is_over(pressure):
            return False
        self.level = NEXT[self.level]
        self._in_level_ns = 0
        self.switches += 1
        return True

    def _is_over(self, pressure: float) -> bool:
        if self.level is PressureLevel.CALM:
            return pressure > self._options.enter
        return pressure < self._options.leave and self._in_level_ns >= self._options.min_ms * NS_PER_MS

    def __repr__(self) -> str:
        return f"<PressureGauge {self.level.value} at {self.pressure:.2f}>"
