"""Nearest: the passing order that has most in common with a failing one, and the one switch that decides.

Role: the last word of a shrunk failure. The failing order is taken exactly up to one of its choices, the latest first;
there another actor goes instead, and after that either everybody runs on, or the rest of the order is followed. The
first such run that passes shows what decides: up to there both orders are the same, and from the failing one's choice
on it can no longer be helped by a single other choice. When no single choice helps, the same is tried with what is
drawn in place of the rest; the sentence then says "could" for "would". Choices at which the order switched, and picks
that were not the plain case, are tried before those at which it went on.

Thread: any, one run at a time per OS thread. Upstream: none. Left out: orders that differ in more than one choice.
Bounds: `limit` runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from coordemu.explore.lanes import route
from coordemu.explore.order import Failure, Played
from coordemu.explore.segments import Follow, Picks, Segment, chosen_in, picks_of, segments_of
from coordemu.runtime.sim_schedule import CLOCK_NAME, PICK_KEY, RandomWalk, Replay, Schedule, Step, Strategy
from coordemu.runtime.sim_task import Actor

# Drawn continuations per other choice.
DRAWN = 4
_VERBS = {"deadlocked": "hangs", "livelock": "does not end"}


class Choices(Replay):
    """A replay that notes what could have gone instead. `others`: index of a step -> (key, label) of the others."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__(schedule)
        self._length = len(schedule.steps)
        self.others: dict[int, list[Step]] = {}

    def choose(self, enabled: Sequence[Actor], last: Actor) -> Actor:
        """The recorded actor."""
        chosen = super().choose(enabled, last)
        if len(enabled) > 1:
            at = self._length - self.left - 1
            self.others[at] = [(actor.key, actor.label) for actor in enabled if actor is not chosen]
        return chosen


@dataclass(frozen=True, slots=True)
class Nearest:
    """What was found. passing: None when nothing that was tried helps.  sentence: in words.  runs: how many it took."""

    passing: Schedule | None
    sentence: str
    runs: int


def nearest(
    run: Callable[[Strategy], Played],
    schedule: Schedule,
    failure: Failure,
    limit: int,
    others: dict[int, list[Step]],
    ports: Mapping[str, str] | None = None,
) -> Nearest:
    """Look for it. run: plays the subject with a strategy.  others: what `Choices` noted.  limit: runs, 0 or more.
    ports: names for the sentence (`coordemu.explore.lanes.route`)."""
    runs = 0
    steps = schedule.steps
    verb = _VERBS.get(failure.kind, "fails")
    for would, ways in (("would", _ways), ("could", _drawn_ways)):
        for at, key, label in _alternatives(steps, others):
            for follow in ways(steps, at, key):
                if runs >= limit:
                    return Nearest(None, f"it {verb} in this order; none that passes was found in {runs} others", runs)
                runs += 1
                played = run(follow)
                if played.failure is None and played.outcome.ok:
                    return Nearest(played.schedule, _sentence(steps, at, key, label, verb, would, ports or {}), runs)
    if not runs:
        return Nearest(None, f"it {verb}, and nothing could have come in another order", 0)
    return Nearest(None, f"it {verb}, and no single other choice in this order helps ({runs} were tried)", runs)


def _alternatives(steps: Sequence[Step], others: dict[int, list[Step]]) -> Iterator[tuple[int, str, str]]:
    """(index, key, label) of what could have come instead: at switches and picks, the latest first; then elsewhere."""
    befores = {at: before for at, before in _befores(steps).items() if before != steps[at][0]}
    picks = {at for at, (key, label) in enumerate(steps) if key == PICK_KEY and chosen_in(label)}
    for at in sorted({*others, *picks}, key=lambda at: (at in befores or at in picks, at), reverse=True):
        if at in picks:
            yield at, PICK_KEY, ""
        before = befores.get(at, "")
        # Who was left comes first, the clock last.
        for key, label in sorted(others.get(at, ()), key=lambda step: (step[0] != before, step[0] == CLOCK_NAME)):
            yield at, key, label


def _befores(steps: Sequence[Step]) -> dict[int, str]:
    """For each step whose the step before it was; picks are no steps here."""
    found: dict[int, str] = {}
    before = ""
    for at, (key, _) in enumerate(steps):
        if key != PICK_KEY:
            found[at] = before or key
            before = key
    return found


def _ways(steps: Sequence[Step], at: int, key: str) -> Iterator[Follow]:
    """Up to the step, then the other until it blocks, and then everybody on, or the rest as it was."""
    kept = segments_of(steps[:at])
    picks = picks_of(steps)
    whole = segments_of(steps)
    if key == PICK_KEY:
        before = picks_of(steps[:at])
        yield _follow(whole, before)
        rest = {where: choice for where, choice in picks.items() if where in before or where in _after(steps, at)}
        yield _follow(whole, rest)
        return
    yield _follow((*kept, (key, None)), picks)
    same = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(kept, whole, strict=False))))
    yield _follow((*kept, (key, None), *whole[same:]), picks)


def _drawn_ways(steps: Sequence[Step], at: int, key: str) -> Iterator[Follow]:
    """Up to the step, then the other for one step, and then whoever is drawn."""
    if key == PICK_KEY:
        return
    kept = segments_of(steps[:at])
    until = 1 + max((until or 0 for each, until in kept if each == key), default=0)
    for seed in range(DRAWN):
        yield _follow((*kept, (key, until)), picks_of(steps[:at]), RandomWalk(seed))


def _follow(segments: Sequence[Segment], picks: Picks, tail: Strategy | None = None) -> Follow:
    return Follow(segments, picks, "nearest passing", tail.choose if tail is not None else None)


def _after(steps: Sequence[Step], at: int) -> set[tuple[str, str, int]]:
    """The picks behind one."""
    return set(picks_of(steps)) - set(picks_of(steps[: at + 1]))


def _sentence(
    steps: Sequence[Step], at: int, other: str, label: str, verb: str, would: str, ports: Mapping[str, str]
) -> str:
    key, first = steps[at]
    if other == PICK_KEY:
        said, _, choice = first.rpartition(": ")
        what = f"choice {choice} fell at {route(said, ports)!r}"
        return f"it {verb} because at step {at + 1} {what}; with the plain one it {would} have passed"
    run = [text for _, text in takewhile(lambda step: step[0] in (key, PICK_KEY), steps[at:])]
    ran = f"{first!r}" if len(run) == 1 else f"{first!r} to {run[-1]!r}"
    what = "time passed" if key == CLOCK_NAME else f"{_named(key, first, ports)} ran ({ran})"
    if other == CLOCK_NAME:
        return (
            f"it {verb} because at step {at + 1} {what} before time did; had time passed first, it {would} have passed"
        )
    who = _named(other, label, ports)
    return (
        f"it {verb} because at step {at + 1} {what} while {who} was about to {label!r}; "
        f"had {who} gone first, it {would} have passed"
    )


def _named(key: str, label: str, ports: Mapping[str, str]) -> str:
    """What an actor is called in a sentence."""
    if label.startswith("deliver "):
        return f"the delivery from {route(key, ports)}"
    return f"the handshake with {route(key, ports)}" if label == "arrive" else key
