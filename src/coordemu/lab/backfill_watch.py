"""BackfillWatch: looks at a run now and then, and keeps what it saw: pressure, progress, breaker, alerts.

Role: what a report shows over time. A look reads the pools' pressure and the tallies, which cost no lock of theirs, and
has the alert rules evaluated as often as the settings say. When more looks have come than are kept, every other one is
dropped, and from then on only every other one is kept: a long run has as many as a short one.

Thread: the one that runs the backfill. Upstream: the write-up's alert thresholds. Left out: a thread of its own.
Bounds: MOST_SAMPLES looks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from coordemu.lab.backfill_ledger import BackfillLedger
from coordemu.lab.backfill_store import BackfillStore
from coordemu.lab.backfill_system import BackfillSystem
from coordemu.lab.backfill_tally import OpSums
from coordemu.resilience.alert_rule import (
    BREAKER_OPEN,
    ERRORS,
    PRESSURE,
    TIMEOUTS,
    AlertReadings,
    AlertRule,
    HeldRule,
    ShareRule,
)
from coordemu.resilience.alerts import AlertEvent, Alerts
from coordemu.resilience.breaker_state import BreakerState
from coordemu.resilience.settings import AlertSettings
from coordemu.runtime.base import NS_PER_MS, Runtime

MOST_SAMPLES = 1_000


@dataclass(frozen=True, slots=True)
class BackfillLook:
    """One look. at_ns: since the run began.  pressure: of the node that has most, 0 to 1.  held, size, waiting: turns
    of all pools.  operations, timeouts, errors: so far.  done, dead, lost, put: messages so far.  breaker: its state,
    "" without one."""

    at_ns: int
    pressure: float
    held: int
    size: int
    waiting: int
    operations: int
    timeouts: int
    errors: int
    done: int
    dead: int
    lost: int
    put: int
    in_hand: int
    breaker: str

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)


def rules_of(settings: AlertSettings) -> tuple[AlertRule, ...]:
    """The write-up's four rules, with the thresholds of the settings. Thread: any."""
    clear_ns, window_ns = settings.clear_ms * NS_PER_MS, settings.window_ms * NS_PER_MS
    return (
        HeldRule("pool-pressure", PRESSURE, settings.pressure, settings.pressure_for_ms * NS_PER_MS, clear_ns),
        HeldRule("breaker-open", BREAKER_OPEN, 0.0, settings.breaker_open_ms * NS_PER_MS, clear_ns),
        ShareRule("timeouts", TIMEOUTS, settings.timeouts_percent, window_ns, settings.minimum_count, clear_ns),
        ShareRule("errors", ERRORS, settings.errors_percent, window_ns, settings.minimum_count, clear_ns),
    )


class BackfillWatch:
    """The looks of one run. sums: of all tallies, now.  began_ns: the run's start."""

    def __init__(
        self,
        rt: Runtime,
        system: BackfillSystem,
        store: BackfillStore,
        ledger: BackfillLedger,
        sums: Callable[[], OpSums],
        began_ns: int,
    ) -> None:
        settings = system.settings.alerts
        self.alerts = Alerts(rt, rules_of(settings), settings.longest_gap_ms * NS_PER_MS)
        self._rt = rt
        self._system = system
        self._store = store
        self._ledger = ledger
        self._sums = sums
        self._began_ns = began_ns
        self._every_ns = settings.evaluate_every_ms * NS_PER_MS
        self._evaluated_ns = began_ns - self._every_ns
        self._looks: list[BackfillLook] = []
        self._stride = 1
        self._count = 0
        self.longest_line = 0

    def look(self) -> BackfillLook:
        """Look, keep it, and have the alerts evaluated when it is time. Thread: one. Blocks shortly."""
        system, now_ns = self._system, self._rt.now_ns()
        reading, sums = system.pressure.look(), self._sums()
        breaker = system.breaker
        look = BackfillLook(
            max(0, now_ns - self._began_ns), reading.highest, reading.held, reading.size, reading.waiting,
            sums.total, sums.timeouts, sums.errors, self._store.done, self._store.dead, self._ledger.noted_lost,
            self._ledger.put_so_far, self._ledger.in_hand, breaker.state.value if breaker is not None else "",
        )  # fmt: skip
        self.longest_line = max(self.longest_line, reading.waiting)
        self._keep(look)
        # A clock that went back is due, too.
        if not 0 <= now_ns - self._evaluated_ns < self._every_ns:
            self._evaluated_ns = now_ns
            open_now = breaker is not None and breaker.state is not BreakerState.CLOSED
            self.alerts.evaluate(
                now_ns, AlertReadings(reading.highest, open_now, sums.total, sums.timeouts, sums.errors)
            )
        return look

    def _keep(self, look: BackfillLook) -> None:
        self._count += 1
        if self._count % self._stride:
            return
        self._looks.append(look)
        if len(self._looks) > MOST_SAMPLES:
            self._looks = self._looks[1::2]
            self._stride *= 2

    @property
    def looks(self) -> tuple[BackfillLook, ...]:
        """Those that were kept, oldest first."""
        return tuple(self._looks)

    @property
    def events(self) -> tuple[AlertEvent, ...]:
        """Alerts that fired and that were over, with times since the run began."""
        return tuple(
            AlertEvent(
                each.at_ns - self._began_ns, each.name, each.kind, each.value, each.lasted_ns, each.sentence
            )
            for each in self.alerts.events
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<BackfillWatch {self._count} looks, {self.alerts!r}>"
