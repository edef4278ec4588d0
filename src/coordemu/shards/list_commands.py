"""The embedded shard's commands for lists, those that wait among them.

Role: handlers for `coordemu.shards.command_table`. What is put into a list is signalled, and goes to the clients that
wait for it once the command that put it has been answered (`coordemu.shards.blocked_clients`): a pipeline of RPUSH and
LLEN sees the element gone already.

The ends of a list are told by a bool: True is the left one.

Thread: the shard's loop. Upstream: t_list.c of a Redis server. Left out: LINSERT, LSET, LPOS, LPUSHX, RPUSHX. Time-outs
are kept to the nanosecond and never less than a millisecond; Redis 6.2 cuts them down to milliseconds.
"""

from __future__ import annotations

from itertools import islice

from coordemu import resp_encode as resp
from coordemu.runtime.base import NS_PER_MS, NS_PER_S
from coordemu.shards.blocked_clients import Wait
from coordemu.shards.shard_replies import (
    MAX_INTEGER,
    Refused,
    as_integer,
    bulks,
    null_array,
    read_float,
    read_integer,
    syntax_error,
)
from coordemu.shards.shard_session import ANY_NUMBER, CommandTable, Session
from coordemu.shards.shard_values import Keyspace, ListValue

_LEFT, _RIGHT = True, False


def _pop(keyspace: Keyspace, key: bytes, left: bool) -> bytes | None:
    """Take an element off one end. None: there is no list. Raises Refused when it is something else."""
    value = keyspace.find(key, ListValue)
    if value is None:
        return None
    taken = value.popleft() if left else value.pop()
    keyspace.tidy(key, value)
    return taken


def _lpush(session: Session, command: list[bytes]) -> bytes:
    value = session.shard.keyspace.make(command[1], ListValue)
    value.extendleft(command[2:])
    session.signal(command[1])
    return resp.integer(len(value))


def _rpush(session: Session, command: list[bytes]) -> bytes:
    value = session.shard.keyspace.make(command[1], ListValue)
    value.extend(command[2:])
    session.signal(command[1])
    return resp.integer(len(value))


def _pop_command(session: Session, command: list[bytes], left: bool) -> bytes:
    keyspace, key = session.shard.keyspace, command[1]
    if len(command) == 2:
        taken = _pop(keyspace, key, left)
        return resp.null(session.protocol) if taken is None else resp.bulk(taken)
    count = as_integer(command[2])
    if count is None or count < 0:
        raise Refused("ERR value is out of range, must be positive")
    value = keyspace.find(key, ListValue)
    if value is None:
        return null_array(session.protocol)
    taken_all = [value.popleft() if left else value.pop() for _ in range(min(count, len(value)))]
    keyspace.tidy(key, value)
    return bulks(taken_all)


def _lpop(session: Session, command: list[bytes]) -> bytes:
    return _pop_command(session, command, _LEFT)


def _rpop(session: Session, command: list[bytes]) -> bytes:
    return _pop_command(session, command, _RIGHT)


def _llen(session: Session, command: list[bytes]) -> bytes:
    return resp.integer(len(session.shard.keyspace.find(command[1], ListValue) or ()))


def index_range(first: int, last: int, length: int) -> tuple[int, int]:
    """The elements from first to last, both included and negative ones counted from the end, as begin and end."""
    first = max(0, first + length if first < 0 else first)
    last = min(length - 1, last + length if last < 0 else last)
    return first, max(first, last + 1)


def _lrange(session: Session, command: list[bytes]) -> bytes:
    first, last = read_integer(command[2]), read_integer(command[3])
    value = session.shard.keyspace.find(command[1], ListValue)
    return resp.array([]) if value is None else bulks(islice(value, *index_range(first, last, len(value))))


def _lindex(session: Session, command: list[bytes]) -> bytes:
    value = session.shard.keyspace.find(command[1], ListValue)
    if value is None:
        return resp.null(session.protocol)
    index = read_integer(command[2])
    return resp.bulk(value[index]) if -len(value) <= index < len(value) else resp.null(session.protocol)


def _ltrim(session: Session, command: list[bytes]) -> bytes:
    first, last = read_integer(command[2]), read_integer(command[3])
    keyspace, key = session.shard.keyspace, command[1]
    value = keyspace.find(key, ListValue)
    if value is not None:
        kept = list(islice(value, *index_range(first, last, len(value))))
        value.clear()
        value.extend(kept)
        keyspace.tidy(key, value)
    return resp.OK


def _lrem(session: Session, command: list[bytes]) -> bytes:
    count, element = read_integer(command[2]), command[3]
    keyspace, key = session.shard.keyspace, command[1]
    value = keyspace.find(key, ListValue)
    if value is None:
        return resp.integer(0)
    left_to_remove = abs(count) or len(value)
    kept: list[bytes] = []
    for each in value if count >= 0 else reversed(value):
        if left_to_remove and each == element:
            left_to_remove -= 1
        else:
            kept.append(each)
    removed = len(value) - len(kept)
    if removed:
        value.clear()
        value.extend(kept if count >= 0 else reversed(kept))
        keyspace.tidy(key, value)
    return resp.integer(removed)


