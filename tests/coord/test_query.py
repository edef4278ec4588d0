"""Queries: their words, where they run, what becomes of them; one outcome each, and sums that add up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordemu.coord.query import QueryArgs
from coordemu.runtime.base import NS_PER_MS, NS_PER_S, NS_PER_US

LONG_NS = 10 * NS_PER_S
MakeSite = Callable[..., Any]
Eventually = Callable[..., Any]

HOUR_US = 3_600_000_000


# ---- the words


def test_what_is_left_out_is_nothing() -> None:
    assert QueryArgs.parse([b"idx", b"q1"]) == QueryArgs("q1", service_ns=0, work_ns=0, load_ns=0, open_ns=0)


def test_times_are_microseconds_in_any_order_and_case() -> None:
    args = QueryArgs.parse([b"idx", b"q", b"Load", b"4", b"SERVICE", b"1", b"open", b"3", b"WORK", b"2"])
    assert args == QueryArgs("q", service_ns=1000, work_ns=2000, load_ns=4000, open_ns=3000)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "ERR wrong number of arguments for 'ft.search' command"),
        ([b"idx"], "ERR wrong number of arguments"),
        ([b"idx", b"q", b"LOAD"], "ERR wrong number of arguments"),
        ([b"idx", b"q", b"NAP", b"1"], "ERR unknown argument 'NAP'"),
        ([b"idx", b"q", b"\xff", b"1"], "ERR unknown argument '\ufffd'"),
        ([b"idx", b"q", b"LOAD", b"-1"], "ERR LOAD takes microseconds, 0 to one hour"),
        ([b"idx", b"q", b"load", b"1.5"], "ERR LOAD takes microseconds"),
        ([b"idx", b"q", b"LOAD", b""], "ERR LOAD takes microseconds"),
        ([b"idx", b"q", b"LOAD", "\u0663".encode()], "ERR LOAD takes microseconds"),
        ([b"idx", b"q", b"LOAD", b"3600000001"], "ERR LOAD takes microseconds"),
        ([b"idx", b"q", b"LOAD", b"1" * 5000], "ERR LOAD takes microseconds"),
    ],
)
def test_words_that_are_refused(words: list[bytes], said: str) -> None:
    with pytest.raises(ValueError, match=r"^ERR ") as err:
        QueryArgs.parse(words)
    assert said in str(err.value)
    assert "\n" not in str(err.value)


times = st.integers(0, HOUR_US).map(lambda number_us: number_us * NS_PER_US)


@given(st.builds(QueryArgs, st.text(st.characters(exclude_categories=["Cs"])), times, times, times, times))
def test_words_and_back(args: QueryArgs) -> None:
    name, *words = args.words()
    assert name == "FT.SEARCH"
    assert QueryArgs.parse([word.encode() for word in words]) == args


@given(st.lists(st.binary(max_size=12), max_size=10))
def test_any_words_are_a_query_or_one_line_of_error(words: list[bytes]) -> None:
    said = ""
    try:
        args = QueryArgs.parse(words)
    except ValueError as err:
        said = str(err)
    if said:
        assert said.startswith("ERR ")
    else:
        assert all(0 <= ns <= HOUR_US * NS_PER_US for ns in (args.service_ns, args.work_ns, args.load_ns, args.open_ns))


# ---- where they run


@pytest.mark.parametrize("workers", [2, 0])
@pytest.mark.parametrize("io_threads", [1, 2])
def test_a_query_asks_every_shard_and_gives_its_id_back(make_site: MakeSite, workers: int, io_threads: int) -> None:
    site = make_site(workers=workers, shards=3, io_threads=io_threads)
    client = site.client()
    for number in range(5):
        assert client.call("FT.SEARCH", "idx", f"q{number}") == [b"q%d" % number, 3]
    assert site.sums() == (5, 5, 0)
    for shard in site.shards:
        asked = [words for words in shard.commands if words[0] == b"_FT.SEARCH"]
        assert asked == [[b"_FT.SEARCH", b"idx", b"q%d" % number] for number in range(5)]


def test_words_that_make_no_query_are_not_counted(make_site: MakeSite) -> None:
    site = make_site()
    assert "unknown argument" in str(site.client().call("FT.SEARCH", "idx", "q", "NAP", 1))
    assert site.sums() == (0, 0, 0)


def test_on_a_worker_the_client_waits_and_main_does_not(make_site: MakeSite, eventually: Eventually) -> None:
    site = make_site(workers=2)
    site.hold()
    one, two, three = site.search("a", "b", "c")
    # Two have their replies held back, the third waits for a worker.
    eventually(lambda: site.held() == 4 and site.queries.in_flight == 3)
    other = site.client()
    assert other.call("PING") == b"PONG"
    assert site.queries.statistics() == {
        "submitted": 3, "replied": 0, "failed": 0, "in_flight": 3, "held": 0, "taken_over": 0,
    }  # fmt: skip
    assert site.workers.num_jobs_in_progress == 2
    for name in ("workers-0", "workers-1"):
        chain = eventually(lambda: (it := site.chain(name)).kind == "waits" and it)  # noqa: B023
        assert chain.steps[-1].startswith("shard unix:")
    site.release()
    assert [client.read() for client in (one, two, three)] == [[b"a", 2], [b"b", 2], [b"c", 2]]
    assert site.sums() == (3, 3, 0)


def test_on_main_async_it_only_starts_the_query(make_site: MakeSite, eventually: Eventually) -> None:
    site = make_site(workers=0)
    assert site.queries.main_mode == "async"
    site.hold()
    clients = site.search("a", "b")
    eventually(lambda: site.held() == 4)
    assert site.client().call("PING") == b"PONG"
    assert site.workers.num_threads_alive == 0
    site.release()
    assert [client.read() for client in clients] == [[b"a", 2], [b"b", 2]]
    assert site.sums() == (2, 2, 0)


def test_on_main_block_nobody_is_served_until_the_replies_have_come(
    make_site: MakeSite, eventually: Eventually
) -> None:
    site = make_site(workers=0, changes={"main_mode": "block"})
    other = site.client()
    site.hold()
    (client,) = site.search("a")
    eventually(lambda: site.held() == 2)
    other.send("PING")
    chain = eventually(lambda: (it := site.chain("main")).kind == "waits" and it)
    assert chain.steps[:3] == ("main", "query a complete", "query a: replies")
    assert chain.steps[3].startswith("conn unix:")
    assert chain.steps[4].startswith("shard unix:")
    assert site.host.module_lock.owner is site.host.task
    assert not other.answered
    site.release()
    assert (client.read(), other.read()) == ([b"a", 2], b"PONG")
    assert site.sums() == (1, 1, 0)


class Recorder:
    """Stands for a client of the host."""

    def __init__(self) -> None:
        self.replies: list[bytes] = []
        self.unblock = self.reply_now = self.replies.append


def test_a_query_opens_its_index_with_the_module_lock(make_site: MakeSite, eventually: Eventually) -> None:
    site = make_site(workers=1)
    with site.main_held() as main:
        recorder = Recorder()
        main(lambda: site.queries.command(recorder, [b"idx", b"a", b"OPEN", b"1"]))
        eventually(lambda: site.chain("workers-0").steps[:3] == ("workers-0", "module lock", "main"))
        assert site.queries.in_flight == 1
    eventually(lambda: recorder.replies)
    assert recorder.replies == [b"*2\r\n$1\r\na\r\n:2\r\n"]


def test_a_query_loads_documents_late_and_with_the_module_lock(make_site: MakeSite, eventually: Eventually) -> None:
    site = make_site(workers=1)
    site.hold()
    (client,) = site.search("a", LOAD=1, WORK=1)
    eventually(lambda: site.held() == 2)
    with site.main_held():
        site.release()
        eventually(lambda: site.chain("workers-0").steps[:3] == ("workers-0", "module lock", "main"))
        assert site.queries.in_flight == 1
    assert client.read() == [b"a", 2]


def test_on_main_it_works_and_loads_without_waiting_for_itself(make_site: MakeSite) -> None:
    site = make_site(workers=0)
    before_ns = site.rt.now_ns()
    assert site.client().call("FT.SEARCH", "idx", "a", "WORK", 3000, "LOAD", 2000, "OPEN", 1000) == [b"a", 2]
    assert site.rt.now_ns() - before_ns >= 6 * NS_PER_MS


def test_a_client_that_goes_does_not_stop_its_query(make_site: MakeSite, eventually: Eventually) -> None:
    site = make_site(workers=1)
    site.hold()
    one, two = site.search("a", "b")
    eventually(lambda: site.held() == 2 and site.queries.in_flight == 2)
    one.close()
    two.close()
    eventually(lambda: site.host.statistics()["clients"] == 0)
    site.release()
    eventually(lambda: site.queries.statistics()["replied"] == 2)
    assert site.sums() == (2, 2, 0)


# ---- the gate


@pytest.mark.parametrize("workers", [2, 0])
def test_held_queries_run_when_the_gate_opens(make_site: MakeSite, eventually: Eventually, workers: int) -> None:
    site = make_site(workers=workers)
    site.on_main(lambda: site.queries.gate.close("pause"))
    clients = site.search("a", "b", "c")
    eventually(lambda: site.queries.statistics()["held"] == 3)
    assert site.queries.statistics()["in_flight"] == 0
    assert site.client().call("PING") == b"PONG"
    assert site.on_main(site.queries.release_held) == 3
    assert [client.read() for client in clients] == [[b"a", 2], [b"b", 2], [b"c", 2]]
    assert site.on_main(site.queries.release_held) == 0
    assert site.sums() == (3, 3, 0)


def test_ping_comes_between_released_queries_that_block_main(make_site: MakeSite, eventually: Eventually) -> None:
    site = make_site(workers=0, changes={"main_mode": "block"})
    site.on_main(lambda: site.queries.gate.close("pause"))
    clients = site.search("a", "b")
    other = site.client()
    eventually(lambda: site.queries.statistics()["held"] == 2)
    site.hold()
    other.call("PING")
    with site.main_held() as main:
        other.send("PING")
        main(site.queries.release_held)
    eventually(lambda: site.held() == 2)
    site.farm.call(lambda: [shard.release() for shard in site.shards])
    # The shards still hold: the second query blocks main again, but the PING was answered before it.
    assert other.read() == b"PONG"
    eventually(lambda: site.held() == 2)
    site.release()
    assert [client.read() for client in clients] == [[b"a", 2], [b"b", 2]]


def test_rejected_queries_fail_at_once(make_site: MakeSite) -> None:
    site = make_site()
    site.on_main(lambda: site.queries.gate.close("reject"))
    client = site.client()
    assert str(client.call("FT.SEARCH", "idx", "a")) == "ERR query failed: rejected: a resize is under way"
    site.on_main(site.queries.release_held)
    assert client.call("FT.SEARCH", "idx", "b") == [b"b", 2]
    assert site.sums() == (2, 1, 1)
    assert site.queries.failures() == {"rejected: a resize is under way": 1}
