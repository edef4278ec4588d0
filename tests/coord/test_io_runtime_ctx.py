"""IORuntimeCtx: lazy start, the gate, topologies, resizes on its own thread, and its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from coordemu.coord.conn_handshake import pack_command
from coordemu.coord.conn_options import ConnOptions
from coordemu.coord.drain_receipt import DrainReceipt
from coordemu.coord.io_runtime_ctx import IORuntimeCtx
from coordemu.coord.shrink_plan import ShrinkPlan
from coordemu.coord.topology import MRClusterNode, MRClusterTopology
from coordemu.runtime.base import NS_PER_S, Runtime

PATIENCE_NS = 10 * NS_PER_S
PING = pack_command("ECHO", "ping")


class Rig:
    """An I/O runtime, what it logged, and a way to run something on its thread."""

    def __init__(self, rt: Runtime, options: ConnOptions) -> None:
        self.rt = rt
        self.options = options
        self.lines: list[str] = []
        self.io = self.make()
        self.receipts: list[DrainReceipt] = []

    def make(self, num: int = 2, timeout_ms: int = 0) -> IORuntimeCtx:
        return IORuntimeCtx(self.rt, num, self.options, timeout_ms, lambda _level, line: self.lines.append(line))

    def topology(self, *shards: Any) -> None:
        self.io.schedule_topology(MRClusterTopology.of(*(shard.endpoint for shard in shards)))

    def call(self, function: Callable[[], Any]) -> Any:
        """Run it as a request."""
        done = self.rt.event("done", owed_by=lambda: [self.io.task] if self.io.task else [])
        result: list[Any] = []

        def request(io: IORuntimeCtx, _data: object) -> None:
            result.append(function())
            io.request_completed()
            done.set()

        self.io.schedule(request, None)
        assert done.wait(PATIENCE_NS), f"{self.io!r}"
        return result[0]

    def resize(self, num: int, **plan: Any) -> None:
        self.call(lambda: self.io.update_conn_pool_size(num, ShrinkPlan(**plan), self.receipts.append))

    def send_each(self, told: list[tuple[Any, str | None]]) -> None:
        """One command on every connection of every node."""

        def send() -> None:
            for pool in self.io.manager.pools.values():
                for _ in range(pool.num):
                    conn = pool.get()
                    assert conn is not None
                    assert conn.send_command(PING, lambda reply, error: told.append((reply, error)))

        self.call(send)


@pytest.fixture
def rig(rt: Runtime, farm: Any, fast: ConnOptions) -> Iterator[Rig]:
    made = Rig(rt, fast)
    yield made
    assert made.io.free(PATIENCE_NS)


# ---- start and gate


def test_nothing_runs_before_the_first_request(rig: Rig, farm: Any) -> None:
    shard = farm.shard()
    rig.topology(shard)
    assert rig.io.task is None
    assert shard.accepted == 0
    assert rig.call(lambda: rig.rt.current().name) == "io 0"
    assert rig.io.task is not None
    assert not rig.io.start(), "started once"
    assert rig.io.statistics()["connections"]["owned"] == 2


def test_many_first_requests_start_one_thread(rig: Rig, farm: Any, eventually: Callable[..., Any]) -> None:
    rig.topology(farm.shard())
    ran: list[int] = []

    def request(io: IORuntimeCtx, number: int) -> None:
        ran.append(number)
        io.request_completed()

    senders = [rig.rt.spawn(rig.io.schedule, request, number, name=f"sender {number}") for number in range(8)]
    assert all(sender.join(PATIENCE_NS) for sender in senders)
    eventually(lambda: len(ran) == 8)
    assert sorted(ran) == list(range(8))
    assert [task.name for task in rig.rt.tasks()].count("io 0") == 1
    assert rig.io.queue.statistics()["pending"] == 0


def test_requests_wait_until_every_node_is_connected(rig: Rig, farm: Any, eventually: Callable[..., Any]) -> None:
    up, down = farm.shard(), farm.shard()
    farm.call(down.kill)
    ran: list[int] = []
    rig.topology(up, down)
    rig.io.schedule(lambda io, data: (ran.append(data), io.request_completed()), 1)
    eventually(lambda: not rig.io.manager.pools or rig.io.statistics()["connections"]["connected"] == 2)
    eventually(lambda: rig.io.statistics()["connections"]["connected"] == 2)
    assert not rig.io.ready
    assert ran == []
    assert rig.io.holders_of_queued() == [f"shard {down.address}: not connected yet"]
    farm.call(lambda: setattr(down, "listener", farm.loop.listen(down.address, down.accept)))
    eventually(lambda: ran == [1])
    assert rig.io.ready
    assert rig.io.holders_of_queued() == [rig.io.task]


def test_the_failure_timer_names_the_missing_and_opens_the_gate(rig: Rig, farm: Any) -> None:
    up, down = farm.shard(), farm.shard()
    farm.call(down.kill)
    rig.io.free()
    rig.io = rig.make(timeout_ms=30)
    rig.topology(up, down)
    assert rig.call(lambda: [pool.get() is not None for pool in rig.io.manager.pools.values()]) == [True, False]
    assert any(line == f"io 0: no connection to {down.address} within 30 ms; going on without" for line in rig.lines)


def test_the_failure_timer_is_stopped_when_every_node_is_connected(rig: Rig, farm: Any) -> None:
    rig.io.free()
    rig.io = rig.make(timeout_ms=60_000)
    rig.topology(farm.shard())
    timers = rig.call(lambda: (rig.io._validation_timer.active, rig.io._failure_timer.active))
    assert timers == (False, False)
    assert rig.lines == []


def test_a_topology_that_creates_nothing_leaves_the_gate_alone(rig: Rig, farm: Any, eventually: Any) -> None:
    shards = [farm.shard(), farm.shard()]
    rig.topology(*shards)
    rig.call(lambda: None)
    assert rig.io.ready
    states: list[bool] = []
    for remaining in (shards, shards[:1]):
        rig.topology(*remaining)
        eventually(lambda: rig.io._pending_topology.value is None)
        states.append(rig.io.ready)
    assert states == [True, True]
    eventually(lambda: shards[1].peers == [])


def test_a_node_that_comes_closes_the_gate_until_it_is_connected(rig: Rig, farm: Any, eventually: Any) -> None:
    first, second = farm.shard(), farm.shard(password="pw")
    rig.topology(first)
    rig.call(lambda: None)
    farm.call(lambda: setattr(second, "password", "other"))
    rig.io.schedule_topology(
        MRClusterTopology(
            (
                MRClusterNode("node-0", first.endpoint),
                MRClusterNode("node-1", type(first.endpoint)(second.address, "pw")),
            )
        )
    )
    eventually(lambda: not rig.io.ready)
    farm.call(lambda: setattr(second, "password", "pw"))
    assert rig.call(lambda: list(rig.io.manager.pools)) == ["node-0", "node-1"]
    assert rig.io.ready


def test_of_several_topologies_the_last_is_applied(rig: Rig, farm: Any, eventually: Any) -> None:
    shards = [farm.shard() for _ in range(3)]
    for shard in shards:
        rig.topology(shard)
    rig.call(lambda: None)
    assert rig.io.statistics()["runtime"] == {"ready": 1, "topologies_applied": 1, "topologies_dropped": 2}
    eventually(lambda: [shard.accepted for shard in shards] == [0, 0, 2])


def test_commands_go_out_in_the_topologys_order(rig: Rig, farm: Any) -> None:
    a, b = farm.shard(), farm.shard()
    for order in ((b, a), (a, b)):
        nodes = tuple(MRClusterNode("a" if shard is a else "b", shard.endpoint) for shard in order)
        rig.io.schedule_topology(MRClusterTopology(nodes))
        rig.call(lambda: None)
        rig.rt.poll_until(lambda: rig.io._pending_topology.value is None, 1000, "applied", PATIENCE_NS)
        assert rig.call(lambda: list(rig.io.manager.pools)) == [node.node_id for node in nodes]


# ---- resize


def test_the_queues_limit_follows_the_size(rig: Rig, farm: Any) -> None:
    rig.topology(farm.shard())
    assert rig.io.queue.max_pending == 100
    rig.resize(13)
    assert rig.io.queue.max_pending == 650
    rig.resize(1)
    assert rig.io.queue.max_pending == 50
    assert [receipt.num_to for receipt in rig.receipts] == [13, 1]
    assert rig.io.queue.statistics()["pending"] == 0


def test_a_surplus_that_is_given_back_gives_the_limit_back(rig: Rig, farm: Any, eventually: Any) -> None:
    shard = farm.shard()
    rig.topology(shard)
    rig.call(lambda: None)
    eventually(lambda: rig.io.statistics()["connections"]["connected"] == 2)
    farm.call(lambda: setattr(shard, "hold", True))
    told: list[Any] = []
    rig.send_each(told)
    rig.resize(1, drain="event", drain_timeout_ms=5, at_deadline="keep")
    eventually(lambda: rig.receipts)
    assert rig.io.queue.max_pending == 100
    farm.call(shard.release)
    eventually(lambda: len(told) == 2)


def test_block_loop_on_the_io_thread_sees_none_of_the_replies_that_are_there(
    rig: Rig, farm: Any, eventually: Callable[..., Any]
) -> None:
    """The write-ups' code as written: the shard answers, and the I/O thread sleeps through its whole deadline."""
    shard = farm.shard()
    rig.topology(shard)
    rig.call(lambda: None)
    eventually(lambda: rig.io.statistics()["connections"]["connected"] == 2)
    told: list[tuple[Any, str | None]] = []

    def send_and_shrink() -> None:
        for _ in range(2):
            conn = rig.io.manager.get("node-0")
            assert conn is not None
            conn.send_command(PING, lambda reply, error: told.append((reply, error)))

    farm.call(lambda: setattr(shard, "hold", True))
    rig.call(send_and_shrink)
    eventually(lambda: shard.held == 2)
    releaser = rig.rt.spawn(
        lambda: (
            rig.rt.poll_until(lambda: rig.io.pending.draining_from or rig.receipts, 1000, "the drain", PATIENCE_NS),
            farm.call(shard.release),
        ),
        name="releaser",
    )
    rig.resize(1, drain="block-loop", drain_timeout_ms=100, drain_poll_ms=5, stop="drop")
    assert releaser.join(PATIENCE_NS)
    (receipt,) = rig.receipts
    assert (receipt.outcome, receipt.pending, receipt.delivered, receipt.lost) == ("deadline", 1, 0, 1)
    assert receipt.waited_ns >= 100_000_000
    eventually(lambda: len(told) == 1)


