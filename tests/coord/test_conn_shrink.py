"""ConnShrink: every drain mode with every stop mode and deadline, what supersedes it, and its one receipt.

Sockets are those of the runtime; shards and coordinator share one loop, which the test turns, so replies come when they
are released.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordemu.coord.conn_handshake import pack_command
from coordemu.coord.conn_manager import MRConnManager
from coordemu.coord.conn_shrink import (
    TRANSITIONS,
    IllegalShrink,
    ShrinkEvent,
    ShrinkState,
    next_shrink_state,
)
from coordemu.coord.drain_receipt import DrainReceipt
from coordemu.coord.endpoint import MREndpoint
from coordemu.coord.shrink_plan import DRAIN_MODES, STOP_MODES, ShrinkPlan

FOR_EVER_MS = 3_600_000
LOOP_DRAINS = ["timer", "event", "yield"]


class Stage:
    """Two shards that keep their replies, a manager with 4 connections to each, and one command on every connection."""

    def __init__(self, one_loop: Any) -> None:
        self.both = one_loop
        self.shards = [one_loop.shard(), one_loop.shard()]
        self.manager: MRConnManager = one_loop.manager(4, *self.shards)
        self.told: list[tuple[int, str | None]] = []
        self.receipts: list[DrainReceipt] = []
        self.sent = 0
        for shard in self.shards:
            shard.hold = True
        for _ in range(4):
            self.send()
        self.both.turn_until(lambda: self.held == 8, "commands at the shards")
        for shard in self.shards:  # which need not have accepted the connections in their order
            shard.peers.sort(key=lambda peer: peer.held[0])

    @property
    def held(self) -> int:
        return sum(shard.held for shard in self.shards)

    def send(self) -> None:
        """One command to each node, by the round robin."""
        for node_id in self.manager.pools:
            conn = self.manager.get(node_id)
            assert conn is not None
            assert conn.send_command(pack_command("ECHO", self.sent), self.callback(self.sent))
            self.sent += 1
        self.manager.context.flush_counts()

    def callback(self, number: int) -> Callable[[Any, str | None], object]:
        return lambda _reply, error: self.told.append((number, error))

    def shrink(self, num: int = 1, timeout_ms: int = FOR_EVER_MS, **plan: Any) -> None:
        self.manager.resize(num, ShrinkPlan(drain_timeout_ms=timeout_ms, drain_poll_ms=1, **plan), self.receipts.append)

    def release(self, number: int | None = None) -> None:
        for shard in self.shards:
            shard.release(number)

    def drain_over(self) -> None:
        """Turn until the drain no longer waits; main's part of "yield" included."""
        self.both.turn_until(lambda: not self.manager.context.pending.any_pending(1), "the last reply")
        self.manager.finish_shrink(polls=7)
        self.both.turn_until(lambda: self.manager.draining is None, "the end of the drain")

    @property
    def receipt(self) -> DrainReceipt:
        self.both.turn_until(lambda: self.receipts, "a receipt")
        (receipt,) = self.receipts
        return receipt

    @property
    def errors(self) -> list[str | None]:
        return [error for _, error in self.told]

    def assert_no_leak(self, num: int) -> None:
        """`num` connections to each shard, on both sides, and nothing hidden, stopped or armed."""
        wanted = {"owned": 2 * num, "num": num, "connected": 2 * num, "closing": 0, "draining": 0}

        def settled() -> bool:
            numbers, loop = self.manager.statistics(), self.both.loop.statistics()
            return (
                {key: numbers[key] for key in wanted} == wanted
                and [len(shard.peers) for shard in self.shards] == [num, num]
                and (loop["transports"], loop["timers"]) == (4 * num, 0)
            )

        self.both.turn_until(settled, "exactly the connections that are wanted")
        assert self.manager.context.pending.draining_from is None
        assert self.manager.context.pending.consistent()


@pytest.fixture
def stage(one_loop: Any) -> Stage:
    return Stage(one_loop)


