"""ConnStateMachine: the state of one pooled connection, moved by compare-and-swap, with a queue of those who wait for
it.

Role: callers, workers and the pool move a connection through it, and only through it. A move is one compare-and-swap
of a cell, so that of several who want the same move one wins. Who cannot move now and is willing to wait parks in a
queue; whoever makes a move afterwards serves the queue, oldest first among those who can go from the state that it
left. The server makes the waiter's move for it, so a waiter that is woken has what it asked for.

Two rules keep a waiter from sleeping beside the state that it waits for. Every move serves the queue, a caller's
release included. And who parks serves the queue once more, after it is in the queue: a move that was made before
somebody looked at the count of waiters is seen then. The grant is decided under the queue's lock, and so is giving up;
whichever comes first stands, so a wait that is cancelled at the moment of its grant has been granted.

Thread: any. Upstream: ConnStateMachine, AwaitAndTransition and notifyWaiters (internal/pool/conn_state.go), where the
table is not enforced, a release serves nobody, nobody looks again after parking, and a close wakes no waiter. Left out:
the unconditional store (`faulty_state_machine` has it). Bound of the queue: none, as upstream's; one entry per worker
that wants the connection.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from coordemu.pool.pool_conn_state import (
    MOVES,
    IllegalMove,
    InvalidStateTransition,
    PoolConnState,
    StateMachineClosed,
    check_moves,
)
from coordemu.pool.pool_context import PoolContext, check, park
from coordemu.pool.pool_errors import DeadlineExceeded, PoolError
from coordemu.runtime.base import Event, Holder, Runtime

States = tuple[PoolConnState, ...]
CLOSED = PoolConnState.CLOSED
GRANTED, SHUT = "granted", "shut"


class StateWaiter:
    """One who waits: from which states, to which, and how it went (`outcome`: "" while it waits)."""

    __slots__ = ("event", "name", "outcome", "sources", "to")

    def __init__(self, name: str, sources: States, to: PoolConnState, event: Event) -> None:
        self.name = name
        self.sources = sources
        self.to = to
        self.event = event
        self.outcome = ""


@dataclass(frozen=True, slots=True)
class StateSnapshot:
    """A look at a machine. waiting: the names of those parked, oldest first."""

    state: PoolConnState
    waiting: tuple[str, ...]
    moves: int


class ConnStateMachine:
    """One connection's state; CREATED at first. name: for errors and the wait-for graph."""

    def __init__(self, rt: Runtime, name: str) -> None:
        self.name = name
        self._rt = rt
        self._state = rt.cell(PoolConnState.CREATED, f"{name} state")
        self._num_waiters = rt.cell(0, f"{name} num waiters")
        self._lock = rt.lock(f"{name} state waiters")
        self._waiters: deque[StateWaiter] = deque()
        self._moves = 0

    @property
    def state(self) -> PoolConnState:
        """Where it is now. Thread: any. Upstream: GetState."""
        return self._state.value

    # -- moves that do not wait

    def move(self, source: PoolConnState, to: PoolConnState) -> bool:
        """One compare-and-swap, and whoever waits for the new state is served. False: it was in another state.

        Raises IllegalMove when the table has no such move. Thread: any. Never blocks for long.
        Upstream: TryTransitionFast, which serves nobody.
        """
        if to not in MOVES[source]:
            raise IllegalMove(self.name, source, to)
        if not self._state.compare_exchange(source, to):
            return False
        self._moved()
        return True

    def try_transition(self, sources: States, to: PoolConnState) -> PoolConnState:
        """Move to `to` from whichever of `sources` it is in. Returns the state it came from.

        Raises IllegalMove when the table lacks one of these moves, InvalidStateTransition when it is in none of them;
        nothing is changed then. Thread: any. Never blocks for long. Upstream: TryTransition.
        """
        check_moves(self.name, sources, to)
        while True:
            found = self._state.value
            if found not in sources:
                raise InvalidStateTransition(self.name, sources, to, found)
            if self._state.compare_exchange(found, to):
                self._moved()
                return found

    def acquire(self) -> bool:
        """A caller takes it: IDLE -> IN_USE, or CREATED -> INITIALIZING (its handshake is the taker's). One wins.

        Thread: any. Never blocks for long. Upstream: TryAcquire, which leaves what is CREATED as it is.
        """
        return self.move(PoolConnState.IDLE, PoolConnState.IN_USE) or self.move(
            PoolConnState.CREATED, PoolConnState.INITIALIZING
        )

    def release(self) -> bool:
        """A caller gives it back: IN_USE -> IDLE; who waits for that is served. False: it was not IN_USE.

        Thread: any. Never blocks for long. Upstream: Release, which serves nobody.
        """
        return self.move(PoolConnState.IN_USE, PoolConnState.IDLE)

    def return_from_work(self) -> bool:
        """A worker gives it back: UNUSABLE -> IDLE, or INITIALIZING -> IDLE. False: it was closed meanwhile.

        Thread: any. Never blocks for long. Upstream: an unconditional store of IDLE.
        """
        return self.move(PoolConnState.UNUSABLE, PoolConnState.IDLE) or self.move(
            PoolConnState.INITIALIZING, PoolConnState.IDLE
        )

    def close(self) -> bool:
        """Any -> CLOSED, for good; who waits is told. True for the call that closed it.

        Thread: any. Never blocks for long. Upstream: Conn.Close, which wakes only who waits for CLOSED.
        """
        if self._state.exchange(CLOSED) is CLOSED:
            return False
        self._moved()
        return True

    # -- moves that wait

    def wait_and_transition(
        self, sources: States, to: PoolConnState, ctx: PoolContext | None = None, deadline_ns: int | None = None
    ) -> None:
        """Move to `to` from one of `sources`, now or as soon as it is in one; those who came before go first.

        deadline_ns: on the runtime's clock; None: no limit but the context's.
        Raises IllegalMove, StateMachineClosed (also when it closes meanwhile), DeadlineExceeded, Cancelled. Whoever
        returns has made the move. Thread: any. May block. Upstream: AwaitAndTransition.
        """
        check_moves(self.name, sources, to)
        check(ctx)
        # Nobody waits: no queue is needed. Somebody does: it must not be overtaken.
        if not self._num_waiters.value and self._try_once(sources, to):
            return
        waiter = self._enqueue(sources, to)
        try:
            park(self._rt, waiter.event, ctx, deadline_ns)
        finally:
            outcome = self._leave(waiter, ctx)
        if outcome == GRANTED:
            return
        if outcome == SHUT:
            raise StateMachineClosed(f"{self.name} was closed; {_move_text(sources, to)} is not possible any more")
        raise self._why(waiter, ctx)

    def _why(self, waiter: StateWaiter, ctx: PoolContext | None) -> PoolError:
        error = ctx.error() if ctx is not None else None
        text = f"{self.name} never was in a state for {_move_text(waiter.sources, waiter.to)}; it is {self.state.value}"
        return DeadlineExceeded(text) if error is None else type(error)(f"{error}: {text}")

    def _try_once(self, sources: States, to: PoolConnState) -> bool:
        found = self._state.value
        if found in sources and self._state.compare_exchange(found, to):
            self._moved()
            return True
        return False

    def _enqueue(self, sources: States, to: PoolConnState) -> StateWaiter:
        """Park in the queue, and look once more: a move may have come between the first look and the queue."""
        event = self._rt.event(f"{self.name} to be {_names(sources)}", owed_by=self._owed_by)
        waiter = StateWaiter(self._rt.current().name, sources, to, event)
        with self._lock:
            self._waiters.append(waiter)
            self._num_waiters.value = len(self._waiters)
            woken = self._serve_locked()
        self._wake(woken)
        return waiter

    def _leave(self, waiter: StateWaiter, ctx: PoolContext | None) -> str:
        """The wait is over; out of the queue if still in it. How it ended."""
        with self._lock:
            if not waiter.outcome:
                self._waiters.remove(waiter)
                self._num_waiters.value = len(self._waiters)
            return waiter.outcome

    # -- serving the queue

    def _moved(self) -> None:
        """After every move: serve who waits."""
        if not self._num_waiters.value:
            return
        with self._lock:
            woken = self._serve_locked()
        self._wake(woken)

    def _serve_locked(self) -> list[StateWaiter]:
        """Make the moves of those who can go, oldest first. Those to wake, outside the lock."""
        woken: list[StateWaiter] = []
        while self._waiters:
            # Read once per round. Read for each waiter, it could change in between, and a later one would go first.
            state = self._state.value
            if state is CLOSED:
                for waiter in self._waiters:
                    waiter.outcome = SHUT
                woken += self._waiters
                self._waiters.clear()
                break
            first = next((waiter for waiter in self._waiters if state in waiter.sources), None)
            if first is None:
                break
            if self._state.compare_exchange(state, first.to):
                self._waiters.remove(first)
                first.outcome = GRANTED
                woken.append(first)
        if woken:
            self._num_waiters.value = len(self._waiters)
            self._moves += len(woken)
        return woken

    def _wake(self, woken: list[StateWaiter]) -> None:
        for waiter in woken:
            waiter.event.set()

    # -- from outside

    def _owed_by(self) -> list[Holder]:
        return [f"whoever has {self.name}"]

    def snapshot(self) -> StateSnapshot:
        """State, who waits, and how many moves were made for waiters. Thread: any. May block shortly."""
        with self._lock:
            return StateSnapshot(self._state.value, tuple(each.name for each in self._waiters), self._moves)

    def check_quiet(self) -> list[str]:
        """What is wrong with it while nobody moves it: one sentence each. Thread: any. May block shortly."""
        with self._lock:
            state, waiters = self._state.value, list(self._waiters)
            counted = self._num_waiters.value
        wrong = [
            f"{self.name} is {state.value}, and {waiter.name} is parked, who waits for {_names(waiter.sources)}"
            for waiter in waiters
            if state in waiter.sources or state is CLOSED
        ]
        if counted != len(waiters):
            wrong.append(f"{self.name} counts {counted} waiters, its queue has {len(waiters)}")
        return wrong

    def __repr__(self) -> str:
        return f"<ConnStateMachine {self.name!r} {self._state!r}, {len(self._waiters)} waiting>"


def _names(states: States) -> str:
    return " or ".join(state.value for state in states)


def _move_text(sources: States, to: PoolConnState) -> str:
    return f"{_names(sources)} -> {to.value}"
