"""What the data commands of an embedded shard share in reading arguments and in writing replies.

Role: `coordemu.resp_encode` writes what the host sends as well; here is what only data commands need: the absent array,
pushes, doubles, sets, and the refusals that many of them have in common, in the words of Redis 6.2, which clients sort
errors by. A handler that refuses raises `Refused` before it has changed anything; `coordemu.shards.command_table` turns
that into the reply.

Numbers are read as strictly as Redis reads them: no blanks, no plus sign, no leading zero in an integer, 64 bits.

Thread: any; pure functions. Upstream: the reply and argument functions of a Redis server. Left out: hexadecimal
floats, big numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from coordemu import resp_encode as resp

MIN_INTEGER, MAX_INTEGER = -(2**63), 2**63 - 1
QUEUED = b"+QUEUED\r\n"
_INTEGER = re.compile(rb"0|-?[1-9][0-9]{0,18}")
_FLOAT = re.compile(rb"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|inf(?:inity)?)", re.IGNORECASE)


class Refused(Exception):
    """A command that a handler does not carry out. text: of the error reply, its code first."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.reply = resp.error(text)


def wrong_type() -> Refused:
    """The key holds a value of another type."""
    return Refused("WRONGTYPE Operation against a key holding the wrong kind of value")


def syntax_error() -> Refused:
    """An option that is unknown, or stands where it may not."""
    return Refused("ERR syntax error")


def shown(word: bytes) -> str:
    """A word of a command, for an error's text: no more than 64 bytes of it."""
    return word[:64].decode(errors="replace")


def wrong_arity(name: bytes) -> Refused:
    """The command has too few or too many words. name: as the client wrote it."""
    return Refused(f"ERR wrong number of arguments for '{shown(name).lower()}' command")


def as_integer(word: bytes) -> int | None:
    """The number that a word is, None when it is none or has more than 64 bits."""
    if _INTEGER.fullmatch(word) is None:
        return None
    number = int(word)
    return number if MIN_INTEGER <= number <= MAX_INTEGER else None


def read_integer(word: bytes, otherwise: str = "ERR value is not an integer or out of range") -> int:
    """As `as_integer`. Raises Refused with the text `otherwise`."""
    number = as_integer(word)
    if number is None:
        raise Refused(otherwise)
    return number


def read_float(word: bytes, otherwise: str = "ERR value is not a valid float") -> float:
    """The number that a word is, infinite ones among them. Raises Refused with the text `otherwise`."""
    if _FLOAT.fullmatch(word) is None:
        raise Refused(otherwise)
    return float(word)


def null_array(protocol: int) -> bytes:
    """The absent array. protocol: 2 (an array of length -1) or 3 (the absent value)."""
    return b"_\r\n" if protocol == 3 else b"*-1\r\n"


def bulks(items: Iterable[bytes]) -> bytes:
    """An array of strings."""
    return resp.array([b"$%d\r\n%b\r\n" % (len(item), item) for item in items])


def bulk_or_null(data: bytes | None, protocol: int) -> bytes:
    """A string, or that there is none."""
    return resp.null(protocol) if data is None else resp.bulk(data)


def string_set(items: Iterable[bytes], protocol: int) -> bytes:
    """A set of strings: RESP3's own type, in RESP2 an array."""
    encoded = bulks(items)
    return b"~" + encoded[1:] if protocol == 3 else encoded


def push(items: list[bytes], protocol: int) -> bytes:
    """What a server sends unasked: RESP3's own type, in RESP2 an array. items: each encoded already."""
    encoded = resp.array(items)
    return b">" + encoded[1:] if protocol == 3 else encoded


def double(number: float, protocol: int) -> bytes:
    """A score: RESP3's own type, in RESP2 a string, with 17 digits in both."""
    text = b"%.17g" % number
    return b",%b\r\n" % text if protocol == 3 else resp.bulk(text)
