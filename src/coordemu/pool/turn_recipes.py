"""Recipes of the turns: a holder, those who wait, one who comes late, one who cancels.

Role: each shows one of the four semaphores that the model's authors tried before they took a channel. There is one
turn, unless a recipe says otherwise.

Thread: the recipe's main task. Upstream: the reference's "semaphores" recipe. Left out: time-outs (a cancelled context
is one that comes when the order says so). Bounds: see `recipe_base`.
"""

from __future__ import annotations

from coordemu.pool import pool_faults
from coordemu.pool.faulty_turns import make_turns
from coordemu.pool.invariants import InvariantBroken, demand
from coordemu.pool.pool_context import PoolContext
from coordemu.pool.pool_errors import Cancelled
from coordemu.pool.recipe_base import Crew, PoolRecipe
from coordemu.pool.turns import NoTurn, Turns
from coordemu.runtime.base import Runtime


def _check_home(turns: Turns) -> None:
    """All have ended: every turn is home, and nobody is in line."""
    wrong = turns.broken_rules()
    if turns.held:
        wrong.append(f"S1 {turns.held} turns are held, and nobody holds one")
    if wrong:
        raise InvariantBroken(turns.name, wrong)


def turn_waiter(rt: Runtime, faults: frozenset[str]) -> None:
    """A holder gives its turn back while another asks for it, without a limit."""
    turns = make_turns(rt, 1, "turns", faults)
    turns.acquire()
    crew = Crew(rt)

    def waiter() -> None:
        turns.acquire()
        turns.release()

    crew.add("waiter", waiter)
    crew.add("holder", turns.release)
    crew.join()
    _check_home(turns)


def late_comer(rt: Runtime, faults: frozenset[str]) -> None:
    """One waits; the holder gives back; another tries, who came later."""
    turns = make_turns(rt, 1, "turns", faults)
    turns.acquire()
    crew = Crew(rt)

    def waiter() -> None:
        try:
            turns.acquire()
        except NoTurn:
            demand("S8", False, "one who waited without a limit was sent away")
        turns.release()

    def late() -> None:
        if turns.try_acquire():
            turns.release()

    crew.add("waiter", waiter)
    crew.until(lambda: turns.waiting == 1, "the line")
    crew.add("holder", turns.release)
    crew.add("late", late)
    crew.join()
    _check_home(turns)


def turn_cancelled(rt: Runtime, faults: frozenset[str]) -> None:
    """Two wait, one of them is cancelled, the holder gives back."""
    turns = make_turns(rt, 1, "turns", faults)
    turns.acquire()
    ctx = PoolContext(rt)
    crew = Crew(rt)

    def cancelled() -> None:
        try:
            turns.acquire(ctx)
        except (Cancelled, NoTurn):
            return
        turns.release()

    def waiter() -> None:
        turns.acquire()
        turns.release()

    crew.add("first", cancelled)
    crew.add("second", waiter)
    crew.add("holder", turns.release)
    crew.add("canceller", ctx.cancel)
    crew.join()
    _check_home(turns)


TURN_RECIPES = (
    PoolRecipe("turn-waiter", "one gives back, one asks", (pool_faults.TURN_WAKE_LOST,), turn_waiter),
    PoolRecipe("late-comer", "one waits, one gives back, one comes late", (pool_faults.TURN_STOLEN,), late_comer),
    PoolRecipe(
        "turn-cancelled",
        "two wait, one is cancelled, one gives back",
        (pool_faults.TURN_DOUBLE_RELEASE, pool_faults.TURN_SENT_UNLOCKED),
        turn_cancelled,
    ),
)
