"""SimCell: a shared variable each of whose accesses is a step.

Role: between reading a cell and writing it another task may go, which is what upstream's plain globals and its atomics
allow; `exchange` and `compare_exchange` are one step each. Outside of tasks (set-up, tear-down, a look for the wait-for
graph) an access is just that.

Thread: the simulator's one; any of its tasks. Upstream: stdatomic, always sequentially consistent. Left out: weak
memory, a check for data races.
"""

from __future__ import annotations

from typing import Generic

from coordemu.runtime.base import T
from coordemu.runtime.sim_core import SimCore
from coordemu.runtime.sim_task import READ, WRITE


class SimCell(Generic[T]):
    """A named variable."""

    __slots__ = ("_core", "_read", "_value", "_write", "name", "uid")

    def __init__(self, core: SimCore, value: T, name: str) -> None:
        self.name = name
        self.uid = core.new_uid()
        self._core = core
        self._value = value
        self._read = f"read {name}"
        self._write = f"write {name}"

    @property
    def value(self) -> T:
        """What it holds; reading is a step, storing is one."""
        core = self._core
        core.point(self._read)
        if core.log is not None:
            core.log.append((self.uid, READ))
        return self._value

    @value.setter
    def value(self, new: T) -> None:
        core = self._core
        core.point(self._write)
        if core.log is not None:
            core.log.append((self.uid, WRITE))
        self._value = new

    def _write_step(self) -> None:
        core = self._core
        core.point(self._write)
        if core.log is not None:
            core.log.append((self.uid, WRITE))

    def exchange(self, new: T) -> T:
        """Store `new`, return what was there, in one step."""
        self._write_step()
        old, self._value = self._value, new
        return old

    def compare_exchange(self, expected: T, new: T) -> bool:
        """Store `new` if the value equals `expected`, in one step. True when stored."""
        self._write_step()
        if self._value == expected:
            self._value = new
            return True
        return False

    def __repr__(self) -> str:
        return f"<SimCell {self.name!r} {self._value!r}>"
