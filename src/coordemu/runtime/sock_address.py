"""Sockets for an `Address`: making, naming and judging them.

Role: the few places where TCP and unix sockets, IPv4 and IPv6 differ, kept out of transports and listeners.

Thread: any; a host that is a name is resolved here and blocks, so give addresses where that matters. Upstream:
hiredis' net.c. Left out: trying several addresses of one name (the first is taken), abstract unix sockets.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Any

from coordemu.runtime.base import Address
from coordemu.runtime.stream import StreamSocket

LINGER_ZERO = struct.pack("ii", 1, 0)


def make_socket(address: Address) -> socket.socket:
    """A non-blocking stream socket of the address' family; TCP without Nagle's delay. Raises OSError."""
    family = socket.AF_UNIX if address.path else socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    no_delay(sock)
    return sock


def no_delay(sock: StreamSocket) -> None:
    """Send small writes at once. Nothing happens to a unix socket."""
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def socket_name(address: Address) -> str | tuple[str, int]:
    """The address as the socket calls take it."""
    return address.path or (address.host, address.port)


def to_address(sock: StreamSocket, name: Any, fallback: Address) -> Address:
    """The address for a name that a socket call gave; the fallback for unix sockets, whose peers have no name."""
    if sock.family == socket.AF_UNIX:
        return fallback
    return Address(host=name[0], port=name[1])


def is_self_connected(sock: StreamSocket) -> bool:
    """True when a TCP socket got itself as its peer.

    A connect to a local port that nobody listens on can hit, as its own port, the very port it connects to; the kernel
    then joins the socket to itself. Reconnect loops do find it. Raises OSError when the peer has gone.
    """
    return sock.family != socket.AF_UNIX and sock.getsockname() == sock.getpeername()


def reset_on_close(sock: StreamSocket) -> None:
    """Have a TCP close drop what the kernel still holds, and reset the peer."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)


def reason_text(error: OSError | int) -> str:
    """The system's words for an error: "Connection refused", "Connection reset by peer"."""
    if isinstance(error, int):
        return os.strerror(error)
    return error.strerror or str(error)
