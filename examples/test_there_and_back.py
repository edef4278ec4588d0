"""WORKERS to 0 and back at once, under load: a worker of the old crew may still need what the next push holds."""

import pytest


def there_and_back(sim_coordinator, sim_client, policy):
    sim_coordinator(workers=2, policy=policy)
    operator, late, *clients = [sim_client() for _ in range(4)]
    queries = [client.send("FT.SEARCH", "idx", "q", "LOAD", 100) for client in clients]
    for workers in (0, 2):
        assert operator.call("CONFIG", "SET", "WORKERS", workers) == b"OK"
    queries.append(late.send("FT.SEARCH", "idx", "q", "LOAD", 100))
    for query in queries:
        assert query.wait() == [b"q", 1]


@pytest.mark.interleavings(n=300)
def test_survives(sim_coordinator, sim_client):
    there_and_back(sim_coordinator, sim_client, "coordemu-safe")


@pytest.mark.interleavings(n=2000, expect="deadlocked")
@pytest.mark.parametrize("policy", ["upstream-before", "upstream-7410", "shrink-drain-event"])
def test_freezes(sim_coordinator, sim_client, policy):
    there_and_back(sim_coordinator, sim_client, policy)
