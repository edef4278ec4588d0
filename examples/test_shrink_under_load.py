"""WORKERS goes to a smaller number while every worker has a query: in no order may one be lost, or anything hang."""

import pytest


@pytest.mark.interleavings(n=200)
@pytest.mark.parametrize("policy", ["upstream-7410", "coordemu-safe"])
def test_shrink_under_load(sim_coordinator, sim_client, policy):
    coordinator = sim_coordinator(workers=3, policy=policy, shards=2)
    operator, *clients = [sim_client() for _ in range(5)]

    # LOAD: microseconds for which a query takes the module lock at its end, which is what the incident needs.
    queries = [client.send("FT.SEARCH", "idx", f"q{n}", "LOAD", 100) for n, client in enumerate(clients)]
    assert operator.call("CONFIG", "SET", "WORKERS", 1) == b"OK"

    for number, query in enumerate(queries):
        assert query.wait() == [b"q%d" % number, 2]  # its name, and how many shards replied
    assert coordinator.config.workers == 1


@pytest.mark.interleavings(n=200, expect="deadlocked")
def test_the_module_before_the_fix_freezes(sim_coordinator, sim_client):
    sim_coordinator(workers=2, policy="upstream-before")
    operator, client = sim_client(), sim_client()
    query = client.send("FT.SEARCH", "idx", "q", "LOAD", 100)
    operator.call("CONFIG", "SET", "WORKERS", 0)
    query.wait()
