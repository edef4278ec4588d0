"""OrderRun and CoordinatorSubject: the coordinator, its shards and its load, played once in the simulator.

Role: what a search of orders plays. The way to the start is calm: it is no part of the order. It ends when everything
is connected and nothing under way, or, where the scenario says that the queries are in flight, when the first change
comes. From then on every step is the strategy's until the last answer is in. The rest is calm again: the lab waits
until the oracles of rest hold, or for a while, looks at the books, and takes everything down.

The lab's task, "lab", turns the one loop of all clients. It waits without a limit: when something never comes and
nothing ticks, the runtime says so at once, and says who waits for whom.

Thread: the simulator's one. Upstream: the regression test of MOD-11658. Left out: results for a report
(`coordemu.lab.sim_run`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from coordemu.coord.conn_handshake import pack_command
from coordemu.coord.conn_options import ConnOptions
from coordemu.coord.coordinator import Coordinator, CoordinatorOptions
from coordemu.coord.endpoint import MREndpoint
from coordemu.coord.history import check_faults
from coordemu.coord.resize_policy import ResizePolicy
from coordemu.explore.order import Failure, Finding
from coordemu.explore.signature import without_numbers
from coordemu.lab.duration import Latency
from coordemu.lab.oracles import BROKEN, Breach, at_rest, of_books, rest_breaches
from coordemu.lab.order_load import OrderLoad
from coordemu.lab.order_scenario import FLIGHT, OrderScenario
from coordemu.lab.order_verdict import HEALTHY, failure_of_order
from coordemu.lab.step_watch import StepWatch
from coordemu.runtime.base import NS_PER_MS, NS_PER_S
from coordemu.runtime.sim import SimRuntime
from coordemu.runtime.sim_outcome import SimOutcome
from coordemu.shards.in_process_fleet import InProcessFleet
from coordemu.shards.shard_command import query_command

KIND = "coordinator"
# Longer than any drain, and than a connection takes to come back.
REST_LIMIT_NS = 10 * NS_PER_S

# Looks at a coordinator: "" or None when it is as it should be, else what is wrong. An AssertionError says so too. One
# that is asked at every step is asked in the middle of things: it must only look, and touch no lock.
Invariant = Callable[[Coordinator], str | None]


class OrderRun:
    """One order. Make it, have the runtime run `carry_out`, read what it found.

    coordinator, fleet, load: once they were made.  breaches: what does not hold.  phase: what the lab is at.
    """

    def __init__(
        self,
        sim: SimRuntime,
        scenario: OrderScenario,
        policy: ResizePolicy,
        faults: Sequence[str] = (),
        invariants: Sequence[Invariant] = (),
        at_every_step: Sequence[Invariant] = (),
    ) -> None:
        """faults: historical ones that are on.  invariants: asked at rest.  at_every_step: asked before every step of
        the order. Nothing is started."""
        self._sim = sim
        self._scenario = scenario
        self._policy = policy
        self._faults = frozenset(faults)
        self._invariants = tuple(invariants)
        self._at_every_step = tuple(at_every_step)
        self._watch: StepWatch | None = None
        self._ports: dict[str, str] = {}
        self.coordinator: Coordinator | None = None
        self.fleet: InProcessFleet | None = None
        self.load: OrderLoad | None = None
        self.breaches: list[Breach] = []
        self.phase = "beginning"

    def carry_out(self) -> None:
        """Do it all. Thread: the lab's task. Blocks."""
        sim = self._sim
        sim.calm = True
        sim.network.latency_ns = Latency.parse(self._scenario.hop).low_ns
        fleet = self.fleet = InProcessFleet(sim, self._scenario.shards)
        coordinator = self.coordinator = self._start(fleet)
        load = self.load = OrderLoad(sim, coordinator, fleet, self._scenario, self._begin)
        self._name_ports(coordinator, fleet, load)
        load.connect()
        sim.sleep_ns(NS_PER_MS)  # time passes when nothing can run: everybody waits for something to do
        self.phase = "order"
        if self._at_every_step:
            self._watch = StepWatch.put_on(sim, lambda: _first_said(self._at_every_step, coordinator)[1])
        if self._scenario.moment != FLIGHT or not self._scenario.events:
            self._begin()
        load.begin()
        load.run()
        sim.sleep_ns(1)  # what can still be done at this moment is a part of the order
        sim.calm = True
        self.phase = "coming to rest"
        self._look(coordinator, fleet, load)
        self.phase = "end"
        coordinator.stop()
        load.close()
        fleet.stop()
        self.phase = "over"

    def _name_ports(self, coordinator: Coordinator, fleet: InProcessFleet, load: OrderLoad) -> None:
        """Who stands behind the ports that the steps of deliveries name; all of the load's connections connect now."""
        named = {str(address.port): f"shard {index}" for index, address in enumerate(fleet.addresses)}
        named[str(coordinator.host.address.port)] = "main"
        connecting = [sock.local for sock in self._sim.network.sockets.values() if sock.connecting]
        for role, local in zip(load.roles, connecting, strict=True):
            if isinstance(local, tuple):
                named[str(local[1])] = role
        self._ports = named

    def _begin(self) -> None:
        """From here on every step is the strategy's, and so is what breaks."""
        self._sim.calm = False
        if self._scenario.chaos and self.fleet is not None:
            faults, scenario = self._sim.network.faults, self._scenario
            faults.chaos(scenario.chaos, scenario.chaos_budget, addresses=self.fleet.addresses)

    def _start(self, fleet: InProcessFleet) -> Coordinator:
        scenario = self._scenario
        options = CoordinatorOptions(
            workers=scenario.workers[0],
            conn_per_shard=scenario.conn_per_shard,
            io_threads=scenario.io_threads,
            conn=ConnOptions(protocol=scenario.protocol),
            faults=self._faults,
        )
        endpoints = [MREndpoint(address) for address in fleet.addresses[: scenario.nodes]]
        coordinator = Coordinator(self._sim, options, endpoints, self._policy, _shard_command)
        if not coordinator.start():
            raise RuntimeError("not every connection to the shards stood in time")
        return coordinator

    def _look(self, coordinator: Coordinator, fleet: InProcessFleet, load: OrderLoad) -> None:
        """Wait for rest, and note what does not hold."""
        limit_ns = REST_LIMIT_NS + self._policy.drain_timeout_ms * NS_PER_MS
        if not self._sim.poll_until(lambda: at_rest(coordinator, fleet), NS_PER_MS, "rest", limit_ns):
            self.breaches += rest_breaches(coordinator, fleet)
        self.breaches += of_books(coordinator, load)
        name, said = _first_said(self._invariants, coordinator)
        if said:
            self.breaches.append(Breach(BROKEN, name, said))

    def finding(self, outcome: SimOutcome) -> Finding:
        """The verdict. Thread: any, after the run."""
        forgiven = []
        if self.fleet is not None:
            struck = range(len(self.fleet.addresses)) if self._scenario.chaos else self._scenario.killed
            for index in struck:
                forgiven += [str(self.fleet.addresses[index]), f"no connection to node-{index}"]
        failure = failure_of_order(outcome, self.load, self.breaches, forgiven, self.phase)
        watch = self._watch
        if watch is not None and watch.breach:
            signature = (BROKEN, "at every step", without_numbers(watch.breach))
            failure = Failure(BROKEN, signature, f"before step {watch.step}: {watch.breach}")
        return Finding(
            failure.kind if failure else HEALTHY, failure, outcome, self._facts(outcome, failure is not None)
        )

    def _facts(self, outcome: SimOutcome, failed: bool) -> dict[str, Any]:
        load = self.load
        facts: dict[str, Any] = {"steps": outcome.steps, "phase": self.phase}
        if load is not None:
            facts |= {
                "sent": load.sent,
                "replied": load.replied,
                "failed": len(load.failures),
                "lost": load.under_way,
                "pings": load.pings_answered,
                "max_ping_ms": load.max_ping_ns / NS_PER_MS,
                "answers": [(command, str(reply)) for command, reply in load.answers],
            }
        if failed:
            facts["ports"] = self._ports
        if self.breaches:
            facts["breaches"] = [breach.sentence for breach in self.breaches]
        return facts


