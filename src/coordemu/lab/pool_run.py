"""PoolRun: the tests of the pool, one after the other, on real servers and real threads.

Role: makes a client per test (or per round), lets the tasks begin at one moment, looks now and then whether time is
over and tells who watches, and gathers what there is to know when all tasks have ended: tallies, statistics of every
pool, rules of the pool that do not hold at rest. Nothing is left when it returns or raises: no task, no connection.

How a test ends early: at its time limit the tasks stop after the operation that they are in; whoever is still in one
after the grace time, or when the user has had enough, has the client closed under it, which wakes it.

Thread: the caller's; one task per task of a test besides. Blocks for the length of the tests. Upstream: the three main
functions of the example application. Left out: the simulator; what there is to see in every order is the recipes'
(`coordemu.pool.pool_recipes`). Bound: `time_limit_ns` and the grace time per test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import hiredis

from coordemu.lab.pool_detector import detect
from coordemu.lab.pool_metrics import TaskTally, reason_of, sum_up
from coordemu.lab.pool_modes import MIXED, PUBSUB, THREE, PoolTest
from coordemu.lab.pool_result import PoolTestResult
from coordemu.lab.pool_subscribers import PoolSubscribers
from coordemu.lab.pool_verdict import judge
from coordemu.lab.pool_work import (
    CHANNELS,
    OUTCOMES,
    Abilities,
    PoolHand,
    channel_name,
    counters_of,
    find_abilities,
    load_keys,
    publishes,
)
from coordemu.pool.cluster_client import ClusterClient, ClusterOptions
from coordemu.pool.invariants import broken_rules
from coordemu.pool.pool_snapshot import PoolSnapshot
from coordemu.pool.slot_map import SlotMap, even_map, parse_slots, slot_of
from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Address, Runtime, Task

LOOK_NS = 100 * NS_PER_MS
REST_NS = 5 * NS_PER_S
GRACE_NS = 10 * NS_PER_S
LEAVE_NS = 15 * NS_PER_S
TIME_LIMIT_NS = 60 * NS_PER_S
NO_COUNT = "the servers have no INCR: a SET takes its place"
NO_PUBLISH = "the servers have no PUBLISH: publishers SET, and nobody listens"


class PoolRunError(Exception):
    """The environment did not allow the run: no server, no thread to be had. One line."""


class Stopped(Exception):
    """The user has had enough. The results of the tests that ended before were told."""


@dataclass(frozen=True, slots=True)
class PoolLook:
    """How far a test is. number: of the test, from 1, of `count`.  done, planned: operations; planned 0: it runs for a
    time.  snapshot: where every connection is now, by node."""

    test: PoolTest
    number: int
    count: int
    done: int
    planned: int
    elapsed_ns: int
    snapshot: Callable[[], dict[str, PoolSnapshot]]


Watch = Callable[[PoolLook], None]


def nobody_looks(_look: PoolLook) -> None:
    """Where looks go that nobody wants."""


def nobody_listens(_result: PoolTestResult) -> None:
    """Where results go that are waited for."""


def never() -> bool:
    """Nobody stops it."""
    return False


class PoolRun:
    """Some tests against some servers.

    addresses: of the servers, one or more; nodes of a cluster, or servers that share the slots evenly.  password: for
    AUTH, None: none.  stopped: asked every 100 ms; True ends the run.  watch: told every 100 ms.  time_limit_ns: for
    one test, more than 0.  tell: told of each result at once.
    """

    def __init__(
        self,
        rt: Runtime,
        addresses: Sequence[Address],
        tests: Sequence[PoolTest],
        password: str | None = None,
        stopped: Callable[[], bool] = never,
        watch: Watch = nobody_looks,
        time_limit_ns: int = TIME_LIMIT_NS,
        tell: Callable[[PoolTestResult], None] = nobody_listens,
    ) -> None:
        self._rt = rt
        self._addresses = tuple(addresses)
        self._tests = tuple(tests)
        self._password = password
        self._stopped = stopped
        self._watch = watch
        self._time_limit_ns = time_limit_ns
        self._tell = tell
        self._tasks_before = 0

    def carry_out(self) -> list[PoolTestResult]:
        """Run all. Raises PoolRunError, Stopped. Blocks."""
        self._rt.current()  # has the caller's own thread counted
        self._tasks_before = len(self._rt.tasks())
        results: list[PoolTestResult] = []
        try:
            abilities = self._ask_abilities()
            for number, test in enumerate(self._tests, 1):
                if self._stopped():
                    raise Stopped
                one = _OneTest(self._rt, test, self._client, abilities, self._addresses, self._password)
                result = one.carry_out(self._stopped, self._looks(test, number), self._time_limit_ns)
                if one.stopped:
                    raise Stopped
                results.append(result)
                self._tell(result)
        finally:
            # Dials whose callers have gone end by themselves.
            self._rt.poll_until(
                lambda: len(self._rt.tasks()) <= self._tasks_before, NS_PER_MS, "the last tasks to end", LEAVE_NS
            )
        return results

    def _looks(self, test: PoolTest, number: int) -> Callable[[int, int, ClusterClient], None]:
        def look(done: int, elapsed_ns: int, client: ClusterClient) -> None:
            count = len(self._tests)
            self._watch(PoolLook(test, number, count, done, test.planned, elapsed_ns, client.snapshot))

        return look

    def _client(self, test: PoolTest | None) -> ClusterClient:
        options = ClusterOptions(password=self._password)
        if test is not None:
            options = ClusterOptions(pool=test.pool, password=self._password)
        return ClusterClient(self._rt, self._addresses, options, test.name if test else "pool")

    def _ask_abilities(self) -> Abilities:
        client = self._client(None)
        try:
            return find_abilities(client)
        except OUTCOMES as error:
            raise PoolRunError(f"{', '.join(map(str, self._addresses))}: {error}") from None
        finally:
            client.close()


class _OneTest:
    """One test under way. stopped: whether the user has ended it."""

    def __init__(
        self,
        rt: Runtime,
        test: PoolTest,
        make_client: Callable[[PoolTest], ClusterClient],
        abilities: Abilities,
        addresses: Sequence[Address],
        password: str | None,
    ) -> None:
        self._rt = rt
        self._test = test
        self._make_client = make_client
        self._abilities = abilities
        self._addresses = addresses
        self._password = password
        self._hands: list[PoolHand] = []
        self._crashes: list[str] = []
        self._rules: list[str] = []
        self._nodes: dict[str, dict[str, int]] = {}
        self._removals: dict[str, dict[str, int]] = {}
        self._counts: dict[str, int] = {}
        self._facts: dict[str, int] = {}
        self.stopped = False
        self._ending = False
        self._cut_short = False
        self._end_ns: int | None = None
        self._began_ns = rt.now_ns()

    def carry_out(
        self, stopped: Callable[[], bool], look: Callable[[int, int, ClusterClient], None], limit_ns: int
    ) -> PoolTestResult:
        """Run it. Raises PoolRunError. Blocks."""
        test = self._test
        client = self._make_client(test)
        subscribers: PoolSubscribers | None = None
        try:
            subscribers = self._prepare(client)
            self._began_ns = self._rt.now_ns()
            if test.duration_ms:
                self._end_ns = self._began_ns + test.duration_ms * NS_PER_MS
            for number in range(test.rounds):
                if number and test.fresh_client:
                    self._leave(client)
                    client = self._make_client(test)
                self._round(client, number, stopped, look, self._began_ns + limit_ns)
                if self._ending:
                    break
                if test.rest_ms:
                    self._rt.sleep_ns(test.rest_ms * NS_PER_MS)
            elapsed_ns = self._rt.now_ns() - self._began_ns
            self._count_facts(subscribers)
            self._delete_counters(client)
            self._leave(client)
        finally:
            client.close()
            if subscribers is not None:
                subscribers.stop()
        return self._result(elapsed_ns)

    # -- before and after

    def _prepare(self, client: ClusterClient) -> PoolSubscribers | None:
        test = self._test
        try:
            if test.work == MIXED:
                load_keys(client, self._hand(client, 0, 0))
            if test.work != PUBSUB or not self._abilities.publish:
                return None
            made = PoolSubscribers(self._rt, self._channels(client), test.subscribers, self._password)
        except OUTCOMES as error:
            raise PoolRunError(f"{test.name}: preparing it failed: {error}") from None
        made.wait_ready()  # what could not be subscribed is counted
        return made

    def _channels(self, client: ClusterClient) -> Mapping[Address, Sequence[str]]:
        """By node: the channels whose messages are sent to it."""
        slots: SlotMap
        try:
            slots = parse_slots(client.execute("CLUSTER", "SLOTS"), self._addresses[0])
        except hiredis.ReplyError:
            slots = even_map(self._addresses)
        except ValueError as error:
            raise PoolRunError(f"{self._test.name}: {error}") from None
        channels: dict[Address, list[str]] = {}
        for name in (channel_name(self._test, number) for number in range(CHANNELS)):
            channels.setdefault(slots.node_of(slot_of(name.encode())) or self._addresses[0], []).append(name)
        return channels

    def _count_facts(self, subscribers: PoolSubscribers | None) -> None:
        if self._test.work != PUBSUB:
            return
        done = {True: 0, False: 0}
        for hand in self._hands:
            done[publishes(self._test, hand.number)] += len(hand.tally.latencies_ns)
        if subscribers is None:
            self._facts = {"written instead of published": done[True], "get_set": done[False]}
            return
        subscribers.wait_received(done[True] * self._test.subscribers)
        self._facts = {
            "published": done[True], "received": subscribers.received, "subscribe_errors": subscribers.errors,
            "get_set": done[False],
        }  # fmt: skip

    def _delete_counters(self, client: ClusterClient) -> None:
        """What INCR has left, which does not expire. Best effort: a server may have gone by now."""
        keys = counters_of(self._test)
        if self._abilities.count and keys and not self._ending:
            client.pipeline([("DEL", key) for key in keys])

    def _leave(self, client: ClusterClient) -> None:
        """Look at the pools once nothing is under way any more, then close them."""
        if not self._ending:
            self._rt.poll_until(
                lambda: not any(broken_rules(pool) for pool in client.pools.values()),
                NS_PER_MS, "the pools' rest", REST_NS,
            )  # fmt: skip
            self._rules += [rule for pool in client.pools.values() for rule in broken_rules(pool)]
        for address, pool in client.pools.items():
            _add(self._nodes.setdefault(str(address), {}), pool.statistics())
            _add(self._removals.setdefault(str(address), {}), pool.removals())
        own = client.statistics()
        _add(self._counts, {key: own[key] for key in ("moved", "asked", "retries", "maps", "unanswered")})
        client.close()

    # -- a round

    def _hand(self, client: ClusterClient, number: int, round_number: int) -> PoolHand:
        first = round_number * self._test.operations
        return PoolHand(self._rt, client, self._test, self._abilities, number, first, self._over)

    def _over(self) -> bool:
        return self._ending or (self._end_ns is not None and self._rt.now_ns() >= self._end_ns)

    def _round(
        self,
        client: ClusterClient,
        round_number: int,
        stopped: Callable[[], bool],
        look: Callable[[int, int, ClusterClient], None],
        limit_at_ns: int,
    ) -> None:
        test = self._test
        gate = self._rt.event(f"{test.name} begins", owed_by=lambda: [self._rt.current()])
        hands = [self._hand(client, number, round_number) for number in range(test.tasks)]
        tasks: list[Task] = []

        def run(hand: PoolHand) -> None:
            gate.wait()
            hand.work()

        complete = False
        try:
            for hand in hands:
                tasks.append(self._rt.spawn(run, hand, name=f"{test.name} task {hand.number}"))
            self._hands += hands
            gate.set()
            self._await(tasks, client, stopped, look, limit_at_ns)
            complete = True
        except RuntimeError as error:
            raise PoolRunError(f"{test.name}: {len(tasks)} of {test.tasks} tasks could be started: {error}") from None
        finally:
            if not complete:
                self._ending = True
                client.close()
                gate.set()
            for task in tasks:
                task.join()
        self._crashes += [reason_of(task.error) for task in tasks if task.error is not None]

    def _await(
        self,
        tasks: Sequence[Task],
        client: ClusterClient,
        stopped: Callable[[], bool],
        look: Callable[[int, int, ClusterClient], None],
        limit_at_ns: int,
    ) -> None:
        looked_ns = self._rt.now_ns()
        for task in tasks:
            while True:
                ended = task.join(LOOK_NS)
                now_ns = self._rt.now_ns()
                if now_ns - looked_ns >= LOOK_NS:
                    looked_ns = now_ns
                    self._check_time(now_ns, client, stopped, limit_at_ns)
                    look(sum(hand.tally.ended for hand in self._hands), now_ns - self._began_ns, client)
                if ended:
                    break

    def _check_time(self, now_ns: int, client: ClusterClient, stopped: Callable[[], bool], limit_at_ns: int) -> None:
        if stopped():
            self.stopped = self._ending = True
            client.close()
        elif now_ns >= limit_at_ns:
            self._ending = self._cut_short = True
            if now_ns >= limit_at_ns + GRACE_NS:
                client.close()

    # -- the result

    def _result(self, elapsed_ns: int) -> PoolTestResult:
        test = self._test
        tallies: list[TaskTally] = [hand.tally for hand in self._hands]
        metrics = sum_up(tallies, test.planned, elapsed_ns)
        detected = detect(tallies, len(self._rules))
        notes = []
        if test.work == THREE and not self._abilities.count:
            notes.append(NO_COUNT)
        if test.work == PUBSUB and not self._abilities.publish:
            notes.append(NO_PUBLISH)
        if self._cut_short:
            notes.append("its time limit ended it")
        verdict = judge(test, metrics, detected, self._rules, len(self._crashes))
        return PoolTestResult(
            test, metrics, detected, verdict, self._nodes, self._removals, self._counts, self._facts, tuple(notes),
            tuple(self._rules), tuple(self._crashes), self._cut_short,
        )  # fmt: skip


_MOST = ("longest_line", "most_open", "longest_wants")


def _add(sums: dict[str, int], more: Mapping[str, int]) -> None:
    """Add up; of what is a maximum, the greater."""
    for key, value in more.items():
        sums[key] = max(sums.get(key, 0), value) if key in _MOST else sums.get(key, 0) + value