def test_free_calls_a_blocking_drain_off(rig: Rig, farm: Any, eventually: Callable[..., Any]) -> None:
    shard = farm.shard()
    rig.topology(shard)
    rig.call(lambda: None)
    eventually(lambda: rig.io.statistics()["connections"]["connected"] == 2)
    farm.call(lambda: setattr(shard, "hold", True))
    told: list[tuple[Any, str | None]] = []
    rig.send_each(told)

    def shrink(io: IORuntimeCtx, _data: object) -> None:
        io.update_conn_pool_size(1, ShrinkPlan(drain="block-loop", drain_timeout_ms=50_000), rig.receipts.append)
        io.request_completed()

    rig.io.schedule(shrink, None)
    eventually(lambda: rig.io.pending.draining_from == 1)
    assert rig.io.free(PATIENCE_NS)
    (receipt,) = rig.receipts
    assert receipt.outcome == "superseded"
    assert receipt.waited_ns < 50 * NS_PER_S
    assert [error for _, error in told] == ["the I/O runtime is shut down"] * 2


# ---- the end


def test_free_without_a_thread_only_tears_down(rt: Runtime, fast: ConnOptions) -> None:
    rig = Rig(rt, fast)
    assert rig.io.free()
    assert rig.io.free(), "twice does no harm"
    assert rig.io.task is None


