"""Signatures: a failure without the numbers that differ from run to run.

Role: what makes two failures the same bug. A deadlock is named by its cycles (or dead ends): which kinds of tasks wait
for which things, digits struck out, each cycle begun at its smallest name. An exception is named by its type and the
function that raised it.

Thread: pure. Upstream: none. Left out: failures that only a subject understands (a lost query); it names those itself.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Sequence

from coordemu.explore.order import Failure
from coordemu.runtime.sim_outcome import DEADLOCK, ERROR, STEP_LIMIT, SimOutcome
from coordemu.runtime.wait_for import CYCLE, ORPHAN, Chain

_NUMBER = re.compile(r"\d+")


def without_numbers(text: str) -> str:
    """The text with every number replaced by #."""
    return _NUMBER.sub("#", text)


def of_chain(chain: Chain) -> str:
    """A cycle from its smallest name on; of a dead end its last two steps; "" for a chain that is neither."""
    steps = [without_numbers(step) for step in chain.steps]
    if chain.kind == CYCLE:
        # From the right: a task and the end of it that a joiner waits for bear the same name.
        again = max(at for at, step in enumerate(chain.steps[:-1]) if step == chain.steps[-1])
        ring = steps[again:-1]
        at = min(range(len(ring)), key=lambda turn: ring[turn:] + ring[:turn])
        return "cycle: " + " > ".join(ring[at:] + ring[:at])
    if chain.kind == ORPHAN:
        return "orphan: " + " > ".join(steps[-2:])
    return ""


def of_chains(chains: Sequence[Chain]) -> tuple[str, ...]:
    """What is stuck, each kind of it once: the cycles if there are any, else the dead ends."""
    said = sorted({text for text in map(of_chain, chains) if text})
    cycles = tuple(text for text in said if text.startswith("cycle"))
    return cycles or tuple(said)


def of_error(error: BaseException) -> tuple[str, ...]:
    """Its type, and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return (type(error).__name__, frames[-1].name if frames else "")


def failure_of(outcome: SimOutcome) -> Failure | None:
    """The failure that the runtime itself saw: a deadlock, an exception, too many steps. None when there is none."""
    if outcome.kind == DEADLOCK:
        stuck = [chain for chain in outcome.chains if chain.kind in (CYCLE, ORPHAN)]
        main = [chain for chain in stuck if chain.steps[0] == "main"] or stuck
        sentence = main[0].sentence if main else "nothing can run any more"
        return Failure("deadlocked", ("deadlocked", *of_chains(outcome.chains)), sentence)
    if outcome.kind == ERROR and outcome.error is not None:
        return Failure("error", ("error", *of_error(outcome.error)), f"{type(outcome.error).__name__}: {outcome.error}")
    if outcome.kind == STEP_LIMIT:
        return Failure("livelock", ("livelock",), f"no end after {outcome.steps} steps")
    return None
