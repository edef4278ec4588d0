"""Recipes of the workers: handoff and re-authentication against callers.

Role: each lets workers and callers want the same connection. The pool's rules must hold, and what was to be done to the
connection must have been done.

Thread: the recipe's main task. Upstream: the reference's "handoff rollback" and its section 2, background workers.
Left out: what a single move shows (`machine_recipes`). Bounds: see `recipe_base`.
"""

from __future__ import annotations

from contextlib import suppress

from coordemu.pool import pool_faults
from coordemu.pool.handoff import HandoffHook, HandoffOptions
from coordemu.pool.handoff_record import HandoffRecord
from coordemu.pool.invariants import check_invariants, check_removed, demand
from coordemu.pool.pool_conn_state import PoolConnState
from coordemu.pool.pool_errors import PoolTimeout
from coordemu.pool.pooled_conn import PooledConn
from coordemu.pool.reauthentication import ReauthHook
from coordemu.pool.recipe_base import Crew, PoolRecipe, RecipeWire, recipe_pool
from coordemu.runtime.base import Runtime

_S = PoolConnState


def handoff_rollback(rt: Runtime, faults: frozenset[str]) -> None:
    """One queues a connection's handoff and takes that back; a worker is done with it meanwhile."""
    record = HandoffRecord(rt, "conn", faults)
    record.set("new", 1)
    crew = Crew(rt)

    def marker() -> None:
        taken = record.queue()
        if taken is not None:
            record.take_back(taken)

    def worker() -> None:
        while not record.clear(record.mark):
            pass

    crew.add("marker", marker)
    crew.add("worker", worker)
    crew.join()
    demand("Q5", record.mark is None, f"the handoff is done, and {record.mark} stands")


class NewWire(RecipeWire):
    """What a handoff's dial returns."""


def _get_and_put(rt: Runtime, faults: frozenset[str], fails: bool) -> None:
    def dial_to(endpoint: str, timeout_ns: int | None) -> NewWire:
        rt.sleep_ns(0)
        if fails:
            raise ConnectionError(f"{endpoint} refused")
        return NewWire()

    pool = recipe_pool(rt, faults)
    hook = HandoffHook(rt, pool, dial_to, HandoffOptions(retries=1, workers=1))
    pool.add_hook(hook)
    first = pool.get()
    crew = Crew(rt)

    def caller() -> None:
        with suppress(PoolTimeout):
            conn = pool.get()
            state = conn.state
            demand("S2", state is _S.IN_USE, f"a caller has {conn.name}, and it is {state.value}")
            rt.sleep_ns(0)
            state = conn.state
            demand("S2", state is _S.IN_USE, f"a caller has {conn.name}, and it became {state.value} under it")
            pool.put(conn)

    def announcer() -> None:
        hook.announce("new", 1)

    crew.add("holder", lambda: pool.put(first))
    crew.add("announcer", announcer)
    crew.add("caller", caller)
    crew.join()
    crew.until(lambda: not hook.workers.busy and not pool.dials.slots.held, "the workers to end")
    check_invariants(pool)
    if fails:
        check_removed(first.conn)
    else:
        resource = first.resource
        demand("Q5", isinstance(resource, NewWire), f"{first.name} was marked, and has {type(resource).__name__}")
        demand("Q5", first.conn.handoff.mark is None, f"{first.name} was moved, and is still marked")


def handoff_vs_callers(rt: Runtime, faults: frozenset[str]) -> None:
    """A connection is marked while its holder gives it back and another caller comes; the handoff succeeds."""
    _get_and_put(rt, faults, fails=False)


def failed_handoff(rt: Runtime, faults: frozenset[str]) -> None:
    """The same; the new endpoint refuses."""
    _get_and_put(rt, faults, fails=True)


def credentials(rt: Runtime, faults: frozenset[str]) -> None:
    """The credentials change while two callers use one connection after the other."""
    pool = recipe_pool(rt, faults, pool_size=1)
    renewed: list[int] = []

    def authenticate(conn: PooledConn) -> None:
        state = conn.state
        demand("S2", state is _S.UNUSABLE, f"{conn.name} is authenticated, and {state.value}")
        renewed.append(conn.conn_id)

    hook = ReauthHook(rt, pool, authenticate)
    pool.add_hook(hook)
    first = pool.get()
    crew = Crew(rt)

    def caller() -> None:
        with suppress(PoolTimeout):
            pool.put(pool.get())

    crew.add("holder", lambda: pool.put(first))
    crew.add("provider", hook.credentials_changed)
    crew.add("caller", caller)
    crew.join()
    crew.until(lambda: not hook.busy and not pool.dials.slots.held, "the workers to end")
    if hook.statistics()["failed"]:
        return  # a clock that ran ahead: it is marked again
    check_invariants(pool)
    gone = first.state is _S.CLOSED
    demand("Q5", gone or renewed.count(first.conn_id) == 1, f"{first.name} was authenticated {len(renewed)} times")


WORKER_RECIPES = (
    PoolRecipe("handoff-rollback", "a mark is taken back", (pool_faults.HANDOFF_ROLLBACK,), handoff_rollback),
    PoolRecipe("handoff", "a marked one is given back", (), handoff_vs_callers),
    PoolRecipe("failed-handoff", "a marked one cannot be moved", (pool_faults.FAILED_HANDOFF_IDLE,), failed_handoff),
    PoolRecipe("credentials", "a marked one is authenticated again", (), credentials),
)
