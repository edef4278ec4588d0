"""Waits by sleeping, and waits at a drain gate, as the wait-for graph should see them.

Role: `poll_until` is upstream's usleep loops with a name; `drain_wait` hands the thread over to the gate's own
wait, in C. Both register what the task waits for, which the primitives do for themselves.

Thread: any; both block. Upstream: redisearch_thpool_pause and remove_threads (1 microsecond), the write-up's drain
(10 ms). Left out: interrupting a sleep before its interval is over.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from coordemu.runtime.base import NS_PER_S, DrainGate, DrainWait, OwedBy, Waitable
from coordemu.runtime.thread_task import TaskRegistry, Wait
from coordemu.runtime.waitables import PollWait


def poll_until(
    registry: TaskRegistry,
    predicate: Callable[[], bool],
    interval_ns: int,
    why: str,
    timeout_ns: int | None,
    owed_by: OwedBy | None,
) -> bool:
    """As `ThreadsRuntime.poll_until` says."""
    if interval_ns < 0:
        raise ValueError(f"poll interval {interval_ns} ns")
    if predicate():
        return True
    if timeout_ns is not None and timeout_ns <= 0:
        return False
    wait = Wait(registry.current(), PollWait(why, owed_by)).enter()
    deadline_ns = None if timeout_ns is None else wait.since_ns + timeout_ns
    try:
        while True:
            nap_ns = interval_ns
            if deadline_ns is not None:
                nap_ns = min(nap_ns, deadline_ns - time.monotonic_ns())
            time.sleep(max(nap_ns, 0) / NS_PER_S)
            if predicate():
                return True
            if deadline_ns is not None and time.monotonic_ns() >= deadline_ns:
                return False
    finally:
        wait.leave()


def drain_wait(registry: TaskRegistry, gate: DrainGate, timeout_ns: int, poll_ns: int | None) -> DrainWait:
    """As `ThreadsRuntime.drain_wait` says. A gate that is no `Waitable` is shown by its name."""
    shown: Waitable = gate if isinstance(gate, Waitable) else PollWait(gate.name, lambda: ("outstanding replies",))
    wait = Wait(registry.current(), shown).enter()
    try:
        if poll_ns is None:
            return gate.wait_for_wake(timeout_ns)
        return gate.wait_by_polling(poll_ns, timeout_ns)
    finally:
        wait.leave()
