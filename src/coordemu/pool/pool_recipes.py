"""Recipes of the pool: what callers, dials, hooks and workers do to each other.

Role: each shows one fault of the pool proper. Where a fault needs no second task the recipe has none: then every order
shows it.

Thread: the recipe's main task. Upstream: the reference's minimal recipes (turn double free, nil ctx, popIdle leak) and
the bugs of its section 5. Left out: faults of the machine and of the turns (`machine_recipes`, `turn_recipes`). Bounds:
see `recipe_base`.
"""

from __future__ import annotations

from contextlib import suppress

from coordemu.pool import pool_faults
from coordemu.pool.conn_loan import ConnLoan
from coordemu.pool.conn_pool import ConnPool
from coordemu.pool.invariants import check_invariants, check_removed, demand
from coordemu.pool.pool_conn_state import PoolConnState, StateMachineClosed
from coordemu.pool.pool_context import PoolContext
from coordemu.pool.pool_errors import (
    Cancelled,
    ConnUnusable,
    DeadlineExceeded,
    HookRefused,
    PoolClosed,
    PoolExhausted,
    PoolTimeout,
)  # fmt: skip
from coordemu.pool.pool_hooks import PlainHook
from coordemu.pool.pooled_conn import PooledConn
from coordemu.pool.recipe_base import Crew, PoolRecipe, RecipeWire, recipe_options, recipe_pool, slow_dial
from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Runtime

_S = PoolConnState


def _visit(pool: ConnPool) -> None:
    """A caller: get, and put. On a clock that may run ahead its time-out may come first."""
    try:
        conn = pool.get()
    except PoolTimeout:
        check_invariants(pool, quiet=False)
        return
    pool.put(conn)


def abandoned_dial(rt: Runtime, faults: frozenset[str]) -> None:
    """One caller is cancelled while its connection is dialed; another waits for a dial, and gets which it may."""
    pool = recipe_pool(rt, faults, slow_dial(rt), pool_size=3)
    ctx = PoolContext(rt)
    crew = Crew(rt)

    def cancelled() -> None:
        with suppress(Cancelled):
            pool.put(pool.get(ctx))

    crew.add("one", cancelled)
    crew.add("other", lambda: _visit(pool))
    crew.add("canceller", ctx.cancel)
    crew.join()
    _settle(pool, crew)
    check_invariants(pool)


def _settle(pool: ConnPool, crew: Crew) -> None:
    """Until the dials are over whose callers have gone."""
    crew.until(lambda: not pool.dials.slots.held and not pool.register.dialing, "the dials to end")


def failed_dial(rt: Runtime, faults: frozenset[str]) -> None:
    """A caller is cancelled while its connection is dialed, and the dial fails."""

    def dial(timeout_ns: int | None) -> RecipeWire:
        rt.sleep_ns(NS_PER_MS)
        raise ConnectionError("refused")

    pool = recipe_pool(rt, faults, dial)
    ctx = PoolContext(rt)
    crew = Crew(rt)

    def cancelled() -> None:
        with suppress(Cancelled, ConnectionError):
            pool.get(ctx)

    crew.add("one", cancelled)
    crew.add("canceller", ctx.cancel)
    crew.join()
    _settle(pool, crew)
    check_invariants(pool)


def early_cancel(rt: Runtime, faults: frozenset[str]) -> None:
    """A caller is cancelled before or while its connection is dialed; the dial, once begun, must not be lost."""
    pool = recipe_pool(rt, faults)
    ctx = PoolContext(rt)
    crew = Crew(rt)

    def cancelled() -> None:
        with suppress(Cancelled):
            pool.put(pool.get(ctx))

    crew.add("one", cancelled)
    crew.add("canceller", ctx.cancel)
    crew.join()
    _settle(pool, crew)
    demand("Q3", pool.dials.nil_contexts == 0, "a dial was lost: its caller gave up before it had begun")
    check_invariants(pool)


def last_try(rt: Runtime, faults: frozenset[str]) -> None:
    """Two idle connections, the nearer one UNUSABLE; a caller takes the other with its last try."""
    pool = recipe_pool(rt, faults)
    one, other = pool.get(), pool.get()
    _settle(pool, Crew(rt))
    pool.put(one)
    pool.put(other)
    other.conn.claim("handoff", (_S.IDLE,))
    conn = pool.get()
    _settle(pool, Crew(rt))
    check_invariants(pool)
    demand("Q3", conn.conn is one.conn, f"{conn.name} was dialed, and {one.name} could be had")
    pool.put(conn)
    other.conn.give_back()
    check_invariants(pool)


