"""Waits by sleeping, and waits at a drain gate, in virtual time.

Role: `poll_until` is upstream's usleep loops. A loop that looks every microsecond for something that comes in a second
would take a million steps to find nothing. So as long as nobody else takes a step the looks come at growing distances,
still at multiples of the interval; as soon as somebody does, the next look is at the next multiple. A predicate that
reads shared state cannot tell the difference; one that reads the clock may be answered late, but never after its own
time limit.

`drain_wait` is the same with the gate as its predicate. The gate's own waits would stop the only OS thread there is, so
they are never called; a gate that counts drains called off (`statistics()["superseded"]`) is believed.

Thread: the simulator's one. Upstream: redisearch_thpool_pause and remove_threads (1 microsecond), the write-up's drain
(10 ms). Left out: nothing of the seam.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from coordemu.runtime.base import NS_PER_S, NS_PER_US, DrainGate, DrainWait, OwedBy, Waitable
from coordemu.runtime.sim_clock import Due
from coordemu.runtime.waitables import PollWait

if TYPE_CHECKING:
    from coordemu.runtime.sim_core import SimCore
    from coordemu.runtime.sim_task import SimTask

# So many looks in vain at the plain interval before the distances grow.
QUICK_LOOKS = 4
LONGEST_NAP_NS = 10 * NS_PER_S
# How soon a wait that is woken notices, where the simulator can only look.
WAKE_LOOK_NS = NS_PER_US


class Poller:
    """One sleeping loop. interval_ns: 1 or more.  deadline_ns: None for none."""

    __slots__ = ("_core", "_due", "_interval_ns", "_last_ns", "_quiet", "_seen", "_task", "deadline_ns")

    def __init__(self, core: SimCore, task: SimTask, interval_ns: int, deadline_ns: int | None) -> None:
        self._core = core
        self._task = task
        self._interval_ns = interval_ns
        self.deadline_ns = deadline_ns
        self._last_ns = core.clock.now_ns
        self._quiet = 0
        self._seen = -1
        self._due: Due | None = None

    def nap(self, label: str) -> None:
        """Sleep until the next look."""
        core = self._core
        if core.activity == self._seen:
            self._quiet += 1
        else:
            self._quiet, self._seen = 0, core.activity
        self._last_ns = core.clock.now_ns
        growth = max(0, self._quiet - QUICK_LOOKS)
        # A multiple of the interval all the same.
        fold = min(2**growth, max(1, LONGEST_NAP_NS // self._interval_ns))
        self._arm(self._last_ns + fold * self._interval_ns)
        core.pollers[self] = None
        try:
            core.block(label, None)
        finally:
            core.pollers.pop(self, None)
            if self._due is not None:
                core.clock.cancel(self._due)

    def look_soon(self) -> None:
        """Something has happened: look at the next multiple of the interval."""
        if self._quiet > QUICK_LOOKS and self._due is not None:
            slept_ns = self._core.clock.now_ns - self._last_ns
            at_ns = self._last_ns + (slept_ns // self._interval_ns + 1) * self._interval_ns
            if at_ns < self._due.at_ns:
                self._core.clock.cancel(self._due)
                self._quiet = 0
                self._arm(at_ns)

    def _arm(self, at_ns: int) -> None:
        if self.deadline_ns is not None:
            at_ns = min(at_ns, self.deadline_ns)
        self._due = self._core.arm(at_ns, self._wake, soft=self.deadline_ns is None)

    def _wake(self) -> None:
        self._core.enable(self._task)


def poll_until(
    core: SimCore,
    predicate: Callable[[], bool],
    interval_ns: int,
    why: str,
    timeout_ns: int | None,
    owed_by: OwedBy | None,
) -> bool:
    """As `Runtime.poll_until` says."""
    if interval_ns < 0:
        raise ValueError(f"poll interval {interval_ns} ns")
    return _look_until(core, predicate, interval_ns, PollWait(why, owed_by), timeout_ns)


def _look_until(
    core: SimCore, predicate: Callable[[], bool], interval_ns: int, shown: Waitable, timeout_ns: int | None
) -> bool:
    label = f"look: {shown.name}"
    core.point(label)
    if predicate():
        return True
    if timeout_ns is not None and timeout_ns <= 0:
        return False
    task = core.current
    clock = core.clock
    deadline_ns = None if timeout_ns is None else clock.now_ns + timeout_ns
    poller = Poller(core, task, max(interval_ns, 1), deadline_ns)
    before = task.outer, task.outer_since_ns, task.outer_limited, task.polling
    task.outer, task.outer_since_ns, task.outer_limited = shown, clock.now_ns, deadline_ns is not None
    task.polling = True
    try:
        while True:
            poller.nap(label)
            if predicate():
                return True
            if deadline_ns is not None and clock.now_ns >= deadline_ns:
                return False
    finally:
        task.outer, task.outer_since_ns, task.outer_limited, task.polling = before


def drain_wait(core: SimCore, gate: DrainGate, timeout_ns: int, poll_ns: int | None) -> DrainWait:
    """As `Runtime.drain_wait` says, without the gate's own waits. Raises ValueError for times out of bounds."""
    if timeout_ns < 0:
        raise ValueError(f"timeout_ns {timeout_ns} is below 0")
    if poll_ns is not None and poll_ns < 1:
        raise ValueError(f"poll_ns {poll_ns} is below 1")
    shown: Waitable = gate if isinstance(gate, Waitable) else PollWait(gate.name, lambda: ("outstanding replies",))
    started_ns = core.clock.now_ns
    called_off = _called_off(gate)
    _look_until(core, lambda: called_off() or gate.drained, poll_ns or WAKE_LOOK_NS, shown, timeout_ns)
    waited_ns = core.clock.now_ns - started_ns
    outcome = "superseded" if called_off() else "drained" if gate.drained else "deadline"
    if poll_ns is None:
        return DrainWait(outcome, waited_ns, 0, int(waited_ns > 0 and outcome != "deadline"))
    # As many looks as the loop would have had, were it not for the growing distances.
    return DrainWait(outcome, waited_ns, 1 + -(-waited_ns // poll_ns), 0)


def _called_off(gate: DrainGate) -> Callable[[], bool]:
    statistics = getattr(gate, "statistics", None)
    if statistics is None:
        return lambda: False
    before: int = statistics().get("superseded", 0)

    def changed() -> bool:
        return bool(statistics().get("superseded", 0) != before)

    return changed
