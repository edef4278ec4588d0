"""Writing RESP: the few reply types that the host and the embedded shard send, in protocol 2 and 3.

Role: hiredis reads RESP and packs commands, but writes no replies; these seven functions do. They return bytes, so that
a connection can join the replies of a whole read into one write.

Thread: any; pure functions. Upstream: RedisModule_ReplyWith* of the module API, RESP as documented by Redis.
Left out: doubles, big numbers, sets, pushes and attributes, which no command here sends.
"""

from __future__ import annotations

from collections.abc import Sequence

OK = b"+OK\r\n"
PONG = b"+PONG\r\n"


def simple(text: str) -> bytes:
    """A status reply. text: one line, without CR or LF."""
    return b"+%b\r\n" % text.encode()


def error(text: str) -> bytes:
    """An error reply. text: its code and message; line breaks in it become spaces, since one would end the reply."""
    return b"-%b\r\n" % text.replace("\r", " ").replace("\n", " ").encode(errors="replace")


def integer(number: int) -> bytes:
    """An integer reply. number: within 64 bits, signed."""
    return b":%d\r\n" % number


def bulk(data: bytes) -> bytes:
    """A string of any bytes."""
    return b"$%d\r\n%b\r\n" % (len(data), data)


def null(protocol: int) -> bytes:
    """The absent value. protocol: 2 (a bulk string of length -1) or 3 (its own type)."""
    return b"_\r\n" if protocol == 3 else b"$-1\r\n"


def array(items: Sequence[bytes]) -> bytes:
    """An array. items: each encoded already."""
    return b"*%d\r\n%b" % (len(items), b"".join(items))


def mapping(pairs: Sequence[tuple[bytes, bytes]], protocol: int) -> bytes:
    """A map: RESP3's own type, in RESP2 a flat array. pairs: keys and values, encoded already."""
    body = b"".join([part for pair in pairs for part in pair])
    return b"%%%d\r\n%b" % (len(pairs), body) if protocol == 3 else b"*%d\r\n%b" % (2 * len(pairs), body)
