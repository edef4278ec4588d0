"""Pool faults: bugs of the model, each of which can be switched on.

Role: the pool here follows the model with its faults mended. A search through orders has to be shown to find what
people found the hard way (or what nobody has reported yet), so each faulty form stands behind a name in `faults`. The
number in brackets is the bug's in the reference's list; the letters name what it breaks.

Thread: frozen, any. Upstream: see each sentence. Left out: faults that need real threads' memory order.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType

from coordemu.name_check import check_names

RELEASE_WITHOUT_NOTIFY = "release-without-notify"
NO_RECHECK = "no-recheck"
CANCEL_AGAINST_NOTIFY = "cancel-against-notify"
ZOMBIE_WAITER = "zombie-waiter"
LEAPFROG = "leapfrog"
CLOSE_WAKES_NOBODY = "close-wakes-nobody"
STORE_IDLE = "store-idle"
SHARED_CREATED = "shared-created"
ACQUIRE_BY_STORE = "acquire-by-store"
INIT_WINDOW = "init-window"
TURN_STOLEN = "turn-stolen"
TURN_WAKE_LOST = "turn-wake-lost"
TURN_DOUBLE_RELEASE = "turn-double-release"
TURN_SENT_UNLOCKED = "turn-sent-unlocked"
DOUBLE_FREE_TURN = "double-free-turn"
STALE_WANTS = "stale-wants"
NIL_CONTEXT = "nil-context"
POP_LAST_TRY = "pop-last-try"
REFUSAL_LEAKS_TURN = "refusal-leaks-turn"
MAX_ACTIVE_OVERSHOOT = "max-active-overshoot"
CLOSE_LEAVES_PARKED = "close-leaves-parked"
ZOMBIE_IDLE = "zombie-idle"
EVICTION_SKIPS_HOOK = "eviction-skips-hook"
TEARDOWN_SKIPPED = "teardown-skipped"
ONE_DIAL_TIMEOUT = "one-dial-timeout"
WARM_UP_COUNTS_EARLY = "warm-up-counts-early"
DOUBLE_PUT = "double-put"
STALE_PUT = "stale-put"
HANDOFF_ROLLBACK = "handoff-rollback"
FAILED_HANDOFF_IDLE = "failed-handoff-idle"

POOL_FAULTS: Mapping[str, str] = MappingProxyType({
    RELEASE_WITHOUT_NOTIFY: "[5] (#4027, section 1): a release moves the connection to IDLE and serves nobody; a "
    "re-authentication that waits for IDLE sleeps on beside it.",
    NO_RECHECK: "[5] (section 1): nobody looks at the state again between the fast path and the queue; a move in "
    "between is lost to the waiter.",
    CANCEL_AGAINST_NOTIFY: "(section 1): a wait that is cancelled while it is being granted gives up all the same: the "
    "count of waiters falls below zero, and the connection stays in the target state, owned by nobody.",
    ZOMBIE_WAITER: "(section 1): a waiter whose move failed is queued again as another element; its cancelling does "
    "not find that one, and the dead entry swallows a later move.",
    LEAPFROG: "[4] (#3777): the notifier reads the state again for each waiter; it changes in between, and a later "
    "waiter overtakes the first.",
    CLOSE_WAKES_NOBODY: "(section 1): closing wakes no waiter that does not wait for CLOSED; it sleeps on.",
    STORE_IDLE: "(sections 1 and 2): a worker that is done stores IDLE whatever the state is: it revives a closed "
    "connection, and takes IN_USE from one that a caller holds.",
    SHARED_CREATED: "(section 1): taking a connection that was never used leaves it CREATED, so that two takers both "
    "succeed when it is in the list twice.",
    ACQUIRE_BY_STORE: "(the first of the documents' five issues): taking a connection looks at its state and then "
    "stores the new one, instead of one compare-and-swap; a caller and a worker who come at once both have it.",
    INIT_WINDOW: "(section 1): the handshake leaves the connection IDLE before its caller takes it; a parked worker "
    "may take it first, and the caller is told that it is not usable.",
    TURN_STOLEN: "[8] (080a33c3): a release counts the turn as free and wakes a waiter; a late caller takes it first.",
    TURN_WAKE_LOST: "[8] (e4187375): between finding no turn and joining the line a release is missed.",
    TURN_DOUBLE_RELEASE: "[8] (e4187375, 3fd7e084): who is cancelled while it is served gives the turn back, and so "
    "does who serves it.",
    TURN_SENT_UNLOCKED: "[8] (dd630c7f): the waiter leaves the line under the lock and is served after it; a time-out "
    "in between loses the turn.",
    DOUBLE_FREE_TURN: "[1] (#3626): the connection of an abandoned dial goes to another waiter, and the dialer frees "
    "the turn that went with it.",
    STALE_WANTS: "[2] (#3680): a want whose caller has gone and whose dial failed stays in the queue for good.",
    NIL_CONTEXT: "[3] (#3649): the caller gives up before the dial has read the want's context; the dial fails on it.",
    POP_LAST_TRY: "(sections 2 and 5): a connection that is won on the last permitted try is dropped, in use for ever.",
    REFUSAL_LEAKS_TURN: "(sections 2 and 5): a hook's refusal of a fresh connection closes it and keeps the turn.",
    MAX_ACTIVE_OVERSHOOT: "(sections 2 and 5): the cap is looked at before the dial and once more, too generously, "
    "after it, never reserved: a herd goes beyond it.",
    CLOSE_LEAVES_PARKED: "(sections 2 and 5): callers parked for a turn when the pool closes wait for all of their "
    "time-out.",
    ZOMBIE_IDLE: "[10], [14] (#3764, #3546): what is closed while idle stays in the idle list, skipped and counted.",
    EVICTION_SKIPS_HOOK: "[13] (#3818, #3932): evicting what the idle list has no room for tells no hook.",
    TEARDOWN_SKIPPED: "[9] (#3982): a failed handshake marks the connection CLOSED itself, and the closing proper then "
    "finds nothing to do: the socket stays open.",
    ONE_DIAL_TIMEOUT: "[15] (#3705): one dial time-out spans all the attempts, so that none is made after the first.",
    WARM_UP_COUNTS_EARLY: "(section 2): a warm-up counts its connection as idle before it has dialed it.",
    DOUBLE_PUT: "(section 2): a second put of the same connection lists it again, and gives a turn back that was not "
    "taken.",
    STALE_PUT: "(section 2): a hand-out has no ticket; a second put of a connection that somebody else has by then "
    "takes it from that one.",
    HANDOFF_ROLLBACK: "[6] (#3872): taking back a mark that could not be queued is a plain store; it overwrites the "
    "clear of a worker that is done, and the connection is refused for ever.",
    FAILED_HANDOFF_IDLE: "(sections 2 and 5): a handoff that failed makes the connection IDLE before it removes it; a "
    "caller in between gets one that is closed under it.",
})  # fmt: skip


class UnknownPoolFault(ValueError):
    """No fault of the pool has that name; the message names the nearest one."""


def check_pool_faults(names: Collection[str]) -> frozenset[str]:
    """The names as a set. Raises UnknownPoolFault for one that is not in `POOL_FAULTS`. Thread: any."""
    return check_names(names, POOL_FAULTS, "fault of the pool", UnknownPoolFault)
