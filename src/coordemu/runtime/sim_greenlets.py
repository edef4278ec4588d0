"""The pool of greenlets: stacks that tasks borrow.

Role: making a greenlet costs some ten times what a restart of a parked one does, and a search starts hundreds of
thousands of tasks. So a greenlet plays one task after another, of one run after another. When its task has ended it
parks in the pool and passes the control on, to whatever the task's core names.

Thread: a pool per OS thread, since a greenlet belongs to its thread. Upstream: none. Left out: shrinking the pool.
Bound: the most tasks that were ever alive at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from greenlet import getcurrent, greenlet

# Plays a task to its end, and says what comes then: another one on this very stack, or a stack to go to.
Play = Callable[[], "Play | greenlet"]


class _Pool(threading.local):
    def __init__(self) -> None:
        self.parked: list[greenlet] = []


_pool = _Pool()


def borrow() -> greenlet:
    """A greenlet whose next `switch(play)` runs `play`; it goes back to the pool by itself."""
    parked = _pool.parked
    return parked.pop() if parked else greenlet(_live)


def parked_count() -> int:
    """How many are parked on this OS thread."""
    return len(_pool.parked)


def _live(play: Play) -> None:
    me = getcurrent()
    parked = _pool.parked
    while True:
        then = play()
        if isinstance(then, greenlet):
            parked.append(me)
            play = then.switch()
        else:
            play = then
