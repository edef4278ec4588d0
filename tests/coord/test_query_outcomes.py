"""How queries fail, what is said of it, and that the sums add up whatever happens."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from coordemu.runtime.base import NS_PER_S, Runtime

LONG_NS = 10 * NS_PER_S
MakeSite = Callable[..., Any]
Eventually = Callable[..., Any]

everywhere = pytest.mark.parametrize(
    ("workers", "mode"), [(2, "async"), (0, "async"), (0, "block")], ids=["worker", "main async", "main block"]
)


def kill(site: Any, *numbers: int) -> None:
    for number in numbers:
        site.farm.call(site.shards[number].kill)


@everywhere
def test_an_error_of_one_shard_fails_the_query(make_site: MakeSite, workers: int, mode: str) -> None:
    site = make_site(workers=workers, shards=3, changes={"main_mode": mode})
    site.shards[1].answer = lambda words: b"-ERR out of\r\n"
    client = site.client()
    assert str(client.call("FT.SEARCH", "idx", "a")) == "ERR query failed: ERR out of"
    site.shards[1].answer = site.shards[0].answer
    assert client.call("FT.SEARCH", "idx", "b") == [b"b", 3]
    assert site.sums() == (2, 1, 1)
    assert site.queries.failures() == {"ERR out of": 1}


@everywhere
def test_without_any_connection_it_fails_at_once(
    make_site: MakeSite, eventually: Eventually, workers: int, mode: str
) -> None:
    site = make_site(workers=workers, changes={"main_mode": mode})
    kill(site, 0, 1)
    eventually(lambda: "Connected" not in site.states())
    assert str(site.client().call("FT.SEARCH", "idx", "a")) == "ERR query failed: no connection to any shard"
    assert site.sums() == (1, 0, 1)


@everywhere
def test_a_node_that_could_not_be_asked_fails_the_query(
    make_site: MakeSite, eventually: Eventually, workers: int, mode: str
) -> None:
    site = make_site(workers=workers, shards=3, changes={"main_mode": mode})
    kill(site, 1)
    states = site.cluster.fill_state_dict
    eventually(lambda: "Connected" not in states()[str(site.shards[1].endpoint)])
    assert str(site.client().call("FT.SEARCH", "idx", "a")) == "ERR query failed: no connection to node-1"
    kill(site, 2)
    eventually(lambda: "Connected" not in states()[str(site.shards[2].endpoint)])
    assert str(site.client().call("FT.SEARCH", "idx", "a")) == "ERR query failed: no connection to node-1, node-2"
    assert site.sums() == (2, 0, 2)


@everywhere
def test_a_shard_that_is_killed_while_it_owes_replies(
    make_site: MakeSite, eventually: Eventually, workers: int, mode: str
) -> None:
    site = make_site(workers=workers, changes={"main_mode": mode})
    site.hold()
    (client,) = site.search("a")
    eventually(lambda: site.held() == 2)
    kill(site, 1)
    assert site.queries.in_flight == 1
    site.release()
    assert "connection lost" in str(client.read())
    assert site.sums() == (1, 0, 1)
    (reason,) = site.queries.failures()
    assert str(site.shards[1].endpoint) in reason


def test_after_a_shard_came_back_queries_are_answered(make_site: MakeSite, eventually: Eventually) -> None:
    site = make_site()
    kill(site, 1)
    eventually(lambda: not site.coordinator.connected())
    assert "ERR query failed" in str(site.client().call("FT.SEARCH", "idx", "a"))
    old = site.shards[1]
    site.farm.call(lambda: type(old)(site.farm.loop, old.address))
    eventually(site.coordinator.connected)
    assert site.client().call("FT.SEARCH", "idx", "b") == [b"b", 2]
    assert site.sums() == (2, 1, 1)


def test_reasons_are_told_apart_up_to_a_bound(make_site: MakeSite) -> None:
    site = make_site(workers=1, shards=1)
    site.shards[0].answer = lambda words: b"-ERR no %b\r\n" % words[-1]
    client = site.client()
    for number in range(70):
        assert str(client.call("FT.SEARCH", "idx", str(number))) == f"ERR query failed: ERR no {number}"
    assert "ERR no 3" in str(client.call("FT.SEARCH", "idx", "3"))
    failures = site.queries.failures()
    assert len(failures) == 65
    assert failures["other reasons"] == 6
    assert failures["ERR no 3"] == 2
    assert site.sums() == (71, 0, 71)


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads are switched as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("restless")
def test_the_sums_add_up_at_any_moment(make_site: MakeSite, rt: Runtime, compute: Callable[[], None]) -> None:
    site = make_site(workers=2, shards=1)
    stop = rt.event("stop")
    readings = [0]
    wrong: list[dict[str, int]] = []

    def read() -> None:
        while not stop.is_set():
            sums = site.queries.statistics()
            readings[0] += 1
            compute()
            if sums["submitted"] != sums["replied"] + sums["failed"] + sums["in_flight"] + sums["held"]:
                wrong.append(sums)

    def close_and_open(number: int) -> None:
        compute()
        if number % 3 == 2:
            site.queries.release_held()
        else:
            site.queries.gate.close(("pause", "reject")[number % 3])
        if not stop.is_set():
            site.host.post(lambda: close_and_open(number + 1))

    reader = rt.spawn(read, name="reader")
    site.host.post(lambda: close_and_open(0))
    clients = [site.client() for _ in range(3)]
    for turn in range(60):
        for client in clients:
            client.send("FT.SEARCH", "idx", str(turn))
        for client in clients:
            client.read()
    stop.set()
    assert reader.join(LONG_NS)
    site.on_main(site.queries.release_held)
    assert wrong[:3] == []
    assert readings[0] > 0
    submitted, replied, failed = site.sums()
    assert submitted == 180
    assert replied + failed == 180


def test_statistics_in_words(make_site: MakeSite) -> None:
    site = make_site()
    assert site.client().call("FT.SEARCH", "idx", "a") == [b"a", 2]
    assert repr(site.queries) == "<Queries submitted=1 replied=1 failed=0 in_flight=0>"
    assert site.queries.failures() == {}
