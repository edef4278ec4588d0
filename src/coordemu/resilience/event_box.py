"""EventBox: what listeners have not been told yet, and the telling of it: in order, and under no lock.

Role: who decides something under a lock of its own writes an event into the box under that same lock, and after it
empties the box. One task empties it at a time, so that every listener hears the events in the order in which they were
decided; who finds another at it goes on, and that one tells his event, too. So a listener may ask and change what it
listens to: what follows from that is told after what it is being told just now. A listener that raises is kept in
`errors`, and the others are told all the same.

Thread: any. Upstream: none; gobreaker calls its hook under the lock. Left out: listeners with a thread of their own.
Bounds: MAX_WAITING events wait at most, then the oldest is dropped and counted; the last MAX_ERRORS errors are kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from coordemu.runtime.base import Lock

T = TypeVar("T")
MAX_WAITING = 1_024
MAX_ERRORS = 16


@dataclass(frozen=True, slots=True, eq=False)
class _Entry(Generic[T]):
    """One subscription. wants: None: every event."""

    listener: Callable[[T], object]
    wants: Callable[[T], bool] | None


class EventBox(Generic[T]):
    """The events that nobody has been told yet, and who is to be told. lock: of who decides them."""

    def __init__(self, lock: Lock) -> None:
        self.errors: deque[Exception] = deque(maxlen=MAX_ERRORS)
        self.raised = 0
        self.dropped = 0
        self.told = 0
        self._lock = lock
        self._waiting: deque[T] = deque()
        self._listeners: tuple[_Entry[T], ...] = ()
        self._telling = False
        # Whether somebody wants every event.
        self.wants_all = False

    def add_listener_locked(self, listener: Callable[[T], object], wants: Callable[[T], bool] | None = None) -> object:
        """Tell it from now on. wants: of which events, None: of all. What `remove_listener_locked` wants. Thread: any,
        under the lock."""
        entry = _Entry(listener, wants)
        self._set_locked((*self._listeners, entry))
        return entry

    def remove_listener_locked(self, entry: object) -> bool:
        """Tell that one no longer; False when it is not told. Thread: any, under the lock."""
        before = len(self._listeners)
        self._set_locked(tuple(each for each in self._listeners if each is not entry))
        return len(self._listeners) < before

    def _set_locked(self, listeners: tuple[_Entry[T], ...]) -> None:
        self._listeners = listeners
        self.wants_all = any(each.wants is None for each in listeners)

    def write_locked(self, event: T) -> None:
        """Have it told by the next `tell`. Thread: any, under the lock."""
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

    def _next_locked(self) -> tuple[T, tuple[_Entry[T], ...]] | None:
        """What is to be told next, and to whom. When there is nothing, the telling ends in the same step: who writes
        after it empties the box himself."""
        self._telling = bool(self._waiting)
        return (self._waiting.popleft(), self._listeners) if self._telling else None

    def _tell_one(self, event: T, listeners: tuple[_Entry[T], ...]) -> None:
        self.told += 1
        for entry in listeners:
            if entry.wants is not None and not entry.wants(event):
                continue
            try:
                entry.listener(event)
            except Exception as error:
                self.errors.append(error)
                self.raised += 1

    def __repr__(self) -> str:
        return f"<EventBox {len(self._listeners)} listeners, {len(self._waiting)} waiting>"
