"""Ports for servers: from below the range that the kernel gives to outgoing connections.

Role: a shard that is killed and restarted on its port must find it free. A port from the kernel's own range may by
then belong to one of the thousands of connections that the coordinator opens; worse, a client that keeps connecting to
a closed port of that range may one day be given that very port as its own and be connected to itself.

Thread: any. Upstream: none. Left out: asking who holds a port; a listener finds out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

LOWEST_PORT = 10_000
_RANGE_FILE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_STRIDE = 7_919


def server_ports(highest: int = 65_535) -> Iterator[int]:
    """Ports to try, each once, starting at a place that differs from process to process; then 0 (let the kernel
    choose).

    highest: none above it. Thread: any.
    """
    end = min(_ephemeral_start(), highest + 1)
    span = max(0, end - LOWEST_PORT)
    start = os.getpid() * _STRIDE % span if span else 0
    yield from (LOWEST_PORT + (start + step) % span for step in range(span))
    yield 0


def _ephemeral_start() -> int:
    try:
        return int(_RANGE_FILE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 32_768
