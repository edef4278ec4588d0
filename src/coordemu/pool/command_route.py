"""CommandRoute: where a command goes by its words, and where an error reply says that it should have gone.

Role: plain functions of a command and of a reply, for `ClusterClient`. The slot is that of a command's first key. That
is its second word, but for the commands of a table: some have a subcommand there, some a number of keys that follow,
and those that read streams have their keys after a word of options. A command without a key goes to any node.

Thread: any. Upstream: cmdFirstKeyPos and isMovedError (command.go, error.go). Left out: keys among options (MIGRATE
with an empty key, SORT's STORE), commands of modules, asking a server (COMMAND GETKEYS).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import hiredis

from coordemu.pool.pool_errors import PoolError
from coordemu.pool.slot_map import slot_of
from coordemu.runtime.base import Address

WITHOUT_KEY = frozenset({b"PING", b"ECHO", b"CLUSTER", b"TIME", b"INFO", b"DBSIZE"})
READS = frozenset({b"GET", b"MGET", b"EXISTS", b"TTL", b"PING", b"ECHO", b"STRLEN", b"CLUSTER"})
# Which word the first key is, counted from 0, where it is not the second one.
KEY_AT: Mapping[bytes, int] = MappingProxyType({b"BITOP": 2, b"MEMORY": 2, b"OBJECT": 2, b"XGROUP": 2, b"XINFO": 2})
# Which word says how many keys follow it at once; with a 0 there are none.
KEYS_COUNTED_AT: Mapping[bytes, int] = MappingProxyType({
    **dict.fromkeys((b"EVAL", b"EVALSHA", b"EVAL_RO", b"EVALSHA_RO", b"FCALL", b"FCALL_RO", b"BLMPOP", b"BZMPOP"), 2),
    **dict.fromkeys((b"LMPOP", b"SINTERCARD", b"ZDIFF", b"ZINTER", b"ZINTERCARD", b"ZMPOP", b"ZUNION"), 1),
})  # fmt: skip
# The options before STREAMS, and how many words belong to each.
_STREAM_OPTIONS = MappingProxyType({b"BLOCK": 1, b"COUNT": 1, b"GROUP": 2, b"NOACK": 0, b"CLAIM": 1})
READS_STREAMS = frozenset({b"XREAD", b"XREADGROUP"})
TRY_LATER = ("TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN")
_REDIRECTS = frozenset(("MOVED", "ASK", *TRY_LATER))


class ClusterError(PoolError):
    """A command has found no node that would have it, in as many tries as it had. The cause is its last one's."""


def word_of(command: Sequence[str | bytes | int]) -> bytes:
    """A command's name, in capitals. Thread: any."""
    return _bytes_of(command[0]).upper()


def key_of_command(command: Sequence[str | bytes | int]) -> bytes | None:
    """Its first key; None: it has none, or the server will find it wrong. Thread: any."""
    name = word_of(command)
    if name in WITHOUT_KEY:
        return None
    counted_at = KEYS_COUNTED_AT.get(name)
    if counted_at is not None:
        no_keys = len(command) <= counted_at or _bytes_of(command[counted_at]) == b"0"
        place = len(command) if no_keys else counted_at + 1
    else:
        place = _place_in_streams(command) if name in READS_STREAMS else KEY_AT.get(name, 1)
    return _bytes_of(command[place]) if place < len(command) else None


def _place_in_streams(command: Sequence[str | bytes | int]) -> int:
    """Where the keys begin; past the end when there is no STREAMS. A group may be called "streams"."""
    place = 1
    while place < len(command):
        option = _bytes_of(command[place]).upper()
        if option == b"STREAMS":
            return place + 1
        if option not in _STREAM_OPTIONS:
            break
        place += 1 + _STREAM_OPTIONS[option]
    return len(command)


def slot_of_command(command: Sequence[str | bytes | int]) -> int | None:
    """The slot of its first key; None: it has none. Thread: any."""
    key = key_of_command(command)
    return None if key is None else slot_of(key)


def _bytes_of(word: str | bytes | int) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode()


def only_reads(commands: Sequence[Sequence[str | bytes | int]]) -> bool:
    """Whether none of them changes anything, so that all may be sent again. Thread: any."""
    return all(word_of(command) in READS for command in commands)


def redirect_of(reply: Any) -> str:
    """MOVED, ASK or one of TRY_LATER; "": a reply as any other. Thread: any."""
    if not isinstance(reply, hiredis.ReplyError):
        return ""
    word = str(reply).split(" ", 1)[0]
    return word if word in _REDIRECTS else ""


def target_of(reply: Any, asked: Address) -> tuple[int, Address]:
    """The slot and the address of "MOVED 3999 host:port"; an empty host is the one that was asked.

    Raises ClusterError when it has none. Thread: any.
    """
    words = str(reply).split()
    try:
        host, _, port = words[2].rpartition(":")
        return int(words[1]), Address(host or asked.host, int(port))
    except (IndexError, ValueError):
        raise ClusterError(f"{asked} redirects to nowhere: {reply}") from None
