"""The incident, step by step: who waits for whom under each of its explanations, and what the fixes change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from coordemu.runtime.base import NS_PER_MS

LONG_MS = 10_000
MakeSite = Callable[..., Any]
Eventually = Callable[..., Any]

ABC = [[b"a", 2], [b"b", 2], [b"c", 2]]


class PatientLock:
    """The module lock as workers take it: in small helpings, so that a test can call one off that would last for ever.

    Main is not concerned: it uses `acquire` and `release`.
    """

    def __init__(self, site: Any) -> None:
        self.rt, self.lock = site.rt, site.host.module_lock
        self.called_off = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.lock, name)

    def __enter__(self) -> None:
        while not self.lock.acquire(20 * NS_PER_MS) and not self.called_off:
            pass

    def __exit__(self, *exc: object) -> None:
        if self.lock.owner is self.rt.current():
            self.lock.release()


@pytest.fixture
def patient(eventually: Eventually) -> Iterator[Callable[[Any], PatientLock]]:
    """`patient(site)`: give a site such a lock; waits for it are called off at the test's end, whatever happened."""
    locks: list[PatientLock] = []

    def make(site: Any) -> PatientLock:
        locks.append(PatientLock(site))
        site.host.module_lock = locks[-1]
        return locks[-1]

    yield make
    for lock in locks:
        lock.called_off = True


@pytest.fixture
def make_site(make_site: MakeSite) -> Iterator[MakeSite]:
    """As ever; queries whose replies were dropped are given up at the end, so that nobody waits for them for ever."""
    sites: list[Any] = []

    def make(**options: Any) -> Any:
        sites.append(make_site(**options))
        return sites[-1]

    yield make
    for site in sites:
        give_up(site)


def give_up(site: Any) -> None:
    """Fail every query whose replies were dropped, until main and the workers are free. The layers can't do that."""
    while lost := [query for query in list(site.queries._in_flight) if dropped(query)]:
        for query in lost:
            if "given up" not in query.ctx.errors:
                query.ctx.errors.append("given up")
            query.signal.set()


def dropped(query: Any) -> bool:
    return query.ctx is not None and any(conn._dropped for conn in query.ctx.holders())


def three_under_way(site: Any, eventually: Eventually, **times_us: int) -> list[Any]:
    """Queries a, b and c, whose replies are held back on the connections 0, 1 and 2 of both shards."""
    site.hold()
    clients = []
    for number, ident in enumerate("abc"):
        clients += site.search(ident, **times_us)
        eventually(lambda: site.held() == 2 * number + 2)  # noqa: B023
    return clients


# ---- upstream's explanation: a lock and a barrier


def test_before_the_fix_main_and_a_worker_wait_for_each_other(
    make_site: MakeSite, eventually: Eventually, patient: Callable[[Any], PatientLock]
) -> None:
    site = make_site(workers=3, policy="upstream-before")
    lock = patient(site)
    clients = three_under_way(site, eventually, LOAD=1)
    operator, other = site.client(), site.client()
    operator.send("CONFIG", "SET", "WORKERS", 0)
    # Main is at the barrier, and all could still end well: the shards have yet to answer.
    chain = eventually(lambda: (it := site.chain("main")).kind == "waits" and it)
    assert chain.steps[:2] == ("main", "workers: terminate when empty")
    assert chain.steps[-1].startswith("shard ")
    # They answer. Now each worker needs the module lock to load its documents.
    site.release()
    chain = eventually(lambda: (it := site.chain("main")).kind == "cycle" and it)
    assert chain.steps[:2] == ("main", "workers: terminate when empty")
    assert chain.steps[2].startswith("workers-")
    assert chain.steps[3:] == ("module lock", "main")
    assert "a cycle" in chain.sentence
    # The very same from a worker's side.
    chain = eventually(lambda: (it := site.chain(chain.steps[2])).kind == "cycle" and it)
    assert chain.steps[1:3] == ("module lock", "main")
    # Nobody is served. No connection is in the cycle, and the shrink has not even been asked for.
    other.send("PING")
    assert not other.answered
    assert not operator.answered
    assert site.cluster.conns_per_node == 4
    assert [event.ours for event in site.rt.trace_events() if "shrink" in event.ours or "_trigger" in event.ours] == []
    eventually(lambda: site.cluster.pending_total(0) == 0)
    # Only because these workers give up their wait does it end.
    lock.called_off = True
    assert (operator.read(), other.read()) == (b"OK", b"PONG")
    assert [client.read() for client in clients] == ABC


