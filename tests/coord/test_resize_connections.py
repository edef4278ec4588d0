"""CONN_PER_SHARD, and shrinks that are put off: every resize completes, and no connection is left over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

LONG_MS = 10_000
LATER_MS = 3_600_000  # a delay that does not pass within a test
MakeSite = Callable[..., Any]
Eventually = Callable[..., Any]


def actions(resize: Any) -> list[str]:
    return [entry.action for entry in resize.journal if not entry.action.startswith("stop ")]


def three_under_way(site: Any, eventually: Eventually) -> list[Any]:
    """Queries a, b and c, whose replies are held back on the connections 0, 1 and 2 of both shards."""
    site.hold()
    clients = []
    for number, ident in enumerate("abc"):
        clients += site.search(ident)
        eventually(lambda: site.held() == 2 * number + 2)  # noqa: B023
    return clients


def settled(site: Any, eventually: Eventually, each: int) -> None:
    """Every resize is complete, and there are `each` connections per node and I/O thread, all of them in use."""
    eventually(lambda: all(resize.complete for resize in site.resizer.history))
    eventually(lambda: not site.resizer.under_way)
    eventually(lambda: site.cluster.conns_per_node == each)
    eventually(site.coordinator.connected)
    statistics = site.cluster.statistics()
    assert statistics["owned"] == len(site.states()) == each * 2 * site.cluster.num_io_threads
    eventually(lambda: site.cluster.statistics()["closing"] == 0)
    io_threads = [io.statistics() for io in site.cluster.io_runtimes]
    assert [io["connections"]["num"] for io in io_threads] == [each] * len(io_threads)
    assert [io["connections"]["draining"] for io in io_threads] == [0] * len(io_threads)
    # The limit of the queue follows.
    assert [io["queue"]["max_pending"] for io in io_threads] == [each * 50] * len(io_threads)


# ---- CONN_PER_SHARD


@pytest.mark.parametrize(
    ("workers", "io_threads", "sizes"),
    [
        (2, 1, [(5, 5), (1, 1), (0, 3)]),
        (0, 1, [(4, 4), (0, 1)]),
        (2, 2, [(5, 3), (4, 2), (3, 2), (1, 1), (0, 2)]),
    ],
)
def test_connections_follow_and_threads_stay(
    make_site: MakeSite, eventually: Eventually, workers: int, io_threads: int, sizes: list[tuple[int, int]]
) -> None:
    site = make_site(workers=workers, io_threads=io_threads)
    client = site.client()
    for number, (size, each) in enumerate(sizes, 1):
        assert client.call("CONFIG", "SET", "CONN_PER_SHARD", size) == b"OK"
        settled(site, eventually, each)
        resize = site.last()
        assert len(site.resizer.history) == number
        assert (resize.workers_before, resize.workers_after, resize.shrinks) == (workers, workers, False)
        assert len(resize.receipts) == io_threads
        assert actions(resize) == ["trigger", "CONFIG SET returns"]
    assert site.workers.num_threads == workers
    assert client.call("CONFIG", "SET", "search-conn-per-shard", 0) == b"OK"
    assert len(site.resizer.history) == len(sizes)


def test_with_a_fixed_size_workers_change_no_connections(make_site: MakeSite, eventually: Eventually) -> None:
    site = make_site(workers=2, conn_per_shard=4, io_threads=2)
    client = site.client()
    for size in (0, 5, 1):
        assert client.call("CONFIG", "SET", "WORKERS", size) == b"OK"
        settled(site, eventually, 2)


@pytest.mark.parametrize("drain", ["none", "timer", "yield", "event"])
def test_fewer_connections_drain_as_the_policy_says(make_site: MakeSite, eventually: Eventually, drain: str) -> None:
    site = make_site(workers=3, changes={"drain": drain, "drain_timeout_ms": LONG_MS, "drain_poll_ms": 1})
    clients = three_under_way(site, eventually)
    operator, other = site.client(), site.client()
    operator.send("CONFIG", "SET", "CONN_PER_SHARD", 1)
    eventually(lambda: site.cluster.conns_per_node == 1 and site.cluster.shrink_hidden)
    assert other.call("PING") == b"PONG"
    if drain == "yield":
        assert not operator.answered
        assert str(other.call("CONFIG", "SET", "CONN_PER_SHARD", 2)) == "ERR a resize is under way"
        assert str(other.call("CONFIG", "SET", "WORKERS", 2)) == "ERR a resize is under way"
    site.release()
    assert operator.read() == b"OK"
    eventually(lambda: site.last().complete)
    (receipt,) = site.last().receipts
    assert (receipt.outcome, receipt.pending, receipt.delivered) == (
        "deadline" if drain == "none" else "drained", 4, 4,
    )  # fmt: skip
    assert [client.read() for client in clients] == [[b"a", 2], [b"b", 2], [b"c", 2]]
    settled(site, eventually, 1)


def test_a_refusal_stands_in_the_resize(make_site: MakeSite, eventually: Eventually) -> None:
    changes = {"drain": "yield", "at_deadline": "raise", "drain_timeout_ms": 10, "drain_poll_ms": 1}
    site = make_site(workers=3, changes=changes)
    clients = three_under_way(site, eventually)
    operator = site.client()
    refusal = "ERR the drain did not end within 10 ms"
    assert str(operator.call("CONFIG", "SET", "CONN_PER_SHARD", 1)) == refusal
    assert site.last().error == refusal
    assert [action for action in actions(site.last()) if action != "drain"] == ["refused", "CONFIG SET returns"]
    assert site.resizer.statistics()["refused"] == 1
    assert operator.call("CONFIG", "GET", "CONN_PER_SHARD") == [b"CONN_PER_SHARD", b"0"]
    site.release()
    assert [client.read() for client in clients] == [[b"a", 2], [b"b", 2], [b"c", 2]]
    settled(site, eventually, 4)


def test_more_workers_with_fewer_connections(make_site: MakeSite, eventually: Eventually) -> None:
    """A deadline has left more connections than the workers ask for; a drain by yields must not be forgotten then."""
    changes = {"drain": "yield", "at_deadline": "keep", "drain_timeout_ms": 10, "drain_poll_ms": 1}
    site = make_site(workers=5, changes=changes)
    clients = three_under_way(site, eventually)
    operator = site.client()
    assert operator.call("CONFIG", "SET", "WORKERS", 0) == b"OK"
    assert site.cluster.conns_per_node == 6
    site.release()
    assert [client.read() for client in clients] == [[b"a", 2], [b"b", 2], [b"c", 2]]
    eventually(lambda: site.workers.num_threads_alive == 0)
    assert operator.call("CONFIG", "SET", "WORKERS", 2) == b"OK"
    settled(site, eventually, 3)
    assert [receipt.connections_stopped for receipt in site.last().receipts] == [6]


# ---- a shrink that is put off


@pytest.mark.parametrize("io_threads", [1, 2])
def test_the_trigger_comes_after_its_delay(make_site: MakeSite, eventually: Eventually, io_threads: int) -> None:
    site = make_site(workers=3, policy="delay-trigger", io_threads=io_threads)
    client = site.client()
    assert client.call("CONFIG", "SET", "WORKERS", 1) == b"OK"
    resize = site.last()
    settled(site, eventually, 2 // io_threads)
    assert actions(resize) == [
        "CONFIG SET WORKERS 1", "remove 2 threads", "trigger put off", "CONFIG SET returns", "trigger",
    ]  # fmt: skip
    (triggered_ns,) = (entry.at_ns for entry in resize.journal if entry.action == "trigger")
    assert triggered_ns - resize.started_ns >= 10_000_000
    assert len(resize.receipts) == io_threads


@pytest.mark.parametrize("io_threads", [1, 2])
@pytest.mark.parametrize(
    ("option", "value", "total"), [("WORKERS", 4, 5), ("CONN_PER_SHARD", 2, 2), ("CONN_PER_SHARD", 9, 9)]
)
def test_a_change_that_is_not_put_off_calls_the_trigger_off(
    make_site: MakeSite, eventually: Eventually, io_threads: int, option: str, value: int, total: int
) -> None:
    site = make_site(workers=3, policy="delay-trigger", changes={"trigger_delay_ms": LATER_MS}, io_threads=io_threads)
    client = site.client()
    assert client.call("CONFIG", "SET", "WORKERS", 0) == b"OK"
    first = site.last()
    assert not first.complete
    assert site.resizer.under_way
    assert site.cluster.conns_per_node == 4 // io_threads
    assert client.call("CONFIG", "SET", option, value) == b"OK"
    settled(site, eventually, -(-total // io_threads))
    assert (first.receipts, first.complete) == ([], True)
    assert actions(first)[-1] == "trigger called off"
    assert len(site.last().receipts) == io_threads


def test_a_later_put_off_takes_the_place_of_an_earlier_one(make_site: MakeSite, eventually: Eventually) -> None:
    site = make_site(workers=3, policy="delay-trigger", changes={"trigger_delay_ms": LATER_MS})
    client = site.client()
    assert client.call("CONFIG", "SET", "WORKERS", 2) == b"OK"
    first = site.last()
    soon = site.resizer.policy.override(trigger_delay_ms=1)
    site.on_main(lambda: setattr(site.resizer, "policy", soon))
    assert client.call("CONFIG", "SET", "WORKERS", 1) == b"OK"
    settled(site, eventually, 2)
    assert (first.receipts, actions(first)[-1]) == ([], "trigger called off")
    (receipt,) = site.last().receipts
    assert (receipt.num_from, receipt.num_to) == (4, 2)


def test_a_pause_lasts_until_the_trigger_has_come_and_the_drain_ended(
    make_site: MakeSite, eventually: Eventually
) -> None:
    changes = {"trigger_delay_ms": 5, "admission": "pause", "drain": "event", "drain_timeout_ms": LONG_MS}
    site = make_site(workers=3, policy="delay-trigger", changes=changes)
    clients = three_under_way(site, eventually)
    assert site.client().call("CONFIG", "SET", "WORKERS", 0) == b"OK"
    (late,) = site.search("d")
    eventually(lambda: site.cluster.conns_per_node == 1 and site.cluster.shrink_hidden)
    eventually(lambda: site.queries.statistics()["held"] == 1)
    site.release()
    assert [client.read() for client in (*clients, late)] == [[b"a", 2], [b"b", 2], [b"c", 2], [b"d", 2]]
    settled(site, eventually, 1)


def test_a_pause_ends_when_the_trigger_is_called_off(make_site: MakeSite, eventually: Eventually) -> None:
    changes = {"trigger_delay_ms": LATER_MS, "admission": "pause"}
    site = make_site(workers=3, policy="delay-trigger", changes=changes)
    client = site.client()
    assert client.call("CONFIG", "SET", "WORKERS", 1) == b"OK"
    (late,) = site.search("d")
    eventually(lambda: site.queries.statistics()["held"] == 1)
    assert client.call("CONFIG", "SET", "WORKERS", 2) == b"OK"
    assert late.read() == [b"d", 2]
    settled(site, eventually, 3)


def test_a_trigger_that_waits_does_not_keep_the_coordinator_from_stopping(make_site: MakeSite) -> None:
    site = make_site(workers=3, policy="delay-trigger", changes={"trigger_delay_ms": LATER_MS})
    assert site.client().call("CONFIG", "SET", "WORKERS", 1) == b"OK"
    site.coordinator.stop()
    assert not site.last().complete
