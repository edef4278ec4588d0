"""OrderSearch: a search as it is asked for, in this process, in several, or on a cluster, sampled or exhaustive.

Role: what the commands call. It picks who plays (`jobs`, `dask_jobs`, `dpor`, `dfs`), ends at a time limit or when it
is asked to, and puts what came of it into one value, whatever the way.

Thread: the caller's; blocks for the length of the search. Upstream: none. Left out: Ctrl-C, shrinking, printing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from coordemu.explore.dask_jobs import explore_on_dask
from coordemu.explore.dfs import search_all
from coordemu.explore.dpor import exhaust
from coordemu.explore.jobs import explore_here, explore_in_processes
from coordemu.explore.order import OrderPlan, Played, Subject
from coordemu.explore.portfolio import PORTFOLIO
from coordemu.explore.ranges import Lost, Work
from coordemu.explore.search import SearchResult, length_of, search_range
from coordemu.runtime.base import NS_PER_S
from coordemu.runtime.threads import ThreadsRuntime

DEFAULT_ORDERS = 1000
DFS, DPOR = "dfs", "dpor"

Show = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Searched:
    """What came of a search.

    result: what was found.  whole: all that was asked for was played.  lost: orders that killed their workers.
    broken_off: why it could not go on, "" when it could.
    complete, classes, runs: of an exhaustive search, which plays some orders only to see that they are not new; None
    and 0 otherwise.  elapsed_ns: of this machine's time.
    """

    result: SearchResult
    whole: bool
    lost: tuple[Lost, ...] = ()
    complete: bool | None = None
    classes: int = 0
    runs: int = 0
    broken_off: str = ""
    elapsed_ns: int = 0


class NotRepeatable(Exception):
    """The subject does not do the same again in the same order; one line."""


@dataclass(frozen=True, slots=True)
class OrderSearch:
    """What is asked for.

    strategy: see `portfolio`; of an exhaustive search "dpor" or "dfs".  seed: of the search.  count: how many orders at
    most, None: until the time is over (or, when exhaustive, until there are no more).  seconds: how long at most, None
    without end.  exhaustive: every order that differs.  jobs: processes, 1 to 256.  dask: a scheduler's address, "" for
    none.  only: the number of one order to play, None for all.  factory: makes the subject again in other processes.
    preemptions: of an exhaustive "dfs", the most that an order has; None for no bound.
    """

    factory: str
    strategy: str = PORTFOLIO
    seed: int = 1
    count: int | None = DEFAULT_ORDERS
    seconds: float | None = None
    exhaustive: bool = False
    jobs: int = 1
    dask: str = ""
    only: int | None = None
    preemptions: int | None = None

    def carry_out(self, subject: Subject, interrupted: Callable[[], bool], show: Show) -> Searched:
        """Search. interrupted: asked often, to end early.  show: told (orders, kinds of failures) often.

        Raises JobsError, one line, when it can't be shared as asked, NotRepeatable, and ValueError for an unknown
        strategy. Blocks.
        """
        now_ns = ThreadsRuntime().now_ns
        began_ns = now_ns()
        until_ns = None if self.seconds is None else began_ns + round(self.seconds * NS_PER_S)

        def stop() -> bool:
            return interrupted() or (until_ns is not None and now_ns() >= until_ns)

        found = self._exhaust(subject, stop, show) if self.exhaustive else self._sample(subject, stop, show)
        # Without a number of orders, the time is what was asked for.
        timed = self.count is None and not (self.exhaustive or found.lost or found.broken_off)
        whole = (found.whole or timed) and not interrupted()
        return replace(found, whole=whole, elapsed_ns=now_ns() - began_ns)

    def _sample(self, subject: Subject, stop: Callable[[], bool], show: Show) -> Searched:
        length = length_of(subject)
        if self.only is not None:
            return Searched(search_range(subject, self.strategy, self.seed, self.only, 1, length), True)
        work = Work(subject.describe(), self.factory, self.strategy, self.seed, length, self.count)

        def tell(result: SearchResult) -> None:
            show(result.orders, len(result.found))

        if self.dask:
            explored = explore_on_dask(work, self.dask, stop, tell)
        elif self.jobs > 1:
            explored = explore_in_processes(work, self.jobs, stop, tell)
        else:
            explored = explore_here(work, subject, stop, tell)
        return Searched(explored.result, explored.whole, explored.lost, broken_off=explored.broken_off)

    def _exhaust(self, subject: Subject, stop: Callable[[], bool], show: Show) -> Searched:
        runs = 0
        kinds: set[tuple[str, ...]] = set()

        def count(played: Played) -> None:
            nonlocal runs
            runs += 1
            if played.failure is not None:
                kinds.add(played.failure.signature)
            show(runs, len(kinds))

        plan = OrderPlan(rt_seed=self.seed, length=length_of(subject))
        try:
            if self.strategy == DFS:
                result = search_all(subject, plan, self.preemptions, self.count, count, stop)
            else:
                result = exhaust(subject, plan, limit=self.count, on_order=count, stop=stop)
        except RuntimeError as err:
            raise NotRepeatable(str(err)) from None
        played = SearchResult(sum(result.verdicts.values()), result.steps, result.verdicts, result.found)
        return Searched(played, result.complete, (), result.complete, result.classes, result.runs)
