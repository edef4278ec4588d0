"""1,000,000 pairs of get and put on real threads, with everything going wrong now and then: are all the rules kept?

    python bench/pool_pairs.py [--pairs 1000000] [--callers 16] [--pool-size 8] [--seed 1]
        [--fault stale-put]

Role: searches play every order of a small program; here one large program plays a great many orders once. Callers take
connections and give them back, have some removed, give some back twice (which must be refused), come with deadlines and
are cancelled. Meanwhile dials fail or take long, handshakes fail, health checks say no, hooks refuse, and an operator
retires, fails over, drains, announces handoffs and changes credentials. A pair is one get that ended with a connection,
and its put or removal. At the end every rule of rest must hold, every connection that was dialed must be closed exactly
once, the listener's counts must be what there is, and every second put must have been refused.

Thread: the callers, an operator, and the pool's own. Upstream: none; its race tests make 10,000. Left out: how fast it
is, beside a rate for orientation. Exit status: 0; 1 when something was wrong.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.arguments import Arguments, exit_with
from coordemu.pool.conn_loan import ConnLoan
from coordemu.pool.conn_pool import ConnPool
from coordemu.pool.handoff import HandoffHook, HandoffOptions
from coordemu.pool.invariants import broken_rules
from coordemu.pool.pool_conn_state import PoolConnState
from coordemu.pool.pool_context import PoolContext
from coordemu.pool.pool_errors import NotInHand, PoolError
from coordemu.pool.pool_hooks import PlainHook
from coordemu.pool.pool_listener import PoolCounts
from coordemu.pool.pool_options import PoolOptions
from coordemu.pool.pooled_conn import PooledConn
from coordemu.pool.reauthentication import ReauthHook
from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Task
from coordemu.runtime.threads import ThreadsRuntime

PAIRS = 1_000_000
REST_NS = 60 * NS_PER_S
FAULTS = 1 / 200


class Wire:
    """What is dialed. Counts its closes."""

    def __init__(self) -> None:
        self.closes = 0

    def close(self) -> None:
        """Count it."""
        self.closes += 1


class Moody(PlainHook):
    """A hook that refuses now and then, and notes what it is told of."""

    def __init__(self, random: Random) -> None:
        self.removed: list[int] = []
        self._random = random

    def on_get(self, conn: PooledConn, is_new: bool) -> bool:
        """Mostly."""
        return self._random.random() >= FAULTS

    def on_remove(self, conn: PooledConn, reason: str) -> None:
        """Note it."""
        self.removed.append(conn.conn_id)


@dataclass
class PairsResult:
    """pairs: that were made.  outcomes: of gets that had no connection, by error.  refused: second puts.  wrong: rules
    that did not hold, a sentence each."""

    pairs: int = 0
    refused: int = 0
    dialed: int = 0
    elapsed_ns: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    removals: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For people."""
        rate = self.pairs * NS_PER_S / self.elapsed_ns if self.elapsed_ns else 0.0
        return [
            f"{self.pairs:,} pairs in {self.elapsed_ns / 1e9:.0f} s ({rate:,.0f}/s), {self.dialed:,} dialed",
            f"second puts refused: {self.refused:,}",
            "gets without a connection: "
            + ", ".join(f"{name} {count:,}" for name, count in self.outcomes.most_common()),
            "removals: " + ", ".join(f"{name} {count:,}" for name, count in self.removals.items()),
            *(self.wrong or ["every rule holds"]),
        ]


