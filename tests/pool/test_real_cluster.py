"""The client against a real cluster of three: a node dies and returns, one goes silent, a slot moves, while callers add
one to counters. Every call ends with a reply, or with an error that says whether it may have been carried out."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import hiredis
import pytest

from coordemu.pool.cluster_client import ClusterClient, ClusterOptions
from coordemu.pool.command_route import ClusterError
from coordemu.pool.invariants import check_invariants
from coordemu.pool.pool_errors import ConnFailed, PoolTimeout
from coordemu.pool.pool_options import PoolOptions
from coordemu.pool.slot_map import SLOTS, slot_of
from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Runtime
from coordemu.runtime.threads import ThreadsRuntime
from coordemu.shards.redis_cluster import RedisCluster

CALLERS = 6
PATIENCE_NS = 40 * NS_PER_S


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    """Three nodes; each test leaves them as it found them."""
    with RedisCluster(ThreadsRuntime(seed=1)) as started:
        yield started


def keys_of(node: int, count: int, tag: str) -> list[str]:
    """Names of counters that a node serves."""
    names = (f"{tag}:{number}" for number in range(100_000))
    mine = (name for name in names if slot_of(name.encode()) * 3 // SLOTS == node)
    return [next(mine) for _ in range(count)]


class Callers:
    """Tasks that add one to each of `keys` in turn, until told to stop, and what became of each call."""

    def __init__(self, rt: Runtime, client: ClusterClient, keys: list[str]) -> None:
        self.rt = rt
        self.client = client
        self.keys = keys
        self.stop = False
        self.phase = 0
        self.outcomes: Counter[tuple[str, int, str]] = Counter()
        self.begun = 0
        self.others: list[BaseException] = []
        self._lock = rt.lock("outcomes")
        self._tasks = [rt.spawn(self._run, number, name=f"caller {number}") for number in range(CALLERS)]

    def _run(self, number: int) -> None:
        turn = number
        while not self.stop:
            key, phase = self.keys[turn % len(self.keys)], self.phase
            with self._lock:
                self.begun += 1
            outcome = self._outcome(key)
            with self._lock:
                self.outcomes[key, phase, outcome] += 1
            turn += 1

    def _outcome(self, key: str) -> str:
        try:
            reply = self.client.execute("INCR", key)
        except ConnFailed as error:
            return "unknown" if error.sent else "not sent"
        except (ClusterError, PoolTimeout):
            return "not sent"
        except Exception as error:
            self.others.append(error)
            return "other"
        assert isinstance(reply, int)
        return "acknowledged"

    def count(self, outcome: str, keys: Any = None, phase: int | None = None) -> int:
        """How many calls ended so."""
        with self._lock:
            return sum(
                number
                for (key, when, what), number in self.outcomes.items()
                if what == outcome and (keys is None or key in keys) and (phase is None or phase == when)
            )

    def until(self, predicate: Callable[[], bool]) -> None:
        """Wait while they go on."""
        assert self.rt.poll_until(predicate, NS_PER_MS, "the callers", PATIENCE_NS), self.outcomes

    def end(self) -> None:
        """Stop them; every call that was begun has an outcome."""
        self.stop = True
        for task in self._tasks:
            assert task.join(PATIENCE_NS)
            assert task.error is None
        assert self.others == []
        assert sum(self.outcomes.values()) == self.begun

    def check(self, key: str, phase: int | None = None) -> None:
        """What the server has counted is what was acknowledged, and at most what nobody knows more."""
        counted = int(self.client.execute("GET", key) or 0)
        least = self.count("acknowledged", (key,), phase)
        assert least <= counted <= self.count("acknowledged", (key,)) + self.count("unknown", (key,)), key


@pytest.fixture
def make_callers(cluster: RedisCluster, rt_threads: ThreadsRuntime) -> Iterator[Callable[..., Callers]]:
    """`make_callers(keys, **options)`; at the end the pools are at rest, and every rule holds."""
    made: list[Callers] = []

    def make(keys: list[str], **options: Any) -> Callers:
        pool = PoolOptions(pool_size=2, pool_timeout_ms=2_000, dialer_retries=1, dial_timeout_ms=1_000)
        chosen = {"pool": pool, "read_timeout_ms": 300, "max_retry_backoff_ms": 100, **options}
        client = ClusterClient(rt_threads, cluster.addresses, ClusterOptions(**chosen))
        made.append(Callers(rt_threads, client, keys))
        return made[-1]

    yield make
    for callers in made:
        callers.stop = True
        for pool in callers.client.pools.values():
            assert rt_threads.poll_until(
                lambda pool=pool: not pool.turns.held and not pool.dials.slots.held, NS_PER_MS, "rest", PATIENCE_NS
            )
            check_invariants(pool)
        callers.client.close()
        assert callers.client.statistics()["turns_held"] == 0


def sound(cluster: RedisCluster) -> bool:
    """Whether every node calls the cluster sound."""
    try:
        return all(b"cluster_state:ok" in server.ask("CLUSTER", "INFO", timeout_ms=200) for server in cluster.servers)
    except Exception:
        return False


def test_a_node_is_killed_and_returns(cluster: RedisCluster, make_callers: Callable[..., Callers]) -> None:
    victim = 1
    keys = {node: keys_of(node, 2, "killed") for node in range(3)}
    callers = make_callers([key for node in range(3) for key in keys[node]])
    callers.until(lambda: all(callers.count("acknowledged", keys[node]) >= 20 for node in range(3)))
    cluster.servers[victim].kill()
    callers.until(lambda: callers.count("not sent") + callers.count("unknown") >= 5)
    cluster.servers[victim].restart()
    # It keeps nothing on disk: its counters begin again.
    callers.phase = 1
    callers.until(lambda: all(callers.count("acknowledged", keys[node], 1) >= 20 for node in range(3)))
    callers.end()
    for node in range(3):
        for key in keys[node]:
            callers.check(key, 1 if node == victim else None)
    by_node = callers.client.statistics_by_node()[str(cluster.addresses[victim])]
    assert by_node["failed_dials"] + by_node["broken"] > 0
    assert cluster.servers[victim].ask("DBSIZE") is not None
    assert callers.rt.poll_until(lambda: sound(cluster), 10 * NS_PER_MS, "the cluster", PATIENCE_NS)


def test_a_server_goes_silent_and_comes_back(cluster: RedisCluster, make_callers: Callable[..., Callers]) -> None:
    victim = 0
    keys = {node: keys_of(node, 2, "silent") for node in range(3)}
    callers = make_callers([key for node in range(3) for key in keys[node]], read_timeout_ms=150)
    callers.until(lambda: all(callers.count("acknowledged", keys[node]) >= 20 for node in range(3)))
    pid = cluster.servers[victim].pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        callers.until(lambda: callers.count("unknown", keys[victim]) >= 4)
    finally:
        os.kill(pid, signal.SIGCONT)
    callers.phase = 1
    callers.until(lambda: all(callers.count("acknowledged", keys[node], 1) >= 20 for node in range(3)))
    callers.end()
    for node in range(3):
        for key in keys[node]:
            callers.check(key)
    assert callers.client.statistics_by_node()[str(cluster.addresses[victim])]["reply_timeouts"] >= 4
    assert callers.count("unknown") >= 4
    assert callers.rt.poll_until(lambda: sound(cluster), 10 * NS_PER_MS, "the cluster", PATIENCE_NS)


def move_slot(cluster: RedisCluster, slot: int, source: int, target: int, between: Callable[[str], None]) -> None:
    """As redis-cli does it. between: called with "open" when both ends know, and "moved" when the keys have moved."""
    ids = [server.ask("CLUSTER", "MYID") for server in cluster.servers]
    to = cluster.addresses[target]
    cluster.servers[target].ask("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
    cluster.servers[source].ask("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
    between("open")
    while True:
        keys = cluster.servers[source].ask("CLUSTER", "GETKEYSINSLOT", slot, 10)
        assert isinstance(keys, list)
        if not keys:
            break
        cluster.servers[source].ask("MIGRATE", to.host, to.port, "", 0, 5000, "KEYS", *keys, timeout_ms=6000)
    between("moved")
    for index in (target, source, 3 - target - source):
        cluster.servers[index].ask("CLUSTER", "SETSLOT", slot, "NODE", ids[target])


def test_a_slot_moves_under_its_callers_and_back(cluster: RedisCluster, make_callers: Callable[..., Callers]) -> None:
    (tag,) = keys_of(2, 1, "moving")
    moving = [f"{{{tag}}}:{number}" for number in range(4)]
    keys = [*moving, *keys_of(0, 1, "staying"), *keys_of(1, 1, "staying"), *keys_of(2, 1, "staying")]
    slot = slot_of(tag.encode())
    callers = make_callers(keys, read_timeout_ms=5_000, max_redirects=8)
    statistics = callers.client.statistics
    callers.until(lambda: all(callers.count("acknowledged", (key,)) >= 5 for key in keys))

    def between(stage: str) -> None:
        if stage == "moved":
            asked = statistics()["asked"]
            callers.until(lambda: statistics()["asked"] > asked)

    for number, (source, target) in enumerate(((2, 0), (0, 2)), 1):
        moved = statistics()["moved"]
        move_slot(cluster, slot, source, target, between)
        callers.until(lambda moved=moved: statistics()["moved"] > moved)
        callers.phase = number
        callers.until(lambda number=number: all(callers.count("acknowledged", (key,), number) >= 5 for key in keys))
    callers.end()
    assert callers.count("unknown") == callers.count("not sent") == 0
    for key in keys:
        assert int(callers.client.execute("GET", key)) == callers.count("acknowledged", (key,))
    assert callers.client._slots.get().node_of(slot) == cluster.addresses[2]
    assert callers.rt.poll_until(lambda: sound(cluster), 10 * NS_PER_MS, "the cluster", PATIENCE_NS)


def test_a_read_in_a_pipeline_follows_a_slot_that_is_open(cluster: RedisCluster, rt_threads: ThreadsRuntime) -> None:
    """While a slot is open a key that has moved is asked for at the new node; the map stays as it is."""
    (tag,) = keys_of(1, 1, "open")
    slot, keys = slot_of(tag.encode()), [f"{{{tag}}}:{number}" for number in range(3)]
    client = ClusterClient(rt_threads, cluster.addresses, ClusterOptions(pool=PoolOptions(pool_size=2)))
    assert client.pipeline([("SET", key, number) for number, key in enumerate(keys)]) == [b"OK"] * 3
    seen: list[list[Any]] = []

    def between(stage: str) -> None:
        if stage == "moved":
            seen.append(client.pipeline([("GET", key) for key in keys]))

    for source, target in ((1, 2), (2, 1)):
        move_slot(cluster, slot, source, target, between)
    assert seen == [[b"0", b"1", b"2"]] * 2
    assert client.pipeline([("GET", key) for key in keys]) == [b"0", b"1", b"2"]
    assert client.statistics()["asked"] >= 3
    with client.sticky(keys[0]) as conn:
        assert conn.call("WATCH", keys[0]) == b"OK"
        assert conn.call("MULTI") == b"OK"
        assert conn.call("INCR", keys[0]) == b"QUEUED"
        assert client.execute("INCR", keys[0]) == 1
        assert conn.call("EXEC") is None  # somebody else has changed it meanwhile
        assert not isinstance(conn.call("PING"), hiredis.ReplyError)
    client.close()
    assert cluster.statistics()["alive"] == 3


def test_a_command_goes_to_its_key_wherever_that_stands(cluster: RedisCluster, rt_threads: ThreadsRuntime) -> None:
    client = ClusterClient(rt_threads, cluster.addresses, ClusterOptions(max_redirects=0))
    for node in range(3):
        (key,) = keys_of(node, 1, "stream")
        client.execute("XGROUP", "CREATE", key, "group", 0, "MKSTREAM")
        client.execute("XADD", key, "1-0", "field", "value")
        ((name, _),) = client.execute("XREADGROUP", "GROUP", "group", "me", "COUNT", 1, "STREAMS", key, ">")
        assert name == key.encode()
        assert client.execute("EVAL", "return redis.call('XLEN', KEYS[1])", 1, key) == 1
        assert client.execute("OBJECT", "ENCODING", key) == b"stream"
    assert client.statistics()["moved"] == client.statistics()["retries"] == 0
    client.close()
