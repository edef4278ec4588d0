"""What a run was measured on, and what the process holds: the facts beside the figures.

Role: every result carries them, since figures of different machines are never compared; the counts of threads and
descriptors before and after a run are how a leak is seen.

Thread: any. Upstream: none. Left out: frequencies and temperatures, which a virtual machine does not tell.
"""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import version

import psutil


def describe_machine() -> dict[str, object]:
    """Cores, memory, system and versions."""
    return {
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
