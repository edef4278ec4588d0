"""Recipes of the five concurrency issues that the model's documents describe, each with an oracle for the fault itself.

Role: the example application has a test for each issue, and sees how long calls take and how many fail: the shadow of a
fault. Here the fault is looked at. `Hands` knows who has which connection, callers and workers alike; the pool's rules
are looked at all the time, not only at the end, so that a caller who sleeps beside a free turn is seen before its time
limit wakes it; and each recipe asks for what it is about (who was served in which order, how many dials, whether what
nobody owns can be had).

* issue-race: several want the one connection there is, and only one may have it.
* issue-exhaustion: more callers than turns.
* issue-unusable: a connection stays in UNUSABLE, and nobody owns it.
* issue-herd: all come at once, and the pool is empty.
* issue-bursts: what one burst leaves, the next one uses.

Thread: the recipe's main task. Upstream: the example application's page on potential issues. Left out: load and
latency; `coordemu pool` has those. Bounds: see `recipe_base`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

from coordemu.pool import pool_faults
from coordemu.pool.conn_dialer import Dial
from coordemu.pool.conn_pool import ConnPool
from coordemu.pool.invariants import check_invariants, check_removed, demand
from coordemu.pool.pool_conn_state import PoolConnState
from coordemu.pool.pool_context import PoolContext
from coordemu.pool.pool_errors import Cancelled, PoolExhausted, PoolTimeout
from coordemu.pool.pooled_conn import Place, PooledConn
from coordemu.pool.recipe_base import Crew, PoolRecipe, RecipeWire, quick_dial, recipe_pool
from coordemu.runtime.base import NS_PER_MS, Runtime

_S = PoolConnState
TIMEOUT_MS = 2_000


class Hands:
    """Who has which connection. `seen`: all that anybody had."""

    def __init__(self, rt: Runtime) -> None:
        self.seen: dict[int, PooledConn] = {}
        self._rt = rt
        self._owners: dict[int, str] = {}

    def use(self, name: str, conn: PooledConn, state: PoolConnState = _S.IN_USE) -> None:
        """Have it for a moment. Raises InvariantBroken when another has it too, or its state is another at the start or
        at the end. Thread: its owner's."""
        self.seen[conn.conn_id] = conn
        other = self._owners.setdefault(conn.conn_id, name)
        demand("S2", other == name, f"{name} and {other} have {conn.name}")
        self._check(name, conn, state)
        self._rt.sleep_ns(0)
        self._check(name, conn, state)
        del self._owners[conn.conn_id]

    def _check(self, name: str, conn: PooledConn, state: PoolConnState) -> None:
        found = conn.state
        demand("S2", found is state, f"{name} has {conn.name}, and it is {found.value}, not {state.value}")


def _pool(rt: Runtime, faults: frozenset[str], dial: Dial = quick_dial, **chosen: Any) -> ConnPool:
    """A recipe's pool in which nothing grows too old (a clock that runs ahead does), and nobody waits long: the rules
    are looked at all that time."""
    return recipe_pool(rt, faults, dial, conn_max_idle_time_ms=0, pool_timeout_ms=TIMEOUT_MS, **chosen)


def _visit(pool: ConnPool, hands: Hands, name: str) -> bool:
    """Get, use, put. False: it was turned away (on a clock that runs ahead a time-out may come at any moment)."""
    try:
        conn = pool.get()
    except (PoolExhausted, PoolTimeout):
        return False
    hands.use(name, conn.conn)
    pool.put(conn)
    return True


def _settle(pool: ConnPool, crew: Crew) -> None:
    """Until nothing is on its way; then all rules must hold."""
    crew.until(lambda: not pool.dials.slots.held and not pool.register.dialing, "the dials to end")
    check_invariants(pool)


def _watch(pool: ConnPool, crew: Crew) -> None:
    """Until all have ended, with a look at the rules meanwhile."""
    crew.join_watching(lambda: check_invariants(pool, quiet=False))
    _settle(pool, crew)


