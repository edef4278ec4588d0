"""StubLoop: a loop whose connections stand at once and lead nowhere, so that a connection's own work can be measured.

Role: `bench.replies` times what MRConn does per command and reply, without the kernel. What is written is forgotten;
replies are handed to the connection by the benchmark itself.

Thread: the caller's. Upstream: none. Left out: everything that the measured paths do not touch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from coordemu.coord.conn import MRConn
from coordemu.coord.conn_context import ConnContext
from coordemu.coord.conn_options import ConnOptions
from coordemu.coord.endpoint import MREndpoint
from coordemu.native import PendingTable
from coordemu.runtime.base import Address, Loop, Transport, TransportHandler
from coordemu.runtime.threads import ThreadsRuntime


class StubTransport:
    """Open, and takes any write."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.connected, self.closed, self.buffered = True, False, 0

    def write(self, data: bytes) -> None:
        """Forget it."""

    def close(self) -> None:
        """Nothing."""

    def abort(self) -> None:
        """Nothing."""

    def pause_reading(self) -> None:
        """Nothing."""

    def resume_reading(self) -> None:
        """Nothing."""


class StubLoop:
    """Makes `StubTransport`s."""

    name = "stub"

    def connect(self, address: Address, handler: TransportHandler, timeout_ns: int | None = None) -> Transport:
        """One that is connected. The handler is told by `connected_conn`."""
        return StubTransport(address)


def connected_conn(table: PendingTable, index: int = 0) -> MRConn:
    """A Connected connection on a stub loop, counted in the table."""
    log: Callable[[str, str], None] = lambda level, line: None  # noqa: E731
    context = ConnContext(ThreadsRuntime(seed=1), cast(Loop, StubLoop()), ConnOptions(), table, log)
    conn = MRConn(context, MREndpoint(Address()), 0, index)
    conn.on_connect()
    return conn