def sums_up(receipt: DrainReceipt) -> bool:
    by_node = receipt.by_node.values()
    for field in ("pending", "delivered", "failed", "lost", "connections_stopped"):
        assert getattr(receipt, field) == sum(getattr(node, field) for node in by_node)
    return receipt.delivered + receipt.failed + receipt.lost == receipt.pending


# ---- the table

ANY_STATE = st.sampled_from(ShrinkState)
ANY_EVENT = st.sampled_from(ShrinkEvent)


@given(ANY_STATE, ANY_EVENT)
def test_the_table_answers_or_refuses(state: ShrinkState, event: ShrinkEvent) -> None:
    before = dict(TRANSITIONS)
    if (state, event) in TRANSITIONS:
        assert isinstance(next_shrink_state(state, event), ShrinkState)
    else:
        with pytest.raises(IllegalShrink, match=state.value):
            next_shrink_state(state, event)
    assert dict(TRANSITIONS) == before


@given(st.lists(ANY_EVENT, max_size=20))
def test_the_states_only_go_forward(events: list[ShrinkEvent]) -> None:
    order = list(ShrinkState)
    state = ShrinkState.HIDING
    for event in events:
        try:
            after = next_shrink_state(state, event)
        except IllegalShrink:
            continue
        assert order.index(after) > order.index(state)
        state = after


def test_an_illegal_event_changes_nothing(stage: Stage) -> None:
    stage.shrink(stop="drop", drain="none")
    receipt = stage.receipt
    stage.shrink(drain="event")
    (_, second) = stage.receipts
    assert second.outcome == "nothing-pending"
    stage.manager.expand(4)
    shrink = stage.manager.shrink(1, ShrinkPlan(drain="none"))
    assert shrink.state is ShrinkState.DONE
    before = (repr(shrink), shrink.statistics(), stage.manager.statistics())
    with pytest.raises(IllegalShrink):
        shrink.supersede(4)
    shrink.on_replies(next(iter(shrink._tallies)), drained=True)
    assert not shrink.finish()
    assert not shrink.abandon()
    assert (repr(shrink), shrink.statistics(), stage.manager.statistics()) == before
    assert stage.receipts == [receipt, second]


# ---- without a drain


def test_graceful_without_a_drain_delivers_everything(stage: Stage) -> None:
    stage.shrink(stop="graceful", drain="none")
    assert stage.receipts == [], "the receipt comes with the last connection's end"
    assert stage.manager.statistics()["closing"] == 6
    stage.release()
    receipt = stage.receipt
    assert (receipt.outcome, receipt.waited_ns) == ("deadline", 0)
    assert (receipt.pending, receipt.delivered, receipt.failed, receipt.lost) == (6, 6, 0, 0)
    assert receipt.ended_ns < receipt.last_reply_ns, "stopped first, awaited after"
    assert sums_up(receipt)
    stage.both.turn_until(lambda: len(stage.told) == 8)
    assert stage.errors == [None] * 8
    stage.assert_no_leak(1)


def test_fail_without_a_drain_fails_everything_at_once(stage: Stage) -> None:
    stage.shrink(stop="fail", drain="none")
    (receipt,) = stage.receipts
    assert (receipt.pending, receipt.delivered, receipt.failed, receipt.lost) == (6, 0, 6, 0)
    assert len([error for error in stage.errors if error and error.endswith("connection stopped")]) == 6
    stage.assert_no_leak(1)


def test_drop_without_a_drain_loses_everything(stage: Stage) -> None:
    stage.shrink(stop="drop", drain="none")
    (receipt,) = stage.receipts
    assert (receipt.pending, receipt.delivered, receipt.failed, receipt.lost) == (6, 0, 0, 6)
    assert receipt.last_reply_ns == 0
    stage.release()
    stage.both.turn_until(lambda: len(stage.told) == 2)
    stage.assert_no_leak(1)
    stage.both.settle()
    assert len(stage.told) == 2


# ---- every drain with every stop