class RefuseNew(PlainHook):
    """A hook that accepts no fresh connection."""

    def on_get(self, conn: PooledConn, is_new: bool) -> bool:
        """Not if it is new."""
        return not is_new


def refused_new(rt: Runtime, faults: frozenset[str]) -> None:
    """A hook refuses every fresh connection; as many callers come as there are turns."""
    pool = recipe_pool(rt, faults)
    pool.add_hook(RefuseNew())
    for _ in range(pool.options.pool_size):
        with suppress(HookRefused):
            pool.get()
    _settle(pool, Crew(rt))
    check_invariants(pool)


def herd_on_a_cap(rt: Runtime, faults: frozenset[str]) -> None:
    """Three callers, none of whom finds a connection, and two may be open."""
    pool = recipe_pool(rt, faults, slow_dial(rt), pool_size=3, max_active_conns=2)
    crew = Crew(rt)

    def caller() -> None:
        with suppress(PoolExhausted):
            _visit(pool)

    for number in range(3):
        crew.add(f"caller {number}", caller)
    crew.join()
    _settle(pool, crew)
    check_invariants(pool)


def close_vs_parked(rt: Runtime, faults: frozenset[str]) -> None:
    """One caller has the only turn, one waits for it, and the pool closes."""
    pool = recipe_pool(rt, faults, pool_size=1)
    conn = pool.get()
    crew = Crew(rt)

    def waiter() -> None:
        with suppress(PoolClosed):
            _visit(pool)

    def closer() -> None:
        pool.close()
        check_invariants(pool, quiet=False)

    crew.add("waiter", waiter)
    crew.add("closer", closer)
    crew.join()
    pool.put(conn)
    check_removed(conn.conn)
    demand("S1", pool.turns.held == 0, f"{pool.turns.held} turns are held in a closed pool")


def retire_vs_put(rt: Runtime, faults: frozenset[str]) -> None:
    """A caller gives a connection back while the pool's connections are retired."""
    pool = recipe_pool(rt, faults)
    conn = pool.get()
    crew = Crew(rt)
    crew.add("caller", lambda: pool.put(conn))
    crew.add("operator", pool.retire)
    crew.join()
    _settle(pool, crew)
    check_invariants(pool)
    check_removed(conn.conn)


def eviction(rt: Runtime, faults: frozenset[str]) -> None:
    """Two callers give back, and one connection may be idle."""
    pool = recipe_pool(rt, faults, max_idle_conns=1)
    conns = [pool.get(), pool.get()]
    crew = Crew(rt)
    crew.add("one", lambda: pool.put(conns[0]))
    crew.add("other", lambda: pool.put(conns[1]))
    crew.join()
    _settle(pool, crew)
    check_invariants(pool)
    for conn in conns:
        if conn.conn_id not in pool.register.conns:
            check_removed(conn.conn)


def failed_handshake(rt: Runtime, faults: frozenset[str]) -> None:
    """The handshake of a fresh connection fails."""
    seen: list[PooledConn] = []

    def handshake(conn: PooledConn) -> None:
        seen.append(conn)
        raise ConnectionError("NOAUTH")

    pool = ConnPool(rt, lambda timeout_ns: RecipeWire(), recipe_options(), faults=faults, initialize=handshake)
    with suppress(ConnectionError):
        pool.get()
    _settle(pool, Crew(rt))
    check_invariants(pool)
    check_removed(seen[0])


def slow_address(rt: Runtime, faults: frozenset[str]) -> None:
    """Every attempt of a dial runs into its time-out."""
    attempts: list[int | None] = []

    def dial(timeout_ns: int | None) -> RecipeWire:
        attempts.append(timeout_ns)
        rt.sleep_ns(timeout_ns or 0)
        raise TimeoutError("the dial took too long")

    pool = recipe_pool(rt, faults, dial, pool_size=2, dialer_retries=3, dial_timeout_ms=50, dialer_retry_timeout_ms=10)
    with suppress(TimeoutError):
        pool.get()
    demand("Q7", len(attempts) == 3, f"{len(attempts)} attempts were made, of 3")
    _settle(pool, Crew(rt))
    check_invariants(pool)


def warm_up(rt: Runtime, faults: frozenset[str]) -> None:
    """Two connections are dialed in advance; somebody looks at the counts meanwhile."""
    pool = recipe_pool(rt, faults, slow_dial(rt), min_idle_conns=2)
    check_invariants(pool, quiet=False)
    crew = Crew(rt)
    crew.add("caller", lambda: _visit(pool))
    crew.add("watcher", lambda: check_invariants(pool, quiet=False))
    crew.join()
    _settle(pool, crew)
    crew.until(lambda: not pool.turns.held, "the warm-ups to end")
    check_invariants(pool)


