"""The embedded shard's commands for hashes and sets.

Role: handlers for `coordemu.shards.command_table`. Fields and members come in the order in which they were added;
Redis keeps small hashes in that order, too, and everything else in one of its own.

Thread: the shard's loop. Upstream: t_hash.c and t_set.c of a Redis server. Left out: HINCRBYFLOAT, HSETNX, HSCAN,
SPOP, SRANDMEMBER, and the algebra of sets.
"""

from __future__ import annotations

from coordemu import resp_encode as resp
from coordemu.shards.shard_replies import bulk_or_null, bulks, read_integer, string_set, wrong_arity
from coordemu.shards.shard_session import ANY_NUMBER, CommandTable, Session
from coordemu.shards.shard_values import HashValue, SetValue
from coordemu.shards.string_commands import add_to


def _found_hash(session: Session, key: bytes) -> HashValue:
    """For reading; an empty one where there is none. Raises Refused."""
    return session.shard.keyspace.find(key, HashValue) or HashValue()


def _hset(session: Session, command: list[bytes]) -> bytes:
    if len(command) % 2:
        raise wrong_arity(command[0])
    value = session.shard.keyspace.make(command[1], HashValue)
    before = len(value)
    value.update(zip(command[2::2], command[3::2], strict=True))
    return resp.integer(len(value) - before)


def _hget(session: Session, command: list[bytes]) -> bytes:
    return bulk_or_null(_found_hash(session, command[1]).get(command[2]), session.protocol)


def _hmget(session: Session, command: list[bytes]) -> bytes:
    value = _found_hash(session, command[1])
    return resp.array([bulk_or_null(value.get(field), session.protocol) for field in command[2:]])


def _hgetall(session: Session, command: list[bytes]) -> bytes:
    items = _found_hash(session, command[1]).items()
    return resp.mapping([(resp.bulk(field), resp.bulk(value)) for field, value in items], session.protocol)


def _hkeys(session: Session, command: list[bytes]) -> bytes:
    return bulks(_found_hash(session, command[1]))


def _hvals(session: Session, command: list[bytes]) -> bytes:
    return bulks(_found_hash(session, command[1]).values())


def _hlen(session: Session, command: list[bytes]) -> bytes:
    return resp.integer(len(_found_hash(session, command[1])))


def _hexists(session: Session, command: list[bytes]) -> bytes:
    return resp.integer(int(command[2] in _found_hash(session, command[1])))


def _hincrby(session: Session, command: list[bytes]) -> bytes:
    change = read_integer(command[3])
    keyspace = session.shard.keyspace
    before = _found_hash(session, command[1]).get(command[2])
    total = add_to(before, change, "ERR hash value is not an integer")
    keyspace.make(command[1], HashValue)[command[2]] = b"%d" % total
    return resp.integer(total)


def _remove(session: Session, command: list[bytes], kind: type[HashValue] | type[SetValue]) -> bytes:
    keyspace, key = session.shard.keyspace, command[1]
    value: HashValue | SetValue | None
    value = keyspace.find(key, HashValue) if kind is HashValue else keyspace.find(key, SetValue)
    if value is None:
        return resp.integer(0)
    before = len(value)
    for each in command[2:]:
        value.pop(each, None)
    removed = before - len(value)
    keyspace.tidy(key, value)
    return resp.integer(removed)


def _hdel(session: Session, command: list[bytes]) -> bytes:
    return _remove(session, command, HashValue)


def _found_set(session: Session, key: bytes) -> SetValue:
    """For reading; an empty one where there is none. Raises Refused."""
    return session.shard.keyspace.find(key, SetValue) or SetValue()


def _sadd(session: Session, command: list[bytes]) -> bytes:
    value = session.shard.keyspace.make(command[1], SetValue)
    before = len(value)
    value.update(dict.fromkeys(command[2:]))
    return resp.integer(len(value) - before)


def _srem(session: Session, command: list[bytes]) -> bytes:
    return _remove(session, command, SetValue)


def _sismember(session: Session, command: list[bytes]) -> bytes:
    return resp.integer(int(command[2] in _found_set(session, command[1])))


def _smismember(session: Session, command: list[bytes]) -> bytes:
    value = _found_set(session, command[1])
    return resp.array([resp.integer(int(member in value)) for member in command[2:]])


def _scard(session: Session, command: list[bytes]) -> bytes:
    return resp.integer(len(_found_set(session, command[1])))


def _smembers(session: Session, command: list[bytes]) -> bytes:
    return string_set(_found_set(session, command[1]), session.protocol)


HASH_AND_SET_COMMANDS: CommandTable = {
    b"HSET": (_hset, 4, ANY_NUMBER),
    b"HGET": (_hget, 3, 3),
    b"HMGET": (_hmget, 3, ANY_NUMBER),
    b"HGETALL": (_hgetall, 2, 2),
    b"HKEYS": (_hkeys, 2, 2),
    b"HVALS": (_hvals, 2, 2),
    b"HLEN": (_hlen, 2, 2),
    b"HEXISTS": (_hexists, 3, 3),
    b"HINCRBY": (_hincrby, 4, 4),
    b"HDEL": (_hdel, 3, ANY_NUMBER),
    b"SADD": (_sadd, 3, ANY_NUMBER),
    b"SREM": (_srem, 3, ANY_NUMBER),
    b"SISMEMBER": (_sismember, 3, 3),
    b"SMISMEMBER": (_smismember, 3, ANY_NUMBER),
    b"SCARD": (_scard, 2, 2),
    b"SMEMBERS": (_smembers, 2, 2),
}
