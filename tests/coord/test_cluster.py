"""MRCluster: several I/O runtimes, their turns, topologies and resizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from coordemu.coord.cluster import MRCluster
from coordemu.coord.conn_handshake import pack_command
from coordemu.coord.conn_options import ConnOptions
from coordemu.coord.drain_receipt import DrainReceipt
from coordemu.coord.io_runtime_ctx import IORuntimeCtx
from coordemu.coord.rmr import fanout
from coordemu.coord.shrink_plan import DRAIN_MODES, STOP_MODES, ShrinkPlan
from coordemu.coord.topology import MRClusterTopology
from coordemu.runtime.base import NS_PER_S, Runtime

PATIENCE_NS = 10 * NS_PER_S
ECHO = pack_command("ECHO", "hi")


class Grid:
    """Some shards, and clusters that are freed at the end."""

    def __init__(self, rt: Runtime, farm: Any, options: ConnOptions, eventually: Callable[..., Any]) -> None:
        self.rt = rt
        self.farm = farm
        self.options = options
        self.eventually = eventually
        self.shards: list[Any] = []
        self.receipts: list[DrainReceipt] = []
        self.cluster: MRCluster

    def build(self, shards: int = 2, io_threads: int = 1, num: int = 2, start: bool = True) -> MRCluster:
        self.shards = [self.farm.shard() for _ in range(shards)]
        topology = MRClusterTopology.of(*(shard.endpoint for shard in self.shards))
        self.cluster = MRCluster(self.rt, topology, io_threads, num, self.options)
        if start:
            self.cluster.start()
            self.connected(num)
        return self.cluster

    def connected(self, num: int) -> None:
        """Wait until every I/O runtime has exactly `num` connections to each shard, on both sides."""
        per_shard = num * self.cluster.num_io_threads
        states = {str(shard.address): ["Connected"] * per_shard for shard in self.shards}
        self.eventually(lambda: self.cluster.fill_state_dict() == states, "connections")
        self.eventually(lambda: [len(shard.peers) for shard in self.shards] == [per_shard] * len(self.shards))
        assert self.cluster.wait_until_ready(PATIENCE_NS)

    def resize(self, num: int, **plan: Any) -> list[DrainReceipt]:
        self.receipts.clear()
        self.cluster.update_conn_pool_size(num, ShrinkPlan(**plan), self.receipts.append)
        return self.receipts

    def wait_receipts(self) -> list[DrainReceipt]:
        self.eventually(lambda: len(self.receipts) == self.cluster.num_io_threads, "receipts")
        return sorted(self.receipts, key=lambda receipt: receipt.io_runtime)


@pytest.fixture
def grid(rt: Runtime, farm: Any, fast: ConnOptions, eventually: Callable[..., Any]) -> Iterator[Grid]:
    made = Grid(rt, farm, fast, eventually)
    yield made
    made.cluster.free()
    assert all(io.loop.statistics()["transports"] == 0 for io in made.cluster.io_runtimes)


def test_requests_take_turns_on_the_io_threads(grid: Grid) -> None:
    cluster = grid.build(io_threads=3)
    names: list[str] = []

    def request(io: IORuntimeCtx, _data: object) -> None:
        names.append(grid.rt.current().name)
        io.request_completed()

    for _ in range(12):
        cluster.schedule(request, None)
    grid.eventually(lambda: len(names) == 12)
    assert Counter(names) == {"io 0": 4, "io 1": 4, "io 2": 4}
    assert [task.name for task in cluster.tasks] == ["io 0", "io 1", "io 2"]
    assert repr(cluster) == "<MRCluster 2 nodes, 3 I/O runtimes x 2 connections>"


@pytest.mark.parametrize(("total", "share"), [(13, 7), (12, 6), (1, 1), (2, 1), (3, 2)])
def test_a_resize_is_split_rounding_up(grid: Grid, total: int, share: int) -> None:
    cluster = grid.build(io_threads=2, num=4)
    grid.resize(total)
    receipts = grid.wait_receipts()
    assert [(receipt.io_runtime, receipt.num_from, receipt.num_to) for receipt in receipts] == [
        (0, 4, share),
        (1, 4, share),
    ]
    assert cluster.conns_per_node == share
    assert [io.queue.max_pending for io in cluster.io_runtimes] == [share * 50] * 2
    grid.connected(share)


def test_the_resize_runs_on_the_io_thread(grid: Grid) -> None:
    grid.build(num=3)
    grid.resize(1)
    grid.wait_receipts()
    steps = {event.upstream: event.task for event in grid.rt.trace_events()}
    assert steps["MR_UpdateConnPoolSize"] == grid.rt.current().name
    assert steps["MRConnManager_Shrink"] == steps["MRConn_Stop"] == "io 0"


def test_without_a_started_thread_it_runs_directly(grid: Grid) -> None:
    cluster = grid.build(shards=1, start=False)
    grid.resize(5)
    assert [receipt.num_to for receipt in grid.receipts] == [5], "made before the call returned"
    assert cluster.tasks == []
    assert cluster.shrink_hidden
    grid.resize(3, drain="event")
    assert [receipt.outcome for receipt in grid.receipts] == ["nothing-pending"]
    assert cluster.tasks == []
    assert cluster.io_runtimes[0].queue.max_pending == 150
    cluster.start()
    grid.connected(3)


@pytest.mark.parametrize("num", [0, -1])
def test_no_connections_is_refused_and_changes_nothing(grid: Grid, num: int) -> None:
    cluster = grid.build()
    with pytest.raises(ValueError, match="at least 1"):
        grid.resize(num)
    assert cluster.conns_per_node == 2
    grid.connected(2)
    assert grid.receipts == []


@pytest.mark.parametrize("io_threads", [0, 257])
def test_the_number_of_io_threads_has_bounds(rt: Runtime, io_threads: int) -> None:
    with pytest.raises(ValueError, match=r"1\.\.256"):
        MRCluster(rt, MRClusterTopology(), io_threads)
    with pytest.raises(ValueError, match="at least 1"):
        MRCluster(rt, MRClusterTopology(), 1, 0)


@pytest.mark.parametrize("stop", STOP_MODES)
@pytest.mark.parametrize("drain", DRAIN_MODES)
def test_every_way_to_shrink_under_load_accounts_for_every_query(grid: Grid, drain: str, stop: str) -> None:
    """Fan-outs before, during and after: each completes, but for those whose replies the receipts call lost."""
    cluster = grid.build(shards=3, io_threads=2, num=4)
    completed: list[Any] = []
    fans = [fanout(cluster, ECHO, completed.append) for _ in range(20)]
    grid.resize(2, drain=drain, stop=stop, drain_timeout_ms=50 if drain == "block-loop" else 5_000, drain_poll_ms=1)
    fans += [fanout(cluster, ECHO, completed.append) for _ in range(20)]
    if drain == "yield":
        grid.eventually(lambda: cluster.shrink_hidden)
        grid.eventually(lambda: cluster.pending_total(cluster.conns_per_node) == 0)
        cluster.finish_shrink(polls=1)
    receipts = grid.wait_receipts()
    lost = sum(receipt.lost for receipt in receipts)
    for receipt in receipts:
        assert receipt.delivered + receipt.failed + receipt.lost == receipt.pending
        assert receipt.connections_stopped == 9
    grid.eventually(lambda: sum(ctx.replied + ctx.errored for ctx in fans) == 120 - lost)
    assert all(ctx.expected == 3 for ctx in fans)
    assert {ctx for ctx in fans if ctx.completed} == set(completed)
    assert lost == 0 or (stop == "drop" and drain in ("none", "block-loop"))
    assert sum(ctx.errored for ctx in fans) == sum(receipt.failed for receipt in receipts)
    grid.connected(1)
    after = [fanout(cluster, ECHO, completed.append) for _ in range(20)]
    if not lost:
        grid.eventually(lambda: all(ctx.completed for ctx in after))
        assert cluster.statistics()["outstanding"] == 0


def test_a_deadline_that_keeps_the_connections_keeps_the_size(grid: Grid) -> None:
    cluster = grid.build(num=3)
    for shard in grid.shards:
        shard.hold = True
    completed: list[Any] = []
    for _ in range(3):
        fanout(cluster, ECHO, completed.append)
    grid.eventually(lambda: [shard.held for shard in grid.shards] == [3, 3])
    grid.resize(1, drain="timer", drain_timeout_ms=5, drain_poll_ms=1, at_deadline="keep")
    (receipt,) = grid.wait_receipts()
    assert (receipt.outcome, receipt.num_to) == ("deadline", 3)
    assert cluster.conns_per_node == 3
    assert cluster.pending_total(1) == 4
    for shard in grid.shards:
        grid.farm.call(shard.release)
    grid.eventually(lambda: len(completed) == 3)
    grid.connected(3)


def test_yield_is_finished_and_abandoned_by_main(grid: Grid) -> None:
    cluster = grid.build(num=3, io_threads=2)
    grid.resize(2, drain="yield")
    grid.eventually(lambda: cluster.shrink_hidden)
    assert grid.receipts == []
    cluster.abandon_shrink()
    assert [receipt.num_to for receipt in grid.wait_receipts()] == [3, 3]
    assert cluster.conns_per_node == 3
    grid.resize(2, drain="yield")
    cluster.finish_shrink(polls=4)
    assert [(receipt.num_to, receipt.outcome) for receipt in grid.wait_receipts()] == [(1, "nothing-pending")] * 2
    assert [receipt.polls for receipt in grid.receipts] == [4, 4]
    grid.connected(1)


def test_a_topology_reaches_every_io_runtime(grid: Grid) -> None:
    cluster = grid.build(shards=3, io_threads=2)
    gone = grid.shards.pop()
    cluster.update_topology(MRClusterTopology.of(*(shard.endpoint for shard in grid.shards)))
    grid.connected(2)
    grid.eventually(lambda: gone.peers == [])
    assert cluster.topology.num_shards == 2


def test_a_resize_between_others_ends_with_the_last_size(grid: Grid) -> None:
    cluster = grid.build(num=2)
    sizes = [5, 1, 4, 4, 2, 6, 3]
    receipts: list[DrainReceipt] = []
    for number, size in enumerate(sizes):
        cluster.update_conn_pool_size(size, ShrinkPlan(drain=("event", "timer", "none")[number % 3]), receipts.append)
        fanout(cluster, ECHO, lambda _ctx: None)
    grid.eventually(lambda: len(receipts) == len(sizes))
    grid.connected(3)
    assert cluster.io_runtimes[0].queue.max_pending == 150


def test_free_twice_and_without_a_start(rt: Runtime) -> None:
    cluster = MRCluster(rt, MRClusterTopology(), 2)
    cluster.free()
    cluster.free()
    assert cluster.tasks == []
