"""The whole thing put together: its commands, its start and end, what it says of itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from coordemu.coord.config import ConfigError
from coordemu.coord.conn_handshake import pack_command
from coordemu.coord.conn_options import ConnOptions
from coordemu.coord.coordinator import LOGS_KEPT, Coordinator, CoordinatorOptions
from coordemu.coord.endpoint import MREndpoint
from coordemu.coord.resize_policy import get_policy
from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Address, Runtime

LONG_NS = 10 * NS_PER_S
FAST = ConnOptions(reconnect_delay_ms=1)
MakeSite = Callable[..., Any]
Eventually = Callable[..., Any]


def build(rt: Runtime, endpoints: list[MREndpoint], **options: Any) -> Coordinator:
    return Coordinator(
        rt,
        CoordinatorOptions(conn=FAST, **options),
        endpoints,
        get_policy("upstream-7410"),
        lambda ident, service_ns: pack_command("_FT.SEARCH", "idx", ident),
    )


# ---- commands


def test_config_get(make_site: MakeSite) -> None:
    site = make_site(workers=3, conn_per_shard=5, io_threads=2, topology_validation_timeout_ms=7000)
    client = site.client()
    assert client.call("CONFIG", "GET", "workers") == [b"WORKERS", b"3"]
    assert client.call("config", "get", "search-workers") == [b"search-workers", b"3"]
    assert client.call("CONFIG", "GET", "nothing*") == []
    assert client.call("CONFIG", "GET", "*") == [
        b"search-workers", b"3",
        b"search-min-operation-workers", b"4",
        b"search-conn-per-shard", b"5",
        b"search-io-threads", b"2",
        b"search-workers-priority-bias-threshold", b"1",
        b"search-topology-validation-timeout", b"7000",
        b"search-connect-timeout", b"5000",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "ERR CONFIG takes GET <name> or SET <name> <value>"),
        (("GET",), "ERR CONFIG takes"),
        (("SET", "WORKERS"), "ERR CONFIG takes"),
        (("SET", "WORKERS", 1, 2), "ERR CONFIG takes"),
        (("REWRITE",), "ERR CONFIG takes"),
        (("SET", "WORKRES", 1), "ERR no option is called 'WORKRES'; did you mean 'workers'?"),
        (("SET", "WORKERS", 17), "ERR WORKERS: 17 is not within 0..16"),
        (("SET", "WORKERS", "many"), "ERR WORKERS: 'many' is not a whole number"),
        (("SET", "SEARCH_IO_THREADS", 2), "ERR SEARCH_IO_THREADS: can't be changed while the server runs"),
    ],
)
def test_config_words_that_are_refused(make_site: MakeSite, words: tuple[Any, ...], said: str) -> None:
    site = make_site(workers=2)
    client = site.client()
    assert said in str(client.call("CONFIG", *words))
    assert client.call("CONFIG", "GET", "WORKERS") == [b"WORKERS", b"2"]
    assert list(site.resizer.history) == []


def test_config_set_of_what_resizes_nothing(make_site: MakeSite) -> None:
    site = make_site()
    client = site.client()
    assert client.call("CONFIG", "SET", "MIN_OPERATION_WORKERS", 7) == b"OK"
    assert client.call("CONFIG", "GET", "MIN_OPERATION_WORKERS") == [b"MIN_OPERATION_WORKERS", b"7"]
    assert list(site.resizer.history) == []


def test_the_debug_command_shows_every_connection(make_site: MakeSite) -> None:
    site = make_site(workers=2, shards=2, io_threads=1)
    client = site.client()
    shown = client.call("_ft.debug", "shard_connection_states")
    assert shown == [
        part
        for node in sorted(str(shard.endpoint).encode() for shard in site.shards)
        for part in (node, [b"Connected"] * 3)
    ]
    for words in ((), ("NOPE",), ("SHARD_CONNECTION_STATES", "x")):
        assert str(client.call("_FT.DEBUG", *words)) == "ERR _FT.DEBUG takes SHARD_CONNECTION_STATES"


# ---- sizes


@pytest.mark.parametrize(
    ("options", "each"),
    [
        ({"workers": 0}, 1),
        ({"workers": 3}, 4),
        ({"workers": 3, "io_threads": 2}, 2),
        ({"workers": 4, "io_threads": 2}, 3),
        ({"workers": 3, "conn_per_shard": 5}, 5),
        ({"workers": 3, "conn_per_shard": 1, "io_threads": 3}, 1),
    ],
)
def test_how_many_connections_there_are(make_site: MakeSite, options: dict[str, int], each: int) -> None:
    site = make_site(**options)
    threads = options.get("io_threads", 1)
    assert site.cluster.conns_per_node == each
    assert site.states() == ["Connected"] * (each * threads * 2)
    assert len(site.cluster.tasks) == threads


def test_sizes_out_of_bounds(rt: Runtime) -> None:
    endpoint = MREndpoint(Address(port=1))
    for options in ({"workers": 17}, {"workers": -1}, {"conn_per_shard": -1}, {"io_threads": 0}, {"io_threads": 257}):
        with pytest.raises(ConfigError):
            build(rt, [endpoint], **options)


def test_more_workers_than_upstream_allows(make_site: MakeSite) -> None:
    site = make_site(workers=1, shards=1, no_limits=True)
    assert site.client().call("CONFIG", "SET", "WORKERS", 20) == b"OK"
    assert site.workers.num_threads == 20


# ---- the beginning and the end


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_it_leaves_no_thread_and_no_descriptor(
    rt: Runtime, farm: Any, dial: Callable[..., Any], eventually: Eventually
) -> None:
    shards = [farm.shard(), farm.shard()]
    fds, tasks = open_fds(), {task.name for task in rt.tasks()}
    with build(rt, [shard.endpoint for shard in shards], workers=2, io_threads=2) as coordinator:
        assert coordinator.connected()
        client = dial(coordinator.host.address)
        assert client.call("FT.SEARCH", "idx", "a") == [b"a", 2]
        assert client.call("CONFIG", "SET", "WORKERS", 4) == b"OK"
        client.close()
    assert not coordinator.connected()
    assert {task.name for task in rt.tasks()} <= tasks | {"MainThread"}
    # The shards see the connections go a moment later.
    eventually(lambda: not any(farm.call(lambda: [shard.peers for shard in shards])))
    assert open_fds() <= fds
    coordinator.stop()


def test_it_can_be_stopped_without_having_been_started(rt: Runtime) -> None:
    fds = open_fds()
    build(rt, [MREndpoint(Address(port=1))], workers=2).stop()
    assert open_fds() <= fds


def test_a_taken_address_leaves_nothing_running(rt: Runtime, make_site: MakeSite, eventually: Eventually) -> None:
    site = make_site()
    fds, tasks = open_fds(), set(rt.tasks())
    with (
        pytest.raises(OSError, match="in use"),
        build(rt, [shard.endpoint for shard in site.shards], address=site.host.address, io_threads=2),
    ):
        pytest.fail("it was started")
    assert [task for task in rt.tasks() if task not in tasks] == []
    # The shards see the connections go a moment later.
    eventually(lambda: open_fds() <= fds)
    assert site.client().call("PING") == b"PONG"


@pytest.mark.parametrize(("workers", "mode"), [(1, "async"), (0, "async"), (0, "block")])
def test_a_stop_does_not_wait_for_silent_shards(
    make_site: MakeSite, eventually: Eventually, workers: int, mode: str
) -> None:
    site = make_site(workers=workers, changes={"main_mode": mode})
    site.hold()
    site.search("a", "b")
    eventually(lambda: site.held() >= 2)
    ended = site.rt.spawn(site.coordinator.stop, name="stop")
    assert ended.join(LONG_NS)
    assert site.queries.statistics()["replied"] == 0


def test_without_shards_it_starts_and_says_so(rt: Runtime, farm: Any, dial: Callable[..., Any]) -> None:
    there, gone = farm.shard(), farm.shard()
    farm.call(gone.kill)
    coordinator = build(rt, [there.endpoint, gone.endpoint], workers=1, topology_validation_timeout_ms=1)
    assert not coordinator.start(50 * NS_PER_MS)
    client = dial(coordinator.host.address)
    assert client.call("PING") == b"PONG"
    assert str(client.call("FT.SEARCH", "idx", "a")) == "ERR query failed: no connection to node-1"
    assert any("no connection to" in line for level, line in coordinator.logs if level == "warning")
    coordinator.stop()


def test_started_means_that_queries_go_through(make_site: MakeSite) -> None:
    for _ in range(5):
        assert make_site(workers=0, io_threads=2).cluster.ready


def test_connected_counts_the_runtimes_that_have_not_begun(rt: Runtime, farm: Any, eventually: Eventually) -> None:
    coordinator = build(rt, [farm.shard().endpoint], workers=1, io_threads=2)
    first, second = coordinator.cluster.io_runtimes
    first.start()
    eventually(lambda: first.ready)
    assert [state for states in coordinator.cluster.fill_state_dict().values() for state in states] == ["Connected"]
    assert not coordinator.connected()
    second.start()
    eventually(coordinator.connected)
    coordinator.stop()


# ---- what it says


def test_logs_are_kept_and_passed_on(rt: Runtime) -> None:
    heard: list[tuple[str, str]] = []
    coordinator = Coordinator(
        rt,
        CoordinatorOptions(workers=2),
        [MREndpoint(Address(port=1))],
        get_policy("upstream-7410"),
        lambda ident, service_ns: b"",
        log=lambda level, line: heard.append((level, line)),
    )
    assert list(coordinator.logs) == heard == [("notice", "workers threadpool enabled, size 2")]
    for number in range(LOGS_KEPT + 5):
        coordinator._log("debug", str(number))
    assert len(coordinator.logs) == LOGS_KEPT
    assert coordinator.logs[-1] == ("debug", str(LOGS_KEPT + 4))
    assert len(heard) == LOGS_KEPT + 6
    coordinator.stop()


def test_statistics_of_every_part(make_site: MakeSite) -> None:
    site = make_site(workers=2)
    client = site.client()
    assert client.call("FT.SEARCH", "idx", "a") == [b"a", 2]
    assert client.call("CONFIG", "SET", "WORKERS", 1) == b"OK"
    statistics = site.coordinator.statistics()
    assert set(statistics) == {"host", "queries", "resizer", "cluster"}
    assert statistics["host"]["commands"] == 2
    assert statistics["queries"]["replied"] == 1
    assert statistics["resizer"]["resizes"] == 1
    assert statistics["cluster"]["conns_per_node"] == 2
    assert repr(site.coordinator) == f"<Coordinator {site.host.address} workers=1 conns=2>"
