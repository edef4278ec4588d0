"""run_in_sim: one `LabRun` in the simulator, to the same `Result` as on real threads.

Role: what ``coordemu run --runtime sim`` calls. The scenario, the policy, the load with its warm-up, the PING prober,
the watch that finds a hang, the timeline and the verdict are those of a run on threads; time is virtual, the order of
the steps is the plan's, and the same plan gives the same result on every machine. The shards are embedded ones in this
process.

A hang is judged by the laboratory's own watch, as on threads, and not by the runtime, which would end the run before
the result is made. What then still waits is taken off its stack.

Thread: the simulator's one; blocks for the length of the run, which is a matter of steps. Upstream: none. Left out:
real servers; a fleet in a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from coordemu.coord.resize_policy import ResizePolicy
from coordemu.explore.order import OrderPlan
from coordemu.lab.result import Result
from coordemu.lab.run import LabRun, ShardsUnreachable
from coordemu.lab.scenario import Scenario, ScenarioError
from coordemu.runtime.sim import SimRuntime
from coordemu.shards.fault_plan import FaultPlan
from coordemu.shards.in_process_fleet import InProcessFleet
from coordemu.shards.shard_url import parse_shard_url

PLAIN_ORDER = OrderPlan()


class SimRunError(Exception):
    """The run broke off; one line for the user."""


class SimCounter:
    """Counts what a simulated run takes: tasks, and sockets, which have no descriptors of the system's."""

    def __init__(self, sim: SimRuntime) -> None:
        """sim: of the run."""
        self._sim = sim

    def count(self) -> dict[str, int]:
        """threads (tasks), fds and sockets (simulated ones)."""
        sockets = len(self._sim.network.sockets)
        return {"threads": len(self._sim.tasks()), "fds": sockets, "sockets": sockets}

    def settled(self, before: Mapping[str, int]) -> bool:
        """No more of anything than before: the shards hear a little later that their connections have ended."""
        return all(value <= before[name] for name, value in self.count().items())


def run_in_sim(
    scenario: Scenario,
    policy: ResizePolicy,
    plan: OrderPlan = PLAIN_ORDER,
    progress: Callable[[str], None] | None = None,
) -> Result:
    """Carry out the scenario in the simulator. plan: how the order is chosen; its `rt_seed` is the seed of the draws,
    in place of the scenario's.  progress: called with a line now and then.

    Raises ScenarioError for real shards, ShardsUnreachable as `LabRun`, SimRunError when a task of the layers raised
    or the order had no end, ValueError for a plan whose strategy does not exist. Blocks.
    """
    spec = parse_shard_url(scenario.shards)
    if spec.kind != "embedded" or spec.unix:
        raise ScenarioError(f"shards {spec}: the simulator has embedded shards on TCP only, embedded:N")
    sim = plan.runtime()
    results: list[Result] = []
    seeded = scenario.override(seed=plan.rt_seed)
    # The laboratory's watch judges; it waits for nothing without a limit, so the run ends by itself.
    sim.core.find_stuck = bool

    def carry_out() -> None:
        fleet = InProcessFleet(sim, spec.count, FaultPlan.parse(scenario.faults))
        run = LabRun(sim, seeded, policy, fleet, progress, SimCounter(sim), {"order": plan.to_json()})
        results.append(run.carry_out())
        if run.clean:
            fleet.stop()

    outcome = sim.run(carry_out, name="lab", wait_for_all=False)
    if outcome.ok and sim.tasks():
        sim.core.kill()
    if results:
        return results[0]
    error = outcome.error
    if isinstance(error, ShardsUnreachable):
        raise error
    said = str(error).splitlines()[0] if str(error) else ""
    raise SimRunError(f"the run broke off after {outcome.steps} steps with {type(error).__name__}: {said}") from error