class Pairs:
    """The program. pairs: to make, by all callers together, 1 or more.  faults: of the pool, to see that they are
    seen."""

    def __init__(
        self,
        rt: ThreadsRuntime,
        pairs: int,
        callers: int = 16,
        pool_size: int = 8,
        seed: int = 1,
        faults: Collection[str] = (),
    ) -> None:
        self._rt = rt
        self._share = -(-pairs // callers)
        self._callers = callers
        self._random = Random(seed)
        self._lock = rt.lock("pairs")
        self._wires: list[Wire] = []
        self._loud: list[str] = []
        self.result = PairsResult()
        self.counts = PoolCounts(rt)
        options = PoolOptions(
            pool_size=pool_size, pool_timeout_ms=200, max_idle_conns=pool_size - 1, min_idle_conns=1, dialer_retries=2,
            dialer_retry_timeout_ms=1, probe_interval_ms=1, max_waiting=callers, conn_max_lifetime_ms=2_000,
            conn_max_lifetime_jitter_ms=500,
        )  # fmt: skip
        self.pool = ConnPool(
            rt, self._dial, options, faults=faults, initialize=self._handshake, health_check=self._healthy,
            listener=self.counts,
        )  # fmt: skip
        self.handoff = HandoffHook(
            rt,
            self.pool,
            lambda endpoint, timeout_ns: self._dial(timeout_ns),
            HandoffOptions(retries=2, retry_delay_ms=1),
        )
        self.reauth = ReauthHook(rt, self.pool, self._authenticate)
        self.moody = Moody(self._random)
        for hook in (self.handoff, self.reauth, self.moody):
            self.pool.add_hook(hook)
        self._running = callers

    def _now_and_then(self, often: float = 1.0) -> bool:
        return self._random.random() < FAULTS * often

    def _dial(self, timeout_ns: int | None) -> Wire:
        if self._random.random() < 0.2:
            raise ConnectionError("refused")
        if self._random.random() < 0.1:
            self._rt.sleep_ns(NS_PER_MS)
        wire = Wire()
        with self._lock:
            self._wires.append(wire)
        return wire

    def _handshake(self, conn: PooledConn) -> None:
        if self._random.random() < 0.1:
            raise ConnectionError("NOAUTH")

    def _authenticate(self, conn: PooledConn) -> None:
        # CLOSED: the operator has closed it under its worker.
        if conn.state not in (PoolConnState.UNUSABLE, PoolConnState.CLOSED):
            self._loud.append(f"{conn.name} is authenticated, and {conn.state.value}")
        if self._random.random() < 0.1:
            raise ConnectionError("WRONGPASS")

    def _healthy(self, wire: Wire) -> bool:
        return not wire.closes and not self._now_and_then()

    # -- callers

    def _caller(self) -> None:
        made = refused = 0
        outcomes: Counter[str] = Counter()
        last: ConnLoan | None = None
        try:
            while made < self._share:
                loan = self._get(outcomes)
                if loan is None:
                    continue
                if loan.state is not PoolConnState.IN_USE and not loan.conn.close_on_put:
                    self._loud.append(f"a caller has {loan.name}, and it is {loan.state.value}")
                if self._now_and_then(4) and last is not None:
                    refused += self._again(last)
                if not loan.current:
                    self._loud.append(f"{loan.name} was taken from a caller that has it")
                if self._now_and_then(2):
                    self.pool.remove(loan, "broken")
                else:
                    self.pool.put(loan)
                last = loan
                made += 1
        finally:
            with self._lock:
                self.result.pairs += made
                self.result.refused += refused
                self.result.outcomes.update(outcomes)
                self._running -= 1

    def _get(self, outcomes: Counter[str]) -> ConnLoan | None:
        ctx: PoolContext | None = None
        if self._now_and_then(4):
            ctx = PoolContext.after(self._rt, self._random.randrange(NS_PER_MS))
            if self._now_and_then(100):
                ctx.cancel()
        try:
            return self.pool.get(ctx)
        except (PoolError, ConnectionError) as error:
            outcomes[type(error).__name__] += 1
            return None

    def _again(self, loan: ConnLoan) -> int:
        """A second put, or removal. It must be refused."""
        try:
            if self._random.random() < 0.5:
                self.pool.put(loan)
            else:
                self.pool.remove(loan)
        except NotInHand:
            return 1
        self._loud.append(f"a second put of {loan.name} was accepted")
        return 0

    # -- the operator

    def _operator(self) -> None:
        sequence = 0
        while self._running:
            self._rt.sleep_ns(self._random.randrange(1, 10) * NS_PER_MS)
            sequence += 1
            what = self._random.randrange(5)
            with suppress(PoolError):
                if what == 0:
                    self.pool.retire()
                elif what == 1:
                    self._fail_over(sequence % 3)
                elif what == 2:
                    self.handoff.announce(f"endpoint {sequence}", sequence)
                elif what == 3:
                    self.reauth.credentials_changed()
                else:
                    self.pool.drain_idle(lambda conn: None)
            for sentence in broken_rules(self.pool, quiet=False):
                # What is between two steps of another thread is not a fault: it must hold at the second look.
                if sentence in broken_rules(self.pool, quiet=False):
                    self._rt.sleep_ns(50 * NS_PER_MS)
                    if sentence in broken_rules(self.pool, quiet=False):
                        self._loud.append(sentence)

    def _fail_over(self, left: int) -> None:
        self.pool.filter(lambda conn: conn.conn_id % 3 == left)

    def carry_out(self) -> PairsResult:
        """Run to the end, and judge. Blocks."""
        rt, result, pool = self._rt, self.result, self.pool
        began_ns = rt.now_ns()
        tasks: list[Task] = [rt.spawn(self._caller, name=f"caller {number}") for number in range(self._callers)]
        tasks.append(rt.spawn(self._operator, name="operator"))
        for task in tasks:
            task.join()
        result.elapsed_ns = rt.now_ns() - began_ns
        wrong = [f"{task.name} ended with {task.error!r}" for task in tasks if task.error is not None]
        rested = rt.poll_until(self._at_rest, NS_PER_MS, "rest", REST_NS)
        wrong += [] if rested else [f"it does not come to rest: {pool!r}, {self.handoff!r}, {self.reauth!r}"]
        wrong += broken_rules(pool)
        told, statistics = self.counts.statistics(), pool.statistics()
        if (told["idle"], told["used"], told["closed"]) != (statistics["idle"], 0, statistics["stale"]):
            wrong.append(f"the listener was told {told}, and there is {statistics}")
        pool.close()
        told_of = self.moody.removed
        if len(told_of) != len(set(told_of)) or len(told_of) != sum(pool.removals().values()):
            wrong.append(f"S6 hooks were told of {len(told_of)} removals: {pool.removals()}")
        result.removals = pool.removals()
        rt.poll_until(lambda: len(rt.tasks()) <= 1, NS_PER_MS, "the last tasks", REST_NS)
        closes = Counter(wire.closes for wire in self._wires)
        result.dialed = len(self._wires)
        if set(closes) - {1}:
            wrong.append(f"S6 of {result.dialed} sockets so many were closed so often: {dict(closes)}")
        result.wrong = wrong + self._loud[:20]
        return result

    def _at_rest(self) -> bool:
        pool = self.pool
        quiet = not pool.turns.held and not pool.dials.slots.held and not pool.register.dialing
        return quiet and not self.handoff.workers.busy and not self.reauth.busy and not pool.statistics()["probing"]


def main() -> int:
    """The command."""
    parser = Arguments(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--pool-size", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fault", action="append", default=[], help="switch one of the pool's faults on")
    given = parser.parse_args()
    rt = ThreadsRuntime(seed=given.seed)
    result = Pairs(rt, given.pairs, given.callers, given.pool_size, given.seed, given.fault).carry_out()
    print("\n".join(result.lines()))
    return int(bool(result.wrong))


if __name__ == "__main__":
    exit_with(main)
