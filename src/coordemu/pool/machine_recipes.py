"""Recipes of the state machine: two to four tasks that move one connection.

Role: each shows one or two faults of `faulty_state_machine`. The machine stands alone; what a caller or a worker of a
pool would do is one call here.

Thread: the recipe's main task. Upstream: the reference's minimal recipes (re-auth vs Put, re-auth cancelled, zombie
waiter, leapfrog) and the holes of its section 1. Left out: the pool around it (`pool_recipes`). Bounds: see
`recipe_base`.
"""

from __future__ import annotations

from coordemu.pool import pool_faults
from coordemu.pool.conn_state_machine import ConnStateMachine
from coordemu.pool.faulty_state_machine import make_state_machine
from coordemu.pool.invariants import InvariantBroken, demand
from coordemu.pool.pool_conn_state import PoolConnState, StateMachineClosed
from coordemu.pool.pool_context import PoolContext
from coordemu.pool.pool_errors import Cancelled
from coordemu.pool.recipe_base import Crew, PoolRecipe
from coordemu.runtime.base import Runtime

_S = PoolConnState


def _in_use(rt: Runtime, faults: frozenset[str]) -> ConnStateMachine:
    machine = make_state_machine(rt, "conn", faults)
    machine.try_transition((_S.CREATED,), _S.INITIALIZING)
    machine.try_transition((_S.INITIALIZING,), _S.IN_USE)
    return machine


def _check_rest(machine: ConnStateMachine) -> None:
    """Nobody is left in the queue, nobody owns it: then it is IDLE, IN_USE, or CLOSED."""
    wrong = [f"Q4 {sentence}" for sentence in machine.check_quiet()]
    look = machine.snapshot()
    if look.state is _S.UNUSABLE:
        wrong.append("Q5 it is UNUSABLE, and nobody owns it")
    if look.waiting:
        wrong.append(f"Q4 {', '.join(look.waiting)} has left, and is in the queue")
    if wrong:
        raise InvariantBroken("conn", wrong)


def reauth_vs_put(rt: Runtime, faults: frozenset[str]) -> None:
    """A worker waits for IDLE while a caller gives the connection back."""
    machine = _in_use(rt, faults)
    crew = Crew(rt)

    def worker() -> None:
        machine.wait_and_transition((_S.IDLE,), _S.UNUSABLE)
        machine.return_from_work()

    crew.add("worker", worker)
    crew.add("caller", machine.release)
    crew.join()
    _check_rest(machine)


def _reauth(machine: ConnStateMachine, ctx: PoolContext) -> None:
    """The worker's part: wait for IDLE, work, give it back; nothing when it is cancelled meanwhile."""
    try:
        machine.wait_and_transition((_S.IDLE,), _S.UNUSABLE, ctx)
    except Cancelled:
        return
    machine.return_from_work()


def reauth_cancelled(rt: Runtime, faults: frozenset[str]) -> None:
    """A worker waits for IDLE, a caller gives the connection back, and somebody cancels the worker."""
    machine = _in_use(rt, faults)
    ctx = PoolContext(rt)
    crew = Crew(rt)
    crew.add("worker", lambda: _reauth(machine, ctx))
    crew.add("caller", machine.release)
    crew.add("canceller", ctx.cancel)
    crew.join()
    _check_rest(machine)


def zombie_waiter(rt: Runtime, faults: frozenset[str]) -> None:
    """As reauth_cancelled, with another caller who takes the connection and gives it back."""
    machine = _in_use(rt, faults)
    ctx = PoolContext(rt)
    crew = Crew(rt)

    def other() -> None:
        if machine.acquire():
            machine.release()

    crew.add("worker", lambda: _reauth(machine, ctx))
    crew.add("caller", machine.release)
    crew.add("other", other)
    crew.add("canceller", ctx.cancel)
    crew.join()
    _check_rest(machine)


