"""FaultyTurns: the semaphore with the faults of those that the model's authors tried first, each under its name.

Role: what `make_turns` hands out when a fault of the turns is asked for. Four of them are the rewrites of one week: a
counter with wake-ups, a list without a lock around the look at it, a claim that is given up twice, and a hand-over
after the unlock.

Thread: any. Upstream: internal/semaphore.go in the commits that `pool_faults` names; none was released. Left out:
1dfa805f, whose fault needs no second task. Bounds: as `Turns`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet

from coordemu.pool import pool_faults
from coordemu.pool.pool_errors import PoolClosed
from coordemu.pool.turns import GRANTED, Pressure, Turns, TurnWaiter
from coordemu.runtime.base import Holder, Runtime

TURN_FAULTS = frozenset({
    pool_faults.TURN_STOLEN,
    pool_faults.TURN_WAKE_LOST,
    pool_faults.TURN_DOUBLE_RELEASE,
    pool_faults.TURN_SENT_UNLOCKED,
    pool_faults.CLOSE_LEAVES_PARKED,
})  # fmt: skip


def make_turns(
    rt: Runtime,
    size: int,
    name: str,
    faults: AbstractSet[str] = frozenset(),
    max_waiting: int = 0,
    pressure_at: int = 0,
    on_pressure: Pressure | None = None,
    holders: Callable[[], Sequence[Holder]] | None = None,
) -> Turns:
    """A pool's turns: the mended ones, or with those of `faults` that concern them. As `Turns` otherwise."""
    mine = TURN_FAULTS & faults
    if mine:
        return FaultyTurns(mine, rt, size, name, max_waiting, pressure_at, on_pressure, holders)
    return Turns(rt, size, name, max_waiting, pressure_at, on_pressure, holders)


class FaultyTurns(Turns):
    """Turns with faults. faults: of TURN_FAULTS; the other arguments are those of `Turns`."""

    def __init__(
        self,
        faults: AbstractSet[str],
        rt: Runtime,
        size: int,
        name: str,
        max_waiting: int = 0,
        pressure_at: int = 0,
        on_pressure: Pressure | None = None,
        holders: Callable[[], Sequence[Holder]] | None = None,
    ) -> None:
        super().__init__(rt, size, name, max_waiting, pressure_at, on_pressure, holders)
        self._faults = frozenset(faults)

    def _take_locked(self) -> bool:
        if pool_faults.TURN_STOLEN not in self._faults:
            return super()._take_locked()
        if not self._free:
            return False
        # Whoever finds a free turn takes it, whether somebody waits or not.
        self._free -= 1
        self.out_of_order += bool(self._line)
        return True

    def _join(self) -> TurnWaiter | None:
        if pool_faults.TURN_WAKE_LOST not in self._faults:
            return super()._join()
        with self._lock:
            if self._closed:
                raise PoolClosed(f"{self.name}: closed")
            if self._take_locked():
                return None
        # The lock is free here, and a release finds nobody in line.
        with self._lock:
            return self._queue_locked()

    def _leave(self, waiter: TurnWaiter, waited_ns: int) -> str:
        if pool_faults.TURN_STOLEN in self._faults:
            with self._lock:
                if not waiter.outcome:
                    self._line.remove(waiter)
                    if waiter.event.is_set() and self._free:
                        self._free -= 1
                        waiter.outcome = GRANTED
            return waiter.outcome
        if pool_faults.TURN_DOUBLE_RELEASE in self._faults:
            with self._lock:
                granted = bool(waiter.outcome)
                in_line = waiter in self._line
                if in_line:
                    self._line.remove(waiter)
                waiter.cancelled = not granted
            if not granted and not in_line:
                self.release()
            return waiter.outcome
        if pool_faults.TURN_SENT_UNLOCKED in self._faults:
            with self._lock:
                if not waiter.outcome and waiter in self._line:
                    self._line.remove(waiter)
                return waiter.outcome
        return super()._leave(waiter, waited_ns)

    def release(self) -> None:
        """turn-stolen: the turn is free, and somebody is woken.  turn-double-release, turn-sent-unlocked: the head of
        the line leaves it under the lock, and is served after it."""
        if pool_faults.TURN_STOLEN in self._faults:
            with self._lock:
                self._free += 1
                waiter = self._line[0] if self._line else None
            if waiter is not None:
                waiter.event.set()
            return
        if not self._faults & {pool_faults.TURN_DOUBLE_RELEASE, pool_faults.TURN_SENT_UNLOCKED}:
            super().release()
            return
        with self._lock:
            if not self._line:
                self._free += 1
                return
            waiter = self._line.popleft()
        with self._lock:
            cancelled = waiter.cancelled
            if not cancelled:
                waiter.outcome = GRANTED
        if cancelled:
            self.release()
        waiter.event.set()

    def close(self) -> None:
        """close-leaves-parked: who comes is turned away, who waits is not told."""
        if pool_faults.CLOSE_LEAVES_PARKED not in self._faults:
            super().close()
            return
        with self._lock:
            self._closed = True
