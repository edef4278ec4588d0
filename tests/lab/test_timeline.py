"""The timeline's rows and the call chain, from what was recorded and from nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from coordemu.coord.coordinator import Coordinator
from coordemu.coord.drain_receipt import DrainReceipt
from coordemu.coord.resize_policy import get_policy
from coordemu.coord.resize_record import JournalEntry, Resize
from coordemu.lab.load import QueryLoad
from coordemu.lab.prober import PingProber
from coordemu.lab.result import PingSums, TimelineRow
from coordemu.lab.timeline import ALIKE_SHOWN, call_chain, timeline
from coordemu.runtime.base import NS_PER_MS, TraceEvent

SENT_NS = 1_000 * NS_PER_MS


def at(ms: float) -> int:
    return SENT_NS + round(ms * NS_PER_MS)


@pytest.fixture
def resize() -> Resize:
    """12 to 0, returned, its receipt there."""
    one = Resize(get_policy("upstream-7410"), 12, 0, 13, 1, at(0.5), at(3))
    one.journal = [JournalEntry(at(0.5), "CONFIG SET WORKERS 0", "accepted"), JournalEntry(at(3), "returns", "OK")]
    one.receipts = [DrainReceipt("drained", 13, 1, at(1), at(20), 19, at(20), 33, 33, 0, 0, 0, 1, 36)]
    return one


def rows(
    resize: Resize,
    notes: Sequence[JournalEntry] = (),
    ping_ms: float | None = 2,
    first_after_ms: float | None = 40,
    alive: int = 0,
    events: Sequence[TraceEvent] = (),
    verdict: str = "healthy",
) -> tuple[TimelineRow, ...]:
    asked_ns: list[int] = []

    def first_answer_after(at_ns: int) -> int | None:
        asked_ns.append(at_ns)
        return None if ping_ms is None else at(ping_ms)

    prober = SimpleNamespace(first_answer_after=first_answer_after, sums=lambda: PingSums(9, 9, 17.4))
    load = SimpleNamespace(first_after_ns=None if first_after_ms is None else at(first_after_ms))
    coordinator = SimpleNamespace(workers=SimpleNamespace(num_threads_alive=alive))
    told = timeline(
        resize,
        notes,
        SENT_NS,
        cast(PingProber, prober),
        cast(QueryLoad, load),
        cast(Coordinator, coordinator),
        events,
        verdict,
    )
    assert asked_ns == [resize.started_ns]
    return told


def test_rows_in_order_of_time(resize: Resize) -> None:
    notes = [JournalEntry(at(1.5), "a shard is killed", "shard 0")]
    events = [
        TraceEvent(at(-5), "main", "barrier_wait", "Broadcast.wait", "an older one"),
        TraceEvent(at(8), "worker", "barrier_wait", "Broadcast.wait", "all 12 threads came"),
        TraceEvent(at(9), "main", "set_workers", "Resizer.set_workers", "no row"),
    ]
    assert rows(resize, notes, events=events) == (
        TimelineRow(0.5, "CONFIG SET WORKERS 0", "accepted"),
        TimelineRow(1.5, "a shard is killed", "shard 0"),
        TimelineRow(2.0, "PING", "answered; longest gap 17 ms"),
        TimelineRow(3.0, "returns", "OK"),
        TimelineRow(8.0, "threads leave", "all 12 threads came"),
        TimelineRow(40.0, "new queries", "answered"),
    )


def test_what_never_happened_stands_last_without_a_time(resize: Resize) -> None:
    resize.returned_ns, resize.receipts = 0, []
    told = rows(resize, ping_ms=None, first_after_ms=None, alive=9, verdict="deadlocked")
    assert told[2:] == (
        TimelineRow(None, "CONFIG SET returns", "never"),
        TimelineRow(None, "stop 12 connections per node", "never"),
        TimelineRow(None, "PING", "no answer; longest gap 17 ms"),
        TimelineRow(None, "new queries", "none answered"),
        TimelineRow(None, "9 surplus threads", "still there (deadlocked)"),
    )


def test_a_resize_that_grows_stops_nothing(resize: Resize) -> None:
    resize.workers_before, resize.workers_after, resize.receipts = 0, 12, []
    assert [row for row in rows(resize, alive=13) if row.at_ms is None] == []


def test_many_alike_become_one(resize: Resize) -> None:
    resize.journal += [JournalEntry(at(10 + n), "drain", f"number {n}") for n in range(64)]
    resize.journal += [JournalEntry(at(5 + n), "stop 1 connections", f"on {n}") for n in range(ALIKE_SHOWN)]
    told = rows(resize)
    assert [row for row in told if row.action == "drain"] == [TimelineRow(73.0, "drain", "number 63 (the last of 64)")]
    assert [row.result for row in told if row.action == "stop 1 connections"] == ["on 0", "on 1", "on 2", "on 3"]
    assert [row.at_ms for row in told] == sorted(row.at_ms or 0 for row in told)


def test_the_chain_begins_with_the_command_and_is_bounded() -> None:
    events: list[Any] = [TraceEvent(at(n - 10), f"task {n}", "theirs", "ours", f"step {n}") for n in range(500)]
    chain = call_chain(events, SENT_NS)
    assert len(chain) == 200
    assert (chain[0].at_ms, chain[0].thread, chain[0].detail) == (0.0, "task 10", "step 10")
    assert (chain[0].upstream, chain[0].ours) == ("theirs", "ours")
    assert chain[-1].at_ms == 199.0
