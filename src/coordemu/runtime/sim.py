"""SimRuntime: the runtime seam on one OS thread, in virtual time, in an order that a strategy chooses.

Role: gives the layers `base.Runtime`, so that they run here unchanged. It only composes: the scheduler is sim_core, the
strategies and the record sim_schedule, time sim_clock, primitives sim_lock, sim_sync and sim_cell, waits by sleeping
sim_poll, loops sim_loop, the network sim_network and sim_socket.

    sim = SimRuntime(make_strategy("pct3", seed))
    outcome = sim.run(lambda: scenario(sim))

Nothing of the system is touched: no thread, lock, socket, sleep or clock. Set-up and tear-down outside of `run` work as
long as they need not wait. A run that ended badly is taken down; its objects can be looked at, not used.

Thread: one OS thread; a runtime is used by the one that runs it. Upstream: none. Left out: black boxes (a layer that
reads another clock or draws other chance than the runtime's is not reproducible). Bounds: `max_steps`; 65,536 trace
events.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from coordemu.runtime import base, wait_for
from coordemu.runtime.base import T
from coordemu.runtime.runtime_base import RuntimeBase
from coordemu.runtime.sim_cell import SimCell
from coordemu.runtime.sim_core import SimCore
from coordemu.runtime.sim_lock import SimCondition, SimLock
from coordemu.runtime.sim_loop import SimLoop
from coordemu.runtime.sim_network import LATENCY_NS, SimNetwork
from coordemu.runtime.sim_outcome import DEADLOCK, STEP_LIMIT, SimDeadlock, SimOutcome, SimStepLimit
from coordemu.runtime.sim_poll import drain_wait, poll_until
from coordemu.runtime.sim_schedule import RunOn, Schedule, Strategy
from coordemu.runtime.sim_sync import SimBarrier, SimEvent, SimSemaphore
from coordemu.runtime.sim_task import SimTask

CLOCKS = ("idle", "explored")
MAX_STEPS = 2_000_000
# A wait that nobody owes for so long, while others go on, is believed.
ORPHAN_LIMIT_NS = 60 * base.NS_PER_S


class SimRuntime(RuntimeBase):
    """One laboratory's runtime, for one run.

    strategy: who takes each step; None keeps to a task until it cannot go on.  seed: of `random`.
    clock: "idle" (time passes when nothing can run) or "explored" (its passing is one more choice).
    stop_on_error: whether a task that raises ends the run.  max_steps: 1 or more.
    latency_ns: of the network, 0 or more.  chances: 0.0 to 1.0, how often what is legal but rare happens (a spurious
    wake-up, another waiter than the first, half a delivery): each a `pick` of the strategy; 0: never.
    Raises ValueError outside the bounds.
    """

    def __init__(
        self,
        strategy: Strategy | None = None,
        seed: int = 1,
        clock: str = "idle",
        stop_on_error: bool = True,
        max_steps: int = MAX_STEPS,
        latency_ns: int = LATENCY_NS,
        chances: float = 0.0,
    ) -> None:
        super().__init__(seed)
        if clock not in CLOCKS:
            raise ValueError(f"clock {clock!r} is none of {', '.join(CLOCKS)}")
        if max_steps < 1 or latency_ns < 0:
            raise ValueError(f"max_steps {max_steps}, latency_ns {latency_ns}")
        self.core = SimCore(strategy or RunOn(), clock == "explored", stop_on_error, max_steps)
        if not 0 <= chances <= 1:
            raise ValueError(f"chances {chances} is not within 0..1")
        self.core.chances = chances
        self.core.find_stuck = self._find_stuck
        self.network = SimNetwork(self.core, latency_ns)
        self._clock = clock

    # -- what a search needs

    @property
    def calm(self) -> bool:
        """Whether the run keeps to one task until it cannot go on, without asking the strategy or recording anything.
        May be set at any time, by a task too: the way to where a search begins."""
        return self.core.calm

    @calm.setter
    def calm(self, calm: bool) -> None:
        self.core.calm = calm

    # -- running

    def run(self, main: Callable[[], object], name: str = "main", wait_for_all: bool = True) -> SimOutcome:
        """Run `main` as a task, and what it spawns, to the end of all (or, not wait_for_all, of `main`).

        Returns how it ended; raises nothing of the tasks' own but KeyboardInterrupt. What is left after a pause goes on
        with `finish`.
        """
        task = self.core.spawn(main, (), name)
        return self._run(None if wait_for_all else task)

    def finish(self) -> SimOutcome:
        """Let the tasks that are left run to their ends."""
        return self._run(None)

    def _run(self, until: SimTask | None) -> SimOutcome:
        core = self.core
        kind, error = core.run(until)
        wait_for_text = ""
        stacks: dict[str, list[str]] = {}
        chains: tuple[wait_for.Chain, ...] = ()
        if kind not in ("done", "paused"):
            tasks = core.tasks()
            chains = tuple(wait_for.chains_from(self, tasks))
            wait_for_text = wait_for.render_chains(self, tasks, chains)
            stacks = {task.key: task.call_stack() for task in tasks}
            if kind == DEADLOCK:
                error = SimDeadlock(wait_for_text)
            elif kind == STEP_LIMIT:
                error = SimStepLimit(f"{len(core.steps)} steps\n{wait_for_text}")
        outcome = SimOutcome(
            kind, len(core.steps), core.clock.now_ns, self.schedule(), error, wait_for_text, stacks, chains
        )
        if not outcome.ok:
            core.kill()
        if isinstance(error, KeyboardInterrupt):
            raise error
        return outcome

    def schedule(self) -> Schedule:
        """The steps taken so far."""
        return Schedule(self.core.strategy.name, self._clock, tuple(self.core.steps))

    def _find_stuck(self) -> bool:
        """Whether a task waits in a cycle, or has waited for nobody for a minute, and no time limit changes that."""
        tasks = self.core.tasks()
        waiting = [task for task in tasks if task.waiting_on is not None and not task.limited]
        if not waiting:
            return False
        # Chains bear names, which several tasks may share.
        limited = {task.name for task in tasks if task.limited} - {task.name for task in tasks if not task.limited}
        for task, chain in zip(waiting, wait_for.chains_from(self, waiting), strict=True):
            stuck = chain.kind == wait_for.CYCLE
            if chain.kind == wait_for.ORPHAN:
                # Without words about it, "nobody" may only mean that nobody was named.
                told = chain.steps[-1].startswith("nobody") or chain.sentence.endswith("has ended: an orphan")
                stuck = told and self.core.clock.now_ns - task.waiting_since_ns > ORPHAN_LIMIT_NS
            if stuck and not limited.intersection(chain.steps):
                return True
        return False

    @property
    def name(self) -> str:
        """ "sim"."""
        return "sim"

    # -- clock

    def now_ns(self) -> int:
        """Virtual time, ns. It stands still while tasks compute."""
        return self.core.clock.now_ns

    def sleep_ns(self, duration_ns: int) -> None:
        """Sleep duration_ns (0 or more, ValueError otherwise; 0 only gives way). Blocks, in virtual time."""
        if duration_ns < 0:
            raise ValueError(f"sleep of {duration_ns} ns, which is negative")
        if duration_ns:
            self.core.block("sleep", None, duration_ns)
        else:
            self.core.give_way("give way")

    def poll_until(
        self,
        predicate: Callable[[], bool],
        interval_ns: int,
        why: str,
        timeout_ns: int | None = None,
        owed_by: base.OwedBy | None = None,
    ) -> bool:
        """Read the predicate at multiples of interval_ns (0 or more) until it holds. True then, False after timeout_ns.

        Not at every multiple: see sim_poll. Raises what the predicate raises. Blocks.
        """
        return poll_until(self.core, predicate, interval_ns, why, timeout_ns, owed_by)

    def drain_wait(self, gate: base.DrainGate, timeout_ns: int, poll_ns: int | None = None) -> base.DrainWait:
        """Block until the gate has drained, for timeout_ns at most. The gate's own waits are not called."""
        return drain_wait(self.core, gate, timeout_ns, poll_ns)

    # -- tasks

    def spawn(self, target: Callable[..., object], *args: object, name: str) -> SimTask:
        """A task that calls target(*args). What it raises ends the run, or (not stop_on_error) in `Task.error`."""
        return self.core.spawn(target, args, name)

    def current(self) -> SimTask:
        """The calling task; a stand-in named "outside" when there is none."""
        return self.core.current

    def tasks(self) -> Sequence[SimTask]:
        """All that are alive."""
        return self.core.tasks()

    # -- primitives

    def lock(self, name: str) -> SimLock:
        """A lock."""
        return SimLock(self.core, name)

    def condition(self, lock: base.Lock, name: str, owed_by: base.OwedBy | None = None) -> SimCondition:
        """A condition over a lock of this runtime (TypeError otherwise)."""
        if not isinstance(lock, SimLock):
            raise TypeError(f"condition {name!r} over {lock!r}, which is not a lock of this runtime")
        return SimCondition(self.core, lock, name, owed_by)

    def event(self, name: str, owed_by: base.OwedBy | None = None) -> SimEvent:
        """An event, clear. owed_by: who will set it."""
        return SimEvent(self.core, name, owed_by)

    def barrier(self, n: int, name: str, expected: Callable[[], Sequence[base.Task]] | None = None) -> SimBarrier:
        """A barrier for n tasks (1 or more, ValueError otherwise). expected: who should come."""
        return SimBarrier(self.core, n, name, expected)

    def semaphore(self, value: int, name: str) -> SimSemaphore:
        """A semaphore with `value` free units (0 or more, ValueError otherwise)."""
        return SimSemaphore(self.core, value, name)

    def cell(self, value: T, name: str) -> SimCell[T]:
        """A shared variable."""
        return SimCell(self.core, value, name)

    # -- network and loops

    def loop(self, name: str) -> SimLoop:
        """A loop; close it when done."""
        return SimLoop(self.core, self.network, name)

    def statistics(self) -> dict[str, int]:
        """tasks (alive), steps, trace_kept, trace_recorded."""
        return super().statistics() | {"steps": len(self.core.steps)}

    def __repr__(self) -> str:
        return f"<SimRuntime {self.core.strategy.name}, clock {self._clock}, {self.core!r}>"


if TYPE_CHECKING:
    _satisfies_the_seam: base.Runtime = SimRuntime()