@pytest.mark.parametrize("stop", STOP_MODES)
@pytest.mark.parametrize("drain", LOOP_DRAINS)
def test_a_drain_that_lets_the_loop_run_delivers_everything(stage: Stage, drain: str, stop: str) -> None:
    stage.shrink(stop=stop, drain=drain)
    assert stage.manager.draining is not None
    assert stage.manager.draining.state is ShrinkState.DRAINING
    stage.release(2)
    stage.both.turn_until(lambda: len(stage.told) == 4)
    assert stage.receipts == []
    stage.release()
    stage.drain_over()
    receipt = stage.receipt
    assert receipt.outcome == "drained"
    assert (receipt.num_from, receipt.num_to) == (4, 1)
    assert (receipt.pending, receipt.delivered, receipt.failed, receipt.lost) == (6, 6, 0, 0)
    assert receipt.connections_stopped == 6
    assert sums_up(receipt)
    assert receipt.started_ns < receipt.last_reply_ns <= receipt.started_ns + receipt.waited_ns <= receipt.ended_ns
    if drain == "timer":
        assert receipt.polls >= 1
        assert receipt.wake_ups == 0
    else:
        assert (receipt.polls, receipt.wake_ups) == {"event": (0, 1), "yield": (7, 0)}[drain]
    assert stage.errors == [None] * 8
    stage.assert_no_leak(1)


@pytest.mark.parametrize("drain", LOOP_DRAINS)
def test_a_hidden_connection_gets_no_more_commands(stage: Stage, drain: str) -> None:
    stage.shrink(2, drain=drain)
    for _ in range(6):
        stage.send()
    outstanding = {conn.index: conn.outstanding for conn in stage.manager.pools["node-0"].conns}
    assert outstanding == {0: 4, 1: 4, 2: 1, 3: 1}
    stage.both.turn_until(lambda: stage.held == 20)
    for shard in stage.shards:
        for peer in shard.peers:
            if len(peer.held) == 1:
                peer.release()
    stage.both.turn_until(lambda: not stage.manager.context.pending.any_pending(2))
    stage.manager.finish_shrink()
    assert stage.receipt.outcome == "drained", "replies on the connections that stay are not awaited"
    assert stage.receipt.pending == 4
    stage.assert_no_leak(2)


def test_the_event_drain_goes_on_after_the_last_callback_of_the_last_batch(stage: Stage) -> None:
    order: list[str] = []
    conn = stage.manager.pools["node-0"].conns[3]

    def note(number: int) -> Callable[[Any, str | None], object]:
        return lambda _reply, _error: order.append(f"reply {number}")

    for number in range(3):
        assert conn.send_command(b"*1\r\n$1\r\nX\r\n", note(number))
    stage.manager.context.flush_counts()
    stage.manager.shrink(3, ShrinkPlan(drain="event"), lambda _receipt: order.append("receipt"))
    stage.both.turn_until(lambda: stage.held == 11)
    for peer in stage.shards[1].peers:
        peer.release()
    stage.both.turn_until(lambda: not stage.manager.pools["node-1"].surplus[0].outstanding)
    assert order == []
    stage.release()
    stage.both.turn_until(lambda: order[-1:] == ["receipt"])
    assert order == ["reply 0", "reply 1", "reply 2", "receipt"]


@pytest.mark.parametrize("stop", STOP_MODES)
def test_block_loop_sees_nothing_and_stops_by_force(stage: Stage, stop: str) -> None:
    """The literal write-up: the loop that would read the replies sleeps."""
    stage.release()
    stage.shrink(stop=stop, drain="block-loop", timeout_ms=20)
    assert None not in stage.errors, "not one reply was seen"
    receipt = stage.receipt
    assert receipt.outcome == "deadline"
    assert receipt.waited_ns >= 20_000_000
    assert receipt.polls >= 2
    sums = (receipt.delivered, receipt.failed, receipt.lost)
    assert sums == {"graceful": (6, 0, 0), "fail": (0, 6, 0), "drop": (0, 0, 6)}[stop]
    assert "6 of 6 replies outstanding after 20 ms; stopping all the same" in stage.both.logs[-1][1]
    stage.assert_no_leak(1)


