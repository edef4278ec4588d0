"""AlertRule: what somebody should be told of, as a value.

Role: goes into `Alerts`, which evaluates it over time. Two kinds. A `HeldRule` looks at one reading and asks that it be
over a mark for longer than a time, without a break. A `ShareRule` looks at two counters and asks that the one be more
than so many per cent of the other within a window in which enough has happened. "Over" is strict: what is at the mark
is not over it.

The breaker's reading is "not closed": a breaker that is open tries again every half minute, and is half-open for that
moment; an alert that wanted it open without a break would never be told of an outage.

Thread: frozen, any. Upstream: the write-up's four thresholds. Left out: severities, who is told. Bounds: none.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

PRESSURE, BREAKER_OPEN = "pressure", "breaker_open"
HELD = (PRESSURE, BREAKER_OPEN)
TIMEOUTS, ERRORS = "timeouts", "errors"
COUNTED = (TIMEOUTS, ERRORS)


@dataclass(frozen=True, slots=True)
class AlertReadings:
    """What is looked at. pressure: 0 to 1, of the node that has most.  breaker_open: whether a breaker is not closed.
    operations, timeouts, errors: counters since the start; a time-out counts as an operation, and an error that is not
    a time-out does, too."""

    pressure: float = 0.0
    breaker_open: bool = False
    operations: int = 0
    timeouts: int = 0
    errors: int = 0


@dataclass(frozen=True, slots=True)
class HeldRule:
    """reading: "pressure" or "breaker_open".  over: the mark.  for_ns: it holds when the reading has been over it for
    longer than this; 0: at once.  clear_ns: an alert is over when the reading has not been over the mark for longer
    than this; 0: at once. Raises ValueError outside the bounds."""

    name: str
    reading: str
    over: float
    for_ns: int
    clear_ns: int = 0

    def __post_init__(self) -> None:
        if self.reading not in HELD:
            raise ValueError(f"{self.name}: reading {self.reading!r} is none of {', '.join(HELD)}")
        if self.for_ns < 0 or self.clear_ns < 0:
            raise ValueError(f"{self.name}: for_ns {self.for_ns} or clear_ns {self.clear_ns} is below 0")

    @property
    def sentence(self) -> str:
        """The rule in words."""
        what = f"pressure over {self.over:.0%}" if self.reading == PRESSURE else "breaker not closed"
        return f"{what} for over {self.for_ns / 1e9:g} s" if self.for_ns else what


@dataclass(frozen=True, slots=True)
class ShareRule:
    """part: "timeouts" or "errors", as a share of operations.  over_percent: the mark, 0 to 100.  window_ns: 1 or more.
    minimum: operations in the window before the share counts, 1 or more.  clear_ns: as of a HeldRule; a window with
    fewer operations is not over the mark. Raises ValueError outside the bounds."""

    name: str
    part: str
    over_percent: float
    window_ns: int
    minimum: int = 20
    clear_ns: int = 0

    def __post_init__(self) -> None:
        if self.part not in COUNTED:
            raise ValueError(f"{self.name}: part {self.part!r} is none of {', '.join(COUNTED)}")
        if not 0 <= self.over_percent <= 100:
            raise ValueError(f"{self.name}: over_percent {self.over_percent} is not within 0..100")
        if self.window_ns < 1 or self.minimum < 1 or self.clear_ns < 0:
            raise ValueError(f"{self.name}: window_ns {self.window_ns}, minimum {self.minimum}, {self.clear_ns=}")

    def is_over(self, part: int, whole: int) -> bool:
        """Whether so many of so many are over the mark, by whole numbers: 5 of 100 are not over 5 %. Thread: any."""
        above, below = Decimal(str(self.over_percent)).as_integer_ratio()
        return whole >= self.minimum and 100 * part * below > above * whole

    @property
    def for_ns(self) -> int:
        """The window is all the time there is to wait."""
        return 0

    @property
    def sentence(self) -> str:
        """The rule in words."""
        return f"{self.part} over {self.over_percent:g} % in {self.window_ns / 1e9:g} s"


AlertRule = HeldRule | ShareRule
