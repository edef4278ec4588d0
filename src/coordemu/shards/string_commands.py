"""The embedded shard's commands for strings: SET with its options, GET, counters.

Role: handlers for `coordemu.shards.command_table`. Counters are strings that are integers of 64 bits, as in Redis.

Thread: the shard's loop. Upstream: t_string.c of a Redis server. Left out: SET's EXAT and PXAT, since the shard's clock
is the runtime's and has no calendar; GETEX, GETDEL, APPEND, ranges, bits, floats.
"""

from __future__ import annotations

from coordemu import resp_encode as resp
from coordemu.runtime.base import NS_PER_MS
from coordemu.shards.shard_replies import (
    MAX_INTEGER,
    MIN_INTEGER,
    Refused,
    bulk_or_null,
    read_integer,
    syntax_error,
)
from coordemu.shards.shard_session import ANY_NUMBER, CommandTable, Session
from coordemu.shards.shard_values import Keyspace

MS_PER_S = 1000
_UNITS_MS = {b"EX": MS_PER_S, b"PX": 1}
_OVERFLOW = "ERR increment or decrement would overflow"


def due_ns(keyspace: Keyspace, units: int, unit_ms: int, command: str) -> int:
    """When a key expires that is to live for so many units, which may be negative.

    command: for the text of Refused, which is raised when that is further away than 64 bits of milliseconds.
    """
    now_ns = keyspace.now_ns()
    if not MIN_INTEGER <= units * unit_ms <= MAX_INTEGER - now_ns // NS_PER_MS:
        raise Refused(f"ERR invalid expire time in {command}")
    return now_ns + units * unit_ms * NS_PER_MS


def add_to(value: bytes | None, change: int, refusal: str) -> int:
    """A counter's next value. refusal: raised as Refused when it is no number."""
    total = (0 if value is None else read_integer(value, refusal)) + change
    if not MIN_INTEGER <= total <= MAX_INTEGER:
        raise Refused(_OVERFLOW)
    return total


def _set(session: Session, command: list[bytes]) -> bytes:
    keyspace = session.shard.keyspace
    if len(command) > 3:
        return _set_with_options(keyspace, command, session.protocol)
    if keyspace.expiry_ns:
        keyspace.expiry_ns.pop(command[1], None)
    if keyspace.typed:
        keyspace.typed.pop(command[1], None)
    keyspace.strings[command[1]] = command[2]
    return resp.OK


def _set_with_options(keyspace: Keyspace, command: list[bytes], protocol: int) -> bytes:
    key = command[1]
    flags, delay = _set_options(command[3:])
    expires_ns: int | None = None
    if delay is not None:
        if delay[0] <= 0:
            raise Refused("ERR invalid expire time in set")
        expires_ns = due_ns(keyspace, *delay, "set")
    reply = resp.OK
    if b"GET" in flags:
        reply = bulk_or_null(keyspace.string(key), protocol)
    exists = keyspace.kind(key) is not None
    if b"NX" in flags if exists else b"XX" in flags:
        return reply if b"GET" in flags else resp.null(protocol)
    keyspace.set_string(key, command[2])
    if expires_ns is not None:
        keyspace.expiry_ns[key] = expires_ns
    elif b"KEEPTTL" not in flags:
        keyspace.expiry_ns.pop(key, None)
    return reply


def _set_options(words: list[bytes]) -> tuple[set[bytes], tuple[int, int] | None]:
    """The flags, and how long the key lives, with the unit in milliseconds. Raises Refused."""
    flags: set[bytes] = set()
    delay: bytes | None = None
    unit_ms = 1
    rest = iter(words)
    for word in rest:
        option = word.upper()
        if option in (b"NX", b"XX", b"GET", b"KEEPTTL"):
            flags.add(option)
        elif option in _UNITS_MS and (delay is None or unit_ms == _UNITS_MS[option]):
            delay = next(rest, None)
            unit_ms = _UNITS_MS[option]
            if delay is None:
                raise syntax_error()
        else:
            raise syntax_error()
    if {b"NX", b"XX"} <= flags or {b"NX", b"GET"} <= flags or (delay is not None and b"KEEPTTL" in flags):
        raise syntax_error()
    return flags, None if delay is None else (read_integer(delay), unit_ms)


def _get(session: Session, command: list[bytes]) -> bytes:
    keyspace = session.shard.keyspace
    value = keyspace.strings.get(command[1])
    if value is None or keyspace.expiry_ns:
        value = keyspace.string(command[1])
    return resp.null(session.protocol) if value is None else resp.bulk(value)


def _mget(session: Session, command: list[bytes]) -> bytes:
    keyspace, protocol = session.shard.keyspace, session.protocol

    def value(key: bytes) -> bytes | None:
        return keyspace.string(key) if keyspace.kind(key) == b"string" else None

    return resp.array([bulk_or_null(value(key), protocol) for key in command[1:]])


def _mset(session: Session, command: list[bytes]) -> bytes:
    if len(command) % 2 == 0:
        raise Refused("ERR wrong number of arguments for MSET")
    for key, value in zip(command[1::2], command[2::2], strict=True):
        _set(session, [b"SET", key, value])
    return resp.OK


def _setnx(session: Session, command: list[bytes]) -> bytes:
    if session.shard.keyspace.kind(command[1]) is not None:
        return resp.integer(0)
    _set(session, command)
    return resp.integer(1)


def _change(session: Session, key: bytes, change: int) -> bytes:
    keyspace = session.shard.keyspace
    total = add_to(keyspace.string(key), change, "ERR value is not an integer or out of range")
    keyspace.strings[key] = b"%d" % total
    return resp.integer(total)


def _incr(session: Session, command: list[bytes]) -> bytes:
    return _change(session, command[1], 1)


def _decr(session: Session, command: list[bytes]) -> bytes:
    return _change(session, command[1], -1)


def _incrby(session: Session, command: list[bytes]) -> bytes:
    return _change(session, command[1], read_integer(command[2]))


def _decrby(session: Session, command: list[bytes]) -> bytes:
    change = read_integer(command[2])
    if change == MIN_INTEGER:
        raise Refused("ERR decrement would overflow")
    return _change(session, command[1], -change)


def _strlen(session: Session, command: list[bytes]) -> bytes:
    return resp.integer(len(session.shard.keyspace.string(command[1]) or b""))


STRING_COMMANDS: CommandTable = {
    b"SET": (_set, 3, ANY_NUMBER),
    b"GET": (_get, 2, 2),
    b"MGET": (_mget, 2, ANY_NUMBER),
    b"MSET": (_mset, 3, ANY_NUMBER),
    b"SETNX": (_setnx, 3, 3),
    b"STRLEN": (_strlen, 2, 2),
    b"INCR": (_incr, 2, 2),
    b"DECR": (_decr, 2, 2),
    b"INCRBY": (_incrby, 3, 3),
    b"DECRBY": (_decrby, 3, 3),
}