@pytest.mark.parametrize("drain", DRAIN_MODES)
def test_nothing_pending_needs_no_wait(one_loop: Any, drain: str) -> None:
    shard = one_loop.shard()
    manager = one_loop.manager(3, shard)
    receipts: list[DrainReceipt] = []
    manager.resize(1, ShrinkPlan(drain=drain, drain_timeout_ms=FOR_EVER_MS), receipts.append)
    if drain == "yield":
        assert receipts == []
        assert manager.finish_shrink()
    (receipt,) = receipts
    assert (receipt.outcome, receipt.pending, receipt.polls) == ("nothing-pending", 0, 0)
    assert receipt.connections_stopped == 2
    assert receipt.last_reply_ns == 0
    one_loop.turn_until(lambda: len(shard.peers) == 1)


# ---- deadlines


def deadline_comes(stage: Stage, drain: str) -> None:
    if drain == "yield":
        assert stage.manager.finish_shrink(polls=3)
    stage.both.turn_until(lambda: stage.manager.draining is None, "the deadline")


@pytest.mark.parametrize("stop", STOP_MODES)
@pytest.mark.parametrize("drain", LOOP_DRAINS)
def test_force_stops_at_the_deadline(stage: Stage, drain: str, stop: str) -> None:
    stage.release(1)
    stage.both.turn_until(lambda: len(stage.told) == 2, "the replies on the connections that stay")
    stage.shrink(stop=stop, drain=drain, timeout_ms=5)
    deadline_comes(stage, drain)
    stage.release()
    receipt = stage.receipt
    assert receipt.outcome == "deadline"
    assert receipt.connections_stopped == 6
    assert sums_up(receipt)
    sums = (receipt.delivered, receipt.failed, receipt.lost)
    assert sums == {"graceful": (6, 0, 0), "fail": (0, 6, 0), "drop": (0, 0, 6)}[stop]
    assert "stopping all the same" in stage.both.logs[-1][1]
    stage.assert_no_leak(1)
    assert len(stage.told) == 8 - receipt.lost


@pytest.mark.parametrize("stop", STOP_MODES)
def test_what_came_before_the_deadline_is_delivered(stage: Stage, stop: str) -> None:
    stage.shrink(stop=stop, drain="yield")
    stage.shards[0].release()
    stage.both.turn_until(lambda: len(stage.told) == 4)
    assert stage.manager.finish_shrink(polls=2)
    stage.release()
    receipt = stage.receipt
    assert (receipt.outcome, receipt.polls) == ("deadline", 2)
    sums = (receipt.delivered, receipt.failed, receipt.lost)
    assert sums == {"graceful": (6, 0, 0), "fail": (3, 3, 0), "drop": (3, 0, 3)}[stop]
    assert receipt.by_node[str(stage.shards[0].address)].delivered == 3
    assert sums_up(receipt)
    stage.assert_no_leak(1)


@pytest.mark.parametrize("at_deadline", ["keep", "raise"])
@pytest.mark.parametrize("drain", [*LOOP_DRAINS, "block-loop"])
def test_keep_and_raise_give_the_surplus_back(stage: Stage, drain: str, at_deadline: str) -> None:
    stage.shrink(stop="drop", drain=drain, timeout_ms=5, at_deadline=at_deadline)
    deadline_comes(stage, drain)
    receipt = stage.receipt
    assert (receipt.outcome, receipt.num_from, receipt.num_to) == ("deadline", 4, 4)
    assert (receipt.pending, receipt.connections_stopped, receipt.lost) == (6, 0, 0)
    assert stage.manager.num == 4
    picked = {conn.index for conn in (stage.manager.get("node-0") for _ in range(4)) if conn}
    assert picked == {0, 1, 2, 3}
    stage.release()
    stage.both.turn_until(lambda: len(stage.told) == 8)
    assert stage.errors == [None] * 8
    stage.assert_no_leak(4)


