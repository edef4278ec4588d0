"""BackfillRun: one load under one setup, from the first put until every message has its place.

Role: starts the Hub, the store, the client side and all tasks at one moment, lets faults strike by plan, looks now and
then, and settles the account. The same code runs on real threads and in the simulator, from a task of either.

When it is over: with work that survives, when every message has an outcome. With the fragile forms some never get one,
and nobody says so; there it is over when every message has an outcome or a loss was noted, or when the producers have
ended, no worker has anything in hand and the servers say, twice, that nothing waits: what has no place by then is lost.
A time limit or the user may end it before; then what is left is named. Nothing is left running when it returns or
raises: no task, no connection, no key on the servers that were there before.

Thread: the caller's, and one task per worker, producer, server and fault. Blocks for the length of the run. Upstream:
the write-up's main function. Left out: judging (`BackfillResult.good`). Bound: the plan's limit_ms, and GRACE_NS.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial

import hiredis

from coordemu.lab.backfill_ledger import BackfillLedger
from coordemu.lab.backfill_measures import BackfillSetup
from coordemu.lab.backfill_plan import BackfillPlan
from coordemu.lab.backfill_producer import BackfillProducer
from coordemu.lab.backfill_queue import LIST, STREAM, BackfillQueue, make_queue
from coordemu.lab.backfill_reaper import BackfillReaper, marker_of, token_of
from coordemu.lab.backfill_result import ENDED, INTERRUPTED, TIME_LIMIT, BackfillResult
from coordemu.lab.backfill_servers import BackfillServers, SideDoor, tags_for
from coordemu.lab.backfill_shop import REMOVE_FIRST, Hands, Outbox, Workshop, check_backfill_faults
from coordemu.lab.backfill_store import BackfillStore
from coordemu.lab.backfill_system import BackfillSystem
from coordemu.lab.backfill_tally import OpSums, sum_ops
from coordemu.lab.backfill_watch import BackfillLook, BackfillWatch
from coordemu.lab.backfill_worker import BackfillWorker
from coordemu.lab.hub_content import message_of
from coordemu.lab.hub_host import HubHost
from coordemu.lab.hub_limit import HubLimit
from coordemu.lab.pool_metrics import reason_of
from coordemu.pool.pool_context import PoolContext, pause
from coordemu.pool.pool_errors import ConnFailed
from coordemu.resilience.breaker_events import BreakerEvent
from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Runtime, Task
from coordemu.shards.shard_errors import ShardError

GRACE_NS = 10 * NS_PER_S
PREFIX = "backfill"
QUIET_LOOKS = 2

Watch = Callable[[BackfillLook, BackfillPlan], None]


class BackfillRunError(Exception):
    """The environment did not allow the run. One line."""


def never() -> bool:
    """Nobody stops it."""
    return False


def nobody_looks(_look: BackfillLook, _plan: BackfillPlan) -> None:
    """Where looks go that nobody wants."""


class BackfillRun:
    """A run, to be carried out once. servers: that are there.  said: what a report calls them.  stopped: asked with
    each look; True ends the run.  watch: told of each look.  faults: of BACKFILL_FAULTS."""

    def __init__(
        self,
        rt: Runtime,
        servers: BackfillServers,
        plan: BackfillPlan,
        setup: BackfillSetup,
        said: str = "",
        stopped: Callable[[], bool] = never,
        watch: Watch = nobody_looks,
        faults: Collection[str] = (),
    ) -> None:
        self._rt = rt
        self._servers = servers
        self._asked = plan
        self._plan = plan.scaled()
        self._setup = setup
        self._said = said
        self._stopped = stopped
        self._watch = watch
        self._faults = check_backfill_faults(faults)
        self._over = rt.cell(False, "the run is over")
        self._tasks: list[Task] = []
        self._workers: list[BackfillWorker] = []
        self._producers: list[BackfillProducer] = []
        self._reaper: BackfillReaper | None = None
        self._queues: list[BackfillQueue] = []
        self._tags: list[str] = []
        # By queue: its node's name.
        self._nodes: list[str] = []
        self._happened: list[tuple[int, str]] = []
        self._began_ns = 0
        self._quiet = 0

    def carry_out(self) -> BackfillResult:
        """Do it. Raises BackfillRunError, with nothing left behind. Blocks."""
        rt, plan = self._rt, self._plan
        rt.current()  # has the caller's own thread counted
        ctx = PoolContext(rt, name="backfill")
        door = SideDoor(rt, self._servers.addresses, self._servers.password)
        ledger = BackfillLedger(rt, plan.messages)
        store = BackfillStore(rt, plan.store_slots, plan.store_ms, plan.store_wait_ms)
        host: HubHost | None = None
        system: BackfillSystem | None = None
        try:
            self._prepare(door)
            host = HubHost(rt, plan=plan.hub_plan(), limit_per_s=plan.hub_requests, seed=plan.seed)
            if plan.hub_requests:
                host.hub.limit = HubLimit(plan.hub_requests, max(1, round(plan.hub_window_ms * NS_PER_MS)))
            system = BackfillSystem(
                rt, self._servers.addresses, self._servers.password, host.address, self._asked, self._setup, store, ctx
            )
            system.client.reload()
            shop = Workshop(
                rt, plan, system, store, ledger, Hands(rt), Outbox(rt), self._setup.survives, lambda: self._over.value,
                self._faults,
            )  # fmt: skip
            return self._carry_out(shop, host, door)
        except (ConnFailed, OSError, ShardError, hiredis.ReplyError) as error:
            raise BackfillRunError(f"backfill: {error}") from None
        finally:
            self._over.value = True
            ctx.cancel()
            if system is not None:
                system.close()
            for task in self._tasks:
                task.join()
            if host is not None:
                host.stop()
            self._clean_up(door)
            door.close()

    # -- before

    def _prepare(self, door: SideDoor) -> None:
        """Queues on every node that serves slots, and the markers."""
        prefix = f"{PREFIX}-{self._rt.random.randint(0, 2**63):x}"
        try:
            tags = tags_for(door.map(), prefix)
        except ValueError as error:
            raise BackfillRunError(f"backfill: {error}") from None
        self._tags = list(tags.values())
        self._nodes = [str(node) for node in tags for _ in (LIST, STREAM)]
        for tag in self._tags:
            for kind in (LIST, STREAM):
                make_queue(self._rt, kind, tag, door.execute, door.pipeline, self._setup.survives).prepare()
            door.execute("SET", marker_of(tag), token_of(0))

    def _make_queues(self, shop: Workshop) -> None:
        system = shop.system
        remove_first = REMOVE_FIRST in self._faults
        for tag in self._tags:
            for kind in (LIST, STREAM):
                queue = make_queue(
                    self._rt, kind, tag, system.execute, system.pipeline, shop.survives, remove_first
                )  # fmt: skip
                self._queues.append(queue)

    # -- the run

    def _carry_out(self, shop: Workshop, host: HubHost, door: SideDoor) -> BackfillResult:
        rt, plan = self._rt, self._plan
        self._make_queues(shop)
        gate = rt.event("the backfill begins", owed_by=lambda: [rt.current()])
        queues = self._queues
        places = list(zip(queues, self._nodes, strict=True))
        # Each worker has its queue; where there are fewer workers than queues, each has several.
        self._workers = [
            BackfillWorker(shop, n, places[n :: plan.concurrency] or [places[n % len(places)]])
            for n in range(plan.concurrency)
        ]
        self._producers = [BackfillProducer(shop, n, queues) for n in range(plan.producers)]
        begun: list[tuple[str, Callable[[], object]]] = [(each.name, each.work) for each in self._workers]
        for producer in self._producers:
            begun.append((producer.name, partial(self._produce, producer)))
        if shop.survives:
            self._reaper = BackfillReaper(shop, queues, self._tags)
            begun.append((self._reaper.name, self._reaper.work))
        if plan.kills:
            begun.append(("kills", lambda: self._strike(shop)))
        try:
            for name, work in begun:
                self._tasks.append(rt.spawn(_behind(gate.wait, work), name=name))
        except RuntimeError as error:
            self._over.value = True
            gate.set()
            raise BackfillRunError(f"backfill: {len(self._tasks)} of {len(begun)} tasks began: {error}") from None
        host.set_plan(plan.hub_plan())
        self._began_ns = rt.now_ns()
        watch = BackfillWatch(rt, shop.system, shop.store, shop.ledger, self._sums, self._began_ns)
        gate.set()
        how = self._wait(shop, watch, door)
        elapsed_ns = max(1, rt.now_ns() - self._began_ns)
        self._end_tasks(shop)
        return self._result(shop, host, watch, how, elapsed_ns)

    def _produce(self, producer: BackfillProducer) -> None:
        producer.work(self._began_ns)

    def _sums(self) -> OpSums:
        tallies = [each.tally for each in self._workers] + [each.tally for each in self._producers]
        return sum_ops([*tallies, self._reaper.tally] if self._reaper is not None else tallies)

    def _strike(self, shop: Workshop) -> None:
        """Kill the servers and bring them back, by plan."""
        last_ns = 0
        for span in sorted(self._plan.kills, key=lambda each: each.start_ns):
            for at_ns, act, said in (
                (span.start_ns, self._servers.kill, "Redis killed"),
                (span.end_ns, self._servers.restart, "Redis back"),
            ):
                wait_ns = min(self._began_ns + at_ns - self._rt.now_ns(), at_ns - last_ns)
                last_ns = at_ns
                if wait_ns > 0 and not self._over.value:
                    shop.rest(wait_ns, f"the time for: {said}")
                # A server that was killed comes back in any case: the next run needs it.
                if self._over.value and act == self._servers.kill:
                    return
                for index in range(len(self._servers.addresses)):
                    act(index)
                self._note(said)

    def _note(self, what: str) -> None:
        self._happened.append((max(0, self._rt.now_ns() - self._began_ns), what))

    # -- waiting for the end

    def _wait(self, shop: Workshop, watch: BackfillWatch, door: SideDoor) -> str:
        plan = self._plan
        every_ns = max(NS_PER_MS, round(plan.look_ms * NS_PER_MS))
        while True:
            look = watch.look()
            self._watch(look, plan)
            if self._has_ended(shop, door):
                return ENDED
            if self._stopped():
                return INTERRUPTED
            if plan.limit_ms and look.at_ns >= plan.limit_ms * NS_PER_MS:
                return TIME_LIMIT
            pause(self._rt, every_ns, None, "the next look at the backfill")

    def _has_ended(self, shop: Workshop, door: SideDoor) -> bool:
        store, ledger, planned = shop.store, shop.ledger, self._plan.messages
        settled = store.done + store.dead
        if settled >= planned:
            return True
        if shop.survives:
            return False
        if settled + ledger.noted_lost >= planned and all(
            store.has(message) or ledger.is_lost(message) for message in range(planned)
        ):
            # Who was given up may be in somebody's hand all the same.
            return not ledger.in_hand
        at_rest = all(producer.finished for producer in self._producers) and not ledger.in_hand
        self._quiet = self._quiet + 1 if at_rest and self._nothing_waits(door) else 0
        return self._quiet >= QUIET_LOOKS and not ledger.in_hand

    def _nothing_waits(self, door: SideDoor) -> bool:
        try:
            return not any(
                make_queue(self._rt, kind, tag, door.execute, door.pipeline, self._setup.survives).waiting()
                for tag in self._tags
                for kind in (LIST, STREAM)
            )
        except (ConnFailed, OSError, hiredis.ReplyError) as error:
            # A server that has forgotten everything has nothing waiting: without its group it refuses to tell.
            return "NOGROUP" in str(error)

    def _end_tasks(self, shop: Workshop) -> None:
        """Have all tasks end: whoever waits is woken, and what is on a connection has a moment; then it is cut."""
        self._over.value = True
        shop.system.ctx.cancel()
        deadline_ns = self._rt.now_ns() + GRACE_NS
        for task in self._tasks:
            if not task.join(max(0, deadline_ns - self._rt.now_ns())):
                break
        shop.system.close()
        for task in self._tasks:
            task.join()

    # -- after

    def _result(self, shop: Workshop, host: HubHost, watch: BackfillWatch, how: str, elapsed_ns: int) -> BackfillResult:
        store, system = shop.store, shop.system
        counts = store.statistics()
        account = shop.ledger.settle(
            store.outcomes(), shop.survives, how == ENDED, counts["duplicates"], self._expected
        )  # fmt: skip
        crashes = tuple(f"{task.name}: {reason_of(task.error)}" for task in self._tasks if task.error is not None)
        pools = system.client.statistics()
        return BackfillResult(
            self._setup, self._asked, self._rt.name, self._said, how, elapsed_ns, account, self._sums(), watch.looks,
            tuple(self._since_begun(event) for event in system.breaker_events), watch.events,
            (*self._outages(elapsed_ns), *self._happened), system.pressure.look().pressed_ns, watch.longest_line,
            pools, host.hub.statistics(), counts, self._reaper.statistics() if self._reaper is not None else {},
            crashes,
        )  # fmt: skip

    def _expected(self, message: int) -> bytes:
        digest: str = message_of(self._plan.ident(message))["digest"]
        return digest.encode()

    def _since_begun(self, event: BreakerEvent) -> BreakerEvent:
        at_ns = max(0, event.at_ns - self._began_ns)
        return BreakerEvent(at_ns, event.kind, event.source, event.target, event.why)

    def _outages(self, elapsed_ns: int) -> Sequence[tuple[int, str]]:
        """The Hub's, as far as they came."""
        found = []
        for outage in self._plan.hub.outages:
            found.append((outage.span.start_ns, f"Hub down ({outage.mode})"))
            found.append((outage.span.end_ns, "Hub back"))
        return [each for each in found if each[0] <= elapsed_ns]

    def _clean_up(self, door: SideDoor) -> None:
        """Delete what the run has put onto servers. Best effort: one may be gone."""
        for tag in self._tags:
            keys = [marker_of(tag)]
            for kind in (LIST, STREAM):
                keys += make_queue(self._rt, kind, tag, door.execute, door.pipeline, True).keys()
            try:
                door.pipeline([("DEL", key) for key in keys])
            except (ConnFailed, OSError, ValueError):
                continue


def _behind(gate: Callable[[], object], work: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        gate()
        work()

    return run
