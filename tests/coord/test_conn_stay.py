"""Which connections a shrink leaves: with stay "connected", those that work; what they owe goes with them."""

from __future__ import annotations

from typing import Any

import pytest

from coordemu.coord.conn_manager import MRConnManager
from coordemu.coord.conn_options import ConnOptions
from coordemu.coord.drain_receipt import DrainReceipt
from coordemu.coord.endpoint import MREndpoint
from coordemu.coord.shrink_plan import ShrinkPlan
from coordemu.native import PendingTable
from coordemu.runtime.base import Address, Runtime

STAY = ShrinkPlan(drain="event", stay="connected")


class Site:
    """A manager over a loop whose connections open when the test says so."""

    def __init__(self, rt: Runtime, loop: Any, num: int) -> None:
        self.loop = loop
        self.pending = PendingTable()
        self.manager = MRConnManager(rt, loop, ConnOptions(), self.pending, num, lambda _level, _line: None)
        self.manager.add("a", MREndpoint(Address("127.0.0.1", 7001)))
        self.pool = self.manager.pools["a"]
        self.transports = list(loop.transports)
        self.told: list[Any] = []
        self.receipts: list[DrainReceipt] = []

    def open(self, *which: int) -> None:
        for number in which:
            self.transports[number].open()

    def ask(self, what: str) -> Any:
        conn = self.manager.get("a")
        assert conn is not None
        assert conn.send_command(b"x", lambda reply, error: self.told.append((what, reply, error)))
        return conn

    def shrink(self, num: int, plan: ShrinkPlan = STAY) -> None:
        self.manager.resize(num, plan, self.receipts.append)


@pytest.fixture
def site(rt: Runtime, stub_loop: Any) -> Site:
    return Site(rt, stub_loop, 4)


def test_upstream_cuts_the_ones_that_work(site: Site) -> None:
    site.open(2, 3)
    site.shrink(1, ShrinkPlan())
    assert site.manager.get("a") is None


def test_a_node_that_can_be_reached_stays_reachable(site: Site) -> None:
    site.open(2, 3)
    second = site.pool.conns[2]
    site.shrink(1)
    assert site.manager.get("a") is second
    assert second.index == 0
    assert [receipt.connections_stopped for receipt in site.receipts] == [3]
    assert site.pool.conns == [second]


def test_what_they_owe_goes_with_them(site: Site) -> None:
    site.open(1, 3)
    stays, goes = site.ask("stays"), site.ask("goes")
    site.manager.context.flush_counts()
    site.shrink(1)
    assert (stays.index, goes.index) == (0, 3)
    assert [site.pending.replies(0, index) for index in range(4)] == [1, 0, 0, 1]
    assert site.manager.draining is not None
    assert site.manager.get("a") is stays
    site.transports[3].handler.on_data(b"+late\r\n")
    assert site.manager.draining is None
    assert site.told == [("goes", b"late", None)]
    assert [(receipt.outcome, receipt.pending, receipt.delivered) for receipt in site.receipts] == [("drained", 1, 1)]
    site.transports[1].handler.on_data(b"+now\r\n")
    assert site.told[1:] == [("stays", b"now", None)]
    assert site.pending.pending_total(0) == 0


def test_one_that_was_moved_back_connects_in_its_new_place(site: Site) -> None:
    site.open(2, 3)
    first = site.pool.conns[0]
    site.ask("stays")
    site.ask("drained")
    site.shrink(1)
    assert site.pool.conns[2] is first
    site.open(0)
    assert site.pending.statistics()["connected"] == 3
    site.shrink(4)  # a larger size takes them all back
    assert [receipt.outcome for receipt in site.receipts] == ["superseded", "nothing-pending"]
    assert {site.manager.get("a") for _ in range(4)} == {conn for conn in site.pool.conns if conn.index != 1}
    assert [conn.index for conn in site.pool.conns] == [0, 1, 2, 3]
    assert site.pending.pending_total(0) == 2


def test_nothing_changes_places_where_nothing_can_be_won(site: Site) -> None:
    site.open(0, 1, 2, 3)
    before = list(site.pool.conns)
    assert site.pool.prefer_connected(2) == 0
    assert site.pool.conns == before
    site.transports[0].lose()
    site.transports[1].lose()
    assert site.pool.prefer_connected(1) == 1
    assert site.pool.prefer_connected(1) == 0
    assert site.pool.connected