def race_for_one(rt: Runtime, faults: frozenset[str]) -> None:
    """One connection is idle, and no more may be open; two callers and a worker want it at once."""
    pool = _pool(rt, faults, max_active_conns=1)
    hands, crew = Hands(rt), Crew(rt)
    lent = pool.get()
    only = lent.conn
    hands.use("the first", only)
    pool.put(lent)
    _settle(pool, crew)
    had: list[str] = []

    def caller(name: str) -> None:
        if _visit(pool, hands, name):
            had.append(name)

    def worker() -> None:
        if only.claim("handoff", (_S.IDLE,)):
            hands.use("the worker", only, _S.UNUSABLE)
            only.give_back()
            had.append("the worker")

    crew.add("one", lambda: caller("one"))
    crew.add("other", lambda: caller("other"))
    crew.add("worker", worker)
    _watch(pool, crew)
    demand("S2", bool(had), f"three came for {only.name}, and nobody had it")


def exhaustion(rt: Runtime, faults: frozenset[str]) -> None:
    """The only turn is taken; two wait for it, one of whom is cancelled; a third comes while it is given back."""
    pool = _pool(rt, faults, pool_size=1)
    held = pool.get()
    hands, crew, ctx = Hands(rt), Crew(rt), PoolContext(rt)
    served: list[int] = []

    def caller(number: int, ctx: PoolContext | None = None) -> None:
        try:
            conn = pool.get(ctx)
        except (Cancelled, PoolTimeout):
            return
        served.append(number)
        hands.use(f"caller {number}", conn.conn)
        pool.put(conn)

    def parked(count: int) -> None:
        crew.until(lambda: pool.turns.waiting >= count or crew.any_ended, "the line")

    crew.add("caller 1", lambda: caller(1, ctx))
    parked(1)
    crew.add("caller 2", lambda: caller(2))
    parked(2)
    in_line = pool.turns.waiting == 2
    crew.add("holder", lambda: pool.put(held))
    crew.add("canceller", ctx.cancel)
    crew.add("caller 3", lambda: caller(3))
    _watch(pool, crew)
    demand("S8", not in_line or served == sorted(served), f"the callers were served in the order {served}")


def stuck_unusable(rt: Runtime, faults: frozenset[str]) -> None:
    """A worker that waits for a connection is cancelled while its holder gives it back and another caller comes."""
    pool = _pool(rt, faults, pool_size=1)
    lent = pool.get()
    only = lent.conn
    hands, crew, ctx = Hands(rt), Crew(rt), PoolContext(rt)

    def worker() -> None:
        try:
            only.machine.wait_and_transition((_S.IDLE,), _S.UNUSABLE, ctx)
        except Cancelled:
            return
        only.owned_by = "re-authentication"
        hands.use("the worker", only, _S.UNUSABLE)
        only.give_back()

    crew.add("worker", worker)
    crew.add("holder", lambda: pool.put(lent))
    crew.add("canceller", ctx.cancel)
    crew.add("caller", lambda: _visit(pool, hands, "the caller"))
    _watch(pool, crew)
    last = pool.get()
    demand("Q5", last.conn is only, f"{only.name} is open and nobody's, and a caller was given {last.name}")
    pool.put(last)
    _settle(pool, crew)


