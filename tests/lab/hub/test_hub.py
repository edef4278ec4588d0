"""The Hub: its content, its rate limit, and everything that a plan can have go wrong; on both runtimes."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordemu.lab.http_client import HttpConn, HttpFailed
from coordemu.lab.http_message import HttpResponse
from coordemu.lab.http_server import PortTaken
from coordemu.lab.hub_content import PAGE_SIZE, length_of, message_of, page_of
from coordemu.lab.hub_host import HubHost
from coordemu.lab.hub_limit import HubLimit
from coordemu.lab.hub_plan import CALM, HubPlan
from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Runtime
from coordemu.runtime.sim import SimRuntime

LIMIT_NS = 10 * NS_PER_S


def hub(rt: Runtime, plan: str = "", limit_per_s: int = 0, **settings: Any) -> HubHost:
    return HubHost(rt, plan=HubPlan.parse(plan), limit_per_s=limit_per_s, **settings)


def connect(rt: Runtime, host: HubHost) -> Any:
    return closing(HttpConn(rt, host.address, LIMIT_NS))


def ask(rt: Runtime, host: HubHost, ident: str = "m-1", timeout_ns: int = LIMIT_NS) -> HttpResponse:
    """One request over a connection of its own."""
    with connect(rt, host) as conn:
        answer: HttpResponse = conn.request("GET", f"/messages/{ident}", timeout_ns=timeout_ns)
        return answer


def history(conn: HttpConn, asked: Any) -> HttpResponse:
    return conn.request("POST", "/history", body=json.dumps(asked).encode(), timeout_ns=LIMIT_NS)


# -- content


def test_a_message_follows_from_its_id(rt: Runtime) -> None:
    with hub(rt) as host, connect(rt, host) as conn:
        for ident in ("m-1", "a%2Fb%20c"):
            answer = conn.request("GET", f"/messages/{ident}", timeout_ns=LIMIT_NS)
            assert answer.status == 200
            assert answer.header("content-type") == "application/json"
            assert answer.json() == message_of(ident.replace("%2F", "/").replace("%20", " "))
        assert host.hub.served == {"m-1": 1, "a/b c": 1}
    assert message_of("m-1") != message_of("m-2")


def test_a_conversation_in_pages_is_the_conversation(rt: Runtime) -> None:
    name = next(f"c-{number}" for number in range(100) if length_of(f"c-{number}") > 2 * PAGE_SIZE)
    messages: list[Any] = []
    cursor: int | None = 0
    with hub(rt) as host, connect(rt, host) as conn:
        while cursor is not None:
            page = history(conn, {"conversation": name, "cursor": cursor}).json()
            messages += page["messages"]
            cursor = page["next"]
        assert len(messages) == length_of(name)
        assert messages == page_of(name, 0, 100)["messages"]
        assert history(conn, {"conversation": name, "cursor": 1_000}).json()["messages"] == []
        assert len(history(conn, {"conversation": name, "limit": 3}).json()["messages"]) == 3
        assert host.hub.served[f"{name}#0"] == 2


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/", b"", 404),
        ("GET", "/messages/", b"", 404),
        ("GET", "/messages/a/b", b"", 404),
        ("POST", "/messages/a", b"", 405),
        ("GET", "/history", b"", 405),
        ("POST", "/history", b"", 400),
        ("POST", "/history", b"[]", 400),
        ("POST", "/history", b'"x"', 400),
        ("POST", "/history", b'{"conversation":1}', 400),
        ("POST", "/history", b'{"conversation":""}', 400),
        ("POST", "/history", b'{"conversation":"c","cursor":-1}', 400),
        ("POST", "/history", b'{"conversation":"c","cursor":true}', 400),
        ("POST", "/history", b'{"conversation":"c","limit":0}', 400),
        ("POST", "/history", b'{"conversation":"c","limit":101}', 400),
        ("POST", "/history", b"\xff", 400),
    ],
)
def test_requests_that_make_no_sense(rt: Runtime, method: str, path: str, body: bytes, status: int) -> None:
    with hub(rt, limit_per_s=1) as host, connect(rt, host) as conn:
        for _ in range(2):  # they do not count against the limit
            answer = conn.request(method, path, body=body, timeout_ns=LIMIT_NS)
            assert answer.status == status
            assert answer.json()["error"]
            assert bool(answer.header("allow")) is (status == 405)
        assert host.hub.statistics()["bad"] == 2
        assert host.hub.statistics()["handler_errors"] == 0


# -- the rate limit


def test_the_limit_holds_and_says_when_to_come_again(rt: Runtime) -> None:
    with hub(rt, limit_per_s=3) as host, connect(rt, host) as conn:
        answers = [conn.request("GET", "/messages/a", timeout_ns=LIMIT_NS) for _ in range(5)]
        began_ns = rt.now_ns()
        assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
        assert [answer.header("x-ratelimit-remaining") for answer in answers] == ["2", "1", "0", "0", "0"]
        assert {answer.header("x-ratelimit-limit") for answer in answers} == {"3"}
        assert [answer.header("retry-after") for answer in answers] == [None, None, None, "1", "1"]
        reset_s = float(answers[-1].header("x-ratelimit-reset-after") or 0)
        assert 0 < reset_s < 1
        rt.sleep_ns(round(reset_s * NS_PER_S))
        assert conn.request("GET", "/messages/a", timeout_ns=LIMIT_NS).status == 200
        if isinstance(rt, SimRuntime):
            assert rt.now_ns() - began_ns < NS_PER_S
        assert host.hub.by_status == {200: 4, 429: 2}
        assert host.hub.statistics()["rate_limited"] == 2
        assert host.hub.served == {"a": 4} == host.hub.asked


@given(
    st.integers(1, 5),
    st.integers(1, 50),
    st.lists(st.integers(-5, 20), max_size=60),
)
def test_the_limit_is_exact(limit: int, window_ns: int, steps: list[int]) -> None:
    """Against all the times that were let through; a clock that goes back is taken to stand."""
    counter = HubLimit(limit, window_ns)
    now_ns = 100
    passed: deque[int] = deque()
    for step in steps:
        now_ns += step
        newest_ns = max(now_ns, passed[-1]) if passed else now_ns
        inside = [at_ns for at_ns in passed if newest_ns - window_ns < at_ns]
        answer = counter.ask(now_ns)
        assert answer.granted is (len(inside) < limit)
        if answer.granted:
            passed.append(newest_ns)
            inside.append(newest_ns)
        assert answer.remaining == limit - len(inside)
        assert answer.reset_ns == (0 if answer.remaining else inside[0] + window_ns - newest_ns)


def test_what_is_told_is_the_earliest_time() -> None:
    counter = HubLimit(2, 100)
    assert counter.ask(0).granted
    assert counter.ask(30).granted
    refused = counter.ask(40)
    assert (refused.granted, refused.reset_ns) == (False, 60)
    assert not counter.ask(40 + refused.reset_ns - 1).granted
    assert counter.ask(40 + refused.reset_ns).granted
    assert HubLimit(0).ask(5).granted
    with pytest.raises(ValueError, match="-1 requests"):
        HubLimit(-1)
    assert "2 of 2" in repr(counter)


# -- latency


def test_answers_take_their_time_and_do_not_wait_for_each_other(rt: Runtime) -> None:
    with hub(rt, "latency=50ms") as host:
        began_ns = rt.now_ns()
        tasks = [rt.spawn(ask, rt, host, f"m-{number}", name=f"asker {number}") for number in range(5)]
        for task in tasks:
            task.join()
        took_ns = rt.now_ns() - began_ns
        assert took_ns >= 50 * NS_PER_MS
        if isinstance(rt, SimRuntime):
            assert took_ns < 60 * NS_PER_MS
        assert host.hub.statistics()["most_in_flight"] == 5
        assert host.hub.statistics()["in_flight"] == 0


def times_ns(plan: str, ids: list[str], start_ns: int = 0) -> list[int]:
    """In the simulator: how long each answer takes."""
    rt = SimRuntime(latency_ns=0)
    took: list[int] = []

    def main() -> None:
        with hub(rt, plan) as host, connect(rt, host) as conn:
            rt.sleep_ns(start_ns)
            for ident in ids:
                began_ns = rt.now_ns()
                conn.request("GET", f"/messages/{ident}")
                took.append(rt.now_ns() - began_ns)

    rt.run(main).check()
    return took


def test_jitter_and_slowness() -> None:
    ids = [f"m-{number}" for number in range(40)]
    plain = times_ns("latency=10ms,jitter=4ms", ids)
    assert all(10 * NS_PER_MS <= took_ns < 14 * NS_PER_MS for took_ns in plain)
    assert len(set(plain)) > 30
    assert times_ns("latency=10ms,jitter=4ms", ids) == plain
    assert times_ns("latency=10ms", ids[:2]) == [10 * NS_PER_MS] * 2
    assert times_ns("latency=10ms,slow=8x:1s@1s", ["a", "b"], NS_PER_S) == [80 * NS_PER_MS] * 2
    assert times_ns("latency=10ms,slow=8x:1s@1s", ["a"], 2 * NS_PER_S) == [10 * NS_PER_MS]


# -- failures of the plan


def outcomes(plan: str, ids: list[str], seed: int = 1) -> tuple[dict[str, list[Any]], Any]:
    """In the simulator: what each request got, a status or the kind of error, and the Hub."""
    rt = SimRuntime()
    found: dict[str, list[Any]] = {}
    hosts: list[HubHost] = []

    def main() -> None:
        with hub(rt, plan, seed=seed) as host:
            hosts.append(host)
            for ident in ids:
                try:
                    got: Any = ask(rt, host, ident).status
                except HttpFailed as failed:
                    got = failed.kind
                found.setdefault(ident, []).append(got)

    rt.run(main).check()
    return found, hosts[0].hub


def test_a_share_fails_and_which_does_not_hang_on_the_order() -> None:
    ids = [f"m-{number}" for number in range(200)] * 2
    found, made = outcomes("fail=20%:500/503", ids)
    got = [each for values in found.values() for each in values]
    assert set(got) == {200, 500, 503}
    assert 40 < len(got) - got.count(200) < 120
    assert made.statistics()["failed"] == got.count(500) + got.count(503)
    assert made.statistics()["served"] == got.count(200) == sum(made.served.values())
    assert any(first != second for first, second in found.values())
    assert outcomes("fail=20%:500/503", ids[::-1])[0] == found
    assert outcomes("fail=20%:500/503", ids, seed=2)[0] != found
    assert set(outcomes("fail=100%", ids[:60])[0]["m-1"]) <= {500, 502, 503}


def test_poison_is_always_refused() -> None:
    found, made = outcomes("poison=m-3|x*", ["m-3", "m-30", "m-3", "xy"])
    assert found == {"m-3": [422, 422], "m-30": [200], "xy": [422]}
    assert made.statistics()["poisoned"] == 3
    assert made.served == {"m-30": 1}
    assert made.asked["m-3"] == 2


def test_poison_holds_for_every_page(rt: Runtime) -> None:
    with hub(rt, "poison=c-1") as host, connect(rt, host) as conn:
        assert history(conn, {"conversation": "c-1", "cursor": 20}).status == 422
        assert history(conn, {"conversation": "c-10"}).status == 200


def test_a_cut_answer_is_not_served() -> None:
    found, made = outcomes("cut=100%", ["a", "b"])
    assert found == {"a": ["closed"], "b": ["closed"]}
    assert made.statistics()["cut"] == 2
    assert made.served == {}


# -- outages


def test_an_outage_refuses_and_ends(rt: Runtime, until: Callable[..., None]) -> None:
    with hub(rt) as host, connect(rt, host) as conn:
        assert conn.request("GET", "/messages/a", timeout_ns=LIMIT_NS).status == 200
        host.set_plan(HubPlan.parse("outage=500ms@0"))
        until(lambda: not conn.healthy())
        with pytest.raises(HttpFailed, match="refused"):
            ask(rt, host)
        assert host.hub.outage is not None
        assert "down" in repr(host.hub)
        until(lambda: " up" in repr(host.hub))
        assert host.hub.outage is None
        assert ask(rt, host).status == 200
        assert host.hub.statistics()["outages"] == 1
        assert host.hub.plan == HubPlan.parse("outage=500ms@0")


@pytest.mark.parametrize(("mode", "during"), [("", "connect"), ("/503", 503), ("/silence", "timeout")])
def test_an_outage_begins_and_ends_in_its_moment(mode: str, during: Any) -> None:
    """In virtual time."""
    rt = SimRuntime(latency_ns=0)
    seen: list[Any] = []

    def one(host: HubHost) -> Any:
        try:
            return ask(rt, host, timeout_ns=NS_PER_MS).status
        except HttpFailed as failed:
            return failed.kind

    def main() -> None:
        with hub(rt, f"outage=20s@10s{mode}") as host:
            start_ns, tick_ns = rt.now_ns(), NS_PER_S // 100
            for at_s, shift_ns in ((0, 0), (10, -tick_ns), (10, 1), (30, -tick_ns), (30, 1)):
                rt.sleep_ns(start_ns + at_s * NS_PER_S + shift_ns - rt.now_ns())
                seen.append(one(host))

    rt.run(main).check()
    assert seen == [200, 200, during, during, 200]


def test_silence_ends_with_its_span(rt: Runtime, until: Callable[..., None]) -> None:
    """Who waits without a limit of its own is cut off in the end; what was in flight when it began is not answered."""
    with hub(rt, "latency=20ms") as host, connect(rt, host) as conn:
        errors: list[HttpFailed] = []

        def wait() -> None:
            try:
                conn.request("GET", "/messages/a")
            except HttpFailed as failed:
                errors.append(failed)

        task = rt.spawn(wait, name="asker")
        until(lambda: host.hub.statistics()["in_flight"])
        host.set_plan(HubPlan.parse("outage=100ms@0/silence"))
        until(lambda: host.hub.statistics()["silenced"])
        assert host.hub.statistics()["in_flight"] == 1
        task.join()
        assert errors[0].kind == "closed"
        until(lambda: host.hub.statistics()["in_flight"] == 0)
        assert (host.hub.statistics()["silenced"], host.hub.statistics()["abandoned"]) == (1, 0)
        assert host.hub.served == {}
        assert ask(rt, host).status == 200


def test_who_leaves_before_the_answer_was_not_served(rt: Runtime, until: Callable[..., None]) -> None:
    with hub(rt, "latency=10s") as host:
        with pytest.raises(HttpFailed, match="no answer within 20 ms"):
            ask(rt, host, timeout_ns=20 * NS_PER_MS)
        until(lambda: host.hub.statistics()["abandoned"] == 1)
        assert host.hub.statistics()["in_flight"] == 0
        assert host.hub.served == {}


def test_a_port_that_was_taken_meanwhile_is_waited_for(rt: Runtime, until: Callable[..., None]) -> None:
    with hub(rt) as host:
        host.set_plan(HubPlan.parse("outage=50ms@0"))
        until(lambda: host.hub.outage is not None)
        loop = rt.loop("squatter")
        nobody: Any = None
        listener = loop.listen(host.address, lambda transport: nobody)
        until(lambda: host.hub.statistics()["relisten_failures"])
        listener.close()
        loop.close()
        rt.sleep_ns(200 * NS_PER_MS)
        assert ask(rt, host).status == 200


# -- its life


def test_a_plan_counts_from_when_it_is_set() -> None:
    rt = SimRuntime()
    seen: list[Any] = []

    def main() -> None:
        with hub(rt) as host:
            rt.sleep_ns(100 * NS_PER_S)
            host.set_plan(HubPlan.parse("outage=1s@5s/503"))
            for _ in range(3):
                rt.sleep_ns(2_500 * NS_PER_MS)
                seen.append(ask(rt, host).status)
            host.set_plan(CALM)
            rt.sleep_ns(NS_PER_MS)
            seen.append(ask(rt, host).status)

    rt.run(main).check()
    assert seen == [200, 503, 200, 200]


def test_a_hub_whose_port_is_taken_leaves_nothing_behind(rt: Runtime) -> None:
    with hub(rt) as host:
        with pytest.raises(PortTaken):
            HubHost(rt, host.address)
        assert len([task for task in rt.tasks() if task.name == "hub"]) == 1


def test_a_hub_can_be_asked_when_it_has_stopped(rt: Runtime) -> None:
    with hub(rt) as host:
        assert ask(rt, host).status == 200
        host.hub.start()
    assert host.hub.served == {"m-1": 1}
    assert host.hub.statistics()["connections"] == 0
    assert "stopped" in repr(host)
    host.hub.stop()
