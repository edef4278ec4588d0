"""Resizes that hold queries back, commands inside a yield, and refusals: what is taken back, and that nothing stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from coordemu.coord.conn_handshake import pack_command

LONG_MS = 10_000
MakeSite = Callable[..., Any]
Eventually = Callable[..., Any]

REJECTED = "ERR query failed: rejected: a resize is under way"


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


def asked(site: Any) -> set[bytes]:
    return {words[-1] for shard in site.shards for words in shard.commands}


ABC = [[b"a", 2], [b"b", 2], [b"c", 2]]


@pytest.mark.parametrize("drain", ["timer", "event"])
@pytest.mark.parametrize("io_threads", [1, 2])
def test_a_pause_lasts_until_the_drain_has_ended(
    make_site: MakeSite, eventually: Eventually, drain: str, io_threads: int
) -> None:
    changes = {"drain": drain, "admission": "pause", "drain_timeout_ms": LONG_MS, "drain_poll_ms": 1}
    site = make_site(workers=3, io_threads=io_threads, changes=changes)
    clients = three_under_way(site, eventually)
    operator = site.client()
    assert operator.call("CONFIG", "SET", "WORKERS", 1) == b"OK"
    resize = site.last()
    assert said(resize, "queries paused") == ["new ones wait"]
    assert said(resize, "resume") == ["when the drain has ended"]
    late = site.search("d", "e")
    eventually(lambda: site.queries.statistics()["held"] == 2)
    assert operator.call("PING") == b"PONG"
    assert site.queries.gate.mode == "pause"
    assert not resize.complete
    site.release()
    assert [client.read() for client in clients] == ABC
    assert sorted(client.read() for client in late) == [[b"d", 2], [b"e", 2]]
    assert said(resize, "resume") == ["when the drain has ended", "2 held queries admitted"]
    opened_ns = next(entry.at_ns for entry in resize.journal if "admitted" in entry.result)
    assert opened_ns >= max(receipt.ended_ns for receipt in resize.receipts)
    assert site.sums() == (5, 5, 0)


def test_a_pause_ends_with_the_command_when_nothing_was_pending(make_site: MakeSite, eventually: Eventually) -> None:
    site = make_site(workers=3, changes={"drain": "event", "admission": "pause"})
    client = site.client()
    assert client.call("CONFIG", "SET", "WORKERS", 1) == b"OK"
    eventually(lambda: site.queries.gate.mode == "open")
    assert client.call("FT.SEARCH", "idx", "a") == [b"a", 2]


def test_reject_turns_queries_away_until_the_drain_has_ended(make_site: MakeSite, eventually: Eventually) -> None:
    changes = {"drain": "event", "admission": "reject", "drain_timeout_ms": LONG_MS}
    site = make_site(workers=3, changes=changes)
    clients = three_under_way(site, eventually)
    operator = site.client()
    assert operator.call("CONFIG", "SET", "WORKERS", 0) == b"OK"
    assert said(site.last(), "queries paused") == ["new ones get an error"]
    assert str(operator.call("FT.SEARCH", "idx", "d")) == REJECTED
    assert asked(site) == {b"a", b"b", b"c"}
    site.release()
    eventually(lambda: site.queries.gate.mode == "open")
    assert operator.call("FT.SEARCH", "idx", "e") == [b"e", 2]
    assert [client.read() for client in clients] == ABC
    assert site.sums() == (5, 4, 1)


@pytest.mark.parametrize("admission", ["pause", "reject"])
def test_with_yield_and_a_closed_gate_all_that_is_under_way_is_awaited(
    make_site: MakeSite, eventually: Eventually, admission: str
) -> None:
    site = make_site(workers=3, policy="writeup-fix", changes={"admission": admission, "drain_timeout_ms": LONG_MS})
    (first,) = three_under_way(site, eventually)[:1]
    operator, other = site.client(), site.client()
    operator.send("CONFIG", "SET", "WORKERS", 0)
    eventually(lambda: site.cluster.conns_per_node == 1 and site.cluster.shrink_hidden)
    other.send("FT.SEARCH", "idx", "d")
    if admission == "reject":
        assert str(other.read()) == REJECTED
    else:
        eventually(lambda: site.queries.statistics()["held"] == 1)
    # b and c, on the surplus, are answered; a is on the connection that stays, and its worker at work.
    site.farm.call(
        lambda: [peer.release() for shard in site.shards for peer in shard.peers if b"$1\r\na\r\n" not in peer.held]
    )
    eventually(lambda: site.cluster.pending_total(1) == 0 and site.queries.in_flight == 1)
    assert site.client().call("PING") == b"PONG"
    assert not operator.answered
    assert not site.last().receipts
    site.release()
    assert operator.read() == b"OK"
    assert first.read() == [b"a", 2]
    if admission == "pause":
        assert other.read() == [b"d", 2]
    eventually(lambda: site.workers.num_threads_alive == 0)
    assert site.last().receipts[0].outcome == "drained"
    site.sums()


def test_commands_inside_a_yield(make_site: MakeSite, eventually: Eventually) -> None:
    site = make_site(workers=3, policy="writeup-fix", changes={"drain_timeout_ms": LONG_MS})
    clients = three_under_way(site, eventually)
    operator, other = site.client(), site.client()
    operator.send("CONFIG", "SET", "WORKERS", 0)
    eventually(lambda: site.cluster.conns_per_node == 1 and site.cluster.shrink_hidden)
    for option, value in (("WORKERS", 2), ("search-workers", 5), ("CONN_PER_SHARD", 7)):
        assert str(other.call("CONFIG", "SET", option, value)) == "ERR a resize is under way"
    assert other.call("CONFIG", "SET", "WORKERS", 0) == b"OK"
    assert other.call("CONFIG", "SET", "MIN_OPERATION_WORKERS", 2) == b"OK"
    assert other.call("CONFIG", "GET", "*WORKERS") == [
        b"search-workers", b"0", b"search-min-operation-workers", b"2",
    ]  # fmt: skip
    assert other.call("CONFIG", "GET", "CONN_PER_SHARD") == [b"CONN_PER_SHARD", b"0"]
    assert site.resizer.under_way
    assert [len(states) for states in other.call("_FT.DEBUG", "SHARD_CONNECTION_STATES")[1::2]] == [4, 4]
    site.release()
    assert operator.read() == b"OK"
    assert [client.read() for client in clients] == ABC
    assert len(site.resizer.history) == 1
    assert other.call("CONFIG", "SET", "WORKERS", 2) == b"OK"


# ---- the gate and one resize after the other


@pytest.mark.parametrize(
    ("option", "value", "open_then"), [("WORKERS", 1, False), ("WORKERS", 4, True), ("CONN_PER_SHARD", 9, True)]
)
def test_a_superseded_resize_does_not_open_the_gate_of_its_successor(
    make_site: MakeSite, eventually: Eventually, option: str, value: int, open_then: bool
) -> None:
    changes = {"drain": "event", "admission": "pause", "drain_timeout_ms": LONG_MS}
    site = make_site(workers=5, changes=changes)
    site.hold()
    clients = []
    for number, ident in enumerate("abcde"):
        clients += site.search(ident)
        eventually(lambda: site.held() == 2 * number + 2)  # noqa: B023
    operator = site.client()
    assert operator.call("CONFIG", "SET", "WORKERS", 3) == b"OK"
    (late,) = site.search("f")
    eventually(lambda: site.queries.statistics()["held"] == 1)
    first = site.last()
    assert operator.call("CONFIG", "SET", option, value) == b"OK"
    second = site.last()
    eventually(lambda: first.complete)
    assert first.receipts[0].outcome == "superseded"
    site.on_main(lambda: None)
    if open_then:
        # The successor closes no gate and drains nothing, so the pause is over with the resize that began it.
        eventually(lambda: site.queries.gate.mode == "open")
    else:
        assert not second.complete
        assert site.queries.gate.mode == "pause"
        assert site.queries.statistics()["held"] == 1
    site.release()
    assert late.read() == [b"f", 2]
    assert [client.read() for client in clients] == [[ident.encode(), 2] for ident in "abcde"]
    eventually(lambda: second.complete)
    assert site.sums() == (6, 6, 0)
    eventually(site.coordinator.connected)
    assert len(site.states()) == site.cluster.conns_per_node * 2


# ---- refusals


def as_it_was(site: Any, eventually: Eventually, workers: int) -> None:
    client = site.client()
    assert client.call("CONFIG", "GET", "WORKERS") == [b"WORKERS", b"%d" % workers]
    eventually(lambda: site.workers.num_threads == workers)
    eventually(lambda: site.cluster.conns_per_node == workers + 1)
    eventually(site.coordinator.connected)
    assert len(site.states()) == (workers + 1) * 2
    assert not site.workers.paused
    assert site.queries.gate.mode == "open"
    assert client.call("FT.SEARCH", "idx", "z") == [b"z", 2]


def test_the_literal_fix_is_refused_and_taken_back(make_site: MakeSite, eventually: Eventually) -> None:
    site = make_site(workers=3, policy="writeup-fix-pool-pause")
    client = site.client()
    assert client.call("FT.SEARCH", "idx", "a") == [b"a", 2]
    refusal = "ERR a paused pool can't be reduced: its threads would never take the admin jobs"
    assert str(client.call("CONFIG", "SET", "WORKERS", 0)) == refusal
    resize = site.last()
    assert (resize.error, said(resize, "refused"), said(resize, "CONFIG SET returns")) == (
        refusal, [refusal], [refusal],
    )  # fmt: skip
    assert [entry.action for entry in resize.journal if not entry.action.startswith("stop ")] == [
        "CONFIG SET WORKERS 0", "pool paused", "drain the pool", "drain", "refused", "CONFIG SET returns",
    ]  # fmt: skip
    # Its connections had been stopped before the refusal came.
    assert [receipt.connections_stopped for receipt in resize.receipts] == [6]
    as_it_was(site, eventually, 3)
    assert site.workers.num_threads_alive == 3
    assert site.resizer.statistics() == {"resizes": 1, "refused": 1, "under_way": 0}


def test_pipelined_commands_after_a_refusal(make_site: MakeSite, eventually: Eventually) -> None:
    site = make_site(workers=3, policy="writeup-fix-pool-pause")
    client = site.client()
    assert client.call("FT.SEARCH", "idx", "a") == [b"a", 2]
    client.send_raw(b"".join(pack_command("CONFIG", "SET", "WORKERS", size) for size in (0, 1, 0, 2, 1)))
    assert all("paused pool" in str(client.read()) for _ in range(5))
    as_it_was(site, eventually, 3)
    client.send_raw(b"".join(pack_command("CONFIG", "SET", "WORKERS", size) for size in (0, 5, 0)))
    assert ["OK" in str(client.read()) for _ in range(3)] == [False, True, False]
    as_it_was(site, eventually, 5)


@pytest.mark.parametrize("admission", ["open", "pause", "reject"])
@pytest.mark.parametrize("order", [("shrink", "reduce"), ("reduce", "shrink"), ("drain", "reduce", "shrink")])
@pytest.mark.parametrize("io_threads", [1, 2])
def test_raise_in_a_yield_takes_everything_back(
    make_site: MakeSite, eventually: Eventually, admission: str, order: tuple[str, ...], io_threads: int
) -> None:
    changes = {
        "drain": "yield", "at_deadline": "raise", "admission": admission, "order": order,
        "drain_timeout_ms": 15, "drain_poll_ms": 1, "stop": "drop",
    }  # fmt: skip
    site = make_site(workers=3, io_threads=io_threads, changes=changes)
    clients = three_under_way(site, eventually)
    operator = site.client()
    assert str(operator.call("CONFIG", "SET", "WORKERS", 0)) == "ERR the drain did not end within 15 ms"
    resize = site.last()
    assert said(resize, "drain")[0].endswith(" ms; raise")
    site.release()
    assert [client.read() for client in clients] == ABC
    eventually(lambda: resize.complete)
    assert sum(receipt.connections_stopped for receipt in resize.receipts) == 0
    assert operator.call("CONFIG", "GET", "WORKERS") == [b"WORKERS", b"3"]
    eventually(lambda: site.workers.num_threads == 3)
    eventually(lambda: site.cluster.conns_per_node == 4 // io_threads)
    assert site.states() == ["Connected"] * 8
    assert (site.queries.gate.mode, site.resizer.statistics()["refused"]) == ("open", 1)
    assert operator.call("FT.SEARCH", "idx", "d") == [b"d", 2]
    assert site.sums() == (4, 4, 0)


def test_a_pause_that_is_not_the_resizes_own_stays(make_site: MakeSite, eventually: Eventually) -> None:
    for policy in ("writeup-fix-pool-pause", "upstream-7410", "upstream-before"):
        site = make_site(workers=2, policy=policy)
        client = site.client()
        assert client.call("FT.SEARCH", "idx", "a") == [b"a", 2]
        site.on_main(lambda: site.workers.pause(wait=False))  # noqa: B023
        assert "pool" in str(client.call("CONFIG", "SET", "WORKERS", 1))
        assert site.workers.paused
        assert client.call("CONFIG", "GET", "WORKERS") == [b"WORKERS", b"2"]
        site.on_main(site.workers.resume)
        as_it_was(site, eventually, 2)


def test_a_pool_that_was_paused_last_is_resumed(make_site: MakeSite, eventually: Eventually) -> None:
    site = make_site(workers=2, changes={"order": ("reduce", "shrink", "pause-pool")})
    client = site.client()
    assert client.call("FT.SEARCH", "idx", "a") == [b"a", 2]
    assert client.call("CONFIG", "SET", "WORKERS", 1) == b"OK"
    assert said(site.last(), "pool paused") == ["its threads take no more jobs"]
    assert not site.workers.paused
    assert client.call("FT.SEARCH", "idx", "b") == [b"b", 2]
