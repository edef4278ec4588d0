"""The queues of the backfill, on the embedded shard and on a real Redis: what is taken is never in no place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordemu.lab.backfill_queue import LIST, STREAM, BackfillQueue, BadTicket, Ticket, make_queue
from coordemu.lab.backfill_servers import SideDoor, tags_for
from coordemu.pool.slot_map import even_map, slot_of
from coordemu.runtime.base import NS_PER_MS, Address
from coordemu.runtime.threads import ThreadsRuntime
from coordemu.shards.in_process_fleet import InProcessFleet
from coordemu.shards.real_redis import RedisServer

WAIT_NS = 5 * NS_PER_MS


@given(message=st.integers(0, 10**9), failures=st.integers(0, 99), turn=st.text("abcp0123456789", min_size=1))
def test_tickets_come_back_as_they_were(message: int, failures: int, turn: str) -> None:
    ticket = Ticket(message, failures, turn)
    assert Ticket.unpack(ticket.pack()) == ticket


@pytest.mark.parametrize("text", [b"", b"1:2", b"a:0:0", b"1:2:3:4", b"\xff:1:1"])
def test_what_is_no_ticket(text: bytes) -> None:
    with pytest.raises(BadTicket):
        Ticket.unpack(text)


@pytest.fixture(scope="module")
def redis() -> Iterator[Address]:
    with RedisServer(ThreadsRuntime()) as server:
        yield server.address


@pytest.fixture(params=["embedded", "redis"])
def door(request: pytest.FixtureRequest, rt: ThreadsRuntime) -> Iterator[SideDoor]:
    """The way to a server of either kind."""
    fleet = InProcessFleet(rt, 1) if request.param == "embedded" else None
    addresses = fleet.addresses if fleet is not None else [request.getfixturevalue("redis")]
    made = SideDoor(rt, addresses, None)
    yield made
    made.close()
    if fleet is not None:
        fleet.stop()


def queue_of(rt: ThreadsRuntime, door: SideDoor, kind: str, survives: bool, **more: bool) -> BackfillQueue:
    queue = make_queue(rt, kind, "queue-test", door.execute, door.pipeline, survives, **more)
    door.pipeline([("DEL", key) for key in tuple(queue.keys())])
    queue.prepare()
    queue.prepare()  # idempotent
    return queue


def nobody(packed: bytes) -> bool:
    return False


@pytest.mark.parametrize("survives", [True, False])
@pytest.mark.parametrize("kind", [LIST, STREAM])
def test_first_in_first_out(rt: ThreadsRuntime, door: SideDoor, kind: str, survives: bool) -> None:
    queue = queue_of(rt, door, kind, survives)
    for message in range(3):
        queue.put(Ticket(message))
    assert queue.waiting() == 3
    taken = [queue.take(WAIT_NS, "w") for _ in range(3)]
    assert [each.ticket.message for each in taken if each is not None] == [0, 1, 2]
    assert queue.waiting() == 0
    assert queue.take(WAIT_NS, "w") is None
    for each in taken:
        assert each is not None
        queue.finish(each)
    assert queue.reap(0, nobody) == 0
    assert queue.waiting() == 0


@pytest.mark.parametrize("kind", [LIST, STREAM])
def test_what_is_not_acknowledged_is_taken_again(rt: ThreadsRuntime, door: SideDoor, kind: str) -> None:
    queue = queue_of(rt, door, kind, survives=True)
    queue.put(Ticket(7))
    first = queue.take(WAIT_NS, "w")
    assert first is not None
    queue.reap(10**15, nobody)
    assert queue.waiting() == 0  # it is not out for long
    assert queue.reap(0, lambda packed: packed == first.packed) == 0  # somebody has it in hand
    rt.sleep_ns(5 * NS_PER_MS)
    queue.reap(0, nobody)
    assert queue.reap(0, nobody) + queue.waiting() == 1
    second = queue.take(WAIT_NS, "v")
    assert second is not None
    assert (second.ticket.message, second.ticket.failures) == (7, 1)
    assert second.packed != first.packed
    queue.finish(first)  # late: it changes nothing
    queue.give_back(second, failed=False)
    third = queue.take(WAIT_NS, "w")
    assert third is not None
    assert third.ticket.failures == 1
    queue.finish(third)
    assert (queue.reap(0, nobody), queue.waiting()) == (0, 0)


@pytest.mark.parametrize("kind", [LIST, STREAM])
def test_the_fragile_form_forgets_what_was_taken(rt: ThreadsRuntime, door: SideDoor, kind: str) -> None:
    queue = queue_of(rt, door, kind, survives=False)
    queue.put(Ticket(7))
    assert queue.take(WAIT_NS, "w") is not None
    assert queue.waiting() == 0
    assert queue.take(WAIT_NS, "w") is None


@pytest.mark.parametrize("kind", [LIST, STREAM])
def test_give_back_puts_first_and_the_fault_removes_first(rt: ThreadsRuntime, door: SideDoor, kind: str) -> None:
    for remove_first in (False, True):
        queue = queue_of(rt, door, kind, survives=True)
        queue.put(Ticket(1))
        taken = queue.take(WAIT_NS, "w")
        assert taken is not None
        said: list[bytes] = []

        def execute(*command: bytes, said: list[bytes] = said) -> object:
            said.append(command[0])
            return door.execute(*command)

        def pipeline(commands: Sequence[tuple[bytes, ...]], said: list[bytes] = said) -> list[Any]:
            said.extend(command[0] for command in commands)
            return door.pipeline(commands)

        make_queue(rt, kind, "queue-test", execute, pipeline, True, remove_first).give_back(taken, True)
        puts = said.index(b"LPUSH" if kind == LIST else b"XADD")
        assert puts == (len(said) - 1 if remove_first else 0)


def test_a_tag_for_every_node() -> None:
    nodes = [Address(port=port) for port in (1, 2, 3)]
    slots = even_map(nodes)
    tags = tags_for(slots, "x")
    assert list(tags) == nodes
    for node, tag in tags.items():
        assert slots.node_of(slot_of(b"{%s}:list" % tag.encode())) == node
