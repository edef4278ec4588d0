"""OrderVerdict: what one order adds up to, in a word, and the failure with its signature.

Role: `coordemu.lab.verdict` for an order in the simulator, in the same words and the same order of importance, and two
more: "leaked" and "broken" (see `coordemu.lab.oracles`), which no run on real threads has shown. Whatever is not
healthy is a failure, and has a signature. The rules, in order:

* deadlocked: main can't go on, or tasks wait in a cycle, and no time limit changes that.
* unresponsive: main is not stuck, and yet answers no more; or it took the watchdog's time over a PING.
* lost: nothing will ever happen again, and a query has no outcome.
* broken: a task or a job raised, the order has no end, or an oracle's condition does not hold.  leaked: as said there.
* refused: a CONFIG SET was answered with an error.
* degraded: a query failed, or PING or the queries stood still for more than a second.

A query that fails because its node was killed by the scenario, or by its chaos, is the node's fault: the error must
name that node. On the explored clock time may pass while everybody could go on, so gaps say nothing there, and are not
judged.

Thread: pure. Upstream: none. Left out: figures that only real time can give.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import hiredis

from coordemu.explore.order import Failure
from coordemu.explore.signature import failure_of, of_chain, of_chains, without_numbers
from coordemu.lab.oracles import Breach
from coordemu.lab.order_load import OrderLoad
from coordemu.lab.verdict import GAP_LIMIT_MS
from coordemu.runtime.base import NS_PER_MS
from coordemu.runtime.sim_outcome import DEADLOCK, SimOutcome
from coordemu.runtime.wait_for import CYCLE, ORPHAN

HEALTHY = "healthy"
WATCHDOG_MS = 8000.0
MAIN = "main"
EXPLORED = "explored"


def failure_of_order(
    outcome: SimOutcome, load: OrderLoad | None, breaches: Sequence[Breach], forgiven: Collection[str], phase: str
) -> Failure | None:
    """None for a healthy order. load: None when it came to an end before there was one.  forgiven: words one of which
    stands in the error of a query that failed by a killed node's fault.  phase: what the lab was at."""
    if outcome.kind == DEADLOCK:
        return _of_standstill(outcome, load, phase)
    broken = failure_of(outcome)
    if broken is not None:
        return Failure("broken", ("broken", *broken.signature), broken.sentence)
    if load is None:
        return Failure("broken", ("broken", phase), f"the order ended in its {phase}")
    if load.under_way:
        return Failure("lost", ("lost", "at the end"), _lost(load))
    if breaches:
        first = breaches[0]
        return Failure(first.kind, (first.kind, *sorted({each.name for each in breaches})), first.sentence)
    return _of_answers(load, forgiven, gaps=outcome.schedule.clock != EXPLORED)


def _of_standstill(outcome: SimOutcome, load: OrderLoad | None, phase: str) -> Failure:
    stuck = failure_of(outcome)
    assert stuck is not None
    main = [chain for chain in outcome.chains if chain.steps[0] == MAIN]
    cycles = [chain for chain in outcome.chains if chain.kind == CYCLE]
    if cycles or any(chain.kind == ORPHAN for chain in main):
        # One bug may close several circles, more or fewer of them as the order goes: the smallest names it, one that
        # main stands in before others.
        circles = [chain for chain in cycles if MAIN in chain.steps] or cycles or main
        texts = [text for text in map(of_chain, circles) if text]
        return Failure(stuck.kind, (stuck.kind, min(texts, key=lambda text: (len(text), text))), stuck.sentence)
    causes = of_chains(outcome.chains)
    if load is not None and load.unanswered:
        said = f"{', '.join(load.unanswered)} never answered; main: {main[0].sentence if main else 'has ended'}"
        return Failure("unresponsive", ("unresponsive", *causes), said)
    if load is not None and load.under_way:
        return Failure("lost", ("lost", *causes), f"{_lost(load)}; {stuck.sentence}")
    return Failure("broken", ("broken", phase, *causes), f"{phase} does not end: {stuck.sentence}")


def _lost(load: OrderLoad) -> str:
    return f"{load.under_way} of {load.sent} queries never got an outcome"


def _of_answers(load: OrderLoad, forgiven: Collection[str], gaps: bool) -> Failure | None:
    ping_ms, gap_ms = load.max_ping_ns / NS_PER_MS * gaps, load.max_gap_ns / NS_PER_MS * gaps
    if ping_ms >= WATCHDOG_MS:
        return Failure("unresponsive", ("unresponsive", "PING"), f"a PING took {ping_ms:.0f} ms")
    refusals = [str(reply) for _, reply in load.answers if isinstance(reply, hiredis.ReplyError)]
    if refusals:
        return Failure("refused", ("refused", without_numbers(refusals[0])), refusals[0])
    failures = [text for text in load.failures if not any(word in text for word in forgiven)]
    reasons: list[tuple[str, str]] = []
    if failures:
        reasons.append((without_numbers(failures[0]), f"{len(failures)} of {load.sent} queries failed: {failures[0]}"))
    if ping_ms > GAP_LIMIT_MS:
        reasons.append(("PING stood still", f"a PING took {ping_ms:.0f} ms"))
    if gap_ms > GAP_LIMIT_MS:
        reasons.append(("queries stood still", f"no query ended for {gap_ms:.0f} ms"))
    if not reasons:
        return None
    return Failure("degraded", ("degraded", *(name for name, _ in reasons)), "; ".join(text for _, text in reasons))
