"""ThreadCell: a shared variable.

Role: the C11 atomics and plain globals that upstream's threads share. Here it is an object with a plain
attribute, which costs what an attribute costs; the methods take a lock of their own for atomicity among
themselves. Against a plain store of `value` they are atomic too, on this interpreter: between their load and
their store there is no point at which CPython lets another thread run (it does so at calls and at jumps back).

Thread: any. Upstream: stdatomic's exchange and compare_exchange_strong, always sequentially consistent here.
Left out: fetch_add (upstream's counters live under locks, or in C), memory orders.
"""

from __future__ import annotations

from _thread import allocate_lock
from typing import Generic

from coordemu.runtime.base import T


class ThreadCell(Generic[T]):
    """A named variable. `value` may be read and stored by any thread, each in one step."""

    __slots__ = ("_guard", "name", "value")

    def __init__(self, value: T, name: str) -> None:
        self.name = name
        self.value = value
        self._guard = allocate_lock()

    def exchange(self, new: T) -> T:
        """Store `new`, return what was there, in one step. Thread: any. Upstream: atomic_exchange."""
        with self._guard:
            old = self.value
            self.value = new
            return old

    def compare_exchange(self, expected: T, new: T) -> bool:
        """Store `new` if the value equals `expected`, in one step. True when stored. Thread: any.

        Upstream: atomic_compare_exchange_strong.
        """
        with self._guard:
            if self.value == expected:
                self.value = new
                return True
            return False

    def __repr__(self) -> str:
        return f"<ThreadCell {self.name!r} {self.value!r}>"
