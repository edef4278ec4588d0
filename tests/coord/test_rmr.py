"""MRCtx: a command to every shard, its replies, its one completion, and who it waits for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from coordemu.coord.cluster import MRCluster
from coordemu.coord.conn_handshake import pack_command
from coordemu.coord.conn_options import ConnOptions
from coordemu.coord.rmr import NO_CONNECTION, NOT_EVERY_NODE, MRCtx, fanout
from coordemu.coord.shrink_plan import ShrinkPlan
from coordemu.coord.topology import MRClusterTopology
from coordemu.runtime.base import NS_PER_S, Runtime
from coordemu.runtime.wait_for import chain_from

PATIENCE_NS = 10 * NS_PER_S
ECHO = pack_command("ECHO", "hi")


class Fans:
    """Three shards, a cluster, and fan-outs that can be waited for."""

    def __init__(self, rt: Runtime, farm: Any, options: ConnOptions, eventually: Callable[..., Any]) -> None:
        self.rt = rt
        self.farm = farm
        self.eventually = eventually
        self.shards = [farm.shard() for _ in range(3)]
        self.cluster = MRCluster(
            rt, MRClusterTopology.of(*(shard.endpoint for shard in self.shards)), 1, 2, options, 5_000
        )
        self.completed: list[tuple[MRCtx, str]] = []

    def connect(self) -> None:
        self.cluster.start()
        self.eventually(lambda: self.cluster.statistics()["connected"] == 6)
        assert self.cluster.wait_until_ready(PATIENCE_NS)

    def on_complete(self, ctx: MRCtx) -> None:
        assert ctx.completed
        self.completed.append((ctx, self.rt.current().name))

    def fan(self, **kwargs: Any) -> MRCtx:
        return fanout(self.cluster, ECHO, self.on_complete, **kwargs)

    def wait(self, number: int = 1) -> MRCtx:
        self.eventually(lambda: len(self.completed) >= number)
        assert len(self.completed) == number
        return self.completed[-1][0]

    def hold(self, value: bool = True) -> None:
        for shard in self.shards:
            shard.hold = value

    def release(self) -> None:
        for shard in self.shards:
            self.farm.call(shard.release)

    @property
    def held(self) -> list[int]:
        return [shard.held for shard in self.shards]


@pytest.fixture
def fans(rt: Runtime, farm: Any, fast: ConnOptions, eventually: Callable[..., Any]) -> Iterator[Fans]:
    made = Fans(rt, farm, fast, eventually)
    yield made
    made.cluster.free()


def test_every_shard_answers_and_it_completes_once(fans: Fans) -> None:
    ctx = fans.fan(name="7")
    assert fans.wait() is ctx
    assert (ctx.expected, ctx.replied, ctx.errored) == (3, 3, 0)
    assert ctx.replies == [b"hi"] * 3
    assert (ctx.errors, ctx.unsent) == ([], [])
    assert fans.completed[0][1] == "io 0"
    assert [shard.commands for shard in fans.shards] == [[[b"ECHO", b"hi"]]] * 3
    assert repr(ctx) == "<MRCtx 7 completed replied=3 errored=0 of 3>"
    assert ctx.holders() == []


def test_the_request_is_completed_before_on_complete(fans: Fans) -> None:
    fans.connect()
    pending: list[int] = []
    fanout(fans.cluster, ECHO, lambda ctx: pending.append(ctx.io_runtime.queue.pending))
    fans.eventually(lambda: pending)
    assert pending == [0]


def test_an_error_reply_counts_as_an_error(fans: Fans) -> None:
    fans.shards[1].answer = lambda _words: b"-ERR no such index\r\n"
    fans.fan()
    ctx = fans.wait()
    assert (ctx.expected, ctx.replied, ctx.errored) == (3, 2, 1)
    assert ctx.errors == ["ERR no such index"]


def test_a_shard_that_dies_is_an_error_with_its_reason(fans: Fans) -> None:
    fans.connect()
    fans.hold()
    fans.fan()
    fans.eventually(lambda: fans.held == [1, 1, 1])
    fans.farm.call(fans.shards[2].kill)
    fans.release()
    ctx = fans.wait()
    assert (ctx.replied, ctx.errored) == (2, 1)
    assert ctx.errors[0].startswith(f"{fans.shards[2].address}: connection lost")


def test_nodes_without_a_connection_are_not_waited_for(fans: Fans) -> None:
    fans.connect()
    fans.farm.call(fans.shards[0].kill)
    fans.eventually(lambda: fans.cluster.statistics()["connected"] == 4)
    fans.fan()
    ctx = fans.wait()
    assert (ctx.expected, ctx.replied) == (2, 2)
    assert ctx.unsent == ["node-0"]


def test_with_no_connection_at_all_it_completes_at_once(fans: Fans) -> None:
    fans.connect()
    for shard in fans.shards:
        fans.farm.call(shard.kill)
    fans.eventually(lambda: fans.cluster.statistics()["connected"] == 0)
    fans.fan()
    ctx = fans.wait()
    assert (ctx.expected, ctx.replied, ctx.errored, ctx.errors) == (0, 0, 0, [NO_CONNECTION])
    assert len(ctx.unsent) == 3
    assert fans.cluster.statistics()["requests_pending"] == 0


def test_require_all_sends_nothing_unless_every_node_has_a_connection(fans: Fans) -> None:
    fans.connect()
    assert fans.fan(require_all=True) is fans.wait()
    fans.farm.call(fans.shards[0].kill)
    fans.eventually(lambda: fans.cluster.statistics()["connected"] == 4)
    fans.fan(require_all=True)
    ctx = fans.wait(2)
    assert (ctx.expected, ctx.errors, ctx.unsent) == (0, [NOT_EVERY_NODE], ["node-0"])
    assert [len(shard.commands) for shard in fans.shards] == [1, 1, 1]
    assert fans.cluster.statistics()["requests_pending"] == 0


def test_the_reducer_runs_where_its_owner_calls_it(fans: Fans) -> None:
    fans.connect()
    fans.hold()
    ctx = fans.fan(reducer=lambda ctx: b"+".join(ctx.replies))
    with pytest.raises(RuntimeError, match="not completed"):
        ctx.reduce()
    fans.eventually(lambda: fans.held == [1, 1, 1])
    fans.release()
    fans.wait()
    assert ctx.reduce() == b"hi+hi+hi"
    fans.hold(value=False)
    plain = fans.fan()
    fans.wait(2)
    assert plain.reduce() is None


def test_many_fan_outs_take_turns_on_the_connections(fans: Fans) -> None:
    fans.connect()
    for _ in range(200):
        fans.fan()
    fans.wait(200)
    assert all(ctx.replied == 3 for ctx, _ in fans.completed)
    assert sorted(int(ctx.label) for ctx, _ in fans.completed) == list(range(200)), "each once"
    for shard in fans.shards:
        assert len(shard.commands) == 200
        assert len(shard.peers) == 2
    numbers = fans.cluster.statistics()
    assert (numbers["requests_pending"], numbers["queued"], numbers["outstanding"]) == (0, 0, 0)
    assert fans.cluster.io_runtimes[0].pending.consistent()
    assert fans.cluster.io_runtimes[0].queue.holders() == []
    assert fans.cluster.pending_total(0) == 0


def test_the_limit_holds_fan_outs_back(fans: Fans) -> None:
    fans.connect()
    fans.hold()
    for _ in range(130):
        fans.fan()
    fans.eventually(lambda: fans.held == [100] * 3)
    numbers = fans.cluster.statistics()
    assert (numbers["requests_pending"], numbers["queued"]) == (100, 30)
    fans.hold(value=False)
    fans.release()
    fans.wait(130)


# ---- who it waits for


def wait_in_a_task(fans: Fans, name: str) -> tuple[Any, MRCtx, Any]:
    """A task that waits for a fan-out, as a query's worker does."""
    holder: list[MRCtx] = []
    signal = fans.rt.event(f"replies of {name}", owed_by=lambda: list(holder))
    ctx = fanout(fans.cluster, ECHO, lambda _ctx: signal.set(), name=name)
    holder.append(ctx)
    task = fans.rt.spawn(signal.wait, name="worker")
    fans.eventually(lambda: task.waiting_on is not None)
    return task, ctx, signal