def test_requests_that_wait_at_the_end_fail_instead_of_being_forgotten(rig: Rig, farm: Any) -> None:
    down = farm.shard()
    farm.call(down.kill)
    rig.topology(down)
    seen: list[tuple[str, int]] = []
    for _ in range(3):
        rig.io.schedule(lambda io, _data: seen.append((rig.rt.current().name, len(io.manager.pools))), None)
    assert rig.io.free(PATIENCE_NS)
    assert seen == [("io 0", 0)] * 3
    rig.io.schedule(lambda io, _data: seen.append((rig.rt.current().name, len(io.manager.pools))), None)
    assert seen[3] == (rig.rt.current().name, 0), "later ones run on their sender's thread"


def test_the_end_fails_what_is_under_way_and_closes_everything(rig: Rig, farm: Any, eventually: Any) -> None:
    shard = farm.shard()
    rig.topology(shard)
    rig.call(lambda: None)
    eventually(lambda: rig.io.statistics()["connections"]["connected"] == 2)
    farm.call(lambda: setattr(shard, "hold", True))
    told: list[tuple[Any, str | None]] = []
    rig.send_each(told)
    rig.resize(1, stop="graceful")
    assert rig.receipts == []
    assert rig.io.free(PATIENCE_NS)
    assert told == [(None, "the I/O runtime is shut down")] * 2
    (receipt,) = rig.receipts
    assert (receipt.pending, receipt.failed) == (1, 1)
    assert rig.io.loop.statistics()["transports"] == 0
    eventually(lambda: shard.peers == [])


def test_it_can_not_free_itself(rig: Rig, farm: Any) -> None:
    rig.topology(farm.shard())

    def free() -> str:
        with pytest.raises(RuntimeError, match="can't free itself"):
            rig.io.free()
        return "refused"

    assert rig.call(free) == "refused"


def test_a_request_that_raises_ends_the_thread_and_is_told(rig: Rig, farm: Any) -> None:
    rig.topology(farm.shard())
    rig.call(lambda: None)
    rig.io.schedule(lambda _io, _data: 1 // 0, None)
    assert rig.io.task is not None
    assert rig.io.task.join(PATIENCE_NS)
    assert rig.io.free()
    assert rig.lines[-1].startswith("io 0 ended by an error: ZeroDivisionError")
    assert rig.io.loop.statistics()["transports"] == 0


def test_bounds(rt: Runtime, fast: ConnOptions) -> None:
    with pytest.raises(ValueError, match="topology_validation_timeout_ms -1"):
        IORuntimeCtx(rt, 1, fast, -1, lambda _level, _line: None)
    with pytest.raises(ValueError, match="at least 1"):
        IORuntimeCtx(rt, 0, fast, 0, lambda _level, _line: None)
