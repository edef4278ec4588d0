"""Section: what the report of a failed test says of the order that fails.

Role: words only. How many orders were played, the order itself as lanes, who waits for whom and where each task
stands, the nearest order that passes, and how to have it again.

Thread: pytest's. Upstream: none. Left out: colours; a report may be read in a log.
"""

from __future__ import annotations

from collections.abc import Sequence

from coordemu.explore.lanes import lanes
from coordemu.explore.order import Played
from coordemu.pytest_interleavings.hunt import Caught, Searched
from coordemu.pytest_interleavings.settings import Settings
from coordemu.runtime.sim_outcome import DEADLOCK

TITLE = "coordemu: the order that fails"
LANES_KEPT = 40
FRAMES_KEPT = 3
# Frames of the machinery say nothing about where a task stands.
_MACHINERY = ("/coordemu/runtime/", "/coordemu/explore/", "/coordemu/pytest_interleavings/item_subject.py", "/_pytest/")


def count_of(searched: Searched, settings: Settings, examples: int = 1) -> str:
    """What was played, in words."""
    of_examples = f" of {examples} examples" if examples > 1 else ""
    return f"{_counted(searched.orders, 'order')}{of_examples} ({_way(settings)}), {_counted(searched.steps, 'step')}"


def place_of(searched: Searched, settings: Settings) -> str:
    """Which order was the last, in words."""
    return f"order {searched.orders} of {settings.n} ({_way(settings)}; {_counted(searched.steps, 'step')} so far)"


def _counted(number: int, what: str) -> str:
    ending = "es" if what.endswith("ch") else "s"
    return f"{number} {what}{'' if number == 1 else ending}"


def _way(settings: Settings) -> str:
    clock = f", clock {settings.clock}" if settings.clock is not None else ""
    return f"{settings.strategy}, seed {settings.seed}{clock}"


def section(caught: Caught, place: str, saved: str, command: str) -> str:
    """The text. place: which order it was.  saved: where the file is.  command: what replays it."""
    played = caught.played
    assert played.failure is not None
    parts = [[f"{played.failure.kind}, in {place}", played.failure.sentence.splitlines()[0]]]
    parts.append(_order(caught))
    if played.outcome.kind == DEADLOCK:
        parts.append(["who waits for whom:", *_indented(played.outcome.wait_for.splitlines())])
        parts.append(["where they stand:", *_indented(_stacks(played))])
    if caught.shrunk is not None and caught.shrunk.sentence:
        parts.append([caught.shrunk.sentence])
    parts.append([f"schedule: {saved}", f"replay:   {command}"])
    return "\n\n".join("\n".join(part) for part in parts)


def _order(caught: Caught) -> list[str]:
    shrunk, schedule = caught.shrunk, caught.played.schedule
    steps = len(schedule.steps)
    if caught.doubt:
        head = (
            f"the order could not be repeated ({caught.doubt}): the test depends on something that the simulator does "
            "not decide, as on what an earlier order left behind; "
            f"{_counted(steps, 'step')} as taken"
        )
    elif shrunk is not None:
        switches = (
            f"shrunk from {_counted(shrunk.switches_before, 'switch')} to {shrunk.switches}"
            if shrunk.switches < shrunk.switches_before
            else f"{_counted(shrunk.switches, 'switch')}, none fewer found"
        )
        head = f"the order, {switches} in {_counted(shrunk.runs, 'run')}; {_counted(steps, 'step')}"
    else:
        head = f"the order, {_counted(schedule.switches, 'switch')} in {_counted(steps, 'step')}"
    if steps > LANES_KEPT:
        head += f", the last {LANES_KEPT}"
    return [f"{head}:", *_indented(lanes(schedule, last=LANES_KEPT))]


def _stacks(played: Played) -> list[str]:
    lines = []
    for task, frames in played.outcome.stacks.items():
        # A task that is in nothing but its loop has no place worth telling.
        told = [frame for frame in frames if not any(part in frame for part in _MACHINERY)]
        if told:
            lines += [task, *_indented(told[-FRAMES_KEPT:])]
    return lines


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"  {line}" for line in lines]
