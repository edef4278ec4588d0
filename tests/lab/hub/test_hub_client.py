"""The Hub's client: statuses as errors, five connections, what is called off; and some hundred orders of all that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from coordemu.explore.program import ProgramSubject
from coordemu.explore.search import length_of, search_range
from coordemu.lab.http_client import HttpFailed
from coordemu.lab.http_message import HttpResponse, json_response, text_response
from coordemu.lab.hub_client import HUB_POOL, HubClient, told_delay_ns
from coordemu.lab.hub_content import length_of as messages_in
from coordemu.lab.hub_content import message_of, page_of
from coordemu.lab.hub_host import HubHost
from coordemu.lab.hub_plan import HubPlan
from coordemu.pool.invariants import broken_rules, check_invariants
from coordemu.pool.pool_context import PoolContext
from coordemu.pool.pool_errors import Cancelled, DeadlineExceeded, PoolClosed, PoolError, PoolTimeout
from coordemu.pool.pool_options import PoolOptions
from coordemu.resilience.error_class import ErrorClass, HttpStatusError, classify
from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Address, Runtime
from coordemu.runtime.sim import SimRuntime


@contextmanager
def pair(rt: Runtime, plan: str = "", limit_per_s: int = 0, **settings: Any) -> Iterator[tuple[HubHost, HubClient]]:
    """A Hub and its client; at the end nothing may be out."""
    with HubHost(rt, plan=HubPlan.parse(plan), limit_per_s=limit_per_s) as host:
        client = HubClient(rt, host.address, **settings)
        try:
            yield host, client
        finally:
            client.close()


def status_of(call: Callable[[], Any]) -> HttpStatusError:
    with pytest.raises(HttpStatusError) as caught:
        call()
    return caught.value


def check_rest(rt: Runtime, client: HubClient) -> None:
    """The pool comes to rest (a dial may outlive the call that it was for), and its rules hold then."""
    rt.poll_until(lambda: not broken_rules(client.pool, quiet=True), NS_PER_MS, "rest", 10 * NS_PER_S)
    check_invariants(client.pool)


def test_messages_and_pages(rt: Runtime) -> None:
    with pair(rt) as (host, client):
        assert client.fetch("a/b ü?") == message_of("a/b ü?")
        assert client.history("c-1") == page_of("c-1", 0)
        assert client.history("c-1", 3, limit=2) == page_of("c-1", 3, 2)
        assert host.hub.served == {"a/b ü?": 1, "c-1#0": 1, "c-1#3": 1}
        assert host.hub.statistics()["accepted"] == 1
        assert client.statistics()["hits"] == 2
        check_rest(rt, client)


def test_a_conversation_to_its_end(rt: Runtime) -> None:
    with pair(rt) as (_, client):
        cursor, messages = 0, []
        while cursor is not None:
            page = client.history("c-7", cursor)
            messages += page["messages"]
            cursor = page["next"]
        assert len(messages) == messages_in("c-7")


def test_statuses_are_errors_and_the_connection_stays(rt: Runtime) -> None:
    with pair(rt, "poison=bad*") as (host, client):
        error = status_of(lambda: client.fetch("bad-1"))
        assert (error.status, error.retry_after_ns, error.reason) == (422, None, "Unprocessable Entity")
        assert classify(error).error_class is ErrorClass.PERMANENT
        assert status_of(lambda: client.request("GET", "/nowhere")).status == 404
        assert host.hub.statistics()["accepted"] == 1


def test_the_time_that_the_hub_asks_for_is_honoured(rt: Runtime) -> None:
    with pair(rt, limit_per_s=2) as (host, client):
        client.fetch("a")
        client.fetch("b")
        error = status_of(lambda: client.fetch("c"))
        assert error.status == 429
        assert error.retry_after_ns is not None
        assert 0 < error.retry_after_ns <= NS_PER_S
        seen = classify(error)
        assert (seen.error_class, seen.delay_ns) == (ErrorClass.BACK_PRESSURE, error.retry_after_ns)
        rt.sleep_ns(error.retry_after_ns)
        client.fetch("c")
        assert host.hub.by_status == {200: 3, 429: 1}


@pytest.mark.parametrize(
    ("status", "headers", "delay_ns"),
    [
        (429, {"Retry-After": "3"}, 3 * NS_PER_S),
        (429, {"Retry-After": "1", "X-RateLimit-Reset-After": "0.25"}, NS_PER_S // 4),
        (429, {"Retry-After": "1", "X-RateLimit-Reset-After": "0.000000000"}, NS_PER_S),
        (429, {"Retry-After": "1", "X-RateLimit-Reset-After": "soon"}, NS_PER_S),
        (429, {"X-RateLimit-Reset-After": "0.25"}, None),
        (503, {"Retry-After": "2", "X-RateLimit-Reset-After": "2.000000001"}, 2 * NS_PER_S + 1),
        (500, {"Retry-After": "2", "X-RateLimit-Reset-After": "1"}, 2 * NS_PER_S),
        (503, {"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}, None),
        (503, {}, None),
    ],
)
def test_how_the_time_is_read(status: int, headers: dict[str, str], delay_ns: int | None) -> None:
    assert told_delay_ns(HttpResponse(status, tuple(headers.items()))) == delay_ns


@pytest.mark.parametrize("answer", [text_response(200, "no JSON"), HttpResponse(200, (), b"[1]"), HttpResponse(200)])
def test_an_answer_without_content_is_a_failure(rt: Runtime, serve: Any, answer: HttpResponse) -> None:
    with serve(lambda exchange: answer) as host:
        client = HubClient(rt, host.address)
        with pytest.raises(HttpFailed, match="is no JSON") as caught:
            client.fetch("a")
        assert (caught.value.kind, caught.value.sent) == ("protocol", True)
        client.close()


def test_what_broke_is_not_used_again(rt: Runtime) -> None:
    with pair(rt, "cut=100%") as (host, client):
        for _ in range(2):
            with pytest.raises(HttpFailed) as caught:
                client.fetch("a")
            assert caught.value.kind == "closed"
            assert classify(caught.value).unanswered
        assert client.pool.removals() == {"broken": 2}
        assert host.hub.statistics()["accepted"] == 2
        check_rest(rt, client)


def test_a_server_that_closes_each_time_costs_a_connection_and_no_error(rt: Runtime, serve: Any, until: Any) -> None:
    with serve(lambda exchange: json_response(200, {"path": exchange.request.path})) as host:
        client = HubClient(rt, host.address)
        for _ in range(3):
            assert client.fetch("a") == {"path": "/messages/a"}
            host.post(host.server.cut_all)
            until(lambda: host.server.statistics()["connections"] == 0)
            rt.sleep_ns(NS_PER_MS)  # until the client's side has it, too
        assert host.server.statistics()["accepted"] == 3
        assert client.pool.removals() == {"stale": 2}
        client.close()


def test_no_more_than_five_at_once(rt: Runtime) -> None:
    with pair(rt, "latency=5ms") as (host, client):
        tasks = [rt.spawn(client.fetch, f"m-{number}", name=f"caller {number}") for number in range(17)]
        for task in tasks:
            task.join()
        assert not any(task.error for task in tasks)
        seen = host.hub.statistics()
        assert seen["most_in_flight"] == 5
        assert seen["most_connections"] == 5
        assert set(host.hub.served.values()) == {1}
        assert client.statistics()["turns_held"] == 0
        check_rest(rt, client)


# -- what is called off


def caught(results: list[Any], call: Callable[[], Any]) -> None:
    try:
        results.append(call())
    except (PoolError, HttpStatusError) as error:
        results.append(error)


def test_a_cancel_ends_the_wait_for_a_connection_and_for_an_answer(rt: Runtime, until: Any) -> None:
    with pair(rt, "latency=3600s", options=PoolOptions(pool_size=1), timeout_ms=0) as (host, client):
        ctx = PoolContext(rt)
        results: list[Any] = []
        tasks = [
            rt.spawn(caught, results, lambda name=name: client.fetch(name, ctx), name=name) for name in ("one", "two")
        ]
        until(lambda: host.hub.statistics()["in_flight"] == 1 and client.pool.turns.waiting == 1)
        ctx.cancel()
        for task in tasks:
            task.join()
        assert [type(result) for result in results] == [Cancelled, Cancelled]
        assert client.statistics()["turns_held"] == 0
        until(lambda: host.hub.statistics()["abandoned"] == 1)
        check_rest(rt, client)


def test_a_deadline_bounds_both(rt: Runtime) -> None:
    with pair(rt, "latency=3600s") as (_, client):
        with pytest.raises(DeadlineExceeded):
            client.fetch("a", PoolContext.after(rt, 20 * NS_PER_MS))
        with pytest.raises(DeadlineExceeded):
            client.fetch("a", PoolContext.after(rt, 0))


def test_time_outs_say_which(rt: Runtime) -> None:
    options = PoolOptions(pool_size=1, pool_timeout_ms=20)
    with pair(rt, "latency=3600s", options=options, timeout_ms=200) as (host, client):
        results: list[Any] = []
        task = rt.spawn(caught, results, lambda: client.fetch("a"), name="first")
        assert rt.poll_until(lambda: host.hub.statistics()["in_flight"] == 1, NS_PER_MS, "the first is out", NS_PER_S)
        with pytest.raises(PoolTimeout, match="no turn within 20 ms"):
            client.fetch("b")
        task.join()
        assert isinstance(results[0], HttpFailed)
        assert results[0].kind == "timeout"
        assert results[0].sent


def test_closing_ends_what_is_under_way(rt: Runtime, until: Any) -> None:
    with pair(rt, "latency=3600s", timeout_ms=0) as (host, client):
        results: list[Any] = []
        task = rt.spawn(caught, results, lambda: client.fetch("a"), name="caller")
        until(lambda: host.hub.statistics()["in_flight"] == 1)
        client.close()
        client.close()
        task.join()
        assert results[0].kind == "closed"
        with pytest.raises(PoolClosed):
            client.fetch("a")
        assert "hub client" in repr(client)


def test_a_hub_that_is_down_is_found_again(rt: Runtime) -> None:
    """Six dials in a row fail, which is more than the pool has connections: its prober finds the Hub."""
    options = PoolOptions(pool_size=5, dialer_retries=1, probe_interval_ms=20)
    with pair(rt, "outage=300ms@0", options=options) as (host, client):
        for _ in range(6):
            with pytest.raises(HttpFailed) as failed:
                client.fetch("a")
            assert (failed.value.kind, failed.value.sent) == ("connect", False)
        assert rt.poll_until(lambda: host.hub.outage is None, NS_PER_MS, "the outage is over", 10 * NS_PER_S)
        assert rt.poll_until(lambda: fetched(client), 10 * NS_PER_MS, "it is found", 10 * NS_PER_S)
        assert host.hub.served == {"a": 1}


def fetched(client: HubClient) -> bool:
    try:
        return bool(client.fetch("a"))
    except HttpFailed:
        return False


def test_bounds() -> None:
    assert HUB_POOL.pool_size == 5
    with pytest.raises(ValueError, match="timeout_ms -1"):
        HubClient(SimRuntime(), Address(port=1), timeout_ms=-1)


# -- many orders


def hour(rt: SimRuntime) -> None:
    """Callers that obey the Hub, an outage in each way, failures, cuts, a cancel; then what each side has counted."""
    plan = (
        "latency=30ms,jitter=20ms,fail=10%,cut=10%,poison=m-3,"
        "outage=400ms@300ms,outage=300ms@1s/503,outage=300ms@2s/silence"
    )
    done: dict[str, int] = {}
    lost: list[str] = []

    def fetch(number: int) -> None:
        ident = f"m-{number}"
        while True:
            try:
                assert client.fetch(ident) == message_of(ident)
            except (HttpFailed, HttpStatusError, PoolTimeout) as error:
                seen = classify(error)
                if not seen.again:
                    lost.append(ident)
                    return
                rt.sleep_ns(max(seen.delay_ns, 50 * NS_PER_MS))
            else:
                done[ident] = done.get(ident, 0) + 1
                return

    def ask_on() -> None:
        while True:
            client.fetch("extra", ctx)
            rt.sleep_ns(10 * NS_PER_MS)

    def quit_early() -> None:
        with pytest.raises((Cancelled, HttpFailed, HttpStatusError)):
            ask_on()

    with pair(rt, plan, limit_per_s=8, options=PoolOptions(pool_size=3, dialer_retries=1), timeout_ms=200) as (
        host,
        client,
    ):
        ctx = PoolContext(rt)
        tasks = [rt.spawn(fetch, number, name=f"caller {number}") for number in range(6)]
        tasks.append(rt.spawn(quit_early, name="who quits"))
        rt.sleep_ns(150 * NS_PER_MS)
        ctx.cancel()
        for task in tasks:
            task.join()
        assert lost == ["m-3"]
        assert done == {f"m-{number}": 1 for number in (0, 1, 2, 4, 5)}
        assert rt.poll_until(
            lambda: not host.hub.statistics()["in_flight"], NS_PER_MS, "the Hub is done", 10 * NS_PER_S
        )
        rt.poll_until(lambda: not client.pool.dials.slots.held, NS_PER_MS, "dials", NS_PER_S)
        seen = host.hub.statistics()
        assert seen["handler_errors"] == 0
        assert client.statistics()["most_open"] <= 3
        assert all(host.hub.served[ident] >= count for ident, count in done.items())
        assert seen["requests"] == sum(seen[name] for name in ENDS)
        check_rest(rt, client)
        assert client.statistics()["turns_held"] == 0
    rt.poll_until(lambda: len(rt.tasks()) == 1, NS_PER_MS, "the prober sees that the pool is closed", 10 * NS_PER_S)
    assert [task.name for task in rt.tasks()] == ["main"]
    assert rt.network.sockets == {}


ENDS = ("served", "rate_limited", "failed", "poisoned", "cut", "abandoned", "silenced", "unavailable", "bad")


@pytest.mark.parametrize(("strategy", "orders"), [("portfolio", 120), ("random", 120)])
def test_nothing_is_lost_or_left_in_any_order(strategy: str, orders: int) -> None:
    subject = ProgramSubject(hour)
    result = search_range(subject, strategy, 7, 0, orders, length_of(subject))
    assert result.orders == orders
    assert result.verdicts == {"passed": orders}, result.found[0].failure
