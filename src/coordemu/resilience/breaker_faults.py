"""Breaker faults: bugs of circuit breakers, each of which can be switched on.

Role: what people built wrong, or what nobody noticed, stands behind a name in `faults`, so that a search through orders
can be shown to find it, and the mended form to survive the same search. In brackets: who has it, or had it; "own":
something that the one here could have, and has not.

Thread: frozen, any. Upstream: see each sentence. Left out: faults that need real threads' memory order.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType

from coordemu.name_check import check_names

TWO_PROBES = "two-probes"
PERMITS_RESET_LATE = "permits-reset-late"
LOST_PERMIT_ON_CANCEL = "lost-permit-on-cancel"
LOST_PERMIT_ON_IGNORED = "lost-permit-on-ignored"
PERMIT_GIVEN_BACK_TWICE = "permit-given-back-twice"
NO_GENERATION = "no-generation"
LATE_FAILURE_RESTARTS_TIMER = "late-failure-restarts-timer"
PROBE_PANIC_JAMS = "probe-panic-jams"
HALF_OPEN_FOR_EVER = "half-open-for-ever"
OPENS_TWICE = "opens-twice"
FAILURE_COUNT_LOST = "failure-count-lost"
CALM_SAID_LATE = "calm-said-late"
EVENTS_OUT_OF_ORDER = "events-out-of-order"
EVENTS_UNDER_LOCK = "events-under-lock"
LOCK_ACROSS_CALL = "lock-across-call"
RAW_CLOCK = "raw-clock"

BREAKER_FAULTS: Mapping[str, str] = MappingProxyType({
    TWO_PROBES: "[own; purgatory and circuitbreaker have no limit at all] Looking for a free permit and taking it are "
    "two steps; two callers both find the last one.",
    PERMITS_RESET_LATE: "[resilience4j #1432] The half-open state is there for all to see before its permits are "
    "counted anew; what was taken in between is forgotten.",
    LOST_PERMIT_ON_CANCEL: "[resilience4j #544] A probe that is cancelled keeps its permit; nobody gets through again.",
    LOST_PERMIT_ON_IGNORED: "[resilience4j #544] A probe whose error does not count keeps its permit; nobody gets "
    "through again.",
    PERMIT_GIVEN_BACK_TWICE: "[own] A watchdog cancels a probe in the moment in which it ends, and both give its "
    "permit back; two others go together.",
    NO_GENERATION: "[circuitbreaker] A result is taken for one of the present state: the success of a call from before "
    "the outage closes a breaker whose probe has not come back.",
    LATE_FAILURE_RESTARTS_TIMER: "[circuitbreaker] A failure that comes while the breaker is open starts the open time "
    "again; slow calls that end one after the other keep it open.",
    PROBE_PANIC_JAMS: "[own] A probe that ends with what is no Exception settles nothing, and its permit is gone.",
    HALF_OPEN_FOR_EVER: "[resilience4j #935] A probe that never comes back keeps the breaker half-open for good.",
    OPENS_TWICE: "[own] Deciding to open and opening are two steps; two failures that come at once both open it, which "
    "counts as two outages for the back-off.",
    FAILURE_COUNT_LOST: "[own] The failures in a row are read and written in two steps; of two that come at once one "
    "is lost.",
    CALM_SAID_LATE: "[own] That a success has nothing to forget is said after the lock, when a failure may have come "
    "again; successes then go by without a look, and failures with successes between them open the breaker.",
    EVENTS_OUT_OF_ORDER: "[own] Whoever moves the breaker tells the listeners by himself, after the lock; two moves "
    "are told in the wrong order.",
    EVENTS_UNDER_LOCK: "[gobreaker] Listeners are called under the lock; one that asks the breaker anything, or waits "
    "for somebody who does, hangs.",
    LOCK_ACROSS_CALL: "[pybreaker] One lock is held for the whole call; calls that need each other hang, the others go "
    "one by one.",
    RAW_CLOCK: "[pybreaker, purgatory] The end of the open time is a moment of a clock that can be set back; the "
    "breaker then stays open for as long as the clock is behind.",
})  # fmt: skip


class UnknownBreakerFault(ValueError):
    """No fault of the breaker has that name; the message names the nearest one."""


def check_breaker_faults(names: Collection[str]) -> frozenset[str]:
    """The names as a set. Raises UnknownBreakerFault for one that is not in `BREAKER_FAULTS`. Thread: any."""
    return check_names(names, BREAKER_FAULTS, "fault of the breaker", UnknownBreakerFault)
