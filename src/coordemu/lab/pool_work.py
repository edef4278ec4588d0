"""The kinds of work of the pool's tests: what one task does, operation after operation.

Role: a task has a `PoolHand`: the client, its own tally, its chance, and the question whether it is time to end. Each
operation is one `attempt`: begun, then either a success with its latency or a failure with its kind. Keys begin with
"coordemu:", and where the server can let keys expire these do: the tests may run against a server that has other users.

What a server cannot do is found out before (`find_abilities`): where there is no INCR a SET takes its place, and where
there is no PUBLISH the publishers SET.

Thread: each task its own hand. Blocks as the client does. Upstream: the goroutines' bodies in the example application.
Left out: printing each error; errors are counted by their kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import hiredis

from coordemu.lab.pool_metrics import TaskTally
from coordemu.lab.pool_modes import BULK, MIXED, PUBSUB, SETS, THIRDS, THREE, PoolTest
from coordemu.pool.cluster_client import ClusterClient
from coordemu.pool.pool_conn import Command
from coordemu.pool.pool_errors import PoolError
from coordemu.runtime.base import NS_PER_MS, NS_PER_US, Runtime

PREFIX = "coordemu:"
CHANNELS = 10
KEYS_LOADED, KEYS_USED = 1000, 100
LOAD_BATCH = 250
GET_SHARE = 0.6
EXPIRY_MS = 600_000
PUBLISH_REST_NS, WORK_REST_NS = 10 * NS_PER_MS, 5 * NS_PER_MS
VALUE = "value"
# What a server or the way to it may answer with; anything else is a fault of ours.
OUTCOMES = (PoolError, OSError, hiredis.ReplyError)


@dataclass(frozen=True, slots=True)
class Abilities:
    """What the servers can do: count (INCR), publish (PUBLISH), let keys expire (SET's PX)."""

    count: bool = False
    publish: bool = False
    expire: bool = False


def find_abilities(client: ClusterClient) -> Abilities:
    """Try each. Raises what the client raises but for error replies. Blocks."""

    def can(*command: str | int) -> bool:
        try:
            client.execute(*command)
        except hiredis.ReplyError:
            return False
        return True

    probe = f"{PREFIX}probe"
    found = Abilities(
        can("INCR", f"{probe}:counter"), can("PUBLISH", f"{probe}:channel", "x"), can("SET", probe, "x", "PX", 1)
    )
    can("DEL", f"{probe}:counter")
    return found


class PoolHand:
    """What one task works with. number: of the task, from 0.  first: the number of its first operation."""

    def __init__(
        self,
        rt: Runtime,
        client: ClusterClient,
        test: PoolTest,
        abilities: Abilities,
        number: int,
        first: int,
        ended: Callable[[], bool],
    ) -> None:
        self.client = client
        self.test = test
        self.abilities = abilities
        self.number = number
        self.first = first
        self.tally = TaskTally()
        self.rt = rt
        self._ended = ended
        self._expiry: tuple[str | int, ...] = ("PX", EXPIRY_MS) if abilities.expire else ()

    def work(self) -> None:
        """Do what the test says until it is done or its time is over. Raises nothing that is an outcome. Blocks."""
        operation = OPERATIONS[self.test.work]
        pause_ns = self.test.pause_top_us * NS_PER_US
        index = self.first
        end = self.first + self.test.operations if self.test.operations else None
        while index != end and not self._ended():
            operation(self, index)
            index += 1
            if pause_ns:
                self.rt.sleep_ns(round(self.rt.random.random() * pause_ns))

    def attempt(self, call: Callable[[], object]) -> None:
        """One operation, and its outcome. Raises what is none."""
        tally, now_ns = self.tally, self.rt.now_ns
        tally.begun += 1
        began_ns = now_ns()
        try:
            call()
        except OUTCOMES as error:
            tally.failed(error, now_ns())
        else:
            tally.succeeded(now_ns() - began_ns)

    def set(self, key: str) -> None:
        """SET, as an operation."""
        self.attempt(lambda: self.client.execute(*self.set_command(key)))

    def get(self, key: str) -> None:
        """GET, as an operation; that there is no such key is a success."""
        self.attempt(lambda: self.client.execute("GET", PREFIX + key))

    def pipeline(self, commands: Sequence[Command]) -> None:
        """A pipeline, as one operation: it fails with the first of its commands that does."""
        self.attempt(lambda: run_pipeline(self.client, commands))

    def set_command(self, key: str) -> tuple[str | int, ...]:
        """A SET, with an expiry where there is one."""
        return ("SET", PREFIX + key, VALUE, *self._expiry)

    def __repr__(self) -> str:
        return f"<PoolHand {self.test.name} task {self.number} {self.tally!r}>"


def run_pipeline(client: ClusterClient, commands: Sequence[Command]) -> None:
    """Have all of them carried out. Raises the first failure among their replies. Blocks."""
    for reply in client.pipeline(commands):
        if isinstance(reply, Exception):
            raise reply


def load_keys(client: ClusterClient, hand: PoolHand) -> None:
    """What MIXED reads. Raises what the first failure says. Blocks."""
    for begin in range(0, KEYS_LOADED, LOAD_BATCH):
        run_pipeline(client, [hand.set_command(f"{hand.test.keys}:{n}") for n in range(begin, begin + LOAD_BATCH)])


def counters_of(test: PoolTest) -> list[str]:
    """The keys of a test that do not expire: to be deleted when it is over."""
    return [f"{PREFIX}{test.keys}:counter:{number}" for number in range(test.tasks)] if test.work == THREE else []


def _sets(hand: PoolHand, index: int) -> None:
    key = f"{hand.test.keys}:{hand.number}"
    hand.set(f"{key}:{index}" if hand.test.operations else f"{key}:counter")


def _mixed(hand: PoolHand, index: int) -> None:
    random = hand.rt.random
    key = f"{hand.test.keys}:{random.randint(0, KEYS_USED - 1)}"
    (hand.get if random.random() < GET_SHARE else hand.set)(key)


def _three(hand: PoolHand, index: int) -> None:
    key = f"{hand.test.keys}:{hand.number}:{index}"
    counter = f"{hand.test.keys}:counter:{hand.number}"
    count = ("INCR", PREFIX + counter) if hand.abilities.count else hand.set_command(counter)
    hand.pipeline([hand.set_command(key), ("GET", PREFIX + key), count])


def _bulk(hand: PoolHand, index: int) -> None:
    key = f"{hand.test.keys}:{hand.number}:{index}"
    hand.pipeline([hand.set_command(f"{key}:{n}") for n in range(hand.test.batch)])


def _thirds(hand: PoolHand, index: int) -> None:
    key = f"{hand.test.keys}:{hand.number}:{index}"
    if index % 3 == 0:
        hand.set(key)
    elif index % 3 == 1:
        hand.get(key)
    else:
        hand.pipeline([hand.set_command(key), ("GET", PREFIX + key)])


def publishes(test: PoolTest, number: int) -> bool:
    """Whether this task of a PUBSUB test is one that publishes: every other one."""
    return test.work == PUBSUB and number % 2 == 0


def _pubsub(hand: PoolHand, index: int) -> None:
    if publishes(hand.test, hand.number):
        channel = channel_name(hand.test, (hand.number // 2 + index) % CHANNELS)
        if hand.abilities.publish:
            hand.attempt(lambda: hand.client.execute("PUBLISH", channel, f"{hand.number}:{index}"))
        else:
            hand.set(channel.removeprefix(PREFIX))
        hand.rt.sleep_ns(PUBLISH_REST_NS)
    else:
        key = f"{hand.test.keys}:{hand.number}"
        (hand.get if index % 2 else hand.set)(key)
        hand.rt.sleep_ns(WORK_REST_NS)


def channel_name(test: PoolTest, number: int) -> str:
    """The name of the channel of that number, 0 to CHANNELS - 1."""
    return f"{PREFIX}{test.keys}:channel:{number}"


OPERATIONS: Mapping[str, Callable[[PoolHand, int], None]] = MappingProxyType({
    SETS: _sets, MIXED: _mixed, THREE: _three, BULK: _bulk, THIRDS: _thirds, PUBSUB: _pubsub,
})  # fmt: skip
