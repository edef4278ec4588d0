"""ShrinkPlan: the part of a resize policy that the I/O thread carries out.

Role: a value that travels with a resize request through the work queue. The whole policy
(`coordemu.coord.resize_policy`) also says what the main thread does; the connection manager needs only
this much of it, and is tested with it alone.

Thread: frozen, any. Upstream: none; upstream's shrink is ShrinkPlan(stop="graceful", drain="none"). Left out: what the
main thread does meanwhile (the policy's other fields).
"""

from __future__ import annotations

from dataclasses import dataclass

STOP_MODES = ("graceful", "fail", "drop")
DRAIN_MODES = ("none", "block-loop", "timer", "yield", "event")
AT_DEADLINE = ("force", "keep", "raise")
STAY_MODES = ("first", "connected")


@dataclass(frozen=True, slots=True)
class ShrinkPlan:
    """How to take the surplus connections away.

    stop: what happens to replies in flight when a connection is stopped: "graceful" (they are awaited, as
        hiredis' disconnect does), "fail" (their callbacks run with an error, as its free does), "drop" (their callbacks
        never run: the write-up's "responses that will never arrive").
    drain: how to wait for them before that: "none"; "block-loop" (sleep and poll on the I/O thread, as the write-up's
        code does); "timer" (poll from a timer of the loop); "yield" (the main thread polls, between yields; the I/O
        side only hides the surplus and waits to be told to stop it); "event" (the thread that takes the last reply
        goes on).
    drain_timeout_ms: 0 or more.  drain_poll_ms: 1 or more; for block-loop, timer and yield.
    at_deadline: "force" (stop all the same), "keep" (give the surplus back to the round robin), "raise" (as keep, and
        the resize reports an error).
    stay: which connections of a node stay: "first" (the first ones, as upstream), "connected" (a surplus one that is
        Connected changes places with one that is not: a node that can be reached stays reachable).
    """

    stop: str = "graceful"
    drain: str = "none"
    drain_timeout_ms: int = 5000
    drain_poll_ms: int = 10
    at_deadline: str = "force"
    stay: str = "first"

    def __post_init__(self) -> None:
        for value, allowed, what in (
            (self.stop, STOP_MODES, "stop"),
            (self.drain, DRAIN_MODES, "drain"),
            (self.at_deadline, AT_DEADLINE, "at_deadline"),
            (self.stay, STAY_MODES, "stay"),
        ):
            if value not in allowed:
                raise ValueError(f"{what} {value!r} is none of {', '.join(allowed)}")
        if self.drain_timeout_ms < 0:
            raise ValueError(f"drain_timeout_ms {self.drain_timeout_ms} is below 0")
        if self.drain_poll_ms < 1:
            raise ValueError(f"drain_poll_ms {self.drain_poll_ms} is below 1")
