"""Durations and their distributions, as people write them: ``20ms``, ``10ms..30ms``, ``exp:20ms``.

Role: the one parser for times on the command line and in scenarios; results are in integer nanoseconds.
Thread: any; pure. Upstream: none. Left out: calendar units; a scenario lasts seconds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from coordemu.runtime.base import NS_PER_MS, NS_PER_S, NS_PER_US, Random

_UNITS = {"ns": 1, "us": NS_PER_US, "ms": NS_PER_MS, "s": NS_PER_S}
_DURATION = re.compile(r"^(\d+(?:\.\d+)?)(ns|us|ms|s)?$")
MAX_NS = 3600 * NS_PER_S


def parse_duration(text: str) -> int:
    """Nanoseconds from ``20ms``, ``1.5s``, ``0``. A bare number other than 0 has no unit and is refused.

    Raises ValueError, also for more than an hour.
    """
    match = _DURATION.match(text.strip())
    if not match or (match[2] is None and float(match[1]) != 0):
        raise ValueError(f"{text!r} is no duration; write for example 20ms, 1.5s, 500us or 0")
    value = round(float(match[1]) * _UNITS[match[2] or "ns"])
    if value > MAX_NS:
        raise ValueError(f"{text!r} is longer than an hour")
    return value


def format_duration(ns: int) -> str:
    """The shortest text that `parse_duration` reads back to the same value."""
    for unit in ("s", "ms", "us"):
        size = _UNITS[unit]
        if ns and ns % size == 0:
            return f"{ns // size}{unit}"
    return f"{ns}ns" if ns else "0"


@dataclass(frozen=True, slots=True)
class Latency:
    """A distribution of durations.

    kind: "fixed" (low_ns), "uniform" (low_ns to high_ns), "exp" (mean low_ns, cut at ten times the mean).
    """

    kind: str = "fixed"
    low_ns: int = 0
    high_ns: int = 0

    @classmethod
    def parse(cls, text: str) -> Latency:
        """``20ms`` fixed, ``10ms..30ms`` uniform, ``exp:20ms`` exponential. Raises ValueError."""
        if text.startswith("exp:"):
            mean_ns = parse_duration(text[4:])
            if 10 * mean_ns > MAX_NS:
                raise ValueError(f"{text!r}: a draw may be ten times the mean, and that is longer than an hour")
            return cls("exp", mean_ns)
        low, dots, high = text.partition("..")
        if not dots:
            return cls("fixed", parse_duration(low))
        low_ns, high_ns = parse_duration(low), parse_duration(high)
        if high_ns < low_ns:
            raise ValueError(f"{text!r}: the upper end is below the lower one")
        return cls("uniform", low_ns, high_ns)

    def draw(self, random: Random) -> int:
        """One duration in nanoseconds."""
        if self.kind == "uniform":
            return round(random.uniform(self.low_ns, self.high_ns))
        if self.kind == "exp" and self.low_ns:
            return min(round(random.expovariate(1 / self.low_ns)), 10 * self.low_ns)
        return self.low_ns

    @property
    def longest_ns(self) -> int:
        """No draw is above this."""
        return {"fixed": self.low_ns, "uniform": self.high_ns, "exp": 10 * self.low_ns}[self.kind]

    def __str__(self) -> str:
        if self.kind == "uniform":
            return f"{format_duration(self.low_ns)}..{format_duration(self.high_ns)}"
        return ("exp:" if self.kind == "exp" else "") + format_duration(self.low_ns)
