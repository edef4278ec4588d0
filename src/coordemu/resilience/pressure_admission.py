"""PressureAdmission: low-priority work stays out while a pool is under pressure.

Role: work that can wait asks here first. While its node is calm it goes on at once; under pressure it is refused with
the reason, or waits for calm (in the order of coming, with a deadline), or is let through, as the options say. Who has
waited goes in one at a time, each after a look of its own: calm does not let the whole line in at once, which would be
the next pressure.

Other work does not ask. Blocking reads have a limit of their own besides (`blocking_wait`).

Thread: any. Upstream: none. Left out: more than two priorities. Bounds: a line per node, without a bound but its
deadline.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from coordemu.pool.pool_context import PoolContext, check, pause
from coordemu.resilience.node_turns import NodeTurns
from coordemu.resilience.pool_pressure import PoolPressure
from coordemu.resilience.pressure_gauge import PressureLevel
from coordemu.resilience.resilience_errors import BulkheadFull, PressureRefused
from coordemu.runtime.base import NS_PER_MS, Runtime

REFUSE, WAIT, ADMIT = "refuse", "wait", "admit"
RULES = (REFUSE, WAIT, ADMIT)


@dataclass(frozen=True, slots=True)
class AdmissionOptions:
    """low: what becomes of low-priority work under pressure, one of RULES.  wait_ms: how long it waits at most, 0 or
    more. Raises ValueError outside the bounds."""

    low: str = WAIT
    wait_ms: int = 2_000

    def __post_init__(self) -> None:
        if self.low not in RULES:
            raise ValueError(f"low {self.low!r} is none of {', '.join(RULES)}")
        if self.wait_ms < 0:
            raise ValueError(f"wait_ms {self.wait_ms} is below 0")


class PressureAdmission:
    """Who may go on. faults: of NODE_FAULTS."""

    def __init__(
        self,
        rt: Runtime,
        pressure: PoolPressure,
        options: AdmissionOptions | None = None,
        name: str = "admission",
        faults: Collection[str] = (),
    ) -> None:
        self.name = name
        self.options = options or AdmissionOptions()
        self._rt = rt
        self._pressure = pressure
        self._lock = rt.lock(f"{name} counts")
        self._gates = NodeTurns(rt, 1, name, faults)
        self._step_ns = max(1, pressure.options.look_ms) * NS_PER_MS
        self._counts = {"admitted": 0, "waited": 0, "wait_ns": 0, "refused": 0}

    def admit_low(self, node: str = "", ctx: PoolContext | None = None, timeout_ns: int | None = None) -> int:
        """Let low-priority work in: when this returns it may go on. How long it waited, ns.

        node: whose pool it will need; "": any. timeout_ns: how long to wait, 0 or more; None: the options' time.
        Raises PressureRefused, Cancelled, DeadlineExceeded. Thread: any. May block.
        """
        check(ctx)
        rule = self.options.low
        if rule == ADMIT or (rule == REFUSE and self._calm(node)):
            return self._admitted(0)
        if rule == REFUSE:
            raise self._refusal(node, 0)
        longest_ns = self.options.wait_ms * NS_PER_MS if timeout_ns is None else max(0, timeout_ns)
        try:
            gate, in_line_ns = self._gates.acquire(node, ctx, longest_ns)
        except BulkheadFull as full:
            raise self._refusal(node, full.waited_ns) from None
        try:
            # Who has stood in line looks for himself, and not before a step has passed.
            if not in_line_ns and self._calm(node):
                return self._admitted(0)
            return self._admitted(in_line_ns + self._wait_for_calm(node, ctx, in_line_ns, longest_ns))
        finally:
            gate.release()

    def _wait_for_calm(self, node: str, ctx: PoolContext | None, in_line_ns: int, longest_ns: int) -> int:
        """At the head of the line. How long it took, ns: a clock that goes back does not make it longer."""
        waited_ns = 0
        while True:
            left_ns = longest_ns - in_line_ns - waited_ns
            if left_ns <= 0:
                raise self._refusal(node, in_line_ns + waited_ns)
            step_ns, before_ns = min(left_ns, self._step_ns), self._rt.now_ns()
            pause(self._rt, step_ns, ctx, f"{self.name}: calm")
            check(ctx)
            waited_ns += max(step_ns, self._rt.now_ns() - before_ns)
            if self._pressure.look_again().level_of(node or None) is PressureLevel.CALM:
                return waited_ns

    def _calm(self, node: str) -> bool:
        return self._pressure.level(node or None) is PressureLevel.CALM

    def _admitted(self, waited_ns: int) -> int:
        with self._lock:
            self._counts["admitted"] += 1
            self._counts["waited"] += waited_ns > 0
            self._counts["wait_ns"] += waited_ns
        return waited_ns

    def _refusal(self, node: str, waited_ns: int) -> PressureRefused:
        with self._lock:
            self._counts["refused"] += 1
        reading = self._pressure.look()
        least_ns = self._pressure.options.min_ms * NS_PER_MS
        return PressureRefused(self.name, node, reading.pressure_at(node or None), waited_ns, least_ns)

    def statistics(self) -> dict[str, Any]:
        """admitted; of them waited, and wait_ns; refused; waiting now. Thread: any."""
        with self._lock:
            counts = dict(self._counts)
        return {**counts, "waiting": self._gates.statistics()["waiting"]}

    def __repr__(self) -> str:
        return f"<PressureAdmission {self.name!r} low: {self.options.low}>"
