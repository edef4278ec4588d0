"""OrderLoad: the clients, the operator and the prober of one order, on one loop that the lab's own task turns.

Role: everything outside of the coordinator, in one task, since each task more makes every order longer to search. The
clients' queries are drawn when they are made, the moment of the first event too; from `begin` on only replies and
timers move it. It keeps the books: each query has one outcome at its client, and whatever comes beside that is noted as
wrong.

PINGs: the first goes out with the first event, the others ever later after it, until the lab is done, and never a
second one while one is awaited. So a healthy order costs one or two, and a main that answers none leaves nothing that
ticks.

Thread: the lab's. Upstream: none. Left out: latencies (time is virtual), reconnecting.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import hiredis

from coordemu.coord.coordinator import Coordinator
from coordemu.coord.query import QueryArgs
from coordemu.coord.topology import MRClusterNode, MRClusterTopology
from coordemu.lab.duration import Latency
from coordemu.lab.order_scenario import (
    ANY,
    CONN_PER_SHARD,
    FLIGHT,
    KILL,
    PAUSE,
    RESTART,
    TOPOLOGY,
    WITHIN,
    WORKERS,
    Event,
    OrderScenario,
)
from coordemu.lab.resp_stream import RespStream
from coordemu.runtime.base import NS_PER_MS, NS_PER_US, Random, Runtime
from coordemu.shards.in_process_fleet import InProcessFleet

OPTION_OF = {WORKERS: "WORKERS", CONN_PER_SHARD: "CONN_PER_SHARD"}
FIRST_PING_GAP_NS = 100 * NS_PER_MS
LONGEST_PING_GAP_NS = 1000 * NS_PER_MS


class OrderClient:
    """One connection that asks, awaits the answer, and asks again."""

    def __init__(self, load: OrderLoad, queries: list[QueryArgs]) -> None:
        """Made by `OrderLoad`; begins to connect."""
        self._load = load
        self._queries = queries
        self._next = 0
        self.asked: QueryArgs | None = None
        self.stream = RespStream(load.loop, load.address, self._replied, self._ended, load.one_stands)

    def ask(self) -> None:
        """Send the next query, if there is one."""
        if self._next < len(self._queries):
            self.asked = self._queries[self._next]
            self._next += 1
            self._load.query_sent()
            self.stream.send(self.asked.words())

    def _replied(self, reply: object) -> None:
        asked, self.asked = self.asked, None
        if asked is None:
            self._load.wrong(f"a second answer to one query: {reply!r}")
            return
        self._load.query_ended(asked, reply)
        self.ask()

    def _ended(self, reason: str) -> None:
        asked, self.asked = self.asked, None
        if asked is not None:
            self._load.query_ended(asked, hiredis.ReplyError(f"client connection: {reason}"))


class OrderLoad:
    """The load of one order, and its books.

    sent, replied, failures, max_gap_ns: of the queries.  commands_sent, answers: of the CONFIG SETs, answers as
    (command, reply).  pings_sent, pings_answered, max_ping_ns: the longest that one took.  mistakes: what no client
    should see.
    """

    def __init__(
        self,
        rt: Runtime,
        coordinator: Coordinator,
        fleet: InProcessFleet,
        scenario: OrderScenario,
        on_first_event: Callable[[], object],
    ) -> None:
        """Connect everything; `connect` waits for that. Draws all that is drawn. on_first_event: called when the first
        event comes, before anything is done."""
        self._rt = rt
        self._on_first_event = on_first_event
        self._coordinator = coordinator
        self._fleet = fleet
        self._scenario = scenario
        self.loop = rt.loop("lab")
        self.address = coordinator.host.address
        self.sent = self.replied = 0
        self.failures: list[str] = []
        self.max_gap_ns = 0
        self.commands_sent = 0
        self.answers: list[tuple[str, object]] = []
        self.pings_sent = self.pings_answered = 0
        self.max_ping_ns = 0
        self.mistakes: list[str] = []
        self._last_ns = 0
        self._ping_ns = 0
        self._ping_gap_ns = FIRST_PING_GAP_NS
        self._standing = 0
        self._drawn = 0
        self._nodes = scenario.nodes
        self._latency = Latency.parse(scenario.latency)
        self._clients = [
            OrderClient(self, [self._draw(rt.random) for _ in range(scenario.queries_per_client)])
            for _ in range(scenario.clients)
        ]
        self._late = [OrderClient(self, [self._draw(rt.random)]) for _ in range(scenario.late_queries)]
        self._began = self._late_began = False
        operators = max(1, scenario.commands) if scenario.overlap else min(1, scenario.commands)
        self._operators = [RespStream(self.loop, self.address, self._answered, _no_end, self.one_stands)
                           for _ in range(operators)]  # fmt: skip
        self._prober = (
            RespStream(self.loop, self.address, self._ponged, _no_end, self.one_stands) if scenario.pings else None
        )
        self._warmer = OrderClient(self, [QueryArgs("warm")]) if scenario.warm else None
        others = (self._prober is not None) + (self._warmer is not None)
        self._streams = len(self._clients) + len(self._late) + operators + others
        self._events: list[Event] = self._draw_events(rt.random)
        self._at = 0
        self._awaiting: list[str] = []
        self._event_timer = self.loop.timer(self._carry_on, "next event")
        self._ping_timer = self.loop.timer(self._ping, "next PING")

    def _draw(self, random: Random) -> QueryArgs:
        scenario = self._scenario
        self._drawn += 1
        service_ns = self._latency.draw(random)
        loads = random.random() < scenario.lock_share
        load_ns = max(NS_PER_US, round(scenario.load_ms * NS_PER_MS)) if loads else 0
        work_ns = round(scenario.work_ms * NS_PER_MS)
        return QueryArgs(f"q{self._drawn}", service_ns=service_ns, work_ns=work_ns, load_ns=load_ns)

    def _draw_events(self, random: Random) -> list[Event]:
        flight_ms = self._latency.longest_ns / NS_PER_MS
        moment_ms = 0.0
        if self._scenario.moment == FLIGHT:
            moment_ms = flight_ms * random.uniform(0.05, 0.45)  # as on real threads: they have just been sent
        elif self._scenario.moment == ANY:
            # With the queries, while their replies are awaited, with the replies, and while documents are loaded.
            moment_ms = random.choice((0.0, flight_ms / 2, flight_ms, flight_ms * random.uniform(0.5, 2.0)))
        drawn: list[Event] = [(PAUSE, moment_ms)] if moment_ms else []
        for verb, what in self._scenario.events:
            drawn.append((PAUSE, random.uniform(0, float(what))) if verb == WITHIN else (verb, what))
        return drawn

    # ---- called by the connections

    def one_stands(self) -> None:
        """A connection stands."""
        self._standing += 1

    def query_sent(self) -> None:
        """A query is about to go out."""
        if self.under_way == 0:
            self._last_ns = self._rt.now_ns()
        self.sent += 1

    def query_ended(self, asked: QueryArgs, reply: object) -> None:
        """A client has its answer."""
        now_ns = self._rt.now_ns()
        self.max_gap_ns = max(self.max_gap_ns, now_ns - self._last_ns)
        self._last_ns = now_ns
        if isinstance(reply, hiredis.ReplyError):
            self.failures.append(str(reply))
            return
        self.replied += 1
        if not isinstance(reply, list) or len(reply) != 2 or reply[0] != asked.id.encode():
            self.wrong(f"the answer to another query than {asked.id}: {reply!r}")
        elif not 1 <= reply[1] <= self._scenario.shards:
            self.wrong(f"an answer made of {reply[1]} shards' replies")

    def wrong(self, what: str) -> None:
        """Something that no client should see."""
        self.mistakes.append(what)

    def _answered(self, reply: object) -> None:
        if not self._awaiting:
            self.wrong(f"an answer that nobody asked for: {reply!r}")
            return
        self.answers.append((self._awaiting.pop(0), reply))
        if not self._scenario.overlap:
            self._carry_on()
        self._begin_late()

    def _ponged(self, reply: object) -> None:
        if not self._ping_ns:
            self.wrong(f"an answer to no PING: {reply!r}")
            return
        self.max_ping_ns = max(self.max_ping_ns, self._rt.now_ns() - self._ping_ns)
        self._ping_ns = 0
        self.pings_answered += 1
        if self.pings_sent < self._scenario.pings:
            self._ping_timer.start(self._ping_gap_ns)
            self._ping_gap_ns = min(2 * self._ping_gap_ns, LONGEST_PING_GAP_NS)

    def _ping(self) -> None:
        if self._prober is not None:
            self.pings_sent += 1
            self._ping_ns = self._rt.now_ns()
            self._prober.send(["PING"])

    # ---- the events

    def _carry_on(self) -> None:
        """Carry out events until one has to be awaited."""
        while self._at < len(self._events):
            verb, what = self._events[self._at]
            self._at += 1
            if verb == PAUSE:
                self._event_timer.start(round(float(what) * NS_PER_MS))
                return
            if not self._began:
                self._began = True
                self._on_first_event()
                self._ping()
            if verb in OPTION_OF:
                words = ("CONFIG", "SET", OPTION_OF[verb], str(what))
                self._awaiting.append(" ".join(words))
                self._operators[self.commands_sent if self._scenario.overlap else 0].send(words)
                self.commands_sent += 1
                if not self._scenario.overlap:
                    return
            elif verb == TOPOLOGY:
                self._change_topology(str(what))
            elif verb == KILL:
                self._fleet.post_kill(int(what))
            elif verb == RESTART:
                self._fleet.post_restart(int(what))
        self._begin_late()

    def _change_topology(self, how: str) -> None:
        self._nodes += {"+1": 1, "-1": -1, "same": 0}[how]
        nodes = list(self._coordinator.cluster.topology.nodes)[: self._nodes]
        endpoint_of = type(nodes[0].endpoint)
        for number in range(len(nodes), self._nodes):
            nodes.append(MRClusterNode(f"node-{number}", endpoint_of(self._fleet.addresses[number])))
        self._coordinator.cluster.update_topology(MRClusterTopology(tuple(nodes)))

    def _begin_late(self) -> None:
        if not self._late_began and self.events_over:
            self._late_began = True
            for client in self._late:
                client.ask()

    # ---- called by the run

    @property
    def all_stand(self) -> bool:
        """Every connection stands."""
        return self._standing == self._streams

    @property
    def roles(self) -> list[str]:
        """Whose the connections are, in the order of their making."""
        scenario = self._scenario
        roles = [f"client {number}" for number in range(scenario.clients)]
        roles += [f"late client {number}" for number in range(scenario.late_queries)]
        roles += [f"operator {number}" for number in range(len(self._operators))]
        return roles + ["prober"] * (self._prober is not None) + ["warmer"] * (self._warmer is not None)

    @property
    def under_way(self) -> int:
        """Queries sent and without an outcome."""
        return self.sent - self.replied - len(self.failures)

    @property
    def events_over(self) -> bool:
        """Every event was carried out, every command answered."""
        return self._at == len(self._events) and not self._awaiting

    @property
    def over(self) -> bool:
        """Nothing is awaited any more."""
        return self.events_over and self._late_began and not self.under_way and not self._ping_ns

    @property
    def unanswered(self) -> list[str]:
        """Commands, and PING, that were sent and not answered."""
        return [*self._awaiting, *(["PING"] if self._ping_ns else [])]

    def connect(self) -> None:
        """Turn the loop until every connection stands, and the query that warms the pool is answered. Blocks."""
        self._turn_until(lambda: self.all_stand)
        if self._warmer is not None:
            self._warmer.ask()
            self._turn_until(lambda: not self.under_way)

    def begin(self) -> None:
        """Send the first queries, and start the events. Nothing leaves before the loop turns."""
        for client in self._clients:
            client.ask()
        self._carry_on()

    def run(self) -> None:
        """Turn the loop until all is over. Blocks, and for ever when something never comes: the run ends then."""
        self._turn_until(lambda: self.over)
        self._ping_timer.stop()

    def _turn_until(self, predicate: Callable[[], bool]) -> None:
        turn = partial(self.loop.run_once, None)
        while not predicate():
            turn()

    def close(self) -> None:
        """Drop the connections."""
        self.loop.close()


def _no_end(reason: str) -> None:
    """The host's end of an operator's connection is gone: what it should have answered stays unanswered."""