def herd_on_empty(rt: Runtime, faults: frozenset[str]) -> None:
    """Four callers go through a gate at once and find no connection; three turns, two dials at once, two open; one
    dial fails, and one caller is cancelled."""
    under_way: list[int] = []
    numbers = count(1)

    def dial(timeout_ns: int | None) -> RecipeWire:
        mine = next(numbers)
        under_way.append(mine)
        demand("Q7", len(under_way) <= 2, f"{len(under_way)} dials are under way at once, and two may be")
        rt.sleep_ns(NS_PER_MS)
        under_way.remove(mine)
        if mine == 2:
            raise ConnectionError("refused")
        return RecipeWire()

    pool = _pool(rt, faults, dial, pool_size=3, max_active_conns=2, max_concurrent_dials=2)
    hands, crew, ctx = Hands(rt), Crew(rt), PoolContext(rt)
    gate = rt.event("the gate")
    outcomes: list[str] = []

    def caller(name: str, ctx: PoolContext | None = None) -> None:
        gate.wait()
        try:
            conn = pool.get(ctx)
        except (PoolExhausted, PoolTimeout, Cancelled, ConnectionError) as error:
            outcomes.append(type(error).__name__)
            return
        hands.use(name, conn.conn)
        pool.put(conn)
        outcomes.append("served")

    crew.add("caller 1", lambda: caller("caller 1", ctx))
    for name in ("caller 2", "caller 3", "caller 4"):
        crew.add(name, partial(caller, name))
    crew.add("canceller", ctx.cancel)
    gate.set()
    _watch(pool, crew)
    demand("Q1", len(outcomes) == 4, f"four callers came, {len(outcomes)} have an outcome")
    demand("Q3", pool.dials.nil_contexts == 0, "a dial was lost: its caller gave up before it had begun")


def reuse_in_bursts(rt: Runtime, faults: frozenset[str]) -> None:
    """Three bursts of callers on two connections: an undisturbed one, one beside a worker that has a connection, one
    while all are retired."""
    dials: list[RecipeWire] = []

    def dial(timeout_ns: int | None) -> RecipeWire:
        dials.append(RecipeWire())
        return dials[-1]

    pool = _pool(rt, faults, dial, max_idle_conns=2)
    hands = Hands(rt)
    loans = [pool.get(), pool.get()]
    for loan in loans:
        pool.put(loan)
    second = loans[1].conn
    _settle(pool, Crew(rt))

    def burst(callers: int, extra_dials: int, beside: str = "", what: Callable[[], object] | None = None) -> None:
        before, crew = len(dials), Crew(rt)
        for number in range(1, callers + 1):
            name = f"caller {number}"
            crew.add(name, partial(_visit, pool, hands, name))
        if what is not None:
            crew.add(beside, what)
        _watch(pool, crew)
        more = len(dials) - before
        demand("Q3", more <= extra_dials, f"{more} connections were dialed, and there was something idle for everybody")
        for conn in hands.seen.values():
            if conn.place is Place.GONE:
                check_removed(conn)

    def work() -> None:
        if second.claim("handoff", (_S.IDLE,)):
            hands.use("the worker", second, _S.UNUSABLE)
            second.give_back()

    burst(3, 0)
    burst(2, 1, "worker", work)
    burst(2, 2, "operator", pool.retire)


ISSUE_RECIPES = (
    PoolRecipe(
        "issue-race",
        "issue 1: two callers and a worker want the only connection",
        (pool_faults.ACQUIRE_BY_STORE, pool_faults.SHARED_CREATED),
        race_for_one,
    ),
    PoolRecipe(
        "issue-exhaustion",
        "issue 2: more callers than turns, one of them cancelled, one late",
        (pool_faults.TURN_STOLEN, pool_faults.TURN_DOUBLE_RELEASE, pool_faults.TURN_SENT_UNLOCKED),
        exhaustion,
    ),
    PoolRecipe(
        "issue-unusable",
        "issue 3: a worker that waits for a connection is cancelled",
        (pool_faults.CANCEL_AGAINST_NOTIFY,),
        stuck_unusable,
    ),
    PoolRecipe(
        "issue-herd",
        "issue 4: a herd on an empty pool",
        (
            pool_faults.MAX_ACTIVE_OVERSHOOT,
            pool_faults.DOUBLE_FREE_TURN,
            pool_faults.STALE_WANTS,
            pool_faults.NIL_CONTEXT,
        ),
        herd_on_empty,
    ),
    PoolRecipe(
        "issue-bursts",
        "issue 5: bursts, a worker and an operator on two connections",
        (pool_faults.POP_LAST_TRY, pool_faults.ZOMBIE_IDLE),
        reuse_in_bursts,
    ),
)
