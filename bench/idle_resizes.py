"""IdleResizes: a coordinator that is resized again and again, and what the process holds in between.

Role: the part of `bench.idle` that looks for leaks. A coordinator with three embedded shards goes from SMALL to LARGE
workers and back by CONFIG SET, with no query but the one that starts the threads; each resize is over (its receipts are
in, the surplus has closed, all connections stand, the threads have ended) before the next. At SMALL, threads,
descriptors, sockets, the bytes that Python has given out and the resident set are read. What is bounded by number, and
therefore grows for a while, is not kept: the trace, the log, and the resizer's record of
the last 1,024 resizes.

Thread: the caller's. Blocks. Upstream: none. Left out: resizes under load, which are the soak's.
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from coordemu.coord.conn_handshake import pack_command
from coordemu.coord.coordinator import Coordinator, CoordinatorOptions
from coordemu.coord.endpoint import MREndpoint
from coordemu.coord.resize_policy import get_policy
from coordemu.lab.machine import count_resources
from coordemu.lab.operator import Operator
from coordemu.runtime.threads import ThreadsRuntime
from coordemu.shards.shard_process import ShardProcess

SHARDS, SMALL, LARGE = 3, 2, 14
WARM_UP = 10
WAIT_S = 30.0
POLICY = "shrink-drain-event"


class Untraced(ThreadsRuntime):
    """Keeps no trace."""

    def trace(self, upstream: str, ours: str, detail: str = "") -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True)
class Held:
    """What the process held after that many resizes."""

    resizes: int
    threads: int
    fds: int
    sockets: int
    traced: int
    rss_kib: int

    @property
    def counts(self) -> tuple[int, int, int]:
        """What must be the same whenever the size is."""
        return self.threads, self.fds, self.sockets

    def __str__(self) -> str:
        return (
            f"{self.threads} threads, {self.fds} descriptors, {self.sockets} sockets, "
            f"{self.traced / 1024:,.1f} KiB given out, {self.rss_kib / 1024:,.1f} MiB resident"
        )


def resize_often(resizes: int, readings: int, told: Callable[[str], None]) -> list[Held]:
    """Read at the start, and `readings` times evenly over that many resizes, of which each part has an even number.

    Raises ValueError otherwise, ShardError, OSError; RuntimeError when a resize is not over in time. tracemalloc runs
    meanwhile.
    """
    if resizes % (2 * readings):
        raise ValueError(f"{resizes} resizes do not make {readings} parts that end at the small size")
    rt = Untraced(seed=1)
    was_tracing = tracemalloc.is_tracing()
    tracemalloc.start()
    try:
        with ExitStack() as stack:
            shards = stack.enter_context(ShardProcess(rt, SHARDS))
            coordinator = Coordinator(
                rt,
                CoordinatorOptions(workers=SMALL),
                [MREndpoint(address) for address in shards.endpoints],
                get_policy(POLICY),
                lambda query_id, service_ns: pack_command("PING"),
            )
            stack.enter_context(coordinator)
            operator = Operator(rt, coordinator.host.address)
            stack.callback(operator.close)
            operator.call("FT.SEARCH", "idx", "the first", give_up=partial(_is_late, time.monotonic() + WAIT_S))
            _resize(coordinator, operator, WARM_UP)
            found = [_read(coordinator, 0)]
            for number in range(1, readings + 1):
                told(f"resizes: {number} of {readings} parts")
                _resize(coordinator, operator, resizes // readings)
                found.append(_read(coordinator, number * resizes // readings))
        return found
    finally:
        if not was_tracing:
            tracemalloc.stop()


def _resize(coordinator: Coordinator, operator: Operator, times: int) -> None:
    for number in range(times):
        size = LARGE if number % 2 == 0 else SMALL
        deadline = time.monotonic() + WAIT_S
        operator.call("CONFIG", "SET", "WORKERS", str(size), give_up=partial(_is_late, deadline))
        while not _is_over(coordinator, size):
            if _is_late(deadline):
                raise RuntimeError(f"the resize to {size} is not over after {WAIT_S:g} s: {coordinator!r}")
            time.sleep(0.0005)


def _is_late(deadline: float) -> bool:
    return time.monotonic() > deadline


def _is_over(coordinator: Coordinator, size: int) -> bool:
    return (
        not coordinator.resizer.under_way
        and all(resize.complete for resize in coordinator.resizer.history)
        and coordinator.workers.num_threads_alive == size
        and not coordinator.cluster.statistics()["closing"]
        and coordinator.connected()
    )


def _read(coordinator: Coordinator, resizes: int) -> Held:
    coordinator.resizer.history.clear()
    coordinator.logs.clear()
    gc.collect()
    traced = tracemalloc.get_traced_memory()[0]
    deadline = time.monotonic() + WAIT_S
    held = count_resources()
    while held != (again := count_resources()) and not _is_late(deadline):
        held = again  # a joined thread is still the kernel's for a moment
    return Held(resizes, held["threads"], held["fds"], held["sockets"], traced, held["rss_kib"])
