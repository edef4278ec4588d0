"""What a resize does with replies in flight: every drain, with what stop, up to its deadline and beyond."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

from coordemu.coord.drain_receipt import DrainReceipt
from coordemu.runtime.base import NS_PER_MS, NS_PER_S

LONG_MS = 10_000
MakeSite = Callable[..., Any]
Eventually = Callable[..., Any]

SEEING = ("timer", "yield", "event")  # drains that see replies arrive


def said(resize: Any, action: str) -> list[str]:
    return [entry.result for entry in resize.journal if entry.action == action]


def three_under_way(site: Any, eventually: Eventually) -> list[Any]:
    """Queries a, b and c, whose replies are held back on the connections 0, 1 and 2 of both shards."""
    site.hold()
    clients = []
    for number, ident in enumerate("abc"):
        clients += site.search(ident)
        eventually(lambda: site.held() == 2 * number + 2)  # noqa: B023
    return clients


def release_all_but(site: Any, ident: bytes) -> None:
    """Send the replies of the other queries; this one's stay held."""

    def send() -> None:
        for shard in site.shards:
            for peer in shard.peers:
                if not any(ident in reply for reply in peer.held):
                    peer.release()

    site.farm.call(send)


def adds_up(receipt: DrainReceipt) -> None:
    assert receipt.delivered + receipt.failed + receipt.lost == receipt.pending
    assert receipt.still_in_flight == 0
    for field in ("pending", "delivered", "failed", "lost", "connections_stopped"):
        assert getattr(receipt, field) == sum(getattr(node, field) for node in receipt.by_node.values())


@pytest.mark.parametrize("drain", SEEING)
@pytest.mark.parametrize("stop", ["graceful", "fail", "drop"])
def test_a_drain_that_sees_the_replies_loses_none(
    make_site: MakeSite, eventually: Eventually, drain: str, stop: str
) -> None:
    site = make_site(workers=3, changes={"drain": drain, "stop": stop, "drain_timeout_ms": LONG_MS, "drain_poll_ms": 1})
    clients = three_under_way(site, eventually)
    operator, other = site.client(), site.client()
    operator.send("CONFIG", "SET", "WORKERS", 0)
    eventually(lambda: site.cluster.conns_per_node == 1 and site.cluster.shrink_hidden)
    assert other.call("PING") == b"PONG"
    # Nothing is stopped as long as replies are outstanding on the surplus, whose connections stay in sight.
    assert site.cluster.pending_total(1) == 4
    assert site.states() == ["Connected"] * 8
    assert drain != "yield" or not operator.answered
    release_all_but(site, b"a")
    assert operator.read() == b"OK"
    resize = site.last()
    eventually(lambda: resize.complete)
    (receipt,) = resize.receipts
    assert (receipt.outcome, receipt.pending, receipt.delivered) == ("drained", 4, 4)
    assert (receipt.num_from, receipt.num_to, receipt.connections_stopped) == (4, 1, 6)
    adds_up(receipt)
    assert 0 < receipt.waited_ns <= receipt.ended_ns - receipt.started_ns
    assert receipt.started_ns < receipt.last_reply_ns <= receipt.ended_ns
    assert (receipt.wake_ups == 1) is (drain == "event")
    assert (receipt.polls > 0) is (drain != "event")
    (row,) = said(resize, "drain")
    assert row.startswith("drained after ")
    assert row.endswith("; 4 replies pending, 4 delivered, 0 failed, 0 lost")
    # The reply on the connection that stays was not waited for.
    site.release()
    assert [client.read() for client in clients] == [[b"a", 2], [b"b", 2], [b"c", 2]]
    assert site.sums() == (3, 3, 0)
    assert site.states() == ["Connected"] * 2


def test_with_several_io_threads_each_drains_for_itself(make_site: MakeSite, eventually: Eventually) -> None:
    site = make_site(workers=3, io_threads=2, changes={"drain": "event", "drain_timeout_ms": LONG_MS})
    site.hold()
    clients = []
    for number, ident in enumerate("abc"):
        clients += site.search(ident)
        eventually(lambda: site.held() == 2 * number + 2)  # noqa: B023
    # a and c are on the connections 0 and 1 of I/O thread 0, b is on connection 0 of the other.
    operator = site.client()
    assert operator.call("CONFIG", "SET", "WORKERS", 0) == b"OK"
    resize = site.last()
    eventually(lambda: len(resize.receipts) == 1)
    assert (resize.receipts[0].io_runtime, resize.receipts[0].outcome) == (1, "nothing-pending")
    assert not resize.complete
    eventually(lambda: site.cluster.shrink_hidden)
    release_all_but(site, b"b")
    eventually(lambda: resize.complete)
    assert (resize.receipts[1].io_runtime, resize.receipts[1].outcome) == (0, "drained")
    assert [receipt.connections_stopped for receipt in resize.receipts] == [2, 2]
    site.release()
    assert [client.read() for client in clients] == [[b"a", 2], [b"b", 2], [b"c", 2]]


