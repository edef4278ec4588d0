"""The embedded shard's commands for sorted sets: what a queue with due times needs.

Role: handlers for `coordemu.shards.command_table`. Members of one score come in the order of their bytes.

Thread: the shard's loop. Upstream: t_zset.c of a Redis server. Left out: ZADD's INCR; ZRANGE's BYSCORE, BYLEX, REV and
LIMIT; reverse, lexical and stored ranges, ranks, ZPOPMIN and what waits for it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from coordemu import resp_encode as resp
from coordemu.shards.list_commands import index_range
from coordemu.shards.shard_replies import Refused, bulks, double, read_float, read_integer, syntax_error
from coordemu.shards.shard_session import ANY_NUMBER, CommandTable, Session
from coordemu.shards.shard_values import SortedSet

_FLAGS = (b"NX", b"XX", b"GT", b"LT", b"CH")
_Scored = tuple[float, bytes]


def _zadd(session: Session, command: list[bytes]) -> bytes:
    begin = 2
    flags: set[bytes] = set()
    while begin < len(command) and command[begin].upper() in _FLAGS:
        flags.add(command[begin].upper())
        begin += 1
    words = command[begin:]
    if not words or len(words) % 2:
        raise syntax_error()
    if {b"NX", b"XX"} <= flags:
        raise Refused("ERR XX and NX options at the same time are not compatible")
    if len(flags & {b"NX", b"GT", b"LT"}) > 1:
        raise Refused("ERR GT, LT, and/or NX options at the same time are not compatible")
    scores = [read_float(word) for word in words[::2]]
    keyspace, key = session.shard.keyspace, command[1]
    value = keyspace.find(key, SortedSet)
    if value is None:
        if b"XX" in flags:
            return resp.integer(0)
        value = keyspace.make(key, SortedSet)
    added = changed = 0
    for score, member in zip(scores, words[1::2], strict=True):
        old = value.scores.get(member)
        if old is None:
            if b"XX" not in flags:
                value.put(member, score)
                added += 1
        elif _moves(flags, old, score):
            value.put(member, score)
            changed += 1
    return resp.integer(added + changed if b"CH" in flags else added)


def _moves(flags: set[bytes], old: float, new: float) -> bool:
    """Whether a member that is there goes to its new score."""
    if b"NX" in flags or old == new:
        return False
    return not (b"GT" in flags and new < old) and not (b"LT" in flags and new > old)


def _show(session: Session, members: list[_Scored], with_scores: bool) -> bytes:
    if not with_scores:
        return bulks(member for _, member in members)
    pairs = [(resp.bulk(member), double(score, session.protocol)) for score, member in members]
    if session.protocol == 3:
        return resp.array([resp.array(pair) for pair in pairs])
    return resp.array([part for pair in pairs for part in pair])


def _zrange(session: Session, command: list[bytes]) -> bytes:
    with_scores = False
    for word in command[4:]:
        if word.upper() != b"WITHSCORES":
            raise syntax_error()
        with_scores = True
    first, last = read_integer(command[2]), read_integer(command[3])
    value = session.shard.keyspace.find(command[1], SortedSet)
    members = value.in_order if value is not None else []
    begin, end = index_range(first, last, len(members))
    return _show(session, members[begin:end], with_scores)


def _score(scored: _Scored) -> float:
    return scored[0]


def _within(session: Session, key: bytes, low: bytes, high: bytes) -> list[_Scored]:
    """Those whose scores are within bounds, each of which is left out itself when it begins with "(". Raises
    Refused."""
    lowest, highest = (read_float(word.removeprefix(b"("), "ERR min or max is not a float") for word in (low, high))
    value = session.shard.keyspace.find(key, SortedSet)
    if value is None:
        return []
    begin = (bisect_right if low.startswith(b"(") else bisect_left)(value.in_order, lowest, key=_score)
    end = (bisect_left if high.startswith(b"(") else bisect_right)(value.in_order, highest, key=_score)
    return value.in_order[begin:end]


def _zrangebyscore(session: Session, command: list[bytes]) -> bytes:
    with_scores, offset, count = False, 0, -1
    words = command[4:]
    while words:
        if words[0].upper() == b"WITHSCORES":
            with_scores, words = True, words[1:]
        elif words[0].upper() == b"LIMIT" and len(words) >= 3:
            offset, count, words = read_integer(words[1]), read_integer(words[2]), words[3:]
        else:
            raise syntax_error()
    members = _within(session, command[1], command[2], command[3])
    members = [] if offset < 0 else members[offset:]
    return _show(session, members if count < 0 else members[:count], with_scores)


def _zcount(session: Session, command: list[bytes]) -> bytes:
    return resp.integer(len(_within(session, *command[1:])))


def _zrem(session: Session, command: list[bytes]) -> bytes:
    keyspace, key = session.shard.keyspace, command[1]
    value = keyspace.find(key, SortedSet)
    if value is None:
        return resp.integer(0)
    removed = sum([value.remove(member) for member in command[2:]])
    keyspace.tidy(key, value)
    return resp.integer(removed)


def _zcard(session: Session, command: list[bytes]) -> bytes:
    return resp.integer(len(session.shard.keyspace.find(command[1], SortedSet) or ()))


def _zscore(session: Session, command: list[bytes]) -> bytes:
    value = session.shard.keyspace.find(command[1], SortedSet)
    score = None if value is None else value.scores.get(command[2])
    return resp.null(session.protocol) if score is None else double(score, session.protocol)


SORTED_SET_COMMANDS: CommandTable = {
    b"ZADD": (_zadd, 4, ANY_NUMBER),
    b"ZRANGE": (_zrange, 4, ANY_NUMBER),
    b"ZRANGEBYSCORE": (_zrangebyscore, 4, ANY_NUMBER),
    b"ZCOUNT": (_zcount, 4, 4),
    b"ZREM": (_zrem, 3, ANY_NUMBER),
    b"ZCARD": (_zcard, 2, 2),
    b"ZSCORE": (_zscore, 3, 3),
}
