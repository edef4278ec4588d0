"""BackfillPlan: the load of a backfill and what goes wrong during it, apart from how the workers are set up.

Role: the half of a run that stays the same when two settings are compared: how many messages, how fast they come, how
many tasks work, what the Hub is able to do, and which faults strike when. `speed` is how the write-up's minutes fit
into a laboratory's seconds: every duration of the plan and of the settings is divided by it and every rate multiplied,
once, by `scaled`. What the machine itself takes is not scaled, which is why a figure at speed 10 is not one at speed 1.

Thread: frozen, any. Upstream: the write-up of the backfill worker. Left out: how the workers are set up
(`coordemu.resilience.settings`, `backfill_measures`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from itertools import pairwise
from typing import Any, TypeVar

from coordemu.lab.hub_plan import HubPlan, Outage, Span
from coordemu.runtime.base import NS_PER_MS

MAX_MESSAGES = 1_000_000
MAX_CONCURRENCY = 2_000
MAX_PRODUCERS = 64
REFUSED = "bad"
T = TypeVar("T")


class BackfillPlanError(ValueError):
    """A plan that makes no sense; one line."""


@dataclass(frozen=True, slots=True)
class BackfillPlan:
    """A load and its faults. Raises BackfillPlanError outside the bounds.

    messages: 1 to a million.  concurrency: worker tasks, 1 to 2,000.  producers: tasks that put messages, 1 to 64.
    rate_per_s: messages that all producers together put a second; 0: as fast as they can.  burst: so many at once, 1 or
    more.  hub_requests: that the Hub answers in any hub_window_ms (more than 0), 0: no limit; it refuses the rest with
    429.  hub: its latency, slowness and outages.  kills: spans in which the Redis servers are dead (of those that are
    ours).  poison: share of messages (0 to 1) that can never be done: every other one of them the Hub refuses for good,
    the rest come in a form that nobody can read.  crash: share of deliveries (0 to 1) after which the worker forgets
    what it had in hand, as if it had died.  store_slots, store_ms, store_wait_ms: the database's limit, how long a
    write takes, and how long the database lets a caller wait for a slot.  speed: more than 0, see above.  pause_ms:
    what a worker or producer rests after something has failed.  look_ms: how often the run is looked at.  limit_ms: the
    run ends then, whatever is left; 0: it does not.  seed: of every draw.
    """

    messages: int = 200
    concurrency: int = 250
    producers: int = 4
    rate_per_s: float = 9.0
    burst: int = 4
    hub_requests: int = 10
    hub_window_ms: float = 1_000.0
    hub: HubPlan = field(default_factory=lambda: HubPlan(latency_ns=20 * NS_PER_MS))
    kills: tuple[Span, ...] = ()
    poison: float = 0.01
    crash: float = 0.0
    store_slots: int = 8
    store_ms: float = 100.0
    store_wait_ms: float = 1_000.0
    speed: float = 1.0
    pause_ms: float = 100.0
    look_ms: float = 250.0
    limit_ms: float = 0.0
    seed: int = 1

    def __post_init__(self) -> None:
        for name, most in (("messages", MAX_MESSAGES), ("concurrency", MAX_CONCURRENCY), ("producers", MAX_PRODUCERS)):
            if not 1 <= getattr(self, name) <= most:
                raise BackfillPlanError(f"{name} {getattr(self, name)} is not within 1 and {most}")
        for name, least in (("burst", 1), ("store_slots", 1), ("hub_requests", 0)):
            if getattr(self, name) < least:
                raise BackfillPlanError(f"{name} {getattr(self, name)} is below {least}")
        for name in ("hub_window_ms", "speed"):
            if not 0 < getattr(self, name) < float("inf"):
                raise BackfillPlanError(f"{name} {getattr(self, name):g} is not more than 0")
        for name in ("rate_per_s", "store_ms", "store_wait_ms", "pause_ms", "look_ms", "limit_ms"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise BackfillPlanError(f"{name} {getattr(self, name):g} is below 0")
        for name in ("poison", "crash"):
            if not 0 <= getattr(self, name) <= 1:
                raise BackfillPlanError(f"{name} {getattr(self, name):g} is not within 0 and 1")
        kills = sorted(self.kills, key=lambda span: span.start_ns)
        for one, other in pairwise(kills):
            if other.start_ns < one.end_ns:
                raise BackfillPlanError(f"kills: {one} and {other} overlap")

    def override(self, **chosen: Any) -> BackfillPlan:
        """The same with other values where they are not None. Raises as the constructor."""
        return replace(self, **{name: value for name, value in chosen.items() if value is not None})

    def with_hub(self, latency_ns: int | None, outages: tuple[Outage, ...]) -> BackfillPlan:
        """The same with another latency (None: as it is) and more outages. Raises ValueError."""
        hub = self.hub if latency_ns is None else replace(self.hub, latency_ns=latency_ns)
        return replace(self, hub=replace(hub, outages=(*hub.outages, *outages)))

    def scaled(self) -> BackfillPlan:
        """The plan in the laboratory's time: durations divided by `speed`, rates multiplied; its own speed is 1."""
        return replace(scaled(self, self.speed), speed=1.0)

    def ident(self, message: int) -> str:
        """What the Hub knows a message by."""
        return f"{REFUSED if self.refused(message) else 'm'}-{message}"

    def hub_plan(self) -> HubPlan:
        """The Hub's plan, those that it refuses included."""
        return replace(self.hub, poison=(*self.hub.poison, f"{REFUSED}-*")) if self.poison else self.hub

    def refused(self, message: int) -> bool:
        """Whether the Hub refuses this message for good."""
        return self._poisoned(message) and int(message * self.poison) % 2 == 0

    def garbled(self, message: int) -> bool:
        """Whether its content comes in a form that nobody can read."""
        return self._poisoned(message) and int(message * self.poison) % 2 == 1

    def _poisoned(self, message: int) -> bool:
        """Evenly spread, in the share that was asked for."""
        return int((message + 1) * self.poison) > int(message * self.poison)

    def due_ns(self, message: int) -> int:
        """When this message is put, after the start: in bursts, at the rate."""
        return round(message // self.burst * self.burst * 1e9 / self.rate_per_s) if self.rate_per_s else 0

    def to_json(self) -> dict[str, Any]:
        """All fields, spans and the Hub's plan as text."""
        return {each.name: _plain(getattr(self, each.name)) for each in fields(self)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> BackfillPlan:
        """What `to_json` wrote; what is left out is as ever. Raises TypeError, ValueError for anything else."""
        read = dict(values)
        if "hub" in read:
            read["hub"] = HubPlan.parse(read["hub"])
        if "kills" in read:
            read["kills"] = tuple(Span.parse(text) for text in read["kills"])
        return cls(**read)


def scaled(value: T, speed: float) -> T:
    """A frozen dataclass whose durations (fields that end in `_ms` or `_ns`) are divided by speed, and whose rates
    (`_per_s`) are multiplied; dataclasses inside it, too. What is whole stays whole, and what is not 0 stays at least
    1. Thread: any."""
    if not is_dataclass(value) or isinstance(value, type) or speed == 1.0:
        return value
    changed: dict[str, Any] = {}
    for each in fields(value):
        old = getattr(value, each.name)
        new = _scaled_field(each.name, old, speed)
        if new is not old:
            changed[each.name] = new
    return replace(value, **changed) if changed else value


def _scaled_field(name: str, old: Any, speed: float) -> Any:
    if isinstance(old, tuple):
        return tuple(scaled(each, speed) for each in old)
    if is_dataclass(old) and not isinstance(old, type):
        return scaled(old, speed)
    if isinstance(old, bool) or not isinstance(old, (int, float)) or not old:
        return old
    if name.endswith("_per_s"):
        return old * speed if isinstance(old, float) else max(1, round(old * speed))
    if name.endswith(("_ms", "_ns")):
        return old / speed if isinstance(old, float) else max(1, round(old / speed))
    return old


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [str(each) for each in value]
    return value if isinstance(value, (int, float)) else str(value)