@pytest.mark.parametrize("drain", ["none", *SEEING, "block-loop"])
@pytest.mark.parametrize(("stop", "failed"), [("graceful", 0), ("fail", 2)])
def test_force_stops_at_the_deadline(
    make_site: MakeSite, eventually: Eventually, drain: str, stop: str, failed: int
) -> None:
    changes = {"drain": drain, "stop": stop, "drain_timeout_ms": 20, "drain_poll_ms": 1}
    site = make_site(workers=3, changes=changes)
    clients = three_under_way(site, eventually)
    assert site.client().call("CONFIG", "SET", "WORKERS", 0) == b"OK"
    resize = site.last()
    eventually(lambda: site.cluster.fill_state_dict() and len(site.states()) == 2)
    if stop == "graceful":
        # A graceful stop awaits the replies all the same, and its receipt comes with the last of them.
        assert not resize.receipts
        eventually(lambda: site.cluster.statistics()["closing"] == 6 - 2)
        site.release()
    eventually(lambda: resize.complete)
    (receipt,) = resize.receipts
    adds_up(receipt)
    assert receipt.outcome == "deadline"
    assert (receipt.pending, receipt.delivered, receipt.failed, receipt.lost) == (4, 4 - 2 * failed, 2 * failed, 0)
    assert (receipt.waited_ns > 0) is (drain != "none")
    if drain not in ("none", "yield"):  # with yield the deadline is main's, whose waiting began a little earlier
        assert receipt.waited_ns >= 20 * NS_PER_MS
    assert receipt.connections_stopped == 6
    if drain == "none":
        fate = "4 delivered, 0 failed, 0 lost" if stop == "graceful" else "0 delivered, 4 failed, 0 lost"
        assert said(resize, "replies in flight at the stop") == [f"4: {fate}"]
        assert said(resize, "drain") == []
    else:
        assert said(resize, "drain")[-1].startswith("deadline after ")
    site.release()
    answers = [str(client.read()) for client in clients]
    assert sum("connection stopped" in answer for answer in answers) == failed
    assert site.sums() == (3, 3 - failed, failed)
    assert set(site.queries.failures().values()) == ({failed} if failed else set())


@pytest.mark.parametrize("drain", ["none", *SEEING, "block-loop"])
def test_dropped_replies_are_counted_as_lost(make_site: MakeSite, eventually: Eventually, drain: str) -> None:
    changes = {"drain": drain, "stop": "drop", "drain_timeout_ms": 20, "drain_poll_ms": 1}
    site = make_site(workers=0, conn_per_shard=4, changes=changes)
    three_under_way(site, eventually)
    operator = site.client()
    assert operator.call("CONFIG", "SET", "CONN_PER_SHARD", 1) == b"OK"
    eventually(lambda: site.last().complete)
    (receipt,) = site.last().receipts
    adds_up(receipt)
    assert (receipt.outcome, receipt.pending, receipt.lost) == ("deadline", 4, 4)
    # Main only started these queries, so it goes on; two of them will never have an outcome.
    site.release()
    eventually(lambda: site.queries.statistics()["replied"] == 1)
    assert operator.call("PING") == b"PONG"
    assert site.queries.in_flight == 2
    assert operator.call("FT.SEARCH", "idx", "d") == [b"d", 2]


@pytest.mark.parametrize("drain", [*SEEING, "block-loop"])
@pytest.mark.parametrize("stop", ["graceful", "drop"])
def test_keep_gives_the_connections_back(make_site: MakeSite, eventually: Eventually, drain: str, stop: str) -> None:
    changes = {"drain": drain, "stop": stop, "at_deadline": "keep", "drain_timeout_ms": 20, "drain_poll_ms": 1}
    site = make_site(workers=3, changes=changes)
    clients = three_under_way(site, eventually)
    operator = site.client()
    assert operator.call("CONFIG", "SET", "WORKERS", 0) == b"OK"
    resize = site.last()
    eventually(lambda: resize.complete)
    (receipt,) = resize.receipts
    assert (receipt.outcome, receipt.num_from, receipt.num_to) == ("deadline", 4, 4)
    assert (receipt.pending, receipt.still_in_flight, receipt.connections_stopped) == (4, 4, 0)
    assert resize.error == ""
    assert operator.call("CONFIG", "GET", "WORKERS") == [b"WORKERS", b"0"]
    assert (site.workers.num_threads, site.cluster.conns_per_node) == (0, 4)
    assert site.states() == ["Connected"] * 8
    site.release()
    assert [client.read() for client in clients] == [[b"a", 2], [b"b", 2], [b"c", 2]]
    # The next change finds them there.
    assert operator.call("CONFIG", "SET", "WORKERS", 1) == b"OK"
    eventually(lambda: site.last().complete)
    assert (site.last().conns_before, site.last().conns_after) == (4, 2)
    eventually(lambda: site.states() == ["Connected"] * 4)


