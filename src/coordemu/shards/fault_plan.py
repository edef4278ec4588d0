"""FaultPlan: how a shard misbehaves, as a value with a text form.

Role: the network and the far end, as a test wants them. A plan is given when a shard starts, and can be changed while
it runs (``FAULT SET``, or the control line of a shard process). Faults combine: a plan may delay replies *and* close
the connection after a hundred. The text form is what the command line and result files hold::

    delay=20ms,jitter=5ms,close=after:100
    refuse=listen,from=200ms,until=1s
    silence=after:50
    half-open
    slow=1B/5ms

What each one does:

* *delay, jitter*: a reply leaves that much after the command was served: the delay, plus an evenly distributed share
  of the jitter. It stands for the way through the network, so delays of one connection overlap, and replies keep their
  order.
* *refuse*: new connections only. ``accept``: accepted, then closed at once. ``listen``: the port is closed.
* *close=after:n*: once a connection has had n answers it is closed; commands read and not yet answered get none. With
  n = 0 the first command closes it.
* *silence=after:n*: once a connection has had n answers, further ones are held back. Lifting the plan lets them go, in
  order, as a stopped process that goes on would.
* *half-open*: connections stand, and nothing is read from them.
* *slow*: replies leave in pieces of so many bytes, one per interval.
* *from, until*: the plan holds only in that span, measured from when it was set.

Counts start afresh when a plan is set or its span begins. FAULT commands themselves are neither delayed nor counted.

Thread: frozen, any. Upstream: none (its tests use debug commands and proxies). Left out: packets lost below TCP, a
handshake that is never answered, corrupted replies.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from coordemu.runtime.base import NS_PER_MS
from coordemu.shards.shard_errors import ShardUrlError

REFUSALS = ("", "accept", "listen")
LONGEST_MS = 3_600_000.0
_NUMBER = r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)"
_DURATION = re.compile(_NUMBER + r"(ns|us|ms|s)")
_SLOW = re.compile(r"(\d+)B/(.+)")
_AFTER = re.compile(r"after:(\d{1,12})")
_MS_PER_UNIT = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1000.0}


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """One shard's misbehaviour; the file's text says what each fault does.

    delay_ms, jitter_ms: 0 to 3,600,000.  refuse: "", "accept" or "listen".  close_after_n, silence_after_n: answers
    per connection, 0 or more, None for never.  half_open: whether connections are accepted and never read.
    slow_bytes: (bytes per piece, 1 or more; interval in ms), None for at once.  from_ms, until_ms: the span in which
    the plan holds, from when it was set; until_ms None: without end.

    Raises ShardUrlError, a ValueError, when a value is out of bounds.
    """

    delay_ms: float = 0
    jitter_ms: float = 0
    refuse: str = ""
    close_after_n: int | None = None
    silence_after_n: int | None = None
    half_open: bool = False
    slow_bytes: tuple[int, float] | None = None
    from_ms: float = 0
    until_ms: float | None = None

    def __post_init__(self) -> None:
        durations = {"delay": self.delay_ms, "jitter": self.jitter_ms, "from": self.from_ms}
        if self.until_ms is not None:
            durations["until"] = self.until_ms
        if self.slow_bytes is not None:
            durations["slow"] = self.slow_bytes[1]
            if self.slow_bytes[0] < 1:
                raise ShardUrlError(f"fault plan: slow={self.slow_bytes[0]}B: a piece has at least 1 byte")
        for name, value in durations.items():
            if not 0 <= value <= LONGEST_MS:
                raise ShardUrlError(f"fault plan: {name}={value:g}ms is not within 0..{LONGEST_MS:.0f}ms")
        if self.refuse not in REFUSALS:
            raise ShardUrlError(f"fault plan: refuse={self.refuse} is neither accept nor listen")
        for name, count in (("close", self.close_after_n), ("silence", self.silence_after_n)):
            if count is not None and count < 0:
                raise ShardUrlError(f"fault plan: {name}=after:{count} is negative")
        if self.until_ms is not None and self.until_ms <= self.from_ms:
            raise ShardUrlError(f"fault plan: until={self.until_ms:g}ms is not after from={self.from_ms:g}ms")

    @classmethod
    def parse(cls, text: str) -> FaultPlan:
        """Read the text form; "" and "none" are the empty plan.

        Raises ShardUrlError, with one line that names the part that was not understood. Thread: any.
        """
        fields: dict[str, Any] = {}
        for part in text.split(",") if text not in ("", "none") else ():
            name, _, value = part.strip().partition("=")
            key, parsed = _parse_part(name, value, part)
            if key in fields:
                raise ShardUrlError(f"fault plan: {name} is given twice")
            fields[key] = parsed
        return cls(**fields)

    def __str__(self) -> str:
        parts = [
            f"{name}={_ms(value)}"
            for name, value in (("delay", self.delay_ms), ("jitter", self.jitter_ms), ("from", self.from_ms))
            if value
        ]
        parts += [f"until={_ms(self.until_ms)}"] if self.until_ms is not None else []
        parts += [f"refuse={self.refuse}"] if self.refuse else []
        parts += [f"close=after:{self.close_after_n}"] if self.close_after_n is not None else []
        parts += [f"silence=after:{self.silence_after_n}"] if self.silence_after_n is not None else []
        parts += ["half-open"] if self.half_open else []
        parts += [f"slow={self.slow_bytes[0]}B/{_ms(self.slow_bytes[1])}"] if self.slow_bytes is not None else []
        return ",".join(parts) or "none"

    @property
    def is_empty(self) -> bool:
        """Whether the plan misbehaves in no way, at any time."""
        return self in (NO_FAULTS, FaultPlan(from_ms=self.from_ms, until_ms=self.until_ms))

    @property
    def delay_ns(self) -> int:
        """The delay in nanoseconds."""
        return round(self.delay_ms * NS_PER_MS)

    @property
    def jitter_ns(self) -> int:
        """The jitter's bound in nanoseconds."""
        return round(self.jitter_ms * NS_PER_MS)

    def next_change_ns(self, elapsed_ns: int) -> int | None:
        """Nanoseconds until the plan next begins or ceases to hold, elapsed_ns after it was set; None for never."""
        coming = [edge - elapsed_ns for edge in self._edges_ns() if edge > elapsed_ns]
        return min(coming) if coming else None

    def at(self, elapsed_ns: int) -> FaultPlan:
        """The plan that holds elapsed_ns after this one was set: itself, or NO_FAULTS outside its span."""
        begin_ns, *end_ns = self._edges_ns()
        return self if begin_ns <= elapsed_ns and all(elapsed_ns < edge for edge in end_ns) else NO_FAULTS

    def _edges_ns(self) -> list[int]:
        edges_ms = [self.from_ms] if self.until_ms is None else [self.from_ms, self.until_ms]
        return [round(edge * NS_PER_MS) for edge in edges_ms]


