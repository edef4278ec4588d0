"""BackfillSystem: the client side of a backfill, put together from one setup: pools, guards, pressure, waits.

Role: what all tasks of a run share. Everything that a task does to the outside is a method here, named after the
operation: it goes through the layers that the setup asks for, in the guard's order, and is counted in the task's own
tally, each attempt as one. What a setup does not ask for is not there: "before" has a guard without a layer.

Which operation has which layers:

    put, finish, give back, reap    retry
    take                            none: who comes back in a moment anyway need not be retried; pressure decides how
                                    long it blocks, and whether it may begin at all
    fetch (Hub)                     retry > breaker > limiter > bulkhead
    write (store)                   retry > bulkhead

Thread: any; all methods block. Upstream: the write-up's worker. Left out: a breaker before Redis; the write-up's stands
before the Hub. Bounds: those of the layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from typing import Any, TypeVar

from coordemu.lab.backfill_measures import BackfillSetup
from coordemu.lab.backfill_plan import BackfillPlan, scaled
from coordemu.lab.backfill_queue import BackfillQueue, Taken, Ticket
from coordemu.lab.backfill_store import BackfillStore, StoreBusy
from coordemu.lab.backfill_tally import FINISH, HUB, PUT, REAP, STORE, TAKE, OpTally
from coordemu.lab.hub_client import HubClient
from coordemu.pool.cluster_client import ClusterClient, ClusterOptions
from coordemu.pool.pool_conn import Command
from coordemu.pool.pool_context import PoolContext
from coordemu.pool.pool_options import PoolOptions
from coordemu.resilience.blocking_wait import BlockingOptions, BlockingWait
from coordemu.resilience.breaker_events import BreakerEvent
from coordemu.resilience.breaker_options import BreakerOptions
from coordemu.resilience.bulkhead import Bulkhead
from coordemu.resilience.circuit_breaker import CircuitBreaker
from coordemu.resilience.error_class import Classified, ErrorClass, classify
from coordemu.resilience.guard import Guard
from coordemu.resilience.pool_pressure import PoolPressure, pools_of
from coordemu.resilience.pressure_admission import AdmissionOptions, PressureAdmission
from coordemu.resilience.pressure_gauge import PressureOptions
from coordemu.resilience.resilience_errors import PressureRefused, ResilienceError, RetriesExhausted
from coordemu.resilience.retry import Retry
from coordemu.resilience.retry_budget import RetryBudget
from coordemu.resilience.retry_policy import RetryOptions
from coordemu.resilience.settings import Settings
from coordemu.resilience.token_bucket import TokenBucket
from coordemu.runtime.base import Address, Runtime

T = TypeVar("T")


class ContentGarbled(Exception):
    """The Hub has answered, and nobody can read the answer."""


def classify_here(error: BaseException) -> Classified:
    """`classify`, with two more lines: content that cannot be read may come whole the next time, and a database without
    a free slot is busy, not broken. Thread: any."""
    if isinstance(error, ContentGarbled):
        return Classified(ErrorClass.RECOVERABLE, 0, "the content cannot be read", counts=False)
    if isinstance(error, StoreBusy):
        return Classified(ErrorClass.BACK_PRESSURE, 0, "the database has no slot free")
    return classify(error)


class BackfillSystem:
    """The client side. addresses, password: of the Redis servers.  hub: the Hub's.  plan, setup: in the laboratory's
    time except where `speed` says how to bring them there.  ctx: ends every wait when it is cancelled."""

    def __init__(
        self,
        rt: Runtime,
        addresses: Sequence[Address],
        password: str | None,
        hub: Address,
        plan: BackfillPlan,
        setup: BackfillSetup,
        store: BackfillStore,
        ctx: PoolContext,
    ) -> None:
        self.rt = rt
        self.store = store
        self.ctx = ctx
        self.settings: Settings = scaled(setup.settings, plan.speed)
        settings = self.settings
        # A take asks for a wait of its own on top of the time for a reply.
        read_ms = settings.redis.read_timeout_ms and settings.redis.read_timeout_ms + settings.redis.blocking_ms
        pool = scaled(setup.settings.redis.pool_options(), plan.speed)
        self.client = ClusterClient(
            rt, addresses, ClusterOptions(pool=pool, max_redirects=0, read_timeout_ms=read_ms, password=password),
            "backfill",
        )  # fmt: skip
        self.pressure = PoolPressure(rt, pools_of(self.client), _pressure_options(settings))
        redis = settings.redis
        self._waits = BlockingWait(
            rt, self.pressure,
            BlockingOptions(redis.blocking_ms, redis.blocking_pressed_ms, redis.pool_size, redis.non_blocking_percent),
        )  # fmt: skip
        self._admission = PressureAdmission(
            rt, self.pressure, AdmissionOptions(settings.redis.low_priority, settings.redis.low_priority_wait_ms)
        )
        hub_conns = settings.hub.connections or plan.concurrency
        self.hub = HubClient(
            rt, hub,
            scaled(
                PoolOptions(
                    pool_size=hub_conns, dialer_retries=1, dial_timeout_ms=setup.settings.hub.connect_timeout_ms,
                    pool_timeout_ms=setup.settings.hub.connections_wait_ms,
                ),
                plan.speed,
            ),
            settings.hub.request_timeout_ms,
        )  # fmt: skip
        self.breaker = (
            CircuitBreaker(rt, _breaker_options(settings), "hub breaker") if settings.breaker.enabled else None
        )
        self.breaker_events: list[BreakerEvent] = []
        if self.breaker is not None:
            self.breaker.subscribe(self.breaker_events.append)
        self._redis_guard = Guard(rt, self._retry("redis"), classify=classify_here, name="redis")
        self._hub_guard = self._make_hub_guard()
        database = settings.backfill.database_limit
        self._store_guard = Guard(
            rt, self._retry("store"), bulkhead=Bulkhead(rt, database, "database") if database else None,
            bulkhead_wait_ms=settings.backfill.database_wait_ms, classify=classify_here, name="store",
        )  # fmt: skip

    def _make_hub_guard(self) -> Guard:
        hub, rt = self.settings.hub, self.rt
        limiter = (
            TokenBucket(rt, hub.requests_per_s, hub.burst, "hub rate", hub.max_waiting) if hub.requests_per_s else None
        )
        bulkhead = Bulkhead(rt, hub.connections, "hub connections", hub.max_waiting) if hub.connections else None
        return Guard(
            rt, self._retry("hub"), self.breaker, limiter, bulkhead, limiter_wait_ms=hub.rate_wait_ms,
            bulkhead_wait_ms=hub.connections_wait_ms, classify=classify_here, name="hub",
        )  # fmt: skip

    def _retry(self, name: str) -> Retry | None:
        chosen = self.settings.retry
        if chosen.attempts == 1:
            return None
        options = RetryOptions(
            chosen.attempts, chosen.total_ms, chosen.base_ms, chosen.factor, chosen.max_ms, chosen.jitter
        )
        budget = None
        if chosen.budget_percent:
            budget = RetryBudget(
                self.rt, chosen.budget_percent, chosen.budget_min_per_s, chosen.budget_window_ms, f"{name} retry budget"
            )  # fmt: skip
        return Retry(self.rt, options, classify_here, budget, f"{name} retry")

    # -- commands, without counting

    def execute(self, *command: str | bytes | int) -> Any:
        """One command to Redis; its reply. Raises as `ClusterClient.execute`."""
        return self.client.execute(*command, ctx=self.ctx)

    def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """Many, in one go; errors among the replies."""
        return self.client.pipeline(commands, ctx=self.ctx)

    # -- operations

    def put(self, queue: BackfillQueue, ticket: Ticket, tally: OpTally) -> None:
        """Put a ticket. Raises what is left when the layers have given up, as all of these do."""
        self._guarded(PUT, self._redis_guard, lambda: queue.put(ticket), tally)

    def take(self, queue: BackfillQueue, node: str, worker: str, tally: OpTally) -> Taken | None:
        """Take a ticket; None: there was none for as long as the wait lasted. node: the queue's."""
        # A place is waited for without a connection, for as long as it takes: to have no work yet is no failure.
        place = self._waits.hold(node, self.ctx) if self.settings.redis.non_blocking_percent else nullcontext()
        with place:
            return self._take(queue, self._waits.timeout_ns(node), worker, tally)

    def _take(self, queue: BackfillQueue, wait_ns: int, worker: str, tally: OpTally) -> Taken | None:
        began_ns = self.rt.now_ns()
        try:
            return self._attempt(TAKE, lambda: queue.take(wait_ns, worker), tally)
        finally:
            tally.took(TAKE, max(0, self.rt.now_ns() - began_ns - wait_ns))

    def fetch(self, ident: str, tally: OpTally) -> dict[str, Any]:
        """What the Hub has for it."""
        return self._guarded(HUB, self._hub_guard, lambda: self.hub.fetch(ident, self.ctx), tally)

    def write(self, message: int, content: bytes, tally: OpTally) -> str:
        """Into the store; its answer."""
        return self._guarded(STORE, self._store_guard, lambda: self.store.write(message, content), tally)

    def finish(self, queue: BackfillQueue, taken: Taken, tally: OpTally) -> None:
        """Its work is done."""
        self._guarded(FINISH, self._redis_guard, lambda: queue.finish(taken), tally)

    def give_back(self, queue: BackfillQueue, taken: Taken, failed: bool, tally: OpTally) -> None:
        """Have it delivered again."""
        self._guarded(FINISH, self._redis_guard, lambda: queue.give_back(taken, failed), tally)

    def reap(self, function: Callable[[], T], tally: OpTally) -> T:
        """A piece of the reaper's work, which can wait: under pressure it does, for a while."""
        # Who was refused has waited for as long as he should; work that never comes back would be worse than pressure.
        with suppress(PressureRefused):
            self._admission.admit_low("", self.ctx)
        return self._guarded(REAP, self._redis_guard, function, tally)

    def hub_closed_for_ns(self) -> int:
        """How long the breaker still refuses to ask the Hub; 0: it does not, or there is none."""
        return self.breaker.retry_after_ns if self.breaker is not None else 0

    # -- layers and counting

    def _guarded(self, what: str, guard: Guard, function: Callable[[], T], tally: OpTally) -> T:
        began_ns = self.rt.now_ns()
        try:
            return guard.call(lambda: self._attempt(what, function, tally), self.ctx)
        except ResilienceError as error:
            refusal = error.last if isinstance(error, RetriesExhausted) else error
            if isinstance(refusal, ResilienceError):
                tally.refuse(what, refusal)
            raise
        finally:
            tally.took(what, self.rt.now_ns() - began_ns)

    def _attempt(self, what: str, function: Callable[[], T], tally: OpTally) -> T:
        tally.begin(what)
        try:
            value = function()
        except Exception as error:
            tally.fail(what, error)
            raise
        tally.end(what)
        return value

    def close(self) -> None:
        """Close the connections; what is under way fails. Idempotent."""
        self.client.close()
        self.hub.close()

    def __repr__(self) -> str:
        return f"<BackfillSystem {self.client!r} {self._hub_guard!r}>"


def _pressure_options(settings: Settings) -> PressureOptions:
    redis = settings.redis
    return PressureOptions(redis.pressure_enter, redis.pressure_leave, redis.pressure_min_ms, redis.pressure_look_ms)


def _breaker_options(settings: Settings) -> BreakerOptions:
    chosen = settings.breaker
    return BreakerOptions(
        failures_in_row=chosen.failures_in_row, window=chosen.window, window_size=chosen.window_size,
        window_ms=chosen.window_ms, failure_rate_percent=chosen.failure_rate_percent, slow_call_ms=chosen.slow_call_ms,
        slow_rate_percent=chosen.slow_rate_percent, minimum_calls=chosen.minimum_calls, open_ms=chosen.open_ms,
        half_open_permits=chosen.half_open_permits, half_open_successes=chosen.half_open_successes,
        half_open_max_ms=chosen.half_open_max_ms,
    )  # fmt: skip