@pytest.mark.parametrize("drain", ["timer", "event", "block-loop"])
def test_raise_after_the_command_has_returned_stands_in_the_resize(
    make_site: MakeSite, eventually: Eventually, drain: str
) -> None:
    site = make_site(workers=3, changes={"drain": drain, "at_deadline": "raise", "drain_timeout_ms": 20})
    clients = three_under_way(site, eventually)
    assert site.client().call("CONFIG", "SET", "WORKERS", 0) == b"OK"
    resize = site.last()
    eventually(lambda: resize.complete)
    assert resize.error == "the drain did not end within 20 ms"
    assert said(resize, "CONFIG SET returns") == ["OK"]
    assert (resize.receipts[0].num_to, site.cluster.conns_per_node) == (4, 4)
    assert site.resizer.statistics()["refused"] == 1
    site.release()
    assert [client.read() for client in clients] == [[b"a", 2], [b"b", 2], [b"c", 2]]


def test_raise_is_no_error_when_the_drain_ends_in_time(make_site: MakeSite, eventually: Eventually) -> None:
    for drain in SEEING:
        changes = {"drain": drain, "at_deadline": "raise", "drain_timeout_ms": LONG_MS}
        site = make_site(workers=3, changes=changes)
        clients = three_under_way(site, eventually)
        operator = site.client()
        operator.send("CONFIG", "SET", "WORKERS", 0)
        eventually(lambda: site.cluster.conns_per_node == 1 and site.cluster.shrink_hidden)  # noqa: B023
        site.release()
        assert operator.read() == b"OK"
        eventually(lambda: site.last().complete)  # noqa: B023
        assert (site.last().error, site.last().receipts[0].outcome) == ("", "drained")
        assert [client.read() for client in clients] == [[b"a", 2], [b"b", 2], [b"c", 2]]


def test_yield_without_a_pause_waits_for_the_surplus_only_and_new_queries_go_on(
    make_site: MakeSite, eventually: Eventually
) -> None:
    site = make_site(workers=3, changes={"drain": "yield", "drain_timeout_ms": LONG_MS, "drain_poll_ms": 1})
    clients = three_under_way(site, eventually)
    operator = site.client()
    operator.send("CONFIG", "SET", "WORKERS", 0)
    eventually(lambda: site.cluster.conns_per_node == 1 and site.cluster.shrink_hidden)
    (new,) = site.search("d")
    eventually(lambda: site.held() == 8)
    release_all_but(site, b"a")
    # Connection 0 owes a's replies and d's still: nobody waits for these.
    assert operator.read() == b"OK"
    assert site.held() == 4
    site.release()
    assert [client.read() for client in (*clients, new)] == [[ident, 2] for ident in (b"a", b"b", b"c", b"d")]
    (receipt,) = site.last().receipts
    assert receipt.outcome == "drained"
    assert receipt.polls == site.last().polls > 1


def test_yield_counts_its_polls_and_ends_with_the_deadline(make_site: MakeSite, eventually: Eventually) -> None:
    changes = {"drain": "yield", "stop": "fail", "drain_timeout_ms": 30, "drain_poll_ms": 1}
    site = make_site(workers=3, changes=changes)
    three_under_way(site, eventually)
    before_ns = site.rt.now_ns()
    assert site.client().call("CONFIG", "SET", "WORKERS", 0) == b"OK"
    assert site.rt.now_ns() - before_ns >= 30 * NS_PER_MS
    resize = site.last()
    assert resize.complete
    assert resize.polls > 1
    assert said(resize, "drain")[0].endswith(" ms; force")


def test_the_conns_of_a_fixed_size_stay(make_site: MakeSite, eventually: Eventually) -> None:
    for drain, stop in product(("none", *SEEING), ("graceful", "drop")):
        site = make_site(workers=3, conn_per_shard=2, changes={"drain": drain, "stop": stop})
        clients = three_under_way(site, eventually)
        assert site.client().call("CONFIG", "SET", "WORKERS", 1) == b"OK"
        eventually(lambda: site.last().complete)  # noqa: B023
        (receipt,) = site.last().receipts
        assert (receipt.outcome, receipt.num_from, receipt.num_to) == ("nothing-pending", 2, 2)
        assert receipt.connections_stopped == 0
        site.release()
        assert [client.read() for client in clients] == [[b"a", 2], [b"b", 2], [b"c", 2]]


def test_block_loop_holds_up_the_io_thread_and_sees_nothing(make_site: MakeSite, eventually: Eventually) -> None:
    site = make_site(workers=3, changes={"drain": "block-loop", "drain_timeout_ms": 300, "drain_poll_ms": 1})
    clients = three_under_way(site, eventually)
    operator = site.client()
    assert operator.call("CONFIG", "SET", "WORKERS", 0) == b"OK"
    eventually(lambda: site.chain("io 0").kind != "runs")
    # The replies lie ready at once, and main is well; only the thread that would read them does not.
    site.release()
    assert operator.call("PING") == b"PONG"
    resize = site.last()
    eventually(lambda: resize.complete)
    (receipt,) = resize.receipts
    assert receipt.outcome == "deadline"
    assert receipt.waited_ns >= 0.3 * NS_PER_S
    assert receipt.polls > 1
    # Graceful: they are delivered after the deadline, when the loop turns again.
    assert (receipt.delivered, receipt.last_reply_ns >= receipt.ended_ns) == (4, True)
    assert [client.read() for client in clients] == [[b"a", 2], [b"b", 2], [b"c", 2]]
