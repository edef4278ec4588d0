"""The embedded shard's commands for keys of any type, and for the keyspace as a whole.

Role: handlers for `coordemu.shards.command_table`: DEL, EXISTS, TYPE, expiry, KEYS, DBSIZE, FLUSHALL, SELECT.

Thread: the shard's loop. Upstream: db.c and expire.c of a Redis server. Left out: SCAN, RENAME, OBJECT, EXPIREAT, and
databases other than 0. KEYS matches as the standard library's fnmatch does, which knows "[!a]" where Redis has "[^a]",
and no backslash.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from coordemu import resp_encode as resp
from coordemu.runtime.base import NS_PER_MS
from coordemu.shards.shard_replies import Refused, bulks, read_integer, syntax_error
from coordemu.shards.shard_session import ANY_NUMBER, CommandTable, Session
from coordemu.shards.string_commands import MS_PER_S, due_ns

_NO_KEY, _NO_EXPIRY = -2, -1


def _del(session: Session, command: list[bytes]) -> bytes:
    delete = session.shard.keyspace.delete
    return resp.integer(sum([delete(key) for key in command[1:]]))


def _exists(session: Session, command: list[bytes]) -> bytes:
    kind = session.shard.keyspace.kind
    return resp.integer(sum([kind(key) is not None for key in command[1:]]))


def _type(session: Session, command: list[bytes]) -> bytes:
    return b"+%b\r\n" % (session.shard.keyspace.kind(command[1]) or b"none")


def _expire(session: Session, command: list[bytes]) -> bytes:
    return _expire_after(session, command, MS_PER_S, "expire")


def _pexpire(session: Session, command: list[bytes]) -> bytes:
    return _expire_after(session, command, 1, "pexpire")


def _expire_after(session: Session, command: list[bytes], unit_ms: int, name: str) -> bytes:
    keyspace, key = session.shard.keyspace, command[1]
    delay = read_integer(command[2])
    expires_ns = due_ns(keyspace, delay, unit_ms, name)
    if keyspace.kind(key) is None:
        return resp.integer(0)
    if delay <= 0:
        keyspace.delete(key)
    else:
        keyspace.expiry_ns[key] = expires_ns
    return resp.integer(1)


def _persist(session: Session, command: list[bytes]) -> bytes:
    keyspace = session.shard.keyspace
    there = keyspace.kind(command[1]) is not None
    return resp.integer(int(there and keyspace.expiry_ns.pop(command[1], None) is not None))


def _left_ms(session: Session, key: bytes) -> int:
    """How long a key lives; negative where that has no answer."""
    keyspace = session.shard.keyspace
    if keyspace.kind(key) is None:
        return _NO_KEY
    expires_ns = keyspace.expiry_ns.get(key)
    return _NO_EXPIRY if expires_ns is None else max(0, expires_ns - keyspace.now_ns()) // NS_PER_MS


def _ttl(session: Session, command: list[bytes]) -> bytes:
    left_ms = _left_ms(session, command[1])
    return resp.integer(left_ms if left_ms < 0 else (left_ms + MS_PER_S // 2) // MS_PER_S)


def _pttl(session: Session, command: list[bytes]) -> bytes:
    return resp.integer(_left_ms(session, command[1]))


def _keys(session: Session, command: list[bytes]) -> bytes:
    return bulks(key for key in session.shard.keyspace.all_keys() if fnmatchcase(key, command[1]))


def _dbsize(session: Session, _command: list[bytes]) -> bytes:
    return resp.integer(len(session.shard.keyspace))


def _flushall(session: Session, command: list[bytes]) -> bytes:
    if len(command) > 2 or (len(command) == 2 and command[1].upper() not in (b"SYNC", b"ASYNC")):
        raise syntax_error()
    session.shard.keyspace.clear()
    return resp.OK


def _select(_session: Session, command: list[bytes]) -> bytes:
    if read_integer(command[1]) != 0:
        raise Refused("ERR DB index is out of range")
    return resp.OK


KEY_COMMANDS: CommandTable = {
    b"DEL": (_del, 2, ANY_NUMBER),
    b"UNLINK": (_del, 2, ANY_NUMBER),
    b"EXISTS": (_exists, 2, ANY_NUMBER),
    b"TYPE": (_type, 2, 2),
    b"EXPIRE": (_expire, 3, 3),
    b"PEXPIRE": (_pexpire, 3, 3),
    b"PERSIST": (_persist, 2, 2),
    b"TTL": (_ttl, 2, 2),
    b"PTTL": (_pttl, 2, 2),
    b"KEYS": (_keys, 2, 2),
    b"DBSIZE": (_dbsize, 1, 1),
    b"FLUSHALL": (_flushall, 1, ANY_NUMBER),
    b"FLUSHDB": (_flushall, 1, ANY_NUMBER),
    b"SELECT": (_select, 2, 2),
}