def test_wait_workers_first_is_the_same_cycle_without_a_barrier(
    make_site: MakeSite, eventually: Eventually, patient: Callable[[Any], PatientLock]
) -> None:
    site = make_site(workers=3, policy="wait-workers-first")
    lock = patient(site)
    clients = three_under_way(site, eventually, LOAD=1)
    operator = site.client()
    operator.send("CONFIG", "SET", "WORKERS", 0)
    eventually(lambda: site.chain("main").steps[1:2] == ("worker threads to finish",))
    site.release()
    chain = eventually(lambda: (it := site.chain("main")).kind == "cycle" and it)
    assert chain.steps[:2] == ("main", "worker threads to finish")
    assert chain.steps[-2:] == ("module lock", "main")
    lock.called_off = True
    assert operator.read() == b"OK"
    assert [client.read() for client in clients] == ABC


@pytest.mark.parametrize("policy", ["upstream-7193", "upstream-7410", "shrink-drain-event", "shrink-drain-timer"])
def test_after_the_fix_the_command_returns_at_once_in_the_same_situation(
    make_site: MakeSite, eventually: Eventually, policy: str
) -> None:
    site = make_site(workers=3, policy=policy)
    clients = three_under_way(site, eventually, LOAD=1)
    operator = site.client()
    # The replies are still held back: whoever waited for a worker now would wait for ever.
    assert operator.call("CONFIG", "SET", "WORKERS", 0) == b"OK"
    assert site.workers.num_threads_alive == 3
    assert site.held() == 6
    assert operator.call("PING") == b"PONG"
    site.release()
    assert [client.read() for client in clients] == ABC
    eventually(lambda: site.workers.num_threads_alive == 0)
    eventually(lambda: site.states() == ["Connected"] * 2)
    assert site.sums() == (3, 3, 0)


def test_letting_go_of_the_lock_ends_well_but_serves_nobody_meanwhile(
    make_site: MakeSite, eventually: Eventually
) -> None:
    site = make_site(workers=3, policy="upstream-7194")
    clients = three_under_way(site, eventually, LOAD=1)
    operator, other = site.client(), site.client()
    operator.send("CONFIG", "SET", "WORKERS", 0)
    eventually(lambda: site.chain("main").steps[1:2] == ("workers: terminate when empty",))
    other.send("PING")
    assert not site.host.module_lock.locked()
    assert not other.answered
    site.release()
    assert (operator.read(), other.read()) == (b"OK", b"PONG")
    assert [client.read() for client in clients] == ABC
    assert site.sums() == (3, 3, 0)


# ---- the write-ups' explanation: replies that are neither delivered nor failed


def test_as_the_write_ups_draw_it_main_waits_for_nobody(make_site: MakeSite, eventually: Eventually) -> None:
    site = make_site(workers=3, policy="writeup-before")
    three_under_way(site, eventually)
    operator, other = site.client(), site.client()
    # (Its reply leaves with the others at the end of main's turn, if that comes.)
    operator.send("CONFIG", "SET", "WORKERS", 0)
    eventually(lambda: site.resizer.history and site.last().returned_ns)
    # The threads have gone, main has taken over; a's connection is one that stays.
    eventually(lambda: site.workers.num_threads_alive == 0)
    eventually(lambda: site.last().complete)
    assert [(receipt.pending, receipt.lost) for receipt in site.last().receipts] == [(4, 4)]
    site.release()
    # It goes on with them in any order, but not beyond b or c.
    chain = eventually(lambda: (it := site.chain("main")).kind == "orphan" and it)
    assert chain.steps[:3] in (
        ("main", "query b complete", "query b: replies"), ("main", "query c complete", "query c: replies"),
    )  # fmt: skip
    assert chain.steps[3].startswith("conn unix:")
    assert chain.steps[3].endswith("#1" if chain.steps[1] == "query b complete" else "#2")
    assert chain.steps[4:] == ("nobody: the connection was stopped and its replies dropped",)
    assert chain.sentence.endswith(": an orphan")
    other.send("PING")
    assert site.host.module_lock.owner is site.host.task
    assert not other.answered


@pytest.mark.parametrize("stop", ["graceful", "fail"])
def test_it_needs_replies_that_are_dropped(make_site: MakeSite, eventually: Eventually, stop: str) -> None:
    """hiredis either awaits the replies or fails them: with both, the same drawing ends well."""
    site = make_site(workers=3, policy="writeup-before", changes={"stop": stop})
    clients = three_under_way(site, eventually)
    operator = site.client()
    operator.send("CONFIG", "SET", "WORKERS", 0)
    eventually(lambda: site.queries.statistics()["taken_over"] >= 1)
    eventually(lambda: site.states() == ["Connected"] * 2)
    site.release()
    assert operator.read() == b"OK"
    answers = [client.read() for client in clients]
    if stop == "graceful":
        assert answers == ABC
    else:
        assert answers[0] == [b"a", 2]
        assert all(str(answer).endswith("connection stopped") for answer in answers[1:])
    assert operator.call("PING") == b"PONG"
    site.sums()