def _parse_part(name: str, value: str, part: str) -> tuple[str, Any]:
    if name in ("delay", "jitter", "from", "until"):
        return f"{name}_ms", _parse_ms(value, part)
    if name == "refuse" and value:
        return "refuse", value
    if name in ("close", "silence"):
        after = _AFTER.fullmatch(value)
        if after is None:
            raise ShardUrlError(f"fault plan: {part.strip()!r}: expected {name}=after:N")
        return f"{name}_after_n", int(after[1])
    if part.strip() == "half-open":
        return "half_open", True
    if name == "slow":
        slow = _SLOW.fullmatch(value)
        if slow is None:
            raise ShardUrlError(f"fault plan: {part.strip()!r}: expected slow=BYTESB/INTERVAL, as in slow=1B/5ms")
        return "slow_bytes", (int(slow[1]), _parse_ms(slow[2], part))
    raise ShardUrlError(
        f"fault plan: {part.strip()!r} is none of delay, jitter, refuse, close, silence, half-open, slow, from, until"
    )


def _parse_ms(text: str, part: str) -> float:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ShardUrlError(f"fault plan: {part.strip()!r}: a duration is a number with ns, us, ms or s")
    return float(match[1]) * _MS_PER_UNIT[match[2]]


def _ms(value: float) -> str:
    return f"{value!r}ms".replace(".0ms", "ms")


NO_FAULTS = FaultPlan()
