"""Microbenchmarks for pytest-benchmark: ``python -m pytest bench/test_micro.py``; its options compare, save and plot.

Role: the three smallest questions in a form that a project can keep a history of and compare commits with
(``--benchmark-autosave``, ``--benchmark-compare``): what the last reply of a drain costs on the thread that takes
it, what the pending check costs, what the counts of a read cost. Each stands in a group with its baseline, so a
table is one question. `bench/run_all.py` has the rest, with interleaved runs. They assert on what is computed, never
on a time.

Thread: pytest's. Upstream: the write-up's has_pending_operations and its scan. Left out: sockets and other threads.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from coordemu.native import PendingTable

CONNS_PER_NODE = 13
READ = 16


def table_of(connections: int) -> PendingTable:
    """A table with that many connections, 13 per node, all connected and nothing outstanding."""
    table = PendingTable("micro")
    for number in range(connections):
        node, index = divmod(number, CONNS_PER_NODE)
        table.attach(node, index)
        table.set_connected(node, index, True)
    return table


@pytest.mark.benchmark(group="the last reply of a drain, on the thread that takes it")
@pytest.mark.parametrize("connections", [13, 13_000])
def test_last_reply_completes_the_drain(benchmark: Any, connections: int) -> None:
    """The count that completes an armed drain and says so: what an event-driven drain waits for."""
    table = table_of(connections)
    table.begin_drain(1)

    def one_outstanding() -> tuple[tuple[int, int, int], dict[str, int]]:
        table.count(0, 1, 1)
        return (0, 1, -1), {}

    assert benchmark.pedantic(table.count, setup=one_outstanding, rounds=2000) is True


@pytest.mark.benchmark(group="is anything pending on the surplus")
@pytest.mark.parametrize("connections", [13, 1_000, 100_000])
def test_any_pending(benchmark: Any, connections: int) -> None:
    """The check as the layers call it; flat with the number of connections."""
    assert benchmark(table_of(connections).any_pending, 1) is False


@pytest.mark.benchmark(group="is anything pending on the surplus")
@pytest.mark.parametrize("connections", [13, 1_000, 100_000])
def test_python_loop_over_deques(benchmark: Any, connections: int) -> None:
    """The baseline: upstream's scan, in Python."""
    queues: list[deque[object]] = [deque() for number in range(connections) if number % CONNS_PER_NODE]

    def scan() -> bool:
        for replies in queues:  # noqa: SIM110 - any() over a generator is slower, and this is the baseline at its best
            if replies:
                return True
        return False

    assert benchmark(scan) is False


@pytest.mark.benchmark(group="a read of 16 replies")
def test_deque_with_exact_counts(benchmark: Any) -> None:
    """Callbacks in a deque, counts in C, two calls per batch."""
    table, replies = table_of(13), deque[object]()
    batch = [None] * READ

    def read() -> None:
        replies.extend(batch)
        table.count(0, 1, READ)
        for _ in range(READ):
            replies.popleft()
        table.count(0, 1, -READ)

    benchmark(read)
    assert table.replies(0, 1) == 0


@pytest.mark.benchmark(group="a read of 16 replies")
def test_bare_deque(benchmark: Any) -> None:
    """The baseline: nobody counts."""
    replies, batch = deque[object](), [None] * READ

    def read() -> None:
        replies.extend(batch)
        for _ in range(READ):
            replies.popleft()

    benchmark(read)
    assert not replies
