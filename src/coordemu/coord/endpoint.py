"""MREndpoint: where one shard is reached, and with which password.

Role: a value at the bottom of the chain. The topology holds one per node; a connection pool compares its own with
the new one to decide whether a topology update leaves it alone or rebuilds it; a connection connects to it.

Thread: frozen, any. Upstream: MREndpoint (src/coord/rmr/endpoint.h). Left out: user names, TLS, and the parsing of
"password@host:port" (coordemu.shards parses URLs).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from coordemu.runtime.base import Address


@dataclass(frozen=True, slots=True)
class MREndpoint:
    """A shard's address and the password that it asks for.

    address: TCP pair or unix socket.  password: None when the shard asks for none; never shown.
    """

    address: Address
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return str(self.address)
