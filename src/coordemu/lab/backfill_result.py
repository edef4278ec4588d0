"""BackfillResult: everything that one run of the backfill has shown, as plain values.

Role: what reports, comparisons and result files are made of. Times are those of the laboratory; `speed` says how to
get back to the write-up's.

Thread: frozen, any. Upstream: none. Left out: what it looks like (`coordemu.report.backfill_report`). Bound: as many
looks as `BackfillWatch` keeps; every message that is not done is named.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from coordemu.lab.backfill_ledger import Account
from coordemu.lab.backfill_measures import BackfillSetup
from coordemu.lab.backfill_plan import BackfillPlan
from coordemu.lab.backfill_tally import FINISH, HUB, PUT, STORE, OpSums
from coordemu.lab.backfill_watch import BackfillLook
from coordemu.resilience.alerts import FIRED, AlertEvent
from coordemu.resilience.breaker_events import BreakerEvent
from coordemu.runtime.base import NS_PER_S

ENDED, INTERRUPTED, TIME_LIMIT = "ended", "interrupted", "time limit"


@dataclass(frozen=True, slots=True)
class BackfillResult:
    """One run. plan: as it was asked for, unscaled.  how: ENDED (every message has its place), INTERRUPTED or
    TIME_LIMIT.  elapsed_ns: from the start until then.  breaker: moves, with times since the start.  happened: faults
    that struck, as (ns since the start, what).  pools, hub, store, reaper: statistics.  pressed_ns: how long a pool was
    under pressure.  crashes: errors that ended tasks of the laboratory."""

    setup: BackfillSetup
    plan: BackfillPlan
    runtime: str
    servers: str
    how: str
    elapsed_ns: int
    account: Account
    ops: OpSums
    looks: tuple[BackfillLook, ...] = ()
    breaker: tuple[BreakerEvent, ...] = ()
    alerts: tuple[AlertEvent, ...] = ()
    happened: tuple[tuple[int, str], ...] = ()
    pressed_ns: int = 0
    longest_line: int = 0
    pools: dict[str, int] = field(default_factory=dict)
    hub: dict[str, int] = field(default_factory=dict)
    store: dict[str, int] = field(default_factory=dict)
    reaper: dict[str, int] = field(default_factory=dict)
    crashes: tuple[str, ...] = ()

    @property
    def per_s(self) -> float:
        """Messages done per second of the laboratory."""
        return self.account.done * NS_PER_S / self.elapsed_ns if self.elapsed_ns else 0.0

    @property
    def per_s_of_plan(self) -> float:
        """The same per second of the plan: at speed 10 the tenth of it."""
        return self.per_s / self.plan.speed

    @property
    def longest_wait_ns(self) -> int:
        """The longest that a caller was away for one put, acknowledgement, request or write, lines and retries
        included."""
        return max(self.ops.longest_ns.get(what, 0) for what in (PUT, FINISH, HUB, STORE))

    @property
    def mean_pressure(self) -> float:
        """Over the looks, 0 to 1."""
        return sum(look.pressure for look in self.looks) / len(self.looks) if self.looks else 0.0

    @property
    def fired(self) -> tuple[AlertEvent, ...]:
        """Alerts that fired."""
        return tuple(event for event in self.alerts if event.kind == FIRED)

    @property
    def good(self) -> bool:
        """Whether every message is accounted for, none was left by a run that came to its end, and nothing crashed."""
        return self.account.conserved and not self.crashes and self.how != TIME_LIMIT

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "setup": {
                "name": self.setup.name, "survives": self.setup.survives, "settings": self.setup.settings.values(),
            },
            "plan": self.plan.to_json(),
            "runtime": self.runtime,
            "servers": self.servers,
            "how": self.how,
            "good": self.good,
            "elapsed_ms": self.elapsed_ns / 1e6,
            "done_per_s": self.per_s,
            "done_per_s_of_plan": self.per_s_of_plan,
            "longest_wait_ms": self.longest_wait_ns / 1e6,
            "mean_pressure": self.mean_pressure,
            "pressed_ms": self.pressed_ns / 1e6,
            "longest_line": self.longest_line,
            "account": self.account.to_json(),
            "operations": self.ops.to_json(),
            "looks": [look.to_json() for look in self.looks],
            "breaker": [
                {"at_ms": each.at_ns / 1e6, "kind": each.kind, "from": each.source.value, "to": each.target.value,
                 "why": each.why}
                for each in self.breaker
            ],
            "alerts": [each.to_json() for each in self.alerts],
            "happened": [{"at_ms": at_ns / 1e6, "what": what} for at_ns, what in self.happened],
            "pools": self.pools,
            "hub": self.hub,
            "store": self.store,
            "reaper": self.reaper,
            "crashes": list(self.crashes),
        }  # fmt: skip
