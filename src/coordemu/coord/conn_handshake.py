"""ConnHandshake: what a new connection must say before it may take commands.

Role: one decision and one command. RESP2 with a password: AUTH. RESP3: HELLO 3, which carries the password too. RESP2
without a password: nothing, since it is what every server speaks at first.

Thread: I/O. Upstream: MRConn_SendAuth in src/coord/rmr/conn.c, which takes the module lock to fetch the cluster's
secret; here `ConnOptions.secret` may do so. Left out: user names other than the default one.
"""

from __future__ import annotations

from typing import Any

import hiredis

from coordemu.coord.conn_options import ConnOptions
from coordemu.coord.endpoint import MREndpoint


def pack_command(*words: bytes | str | float) -> bytes:
    """A command as RESP bytes, to be sent to any number of connections. Thread: any."""
    pack: Any = hiredis.pack_command
    packed: bytes = pack(words)
    return packed


def needs_handshake(options: ConnOptions, endpoint: MREndpoint) -> bool:
    """Whether AUTH or HELLO must be sent first. Thread: any."""
    return options.protocol == 3 or endpoint.password is not None or options.secret is not None


def handshake_command(options: ConnOptions, endpoint: MREndpoint) -> bytes:
    """The packed AUTH or HELLO. Thread: I/O. May block: as long as `ConnOptions.secret` does."""
    password = endpoint.password
    if password is None and options.secret is not None:
        password = options.secret()
    if options.protocol == 2:
        return pack_command("AUTH", password or "")
    if password is None:
        return pack_command("HELLO", 3)
    return pack_command("HELLO", 3, "AUTH", "default", password)
