"""MRConnManager: pools by node, resizes, topology changes, and any mixture of them without a leak."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from coordemu.coord.conn_manager import MRConnManager
from coordemu.coord.conn_options import ConnOptions
from coordemu.coord.conn_state import ConnState
from coordemu.coord.drain_receipt import DrainReceipt
from coordemu.coord.endpoint import MREndpoint
from coordemu.coord.shrink_plan import AT_DEADLINE, DRAIN_MODES, STOP_MODES, ShrinkPlan
from coordemu.native import PendingTable
from coordemu.runtime.base import Address, Runtime


def endpoint(port: int, password: str | None = None) -> MREndpoint:
    return MREndpoint(Address("127.0.0.1", port), password)


def open_all(loop: Any) -> None:
    for transport in list(loop.transports):
        if not transport.connected:
            transport.open()


@pytest.fixture
def manager(rt: Runtime, stub_loop: Any) -> MRConnManager:
    return make_manager(rt, stub_loop, 3)


def make_manager(rt: Runtime, loop: Any, num: int) -> MRConnManager:
    return MRConnManager(rt, loop, ConnOptions(), PendingTable(), num, lambda _level, _line: None)


def test_the_same_endpoint_is_left_alone(manager: MRConnManager, stub_loop: Any) -> None:
    assert manager.add("a", endpoint(7001))
    open_all(stub_loop)
    conns = list(manager.pools["a"].conns)
    assert not manager.add("a", endpoint(7001))
    assert manager.pools["a"].conns == conns
    assert [conn.state for conn in conns] == [ConnState.CONNECTED] * 3


@pytest.mark.parametrize("changed", [endpoint(7002), endpoint(7001, "pw"), MREndpoint(Address(path="/tmp/x"))])
def test_another_endpoint_rebuilds_the_pool(manager: MRConnManager, stub_loop: Any, changed: MREndpoint) -> None:
    manager.add("a", endpoint(7001))
    open_all(stub_loop)
    old = list(manager.pools["a"].conns)
    told: list[Any] = []
    assert old[0].send_command(b"x", lambda reply, error: told.append((reply, error)))
    assert manager.add("a", changed)
    assert [conn.state for conn in old] == [ConnState.FREEING] * 3
    assert [conn.closed for conn in old] == [False, True, True], "the one with a reply under way awaits it"
    old[0].on_data(b"+OK\r\n")
    assert told == [(b"OK", None)]
    assert old[0].closed
    assert manager.pools["a"].endpoint == changed
    assert len(manager.pools["a"].conns) == 3
    assert len(stub_loop.transports) == 3


def test_a_node_that_left_and_comes_back_is_worth_a_line_again(rt: Runtime, stub_loop: Any) -> None:
    lines: list[str] = []
    manager = MRConnManager(rt, stub_loop, ConnOptions(), PendingTable(), 2, lambda _level, line: lines.append(line))
    for _ in range(2):
        manager.add("a", endpoint(7001))
        for transport in list(stub_loop.transports):
            transport.lose("refused")
        manager.disconnect("a")
    assert lines == ["127.0.0.1:7001: connect failed: refused; trying again"] * 2


def test_get_takes_turns_and_knows_no_strangers(manager: MRConnManager, stub_loop: Any) -> None:
    manager.add("a", endpoint(7001))
    assert manager.get("a") is None
    assert [pool.node_id for pool in manager.unconnected()] == ["a"]
    open_all(stub_loop)
    conns = [manager.get("a") for _ in range(4)]
    assert [conn.index if conn else None for conn in conns] == [0, 1, 2, 0]
    assert manager.get("stranger") is None
    assert manager.unconnected() == []


def test_disconnect_stops_the_nodes_connections(manager: MRConnManager, stub_loop: Any) -> None:
    manager.add("a", endpoint(7001))
    manager.add("b", endpoint(7002))
    open_all(stub_loop)
    assert manager.disconnect("a")
    assert not manager.disconnect("a")
    assert list(manager.pools) == ["b"]
    assert len(stub_loop.transports) == 3
    manager.add("c", endpoint(7003))
    assert manager.pools["c"].node == 0, "the row of the node that left is used again"
    assert manager.context.pending.statistics()["attached"] == 6


def test_expand_and_shrink_every_node(manager: MRConnManager, stub_loop: Any, rt: Runtime) -> None:
    manager.add("a", endpoint(7001))
    manager.add("b", endpoint(7002))
    open_all(stub_loop)
    assert manager.expand(5) == 4
    open_all(stub_loop)
    states: dict[str, list[str]] = {}
    manager.fill_state_dict(states)
    assert states == {"127.0.0.1:7001": ["Connected"] * 5, "127.0.0.1:7002": ["Connected"] * 5}
    receipts: list[DrainReceipt] = []
    manager.shrink(2, ShrinkPlan(), receipts.append)
    assert len(stub_loop.transports) == 4
    (receipt,) = receipts
    assert (receipt.outcome, receipt.num_from, receipt.num_to) == ("nothing-pending", 5, 2)
    assert receipt.connections_stopped == 6
    assert {node: drain.connections_stopped for node, drain in receipt.by_node.items()} == {
        "127.0.0.1:7001": 3,
        "127.0.0.1:7002": 3,
    }
    assert manager.num == 2
    steps = [(event.upstream, event.detail) for event in rt.trace_events()]
    assert steps == [
        ("MRConnManager_Expand", "3 -> 5 on 2 nodes"),
        ("MRConnManager_Shrink", "5 -> 2 on 2 nodes, 0 replies pending, drain none, stop graceful"),
        ("MRConn_Stop", "127.0.0.1:7001: 3 connections, graceful"),
        ("MRConn_Stop", "127.0.0.1:7002: 3 connections, graceful"),
        ("", "nothing-pending: 0 pending, 0 delivered, 0 failed, 0 lost"),
    ]


def test_the_round_robin_is_right_after_a_shrink(manager: MRConnManager, stub_loop: Any) -> None:
    manager.add("a", endpoint(7001))
    open_all(stub_loop)
    for _ in range(2):
        manager.get("a")
    manager.shrink(2)
    assert manager.pools["a"].rr == 0
    assert [conn.index for conn in (manager.get("a"), manager.get("a"), manager.get("a")) if conn] == [0, 1, 0]


@pytest.mark.parametrize("num", [0, -3])
def test_no_connections_is_refused_and_changes_nothing(manager: MRConnManager, stub_loop: Any, num: int) -> None:
    manager.add("a", endpoint(7001))
    receipts: list[DrainReceipt] = []
    for drain in DRAIN_MODES:
        plan = ShrinkPlan(drain=drain)
        for change in (manager.resize, manager.shrink):
            with pytest.raises(ValueError, match="at least 1"):
                change(num, plan, receipts.append)
    assert (manager.num, len(stub_loop.transports), receipts) == (3, 3, [])
    assert manager.draining is None
    with pytest.raises(ValueError, match="at least 1"):
        make_manager(stub_loop.rt, stub_loop, num)


def test_the_wrong_direction_is_refused(manager: MRConnManager) -> None:
    with pytest.raises(ValueError, match="expand to 2"):
        manager.expand(2)
    with pytest.raises(ValueError, match="shrink to 4"):
        manager.shrink(4)
    with pytest.raises(ValueError, match="'yield', not 'timer'"):
        manager.begin_shrink(1, ShrinkPlan(drain="timer"))
    assert manager.num == 3


@pytest.mark.parametrize("num", [3, 5])
def test_a_resize_that_takes_nothing_away_has_a_receipt_too(manager: MRConnManager, stub_loop: Any, num: int) -> None:
    manager.add("a", endpoint(7001))
    receipts: list[DrainReceipt] = []
    manager.resize(num, ShrinkPlan(drain="event"), receipts.append)
    (receipt,) = receipts
    assert (receipt.outcome, receipt.num_from, receipt.num_to) == ("nothing-pending", 3, num)
    assert (receipt.pending, receipt.connections_stopped) == (0, 0)
    assert len(stub_loop.transports) == num


def test_disconnect_all_leaves_nothing(manager: MRConnManager, stub_loop: Any) -> None:
    manager.add("a", endpoint(7001))
    manager.add("b", endpoint(7002))
    for transport in list(stub_loop.transports)[:4]:
        transport.open()
    list(stub_loop.transports)[4].lose("refused")
    told: list[str | None] = []
    conn = manager.get("a")
    assert conn is not None
    conn.send_command(b"x", lambda _reply, error: told.append(error))
    manager.disconnect_all("the end")
    assert told == ["the end"]
    assert not stub_loop.transports
    assert not stub_loop.timers
    assert manager.statistics()["closing"] == 0
    assert manager.context.pending.statistics()["attached"] == 0


# ---- any mixture of events

NODES = ["a", "b", "c"]
PLANS = st.builds(
    ShrinkPlan,
    stop=st.sampled_from(STOP_MODES),
    drain=st.sampled_from(DRAIN_MODES),
    drain_timeout_ms=st.sampled_from([0, 600_000]),
    at_deadline=st.sampled_from(AT_DEADLINE),
)


class Mixture(RuleBasedStateMachine):
    """Resizes with any plan, topology changes, replies, losses and timers, in any order.

    At any moment: every open transport belongs to a pool or to a stopped connection that awaits replies; every
    pool has the size that was asked for (and its surplus only while a shrink drains); the counts agree with the queues.
    At the end: one receipt per resize, one outcome per command, and nothing left.
    """

    loops: Callable[[], Any]

    def __init__(self) -> None:
        super().__init__()
        self.loop = type(self).loops()
        self.rt = self.loop.rt
        self.manager = make_manager(self.rt, self.loop, 2)
        self.numbers = count()
        self.ports = count(7000)
        self.sent: list[int] = []
        self.answered: list[int] = []
        self.failed: list[int] = []
        self.resizes = 0
        self.receipts: list[DrainReceipt] = []

    # topology

    @rule(node=st.sampled_from(NODES))
    def add_or_rebuild(self, node: str) -> None:
        assert self.manager.add(node, endpoint(next(self.ports)))
        assert self.manager.draining is None

    @rule(node=st.sampled_from(NODES))
    def same_again(self, node: str) -> None:
        if node in self.manager.pools:
            draining = self.manager.draining
            assert not self.manager.add(node, self.manager.pools[node].endpoint)
            assert self.manager.draining is draining, "an update that changes nothing leaves a drain alone"

    @rule(node=st.sampled_from(NODES))
    def remove(self, node: str) -> None:
        self.manager.disconnect(node)

    # resizes

    @rule(num=st.integers(1, 5), plan=PLANS)
    def resize(self, num: int, plan: ShrinkPlan) -> None:
        if plan.drain == "block-loop" and plan.drain_timeout_ms:
            plan = ShrinkPlan(plan.stop, "block-loop", 0, 1, plan.at_deadline)
        self.resizes += 1
        self.manager.resize(num, plan, self.receipts.append)

    @rule()
    def finish(self) -> None:
        self.manager.finish_shrink(3)

    @rule()
    def abandon(self) -> None:
        self.manager.abandon_shrink()

    # network

    @rule(share=st.integers(1, 3))
    def open_some(self, share: int) -> None:
        for number, transport in enumerate(list(self.loop.transports)):
            if not transport.connected and number % share == 0:
                transport.open()

    @rule(node=st.sampled_from(NODES), n=st.integers(1, 6))
    def send(self, node: str, n: int) -> None:
        for _ in range(n):
            conn = self.manager.get(node)
            if conn is not None:
                assert conn in self.manager.pools[node].conns[: self.manager.num]
                number = next(self.numbers)
                assert conn.send_command(b"x", lambda _reply, error, number=number: self.told(number, error))
                self.sent.append(number)
        self.manager.context.flush_counts()

    def told(self, number: int, error: str | None) -> None:
        (self.answered if error is None else self.failed).append(number)

    @rule(which=st.integers(0, 30), n=st.integers(1, 4))
    def reply(self, which: int, n: int) -> None:
        owing = [transport for transport in self.loop.transports if transport.handler.outstanding]
        if owing:
            conn = owing[which % len(owing)].handler
            conn.on_data(b"+OK\r\n" * min(n, conn.outstanding))

    @rule(which=st.integers(0, 30))
    def lose(self, which: int) -> None:
        transports = list(self.loop.transports)
        if transports:
            transports[which % len(transports)].lose("reset")

    @rule()
    def fire_all(self) -> None:
        for timer in list(self.loop.timers):
            if timer.active:
                timer.fire()

    # what holds

    @invariant()
    def every_transport_is_owned(self) -> None:
        owned = {conn for pool in self.manager.pools.values() for conn in pool.conns}
        closing = set(self.manager.context.closing)
        assert not owned & closing
        assert {transport.handler for transport in self.loop.transports} <= owned | closing
        assert all(conn.outstanding and conn.state is ConnState.FREEING for conn in closing)

    @invariant()
    def sizes_are_what_was_asked_for(self) -> None:
        for pool in self.manager.pools.values():
            assert pool.num == self.manager.num
            assert pool.rr < pool.num
            assert [conn.index for conn in pool.conns] == list(range(len(pool.conns)))
            if self.manager.draining is None:
                assert len(pool.conns) == pool.num
            else:
                assert pool.num == self.manager.draining.num_to

    @invariant()
    def counts_agree(self) -> None:
        table = self.manager.context.pending
        assert table.consistent()
        for pool in self.manager.pools.values():
            for conn in pool.conns:
                pending = conn.outstanding if conn.state is ConnState.CONNECTED else 0
                assert table.has_pending_operations(pool.node, conn.index) == bool(pending)
        draining = self.manager.draining
        if draining is not None:
            assert draining.pending == table.pending_total(draining.num_to)
            assert draining.plan.drain != "event" or draining.pending, "it would have gone on"

    @invariant()
    def one_outcome_each(self) -> None:
        told = self.answered + self.failed
        assert len(told) == len(set(told))
        assert set(told) <= set(self.sent)

    def teardown(self) -> None:
        self.manager.disconnect_all()
        assert not self.loop.transports
        assert not self.loop.timers
        assert not self.manager.context.closing
        assert self.manager.context.pending.statistics()["attached"] == 0
        assert len(self.receipts) == self.resizes
        lost = sum(receipt.lost for receipt in self.receipts)
        assert len(self.answered) + len(self.failed) + lost == len(self.sent)
        for receipt in self.receipts:
            gone = receipt.delivered + receipt.failed + receipt.lost
            assert gone <= receipt.pending
            if receipt.outcome != "superseded" and receipt.num_to < receipt.num_from:
                assert gone == receipt.pending


def test_any_mixture_of_events(runtime_kind: str, make_stub_loop: Callable[[str], Any]) -> None:
    class OnRuntime(Mixture):
        pass

    OnRuntime.loops = staticmethod(lambda: make_stub_loop(runtime_kind))
    run_state_machine_as_test(OnRuntime, settings=settings(max_examples=120, stateful_step_count=30, deadline=None))
