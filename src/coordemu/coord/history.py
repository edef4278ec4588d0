"""Historical faults: bugs that upstream has had and fixed, each of which can be switched on again.

Role: the port follows upstream with its fixes in. A search through orders has to be shown to find what people found
the hard way, so the form before a fix is kept under a switch: `CoordinatorOptions.faults` names those that are on, and
hands them down to the pool. A fault is one of upstream's pool, so with any of them on the pool is upstream's, whatever
the policy: `coordemu-safe` then reduces it by PR 7410's admin jobs, or as the fault says.

Thread: frozen, any. Upstream: see each sentence. Left out: faults of connections; none of upstream's left anything
waiting.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType

from coordemu.name_check import check_names

STATE_READ_OUTSIDE_LOCK = "state-read-outside-lock"
NO_WORKER_MARK = "no-worker-mark"
SYNC_REDUCE = "sync-reduce"

HISTORICAL_FAULTS: Mapping[str, str] = MappingProxyType({
    STATE_READ_OUTSIDE_LOCK: "MOD-17351, before PR 10671: a submitter looks at the pool's state after its push, "
    "outside the lock, and takes a pool in the middle of its initialisation for a draining one; it waits for threads "
    "one of which waits for it.",
    NO_WORKER_MARK: "MOD-16667, before PR 10337: a worker that pushes to its own pool, while that drains or is being "
    "initialised, waits at the barrier for all its threads, and is one of them.",
    SYNC_REDUCE: "MOD-11658, before PR 7410: whoever reduces the workers waits at the barrier until each has heard; "
    "main does so with the module lock held, which a worker may need first.",
})  # fmt: skip


class UnknownFault(ValueError):
    """No historical fault has that name; the message names the nearest one."""


def check_faults(names: Collection[str]) -> frozenset[str]:
    """The names as a set. Raises UnknownFault for one that is not in `HISTORICAL_FAULTS`. Thread: any."""
    return check_names(names, HISTORICAL_FAULTS, "historical fault", UnknownFault)