def test_it_waits_for_the_connections_that_owe_a_reply(fans: Fans) -> None:
    fans.connect()
    fans.hold()
    task, ctx, _ = wait_in_a_task(fans, "7")
    fans.eventually(lambda: fans.held == [1, 1, 1])
    assert ctx.name == "query 7: replies"
    assert len(ctx.holders()) == 3
    fans.farm.call(fans.shards[0].release)
    fans.eventually(lambda: ctx.replied == 1)
    assert [holder.endpoint for holder in ctx.holders()] == [shard.endpoint for shard in fans.shards[1:]]
    chain = chain_from(fans.rt, task)
    assert chain.kind == "waits"
    assert chain.steps[-1].startswith("shard unix:")
    fans.release()
    assert task.join(PATIENCE_NS)


def test_dropped_replies_are_owed_by_nobody(fans: Fans) -> None:
    fans.connect()
    fans.hold()
    fans.fan(name="first")  # on connection 0 of each node, which stays
    task, ctx, signal = wait_in_a_task(fans, "7")
    fans.eventually(lambda: fans.held == [2, 2, 2])
    receipts: list[Any] = []
    fans.cluster.update_conn_pool_size(1, ShrinkPlan(stop="drop"), receipts.append)
    fans.eventually(lambda: receipts)
    assert receipts[0].lost == 3
    chain = chain_from(fans.rt, task)
    assert chain.kind == "orphan"
    assert chain.steps[-2].startswith("conn unix:")
    assert chain.steps[-2].endswith("#1")
    assert chain.steps[-1] == "nobody: the connection was stopped and its replies dropped"
    assert not ctx.completed
    signal.set()
    assert task.join(PATIENCE_NS)


