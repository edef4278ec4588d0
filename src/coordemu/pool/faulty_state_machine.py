"""FaultyStateMachine: the state machine with the model's faults, each under its name.

Role: what `make_state_machine` hands out when a fault of the machine is asked for, so that it can be shown and found.
Each method here is a faulty form of its namesake in `conn_state_machine`; without its fault it is that namesake.

Thread: any. Upstream: internal/pool/conn_state.go as it stands or stood; see `pool_faults`. Left out: whatever those
faults do not need. Bounds: as `ConnStateMachine`.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from coordemu.pool import pool_faults
from coordemu.pool.conn_state_machine import GRANTED, ConnStateMachine, States, StateWaiter
from coordemu.pool.pool_conn_state import PoolConnState
from coordemu.pool.pool_context import PoolContext
from coordemu.runtime.base import Runtime

MACHINE_FAULTS = frozenset({
    pool_faults.RELEASE_WITHOUT_NOTIFY,
    pool_faults.NO_RECHECK,
    pool_faults.CANCEL_AGAINST_NOTIFY,
    pool_faults.ZOMBIE_WAITER,
    pool_faults.LEAPFROG,
    pool_faults.CLOSE_WAKES_NOBODY,
    pool_faults.STORE_IDLE,
    pool_faults.SHARED_CREATED,
    pool_faults.ACQUIRE_BY_STORE,
})  # fmt: skip


def make_state_machine(rt: Runtime, name: str, faults: AbstractSet[str] = frozenset()) -> ConnStateMachine:
    """A connection's machine: the mended one, or with those of `faults` that concern it. Thread: any."""
    mine = MACHINE_FAULTS & faults
    return FaultyStateMachine(rt, name, mine) if mine else ConnStateMachine(rt, name)


class ZombieEntry(StateWaiter):
    """Another element of the queue for a waiter that was in it before; what it is granted, that one is."""

    __slots__ = ("original",)

    def __init__(self, original: StateWaiter) -> None:
        super().__init__(original.name, original.sources, original.to, original.event)
        self.original = original


class FaultyStateMachine(ConnStateMachine):
    """A machine with faults. faults: of MACHINE_FAULTS."""

    def __init__(self, rt: Runtime, name: str, faults: AbstractSet[str]) -> None:
        super().__init__(rt, name)
        self._faults = frozenset(faults)

    def acquire(self) -> bool:
        """shared-created: what is CREATED stays so.  acquire-by-store: a look, and a store."""
        if pool_faults.ACQUIRE_BY_STORE in self._faults and self._state.value is PoolConnState.IDLE:
            self._state.value = PoolConnState.IN_USE
            return True
        if pool_faults.SHARED_CREATED in self._faults:
            created = PoolConnState.CREATED
            return self._state.compare_exchange(created, created) or self.move(PoolConnState.IDLE, PoolConnState.IN_USE)
        return super().acquire()

    def release(self) -> bool:
        """release-without-notify: the compare-and-swap alone.  shared-created: CREATED is "pooled as it is"."""
        if pool_faults.RELEASE_WITHOUT_NOTIFY in self._faults:
            return self._state.compare_exchange(PoolConnState.IN_USE, PoolConnState.IDLE)
        if pool_faults.SHARED_CREATED in self._faults and self._state.value is PoolConnState.CREATED:
            return True
        return super().release()

    def return_from_work(self) -> bool:
        """store-idle: IDLE, whatever it was."""
        if pool_faults.STORE_IDLE in self._faults:
            self._state.value = PoolConnState.IDLE
            self._moved()
            return True
        return super().return_from_work()

    def close(self) -> bool:
        """close-wakes-nobody: the store alone."""
        if pool_faults.CLOSE_WAKES_NOBODY in self._faults:
            return self._state.exchange(PoolConnState.CLOSED) is not PoolConnState.CLOSED
        return super().close()

    def _enqueue(self, sources: States, to: PoolConnState) -> StateWaiter:
        if pool_faults.NO_RECHECK not in self._faults:
            return super()._enqueue(sources, to)
        event = self._rt.event(f"{self.name} to be another", owed_by=self._owed_by)
        waiter = StateWaiter(self._rt.current().name, sources, to, event)
        with self._lock:
            self._waiters.append(waiter)
            self._num_waiters.value = len(self._waiters)
        return waiter

    def _leave(self, waiter: StateWaiter, ctx: PoolContext | None) -> str:
        with self._lock:
            if pool_faults.ZOMBIE_WAITER in self._faults and not waiter.outcome and waiter not in self._waiters:
                self._num_waiters.value -= 1
                return ""
        if pool_faults.CANCEL_AGAINST_NOTIFY in self._faults and ctx is not None and ctx.error() is not None:
            # Of a cancelled wait nobody asks whether it was granted.
            with self._lock:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
                self._num_waiters.value -= 1
            return ""
        return super()._leave(waiter, ctx)

    def _serve_locked(self) -> list[StateWaiter]:
        if pool_faults.LEAPFROG in self._faults:
            return self._serve_reading_again_locked()
        if pool_faults.ZOMBIE_WAITER in self._faults:
            return self._serve_pushing_front_locked()
        return super()._serve_locked()

    def _serve_reading_again_locked(self) -> list[StateWaiter]:
        woken = []
        for waiter in list(self._waiters):
            state = self._state.value
            if state in waiter.sources and self._state.compare_exchange(state, waiter.to):
                self._waiters.remove(waiter)
                waiter.outcome = GRANTED
                woken.append(waiter)
        self._num_waiters.value = len(self._waiters)
        return woken

    def _serve_pushing_front_locked(self) -> list[StateWaiter]:
        woken: list[StateWaiter] = []
        state = self._state.value
        while True:
            first = next((waiter for waiter in self._waiters if state in waiter.sources), None)
            if first is None:
                return woken
            self._waiters.remove(first)
            self._num_waiters.value -= 1
            if self._state.compare_exchange(state, first.to):
                original = first.original if isinstance(first, ZombieEntry) else first
                first.outcome = original.outcome = GRANTED
                woken.append(original)
                state = first.to
            else:
                original = first.original if isinstance(first, ZombieEntry) else first
                self._waiters.appendleft(ZombieEntry(original))
                self._num_waiters.value += 1
                state = self._state.value
