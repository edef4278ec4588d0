"""Alerts: evaluates alert rules over time, and says what has fired and what is over.

Role: somebody calls `evaluate` every so often with the time and the readings; each rule fires in the first evaluation
in which it holds, and not again until it has been over. Nothing is known of the time between two evaluations: a rule
that held in both is taken to have held in between, for `longest_gap_ns` at most. So a clock that jumps ahead, or a
process that slept, fires nothing by itself, and a clock that goes back stands still; neither makes an alert too early,
and evaluations that are missing make it late by what is missing.

    state    to       when
    quiet    fired    held without a break for longer than the rule's time
    fired    quiet    not held without a break for longer than the rule's time to clear

Thread: any; one evaluation at a time. No thread of its own, and it reads no clock. Upstream: none; the write-up's
thresholds. Left out: who is told. Bounds: the newest MOST_EVENTS events; sixty moments per window.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from coordemu.resilience.alert_rule import AlertReadings, AlertRule, HeldRule
from coordemu.resilience.rolling_counts import RollingCounts
from coordemu.runtime.base import NS_PER_S, Runtime

MOST_EVENTS = 1_024
FIRED, CLEARED = "fired", "cleared"


@dataclass(frozen=True, slots=True)
class AlertEvent:
    """An alert has fired, or is over. at_ns: as `evaluate` was told.  value: of the reading, or of the share in per
    cent.  lasted_ns: of a fired one, how long it had held by then; of one that is over, how long it was fired."""

    at_ns: int
    name: str
    kind: str
    value: float
    lasted_ns: int
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """For a report."""
        return {
            "at_ns": self.at_ns,
            "name": self.name,
            "kind": self.kind,
            "value": self.value,
            "lasted_ns": self.lasted_ns,
            "sentence": self.sentence,
        }


class _Watched:
    """A rule, and how long it has held, or not held, without a break."""

    def __init__(self, rule: AlertRule) -> None:
        self.rule = rule
        self.counts = None if isinstance(rule, HeldRule) else RollingCounts(rule.window_ns)
        self.fired = False
        self.value = 0.0
        self._held: bool | None = None
        self._same_ns = 0
        self._fired_ns = 0

    def show(self, time_ns: int, gap_ns: int, readings: AlertReadings) -> tuple[str, int] | None:
        """One evaluation: what happened, and how long that had lasted. time_ns: goes neither back nor far ahead."""
        held = self._holds(time_ns, readings)
        self._same_ns = self._same_ns + gap_ns if held == self._held else 0
        self._held = held
        if self.fired:
            self._fired_ns += gap_ns
        enough_ns = self.rule.clear_ns if self.fired else self.rule.for_ns
        if held == self.fired or (enough_ns and self._same_ns <= enough_ns):
            return None
        lasted_ns = self._fired_ns if self.fired else self._same_ns
        self.fired = not self.fired
        self._fired_ns = 0
        return FIRED if self.fired else CLEARED, lasted_ns

    def _holds(self, time_ns: int, readings: AlertReadings) -> bool:
        if isinstance(self.rule, HeldRule):
            self.value = float(getattr(readings, self.rule.reading))
            return self.value > self.rule.over
        assert self.counts is not None
        self.counts.show(time_ns, (getattr(readings, self.rule.part), readings.operations))
        part, whole = self.counts.growth()
        self.value = 100 * part / whole if whole else 0.0
        return self.rule.is_over(part, whole)


class Alerts:
    """Rules under evaluation. rules: with different names, ValueError otherwise.  longest_gap_ns: 1 or more; a longer
    time between two evaluations counts as so long."""

    def __init__(
        self, rt: Runtime, rules: Sequence[AlertRule], longest_gap_ns: int = 10 * NS_PER_S, name: str = "alerts"
    ) -> None:
        if len({rule.name for rule in rules}) < len(rules) or longest_gap_ns < 1:
            raise ValueError(f"{name}: two rules of one name, or longest_gap_ns {longest_gap_ns} is below 1")
        self.name = name
        self.rules = tuple(rules)
        self.longest_gap_ns = longest_gap_ns
        self._lock = rt.lock(name)
        self._watched = [_Watched(rule) for rule in self.rules]
        self._events: deque[AlertEvent] = deque(maxlen=MOST_EVENTS)
        self._last_ns: int | None = None
        self._time_ns = 0
        self._counts = {"evaluations": 0, FIRED: 0, CLEARED: 0, "gaps": 0, "steps_back": 0}

    def evaluate(self, now_ns: int, readings: AlertReadings) -> list[AlertEvent]:
        """Look at the readings of now. What has fired, and what is over, in the order of the rules.

        now_ns: on the clock of the caller; the first one is where time begins. Thread: any. Never blocks for long.
        """
        with self._lock:
            gap_ns = self._pass_locked(now_ns)
            events = []
            for watched in self._watched:
                happened = watched.show(self._time_ns, gap_ns, readings)
                if happened is not None:
                    kind, lasted_ns = happened
                    rule = watched.rule
                    events.append(AlertEvent(now_ns, rule.name, kind, watched.value, lasted_ns, rule.sentence))
                    self._counts[kind] += 1
            self._events.extend(events)
        return events

    def _pass_locked(self, now_ns: int) -> int:
        """How much time has passed, as far as that is believed."""
        passed_ns = 0 if self._last_ns is None else now_ns - self._last_ns
        self._last_ns = now_ns
        gap_ns = min(max(0, passed_ns), self.longest_gap_ns)
        self._time_ns += gap_ns
        self._counts["evaluations"] += 1
        self._counts["gaps"] += passed_ns > self.longest_gap_ns
        self._counts["steps_back"] += passed_ns < 0
        return gap_ns

    @property
    def active(self) -> tuple[str, ...]:
        """The names of those that have fired and are not over, in the order of the rules."""
        with self._lock:
            return tuple(watched.rule.name for watched in self._watched if watched.fired)

    @property
    def events(self) -> tuple[AlertEvent, ...]:
        """The newest, oldest first."""
        with self._lock:
            return tuple(self._events)

    def statistics(self) -> dict[str, int]:
        """evaluations, fired, cleared, gaps (longer ones than are believed), steps_back (of the clock). Thread: any."""
        with self._lock:
            return dict(self._counts)

    def __repr__(self) -> str:
        return f"<Alerts {self.name!r} {len(self.rules)} rules, {len(self.active)} active>"
