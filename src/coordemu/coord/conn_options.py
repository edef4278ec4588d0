"""ConnOptions: how connections to shards behave, as a value.

Role: one value for all connections of a cluster, passed down from `coordemu.coord.cluster.MRCluster`.

Thread: frozen, any. Upstream: RSCONN_RECONNECT_TIMEOUT, RSCONN_REAUTH_TIMEOUT, the connect timeout and the protocol of
src/coord/rmr/conn.c. Left out: TLS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from coordemu.runtime.base import NS_PER_MS


@dataclass(frozen=True, slots=True)
class ConnOptions:
    """Delays, limits and protocol.

    reconnect_delay_ms: how long after a failure a connection tries again, for ever.  reauth_delay_ms: the same after
    a refused handshake.  connect_timeout_ms: bound of the transport's handshake; 0: the kernel's own.  All are 0 or
    more. protocol: 2, or 3 (HELLO 3 is sent first). deferred_stop: True stops as upstream did at the time of the
    incident: Freeing at once, the disconnect from a timer of 0 ms. secret: asked for the password at each handshake
    when the endpoint has none, on the I/O thread; it may take the module lock, as upstream's does, and so block the
    I/O thread. spin_at_limit: upstream's rule of the work queue, see `coordemu.coord.rq`.
    """

    reconnect_delay_ms: int = 250
    reauth_delay_ms: int = 1000
    connect_timeout_ms: int = 5000
    protocol: int = 2
    deferred_stop: bool = False
    secret: Callable[[], str | None] | None = None
    spin_at_limit: bool = False

    def __post_init__(self) -> None:
        for name in ("reconnect_delay_ms", "reauth_delay_ms", "connect_timeout_ms"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} {getattr(self, name)} is below 0")
        if self.protocol not in (2, 3):
            raise ValueError(f"protocol {self.protocol} is neither 2 nor 3")

    @property
    def connect_timeout_ns(self) -> int | None:
        """As the runtime takes it: None for no limit of our own."""
        return self.connect_timeout_ms * NS_PER_MS or None
