"""BreakerEvent: what a breaker tells its listeners, and the box out of which it tells them, in order, without its lock.

Role: who moves a breaker writes an event under the breaker's lock, and after it empties the box. One task empties it at
a time, so that every listener hears the moves in the order in which they happened; who finds another at it goes on, and
that one tells the listeners of his event, too. So a listener may ask the breaker anything, and move it: what follows
from that is told after what it is being told just now. A listener that raises is kept in `errors`, and the others are
told all the same.

Thread: any. Upstream: none; gobreaker calls its hook under the lock. Left out: listeners with a thread of their own.
Bounds: 1,024 events wait at most, then the oldest is dropped and counted; the last 16 errors are kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from coordemu.resilience.breaker_state import BreakerState
from coordemu.runtime.base import Lock

OPENED, HALF_OPENED, CLOSED = "opened", "half-opened", "closed"
FORCED_OPEN, DISABLED, RESET = "forced-open", "disabled", "reset"
REFUSED, SUCCESS, FAILURE = "refused", "success", "failure"
IGNORED, CANCELLED, LATE = "ignored", "cancelled", "late"
MOVE_KINDS = frozenset({OPENED, HALF_OPENED, CLOSED, FORCED_OPEN, DISABLED, RESET})
CALL_KINDS = frozenset({REFUSED, SUCCESS, FAILURE, IGNORED, CANCELLED, LATE})
MAX_WAITING = 1_024
MAX_ERRORS = 16


@dataclass(frozen=True, slots=True)
class BreakerEvent:
    """at_ns: on the runtime's clock.  kind: of MOVE_KINDS or CALL_KINDS.  source, target: the state before and after.
    why: a sentence without its full stop."""

    at_ns: int
    kind: str
    source: BreakerState
    target: BreakerState
    why: str


Listener = Callable[[BreakerEvent], object]


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    """One subscription."""

    listener: Listener
    calls: bool


class EventBox:
    """The events of one breaker that nobody has been told yet, and who is to be told. lock: the breaker's."""

    def __init__(self, lock: Lock) -> None:
        self.errors: deque[Exception] = deque(maxlen=MAX_ERRORS)
        self.raised = 0
        self.dropped = 0
        self.told = 0
        self._lock = lock
        self._waiting: deque[BreakerEvent] = deque()
        self._listeners: tuple[_Entry, ...] = ()
        self._telling = False
        # Whether somebody listens to single calls.
        self.wants_calls = False

    def add_listener_locked(self, listener: Listener, calls: bool) -> object:
        """Tell it from now on. calls: of single calls, too. What `remove_listener_locked` wants. Thread: any, under
        the lock."""
        entry = _Entry(listener, calls)
        self._listeners = (*self._listeners, entry)
        self.wants_calls = self.wants_calls or calls
        return entry

    def remove_listener_locked(self, entry: object) -> bool:
        """Tell that one no longer; False when it is not told. Thread: any, under the lock."""
        left = tuple(each for each in self._listeners if each is not entry)
        removed = len(left) < len(self._listeners)
        self._listeners = left
        self.wants_calls = any(each.calls for each in left)
        return removed

    def write_locked(self, event: BreakerEvent) -> None:
        """Have it told. Thread: any, under the lock."""
        if not self._listeners:
            return
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(event)

    def tell(self) -> None:
        """Tell all that waits, unless another task is at it, which then does. Raises what a listener raises that is no
        Exception; the rest is told with the next event. Thread: any, without the lock. Blocks as its listeners do."""
        if not self._waiting:
            return
        with self._lock:
            if self._telling:
                return
            found = self._next_locked()
        try:
            while found is not None:
                self._tell_one(*found)
                with self._lock:
                    found = self._next_locked()
        except BaseException:
            with self._lock:
                self._telling = False
            raise

    def _next_locked(self) -> tuple[BreakerEvent, tuple[_Entry, ...]] | None:
        """What is to be told next, and to whom. When there is nothing, the telling ends in the same step: who writes
        after it empties the box himself."""
        self._telling = bool(self._waiting)
        return (self._waiting.popleft(), self._listeners) if self._telling else None

    def _tell_one(self, event: BreakerEvent, listeners: tuple[_Entry, ...]) -> None:
        self.told += 1
        for entry in listeners:
            if not entry.calls and event.kind in CALL_KINDS:
                continue
            try:
                entry.listener(event)
            except Exception as error:
                self.errors.append(error)
                self.raised += 1