def test_while_it_is_queued_it_waits_for_the_nodes_that_are_missing(fans: Fans) -> None:
    fans.farm.call(fans.shards[1].kill)
    task, ctx, _ = wait_in_a_task(fans, "7")
    fans.eventually(lambda: ctx.holders() == [f"shard {fans.shards[1].address}: not connected yet"])
    assert chain_from(fans.rt, task).kind == "waits"
    fans.cluster.free()
    assert task.join(PATIENCE_NS)
    assert ctx.errors == [NO_CONNECTION]


def test_behind_dropped_requests_it_waits_for_nobody(fans: Fans) -> None:
    """A dropped request is never completed and keeps its place: enough of them stop the I/O runtime for good."""
    fans.connect()
    fans.hold()
    for _ in range(100):
        fans.fan()
    fans.eventually(lambda: fans.held == [100] * 3)
    receipts: list[Any] = []
    fans.cluster.io_runtimes[0].queue.set_max_pending(101)  # so that the resize itself is popped
    fans.cluster.update_conn_pool_size(1, ShrinkPlan(stop="drop"), receipts.append)
    fans.eventually(lambda: receipts)
    assert receipts[0].lost == 150
    task, ctx, signal = wait_in_a_task(fans, "late")
    (queue,) = ctx.holders()
    assert queue.name == "queue of io 0"
    assert len(queue.holders()) == 100
    assert chain_from(fans.rt, task).kind == "waits", "half of them are on connections that stay"
    fans.hold(value=False)
    fans.release()
    fans.eventually(lambda: len(fans.completed) == 50)
    fans.eventually(lambda: chain_from(fans.rt, task).kind == "orphan")
    assert fans.cluster.statistics()["requests_pending"] == 50
    fans.cluster.free()
    assert task.join(PATIENCE_NS)
    assert ctx.errors == [NO_CONNECTION]
    assert len(fans.completed) == 50, "the dropped ones are not completed even now"
    signal.set()


def test_after_the_cluster_was_freed_it_fails_on_the_senders_thread(fans: Fans) -> None:
    fans.connect()
    fans.cluster.free()
    fans.fan()
    ((ctx, thread),) = fans.completed
    assert ctx.errors == [NO_CONNECTION]
    assert thread == fans.rt.current().name


def test_freeing_the_cluster_completes_what_is_under_way(fans: Fans) -> None:
    fans.connect()
    fans.hold()
    fans.fan()
    fans.eventually(lambda: fans.held == [1, 1, 1])
    fans.cluster.free()
    ctx = fans.wait()
    assert (ctx.replied, ctx.errored) == (0, 3)
    assert ctx.errors == ["the I/O runtime is shut down"] * 3