def test_abandon_gives_the_surplus_back(stage: Stage) -> None:
    stage.shrink(stop="drop", drain="yield")
    assert stage.manager.abandon_shrink()
    assert (stage.receipt.outcome, stage.receipt.num_to) == ("deadline", 4)
    assert not stage.manager.finish_shrink()
    assert not stage.manager.abandon_shrink()
    stage.assert_no_leak(4)


@pytest.mark.parametrize("drain", ["timer", "event"])
def test_only_a_yield_drain_is_finished_by_main(stage: Stage, drain: str) -> None:
    stage.shrink(drain=drain)
    assert not stage.manager.finish_shrink()
    assert not stage.manager.abandon_shrink()
    assert stage.manager.draining is not None


def test_begin_and_finish_by_name(stage: Stage) -> None:
    shrink = stage.manager.begin_shrink(1, ShrinkPlan(drain="yield"), stage.receipts.append)
    assert shrink.pending == shrink.pending_at_start == 6
    assert stage.manager.draining is shrink
    stage.release()
    stage.both.turn_until(lambda: not shrink.pending)
    assert stage.manager.draining is shrink, "main has not said that it is over"
    stage.drain_over()
    assert stage.receipt.outcome == "drained"


# ---- superseded


@pytest.mark.parametrize("stop", STOP_MODES)
@pytest.mark.parametrize("drain", LOOP_DRAINS)
@pytest.mark.parametrize("num", [2, 4, 6])
def test_a_larger_size_takes_back_what_it_wants(stage: Stage, drain: str, stop: str, num: int) -> None:
    before = list(stage.manager.pools["node-0"].conns)
    stage.shrink(stop=stop, drain=drain)
    stage.manager.resize(num, ShrinkPlan())
    assert stage.manager.draining is None
    kept = min(num, 4)
    assert stage.manager.pools["node-0"].conns[:kept] == before[:kept], "the same connections"
    stage.release()
    receipt = stage.receipt
    assert (receipt.outcome, receipt.num_from, receipt.num_to) == ("superseded", 4, kept)
    assert receipt.connections_stopped == 2 * (4 - kept)
    stage.both.turn_until(lambda: len(stage.told) == 8)
    stage.both.turn_until(lambda: stage.manager.statistics()["connected"] == 2 * num)
    stage.assert_no_leak(num)
    assert stage.errors == [None] * 8, "whatever the plan's stop is: the deadline had not come"
    assert stage.manager.statistics()["superseded"] == 1


def test_what_was_given_back_is_no_longer_the_receipts(stage: Stage) -> None:
    stage.shrink(drain="event")
    stage.manager.resize(2, ShrinkPlan())
    assert stage.receipts == [], "connections 2 and 3 await their replies"
    for shard in stage.shards:
        for peer in shard.peers:
            peer.release()
            break
    for _ in range(4):
        stage.send()
    stage.both.turn_until(lambda: stage.held == 6 + 8)
    back = stage.manager.pools["node-0"].conns[1]
    assert back.outstanding == 3
    for shard in stage.shards:
        for peer in shard.peers:
            if len(peer.held) > 1:
                peer.release()
    stage.both.turn_until(lambda: not back.outstanding)
    stage.release()
    receipt = stage.receipt
    assert (receipt.pending, receipt.delivered, receipt.failed, receipt.lost) == (6, 4, 0, 0)
    assert receipt.connections_stopped == 4
    stage.assert_no_leak(2)


