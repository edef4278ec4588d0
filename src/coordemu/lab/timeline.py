"""The timeline of a resize in the shape of the write-up's last table, and the call chain, both from what was recorded.

Role: turns a resize's journal, the prober's and the clients' stamps and the trace into rows. Nothing is told that
was not recorded; a step that never happened is a row without a time.

Thread: the lab's, after the experiment. Upstream: the write-up's table "time, action, result".
Left out: steps of resizes other than the one told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from coordemu.coord.coordinator import Coordinator
from coordemu.coord.resize_record import JournalEntry, Resize
from coordemu.lab.load import QueryLoad
from coordemu.lab.prober import PingProber
from coordemu.lab.result import ChainStep, TimelineRow
from coordemu.runtime.base import NS_PER_MS, TraceEvent

ALIKE_SHOWN = 4


def timeline(
    resize: Resize,
    notes: Sequence[JournalEntry],
    sent_ns: int,
    prober: PingProber,
    load: QueryLoad,
    coordinator: Coordinator,
    events: Sequence[TraceEvent],
    verdict: str,
) -> tuple[TimelineRow, ...]:
    """Rows of one resize, times in ms since its CONFIG SET was sent. notes: what the run itself did meanwhile."""

    def at(ns: int) -> float:
        return (ns - sent_ns) / NS_PER_MS

    rows = [TimelineRow(at(entry.at_ns), entry.action, entry.result) for entry in (*resize.journal, *notes)]
    if not resize.returned_ns:
        rows.append(TimelineRow(None, "CONFIG SET returns", "never"))
    if resize.shrinks and not resize.receipts:
        surplus = max(0, resize.conns_before - resize.conns_after)
        rows.append(TimelineRow(None, f"stop {surplus} connections per node", "never"))
    ping_ns = prober.first_answer_after(max(sent_ns, resize.started_ns))
    gap = f"longest gap {prober.sums().max_gap_ms:.0f} ms"
    rows.append(
        TimelineRow(at(ping_ns) if ping_ns else None, "PING", f"answered; {gap}" if ping_ns else f"no answer; {gap}")
    )
    if load.first_after_ns is not None:
        rows.append(TimelineRow(at(load.first_after_ns), "new queries", "answered"))
    else:
        rows.append(TimelineRow(None, "new queries", "none answered"))
    for step in events:
        # Threads that were told to go leave after their job: the trace saw the last of them at the barrier.
        if step.ours == "Broadcast.wait" and step.at_ns >= sent_ns:
            rows.append(TimelineRow(at(step.at_ns), "threads leave", step.detail))
    alive = coordinator.workers.num_threads_alive
    if resize.shrinks and alive > resize.workers_after:
        rows.append(TimelineRow(None, f"{alive - resize.workers_after} surplus threads", f"still there ({verdict})"))
    rows.sort(key=lambda row: (row.at_ms is None, row.at_ms or 0.0))
    return tuple(_fold(rows))


def _fold(rows: Sequence[TimelineRow]) -> list[TimelineRow]:
    """Rows in order of time, but where an action stands more than `ALIKE_SHOWN` times (64 I/O threads end 64 drains)
    only the last of them, which says so."""
    left = Counter(row.action for row in rows)
    counts = Counter(left)
    folded = []
    for row in rows:
        left[row.action] -= 1
        count = counts[row.action]
        if count <= ALIKE_SHOWN:
            folded.append(row)
        elif not left[row.action]:
            folded.append(TimelineRow(row.at_ms, row.action, f"{row.result} (the last of {count})"))
    return folded


def call_chain(events: Sequence[TraceEvent], sent_ns: int) -> tuple[ChainStep, ...]:
    """The trace from the CONFIG SET on, at most 200 steps."""
    steps = [
        ChainStep((event.at_ns - sent_ns) / NS_PER_MS, event.task, event.upstream, event.ours, event.detail)
        for event in events
        if event.at_ns >= sent_ns
    ]
    return tuple(steps[:200])
