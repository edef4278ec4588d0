"""Queries that workers hand over to main, at every stage: each has one outcome, and is sent to the shards once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from coordemu.coord.query import Query
from coordemu.runtime.base import NS_PER_S, Runtime

LONG_NS = 10 * NS_PER_S
MakeSite = Callable[..., Any]
Eventually = Callable[..., Any]

both_modes = pytest.mark.parametrize("mode", ["block", "async"])


class Recorder:
    """Stands for a client of the host."""

    def __init__(self) -> None:
        self.replies: list[bytes] = []
        self.unblock = self.reply_now = self.replies.append


def asked(site: Any) -> list[list[str]]:
    """The ids of the queries that each shard was asked."""
    return [[words[-1].decode() for words in shard.commands] for shard in site.shards]


def in_flight(site: Any) -> list[Query]:
    """The queries without an outcome, oldest first."""
    return list(site.queries._in_flight)


@both_modes
def test_before_its_fan_out(make_site: MakeSite, eventually: Eventually, mode: str) -> None:
    site = make_site(workers=1, changes={"main_mode": mode})
    recorder = Recorder()
    with site.main_held() as main:
        main(lambda: site.queries.command(recorder, [b"idx", b"a"]))
        eventually(lambda: site.chain("workers-0").steps[:3] == ("workers-0", "module lock", "main"))
        assert main(lambda: site.queries.hand_off(None)) == 1
        assert main(lambda: site.queries.hand_off(None)) == 0
        assert asked(site) == [[], []]
        assert repr(in_flight(site)) == "[<Query a on worker handed off>]"
    eventually(lambda: recorder.replies)
    assert asked(site) == [["a"], ["a"]]
    assert site.sums() == (1, 1, 0)
    assert site.queries.statistics()["taken_over"] == 1
    assert recorder.replies == [b"*2\r\n$1\r\na\r\n:2\r\n"]


@both_modes
def test_before_any_thread_has_begun_it(make_site: MakeSite, eventually: Eventually, mode: str) -> None:
    site = make_site(workers=1, changes={"main_mode": mode})
    site.hold()
    (first,) = site.search("a")
    eventually(lambda: site.held() == 2)
    (second,) = site.search("b")
    eventually(lambda: site.queries.in_flight == 2)
    with site.main_held() as main:
        assert main(lambda: site.queries.hand_off(None)) == 2
    # In mode "block" main now waits for the replies of the first, so the second is not even sent.
    eventually(lambda: site.queries.statistics()["taken_over"] == (1 if mode == "block" else 2))
    site.release()
    assert (first.read(), second.read()) == ([b"a", 2], [b"b", 2])
    assert asked(site) == [["a", "b"], ["a", "b"]]
    assert site.sums() == (2, 2, 0)
    assert site.queries.statistics()["taken_over"] == 2


@both_modes
def test_while_it_waits_for_its_replies(make_site: MakeSite, eventually: Eventually, mode: str) -> None:
    site = make_site(workers=1, changes={"main_mode": mode})
    site.hold()
    (client,) = site.search("a")
    eventually(lambda: site.held() == 2)
    eventually(lambda: site.chain("workers-0").kind == "waits")
    assert site.on_main(lambda: site.queries.hand_off(None)) == 1
    eventually(lambda: site.queries.statistics()["taken_over"] == 1)
    eventually(lambda: site.workers.num_jobs_in_progress == 0)
    assert repr(in_flight(site)) == "[<Query a on main handed off>]"
    if mode == "block":
        steps = eventually(lambda: (chain := site.chain("main")).kind == "waits" and chain.steps)
        assert steps[:3] == ("main", "query a complete", "query a: replies")
    else:
        assert site.client().call("PING") == b"PONG"
    site.release()
    assert client.read() == [b"a", 2]
    assert asked(site) == [["a"], ["a"]]
    assert site.sums() == (1, 1, 0)


@both_modes
def test_when_its_last_reply_has_just_come(make_site: MakeSite, rt: Runtime, eventually: Eventually, mode: str) -> None:
    site = make_site(workers=1, changes={"main_mode": mode})
    site.hold()
    (client,) = site.search("a")
    eventually(lambda: site.held() == 2)
    eventually(lambda: site.chain("workers-0").kind == "waits")
    (query,) = in_flight(site)
    signal, go_on = query.signal, rt.event("go on")

    class Late:
        """The query's signal; the I/O thread, which has marked the query complete, comes late to set it."""

        def set(self) -> None:
            if rt.current() in site.cluster.tasks:
                go_on.wait()
            signal.set()

        wait, clear = signal.wait, signal.clear

    query.signal = Late()
    site.release()
    eventually(lambda: query.complete)
    assert site.on_main(lambda: site.queries.hand_off(None)) == 1
    # It was told, but has nothing left to wait for: the worker finishes it.
    assert client.read() == [b"a", 2]
    go_on.set()
    assert site.sums() == (1, 1, 0)
    assert site.queries.statistics()["taken_over"] == 0


