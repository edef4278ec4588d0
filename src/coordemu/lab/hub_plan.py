"""HubPlan: how the web API behaves, as a value with a text form.

Role: how long answers take, what goes wrong and when. A plan is given when the Hub starts, and can be changed while it
runs. The text form is what the command line and result files hold::

    latency=20ms,jitter=5ms,fail=5%
    fail=2.5%:500/503,cut=1%,poison=m-13|bad-*
    slow=8x:30s@10s,outage=20s@10s,outage=5s@60s/silence

What each one does:

* *latency, jitter*: an answer leaves that much after its request has come: the latency, plus an evenly distributed
  share of the jitter. Requests do not wait for each other.
* *fail*: that share of the requests is answered with a status of the list (500/502/503 when none is given).
* *cut*: that share of the good answers ends in the middle of its body, and the connection with it.
* *slow*: latency and jitter times the factor, in a span.
* *outage*: the Hub is down in a span, ``DURATION@START``. ``refuse`` (when nothing is said): its port is closed and its
  connections are cut. ``503``: every request is answered with that at once. ``silence``: requests are read and never
  answered; at the span's end their connections are cut.
* *poison*: ids (shell patterns) whose requests are always answered 422.

Spans are measured from when the plan was set; those of one kind do not overlap.

Thread: frozen, any. Upstream: none. Left out: answers with wrong content, slow bytes, an outage of one path alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Any

from coordemu.lab.duration import MAX_NS, format_duration, parse_duration

REFUSE, UNAVAILABLE, SILENCE = "refuse", "503", "silence"
OUTAGE_MODES = (REFUSE, UNAVAILABLE, SILENCE)
FAIL_STATUSES = (500, 502, 503)
PPM = 1_000_000
MOST_SLOWNESS = 1_000
_PPM_PER_PERCENT = 10_000
_PERCENT = re.compile(r"(\d{1,3})(?:\.(\d{1,4}))?%")
_FACTOR = re.compile(r"(\d{1,4})x")
_POISON = re.compile(r"[\w.:*?/#\[\]!-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Span:
    """From start_ns on, for duration_ns; both 0 to an hour, the duration more than 0. Raises ValueError otherwise."""

    start_ns: int
    duration_ns: int

    def __post_init__(self) -> None:
        if not (0 <= self.start_ns <= MAX_NS and 0 < self.duration_ns <= MAX_NS):
            raise ValueError(f"hub plan: {self}: a span starts within an hour, and lasts more than 0, up to an hour")

    @classmethod
    def parse(cls, text: str) -> Span:
        """``20s@10s``: for 20 s, from 10 s on. Raises ValueError, one line."""
        duration, at, start = text.partition("@")
        if not at:
            raise ValueError(f"hub plan: {text!r} is no span; write for example 20s@10s (for 20 s, from 10 s on)")
        return cls(parse_duration(start), parse_duration(duration))

    @property
    def end_ns(self) -> int:
        """The first moment after it."""
        return self.start_ns + self.duration_ns

    def holds_at(self, elapsed_ns: int) -> bool:
        """Whether elapsed_ns lies within."""
        return self.start_ns <= elapsed_ns < self.end_ns

    def __str__(self) -> str:
        return f"{format_duration(self.duration_ns)}@{format_duration(self.start_ns)}"


@dataclass(frozen=True, slots=True)
class Outage:
    """The Hub is down in a span. mode: "refuse", "503" or "silence". Raises ValueError for another."""

    span: Span
    mode: str = REFUSE

    def __post_init__(self) -> None:
        if self.mode not in OUTAGE_MODES:
            raise ValueError(f"hub plan: an outage's mode {self.mode!r} is none of {', '.join(OUTAGE_MODES)}")

    @classmethod
    def parse(cls, text: str) -> Outage:
        """``20s@10s`` or ``20s@10s/silence``. Raises ValueError, one line. Thread: any."""
        span, slash, mode = text.partition("/")
        return cls(Span.parse(span), mode if slash else REFUSE)

    def __str__(self) -> str:
        return str(self.span) + ("" if self.mode == REFUSE else f"/{self.mode}")


@dataclass(frozen=True, slots=True)
class Slowness:
    """Answers take `factor` (1 to 1,000) times as long in a span. Raises ValueError for another factor."""

    span: Span
    factor: int

    def __post_init__(self) -> None:
        if not 1 <= self.factor <= MOST_SLOWNESS:
            raise ValueError(f"hub plan: slow={self.factor}x is not within 1x..{MOST_SLOWNESS}x")

    @classmethod
    def parse(cls, text: str) -> Slowness:
        """``8x:30s@10s``: eight times as long, for 30 s, from 10 s on. Raises ValueError, one line. Thread: any."""
        factor, colon, span = text.partition(":")
        match = _FACTOR.fullmatch(factor)
        if match is None or not colon:
            raise ValueError(f"hub plan: {text!r}: expected slow=FACTORx:SPAN, as in slow=8x:30s@10s")
        return cls(Span.parse(span), int(match[1]))

    def __str__(self) -> str:
        return f"{self.factor}x:{self.span}"


@dataclass(frozen=True, slots=True)
class HubPlan:
    """One Hub's behaviour; the file's text says what each part does.

    latency_ns, jitter_ns: 0 to an hour.  fail_ppm, cut_ppm: shares in parts per million, 0 to 1,000,000.
    fail_statuses: one or more of 500 to 599, each once.  poison: shell patterns.
    Raises ValueError, one line, when a value is out of bounds or spans of one kind overlap.
    """

    latency_ns: int = 0
    jitter_ns: int = 0
    fail_ppm: int = 0
    fail_statuses: tuple[int, ...] = FAIL_STATUSES
    cut_ppm: int = 0
    slow: tuple[Slowness, ...] = ()
    outages: tuple[Outage, ...] = ()
    poison: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, duration_ns in (("latency", self.latency_ns), ("jitter", self.jitter_ns)):
            if not 0 <= duration_ns <= MAX_NS:
                raise ValueError(f"hub plan: {name}={duration_ns}ns is not within 0..3600s")
        for name, ppm in (("fail", self.fail_ppm), ("cut", self.cut_ppm)):
            if not 0 <= ppm <= PPM:
                raise ValueError(f"hub plan: {name}={_percent(ppm)} is not within 0%..100%")
        statuses = self.fail_statuses
        if not statuses or len(set(statuses)) < len(statuses) or not all(500 <= each <= 599 for each in statuses):
            raise ValueError(f"hub plan: fail statuses {_joined(statuses)}: each is within 500..599, and stands once")
        for pattern in self.poison:
            if _POISON.fullmatch(pattern) is None:
                raise ValueError(f"hub plan: {pattern!r}: a pattern is made of letters, digits, and . : # / - * ? [ ]")
        _check_apart("outage", [each.span for each in self.outages])
        _check_apart("slow", [each.span for each in self.slow])

    @classmethod
    def parse(cls, text: str) -> HubPlan:
        """Read the text form; "" and "none" are the empty plan. `outage` and `slow` may be given more than once.

        Raises ValueError, with one line that names the part that was not understood. Thread: any.
        """
        fields: dict[str, Any] = {}
        for part in text.split(",") if text.strip() not in ("", "none") else ():
            name, _, value = part.strip().partition("=")
            for key, parsed in _parse_part(name, value.strip(), part.strip()).items():
                if key in ("slow", "outages"):
                    fields[key] = (*fields.get(key, ()), *parsed)
                elif key in fields:
                    raise ValueError(f"hub plan: {name} is given twice")
                else:
                    fields[key] = parsed
        return cls(**fields)

    def __str__(self) -> str:
        parts = [
            f"{name}={format_duration(value_ns)}"
            for name, value_ns in (("latency", self.latency_ns), ("jitter", self.jitter_ns))
            if value_ns
        ]
        if self.fail_ppm or self.fail_statuses != FAIL_STATUSES:
            listed = "" if self.fail_statuses == FAIL_STATUSES else f":{_joined(self.fail_statuses)}"
            parts.append(f"fail={_percent(self.fail_ppm)}{listed}")
        parts += [f"cut={_percent(self.cut_ppm)}"] if self.cut_ppm else []
        parts += [f"slow={each}" for each in self.slow]
        parts += [f"outage={each}" for each in self.outages]
        parts += [f"poison={'|'.join(self.poison)}"] if self.poison else []
        return ",".join(parts) or "none"

    # -- what holds at a moment

    def outage_at(self, elapsed_ns: int) -> Outage | None:
        """The outage that holds elapsed_ns after the plan was set. Thread: any."""
        return next((outage for outage in self.outages if outage.span.holds_at(elapsed_ns)), None)

    def slow_factor_at(self, elapsed_ns: int) -> int:
        """How many times as long answers take elapsed_ns after the plan was set; 1: as ever. Thread: any."""
        return next((slow.factor for slow in self.slow if slow.span.holds_at(elapsed_ns)), 1)

    def next_change_ns(self, elapsed_ns: int) -> int | None:
        """Nanoseconds until an outage next begins or ends; None: never again. Thread: any."""
        edges = [edge for outage in self.outages for edge in (outage.span.start_ns, outage.span.end_ns)]
        coming = [edge - elapsed_ns for edge in edges if edge > elapsed_ns]
        return min(coming) if coming else None

    def is_poison(self, ident: str) -> bool:
        """Whether requests for this id are always answered 422. Thread: any."""
        return any(fnmatchcase(ident, pattern) for pattern in self.poison)

    @property
    def all_clear_ns(self) -> int:
        """From when on no span holds any more. Thread: any."""
        ends = [each.span.end_ns for each in self.outages] + [each.span.end_ns for each in self.slow]
        return max(ends, default=0)


def _parse_part(name: str, value: str, part: str) -> dict[str, Any]:
    try:
        if name in ("latency", "jitter"):
            return {f"{name}_ns": parse_duration(value)}
        if name == "fail":
            share, colon, listed = value.partition(":")
            return {"fail_ppm": _parse_ppm(share), **({"fail_statuses": _parse_statuses(listed)} if colon else {})}
        if name == "cut":
            return {"cut_ppm": _parse_ppm(value)}
        if name == "slow":
            return {"slow": (Slowness.parse(value),)}
        if name == "outage":
            return {"outages": (Outage.parse(value),)}
        if name == "poison":
            return {"poison": tuple(value.split("|"))}
    except ValueError as error:
        text = str(error).removeprefix("hub plan: ")
        raise ValueError(f"hub plan: {part!r}: {text}") from None
    raise ValueError(f"hub plan: {part!r} is none of latency, jitter, fail, cut, slow, outage, poison")


def _parse_ppm(text: str) -> int:
    match = _PERCENT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no share; write for example 5% or 0.25%")
    return int(match[1]) * _PPM_PER_PERCENT + int((match[2] or "").ljust(4, "0"))


def _parse_statuses(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\d{3}(/\d{3})*", text, re.ASCII):
        raise ValueError(f"{text!r} are no statuses; write for example 500/503")
    return tuple(int(each) for each in text.split("/"))


def _percent(ppm: int) -> str:
    whole, rest = divmod(ppm, _PPM_PER_PERCENT)
    return f"{whole}.{rest:04d}".rstrip("0").rstrip(".") + "%"


def _joined(statuses: Sequence[int]) -> str:
    return "/".join(map(str, statuses))


def _check_apart(name: str, spans: Sequence[Span]) -> None:
    ordered = sorted(spans, key=lambda span: span.start_ns)
    for earlier, later in pairwise(ordered):
        if later.start_ns < earlier.end_ns:
            raise ValueError(f"hub plan: {name} {earlier} and {name} {later} overlap")


CALM = HubPlan()