def _first_said(invariants: Sequence[Invariant], coordinator: Coordinator) -> tuple[str, str]:
    """The name of the first that does not hold, and what it said; "" for none."""
    for invariant in invariants:
        try:
            said = invariant(coordinator)
        except AssertionError as err:
            said = (str(err) or "an assertion failed").splitlines()[0]
        if said:
            return getattr(invariant, "__name__", "invariant"), said
    return "", ""


def _shard_command(query_id: str, service_ns: int) -> bytes:
    return pack_command(*query_command("embedded", query_id, service_ns))


class CoordinatorSubject:
    """A scenario under a policy, as a subject.

    scenario, policy: values.  faults: historical faults that are on, UnknownFault otherwise.  invariants: asked of
    the coordinator at rest.  at_every_step: asked before every step. Both are functions of a module, or the subject
    can't be sent to another process.
    """

    def __init__(
        self,
        scenario: OrderScenario,
        policy: ResizePolicy,
        faults: tuple[str, ...] = (),
        invariants: tuple[Invariant, ...] = (),
        at_every_step: tuple[Invariant, ...] = (),
    ) -> None:
        self.scenario = scenario
        self.policy = policy
        self.faults = tuple(sorted(check_faults(frozenset(faults))))
        self.invariants = invariants
        self.at_every_step = at_every_step

    @property
    def name(self) -> str:
        """The scenario's, the policy's, and the faults."""
        faults = f" with {', '.join(self.faults)}" if self.faults else ""
        return f"{self.scenario.name}, {self.policy.name}{faults}"

    @property
    def way(self) -> str:
        """The policy's name, for a table."""
        return self.policy.name

    def describe(self) -> dict[str, Any]:
        """Plain values; `coordemu.lab.subjects.subject_from` makes it again, without invariants of its user's."""
        return {
            "kind": KIND,
            "scenario": self.scenario.to_json(),
            "policy": self.policy.to_json(),
            "faults": list(self.faults),
        }

    def play(self, sim: SimRuntime) -> Finding:
        """Run once, and judge. Blocks for as long as that takes."""
        run = OrderRun(sim, self.scenario, self.policy, self.faults, self.invariants, self.at_every_step)
        return run.finding(sim.run(run.carry_out, name="lab"))

    def smaller(self) -> Sequence[CoordinatorSubject]:
        """With smaller scenarios."""
        return [
            CoordinatorSubject(scenario, self.policy, self.faults, self.invariants, self.at_every_step)
            for scenario in self.scenario.smaller()
        ]

    def __repr__(self) -> str:
        return f"<CoordinatorSubject {self.name}>"
