"""QueryLoad: clients that keep queries under way, and the ledger of what became of each.

Role: the load that a resize meets, and the only judge of outcomes: a query counts as replied when its client has the
reply. Each client has one connection and at most one query under way; `in_flight` bounds how many do at once, and
clients take turns. All draws (service time, whether documents are loaded) come from one seeded source, so a run's
queries are the same in every policy.

Thread: its own task, "clients"; the readings are plain attributes that any thread may look at.
Upstream: none. Left out: open-loop arrivals (a closed loop keeps the number under way exact, which the scenario names).
"""

from __future__ import annotations

from collections import deque

import hiredis

from coordemu.coord.query import QueryArgs
from coordemu.lab.duration import Latency
from coordemu.lab.resp_stream import RespStream
from coordemu.lab.result import QuerySums
from coordemu.lab.scenario import Scenario
from coordemu.runtime.base import NS_PER_MS, Address, Random, Runtime

LATENCIES_KEPT = 200_000
REASONS_KEPT = 64


class QueryClient:
    """One connection of the load."""

    def __init__(self, load: QueryLoad, address: Address, number: int) -> None:
        """Made by `QueryLoad`, on its loop. Thread: clients."""
        self._load = load
        self.number = number
        self.sent_ns = 0
        self.busy = False
        self.gone = False
        self._stream = RespStream(load.loop, address, self._replied, self._ended, self._ready)

    def _ready(self) -> None:
        self._load.client_ready(self)

    def ask(self, args: QueryArgs, now_ns: int) -> None:
        """Send a query."""
        self.busy, self.sent_ns = True, now_ns
        self._stream.send(args.words())

    def _replied(self, reply: object) -> None:
        self.busy = False
        self._load.outcome(self, str(reply) if isinstance(reply, hiredis.ReplyError) else None)

    def _ended(self, reason: str) -> None:
        self.gone = True
        if self.busy:
            self.busy = False
            self._load.outcome(self, f"client connection: {reason}")


class QueryLoad:
    """The clients and their ledger."""

    def __init__(self, rt: Runtime, address: Address, scenario: Scenario, random: Random) -> None:
        """Connect the clients and begin to send. Returns at once; see `under_way`."""
        self._rt = rt
        self._scenario = scenario
        self._random = random
        self._latency = Latency.parse(scenario.latency)
        self.loop = rt.loop("clients")
        self._stop_wake = self.loop.async_handle(self._stop_sending, "stop sending")
        self._idle: deque[QueryClient] = deque()
        self._limit = min(scenario.in_flight or scenario.clients, scenario.clients)
        self._stopping = False
        self._sent = self._replied = self._failed = 0
        self._by_reason: dict[str, int] = {}
        self._latencies_ns: deque[int] = deque(maxlen=LATENCIES_KEPT)
        self._max_ns = 0
        self._last_ns = rt.now_ns()
        self._max_gap_ns = 0
        self._sent_after_ns: int | None = None
        self.first_after_ns: int | None = None
        self._clients = [QueryClient(self, address, number) for number in range(scenario.clients)]
        self._task = rt.spawn(self.loop.run, name="clients")

    # ---- called by the clients, on the loop

    def client_ready(self, client: QueryClient) -> None:
        """A client is connected. Thread: clients."""
        self._idle.append(client)
        self._send_more()

    def outcome(self, client: QueryClient, error: str | None) -> None:
        """A query has ended. Thread: clients."""
        now_ns = self._rt.now_ns()
        self._max_gap_ns = max(self._max_gap_ns, now_ns - self._last_ns)
        self._last_ns = now_ns
        if error is None:
            self._replied += 1
            taken_ns = now_ns - client.sent_ns
            self._latencies_ns.append(taken_ns)
            self._max_ns = max(self._max_ns, taken_ns)
            if (
                self._sent_after_ns is not None
                and self.first_after_ns is None
                and client.sent_ns >= self._sent_after_ns
            ):
                self.first_after_ns = now_ns
        else:
            self._failed += 1
            key = error if error in self._by_reason or len(self._by_reason) < REASONS_KEPT else "other reasons"
            self._by_reason[key] = self._by_reason.get(key, 0) + 1
        if not client.gone:
            self._idle.append(client)
        self._send_more()

    def _send_more(self) -> None:
        while self._idle and not self._stopping and self.under_way < self._limit:
            client = self._idle.popleft()
            if client.gone:
                continue
            now_ns = self._rt.now_ns()
            if not self.under_way:
                self._last_ns = now_ns
            self._sent += 1
            client.ask(self._draw(), now_ns)

    def _draw(self) -> QueryArgs:
        scenario = self._scenario
        service_ns = self._latency.draw(self._random)
        loads = self._random.random() < scenario.lock_share
        return QueryArgs(
            f"q{self._sent}",
            service_ns=service_ns,
            work_ns=round(scenario.work_ms * NS_PER_MS),
            load_ns=max(1000, round(scenario.load_ms * NS_PER_MS)) if loads else 0,
            open_ns=round(scenario.open_ms * NS_PER_MS),
        )

    def _stop_sending(self) -> None:
        self._stopping = True

    # ---- called by the run

    @property
    def under_way(self) -> int:
        """Queries sent and without an outcome. Thread: any."""
        return self._sent - self._replied - self._failed

    @property
    def ended(self) -> bool:
        """`end` has taken effect and every query has its outcome: the sums are final. Thread: any.

        `under_way` alone can't say that: between an outcome and the next query it may be 0 for a moment.
        """
        return self._stopping and not self.under_way

    @property
    def replied(self) -> int:
        """Queries replied so far. Thread: any."""
        return self._replied

    @property
    def limit(self) -> int:
        """How many may be under way at once."""
        return self._limit

    def mark(self) -> None:
        """The first CONFIG SET is about to be sent: measure gaps from here. Thread: any."""
        self._max_gap_ns = 0

    def watch_new_queries(self, at_ns: int) -> None:
        """Note when the first query that is sent after at_ns is answered (`first_after_ns`). Thread: any."""
        self.first_after_ns = None
        self._sent_after_ns = at_ns

    def end(self) -> None:
        """Send no more. Those under way go on. Thread: any; returns at once."""
        self._stop_wake.send()

    def sums(self) -> QuerySums:
        """The ledger so far; what is under way counts as lost. Thread: any, final once the load has ended."""
        under_way = self.under_way
        gap_ns = max(self._max_gap_ns, self._rt.now_ns() - self._last_ns) if under_way else self._max_gap_ns
        ordered = sorted(self._latencies_ns)

        def at(share: float) -> float:
            return ordered[min(len(ordered) - 1, int(share * len(ordered)))] / NS_PER_MS if ordered else 0.0

        return QuerySums(
            self._replied + self._failed + under_way, self._replied, self._failed, under_way, dict(self._by_reason),
            at(0.5), at(0.99), self._max_ns / NS_PER_MS, gap_ns / NS_PER_MS,
        )  # fmt: skip

    def stop(self) -> None:
        """End the task and drop the connections. Thread: any but its own. Blocks shortly."""
        self.loop.stop()
        self._task.join()
        self.loop.close()
