"""OrderScenario: what one order of the coordinator is made of; `Scenario`, made lean for searching.

Role: a search plays a scenario a hundred thousand times, so it holds just what can make a difference to an order: some
queries, the changes, when they come, a few PINGs. Time is virtual and costs nothing; steps do. Every draw (the moment
of the first change, service times) is made from the runtime's chance before the first step, so a plan's `rt_seed`
fixes it whatever the order.

The events, in turn; each is (verb, argument):

* ("workers", n), ("conn-per-shard", n): CONFIG SET, whose answer is awaited, unless `overlap`;
* ("topology", "+1" | "-1" | "same"): a node more, a node less, or the same nodes told again; nothing to await;
* ("kill", i), ("restart", i): a shard dies, comes back; nothing to await;
* ("pause", ms): that long; ("within", ms): a drawn time, up to that long.

Thread: frozen, any. Upstream: as `coordemu.lab.scenario`. Left out: real servers, passwords, fault plans of shards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from typing import Any

from coordemu.coord.config import MAX_WORKERS
from coordemu.lab.duration import Latency
from coordemu.lab.scenario import SCENARIOS, Scenario, ScenarioError
from coordemu.runtime.sim_faults import KINDS
from coordemu.shards.shard_url import parse_shard_url

Event = tuple[str, int | float | str]

WORKERS, CONN_PER_SHARD, TOPOLOGY = "workers", "conn-per-shard", "topology"
KILL, RESTART, PAUSE, WITHIN = "kill", "restart", "pause", "within"
VERBS = (WORKERS, CONN_PER_SHARD, TOPOLOGY, KILL, RESTART, PAUSE, WITHIN)
TOPOLOGIES = ("+1", "-1", "same")
# When the first event comes: with the queries; while their replies are awaited (how they came to be is no part of the
# order then); or at any of these moments and after.
START, FLIGHT, ANY = "start", "flight", "any"
MOMENTS = (START, FLIGHT, ANY)


@dataclass(frozen=True, slots=True)
class OrderScenario:
    """One experiment for a search.

    name, summary: what it is called, and a sentence.
    workers: WORKERS at the start and after each change, each 0 to 16.
    clients: query clients, one connection each; 0 to 64.  queries_per_client: one after the other, 1 to 100.
    late_queries: sent by clients of their own once every command is answered; 0 to 64.
    nodes: shards at the start, 1 to 16.
    latency: service time of a query on a shard, a `Latency`; drawn.  hop: how long bytes take, a `Latency`, fixed.
    lock_share, load_ms, work_ms: as `Scenario`; every query loads documents unless said otherwise.
    moment: when the first event comes, one of `MOMENTS`.
    events: see above; none: ("workers", n) for each further size of `workers`, which else must be those of the events.
    overlap: commands are sent without awaiting the answers, each on a connection of its own.
    conn_per_shard: CONN_PER_SHARD at the start (0: WORKERS + 1).  io_threads: 1 to 16.  protocol: RESP 2 or 3.
    warm: one query is answered before the order begins, so that the pool's threads are there, as under a load that has
    gone on for a while; else the first query starts them.
    pings: how many at most are sent, 0 to 100, the first with the first event.
    chaos: kinds of `coordemu.runtime.sim_faults` that may strike the shards' connections at any step of the order, as
    choices of the strategy; chaos_budget: so often in all, 0 to 20.
    Raises ScenarioError, one line, outside the bounds.
    """

    name: str = "custom"
    summary: str = ""
    workers: tuple[int, ...] = (12, 0)
    clients: int = 12
    queries_per_client: int = 1
    late_queries: int = 1
    nodes: int = 1
    latency: str = "20ms"
    hop: str = "0"
    lock_share: float = 1.0
    load_ms: float = 1.0
    work_ms: float = 0.0
    moment: str = FLIGHT
    events: tuple[Event, ...] = ()
    overlap: bool = False
    conn_per_shard: int = 0
    io_threads: int = 1
    protocol: int = 2
    warm: bool = True
    pings: int = 10
    chaos: tuple[str, ...] = ()
    chaos_budget: int = 1

    def __post_init__(self) -> None:
        if not self.workers:
            raise ScenarioError("a scenario needs at least one size of WORKERS")
        for size in self.workers:
            if not 0 <= size <= MAX_WORKERS:
                raise ScenarioError(f"WORKERS {size} is not within 0..{MAX_WORKERS}")
        bounds: dict[str, tuple[float, float]] = {
            "clients": (0, 64), "queries_per_client": (1, 100), "late_queries": (0, 64), "nodes": (1, 16),
            "lock_share": (0, 1), "load_ms": (0, 3_600_000), "work_ms": (0, 3_600_000), "io_threads": (1, 16),
            "conn_per_shard": (0, 1000), "pings": (0, 100), "chaos_budget": (0, 20),
        }  # fmt: skip
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise ScenarioError(f"{name} {getattr(self, name)} is not within {low}..{high}")
        if self.protocol not in (2, 3):
            raise ScenarioError(f"protocol {self.protocol} is neither 2 nor 3")
        if self.moment not in MOMENTS:
            raise ScenarioError(f"moment {self.moment!r} is none of {', '.join(MOMENTS)}")
        for kind in self.chaos:
            if kind not in KINDS:
                raise ScenarioError(f"chaos {kind!r} is none of {', '.join(KINDS)}")
        for name in ("latency", "hop"):
            try:
                Latency.parse(getattr(self, name))
            except ValueError as err:
                raise ScenarioError(f"{name}: {err}") from None
        if not self.events:
            object.__setattr__(self, "events", tuple((WORKERS, size) for size in self.workers[1:]))
        self._check_events()

    def _check_events(self) -> None:
        sizes: list[int] = []
        nodes = self.nodes
        for verb, what in self.events:
            number = what if isinstance(what, int | float) and not isinstance(what, bool) else -1
            if verb == TOPOLOGY:
                if what not in TOPOLOGIES:
                    raise ScenarioError(f"topology {what!r} is none of {', '.join(TOPOLOGIES)}")
                nodes += {"+1": 1, "-1": -1, "same": 0}[str(what)]
                if nodes < 1:
                    raise ScenarioError("the last node can't be taken away")
            elif verb not in VERBS:
                raise ScenarioError(f"event {verb!r} is none of {', '.join(VERBS)}")
            elif number < 0 or (verb not in (PAUSE, WITHIN) and not isinstance(what, int)):
                raise ScenarioError(f"event {verb!r} takes no {what!r}")
            elif verb in (KILL, RESTART) and number >= self.nodes:
                raise ScenarioError(f"no shard {what} to {verb}: there are 0 to {self.nodes - 1}")
            elif verb == WORKERS:
                sizes.append(int(number))
        if tuple(sizes) != self.workers[1:]:
            raise ScenarioError(f"the events set WORKERS to {sizes}, but the plan is {list(self.workers)}")

    # ---- what follows from it

    @property
    def shards(self) -> int:
        """How many are needed: the nodes, and those that a topology adds."""
        most = now = self.nodes
        for verb, what in self.events:
            if verb == TOPOLOGY:
                now += {"+1": 1, "-1": -1}.get(str(what), 0)
                most = max(most, now)
        return most

    @property
    def killed(self) -> frozenset[int]:
        """The shards that die, by index."""
        return frozenset(int(what) for verb, what in self.events if verb == KILL)

    @property
    def commands(self) -> int:
        """How many CONFIG SETs there are."""
        return sum(1 for verb, _ in self.events if verb in (WORKERS, CONN_PER_SHARD))

    # ---- others like it

    def override(self, **changes: Any) -> OrderScenario:
        """This one with some fields changed; None means unchanged. A new plan of workers replaces the old one's
        changes, and other events stay behind the first. Raises ScenarioError."""
        real = {key: value for key, value in changes.items() if value is not None}
        if "workers" in real and "events" not in real:
            plan = tuple(real["workers"])
            others = tuple(event for event in self.events if event[0] != WORKERS)
            sizes = tuple((WORKERS, size) for size in plan[1:])
            real["workers"] = plan
            real["events"] = sizes[:1] + others + sizes[1:]
        return replace(self, **real) if real else self

    def smaller(self) -> tuple[OrderScenario, ...]:
        """Those that may show the same with less, the smallest first."""
        found: dict[OrderScenario, None] = {}
        top = max(self.workers)
        plain = not any(verb in (TOPOLOGY, KILL, RESTART) for verb, _ in self.events)
        for size in (1, 2, 3, 4, 6, 8):
            if size < max(top, self.clients):
                capped = self._capped(min(size, top), min(size, self.clients))
                nodes = 1 if plain else self.nodes
                lean = capped.override(queries_per_client=1, late_queries=0, pings=0, io_threads=1, nodes=nodes)
                found[lean] = None
                found[capped] = None
        for name, least in (
            ("late_queries", 0), ("queries_per_client", 1), ("pings", 0), ("io_threads", 1), ("nodes", 1),
        ):  # fmt: skip
            if getattr(self, name) > least and (plain or name != "nodes"):
                found[self.override(**{name: least})] = None
        for fewer in (self.clients // 2, self.clients - 1):
            if 0 < fewer < self.clients:
                found[replace(self, clients=fewer)] = None
        if len(self.chaos) > 1:
            found.update({replace(self, chaos=(kind,)): None for kind in self.chaos})
        if self.chaos and self.chaos_budget > 1:
            found[replace(self, chaos_budget=1)] = None
        for at, (verb, _) in enumerate(self.events):
            if len(self.events) > 1 and verb != WORKERS:
                found[replace(self, events=self.events[:at] + self.events[at + 1 :])] = None
        if len(self.workers) > 2:
            found[self.override(workers=self.workers[:-1])] = None
        found.pop(self, None)
        return tuple(found)

    def _capped(self, most: int, clients: int) -> OrderScenario:
        top = max(self.workers)

        def scaled(size: int) -> int:
            return -(-size * most // top) if top > most else size

        events = tuple(
            (verb, scaled(int(what)) if verb == WORKERS else what) for verb, what in self.events
        )  # the connections of CONN_PER_SHARD are cheap
        plan = tuple(scaled(size) for size in self.workers)
        return replace(self, workers=plan, clients=clients, events=events)

    @classmethod
    def from_scenario(cls, scenario: Scenario) -> OrderScenario:
        """The lean form of a `Scenario`. Raises ScenarioError for one that does not fit the bounds, for real servers
        and for fault plans."""
        spec = parse_shard_url(scenario.shards)
        if spec.kind != "embedded" or scenario.faults:
            raise ScenarioError(f"{scenario.name}: the simulator has embedded shards, without a fault plan")
        events: list[Event] = []
        for number, size in enumerate(scenario.workers[1:]):
            if number and scenario.pause_ms:
                events.append((PAUSE, scenario.pause_ms))
            events.append((WORKERS, size))
        if scenario.kill_shard >= 0:
            events += [(WITHIN, 10), (KILL, scenario.kill_shard)]
            if scenario.restart_after_ms:
                events += [(PAUSE, scenario.restart_after_ms), (RESTART, scenario.kill_shard)]
        return cls(
            name=scenario.name,
            summary=scenario.summary,
            workers=scenario.workers,
            clients=min(scenario.in_flight or scenario.clients, scenario.clients),
            nodes=spec.count,
            latency=scenario.latency,
            lock_share=scenario.lock_share,
            load_ms=scenario.load_ms,
            work_ms=scenario.work_ms,
            events=tuple(events),
            overlap=scenario.kill_shard >= 0,
            conn_per_shard=scenario.conn_per_shard,
            io_threads=scenario.io_threads,
            protocol=scenario.protocol,
        )

    def to_json(self) -> dict[str, Any]:
        """All fields as plain values."""
        events = [list(event) for event in self.events]
        return {**asdict(self), "workers": list(self.workers), "events": events, "chaos": list(self.chaos)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> OrderScenario:
        """What `to_json` wrote. Raises ScenarioError for anything else."""
        unknown = set(data) - {f.name for f in fields(cls)}
        if unknown:
            raise ScenarioError(f"unknown fields of a scenario: {', '.join(sorted(unknown))}")
        try:
            plan = tuple(data.get("workers", (12, 0)))
            events = tuple((str(verb), what) for verb, what in data.get("events", ()))
            chaos = tuple(map(str, data.get("chaos", ())))
            return cls(**{**data, "workers": plan, "events": events, "chaos": chaos})
        except (TypeError, ValueError) as err:
            raise ScenarioError(f"not a scenario: {err}") from None


_ALL = (
    OrderScenario(
        name="mod-11658",
        summary="The incident: 12 workers, 12 queries whose replies are awaited, then CONFIG SET WORKERS 0.",
    ),
    OrderScenario(
        name="small",
        summary="2 workers, 2 queries in flight, 1 node, then CONFIG SET WORKERS 0: small enough to be exhausted.",
        workers=(2, 0),
        clients=2,
        latency="1ms",
        late_queries=0,
        pings=0,
    ),
    OrderScenario(
        name="smallest",
        summary="1 worker, 1 query and with it CONFIG SET WORKERS 0: can be exhausted from the first byte on.",
        workers=(1, 0),
        clients=1,
        latency="0",
        load_ms=0.001,
        late_queries=0,
        moment=START,
        pings=0,
    ),
    OrderScenario(
        name="any-moment",
        summary="The incident's sizes, but CONFIG SET comes at any moment: with the queries, their replies, later.",
        moment=ANY,
    ),
    OrderScenario(
        name="cold-start",
        summary="12 queries come to a pool that has no threads yet, and with them CONFIG SET WORKERS 0.",
        moment=START,
        warm=False,
    ),
    OrderScenario(
        name="partial-shrink",
        summary="12 workers to 4 while 12 queries are in flight.",
        workers=(12, 4),
        moment=ANY,
    ),
    OrderScenario(name="grow", summary="No workers, then 12.", workers=(0, 12), moment=ANY),
    OrderScenario(name="grow-more", summary="4 workers, then 12.", workers=(4, 12), moment=ANY),
    OrderScenario(
        name="there-and-back",
        summary="12 workers to 0 and at once to 4: the old threads still work when the pool is wanted again.",
        workers=(12, 0, 4),
        moment=ANY,
    ),
    OrderScenario(name="grow-and-back", summary="4 workers to 12 and at once back.", workers=(4, 12, 4), moment=ANY),
    OrderScenario(
        name="two-in-flight",
        summary="WORKERS 0 and WORKERS 8 are sent together, on two connections.",
        workers=(12, 0, 8),
        overlap=True,
        moment=ANY,
    ),
    OrderScenario(
        name="two-shrinks-in-flight",
        summary="WORKERS 4 and WORKERS 9 are sent together, on two connections.",
        workers=(12, 4, 9),
        overlap=True,
        moment=ANY,
    ),
    OrderScenario(name="same-value", summary="WORKERS is set to what it is.", workers=(12, 12), moment=ANY),
    OrderScenario(
        name="conn-per-shard",
        summary="CONN_PER_SHARD goes from 13 to 3 and to 16, and the workers stay.",
        workers=(12,),
        events=((CONN_PER_SHARD, 3), (CONN_PER_SHARD, 16)),
        moment=ANY,
    ),
    OrderScenario(
        name="topology-in-drain",
        summary="12 workers to 0 on two nodes, one of which leaves the topology meanwhile.",
        nodes=2,
        events=((WORKERS, 0), (WITHIN, 20), (TOPOLOGY, "-1")),
        overlap=True,
    ),
    OrderScenario(
        name="topology-grows-in-drain",
        summary="12 workers to 0, and a node joins the topology meanwhile.",
        events=((WORKERS, 0), (WITHIN, 20), (TOPOLOGY, "+1")),
        overlap=True,
    ),
    OrderScenario(
        name="node-lost-in-drain",
        summary="12 workers to 0 on two nodes, one of which dies meanwhile and is back 100 ms later.",
        nodes=2,
        events=((WORKERS, 0), (WITHIN, 20), (KILL, 1), (PAUSE, 100), (RESTART, 1)),
        overlap=True,
    ),
    OrderScenario(
        name="chaos-in-drain",
        summary="12 workers to 0 on two nodes, while connections are reset, late, or a node is gone for a second.",
        nodes=2,
        chaos=("delay", "reset", "kill"),
        chaos_budget=2,
    ),
    OrderScenario(
        name="sawtooth",
        summary="Sizes up and down under load: 4, 9, 2, 12, 1, with short pauses.",
        workers=(4, 9, 2, 12, 1),
        events=(
            (WORKERS, 9), (WITHIN, 10), (WORKERS, 2), (WITHIN, 10), (WORKERS, 12), (WITHIN, 10), (WORKERS, 1),
        ),
        queries_per_client=2,
    ),
)  # fmt: skip

ORDER_SCENARIOS: dict[str, OrderScenario] = {scenario.name: scenario for scenario in _ALL}


def get_order_scenario(name: str) -> OrderScenario:
    """The named one; for the other named scenarios of real runs their lean form. Raises ScenarioError with the nearest
    name."""
    if name in ORDER_SCENARIOS:
        return ORDER_SCENARIOS[name]
    if name in SCENARIOS:
        return OrderScenario.from_scenario(SCENARIOS[name])
    near = get_close_matches(name, [*ORDER_SCENARIOS, *SCENARIOS], n=1, cutoff=0.0)[0]  # however far: one of a few
    raise ScenarioError(f"no scenario of orders is called {name!r}; did you mean {near!r}? (see: coordemu scenarios)")
