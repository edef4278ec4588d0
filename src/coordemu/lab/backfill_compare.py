"""BackfillComparison: the same load under several setups, and what became of the write-up's promise.

Role: a comparison is a list of setups: before and after, each measure alone, and the mended form without the one
measure that the write-up does not have. The promise is two numbers, 95 % fewer time-out errors and 40 to 60 % more
messages; what was measured is put beside them as it is. Runs share nothing but the servers, and come one after the
other: two at once would measure each other.

Thread: frozen, any. Upstream: the write-up's claims. Left out: repetitions and medians (`bench/backfill.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from coordemu.lab.backfill_measures import MEASURES, SHARE, BackfillSetup, alone, with_measures
from coordemu.lab.backfill_plan import BackfillPlan
from coordemu.lab.backfill_result import BackfillResult

EACH_ALONE, EACH_MISSING, BOTH_ONLY = "each alone", "each missing", "both only"
FEWER_TIMEOUTS_SAID = 0.95
MORE_SAID = (0.40, 0.60)
RECOVERY_MS = 45_000.0


@dataclass(frozen=True, slots=True)
class Promise:
    """One claim. what: in words.  said: the write-up's, in words.  measured: a share, None: nothing to compare with.
    kept: whether it is at least that; None likewise."""

    what: str
    said: str
    measured: float | None
    kept: bool | None
    detail: str

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return {
            "what": self.what, "said": self.said, "measured": self.measured, "kept": self.kept, "detail": self.detail,
        }  # fmt: skip


def setups_to_compare(before: BackfillSetup, after: BackfillSetup, more: str = EACH_ALONE) -> list[BackfillSetup]:
    """Before and after; and each measure alone, with the mended form without the share (EACH_ALONE), or the mended form
    without each (EACH_MISSING), or nothing more (BOTH_ONLY). Thread: any."""
    if more == BOTH_ONLY:
        return [before, after]
    if more == EACH_MISSING:
        return [before, after, *(_without(name, before, after) for name in MEASURES)]
    return [before, after, _without(SHARE, before, after), *(alone(name, before, after) for name in MEASURES)]


def _without(missing: str, before: BackfillSetup, after: BackfillSetup) -> BackfillSetup:
    rest = tuple(name for name in MEASURES if name != missing)
    return with_measures(rest, before, after, f"{after.name}, no {missing}")


def window_ms(plan: BackfillPlan) -> float:
    """How long each run may take, in the plan's time: as long as the messages come, and what the faults last, a fifth
    more, and three seconds; where there are faults, also what a breaker stays open for after them, and what it takes
    for forgotten work to come back. Thread: any."""
    faults_ns = sum(outage.span.duration_ns for outage in plan.hub.outages)
    faults_ns += sum(span.duration_ns for span in plan.kills)
    recovery_ms = RECOVERY_MS if faults_ns or plan.crash else 0.0
    return 1.2 * (plan.due_ns(plan.messages) + faults_ns) / 1e6 + 3_000.0 + recovery_ms


@dataclass(frozen=True, slots=True)
class BackfillComparison:
    """Results, those of before and after first."""

    results: tuple[BackfillResult, ...]

    @property
    def before(self) -> BackfillResult | None:
        """The first; None when nothing was run."""
        return self.results[0] if self.results else None

    @property
    def after(self) -> BackfillResult | None:
        """The second; None when it was not run."""
        return self.results[1] if len(self.results) > 1 else None

    def promises(self) -> Sequence[Promise]:
        """Both claims, as measured; none unless before and after were run."""
        before, after = self.before, self.after
        if before is None or after is None:
            return ()
        return (_fewer_timeouts(before, after), _more_messages(before, after))

    def to_json(self) -> dict[str, Any]:
        """Everything."""
        return {
            "promises": [each.to_json() for each in self.promises()],
            "results": [each.to_json() for each in self.results],
        }


def _fewer_timeouts(before: BackfillResult, after: BackfillResult) -> Promise:
    was, now = before.ops.timeout_share, after.ops.timeout_share
    fewer = None if not was else 1 - now / was
    detail = (
        f"{before.ops.timeouts} of {before.ops.total} operations ({was:.1%}) before, "
        f"{after.ops.timeouts} of {after.ops.total} ({now:.1%}) after"
    )
    kept = None if fewer is None else fewer >= FEWER_TIMEOUTS_SAID
    return Promise("fewer time-out errors, as a share of operations", "95 %", fewer, kept, detail)


def _more_messages(before: BackfillResult, after: BackfillResult) -> Promise:
    was, now = before.per_s_of_plan, after.per_s_of_plan
    more = None if not was else now / was - 1
    detail = (
        f"{before.account.done} of {before.account.planned} done, {was:.2f} a second, before; "
        f"{after.account.done} of {after.account.planned}, {now:.2f} a second, after"
    )
    kept = None if more is None else more >= MORE_SAID[0]
    return Promise("more messages done per second", "40 to 60 %", more, kept, detail)
