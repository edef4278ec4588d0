"""Key: one setting: where it stands, of what kind it is, what it may be, and what it means.

Role: the settings' dataclasses (`settings`) declare each field with `whole`, `number`, `switch` or `word`; from that
come the checks of a file and of the environment, the errors with their bounds, the listing of `coordemu config` and the
table of the documentation. There is no second list of keys anywhere.

A complaint names the bound and nothing else; who complains (a file and its line, a variable) is the reader's to say.

Thread: values, any. Upstream: none. Left out: lists and tables as values; no setting needs one. Bounds: every number
has two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

Value = int | float | bool | str
WHOLE, NUMBER, SWITCH, WORD = "whole number", "number", "switch", "word"
_LONGEST_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Key:
    """A setting. section, name: where.  kind: one of the four.  low, high: of numbers, both allowed.  words: of words.
    meaning: a sentence or less."""

    section: str
    name: str
    kind: str
    default: Value
    low: float = 0
    high: float = 0
    words: tuple[str, ...] = ()
    meaning: str = ""

    @property
    def bounds(self) -> str:
        """What it may be, in words."""
        if self.kind == SWITCH:
            return "true or false"
        if self.kind == WORD:
            return " or ".join(f'"{word}"' for word in self.words)
        return f"{shown(_plain(self.low))} to {shown(_plain(self.high))}"

    @property
    def variable(self) -> str:
        """The environment's name for it."""
        return f"COORDEMU_{self.section}_{self.name}".upper()

    def check(self, value: object) -> str:
        """What is wrong with a value of it, in words that go on after its name; "" when nothing is. Thread: any."""
        if self.kind == SWITCH:
            return "" if isinstance(value, bool) else f"{shown(value)} is neither true nor false"
        if self.kind == WORD:
            wrong = not isinstance(value, str) or value not in self.words
            return f"{shown(value)} is not {self.bounds}{self._near(value)}" if wrong else ""
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole and (self.kind == WHOLE or not isinstance(value, float) or not math.isfinite(value)):
            return f"{shown(value)} is not a {self.kind} ({self.bounds})"
        assert isinstance(value, int | float)
        if value < self.low:
            return f"{shown(value)} is below {shown(_plain(self.low))} ({self.bounds})"
        if value > self.high:
            return f"{shown(value)} is above {shown(_plain(self.high))} ({self.bounds})"
        return ""

    def taken(self, value: Value) -> Value:
        """A value that was checked, as the field holds it: a whole number that stands for a number becomes one."""
        return float(value) if self.kind == NUMBER else value

    def parse(self, text: str) -> Value | None:
        """The value that a text of the environment means; None when it is none of this kind. Not checked yet."""
        stripped = text.strip()
        if self.kind == WORD:
            return stripped
        if self.kind == SWITCH:
            return {"true": True, "false": False}.get(stripped.lower())
        try:
            return int(stripped) if self.kind == WHOLE else float(stripped)
        except ValueError:
            return None

    def _near(self, value: object) -> str:
        near = nearest(value, self.words, 0.5) if isinstance(value, str) else None
        return f"; did you mean {near!r}?" if near else ""


def _plain(bound: float) -> int | float:
    return int(bound) if bound == int(bound) else bound


def shown(value: object) -> str:
    """A value as an error shows it: on one line, and not endless."""
    try:
        text = repr(value)
    except ValueError:  # a whole number of more digits than Python writes
        return "a number of thousands of digits"
    if isinstance(value, bool):
        text = text.lower()
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 3] + "..."


def nearest(name: object, known: Sequence[str] | Mapping[str, object], cutoff: float = 0.0) -> str | None:
    """The known name that looks most like it; None when none is like it by `cutoff` (0 to 1)."""
    found = get_close_matches(str(name)[:200], list(known), n=1, cutoff=cutoff)
    return found[0] if found else None


def whole(default: int, low: int, high: int, meaning: str) -> int:
    """A field that holds a whole number from low to high."""
    found: int = _field(default, WHOLE, meaning, low=low, high=high)
    return found


def number(default: float, low: float, high: float, meaning: str) -> float:
    """A field that holds a number from low to high."""
    found: float = _field(default, NUMBER, meaning, low=low, high=high)
    return found


def switch(default: bool, meaning: str) -> bool:
    """A field that is on or off."""
    found: bool = _field(default, SWITCH, meaning)
    return found


def word(default: str, words: tuple[str, ...], meaning: str) -> str:
    """A field that holds one of some words."""
    found: str = _field(default, WORD, meaning, words=words)
    return found


def _field(default: Value, kind: str, meaning: str, **more: Any) -> Any:
    return field(default=default, metadata={"kind": kind, "meaning": meaning, **more})


def keys_of(section: str, settings: type) -> Mapping[str, Key]:
    """The keys that a dataclass declares, by name, in its order. Thread: any."""
    found: dict[str, Key] = {}
    for each in fields(settings):
        default: Any = each.default
        if "kind" in each.metadata:
            found[each.name] = Key(section, each.name, default=default, **each.metadata)
    return MappingProxyType(found)


def first_complaint(keys: Mapping[str, Key], values: object) -> tuple[str, str] | None:
    """The first key whose value (an attribute of that name) is out of its bounds, and what is wrong. Thread: any."""
    for name, key in keys.items():
        wrong = key.check(getattr(values, name))
        if wrong:
            return name, wrong
    return None