def _end(word: bytes) -> bool:
    if word.upper() not in (b"LEFT", b"RIGHT"):
        raise syntax_error()
    return word.upper() == b"LEFT"


def _move(session: Session, source: bytes, target: bytes, from_left: bool, to_left: bool) -> bytes | None:
    """Take an element off one list and put it onto another. None: there is none. Raises Refused, nothing moved."""
    keyspace = session.shard.keyspace
    value = keyspace.find(source, ListValue)
    if value is None:
        return None
    into = keyspace.make(target, ListValue)
    # From one list to itself nothing is ever empty in between, and its expiry stays.
    taken = (value.popleft if from_left else value.pop)()
    (into.appendleft if to_left else into.append)(taken)
    keyspace.tidy(source, value)
    session.signal(target)
    return resp.bulk(taken)


def _lmove(session: Session, command: list[bytes]) -> bytes:
    ends = _end(command[3]), _end(command[4])
    return _move(session, command[1], command[2], *ends) or resp.null(session.protocol)


def _rpoplpush(session: Session, command: list[bytes]) -> bytes:
    return _move(session, command[1], command[2], _RIGHT, _LEFT) or resp.null(session.protocol)


def _timeout_ns(word: bytes) -> int:
    """Seconds with fractions; 0 for ever. Raises Refused."""
    seconds = read_float(word, "ERR timeout is not a float or out of range")
    if seconds < 0 or seconds * 1000 > MAX_INTEGER:
        raise Refused("ERR timeout is negative")  # so does 6.2 call one that does not fit
    return max(NS_PER_MS, round(seconds * NS_PER_S)) if seconds else 0


def _pop_or_wait(session: Session, command: list[bytes], left: bool) -> bytes:
    keyspace, keys = session.shard.keyspace, command[1:-1]
    timeout_ns = _timeout_ns(command[-1])

    def serve(key: bytes) -> bytes | None:
        # what has become another type meanwhile is waited on
        if keyspace.kind(key) != ListValue.kind:
            return None
        taken = _pop(keyspace, key, left)
        return None if taken is None else bulks((key, taken))

    for key in keys:
        taken = _pop(keyspace, key, left)
        if taken is not None:
            return bulks((key, taken))
    return session.block(Wait(keys, serve, null_array(session.protocol), timeout_ns))


def _blpop(session: Session, command: list[bytes]) -> bytes:
    return _pop_or_wait(session, command, _LEFT)


def _brpop(session: Session, command: list[bytes]) -> bytes:
    return _pop_or_wait(session, command, _RIGHT)


def _move_or_wait(
    session: Session, source: bytes, target: bytes, from_left: bool, to_left: bool, timeout_ns: int
) -> bytes:
    keyspace = session.shard.keyspace

    def serve(key: bytes) -> bytes | None:
        if keyspace.kind(key) != ListValue.kind:
            return None
        try:
            return _move(session, source, target, from_left, to_left)
        except Refused as refusal:  # the target is no list: the element stays, and the client is told
            return refusal.reply

    return _move(session, source, target, from_left, to_left) or session.block(
        Wait([source], serve, null_array(session.protocol), timeout_ns), resp.null(session.protocol)
    )


def _blmove(session: Session, command: list[bytes]) -> bytes:
    ends = _end(command[3]), _end(command[4])
    return _move_or_wait(session, command[1], command[2], *ends, _timeout_ns(command[5]))


def _brpoplpush(session: Session, command: list[bytes]) -> bytes:
    return _move_or_wait(session, command[1], command[2], _RIGHT, _LEFT, _timeout_ns(command[3]))


LIST_COMMANDS: CommandTable = {
    b"LPUSH": (_lpush, 3, ANY_NUMBER),
    b"RPUSH": (_rpush, 3, ANY_NUMBER),
    b"LPOP": (_lpop, 2, 3),
    b"RPOP": (_rpop, 2, 3),
    b"LLEN": (_llen, 2, 2),
    b"LRANGE": (_lrange, 4, 4),
    b"LINDEX": (_lindex, 3, 3),
    b"LTRIM": (_ltrim, 4, 4),
    b"LREM": (_lrem, 4, 4),
    b"LMOVE": (_lmove, 5, 5),
    b"RPOPLPUSH": (_rpoplpush, 3, 3),
    b"BLPOP": (_blpop, 3, ANY_NUMBER),
    b"BRPOP": (_brpop, 3, ANY_NUMBER),
    b"BLMOVE": (_blmove, 6, 6),
    b"BRPOPLPUSH": (_brpoplpush, 4, 4),
}
