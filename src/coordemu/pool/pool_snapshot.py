"""PoolSnapshot: where every turn and every connection of a pool is, at one moment, as plain values.

Role: what a live table, a report or an error shows. The books are read under the pool's lock, so each connection stands
in one place; turns and waiting callers are read beside it, and may be of a moment later.

Thread: frozen, any. Upstream: PoolStats, which has counters alone; nothing there says what state a connection is in.
Left out: history. Bound: one entry per open connection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordemu.pool.conn_register import ConnRegister
from coordemu.pool.pool_errors import Occupancy
from coordemu.pool.pooled_conn import ConnSnapshot
from coordemu.pool.turns import Turns

if TYPE_CHECKING:
    from coordemu.pool.queued_dials import QueuedDials


@dataclass(frozen=True, slots=True)
class PoolSnapshot:
    """A look at a pool.

    phase: "open", "draining", "closed".  turns_held: by callers, dials and drainers.  pending: callers that have no
    connection yet: in line, or with a turn and without one.  total: open connections.  listed: of them in the idle
    list, unusable ones too.  wants: callers whose dials are under way, or were.
    """

    name: str
    phase: str
    occupancy: Occupancy
    turns_held: int
    pending: int
    total: int
    listed: int
    wants: int
    conns: tuple[ConnSnapshot, ...]


def snapshot_of(name: str, phase: str, register: ConnRegister, turns: Turns, dials: QueuedDials) -> PoolSnapshot:
    """Look. Thread: any. May block shortly, for the register's lock."""
    with register.lock:
        waiting = turns.waiting
        held = turns.held
        occupancy = register.occupancy_locked(waiting)
        conns = tuple(conn.snapshot() for conn in register.conns.values())
        listed = register.num_idle
        warming = register.warming
    searching = max(0, held - occupancy.in_use - warming)
    return PoolSnapshot(
        name, phase, occupancy, held, waiting + searching, len(conns), listed, len(dials.wants), conns
    )  # fmt: skip
