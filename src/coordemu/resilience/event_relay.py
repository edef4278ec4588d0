"""EventRelay: tells listeners what happened, in the order in which it was decided, and under no lock.

Role: who decides something under a lock of its own writes the event down there (`write`), and has it told after the
lock (`tell`). One task tells at a time; who comes while another tells leaves its events to that one. A listener may ask
and change what it listens to: what follows from that is told after what is being told.

Thread: any. Upstream: none. Left out: events of a breaker, which have a box of their own that leaves out what nobody
listens to. Bounds: MOST_WAITING events, then the oldest is dropped and counted; the last MOST_ERRORS errors are kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from coordemu.runtime.base import Runtime

T = TypeVar("T")
MOST_WAITING = 1_024
MOST_ERRORS = 16


class EventRelay(Generic[T]):
    """Listeners, and what they have not been told yet. errors: what listeners raised; the others are told all the
    same."""

    def __init__(self, rt: Runtime, name: str) -> None:
        self.name = name
        self.errors: deque[Exception] = deque(maxlen=MOST_ERRORS)
        self.dropped = 0
        self.told = 0
        self._lock = rt.lock(name)
        self._listeners: tuple[Callable[[T], object], ...] = ()
        self._waiting: deque[T] = deque()
        self._telling = False

    def subscribe(self, listener: Callable[[T], object]) -> Callable[[], None]:
        """Tell it from now on. What this returns ends that; calling it again does nothing. Thread: any."""
        with self._lock:
            self._listeners = (*self._listeners, listener)

        def end() -> None:
            with self._lock:
                self._listeners = tuple(each for each in self._listeners if each is not listener)

        return end

    def write(self, event: T) -> None:
        """Have it told by the next `tell`. Thread: any, under the lock of who decided it. Never blocks for long."""
        with self._lock:
            if not self._listeners:
                return
            if len(self._waiting) >= MOST_WAITING:
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append(event)

    def tell(self) -> None:
        """Tell all that waits, unless another task is at it, which then does. Thread: any, under no lock. Blocks as the
        listeners do; what they raise that is no Exception goes on to the caller."""
        if not self._waiting:
            return
        with self._lock:
            if self._telling:
                return
            self._telling = True
        ended = False
        try:
            while True:
                with self._lock:
                    if not self._waiting:
                        # In one step with the look: who writes after it tells himself.
                        self._telling = False
                        ended = True
                        return
                    event, listeners = self._waiting.popleft(), self._listeners
                self._tell_one(event, listeners)
        finally:
            if not ended:
                with self._lock:
                    self._telling = False

    def _tell_one(self, event: T, listeners: tuple[Callable[[T], object], ...]) -> None:
        self.told += 1
        for listener in listeners:
            try:
                listener(event)
            except Exception as error:
                self.errors.append(error)

    def __repr__(self) -> str:
        return f"<EventRelay {self.name!r} {len(self._listeners)} listeners, {len(self._waiting)} waiting>"
