"""Limiter faults: bugs of rate limiters and bulkheads, each of which can be switched on.

Role: the limiters here have none of these; a search through orders has to be shown to find them, so each faulty form
stands behind a name in `faults`. They are what the field has had, or what one writes at first.

Thread: frozen, any. Upstream: the semaphores' are those of `pool.pool_faults`. Left out: faults of real threads' memory
order.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

PERMIT_STOLEN = "permit-stolen"
PERMIT_WAKE_LOST = "permit-wake-lost"
PERMIT_DOUBLE_RELEASE = "permit-double-release"
PERMIT_LOST_ON_CANCEL = "permit-lost-on-cancel"
PERMIT_BY_STORE = "permit-by-store"
PLACE_NOT_HANDED_ON = "place-not-handed-on"
TOKENS_STOLEN = "tokens-stolen"
SMALL_FIRST = "small-first"
SPEND_BY_STORE = "spend-by-store"
CLOCK_BEFORE_STATE = "clock-before-state"
REFILL_DRIFTS = "refill-drifts"
CANCEL_REFUNDS = "cancel-refunds"
LOG_LOOKS_THEN_NOTES = "log-looks-then-notes"

BULKHEAD_FAULTS = frozenset({
    PERMIT_STOLEN, PERMIT_WAKE_LOST, PERMIT_DOUBLE_RELEASE, PERMIT_LOST_ON_CANCEL, PERMIT_BY_STORE,
})  # fmt: skip
BUCKET_FAULTS = frozenset({
    PLACE_NOT_HANDED_ON, TOKENS_STOLEN, SMALL_FIRST, SPEND_BY_STORE, CLOCK_BEFORE_STATE, REFILL_DRIFTS, CANCEL_REFUNDS,
})  # fmt: skip
LOG_FAULTS = frozenset({LOG_LOOKS_THEN_NOTES})

LIMITER_FAULTS: Mapping[str, str] = MappingProxyType({
    PERMIT_STOLEN: "A release counts the permit as free and wakes a waiter; a late caller takes it first, and the one "
    "who waits is overtaken.",
    PERMIT_WAKE_LOST: "Between finding no permit and joining the line a release is missed; the waiter sleeps on beside "
    "a free permit.",
    PERMIT_DOUBLE_RELEASE: "Who is cancelled while it is served gives the permit back, and so does who serves it: one "
    "more may come in than there are permits.",
    PERMIT_LOST_ON_CANCEL: "Who is cancelled in the moment in which it is served goes away with the permit.",
    PERMIT_BY_STORE: "Taking a permit reads the count and then stores it, less one; two callers who come at once have "
    "the same permit.",
    PLACE_NOT_HANDED_ON: "The head of the line gives up and wakes nobody; the next one, who does not look at the clock "
    "until it is the head, sleeps for ever.",
    TOKENS_STOLEN: "A caller who need not wait takes tokens past the line; a big request may never find enough.",
    SMALL_FIRST: "The line is served by size: a small request overtakes a big one that came before it (a limiter of "
    "the field keeps its waiters in a heap by amount).",
    SPEND_BY_STORE: "Taking tokens reads the level and then stores the new one; two callers who come at once both "
    "spend the same tokens.",
    CLOCK_BEFORE_STATE: "The clock is read before the level. When another caller has spent by a later clock meanwhile, "
    "this one takes it for a clock that went back, sets the level by its old time, and what passed since then is "
    "credited twice.",
    REFILL_DRIFTS: "Each look refills whole tokens only, rounded up to the next, and counts from then on: many looks "
    "give more than the rate.",
    CANCEL_REFUNDS: "Who is cancelled while it waits gives back the tokens that it would have taken.",
    LOG_LOOKS_THEN_NOTES: "The log is looked at under the lock, and the unit noted under it again: two callers who "
    "come at once both find the last place.",
})  # fmt: skip
