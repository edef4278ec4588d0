"""Keyspace: the keys of an embedded shard, whatever their values, and when they expire.

Role: what data commands work on. Strings stay in a plain dictionary, `strings`, which is the shard's `store`, so that
PING's neighbours GET and SET cost what they did and others may read it as before; lists, hashes, sets, sorted sets and
streams are in `typed` beside it. A key is in one of the two at most, and never with an empty value but for streams.

A key expires when somebody looks at it after its time, by the runtime's clock. The keyspace outlives a kill and a
restart of its shard: it stands for a server that has everything on disk. A clock that goes back makes keys live longer,
nothing else.

Thread: the shard's loop. Upstream: the database of a Redis server. Left out: eviction, more than one database; expiry
in the background (`all_keys` and `len` drop all that are due). Bound: none but the process's memory.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable
from typing import ClassVar, TypeVar

from coordemu.shards.shard_replies import wrong_type
from coordemu.shards.stream_value import Stream


class ListValue(deque[bytes]):
    """A list."""

    kind: ClassVar[bytes] = b"list"


class HashValue(dict[bytes, bytes]):
    """A hash: fields and their values, in the order of their coming."""

    kind: ClassVar[bytes] = b"hash"


class SetValue(dict[bytes, None]):
    """A set, in the order of its members' coming, so that every process answers the same."""

    kind: ClassVar[bytes] = b"set"


class SortedSet:
    """Members with a score each, in the order of (score, member)."""

    kind: ClassVar[bytes] = b"zset"
    __slots__ = ("in_order", "scores")

    def __init__(self) -> None:
        self.scores: dict[bytes, float] = {}
        self.in_order: list[tuple[float, bytes]] = []

    def __len__(self) -> int:
        return len(self.scores)

    def put(self, member: bytes, score: float) -> None:
        """Add a member, or move it to another score."""
        self.remove(member)
        self.scores[member] = score
        insort(self.in_order, (score, member))

    def remove(self, member: bytes) -> bool:
        """Whether it was there."""
        score = self.scores.pop(member, None)
        if score is None:
            return False
        del self.in_order[bisect_left(self.in_order, (score, member))]
        return True


Typed = ListValue | HashValue | SetValue | SortedSet | Stream
Kind = TypeVar("Kind", ListValue, HashValue, SetValue, SortedSet, Stream)


class Keyspace:
    """Keys and values. now_ns: the runtime's clock."""

    __slots__ = ("expiry_ns", "now_ns", "strings", "typed")

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self.now_ns = now_ns
        self.strings: dict[bytes, bytes] = {}
        self.typed: dict[bytes, Typed] = {}
        self.expiry_ns: dict[bytes, int] = {}

    def __len__(self) -> int:
        self.drop_expired()
        return len(self.strings) + len(self.typed)

    def __repr__(self) -> str:
        return f"<Keyspace {len(self.strings)} strings, {len(self.typed)} others>"

    def string(self, key: bytes) -> bytes | None:
        """The string at a key, None when there is no key. Raises Refused when it is no string."""
        if self.expiry_ns:
            self._drop_if_due(key)
        value = self.strings.get(key)
        if value is None and key in self.typed:
            raise wrong_type()
        return value

    def find(self, key: bytes, kind: type[Kind]) -> Kind | None:
        """The value of that kind at a key, None when there is no key. Raises Refused when it is of another kind."""
        if self.expiry_ns:
            self._drop_if_due(key)
        value = self.typed.get(key)
        if isinstance(value, kind):
            return value
        if value is not None or key in self.strings:
            raise wrong_type()
        return None

    def make(self, key: bytes, kind: type[Kind]) -> Kind:
        """As `find`; an empty value is made where there is no key. The caller fills it."""
        value = self.find(key, kind)
        if value is None:
            value = self.typed[key] = kind()
        return value

    def tidy(self, key: bytes, value: Typed) -> None:
        """Remove the key when its value has become empty."""
        if not value:
            self.delete(key)

    def set_string(self, key: bytes, value: bytes) -> None:
        """Put a string at a key, whatever was there; its expiry is for the caller to change."""
        self.typed.pop(key, None)
        self.strings[key] = value

    def kind(self, key: bytes) -> bytes | None:
        """The name of the type of what is at a key, None when there is no key."""
        if self.expiry_ns:
            self._drop_if_due(key)
        value = self.typed.get(key)
        if value is not None:
            return value.kind
        return b"string" if key in self.strings else None

    def delete(self, key: bytes) -> bool:
        """Remove a key. Returns whether it was there (and not expired)."""
        if self.expiry_ns:
            self._drop_if_due(key)
            self.expiry_ns.pop(key, None)
        return self.strings.pop(key, None) is not None or self.typed.pop(key, None) is not None

    def all_keys(self) -> list[bytes]:
        """All keys, strings first, each in the order of its coming."""
        self.drop_expired()
        return [*self.strings, *self.typed]

    def clear(self) -> None:
        """Remove everything; the dictionaries stay the same ones."""
        self.strings.clear()
        self.typed.clear()
        self.expiry_ns.clear()

    def drop_expired(self) -> None:
        """Remove every key whose time has come."""
        if self.expiry_ns:
            now_ns = self.now_ns()
            for key in [key for key, due_ns in self.expiry_ns.items() if due_ns <= now_ns]:
                self._drop(key)

    def _drop_if_due(self, key: bytes) -> None:
        due_ns = self.expiry_ns.get(key)
        if due_ns is not None and due_ns <= self.now_ns():
            self._drop(key)

    def _drop(self, key: bytes) -> None:
        del self.expiry_ns[key]
        self.strings.pop(key, None)
        self.typed.pop(key, None)
