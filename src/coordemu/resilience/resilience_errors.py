"""Errors of the resilience layer: who refused or gave up, how long the caller waited, and when to come again.

Role: what breaker, limiter, bulkhead and retry raise. All are `ResilienceError`s: a caller (or a layer outside) can
tell a refusal of this layer, for which nothing was called, from an error of what was called. Each is built from its own
fields alone, so that it can be copied and pickled, and its text is made when somebody reads it: a refusal must cost
less than the call that it spares. Here, too, are the names of faults checked, which each part of this layer has.

Thread: plain values, any. Upstream: none; the libraries that the reference's section 7 compares have one class for
each (CallNotPermitted, RequestNotPermitted, BulkheadFull, MaxRetriesExceeded). Left out: the end of a caller's own
time, which is `pool_errors.DeadlineExceeded` or `Cancelled`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum

from coordemu.name_check import check_names


def _ms(duration_ns: int) -> str:
    return f"{duration_ns / 1e6:.3f}".rstrip("0").rstrip(".") + " ms"


class ResilienceError(Exception):
    """Anything that the resilience layer itself has to say."""


class BreakerOpen(ResilienceError):
    """The breaker let nobody through. Nothing was called.

    name: of the breaker.  state: the state that refused (a `BreakerState`).  retry_after_ns: 0 or more, when it may let
    somebody through again; 0: not known (a half-open breaker whose probes are under way, a forced state).
    """

    def __init__(self, name: str, state: Enum | str, retry_after_ns: int = 0) -> None:
        super().__init__(name, state, retry_after_ns)
        self.name = name
        self.state = state
        self.retry_after_ns = retry_after_ns

    def __str__(self) -> str:
        state = self.state.name if isinstance(self.state, Enum) else self.state
        after = f", again in {_ms(self.retry_after_ns)}" if self.retry_after_ns else ""
        return f"{self.name}: {state}{after}"


class RateLimited(ResilienceError):
    """No token within the caller's time. Nothing was called.

    name: of the limiter.  waited_ns: how long the caller stood in line.  retry_after_ns: 0 or more, when what was asked
    for would be there if nobody else came.
    """

    def __init__(self, name: str, waited_ns: int = 0, retry_after_ns: int = 0) -> None:
        super().__init__(name, waited_ns, retry_after_ns)
        self.name = name
        self.waited_ns = waited_ns
        self.retry_after_ns = retry_after_ns

    def __str__(self) -> str:
        after = f", again in {_ms(self.retry_after_ns)}" if self.retry_after_ns else ""
        return f"{self.name}: no token after {_ms(self.waited_ns)}{after}"


class BulkheadFull(ResilienceError):
    """No slot within the caller's time, or no place in line. Nothing was called.

    name: of the bulkhead.  waited_ns: how long the caller stood in line.  limit: its slots.  waiting: callers in line
    when it gave up.
    """

    def __init__(self, name: str, waited_ns: int = 0, limit: int = 0, waiting: int = 0) -> None:
        super().__init__(name, waited_ns, limit, waiting)
        self.name = name
        self.waited_ns = waited_ns
        self.limit = limit
        self.waiting = waiting

    def __str__(self) -> str:
        return f"{self.name}: no slot of {self.limit} after {_ms(self.waited_ns)}, {self.waiting} waiting"


class TimeLimited(ResilienceError):
    """An attempt has had all the time that it may have, and its caller would wait on.

    name: of the guard.  limit_ns: the time limit of one attempt.  where: "limiter" or "bulkhead" (it stood in that
    line, and nothing was called), or "call" (nobody knows what became of it).
    """

    def __init__(self, name: str, limit_ns: int, where: str = "call") -> None:
        super().__init__(name, limit_ns, where)
        self.name = name
        self.limit_ns = limit_ns
        self.where = where

    def __str__(self) -> str:
        return f"{self.name}: the attempt's {_ms(self.limit_ns)} are over, in the {self.where}"


class PressureRefused(ResilienceError):
    """Low-priority work was not let in. Nothing was called.

    name: of the admission.  node: "" for all.  pressure: 0 to 1, at the last look.  waited_ns: how long it waited.
    retry_after_ns: the shortest time that pressure lasts.
    """

    def __init__(self, name: str, node: str, pressure: float, waited_ns: int = 0, retry_after_ns: int = 0) -> None:
        super().__init__(name, node, pressure, waited_ns, retry_after_ns)
        self.name = name
        self.node = node
        self.pressure = pressure
        self.waited_ns = waited_ns
        self.retry_after_ns = retry_after_ns

    def __str__(self) -> str:
        where = f" of {self.node}" if self.node else ""
        waited = f" after {_ms(self.waited_ns)}" if self.waited_ns else ""
        return f"{self.name}: low-priority work refused{waited}: {self.pressure:.0%} of the connections{where} are held"


class RetriesExhausted(ResilienceError):
    """A call was tried as often, or for as long, as it may be. Its cause is what the last attempt raised.

    attempts: that were made, 1 or more.  waited_ns: from the first attempt's begin until it gave up.  last: what the
    last attempt raised.  why: the rule that ended it, in words.
    """

    def __init__(self, attempts: int, waited_ns: int, last: BaseException, why: str = "") -> None:
        super().__init__(attempts, waited_ns, last, why)
        self.attempts = attempts
        self.waited_ns = waited_ns
        self.last = last
        self.why = why

    def __str__(self) -> str:
        why = f" ({self.why})" if self.why else ""
        return (
            f"gave up after {self.attempts} attempts in {_ms(self.waited_ns)}{why}: "
            f"{type(self.last).__name__}: {self.last}"
        )


class BudgetSpent(RetriesExhausted):
    """The call might be tried again, but the retry budget has nothing left: too many calls fail already."""


class UnknownFault(ValueError):
    """No fault of that part has that name; the message names the nearest one."""


def check_faults(names: Collection[str], known: Mapping[str, str], of: str) -> frozenset[str]:
    """The names as a set. known: what there is, with a sentence each.  of: whose faults, for the message.

    Raises UnknownFault for one that is not in `known`. Thread: any.
    """
    return check_names(names, known, f"fault of {of}", UnknownFault)
