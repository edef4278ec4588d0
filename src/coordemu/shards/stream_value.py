"""Stream: entries under growing ids, and the groups of consumers that read them.

Role: the value behind the stream commands. An id is a pair of milliseconds and a number among those of the same
millisecond; it only ever grows, also when the clock goes back, as an id of the server's own choice is never below the
last one's successor. An entry is kept as the reply that shows it, which is the same in both protocols.

A group has delivered everything up to `last_id`. What it delivered and nobody acknowledged is `pending`: by whom it was
taken, when, and how often. A consumer that dies leaves its entries there, for others to claim.

Thread: the shard's loop. Upstream: the stream type of Redis 6.2. Left out: nodes of entries, and with them everything
approximate: "MAXLEN ~" trims exactly. Cost: removing from the middle moves what lies behind it; a consumer's history
and pending ranges are searched from the front of the group's pending entries.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import ClassVar

from coordemu import resp_encode as resp
from coordemu.shards.shard_replies import Refused, bulks

StreamId = tuple[int, int]
HIGHEST = 2**64 - 1
FIRST_ID: StreamId = (0, 0)
LAST_ID: StreamId = (HIGHEST, HIGHEST)
_INVALID = "ERR Invalid stream ID specified as stream command argument"


def parse_id(word: bytes, missing: int = 0) -> StreamId | None:
    """The id that a word is, None when it is none. missing: the second number where a word has only the first."""
    first, dash, second = word.partition(b"-")
    if len(word) > 64 or not first.isdigit() or (dash and not second.isdigit()):
        return None
    found = (int(first), int(second) if dash else missing)
    return found if max(found) <= HIGHEST else None


def read_id(word: bytes, missing: int = 0) -> StreamId:
    """As `parse_id`. Raises Refused when it is none."""
    found = parse_id(word, missing)
    if found is None:
        raise Refused(_INVALID)
    return found


def read_bound(word: bytes, *, low: bool) -> StreamId:
    """One end of a range: an id, "-", "+", or an id after "(" that is itself left out. Raises Refused."""
    missing = 0 if low else HIGHEST
    if word[:1] == b"(" and len(word) > 1:
        found = read_id(word[1:], missing)
        beside = following(found) if low else preceding(found)
        if beside is None:
            raise Refused(f"ERR invalid {'start' if low else 'end'} ID for the interval")
        return beside
    if word in (b"-", b"+"):
        return FIRST_ID if word == b"-" else LAST_ID
    return read_id(word, missing)


def show_id(ident: StreamId) -> bytes:
    """An id as text, encoded as a string."""
    return resp.bulk(b"%d-%d" % ident)


def following(ident: StreamId) -> StreamId | None:
    """The next id; None after the last."""
    if ident[1] < HIGHEST:
        return ident[0], ident[1] + 1
    return (ident[0] + 1, 0) if ident[0] < HIGHEST else None


def preceding(ident: StreamId) -> StreamId | None:
    """The id before; None before the first."""
    if ident[1]:
        return ident[0], ident[1] - 1
    return (ident[0] - 1, HIGHEST) if ident[0] else None


class Pending:
    """An entry that was delivered and not acknowledged. delivered_ms: when last, by the shard's clock.  count: how
    often."""

    __slots__ = ("consumer", "count", "delivered_ms")

    def __init__(self, consumer: bytes, delivered_ms: int, count: int = 1) -> None:
        self.consumer = consumer
        self.delivered_ms = delivered_ms
        self.count = count


class Group:
    """A group of consumers: how far it has read, and what is pending, in the order of ids."""

    __slots__ = ("_in_order", "_pending", "consumers", "last_id")

    def __init__(self, last_id: StreamId) -> None:
        self.last_id = last_id
        self.consumers: dict[bytes, int] = {}  # when each was last seen, ms
        self._pending: dict[StreamId, Pending] = {}
        self._in_order = True

    def __repr__(self) -> str:
        return f"<Group up to {self.last_id}, {len(self._pending)} pending>"

    @property
    def pending(self) -> dict[StreamId, Pending]:
        """What is pending, in the order of ids. Entries are changed and removed here, added by `take`."""
        if not self._in_order:
            self._pending = dict(sorted(self._pending.items()))
            self._in_order = True
        return self._pending

    def take(self, ident: StreamId, consumer: bytes, now_ms: int) -> None:
        """Delivered to a consumer, for the first time or again from the beginning."""
        if ident not in self._pending and self._pending and ident < next(reversed(self._pending)):
            self._in_order = False
        self._pending[ident] = Pending(consumer, now_ms)

    def pending_from(self, low: StreamId, high: StreamId = LAST_ID) -> Iterator[tuple[StreamId, Pending]]:
        """What is pending within bounds. Nobody may add or remove meanwhile."""
        for ident, each in self.pending.items():
            if ident > high:
                return
            if ident >= low:
                yield ident, each

    def counts(self) -> dict[bytes, int]:
        """How many each consumer has pending, in the order of their names; those that have none are left out."""
        found: dict[bytes, int] = {}
        for each in self._pending.values():
            found[each.consumer] = found.get(each.consumer, 0) + 1
        return dict(sorted(found.items()))


class Stream:
    """One stream."""

    kind: ClassVar[bytes] = b"stream"
    __slots__ = ("_entries", "_ids", "groups", "last_id")

    def __init__(self) -> None:
        self.last_id = FIRST_ID
        self.groups: dict[bytes, Group] = {}
        self._ids: list[StreamId] = []
        self._entries: dict[StreamId, bytes] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def __bool__(self) -> bool:
        """A stream stays when its last entry goes."""
        return True

    def __repr__(self) -> str:
        return f"<Stream of {len(self)} up to {self.last_id}, {len(self.groups)} groups>"

    @property
    def last_entry(self) -> StreamId:
        """The highest id that there is an entry of; the first id when there is none."""
        return self._ids[-1] if self._ids else FIRST_ID

    def next_id(self, now_ms: int) -> StreamId | None:
        """The id for an entry that comes now: above the last one whatever the clock says. None: there is none left."""
        return (now_ms, 0) if now_ms > self.last_id[0] else following(self.last_id)

    def append(self, ident: StreamId, words: list[bytes]) -> None:
        """Add an entry. ident: above last_id.  words: fields and values in turn."""
        self._ids.append(ident)
        self._entries[ident] = b"*2\r\n" + show_id(ident) + bulks(words)
        self.last_id = ident

    def entry(self, ident: StreamId) -> bytes | None:
        """One entry, encoded; None when there is none (any more)."""
        return self._entries.get(ident)

    def within(self, low: StreamId, high: StreamId, count: int | None, *, backwards: bool = False) -> list[StreamId]:
        """The ids of entries within bounds. count: no more than that many."""
        begin, end = bisect_left(self._ids, low), bisect_right(self._ids, high)
        if count is not None and end - begin > count:
            begin, end = (end - count, end) if backwards else (begin, begin + count)
        found = self._ids[begin:end]
        return found[::-1] if backwards else found

    def show(self, idents: list[StreamId]) -> bytes:
        """These entries, all of which exist, as an array."""
        return resp.array([self._entries[ident] for ident in idents])

    def remove(self, ident: StreamId) -> bool:
        """Whether there was such an entry."""
        if self._entries.pop(ident, None) is None:
            return False
        del self._ids[bisect_left(self._ids, ident)]
        return True

    def trim(self, length: int | None, lowest: StreamId, limit: int | None) -> int:
        """Remove the oldest entries: those over a length, or (length None) those below an id. limit: no more than that
        many. Returns how many."""
        count = max(0, len(self) - length) if length is not None else bisect_left(self._ids, lowest)
        if limit is not None:
            count = min(count, limit)
        for ident in self._ids[:count]:
            del self._entries[ident]
        del self._ids[:count]
        return count
