"""Verdict: what a run's figures add up to, in one word and one sentence.

Role: the only place where "healthy" is defined. The rules, in order:

* deadlocked: main's chain of waits closes on itself, or ends at something that nobody will bring about.
* unresponsive: main answered no PING for the watchdog's time, and no such chain was found.
* lost: a query ended without an outcome although main lives.
* refused: the CONFIG SET was answered with an error and changed nothing.
* degraded: a query failed, or PING or the queries stood still for more than a second, but everything went on again.
* healthy: none of these.

A stall of the queries counts as degraded, beyond the design's wording, because a drain that sleeps on the I/O thread
stops every query for five seconds while PING is answered: calling that healthy would be a lie.

Thread: pure. Upstream: none. Left out: latency percentiles, which say how a run feels but not whether it is broken.
"""

from __future__ import annotations

from coordemu.lab.result import PingSums, QuerySums

GAP_LIMIT_MS = 1000.0


def judge(hang: str, hang_sentence: str, config_set_error: str, queries: QuerySums, ping: PingSums) -> tuple[str, str]:
    """The verdict and why. hang: "deadlocked", "unresponsive" or "" as the watchdog found."""
    if hang:
        return hang, hang_sentence
    if queries.lost:
        return "lost", f"{queries.lost} of {queries.sent} queries never got an outcome"
    if config_set_error:
        return "refused", config_set_error
    reasons = []
    if queries.failed:
        reasons.append(f"{queries.failed} of {queries.sent} queries failed")
    if ping.max_gap_ms > GAP_LIMIT_MS:
        reasons.append(f"PING stood still for {ping.max_gap_ms:.0f} ms")
    if queries.max_gap_ms > GAP_LIMIT_MS:
        reasons.append(f"no query ended for {queries.max_gap_ms:.0f} ms")
    if reasons:
        return "degraded", "; ".join(reasons)
    return "healthy", f"all {queries.sent} queries replied, longest PING gap {ping.max_gap_ms:.0f} ms"