def reauth_of_a_fresh_one(rt: Runtime, faults: frozenset[str]) -> None:
    """A worker waits for a fresh connection to be IDLE while its first caller does the handshake."""
    crew = Crew(rt)

    def reauthenticate(conn: PooledConn) -> None:
        try:
            conn.machine.wait_and_transition((_S.IDLE,), _S.UNUSABLE)
        except StateMachineClosed:
            return
        conn.owned_by = "re-authentication"
        conn.give_back()

    def handshake(conn: PooledConn) -> None:
        crew.add("worker", lambda: reauthenticate(conn))
        rt.sleep_ns(0)

    pool = ConnPool(rt, slow_dial(rt), recipe_options(), faults=faults, initialize=handshake)
    try:
        conn = pool.get()
    except ConnUnusable as error:
        demand("S2", False, f"a caller lost its connection: {error}")
    else:
        pool.put(conn)
    crew.join()
    _settle(pool, crew)
    check_invariants(pool)


def churn(rt: Runtime, faults: frozenset[str]) -> None:
    """Three callers share two turns; one of them has its connection removed, and one has a deadline."""
    pool = recipe_pool(rt, faults, slow_dial(rt), max_idle_conns=1)
    crew = Crew(rt)
    busy: dict[int, str] = {}

    def use(name: str, conn: ConnLoan) -> None:
        demand("S2", conn.conn_id not in busy, f"{conn.name} has two owners: {name} and {busy.get(conn.conn_id)}")
        busy[conn.conn_id] = name
        rt.sleep_ns(0)
        del busy[conn.conn_id]

    def take() -> ConnLoan | None:
        try:
            return pool.get()
        except PoolTimeout:
            check_invariants(pool, quiet=False)
            return None

    def caller(name: str) -> None:
        for _ in range(2):
            if (conn := take()) is not None:
                use(name, conn)
                pool.put(conn)

    def breaker() -> None:
        if (conn := take()) is not None:
            use("breaker", conn)
            pool.remove(conn, "broken")
            check_removed(conn.conn)

    def hurried() -> None:
        try:
            conn = pool.get(PoolContext.after(rt, NS_PER_S))
        except (PoolTimeout, DeadlineExceeded):
            return
        use("hurried", conn)
        pool.put(conn)

    crew.add("caller", lambda: caller("caller"))
    crew.add("breaker", breaker)
    crew.add("hurried", hurried)
    crew.join()
    _settle(pool, crew)
    check_invariants(pool)


POOL_PROPER_RECIPES = (
    PoolRecipe("abandoned-dial", "a caller leaves its dial", (pool_faults.DOUBLE_FREE_TURN,), abandoned_dial),
    PoolRecipe("failed-dial", "a caller leaves a dial that fails", (pool_faults.STALE_WANTS,), failed_dial),
    PoolRecipe("early-cancel", "a caller leaves before the dial", (pool_faults.NIL_CONTEXT,), early_cancel),
    PoolRecipe("last-try", "the last try finds one", (pool_faults.POP_LAST_TRY,), last_try),
    PoolRecipe("refused-new", "a hook refuses what is new", (pool_faults.REFUSAL_LEAKS_TURN,), refused_new),
    PoolRecipe("herd-on-a-cap", "three dial, two may", (pool_faults.MAX_ACTIVE_OVERSHOOT,), herd_on_a_cap),
    PoolRecipe("close-vs-parked", "one waits, the pool closes", (pool_faults.CLOSE_LEAVES_PARKED,), close_vs_parked),
    PoolRecipe("retire-vs-put", "one gives back, all are retired", (pool_faults.ZOMBIE_IDLE,), retire_vs_put),
    PoolRecipe("eviction", "two give back, one may be idle", (pool_faults.EVICTION_SKIPS_HOOK,), eviction),
    PoolRecipe("failed-handshake", "a handshake fails", (pool_faults.TEARDOWN_SKIPPED,), failed_handshake),
    PoolRecipe("slow-address", "every attempt takes too long", (pool_faults.ONE_DIAL_TIMEOUT,), slow_address),
    PoolRecipe("warm-up", "two are dialed in advance", (pool_faults.WARM_UP_COUNTS_EARLY,), warm_up),
    PoolRecipe(
        "reauth-of-a-fresh-one", "a worker waits for a new one", (pool_faults.INIT_WINDOW,), reauth_of_a_fresh_one
    ),
    PoolRecipe("churn", "three callers, two turns", (), churn),
)
