"""Phrases: a list of steps written short, and still so that a person can read it.

Role: the body of a schedule file. Consecutive steps of one actor are a *segment*: its key, then its labels. Tasks of
one kind take the same steps again and again, so sequences that come back are phrases: written once, with a number, and
named by that number wherever they come. Phrases hold labels only, never other phrases.

    segments: [["main", "acquire lock", 1], ["worker-2", "start", 1]]    phrases: {"1": ["read n", "write n"]}

The phrases are found by pairing: the pair of neighbours that comes most often becomes one symbol, as long as that makes
the text shorter.

Thread: pure. Upstream: none. Left out: anything that a reader would need a program for. Bounds: linear in the text per
phrase made; at most MAX_PHRASES of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise

from coordemu.runtime.sim_schedule import ScheduleError, Step

MAX_PHRASES = 200
# Making a phrase looks at every step; so long schedules get fewer.
MAX_LOOKS = 4_000_000
# What a phrase costs beyond its labels, in characters: its number, quotes, brackets, the line.
_PHRASE_COST = 12

Segment = list[str | int]
# While phrases are made: the labels that one symbol stands for.
_Symbol = tuple[str, ...]


def fold(steps: Sequence[Step]) -> tuple[dict[str, list[str]], list[Segment]]:
    """The phrases by number, and the segments, of a list of steps. `unfold` gives the steps back."""
    keys: list[str] = []
    rows: list[list[_Symbol]] = []
    for key, group in groupby(steps, key=lambda step: step[0]):
        keys.append(key)
        rows.append([(label,) for _, label in group])
    for _ in range(min(MAX_PHRASES, MAX_LOOKS // max(len(steps), 1))):
        pairs = Counter(pair for row in rows for pair in _pairs(row))
        uses = Counter(symbol for row in rows for symbol in row)
        # The first of equals, so that the same steps make the same file.
        gains = {pair: _gain(pair, count, uses) for pair, count in pairs.items() if count > 1}
        best = max(gains, key=gains.__getitem__, default=None)
        if best is None or gains[best] <= 0:
            break
        rows = [_join(row, best) for row in rows]
    used = Counter(symbol for row in rows for symbol in row if len(symbol) > 1)
    numbers: dict[_Symbol, int] = {}
    segments: list[Segment] = []
    for key, row in zip(keys, rows, strict=True):
        segment: Segment = [key]
        for symbol in row:
            if used[symbol] > 1:
                segment.append(numbers.setdefault(symbol, len(numbers) + 1))
            else:
                segment.extend(symbol)
        segments.append(segment)
    return {str(number): list(symbol) for symbol, number in numbers.items()}, segments


def _pairs(row: Sequence[_Symbol]) -> list[tuple[_Symbol, _Symbol]]:
    """The neighbours of a row; of three equal ones only the first pair, for the second would overlap it."""
    found: list[tuple[_Symbol, _Symbol]] = []
    overlaps = False
    for pair in pairwise(row):
        overlaps = bool(found) and not overlaps and pair == found[-1] and pair[0] == pair[1]
        if not overlaps:
            found.append(pair)
    return found


def _gain(pair: tuple[_Symbol, _Symbol], count: int, uses: Mapping[_Symbol, int]) -> int:
    """Characters saved by writing a pair once. A symbol that is a phrase already costs a number, not its text; and its
    own line goes when the pair is all it is used for."""
    written = sum(len(symbol[0]) + 4 if len(symbol) == 1 else 4 for symbol in pair)
    once = _PHRASE_COST
    for symbol in pair:
        if len(symbol) == 1 or uses[symbol] > count:
            once += sum(len(label) + 4 for label in symbol)
        else:
            once -= _PHRASE_COST
    return count * (written - 4) - once


def _join(row: list[_Symbol], pair: tuple[_Symbol, _Symbol]) -> list[_Symbol]:
    joined: list[_Symbol] = []
    at = 0
    while at < len(row):
        if at + 1 < len(row) and (row[at], row[at + 1]) == pair:
            joined.append(pair[0] + pair[1])
            at += 2
        else:
            joined.append(row[at])
            at += 1
    return joined


def unfold(phrases: object, segments: object, count: object) -> tuple[Step, ...]:
    """The steps. count: how many there must be.

    Raises ScheduleError, with the step (from 1) that is wrong, for anything that `fold` did not write.
    """
    if not isinstance(phrases, Mapping) or not all(map(_is_phrase, phrases.values())):
        raise ScheduleError("its phrases are not lists of labels")
    if not isinstance(segments, list):
        raise ScheduleError("its segments are not a list")
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise ScheduleError(f"it says that it has {count!r} steps, which is no number of steps")
    steps: list[Step] = []
    for segment in segments:
        if not isinstance(segment, list) or len(segment) < 2 or not isinstance(segment[0], str):
            raise ScheduleError(f"step {len(steps) + 1} is {_short(segment)}, which is no actor with its labels")
        for item in segment[1:]:
            if isinstance(item, str):
                steps.append((segment[0], item))
                continue
            labels = phrases.get(str(item)) if isinstance(item, int) and not isinstance(item, bool) else None
            if labels is None:
                raise ScheduleError(f"step {len(steps) + 1}, of {segment[0]!r}, is {_short(item)}, which names nothing")
            steps.extend((segment[0], label) for label in labels)
            if len(steps) > count:
                break
        if len(steps) > count:
            raise ScheduleError(f"step {count + 1} is one more than the {count} that it says it has")
    if len(steps) < count:
        raise ScheduleError(f"step {len(steps) + 1} of {count} is missing: is it truncated?")
    return tuple(steps)


def _is_phrase(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(label, str) for label in value)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
