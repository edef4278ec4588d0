"""CommandRoute: where a command goes by its words, and where an error reply says that it should have gone.

Role: plain functions of a command and of a reply, for `ClusterClient`. The slot is that of a command's key, its second
word; a command without a key goes to any node.

Thread: any. Upstream: cmdFirstKeyPos and isMovedError (command.go, error.go). Left out: commands whose key is elsewhere
than in the second place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import hiredis

from coordemu.pool.pool_errors import PoolError
from coordemu.pool.slot_map import slot_of
from coordemu.runtime.base import Address

WITHOUT_KEY = frozenset({b"PING", b"ECHO", b"CLUSTER", b"TIME", b"INFO", b"DBSIZE"})
READS = frozenset({b"GET", b"MGET", b"EXISTS", b"TTL", b"PING", b"ECHO", b"STRLEN", b"CLUSTER"})
TRY_LATER = ("TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN")
_REDIRECTS = frozenset(("MOVED", "ASK", *TRY_LATER))


class ClusterError(PoolError):
    """A command has found no node that would have it, in as many tries as it had. The cause is its last one's."""


def word_of(command: Sequence[str | bytes | int]) -> bytes:
    """A command's name, in capitals. Thread: any."""
    word = command[0]
    return word.upper() if isinstance(word, bytes) else str(word).upper().encode()


def slot_of_command(command: Sequence[str | bytes | int]) -> int | None:
    """The slot of its key; None: it has none. Thread: any."""
    if len(command) < 2 or word_of(command) in WITHOUT_KEY:
        return None
    key = command[1]
    return slot_of(key if isinstance(key, bytes) else str(key).encode())


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