@pytest.mark.parametrize("drain", LOOP_DRAINS)
@pytest.mark.parametrize("num", [1, 2])
def test_a_smaller_or_equal_size_takes_the_surplus_over(stage: Stage, drain: str, num: int) -> None:
    stage.shrink(2, stop="drop", drain=drain)
    stage.shrink(num, stop="graceful", drain="event")
    first = stage.receipt
    assert (first.outcome, first.num_from, first.num_to) == ("superseded", 4, 4)
    assert (first.pending, first.connections_stopped, first.lost) == (4, 0, 0)
    stage.release()
    stage.both.turn_until(lambda: len(stage.receipts) == 2)
    second = stage.receipts[1]
    assert (second.outcome, second.num_from, second.num_to) == ("drained", 4, num)
    assert second.pending == second.delivered == 2 * (4 - num)
    stage.both.turn_until(lambda: len(stage.told) == 8)
    assert stage.errors == [None] * 8, "nothing was lost by the change of mind"
    stage.assert_no_leak(num)


def change_nothing(stage: Stage) -> None:
    for number, shard in enumerate(stage.shards):
        assert not stage.manager.add(f"node-{number}", shard.endpoint)
    assert not stage.manager.disconnect("a stranger")


@pytest.mark.parametrize("drain", LOOP_DRAINS)
def test_a_topology_that_changes_nothing_leaves_the_drain_alone(stage: Stage, drain: str) -> None:
    stage.shrink(drain=drain)
    change_nothing(stage)
    assert stage.manager.draining is not None
    stage.release()
    stage.drain_over()
    assert stage.receipt.outcome == "drained"


@pytest.mark.parametrize("stop", STOP_MODES)
@pytest.mark.parametrize("drain", LOOP_DRAINS)
def test_a_node_that_is_added_meanwhile_gets_the_new_size(stage: Stage, drain: str, stop: str) -> None:
    stage.shrink(stop=stop, drain=drain)
    third = stage.both.shard()
    assert stage.manager.add("node-2", third.endpoint)
    assert stage.manager.draining is None
    assert len(stage.manager.pools["node-2"].conns) == 1
    stage.release()
    receipt = stage.receipt
    assert (receipt.outcome, receipt.num_to, receipt.connections_stopped) == ("superseded", 1, 6)
    assert sums_up(receipt)
    assert (receipt.delivered, receipt.failed, receipt.lost) == (6, 0, 0), "whatever the plan's stop is"
    stage.both.turn_until(lambda: len(third.peers) == 1)
    stage.manager.disconnect("node-2")
    third.listener.close()
    stage.both.turn_until(lambda: len(third.peers) == 0)
    stage.assert_no_leak(1)


@pytest.mark.parametrize("drain", LOOP_DRAINS)
def test_a_node_that_leaves_meanwhile_takes_its_surplus_along(stage: Stage, drain: str) -> None:
    stage.shrink(drain=drain)
    assert stage.manager.disconnect("node-1")
    assert stage.manager.draining is None
    stage.release()
    receipt = stage.receipt
    assert (receipt.outcome, receipt.pending, receipt.delivered) == ("superseded", 6, 6)
    assert len(receipt.by_node) == 2
    stage.both.turn_until(lambda: len(stage.shards[1].peers) == 0)
    stage.both.turn_until(lambda: len(stage.told) == 8)
    assert stage.errors == [None] * 8
    assert len(stage.shards[0].peers) == 1


@pytest.mark.parametrize("drain", LOOP_DRAINS)
def test_an_endpoint_that_changes_meanwhile_rebuilds_at_the_new_size(stage: Stage, drain: str) -> None:
    stage.shrink(drain=drain)
    moved = stage.both.shard()
    assert stage.manager.add("node-1", MREndpoint(moved.address))
    stage.release()
    assert stage.receipt.outcome == "superseded"
    stage.both.turn_until(lambda: [len(shard.peers) for shard in (*stage.shards, moved)] == [1, 0, 1])
    stage.both.turn_until(lambda: len(stage.told) == 8)
    assert stage.errors == [None] * 8


