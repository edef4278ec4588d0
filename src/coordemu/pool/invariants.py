"""Invariants: what must hold of a pool at any time, and once nobody is in the middle of anything.

Role: the oracle of searches, tests and soaks. Each rule says in one sentence what is wrong, and which connection or
caller it is about; `check_invariants` raises all of them at once. The letters are those of the reference's section 8.

Thread: any; takes the pool's locks shortly. Upstream: none; tests there look at counters. Left out: what only a program
knows (that nobody else writes on its connection, that its calls end). Bound: as the pool.
"""

from __future__ import annotations

from coordemu.pool.conn_pool import ConnPool
from coordemu.pool.conn_register import ConnRegister
from coordemu.pool.pool_conn_state import PoolConnState
from coordemu.pool.pooled_conn import Place, PooledConn

_S = PoolConnState
IN_HAND = (_S.IN_USE, _S.INITIALIZING)


class InvariantBroken(AssertionError):
    """Rules that do not hold: `rules` has their letters, the message the sentences."""

    def __init__(self, pool: str, wrong: list[str]) -> None:
        super().__init__(f"{pool}: " + "; ".join(wrong))
        self.rules = tuple(sorted({sentence.split(" ")[0] for sentence in wrong}))


def check_invariants(pool: ConnPool, quiet: bool = True) -> None:
    """Raise InvariantBroken when a rule does not hold. quiet: nobody is in the middle of a call, and no dial or worker
    is under way, so the rules of rest hold too. Thread: any."""
    wrong = broken_rules(pool, quiet)
    if wrong:
        raise InvariantBroken(pool.name, wrong)


def broken_rules(pool: ConnPool, quiet: bool = True) -> list[str]:
    """The sentences, each beginning with its rule's letters; none when all is well. As `check_invariants`."""
    register, turns = pool.register, pool.turns
    with register.lock:
        conns = list(register.conns.values())
        wrong = _places(register, conns)
        cap = pool.options.max_active_conns
        if cap and register.most_open > cap:
            wrong.append(f"Q9 {register.most_open} connections were open at once, and {cap} may be")
        pooled = sum(conn.pooled for conn in conns)
        if pooled != register.num_pooled or pooled > pool.options.pool_size:
            wrong.append(f"Q7 {register.num_pooled} pooled connections are counted, {pooled} there are")
        if register.num_idle > len(conns):
            wrong.append(f"Q7 {register.num_idle} connections count as idle, and {len(conns)} are open")
        in_hand = sum(conn.place in (Place.HAND, Place.BORROWED) and conn.pooled for conn in conns)
        if quiet:
            wrong += _at_rest(pool, register)
    if pool.phase == "closed" and register.closed and turns.waiting:
        wrong.append(f"Q4 {turns.waiting} callers are parked, and the pool is closed")
    if quiet and pool.phase != "closed" and turns.held != in_hand + _extras(conns):
        wrong.append(f"Q1 {turns.held} turns are held, and {in_hand} connections are in hands")
    wrong += turns.broken_rules()
    if quiet:
        wrong += [f"Q4 {sentence}" for conn in conns for sentence in conn.machine.check_quiet()]
    return wrong


def _extras(conns: list[PooledConn]) -> int:
    """Connections beyond the pool's size that came by a get; those of `new_conn` have no turn, and no program here
    keeps one over a check."""
    return sum(conn.place is Place.HAND and not conn.pooled for conn in conns)


def _places(register: ConnRegister, conns: list[PooledConn]) -> list[str]:
    wrong = []
    listed = [conn.conn_id for conn in register.idle]
    for conn in conns:
        times = listed.count(conn.conn_id)
        if times != (conn.place is Place.IDLE_LIST):
            wrong.append(f"Q3 {conn.name} is {conn.place.value}, and {times} times in the idle list")
        state = conn.machine.state
        # One that was closed under its caller, by a failover, leaves with its put.
        if conn.place is Place.HAND and state not in IN_HAND and not (state is _S.CLOSED and conn.close_on_put):
            wrong.append(f"S2 {conn.name} is in a caller's hand, and {state.value}")
        if conn.place is Place.IDLE_LIST and state is _S.IN_USE:
            wrong.append(f"S2 {conn.name} is in the idle list, and IN_USE")
    strangers = sorted(set(listed) - set(register.conns))
    if strangers:
        wrong.append(f"Q3 removed connections are in the idle list: {strangers}")
    return wrong


def _at_rest(pool: ConnPool, register: ConnRegister) -> list[str]:
    wrong = []
    for conn in register.conns.values():
        if conn.place is Place.HAND_OVER:
            wrong.append(f"Q3 {conn.name} was dialed and given to nobody")
        state = conn.machine.state
        if state is _S.UNUSABLE and not conn.owned_by:
            wrong.append(f"Q5 {conn.name} is UNUSABLE, and nobody owns it")
        if state is _S.CLOSED and not conn.close_on_put:
            wrong.append(f"Q3 {conn.name} is CLOSED, and still in the pool")
    dials = pool.dials
    if len(dials.wants):
        wrong.append(f"Q7 {len(dials.wants)} wants are queued")
    if dials.slots.held or register.dialing or register.warming:
        wrong.append(f"Q7 {dials.slots.held} dial slots are held, {register.dialing} dials are counted")
    return wrong


def demand(rule: str, holds: bool, sentence: str) -> None:
    """Raise InvariantBroken with this rule and sentence unless it holds. Thread: any."""
    if not holds:
        raise InvariantBroken("recipe", [f"{rule} {sentence}"])


def check_removed(conn: PooledConn) -> None:
    """A connection that has left the pool: CLOSED for good, its resource closed once, its hooks told once.

    Raises InvariantBroken. Thread: any, once nobody is in the middle of removing it.
    """
    wrong = []
    state = conn.machine.state
    if state is not _S.CLOSED:
        wrong.append(f"S6 {conn.name} was removed, and is {state.value}")
    if conn.closes != 1:
        wrong.append(f"S6 {conn.name} was removed, and closed {conn.closes} times")
    if conn.removals_told != 1:
        wrong.append(f"S6 {conn.name} was removed, and the hooks were told {conn.removals_told} times")
    if wrong:
        raise InvariantBroken(conn.name, wrong)
