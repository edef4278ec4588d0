"""Bulkhead: at most `limit` callers inside at once, whoever comes first goes in first; and Bulkheads, limits by name.

Role: keeps one slow peer from taking all the threads: the database has its limit, the web API another. A permit that
is given back while somebody waits goes to the head of the line directly; it is never free in between, so nobody can
come in from the side. Granting and giving up are decided under the line's lock, and whichever comes first stands.

While nobody waits the whole state is one integer, the free permits: taking and giving back are a look and a
compare-and-swap, without a lock, so that a thread that is interrupted in the middle keeps nobody waiting. Somebody who
finds none free takes the lock and swaps the 0 for LINE, which is below 0: from then on all come by the lock, until the
line is empty again.

`pool.turns.Turns` keeps the same rules with a lock on every path. It is not the core here because of that: in the same
run a pair of acquire and release costs it twice as much (`bench/resilience.py` has both), and twelve threads that share
a lock that is held over calls convoy. The faults are the same, too.

Thread: any. Upstream: none; see `Turns` for the model's semaphores. Left out: changing a limit, knowing who is inside
(`holders` may tell). Bound of the line: `max_waiting`; 0: none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches

from coordemu.pool.pool_context import PoolContext, check, park
from coordemu.resilience.limiter_line import CALLED_OFF, SERVED, TIMED_OUT, LineWaiter, WaitingLine
from coordemu.resilience.resilience_errors import BulkheadFull, ResilienceError
from coordemu.runtime.base import Holder, Runtime

# Of the shared integer: somebody waits.
LINE = -1


class BulkheadOverfull(ResilienceError):
    """A permit was given back that nobody had. Nothing has changed."""


class UnknownBulkhead(KeyError):
    """No limit has that name; the message names the nearest one."""

    def __str__(self) -> str:
        return str(self.args[0])


class _Inside:
    """What `Bulkhead.enter` returns: gives back at the end of the with-block. One for all callers of a bulkhead."""

    __slots__ = ("_release",)

    def __init__(self, release: Callable[[], None]) -> None:
        self._release = release

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exc: object) -> None:
        self._release()


class Bulkhead:
    """`limit` permits. A `Waitable`: a waiter is blocked as long as all holders are.

    limit: 1 or more.  max_waiting: places in line, 0: no bound.  holders: who is inside, for the wait-for graph.
    Raises ValueError outside the bounds. Thread: any.
    """

    any_suffices = True
    kind = "bulkhead"
    relation = "held by"

    def __init__(
        self,
        rt: Runtime,
        limit: int,
        name: str = "bulkhead",
        max_waiting: int = 0,
        holders: Callable[[], Sequence[Holder]] | None = None,
    ) -> None:
        if limit < 1:
            raise ValueError(f"{name}: limit {limit} is below 1")
        self.name = name
        self.limit = limit
        self._rt = rt
        self._free = rt.cell(limit, f"{name} free")
        self._swap: Callable[[int, int], bool] = self._free.compare_exchange
        self._line = WaitingLine(rt, name, "a permit", max_waiting)
        self._holders = holders
        self._inside = _Inside(self.release)

    # -- going in

    def try_acquire(self) -> bool:
        """Take a permit if one is free and nobody waits. Thread: any. Never blocks."""
        while True:
            free = self._free.value
            if free <= 0:
                return False
            if self._swap(free, free - 1):
                return True

    def acquire(self, timeout_ns: int | None = None, ctx: PoolContext | None = None) -> int:
        """Take a permit, in the order of coming. How long it waited, ns; 0: not at all.

        timeout_ns: None: no limit but the context's; 0 or less: do not wait.
        Raises BulkheadFull (the time limit, or no place in line), Cancelled, DeadlineExceeded (the context); no permit
        is held then. Thread: any. May block.
        """
        if ctx is not None:
            check(ctx)
        free = self._free.value
        if free > 0 and self._swap(free, free - 1):
            return 0
        return self._acquire_in_line(timeout_ns, ctx)

    def enter(self, timeout_ns: int | None = None, ctx: PoolContext | None = None) -> _Inside:
        """`with bulkhead.enter(): ...` takes a permit here, and gives it back at the end. As `acquire`."""
        self.acquire(timeout_ns, ctx)
        return self._inside

    def _acquire_in_line(self, timeout_ns: int | None, ctx: PoolContext | None) -> int:
        waiter = self._join(timeout_ns)
        if waiter is None:
            return 0
        began_ns = self._rt.now_ns()
        try:
            park(self._rt, waiter.event, ctx, None if timeout_ns is None else began_ns + timeout_ns)
        except BaseException:
            # Not a refusal: a permit that came meanwhile has nobody to use it.
            if self._leave(waiter, 0, CALLED_OFF):
                self.release()
            raise
        error = ctx.error() if ctx is not None else None
        waited_ns = max(0, self._rt.now_ns() - began_ns)
        if self._leave(waiter, waited_ns, TIMED_OUT if error is None else CALLED_OFF):
            return waited_ns
        raise error if error is not None else BulkheadFull(self.name, waited_ns, self.limit, len(self._line))

    def _join(self, timeout_ns: int | None) -> LineWaiter | None:
        """A permit at once (None), or a place in line."""
        line = self._line
        with line.lock:
            if self._take_or_bar_locked(timeout_ns):
                return None
            if (timeout_ns is not None and timeout_ns <= 0) or line.full:
                line.turn_away()
                raise BulkheadFull(self.name, 0, self.limit, len(line))
            return line.join(1, self._owed_by)

    def _take_or_bar_locked(self, timeout_ns: int | None) -> bool:
        """A permit (True), or none is free and (for who is going to wait) all come by the lock from now on."""
        while True:
            free = self._free.value
            if free > 0:
                if self._swap(free, free - 1):
                    return True
            elif free == LINE or (timeout_ns is not None and timeout_ns <= 0) or self._swap(0, LINE):
                return False

    def _leave(self, waiter: LineWaiter, waited_ns: int, otherwise: str) -> bool:
        """The end of a wait. Whether it has a permit. otherwise: how the wait has ended if not."""
        line = self._line
        with line.lock:
            line.count(SERVED if waiter.served else otherwise, waited_ns)
            if not waiter.served:
                line.leave(waiter)
                if not line:
                    self._free.value = 0
            return waiter.served

    # -- coming out

    def release(self) -> None:
        """Give a permit back; the head of the line has it at once.

        Raises BulkheadOverfull, and changes nothing, when all are free. Thread: any. Never blocks for long.
        """
        while True:
            free = self._free.value
            if free < 0:
                if self._hand_over():
                    return
            elif free >= self.limit:
                caller = self._rt.current().name
                raise BulkheadOverfull(f"{self.name}: {caller} gives back a permit, and all {self.limit} are free")
            elif self._swap(free, free + 1):
                return

    def _hand_over(self) -> bool:
        """The permit to the head of the line. False: nobody waits any more."""
        line = self._line
        with line.lock:
            waiter = line.head
            if waiter is None:
                self._swap(LINE, 0)  # an exception came between the swap and the joining
                return False
            if line.serve(waiter) is None:
                self._free.value = 0
        waiter.event.set()
        return True

    # -- from outside

    @property
    def held(self) -> int:
        """Permits that somebody has. Thread: any."""
        return self.limit - max(0, self._free.value)

    @property
    def waiting(self) -> int:
        """Callers in line. Thread: any."""
        return len(self._line)

    def holders(self) -> Sequence[Holder]:
        """Who could give a permit back. Thread: any."""
        held = self._holders() if self._holders is not None else ()
        return list(held) or ["whoever is inside"]

    def _owed_by(self, waiter: LineWaiter) -> Sequence[Holder]:
        return [self]

    def broken_rules(self) -> list[str]:
        """What is wrong with it, at any time: one sentence each, after its rule's letters. Thread: any. May block
        shortly."""
        with self._line.lock:
            free, waiting = self._free.value, len(self._line)
        wrong = self._line.broken_order()
        if not LINE <= free <= self.limit:
            wrong.append(f"S1 {self.name}: {free} of {self.limit} permits are free")
        if (free == LINE) != bool(waiting):
            wrong.append(f"Q4 {self.name}: {max(0, free)} permits are free, and {waiting} wait for one")
        return wrong

    def statistics(self) -> dict[str, int]:
        """limit, held, and those of the line (`WaitingLine.statistics`). Thread: any."""
        return {"limit": self.limit, "held": self.held, **self._line.statistics()}

    def __repr__(self) -> str:
        return f"<Bulkhead {self.name!r} {self.held}/{self.limit} inside, {self.waiting} waiting>"


class Bulkheads(Mapping[str, Bulkhead]):
    """Limits by name: `Bulkheads(rt, {"database": 8, "hub": 5})["hub"]`. They share nothing.

    limits: each 1 or more.  max_waiting: places in each line, 0: no bound. Raises ValueError outside the bounds.
    Thread: any.
    """

    def __init__(self, rt: Runtime, limits: Mapping[str, int], max_waiting: int = 0) -> None:
        self._by_name = {name: Bulkhead(rt, limit, name, max_waiting) for name, limit in limits.items()}

    def __getitem__(self, name: str) -> Bulkhead:
        try:
            return self._by_name[name]
        except KeyError:
            near = get_close_matches(str(name), self._by_name, n=1, cutoff=0.0)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UnknownBulkhead(f"no bulkhead is called {name!r}{hint}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def statistics(self) -> dict[str, dict[str, int]]:
        """Those of each, by name. Thread: any."""
        return {name: bulkhead.statistics() for name, bulkhead in self._by_name.items()}

    def __repr__(self) -> str:
        return f"<Bulkheads {', '.join(f'{each.name} {each.held}/{each.limit}' for each in self._by_name.values())}>"
