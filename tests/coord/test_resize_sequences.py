"""Any sequence of sizes, under load: the sums add up, and in the end there is what was asked for last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from coordemu.runtime.base import NS_PER_MS, NS_PER_S

LONG_NS = 10 * NS_PER_S
CLIENTS = 3
MakeSite = Callable[..., Any]
Eventually = Callable[..., Any]

POLICIES = (
    "upstream-7410", "shrink-drain-event", "shrink-drain-timer", "upstream-7193", "upstream-7194", "writeup-fix",
)  # fmt: skip
changes = st.lists(
    st.one_of(
        st.tuples(st.just("WORKERS"), st.integers(0, 4)),
        st.tuples(st.just("CONN_PER_SHARD"), st.sampled_from([0, 1, 2, 6])),
    ),
    min_size=1,
    max_size=8,
)


class Load:
    """Clients with a query under way each, one after the other, on tasks of their own; some load documents."""

    def __init__(self, site: Any) -> None:
        self.site = site
        self.stop = site.rt.event("stop the load")
        self.sent = 0
        self.wrong: list[Any] = []
        self.tasks = [
            site.rt.spawn(self.run, site.client(), number, name=f"client {number}") for number in range(CLIENTS)
        ]

    def run(self, client: Any, number: int) -> None:
        turn = 0
        while not self.stop.is_set():
            ident = f"{number}.{turn}"
            reply = client.call("FT.SEARCH", "idx", ident, "LOAD", turn % 2)
            if reply != [ident.encode(), 2]:
                self.wrong.append(reply)
            turn += 1
        self.sent += turn

    def end(self) -> int:
        self.stop.set()
        assert all(task.join(LONG_NS) for task in self.tasks)
        for client in self.site.clients:
            client.close()
        self.site.clients.clear()
        return self.sent


@pytest.fixture(params=[(policy, io_threads) for policy in POLICIES for io_threads in (1, 2)], ids=str)
def site(request: pytest.FixtureRequest, make_site: MakeSite) -> Any:
    """A site whose shards send what they have to say every millisecond, so that replies are in flight at all times."""
    policy, io_threads = request.param
    it = make_site(workers=2, io_threads=io_threads, policy=policy, changes={"drain_poll_ms": 1})
    it.hold()

    def breathe() -> None:
        for shard in it.shards:
            shard.release()

    timer = it.farm.call(lambda: it.farm.loop.timer(breathe, "breath"))
    it.farm.call(lambda: timer.start(NS_PER_MS, NS_PER_MS))
    return it


# One site goes through all the examples, so there is nothing to replay or to shrink.
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(sequence=changes)
def test_any_sequence_under_load(site: Any, eventually: Eventually, sequence: list[tuple[str, int]]) -> None:
    before = site.queries.statistics()["submitted"]
    load = Load(site)
    operator = site.client()
    eventually(lambda: site.queries.statistics()["submitted"] >= before + CLIENTS)
    for option, size in sequence:
        if option == "WORKERS" and site.config.workers == 0:
            # From 0 up only when the last thread has gone: a query that revives the pool would have main wait for
            # threads that wait for main (test_resize_incident.py has that case).
            eventually(lambda: site.workers.num_threads_alive == 0)
        while (answer := operator.call("CONFIG", "SET", option, size)) != b"OK":
            assert str(answer) == "ERR the last change of WORKERS has not ended"
            assert site.resizer.policy.overlap == "refuse"
    sent = load.end()
    workers, per_shard = site.config.workers, site.config.conn_per_shard
    assert dict(sequence).get("WORKERS", workers) == workers
    assert dict(sequence).get("CONN_PER_SHARD", per_shard) == per_shard
    # Every query was answered, and by every shard.
    assert load.wrong == []
    submitted, _, failed = site.sums()
    assert (submitted - before, failed) == (sent, 0)
    # Threads and connections are as many as were asked for last.
    assert site.workers.num_threads == workers
    eventually(lambda: site.workers.num_threads_alive <= workers)
    threads = site.cluster.num_io_threads
    each = -(-(per_shard or workers + 1) // threads)
    eventually(lambda: not site.resizer.under_way)
    eventually(lambda: site.states() == ["Connected"] * (each * threads * 2))
    assert (site.cluster.conns_per_node, site.queries.gate.mode) == (each, "open")
    eventually(lambda: site.cluster.statistics()["closing"] == 0)
    eventually(lambda: site.cluster.pending_total(0) == 0)
    assert all(resize.complete and not resize.error for resize in site.resizer.history)
    for resize in site.resizer.history:
        for receipt in resize.receipts:
            assert (receipt.failed, receipt.lost) == (0, 0)
            assert receipt.delivered <= receipt.pending
