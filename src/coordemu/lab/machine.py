"""What a run was measured on, and what the process holds: the facts beside the figures.

Role: every result carries them, since figures of different machines are never compared; the counts of threads and
descriptors before and after a run are how a leak is seen. What a run needs of its surroundings is here as protocols,
shards (`Fleet`) and counts (`Counter`), so that the same run takes place on real threads and in the simulator.

Thread: any. Upstream: none. Left out: frequencies and temperatures, which a virtual machine does not tell.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Protocol

import psutil

from coordemu.runtime.base import Address


def _cpu() -> str:
    """The processor's name, as the kernel tells it; "unknown" where it does not."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    except OSError:
        return "unknown"


def describe_machine() -> dict[str, object]:
    """Processor, cores, memory, system and versions."""
    return {
        "cpu": _cpu(),
        "cpus": os.cpu_count(),
        "memory_mb": psutil.virtual_memory().total // (1 << 20),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "switch_interval_s": sys.getswitchinterval(),
        "cffi": version("cffi"),
        "hiredis": version("hiredis"),
    }


def count_threads() -> int:
    """OS threads of this process."""
    return int(psutil.Process().num_threads())


def count_resources() -> dict[str, int]:
    """OS threads, open file descriptors, sockets and resident memory (KiB) of this process."""
    process = psutil.Process()
    return {
        "threads": process.num_threads(),
        "fds": process.num_fds(),
        "sockets": len(process.net_connections(kind="all")),
        "rss_kib": process.memory_info().rss // 1024,
    }


class Counter(Protocol):
    """What counts the resources that a run takes and should give back."""

    def count(self) -> dict[str, int]:
        """All of them, by name."""
        ...

    def settled(self, before: Mapping[str, int]) -> bool:
        """Whether what ends by itself a moment later than it was told to has gone, since that was counted."""
        ...


class ProcessCounter:
    """Counts those of this process."""

    def count(self) -> dict[str, int]:
        """As `count_resources`."""
        return count_resources()

    def settled(self, before: Mapping[str, int]) -> bool:
        """No more threads than before: a joined thread is still the kernel's for a moment."""
        return count_threads() <= before["threads"]


class Fleet(Protocol):
    """The shards of a run, whatever stands behind them: `ShardFleet`, `InProcessFleet`.

    kind: which commands they understand, "embedded", "redis" or "cluster".
    """

    kind: str

    def __len__(self) -> int: ...

    @property
    def addresses(self) -> list[Address]:
        """Each shard's address, by index."""
        ...

    @property
    def password(self) -> str | None:
        """The password of every shard, None for none."""
        ...

    def kill(self, index: int) -> None:
        """End one shard as by force. May block."""
        ...

    def restart(self, index: int) -> None:
        """Bring one shard back at its address. May block."""
        ...

    def statistics(self) -> Sequence[dict[str, int]]:
        """Each shard's statistics, by index. May block."""
        ...
