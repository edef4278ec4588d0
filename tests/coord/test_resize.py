"""CONFIG SET WORKERS: the steps of each policy in their order, the ways of reducing, overlap, growth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from coordemu.coord.resize import RESIZES_KEPT
from coordemu.coord.resize_policy import POLICIES
from coordemu.runtime.base import NS_PER_S, Runtime

LONG_NS = 10 * NS_PER_S
MakeSite = Callable[..., Any]
Eventually = Callable[..., Any]


def steps(resize: Any) -> list[str]:
    """What main did, in its order; the rows of the receipts, which come from the I/O threads, are left out."""
    actions = [entry.action for entry in resize.journal]
    return [action for action in actions if action != "drain" and not action.startswith("stop ")]


def said(resize: Any, action: str) -> list[str]:
    return [entry.result for entry in resize.journal if entry.action == action]


def set_workers(client: Any, number: int) -> str:
    return str(client.call("CONFIG", "SET", "WORKERS", number), "ascii")


LESS = "remove 2 threads"

AS_UPSTREAM = ("upstream-before", "upstream-7193", "upstream-7194", "upstream-7410")
DRAINED = ("shrink-drain-literal", "shrink-drain-timer", "shrink-drain-event", "coordemu-safe")
STEPS = {
    "writeup-before": ["hand over", LESS, "trigger"],
    "writeup-fix": ["queries paused", LESS, "resume"],
    "wait-workers-first": [LESS, "wait for the workers", "trigger"],
    "delay-trigger": [LESS, "trigger put off"],
    **{name: [LESS, "trigger"] for name in AS_UPSTREAM + DRAINED},
}


@pytest.mark.parametrize("policy", [name for name in POLICIES if name != "writeup-fix-pool-pause"])
@pytest.mark.parametrize("io_threads", [1, 2])
def test_the_steps_of_each_policy_on_a_quiet_coordinator(
    make_site: MakeSite, eventually: Eventually, policy: str, io_threads: int
) -> None:
    site = make_site(workers=3, policy=policy, io_threads=io_threads)
    client = site.client()
    assert client.call("FT.SEARCH", "idx", "a") == [b"a", 2]
    assert set_workers(client, 1) == "OK"
    resize = site.last()
    eventually(lambda: resize.complete)
    late = ["trigger"] if policy == "delay-trigger" else []
    assert steps(resize) == ["CONFIG SET WORKERS 1", *STEPS[policy], "CONFIG SET returns", *late]
    assert said(resize, "CONFIG SET returns") == ["OK"]
    assert (resize.workers_before, resize.workers_after, resize.shrinks, resize.error) == (3, 1, True, "")
    assert (resize.conns_before, resize.conns_after) == ((4, 2) if io_threads == 1 else (2, 1))
    assert resize.policy.name == policy
    assert sorted(receipt.io_runtime for receipt in resize.receipts) == list(range(io_threads))
    for receipt in resize.receipts:
        assert (receipt.outcome, receipt.pending) == ("nothing-pending", 0)
        assert (receipt.num_from, receipt.num_to) == (resize.conns_before, resize.conns_after)
        assert receipt.connections_stopped == 2 * (resize.conns_before - resize.conns_after)
        assert set(receipt.by_node) == {str(shard.endpoint) for shard in site.shards}
    # What was asked for is there, and nothing else.
    eventually(lambda: site.workers.num_threads_alive == 1)
    eventually(lambda: site.states() == ["Connected"] * (2 * 2))
    assert site.queries.gate.mode == "open"
    assert not site.resizer.under_way
    assert client.call("FT.SEARCH", "idx", "b") == [b"b", 2]
    times = [resize.started_ns, *(entry.at_ns for entry in resize.journal if entry.action in STEPS[policy])]
    assert times == sorted(times)
    assert resize.started_ns <= resize.returned_ns


@pytest.mark.parametrize("policy", POLICIES)
def test_growing_is_the_same_in_every_history(make_site: MakeSite, eventually: Eventually, policy: str) -> None:
    site = make_site(workers=1, policy=policy, io_threads=2)
    client = site.client()
    assert client.call("FT.SEARCH", "idx", "a") == [b"a", 2]
    assert set_workers(client, 4) == "OK"
    resize = site.last()
    assert site.workers.num_threads_alive == 4
    eventually(lambda: resize.complete)
    assert steps(resize) == ["CONFIG SET WORKERS 4", "add 3 threads", "trigger", "CONFIG SET returns"]
    assert not resize.shrinks
    assert [(receipt.outcome, receipt.connections_stopped) for receipt in resize.receipts] == [
        ("nothing-pending", 0), ("nothing-pending", 0),
    ]  # fmt: skip
    eventually(site.coordinator.connected)
    assert len(site.states()) == 3 * 2 * 2
    assert client.call("FT.SEARCH", "idx", "b") == [b"b", 2]


def test_the_same_value_resizes_nothing(make_site: MakeSite) -> None:
    site = make_site(workers=2, policy="upstream-7193")
    assert set_workers(site.client(), 2) == "OK"
    assert list(site.resizer.history) == []
    assert site.resizer.statistics() == {"resizes": 0, "refused": 0, "under_way": 0}
    assert repr(site.resizer) == "<Resizer policy=upstream-7193 resizes=0>"


def test_a_pool_that_no_query_has_started_is_resized_by_its_number(make_site: MakeSite, eventually: Eventually) -> None:
    site = make_site(workers=3, policy="upstream-before")
    client = site.client()
    assert set_workers(client, 0) == "OK"
    assert set_workers(client, 2) == "OK"
    assert (site.workers.num_threads, site.workers.num_threads_alive) == (2, 0)
    assert client.call("FT.SEARCH", "idx", "a") == [b"a", 2]
    assert site.workers.num_threads_alive == 2
    eventually(lambda: all(resize.complete for resize in site.resizer.history))


def test_to_nothing_and_back(make_site: MakeSite, eventually: Eventually) -> None:
    site = make_site(workers=2)
    client = site.client()
    for number, size in enumerate((0, 1, 0, 3)):
        assert client.call("FT.SEARCH", "idx", str(number)) == [b"%d" % number, 2]
        eventually(lambda: site.workers.num_jobs_in_progress == 0)
        assert set_workers(client, size) == "OK"
        eventually(lambda: site.workers.num_threads_alive <= size)  # noqa: B023
    assert client.call("FT.SEARCH", "idx", "z") == [b"z", 2]
    assert site.workers.num_threads_alive == 3
    eventually(site.coordinator.connected)
    assert len(site.states()) == 4 * 2
    eventually(lambda: all(resize.complete for resize in site.resizer.history))
    assert [resize.workers_after for resize in site.resizer.history] == [0, 1, 0, 3]
    assert site.sums() == (5, 5, 0)


def test_the_policy_may_be_exchanged_between_two_resizes(make_site: MakeSite, eventually: Eventually) -> None:
    site = make_site(workers=3)
    client = site.client()
    assert set_workers(client, 2) == "OK"
    site.on_main(lambda: setattr(site.resizer, "policy", POLICIES["writeup-fix"]))
    assert site.queries.main_mode == "block"
    assert set_workers(client, 1) == "OK"
    assert [resize.policy.name for resize in site.resizer.history] == ["upstream-7410", "writeup-fix"]


def test_the_newest_resizes_are_kept(make_site: MakeSite, eventually: Eventually) -> None:
    site = make_site(workers=1, shards=1)
    client = site.client()
    times = RESIZES_KEPT // 2 + 2
    for _ in range(times):
        client.send("CONFIG", "SET", "WORKERS", 2)
        client.send("CONFIG", "SET", "WORKERS", 1)
        assert (client.read(), client.read()) == (b"OK", b"OK")
    assert len(site.resizer.history) == RESIZES_KEPT
    eventually(lambda: not site.resizer.under_way)
    eventually(lambda: site.states() == ["Connected"] * 2)


# ---- the ways of reducing, with workers that are at work


def keep_busy(site: Any, number: int, eventually: Eventually) -> None:
    site.keep_busy(number)
    eventually(lambda: site.workers.num_jobs_in_progress == number)


def test_sync_waits_for_every_worker_with_the_module_lock(make_site: MakeSite, eventually: Eventually) -> None:
    site = make_site(workers=2, changes={"reduce": "sync"})
    keep_busy(site, 2, eventually)
    client, other = site.client(), site.client()
    client.send("CONFIG", "SET", "WORKERS", 1)
    chain = eventually(lambda: (it := site.chain("main")).kind == "waits" and it)
    assert chain.steps[0] == "main"
    assert chain.steps[1].startswith("workers: remove 1 threads")
    assert chain.steps[2].startswith("workers-")
    other.send("PING")
    assert site.host.module_lock.owner is site.host.task
    assert not other.answered
    site.go.set()
    assert (client.read(), other.read()) == (b"OK", b"PONG")
    assert site.workers.num_threads_alive == 1
    assert said(site.last(), "remove 1 threads") == ["gone"]


def test_sync_to_nothing_waits_until_all_have_heard_not_until_they_have_gone(
    make_site: MakeSite, eventually: Eventually
) -> None:
    site = make_site(workers=2, changes={"reduce": "sync"})
    keep_busy(site, 2, eventually)
    rest = site.rt.event("the rest may end")
    site.workers.add_work(lambda _: rest.wait(), None)
    client = site.client()
    client.send("CONFIG", "SET", "WORKERS", 0)
    eventually(lambda: site.chain("main").steps[1:2] == ("workers: terminate when empty",))
    site.go.set()
    assert client.read() == b"OK"
    # One of them has taken the job that was queued.
    eventually(lambda: site.workers.num_threads_alive == 1)
    rest.set()
    eventually(lambda: site.workers.num_threads_alive == 0)


def test_sync_unlocked_lets_go_of_the_lock_but_serves_nobody(make_site: MakeSite, eventually: Eventually) -> None:
    site = make_site(workers=2, changes={"reduce": "sync-unlocked"})
    keep_busy(site, 1, eventually)
    site.hold()
    (searching,) = site.search("a", LOAD=1)
    eventually(lambda: site.held() == 2)
    client, other = site.client(), site.client()
    client.send("CONFIG", "SET", "WORKERS", 0)
    eventually(lambda: site.chain("main").steps[1:2] == ("workers: terminate when empty",))
    other.send("PING")
    # The query loads its documents although main waits for it, and its worker comes to the barrier.
    site.release()
    eventually(lambda: site.queries.statistics()["replied"] == 1)
    assert not other.answered
    assert not searching.answered
    site.go.set()
    assert (client.read(), other.read(), searching.read()) == (b"OK", b"PONG", [b"a", 2])
    site.sums()


def test_async_returns_while_the_workers_are_at_work(make_site: MakeSite, eventually: Eventually) -> None:
    site = make_site(workers=3)
    keep_busy(site, 3, eventually)
    client = site.client()
    assert set_workers(client, 1) == "OK"
    assert said(site.last(), LESS) == ["told to go; 2 still there"]
    assert (site.workers.num_threads, site.workers.num_threads_alive) == (1, 3)
    eventually(lambda: site.last().complete)
    assert site.resizer.under_way
    site.go.set()
    eventually(lambda: site.workers.num_threads_alive == 1)
    assert not site.resizer.under_way


@pytest.mark.parametrize(("size", "told"), [(0, 3), (1, 2), (2, 1)])
def test_handoff_lets_the_threads_go_at_once(make_site: MakeSite, eventually: Eventually, size: int, told: int) -> None:
    site = make_site(workers=3, changes={"reduce": "handoff"})
    site.hold()
    clients = []
    for number, ident in enumerate("abc"):
        clients += site.search(ident)
        eventually(lambda: site.held() == 2 * number + 2)  # noqa: B023
    assert set_workers(site.client(), size) == "OK"
    assert said(site.last(), "hand over") == [f"{told} unfinished queries go on on main"]
    # No reply has come, and yet the threads go: their queries are main's now.
    eventually(lambda: site.workers.num_threads_alive == size)
    eventually(lambda: site.queries.statistics()["taken_over"] == told)
    site.release()
    assert [client.read() for client in clients] == [[b"a", 2], [b"b", 2], [b"c", 2]]
    assert site.sums() == (3, 3, 0)


def test_wait_workers_waits_until_they_have_gone(make_site: MakeSite, eventually: Eventually) -> None:
    site = make_site(workers=2, changes={"order": ("reduce", "wait-workers", "shrink")})
    keep_busy(site, 2, eventually)
    client = site.client()
    client.send("CONFIG", "SET", "WORKERS", 1)
    chain = eventually(lambda: (it := site.chain("main")).kind == "waits" and it)
    assert chain.steps[:2] == ("main", "worker threads to finish")
    assert not site.last().receipts
    site.go.set()
    assert client.read() == b"OK"
    assert site.workers.num_threads_alive == 1


def test_the_pools_own_drain_answers_ping(make_site: MakeSite, eventually: Eventually) -> None:
    site = make_site(workers=1, changes={"order": ("drain", "reduce", "shrink")})
    keep_busy(site, 1, eventually)
    client, other = site.client(), site.client()
    client.send("CONFIG", "SET", "WORKERS", 0)
    eventually(lambda: site.chain("main").steps[1:2] == ("workers: no jobs left",))
    assert other.call("PING") == b"PONG"
    assert str(other.call("CONFIG", "SET", "WORKERS", 3)) == "ERR a resize is under way"
    site.go.set()
    assert client.read() == b"OK"
    assert said(site.last(), "drain the pool") == ["done"]


# ---- one resize after the other


def test_overlap_refuse(make_site: MakeSite, eventually: Eventually, rt: Runtime) -> None:
    site = make_site(workers=3, policy="upstream-7193")
    keep_busy(site, 3, eventually)
    client = site.client()
    assert set_workers(client, 1) == "OK"
    eventually(lambda: site.last().complete)
    for size in (0, 2, 3, 5):
        assert str(client.call("CONFIG", "SET", "WORKERS", size)) == "ERR the last change of WORKERS has not ended"
    assert client.call("CONFIG", "GET", "WORKERS") == [b"WORKERS", b"1"]
    assert (site.workers.num_threads, site.cluster.conns_per_node, len(site.resizer.history)) == (1, 2, 1)
    assert set_workers(client, 1) == "OK"
    site.go.set()
    eventually(lambda: not site.resizer.under_way)
    assert set_workers(client, 5) == "OK"
    assert site.workers.num_threads == 5


def test_overlap_refuse_waits_for_connections_too(make_site: MakeSite, eventually: Eventually) -> None:
    site = make_site(workers=0, conn_per_shard=3, policy="upstream-7193")
    site.hold()
    site.search("a", "b", "c")
    eventually(lambda: site.held() == 6)
    client = site.client()
    assert client.call("CONFIG", "SET", "CONN_PER_SHARD", 1) == b"OK"
    assert str(client.call("CONFIG", "SET", "WORKERS", 2)) == "ERR the last change of WORKERS has not ended"
    site.release()
    eventually(lambda: not site.resizer.under_way)
    assert set_workers(client, 2) == "OK"


@pytest.mark.parametrize("sizes", [(1, 0), (1, 4), (0, 0), (2, 1, 0), (0, 3)])
def test_overlap_supersede(make_site: MakeSite, eventually: Eventually, sizes: tuple[int, ...]) -> None:
    site = make_site(workers=3)
    keep_busy(site, 3, eventually)
    client = site.client()
    for size in sizes:
        assert set_workers(client, size) == "OK"
    assert site.workers.num_threads == sizes[-1]
    site.go.set()
    eventually(lambda: site.workers.num_threads_alive <= sizes[-1])
    eventually(lambda: not site.resizer.under_way)
    eventually(site.coordinator.connected)
    assert len(site.states()) == (sizes[-1] + 1) * 2
    assert client.call("FT.SEARCH", "idx", "a") == [b"a", 2]
