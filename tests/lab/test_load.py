"""The load: how many are under way, what they ask, and that every query has one outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from coordemu.coord.query import QueryArgs
from coordemu.lab.load import REASONS_KEPT, QueryLoad
from coordemu.lab.scenario import Scenario
from coordemu.runtime.base import NS_PER_MS
from coordemu.runtime.threads import ThreadsRuntime

MakeLoad = Callable[..., QueryLoad]


@pytest.fixture
def make_load(rt: ThreadsRuntime, chosen_host: Any, eventually: Callable[..., Any]) -> Iterator[MakeLoad]:
    """`make_load(**fields of the scenario)`; ended and checked after the test."""
    loads: list[QueryLoad] = []

    def make(seed: int = 1, **fields: Any) -> QueryLoad:
        chance = ThreadsRuntime(seed).random
        loads.append(QueryLoad(rt, chosen_host.host.address, Scenario(**fields), chance))
        return loads[-1]

    yield make
    for load in loads:
        load.end()
        chosen_host.answer = lambda client, args: b"+OK\r\n"
        chosen_host.release()
        eventually(lambda load=load: load.ended, "every query has its outcome")
        sums = load.sums()
        assert sums.sent == sums.replied + sums.failed
        assert sums.lost == 0
        load.stop()
        assert load.sums() == sums


def test_each_client_has_one_query_under_way(
    make_load: MakeLoad, chosen_host: Any, eventually: Callable[..., Any]
) -> None:
    chosen_host.answer = chosen_host.block
    load = make_load(clients=4)
    eventually(lambda: len(chosen_host.blocked) == 4)
    assert (load.limit, load.under_way, load.replied) == (4, 4, 0)
    assert load.sums().lost == 4
    chosen_host.release(1)
    eventually(lambda: len(chosen_host.asked) == 5)
    assert load.replied == 1
    assert load.under_way == 4
    assert [args.id for args in chosen_host.asked] == [f"q{n}" for n in range(1, 6)]


def test_clients_take_turns_where_in_flight_is_less(
    make_load: MakeLoad, chosen_host: Any, eventually: Callable[..., Any]
) -> None:
    chosen_host.answer = chosen_host.block
    load = make_load(clients=3, in_flight=1)
    clients = []
    for number in range(6):
        eventually(lambda: chosen_host.blocked)
        assert load.under_way == 1
        clients.append(chosen_host.blocked[0].number)
        if number == 2:
            eventually(lambda: chosen_host.host.statistics()["accepted"] == 3)
        chosen_host.release()
    assert load.limit == 1
    assert len(set(clients[3:])) == 3


@pytest.mark.parametrize(("clients", "in_flight", "limit"), [(5, 0, 5), (5, 3, 3), (2, 9, 2)])
def test_the_limit(make_load: MakeLoad, clients: int, in_flight: int, limit: int) -> None:
    assert make_load(clients=clients, in_flight=in_flight).limit == limit


def test_the_draws_follow_the_scenario_and_the_seed(
    make_load: MakeLoad, chosen_host: Any, eventually: Callable[..., Any]
) -> None:
    fields = {
        "clients": 1, "latency": "1ms..5ms", "lock_share": 0.5, "load_ms": 2.0, "work_ms": 0.5, "open_ms": 0.25,
    }  # fmt: skip

    def asked(seed: int) -> list[QueryArgs]:
        chosen_host.asked.clear()
        load = make_load(seed, **fields)
        eventually(lambda: load.replied >= 200)
        load.end()
        eventually(lambda: load.ended)
        return list(chosen_host.asked)[:200]

    first, again, other = asked(1), asked(1), asked(2)
    assert first == again
    assert first != other
    assert all(NS_PER_MS <= args.service_ns <= 5 * NS_PER_MS for args in first)
    assert {args.load_ns for args in first} == {0, 2 * NS_PER_MS}
    assert {(args.work_ns, args.open_ns) for args in first} == {(NS_PER_MS // 2, NS_PER_MS // 4)}
    assert 60 < sum(args.load_ns > 0 for args in first) < 140


@pytest.mark.parametrize(("share", "loads"), [(0.0, {0}), (1.0, {1000})])
def test_the_share_that_loads_documents(
    make_load: MakeLoad, chosen_host: Any, eventually: Callable[..., Any], share: float, loads: set[int]
) -> None:
    """A load time of nothing still takes the lock: that is what a load is."""
    load = make_load(clients=1, lock_share=share, load_ms=0.0)
    eventually(lambda: load.replied >= 20)
    assert {args.load_ns for args in chosen_host.asked} == loads


def test_failures_are_counted_by_reason(make_load: MakeLoad, chosen_host: Any, eventually: Callable[..., Any]) -> None:
    chosen_host.answer = lambda client, args: b"-ERR odd\r\n" if int(args.id[1:]) % 2 else b"+OK\r\n"
    load = make_load(clients=1)
    eventually(lambda: load.sums().failed >= 5)
    load.end()
    eventually(lambda: load.ended)
    sums = load.sums()
    assert sums.by_reason == {"ERR odd": sums.failed}
    assert sums.failed in (sums.replied, sums.replied + 1)


def test_reasons_are_bounded(make_load: MakeLoad, chosen_host: Any, eventually: Callable[..., Any]) -> None:
    chosen_host.answer = lambda client, args: b"-ERR no %s\r\n" % args.id.encode()
    load = make_load(clients=1)
    eventually(lambda: load.sums().failed >= REASONS_KEPT + 10)
    load.end()
    eventually(lambda: load.ended)
    sums = load.sums()
    assert len(sums.by_reason) == REASONS_KEPT + 1
    assert sums.by_reason["other reasons"] == sums.failed - REASONS_KEPT
    assert sum(sums.by_reason.values()) == sums.failed


def test_a_host_that_hangs_up_leaves_no_query_without_outcome(
    make_load: MakeLoad, chosen_host: Any, eventually: Callable[..., Any]
) -> None:
    chosen_host.answer = chosen_host.block
    load = make_load(clients=4, in_flight=3)
    eventually(lambda: len(chosen_host.blocked) == 3 and chosen_host.host.statistics()["accepted"] == 4)
    chosen_host.blocked.clear()
    chosen_host.hang_up()
    eventually(lambda: load.sums().failed >= 3)
    load.end()
    eventually(lambda: load.ended)
    sums = load.sums()
    assert sums.sent == sums.failed
    assert all(reason.startswith("client connection: ") for reason in sums.by_reason)


def test_the_first_new_query(
    make_load: MakeLoad, chosen_host: Any, rt: ThreadsRuntime, eventually: Callable[..., Any]
) -> None:
    chosen_host.answer = chosen_host.block
    load = make_load(clients=2)
    eventually(lambda: len(chosen_host.blocked) == 2)
    at_ns = rt.now_ns()
    load.watch_new_queries(at_ns)
    chosen_host.release(2)
    eventually(lambda: load.replied == 2 and len(chosen_host.blocked) == 2)
    assert load.first_after_ns is None  # those two were sent before
    chosen_host.release(1)
    first_ns = eventually(lambda: load.first_after_ns)
    assert at_ns < first_ns <= rt.now_ns()
    chosen_host.release(1)
    eventually(lambda: load.replied == 4)
    assert load.first_after_ns == first_ns


def test_gaps_count_from_the_mark_and_only_under_load(
    make_load: MakeLoad, chosen_host: Any, rt: ThreadsRuntime, eventually: Callable[..., Any]
) -> None:
    chosen_host.answer = chosen_host.block
    load = make_load(clients=1)
    eventually(lambda: chosen_host.blocked)
    eventually(lambda: load.sums().max_gap_ms > 20, "an open gap is seen")
    chosen_host.release()
    eventually(lambda: load.replied == 1)
    assert load.sums().max_gap_ms > 20
    eventually(lambda: chosen_host.blocked)
    load.mark()
    chosen_host.release()
    eventually(lambda: load.replied == 2)
    load.end()
    chosen_host.answer = lambda client, args: b"+OK\r\n"
    eventually(lambda: chosen_host.blocked or load.ended)
    chosen_host.release()
    eventually(lambda: load.ended)
    quiet = load.sums()
    ended_ns = rt.now_ns()
    eventually(lambda: rt.now_ns() > ended_ns + 20 * NS_PER_MS)
    assert load.sums() == quiet  # nothing is under way: no gap opens


def test_percentiles(make_load: MakeLoad, chosen_host: Any, eventually: Callable[..., Any]) -> None:
    load = make_load(clients=2)
    eventually(lambda: load.replied >= 50)
    load.end()
    eventually(lambda: load.ended)
    sums = load.sums()
    assert 0 < sums.p50_ms <= sums.p99_ms <= sums.max_ms


def test_nothing_measured_nothing_claimed(make_load: MakeLoad, chosen_host: Any) -> None:
    chosen_host.answer = chosen_host.block
    sums = make_load(clients=1).sums()
    assert (sums.p50_ms, sums.p99_ms, sums.max_ms) == (0.0, 0.0, 0.0)