def leapfrog(rt: Runtime, faults: frozenset[str]) -> None:
    """Two workers are parked, one after the other; two others move the connection, and serve."""
    machine = _in_use(rt, faults)
    crew = Crew(rt)
    order: list[str] = []

    def worker(name: str) -> None:
        machine.wait_and_transition((_S.IDLE,), _S.UNUSABLE)
        order.append(name)
        machine.return_from_work()

    def handoff() -> None:
        crew.until(lambda: machine.state is _S.UNUSABLE, "the mark")
        machine.return_from_work()

    def parked(count: int) -> None:
        crew.until(lambda: len(machine.snapshot().waiting) == count, "the queue")

    crew.add("first", lambda: worker("first"))
    parked(1)
    crew.add("second", lambda: worker("second"))
    parked(2)
    crew.add("marker", lambda: machine.try_transition((_S.IN_USE,), _S.UNUSABLE))
    crew.add("handoff", handoff)
    crew.join()
    demand("S8", order == ["first", "second"], f"the workers were served in the order {', '.join(order)}")
    _check_rest(machine)


def close_vs_wait(rt: Runtime, faults: frozenset[str]) -> None:
    """A worker waits for IDLE, and the pool closes the connection."""
    machine = _in_use(rt, faults)
    crew = Crew(rt)

    def worker() -> None:
        try:
            machine.wait_and_transition((_S.IDLE,), _S.UNUSABLE)
        except StateMachineClosed:
            return
        demand("S6", False, "a worker was given a connection that is closed")

    crew.add("worker", worker)
    crew.add("closer", machine.close)
    crew.join()
    _check_rest(machine)


def worker_vs_close(rt: Runtime, faults: frozenset[str]) -> None:
    """A worker gives the connection back while it is closed."""
    machine = _in_use(rt, faults)
    machine.try_transition((_S.IN_USE,), _S.UNUSABLE)
    crew = Crew(rt)
    crew.add("worker", machine.return_from_work)
    crew.add("closer", machine.close)
    crew.join()
    demand("S6", machine.state is _S.CLOSED, f"it was closed, and is {machine.state.value}")


def late_store(rt: Runtime, faults: frozenset[str]) -> None:
    """A worker is done in two steps, as the model's handoff is: the handshake ends in IDLE, and then it gives back."""
    machine = _in_use(rt, faults)
    machine.try_transition((_S.IN_USE,), _S.UNUSABLE)
    machine.try_transition((_S.UNUSABLE,), _S.INITIALIZING)
    crew = Crew(rt)

    def worker() -> None:
        machine.return_from_work()
        machine.return_from_work()

    def caller() -> None:
        if machine.acquire():
            state = machine.state
            demand("S2", state is _S.IN_USE, f"a caller has it, and it is {state.value}")
            demand("S2", machine.release(), "a caller gives it back, and it is not IN_USE")

    crew.add("worker", worker)
    crew.add("caller", caller)
    crew.join()
    _check_rest(machine)


def two_takers(rt: Runtime, faults: frozenset[str]) -> None:
    """Two callers take one connection that was never used."""
    machine = make_state_machine(rt, "conn", faults)
    crew = Crew(rt)
    taken: list[str] = []

    def taker(name: str) -> None:
        if machine.acquire():
            taken.append(name)

    crew.add("one", lambda: taker("one"))
    crew.add("other", lambda: taker("other"))
    crew.join()
    demand("S2", len(taken) == 1, f"{' and '.join(taken) or 'nobody'} took the connection")


MACHINE_RECIPES = (
    PoolRecipe(
        "reauth-vs-put",
        "a worker waits for IDLE, a caller gives back",
        (pool_faults.RELEASE_WITHOUT_NOTIFY, pool_faults.NO_RECHECK),
        reauth_vs_put,
    ),
    PoolRecipe(
        "reauth-cancelled",
        "a worker waits for IDLE and is cancelled, a caller gives back",
        (pool_faults.CANCEL_AGAINST_NOTIFY,),
        reauth_cancelled,
    ),
    PoolRecipe(
        "zombie-waiter",
        "a worker waits for IDLE and is cancelled, one gives back, another takes it",
        (pool_faults.ZOMBIE_WAITER,),
        zombie_waiter,
    ),
    PoolRecipe("leapfrog", "two workers wait, two others move", (pool_faults.LEAPFROG,), leapfrog),
    PoolRecipe("close-vs-wait", "a worker waits, the pool closes", (pool_faults.CLOSE_WAKES_NOBODY,), close_vs_wait),
    PoolRecipe("worker-vs-close", "a worker gives back, the pool closes", (pool_faults.STORE_IDLE,), worker_vs_close),
    PoolRecipe("late-store", "a worker gives back twice, a caller takes it", (pool_faults.STORE_IDLE,), late_store),
    PoolRecipe("two-takers", "two callers take an unused one", (pool_faults.SHARED_CREATED,), two_takers),
)