@both_modes
def test_when_its_replies_come_on_its_way_to_main(make_site: MakeSite, eventually: Eventually, mode: str) -> None:
    site = make_site(workers=1, changes={"main_mode": mode})
    site.hold()
    (client,) = site.search("a")
    eventually(lambda: site.held() == 2)
    (query,) = in_flight(site)
    with site.main_held() as main:
        assert main(lambda: site.queries.hand_off(None)) == 1
        eventually(lambda: site.workers.num_jobs_in_progress == 0)
        site.release()
        eventually(lambda: query.complete)
        assert site.queries.in_flight == 1
    assert client.read() == [b"a", 2]
    assert site.sums() == (1, 1, 0)
    assert site.queries.statistics()["taken_over"] == 1


def test_after_its_replies_it_stays_where_it_is(make_site: MakeSite, eventually: Eventually) -> None:
    site = make_site(workers=1)
    site.hold()
    (client,) = site.search("a", LOAD=1)
    eventually(lambda: site.held() == 2)
    with site.main_held() as main:
        site.release()
        eventually(lambda: site.chain("workers-0").steps[:3] == ("workers-0", "module lock", "main"))
        assert main(lambda: site.queries.hand_off(None)) == 0
    assert client.read() == [b"a", 2]
    assert site.sums() == (1, 1, 0)
    assert site.queries.statistics()["taken_over"] == 0


def test_the_oldest_are_told_first(make_site: MakeSite, eventually: Eventually) -> None:
    site = make_site(workers=3)
    site.hold()
    clients = []
    for number, ident in enumerate("abc"):
        clients += site.search(ident)
        eventually(lambda: site.held() == 2 * number + 2)  # noqa: B023
    assert site.on_main(lambda: site.queries.hand_off(0)) == 0
    assert site.on_main(lambda: site.queries.hand_off(2)) == 2
    eventually(lambda: site.queries.statistics()["taken_over"] == 2)
    assert [repr(query) for query in in_flight(site)] == [
        "<Query a on main handed off>", "<Query b on main handed off>", "<Query c on worker>",
    ]  # fmt: skip
    assert site.workers.num_jobs_in_progress == 1
    site.release()
    assert [client.read() for client in clients] == [[b"a", 2], [b"b", 2], [b"c", 2]]
    assert site.sums() == (3, 3, 0)


@both_modes
def test_one_that_fails_is_handed_over_all_the_same(make_site: MakeSite, eventually: Eventually, mode: str) -> None:
    site = make_site(workers=1, changes={"main_mode": mode})
    site.hold()
    (client,) = site.search("a")
    eventually(lambda: site.held() == 2)
    assert site.on_main(lambda: site.queries.hand_off(None)) == 1
    eventually(lambda: site.queries.statistics()["taken_over"] == 1)
    site.farm.call(site.shards[0].hang_up)
    site.release()
    assert "connection lost" in str(client.read())
    assert site.sums() == (1, 0, 1)


@both_modes
def test_at_any_moment_each_query_has_one_outcome(
    make_site: MakeSite, rt: Runtime, compute: Callable[[], None], mode: str
) -> None:
    site = make_site(workers=3, changes={"main_mode": mode})
    stop = rt.event("stop")

    def hand_off_again_and_again() -> None:
        site.queries.hand_off(None)
        compute()
        if not stop.is_set():
            site.host.post(hand_off_again_and_again)

    site.host.post(hand_off_again_and_again)
    clients = [site.client() for _ in range(4)]
    for turn in range(40):
        for number, client in enumerate(clients):
            client.send("FT.SEARCH", "idx", f"{number}.{turn}")
        for number, client in enumerate(clients):
            assert client.read() == [f"{number}.{turn}".encode(), 2]
    stop.set()
    site.on_main(lambda: None)
    assert site.sums() == (160, 160, 0)
    assert not any(client.answered for client in clients)
    assert [sorted(ids) for ids in asked(site)] == [sorted(f"{n}.{t}" for n in range(4) for t in range(40))] * 2