def test_a_graceful_stop_goes_on_through_later_changes(stage: Stage) -> None:
    """What has been stopped is no longer the drain's: nothing supersedes it, and its receipt comes."""
    stage.shrink(2, stop="graceful", drain="none")
    stage.manager.resize(4, ShrinkPlan())
    stage.both.turn_until(lambda: stage.manager.statistics()["connected"] == 8)
    stage.shrink(1, stop="graceful", drain="none")
    assert stage.receipts == []
    assert stage.manager.statistics()["closing"] == 6, "of the second shrink only those with replies under way"
    stage.release()
    stage.both.turn_until(lambda: len(stage.receipts) == 2)
    assert [receipt.outcome for receipt in stage.receipts] == ["deadline"] * 2
    assert [(receipt.pending, receipt.delivered, receipt.connections_stopped) for receipt in stage.receipts] in (
        [(4, 4, 4), (2, 2, 6)],
        [(2, 2, 6), (4, 4, 4)],
    )
    stage.assert_no_leak(1)


# ---- shards that die


@pytest.mark.parametrize("stop", STOP_MODES)
@pytest.mark.parametrize("drain", LOOP_DRAINS)
def test_a_shard_killed_mid_drain_fails_its_callbacks(stage: Stage, drain: str, stop: str) -> None:
    stage.shrink(stop=stop, drain=drain)
    stage.shards[0].kill()
    stage.both.turn_until(lambda: stage.manager.statistics()["connected"] == 4)
    stage.shards[1].release()
    stage.drain_over()
    receipt = stage.receipt
    assert receipt.outcome == "drained"
    assert (receipt.pending, receipt.delivered, receipt.failed, receipt.lost) == (6, 3, 3, 0)
    assert sums_up(receipt)
    dead = receipt.by_node[str(stage.shards[0].address)]
    assert (dead.pending, dead.delivered, dead.failed) == (3, 0, 3)
    stage.both.turn_until(lambda: len(stage.told) == 8)
    assert len([error for error in stage.errors if error]) == 4, "one of them on the connection that stays"
    assert all("connection lost" in error for error in stage.errors if error)


@pytest.mark.parametrize("drain", LOOP_DRAINS)
def test_every_shard_killed_mid_drain_ends_the_drain(stage: Stage, drain: str) -> None:
    stage.shrink(drain=drain)
    for shard in stage.shards:
        shard.kill()
    stage.drain_over()
    receipt = stage.receipt
    assert (receipt.outcome, receipt.failed, receipt.last_reply_ns) == ("drained", 6, 0)
    assert len(stage.told) == 8


@pytest.mark.parametrize("drain", LOOP_DRAINS)
def test_surplus_that_reconnects_mid_drain_is_stopped_all_the_same(stage: Stage, drain: str) -> None:
    stage.shrink(drain=drain)
    stage.shards[0].hang_up()
    stage.both.turn_until(lambda: stage.shards[0].accepted == 8, "all of them reconnect")
    stage.both.turn_until(lambda: stage.manager.statistics()["connected"] == 8)
    stage.send()
    stage.both.turn_until(lambda: stage.held == 6)
    stage.shards[1].release()
    stage.drain_over()
    assert (stage.receipt.delivered, stage.receipt.failed) == (3, 3)
    stage.release()
    stage.assert_no_leak(1)


def test_a_shard_that_dies_while_gracefully_stopped_connections_wait(stage: Stage) -> None:
    stage.shrink(drain="none", stop="graceful")
    stage.shards[0].kill()
    stage.shards[1].release()
    receipt = stage.receipt
    assert (receipt.pending, receipt.delivered, receipt.failed, receipt.lost) == (6, 3, 3, 0)
    assert stage.manager.statistics()["closing"] == 0


def test_the_shutdown_ends_a_graceful_stop_with_a_silent_shard(stage: Stage) -> None:
    stage.shrink(2, drain="none", stop="graceful")
    stage.shrink(1, drain="event", stop="graceful")
    stage.manager.disconnect_all()
    assert sorted(receipt.outcome for receipt in stage.receipts) == ["deadline", "superseded"]
    assert sum(receipt.failed for receipt in stage.receipts) == 6
    assert len(stage.told) == 8
    stage.both.turn_until(lambda: not any(shard.peers for shard in stage.shards))
    assert stage.both.loop.statistics()["transports"] == 0
