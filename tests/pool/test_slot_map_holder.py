"""The slot map: one asks, the others wait, each within its own time; a failure is everybody's, an end is one's own."""

from __future__ import annotations

import hiredis
import pytest

from coordemu.pool.pool_context import PoolContext
from coordemu.pool.pool_errors import Cancelled, ConnFailed, DeadlineExceeded, NoSlotMap
from coordemu.pool.slot_map import even_map
from coordemu.pool.slot_map_holder import SlotMapHolder
from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Address

SEEDS = [Address(port=1), Address(port=2)]
REPLY = [[0, 16_383, [b"127.0.0.1", 7]]]


class Nodes:
    """Answers CLUSTER SLOTS, after `gate`; records who was asked."""

    def __init__(self, rt):
        self.asked = []
        self.gate = rt.event("gate")
        self.replies = {}
        self.default = REPLY

    def __call__(self, address, ctx):
        self.asked.append(address)
        self.gate.wait(20 * NS_PER_S)
        reply = self.replies.get(address, self.default)
        if isinstance(reply, Exception) and not isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply


@pytest.fixture
def nodes(rt):
    return Nodes(rt)


@pytest.fixture
def make(rt, nodes):
    return lambda patience_ns=20 * NS_PER_S: SlotMapHolder(rt, "client", SEEDS, nodes, patience_ns)


def test_of_many_without_a_map_one_asks_and_all_have_its_answer(make, nodes, start, until):
    holder = make()
    calls = [start(holder.get) for _ in range(10)]
    until(lambda: len(holder._waits) == 9)
    nodes.gate.set()
    maps = [call.join() for call in calls]
    assert all(each is maps[0] for each in maps)
    assert maps[0].node_of(5) == Address(port=7)
    assert (nodes.asked, holder.maps) == ([SEEDS[0]], 1)
    assert holder.get() is maps[0]
    assert "1 nodes" in repr(holder)


def test_a_node_that_fails_is_passed_over(make, nodes):
    nodes.gate.set()
    nodes.replies[SEEDS[0]] = ConnFailed("connect", "refused")
    holder = make()
    assert holder.get().node_of(0) == Address(port=7)
    assert nodes.asked == SEEDS


def test_when_nobody_answers_all_who_waited_share_the_slots_evenly_and_none_asks_again(make, nodes, start, until):
    nodes.default = OSError("down")
    holder = make()
    calls = [start(holder.get) for _ in range(6)]
    until(lambda: len(holder._waits) == 5)
    nodes.gate.set()
    assert [call.join().owners for call in calls] == [even_map(SEEDS).owners] * 6
    assert nodes.asked == SEEDS
    assert holder.known is None
    nodes.default = REPLY
    assert holder.get().nodes == (Address(port=7),)


def test_servers_without_a_cluster_have_an_even_map(make, nodes):
    nodes.gate.set()
    nodes.default = hiredis.ReplyError("ERR cluster support disabled")
    assert make().get().nodes == tuple(SEEDS)


def test_who_waits_has_its_own_deadline_and_can_be_cancelled(rt, make, nodes, start, until):
    holder = make()
    asker = start(holder.get, "asker")
    until(lambda: nodes.asked)
    with pytest.raises(DeadlineExceeded):
        holder.get(PoolContext.after(rt, 2 * NS_PER_MS))
    ctx = PoolContext(rt)
    call = start(lambda: holder.get(ctx))
    until(lambda: len(holder._waits) == 1)
    ctx.cancel()
    assert isinstance(call.failure(), Cancelled)
    assert holder._waits == []
    nodes.gate.set()
    assert asker.join().nodes == (Address(port=7),)


def test_nobody_waits_for_ever(make, nodes, start, until):
    holder = make(patience_ns=5 * NS_PER_MS)
    asker = start(holder.get, "asker")
    until(lambda: nodes.asked)
    with pytest.raises(NoSlotMap, match="no slot map in time; asker asks for it"):
        holder.get()
    nodes.gate.set()
    asker.join()


def test_when_the_askers_own_time_is_up_the_next_one_asks(rt, make, nodes, start, until):
    holder = make()
    ctx = PoolContext(rt)
    first = start(lambda: holder.get(ctx), "first")
    until(lambda: nodes.asked)
    others = [start(holder.get) for _ in range(3)]
    until(lambda: len(holder._waits) == 3)
    nodes.replies[SEEDS[0]] = Cancelled("it was")
    ctx.cancel()
    nodes.gate.set()
    assert isinstance(first.failure(), Cancelled)
    assert [call.join().nodes for call in others] == [(Address(port=7),)] * 3
    # The first one asked one node and gave up; one of the others asked both.
    assert nodes.asked == [SEEDS[0], *SEEDS]
    assert holder.maps == 1


def test_a_reload_is_one_callers_and_hinders_nobody(make, nodes, start, until):
    nodes.gate.set()
    holder = make()
    before = holder.get()
    nodes.gate.clear()
    call = start(holder.reload)
    until(lambda: len(nodes.asked) == 2)
    assert not holder.reload()
    assert holder.get() is before
    holder.slot_moved(3, Address(port=9))
    assert holder.get().node_of(3) == Address(port=9)
    nodes.gate.set()
    assert call.join()
    assert (holder.get().generation, holder.get().node_of(3)) == (1, Address(port=7))
    assert nodes.asked[1] == Address(port=7)


def test_closing_wakes_who_waits_and_nobody_is_asked_again(make, nodes, start, until):
    holder = make()
    asker = start(holder.get)
    until(lambda: nodes.asked)
    waiter = start(holder.get)
    until(lambda: len(holder._waits) == 1)
    holder.close()
    assert waiter.join().nodes == tuple(SEEDS)
    nodes.gate.set()
    asker.join()
    assert not holder.reload()
    assert holder.known is None or holder.maps == 1
