"""LabRun: one run of a scenario under a policy, from the first connection to the verdict.

Role: the experiment itself. Start shards and coordinator, put them under load, send the CONFIG SETs, watch, end the
load, wait for what is outstanding, judge. It never waits without a limit. A run that hung, or lost queries, leaves
threads that wait for ever and can't be ended; then `clean` is False, and the caller (`coordemu.lab.child_main`) ends
the process. In the simulator (`coordemu.lab.sim_run`) it is the same run; only its shards and what counts its
resources are others.

Thread: the caller's, the lab's. Blocks for the length of the run. Upstream: the regression test of MOD-11658.
Left out: printing (`coordemu.report`), and running in a child (`coordemu.lab.child`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from coordemu.coord.conn_handshake import pack_command
from coordemu.coord.conn_options import ConnOptions
from coordemu.coord.coordinator import Coordinator, CoordinatorOptions
from coordemu.coord.endpoint import MREndpoint
from coordemu.coord.resize_policy import ResizePolicy
from coordemu.coord.resize_record import JournalEntry, Resize
from coordemu.lab.load import QueryLoad
from coordemu.lab.machine import Counter, Fleet, ProcessCounter, describe_machine
from coordemu.lab.operator import Operator, OperatorError, OperatorGaveUp
from coordemu.lab.prober import PingProber
from coordemu.lab.result import Result
from coordemu.lab.scenario import Scenario
from coordemu.lab.timeline import call_chain, timeline
from coordemu.lab.verdict import judge
from coordemu.lab.watch import HangWatch
from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Runtime, Task
from coordemu.runtime.wait_for import chain_from, edges
from coordemu.shards.shard_command import query_command
from coordemu.shards.shard_url import parse_shard_url

CONNECT_LIMIT_NS = 5 * NS_PER_S
SHRINK_LIMIT_NS = 100 * NS_PER_MS
FLIGHT_LIMIT_NS = NS_PER_S
THREADS_GONE_LIMIT_NS = NS_PER_S


class ShardsUnreachable(Exception):
    """Not every shard could be connected to in time; one line for the user."""


class LabRun:
    """One run. Make it, call `carry_out` once."""

    def __init__(
        self,
        rt: Runtime,
        scenario: Scenario,
        policy: ResizePolicy,
        fleet: Fleet,
        progress: Callable[[str], None] | None = None,
        counter: Counter | None = None,
        surroundings: Mapping[str, Any] | None = None,
    ) -> None:
        """fleet: started shards; the caller stops them.  progress: called with a line now and then.  counter: of the
        resources that are given back at the end, None for this process's.  surroundings: facts for the result's
        `machine`."""
        self._rt = rt
        self._scenario = scenario
        self._policy = policy
        self._fleet = fleet
        self._progress = progress or (lambda line: None)
        self._counter = counter or ProcessCounter()
        self._surroundings = dict(surroundings or {})
        self._config_set_ms: list[float | None] = []
        self._config_set_error = ""
        self._sent_ns = 0
        self._returned_ns = 0
        self._notes: list[JournalEntry] = []
        self.clean = False

    def carry_out(self) -> Result:
        """Do it all. Raises ShardsUnreachable when the shards can't be reached. Blocks for the length of the run."""
        scenario, rt = self._scenario, self._rt
        before = self._counter.count()
        coordinator = self._start_coordinator()
        prober = PingProber(rt, coordinator.host.address, scenario.ping_interval_ms)
        load = QueryLoad(rt, coordinator.host.address, scenario, rt.random)
        operator = Operator(rt, coordinator.host.address)
        watch = HangWatch(rt, coordinator.host, prober, scenario.watchdog_ms)
        self._experiment(coordinator, prober, load, operator, watch)
        load.end()
        settle_ns = scenario.settle_ms * NS_PER_MS + scenario.longest_query_ns * (1 + scenario.clients)
        operator.wait(lambda: load.ended, watch.hung, settle_ns)
        result = self._result(coordinator, prober, load, watch, before)
        prober.stop()
        load.stop()
        operator.close()
        if result.verdict in ("deadlocked", "unresponsive", "lost"):
            return result
        coordinator.stop()
        self.clean = True
        counter = self._counter
        rt.poll_until(lambda: counter.settled(before), NS_PER_MS, "ended threads to go", THREADS_GONE_LIMIT_NS)
        return self._with_resources(result, before, counter.count())

    # ---- phases

    def _start_coordinator(self) -> Coordinator:
        scenario, fleet = self._scenario, self._fleet
        options = CoordinatorOptions(
            workers=scenario.workers[0],
            conn_per_shard=scenario.conn_per_shard,
            io_threads=scenario.io_threads,
            no_limits=scenario.no_limits,
            conn=ConnOptions(protocol=scenario.protocol),
        )
        endpoints = [MREndpoint(address, fleet.password) for address in fleet.addresses]
        kind = fleet.kind
        coordinator = Coordinator(
            self._rt,
            options,
            endpoints,
            self._policy,
            lambda query_id, service_ns: pack_command(*query_command(kind, query_id, service_ns)),
        )
        if not coordinator.start(CONNECT_LIMIT_NS):
            states, broken = coordinator.cluster.fill_state_dict(), _broken(coordinator)
            coordinator.stop()
            bad = [
                f"{node} ({', '.join(sorted(set(names)))})"
                for node, names in states.items()
                if set(names) != {"Connected"}
            ]
            whom = "; ".join([*bad, *broken]) or "the shards"
            raise ShardsUnreachable(f"not every connection stood within {CONNECT_LIMIT_NS // NS_PER_S} s: {whom}")
        return coordinator

    def _experiment(
        self, coordinator: Coordinator, prober: PingProber, load: QueryLoad, operator: Operator, watch: HangWatch
    ) -> None:
        scenario = self._scenario
        self._progress("load")
        warm_ns = scenario.warm_ms * NS_PER_MS
        began_ns = self._rt.now_ns()
        operator.wait(lambda: load.replied >= load.limit or not scenario.clients, watch.hung, 10 * NS_PER_S)
        operator.wait(lambda: False, watch.hung, max(0, warm_ns - (self._rt.now_ns() - began_ns)))
        self._await_flight(coordinator, load, watch)
        prober.mark()
        load.mark()
        for number, size in enumerate(scenario.workers[1:]):
            last = number == len(scenario.workers) - 2
            if number and scenario.pause_ms:
                operator.wait(lambda: False, watch.hung, round(scenario.pause_ms * NS_PER_MS))
            if watch.hung():
                return
            self._progress(f"CONFIG SET WORKERS {size}")
            if not self._config_set(operator, load, watch, size, last):
                return
        after_ns = scenario.after_ms * NS_PER_MS
        if scenario.kill_shard >= 0 and scenario.restart_after_ms:
            restart_ns = min(after_ns, scenario.restart_after_ms * NS_PER_MS)
            operator.wait(lambda: False, watch.hung, restart_ns)
            self._restart_shard(coordinator, operator, watch)
            after_ns -= restart_ns
        operator.wait(lambda: False, watch.hung, after_ns)
        history = coordinator.resizer.history
        limit_ns = (self._policy.drain_timeout_ms + 1000) * NS_PER_MS
        operator.wait(lambda: all(resize.complete for resize in history), watch.hung, limit_ns)

    def _await_flight(self, coordinator: Coordinator, load: QueryLoad, watch: HangWatch) -> None:
        """The scenario names how many queries are in flight when CONFIG SET arrives: wait for just such a moment.

        In flight means that their replies are outstanding; a query that works or waits for the module lock after its
        replies is not. The moment is when three quarters of the replies that can be have *become* outstanding: then the
        queries have just been sent, in every run and under every policy alike. A load that never comes to that is taken
        as it is after a second.
        """
        running = min(load.limit, self._scenario.workers[0] or load.limit)
        wanted = max(1, len(self._fleet) * running * 3 // 4)
        was_below = False

        def risen() -> bool:
            nonlocal was_below
            enough = coordinator.cluster.pending_total(0) >= wanted
            was_below = was_below or not enough
            return (was_below and enough and load.under_way >= load.limit) or watch.hung()

        self._rt.poll_until(risen, NS_PER_MS // 5, "queries in flight", FLIGHT_LIMIT_NS)

    def _config_set(self, operator: Operator, load: QueryLoad, watch: HangWatch, size: int, last: bool) -> bool:
        self._sent_ns = self._rt.now_ns()
        words = ("CONFIG", "SET", "WORKERS", str(size))
        try:
            operator.send(*words, give_up=watch.hung)
            if last and self._scenario.kill_shard >= 0:
                self._kill_shard(operator, watch)
            operator.answer(" ".join(words), watch.hung)
            self._config_set_error = ""
        except OperatorError as err:
            self._config_set_error = str(err)
        except OperatorGaveUp:
            self._config_set_ms.append(None)
            return False
        self._returned_ns = operator.answered_ns
        self._config_set_ms.append((self._returned_ns - self._sent_ns) / NS_PER_MS)
        load.watch_new_queries(self._returned_ns)
        return True

    def _kill_shard(self, operator: Operator, watch: HangWatch) -> None:
        # In the middle of the shrink, if the policy gets there: its replies in flight are what the kill is about.
        def shrinking() -> bool:
            return any(
                event.upstream == "MRConnManager_Shrink" and event.at_ns >= self._sent_ns
                for event in self._rt.trace_events()
            )

        operator.wait(shrinking, watch.hung, SHRINK_LIMIT_NS)
        kill = self._scenario.kill_shard
        address = self._fleet.addresses[kill]
        self._note("a shard is killed", f"shard {kill}, {address}")
        self._fleet.kill(kill)

    def _restart_shard(self, coordinator: Coordinator, operator: Operator, watch: HangWatch) -> None:
        began_ns = self._rt.now_ns()
        self._fleet.restart(self._scenario.kill_shard)
        if operator.wait(coordinator.connected, watch.hung, 5 * NS_PER_S):
            taken_ms = (self._rt.now_ns() - began_ns) / NS_PER_MS
            self._note("the shard is back", f"every connection stands after {taken_ms:.0f} ms")
        else:
            self._note("the shard is back", "not every connection stands")

    def _note(self, action: str, result: str) -> None:
        self._notes.append(JournalEntry(self._rt.now_ns(), action, result))

    # ---- what came of it

    def _result(
        self,
        coordinator: Coordinator,
        prober: PingProber,
        load: QueryLoad,
        watch: HangWatch,
        before: dict[str, int],
    ) -> Result:
        queries, ping = load.sums(), prober.sums()
        verdict, why = judge(watch.verdict, watch.sentence, self._config_set_error, queries, ping)
        why = "; ".join([why, *_broken(coordinator)])
        history, events = list(coordinator.resizer.history), self._rt.trace_events()
        resize = self._resize_to_tell(history)
        stuck = verdict in ("deadlocked", "unresponsive", "lost")
        cycle = watch.sentence if watch.verdict else self._stuck_sentence(coordinator) if verdict == "lost" else ""
        expected = self._policy.expected if self._scenario.name == "mod-11658" else ""
        rows = (
            timeline(resize, self._notes, self._sent_ns, prober, load, coordinator, events, verdict) if resize else ()
        )
        return Result(
            # The text form without the password: results are passed around.
            scenario={**self._scenario.to_json(), "shards": str(parse_shard_url(self._scenario.shards))},
            policy=self._policy.to_json(),
            runtime=self._rt.name,
            seed=self._scenario.seed,
            verdict=verdict,
            why=why,
            as_expected=(verdict == expected) if expected else None,
            workers=(self._scenario.workers[0], coordinator.workers.num_threads_alive),
            connections=(history[0].conns_before if history else 0, coordinator.cluster.conns_per_node),
            config_set_ms=tuple(self._config_set_ms),
            config_set_error=self._config_set_error,
            queries=queries,
            ping=ping,
            receipts=tuple(receipt.to_json() for receipt in (resize.receipts if resize else ())),
            timeline=rows,
            chain=call_chain(events, self._sent_ns),
            wait_for=tuple(
                {
                    "waiter": e.waiter,
                    "on": e.on,
                    "held_by": list(e.held_by),
                    # What a waitable waits for has no beginning of its own.
                    "since_ms": (self._rt.now_ns() - e.since_ns) / NS_PER_MS if e.since_ns else None,
                }
                for e in edges(self._rt)
            )
            if stuck
            else (),
            cycle=cycle,
            stacks={task.name: task.call_stack() for task in self._rt.tasks()} if stuck else {},
            logs=tuple(
                f"{level}: {line}" for level, line in list(coordinator.logs)[-100:] if level in ("warning", "notice")
            ),
            resources={"before": before},
            machine={**describe_machine(), **self._surroundings},
        )

    def _resize_to_tell(self, history: list[Resize]) -> Resize | None:
        told = [resize for resize in history if resize.shrinks] or history
        return told[-1] if told else None

    def _stuck_sentence(self, coordinator: Coordinator) -> str:
        stuck: list[Task] = [task for task in self._rt.tasks() if task.name.startswith("workers-")]
        for task in stuck:
            chain = chain_from(self._rt, task)
            if chain.kind in ("cycle", "orphan"):
                return chain.sentence
        return f"main runs; {coordinator.queries.in_flight} queries wait for replies that were dropped"

    def _with_resources(self, result: Result, before: dict[str, int], after: dict[str, int]) -> Result:
        data = result.to_json()
        data["resources"] = {"before": before, "after": after}
        return Result.from_json(data)


def _broken(coordinator: Coordinator) -> list[str]:
    """What no run should show: threads of the layers that ended with an error, jobs that raised one."""
    tasks = [io.task for io in coordinator.cluster.io_runtimes]
    told = [f"thread {task.name} ended with {task.error!r}" for task in tasks if task is not None and task.error]
    raised = coordinator.workers.stats().job_errors
    return [*told, f"{raised} jobs raised an error (see the logs)"] if raised else told
