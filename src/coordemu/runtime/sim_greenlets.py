"""The pool of greenlets: stacks that tasks borrow.

Role: making a greenlet costs some ten times what a restart of a parked one does, and a search starts hundreds of
thousands of tasks. So a greenlet plays one task after another, of one run after another. When its task has ended it
parks in the pool and passes the control on, to whatever the task's core names.

A stack begins on top of the one that starts it, and CPython counts the frames of both against its limit. The first ones
may stand on each other's shoulders: then none is in the way of another, and nothing is copied when they take turns.
From there on they are started from a stack of the pool's own, near the ground, or a few hundred tasks would be a
RecursionError; these share their room, which costs a copy per switch.

Thread: a pool per OS thread, since a greenlet belongs to its thread. Upstream: none. Left out: shrinking the pool.
Bound: the most tasks that were ever alive at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

from greenlet import getcurrent, greenlet

# Plays a task to its end, and says what comes then: another one on this very stack, or a stack to go to.
Play = Callable[[], "Play | greenlet"]


# So many stand on top of each other; each takes some ten frames of CPython's thousand.
NESTED = 32


class _Pool(threading.local):
    def __init__(self) -> None:
        self.parked: list[greenlet] = []
        self.made = 0
        self.ground: greenlet | None = None


_pool = _Pool()


def borrow() -> greenlet:
    """A greenlet whose next `switch(play)` runs `play`; it goes back to the pool by itself."""
    pool = _pool
    if pool.parked:
        return pool.parked.pop()
    if pool.ground is None:
        pool.ground = greenlet(_ground)
        pool.ground.switch(getcurrent())
    pool.made += 1
    if pool.made <= NESTED:
        return greenlet(_live)
    pool.ground.switch((greenlet(_live), getcurrent()))
    return pool.parked.pop()


def parked_count() -> int:
    """How many are parked on this OS thread."""
    return len(_pool.parked)


def _ground(back: greenlet) -> None:
    """Starts others, which park themselves at once, and go back to who asked for them."""
    low, back = back.switch()
    while True:
        low, back = low.switch(partial(_go_to, back))


def _go_to(back: greenlet) -> greenlet:
    return back


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