def test_the_proposed_fix_answers_ping_and_loses_nothing(make_site: MakeSite, eventually: Eventually) -> None:
    site = make_site(workers=3, policy="writeup-fix", changes={"drain_timeout_ms": LONG_MS})
    clients = three_under_way(site, eventually, LOAD=1)
    operator, other = site.client(), site.client()
    operator.send("CONFIG", "SET", "WORKERS", 0)
    eventually(lambda: site.cluster.conns_per_node == 1 and site.cluster.shrink_hidden)
    assert [other.call("PING", str(number)) for number in range(10)] == [b"%d" % number for number in range(10)]
    (late,) = site.search("d")
    eventually(lambda: site.queries.statistics()["held"] == 1)
    site.release()
    assert operator.read() == b"OK"
    assert [client.read() for client in (*clients, late)] == [*ABC, [b"d", 2]]
    (receipt,) = site.last().receipts
    assert (receipt.outcome, receipt.delivered, receipt.lost) == ("drained", 4, 0)
    eventually(lambda: site.workers.num_threads_alive == 0)
    assert site.sums() == (4, 4, 0)


def test_the_drain_as_written_never_sees_a_reply_and_drops_them_all(
    make_site: MakeSite, eventually: Eventually
) -> None:
    site = make_site(workers=3, policy="shrink-drain-literal", changes={"drain_timeout_ms": 150, "drain_poll_ms": 1})
    a, _b, _c = three_under_way(site, eventually)
    operator = site.client()
    assert operator.call("CONFIG", "SET", "WORKERS", 0) == b"OK"
    eventually(lambda: site.chain("io 0").kind != "runs")
    # The answers lie in the sockets all the time; the thread that would read them sleeps and polls.
    site.release()
    assert operator.call("PING") == b"PONG"
    eventually(lambda: site.last().complete)
    (receipt,) = site.last().receipts
    assert (receipt.outcome, receipt.pending, receipt.delivered, receipt.lost) == ("deadline", 4, 0, 4)
    assert receipt.waited_ns >= 150 * NS_PER_MS
    assert receipt.polls > 10
    assert receipt.last_reply_ns == 0
    # a's connection stays; b and c have no outcome, and their workers wait for nobody.
    assert a.read() == [b"a", 2]
    eventually(lambda: site.queries.in_flight == 2)
    # The third has come to the barrier, where it waits for the other two.
    eventually(lambda: [site.chain(task.name).kind for task in site.workers.threads()] == ["orphan"] * 3)


def test_a_fixed_delay_drops_the_replies_that_take_longer(make_site: MakeSite, eventually: Eventually) -> None:
    site = make_site(workers=3, policy="delay-trigger", changes={"trigger_delay_ms": 5})
    a, _b, _c = three_under_way(site, eventually)
    assert site.client().call("CONFIG", "SET", "WORKERS", 0) == b"OK"
    eventually(lambda: site.last().complete)
    (receipt,) = site.last().receipts
    assert (receipt.pending, receipt.lost) == (4, 4)
    site.release()
    assert a.read() == [b"a", 2]
    assert site.client().call("PING") == b"PONG"


# ---- what no version has fixed: a pool that is revived while its threads are at work


def test_the_fix_still_waits_when_workers_come_back_before_the_last_has_gone(
    make_site: MakeSite, eventually: Eventually, patient: Callable[[Any], PatientLock]
) -> None:
    """WORKERS n, 0, n, and then a query: its push revives the pool, waits for a worker, and that one for the lock."""
    site = make_site(workers=2, policy="upstream-7410")
    lock = patient(site)
    site.hold()
    (first,) = site.search("a", LOAD=1)
    eventually(lambda: site.held() == 2)
    operator, other = site.client(), site.client()
    assert operator.call("CONFIG", "SET", "WORKERS", 0) == b"OK"
    assert operator.call("CONFIG", "SET", "WORKERS", 2) == b"OK"
    operator.send("FT.SEARCH", "idx", "b")
    eventually(lambda: site.chain("main").steps[1:2] == ("workers: run again",))
    other.send("PING")
    assert not other.answered
    site.release()
    chain = eventually(lambda: (it := site.chain("main")).kind == "cycle" and it)
    assert chain.steps in [("main", "workers: run again", f"workers-{n}", "module lock", "main") for n in (0, 1)]
    lock.called_off = True
    assert [client.read() for client in (first, operator)] == [[b"a", 2], [b"b", 2]]
    assert other.read() == b"PONG"
    assert site.sums() == (2, 2, 0)
