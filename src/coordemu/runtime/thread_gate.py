"""The gate at which a thread sleeps until another opens it: a word and a futex, in C.

Role: under `thread_task.Parking`, and so under every lock, condition and event on real threads. A raw `_thread` lock
could do the same but for one thing. To wake a thread of Python is to wake it twice, if it finds the interpreter lock
taken by its waker: once here, once there. A gate that is opened with `hand_over` makes the waking system call without
the interpreter lock, so that the woken thread takes it over at once; that is worth half the time of a hand-over
(bench/NOTES.md), and right for a waker that is about to wait itself. Beside a thread that computes it would be that one
who takes it, for 5 ms; so while some wait of the last 100 ms has shown one (`native_is_busy`), nobody hands over.

Thread: `gate_wait` its sleeper's, which must be one; `gate_open` any. Upstream: pthread_cond_t's inside. Left out:
owners, queues, counting: an open gate is open, and shut again by the one wait that it ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from coordemu._native import ffi, lib

NO_LIMIT: Final = 2**63 - 1

# (gate, deadline_ns on the monotonic clock, NO_LIMIT for none) -> 1: it was open; 0: the deadline; -1: a signal came,
# whose handler runs when Python goes on. Blocks, without the interpreter lock.
gate_wait: Final[Callable[[Any, int], int]] = lib.native_gate_wait
# (gate, hand_over): open it, and wake who sleeps there, letting go of the interpreter lock meanwhile, or (False) not.
gate_open: Final[Callable[[Any, bool], None]] = lib.native_gate_open

_GATE: Final = ffi.typeof("thread_gate *")
_new: Final = ffi.new


def make_gate() -> Any:
    """A gate, shut. Thread: any."""
    return _new(_GATE)
