"""The embedded shard's commands for streams without their groups: XADD, ranges, deleting, XREAD.

Role: handlers for `coordemu.shards.command_table`. XADD signals its key, and clients that wait in XREAD or XREADGROUP
are served once it has been answered. Ids of the server's choice are the runtime's milliseconds, so in the simulator
they begin near 0, and they grow also when the clock does not.

Thread: the shard's loop. Upstream: t_stream.c of Redis 6.2. Left out: ids of the form "5-*", which came with 7.0.
"MAXLEN ~" and "MINID ~" trim exactly, which Redis may and does not do.
"""

from __future__ import annotations

from coordemu import resp_encode as resp
from coordemu.runtime.base import NS_PER_MS
from coordemu.shards.blocked_clients import Wait
from coordemu.shards.shard_replies import (
    Refused,
    null_array,
    read_integer,
    syntax_error,
)
from coordemu.shards.shard_session import ANY_NUMBER, CommandTable, Session
from coordemu.shards.shard_values import Keyspace
from coordemu.shards.stream_value import (
    FIRST_ID,
    LAST_ID,
    Stream,
    StreamId,
    following,
    read_bound,
    read_id,
    show_id,
)

_WITHOUT_APPROXIMATION = "ERR syntax error, LIMIT cannot be used without the special ~ option"


def stream_now_ms(keyspace: Keyspace) -> int:
    """The clock of streams, never below 0."""
    return max(0, keyspace.now_ns() // NS_PER_MS)


class _Trimming:
    """The options of XADD and XTRIM that say what stays. index: of the first word that is none of them."""

    def __init__(self, words: list[bytes], *, of_xadd: bool) -> None:
        self._words = words
        self._approximate = False
        self._limit: int | None = None
        self._length: int | None = None
        self._lowest = FIRST_ID
        self._chosen = b""
        self.make = True
        self.index = 0
        while self.index < len(words) and self._option(words[self.index].upper(), of_xadd):
            self.index += 1
        self._check(of_xadd)

    def trim(self, stream: Stream) -> int:
        """Remove what need not stay. Returns how many entries that were."""
        return stream.trim(self._length, self._lowest, self._limit or None) if self._chosen else 0

    def _check(self, of_xadd: bool) -> None:
        if self._limit is not None and not self._chosen:
            raise Refused("ERR syntax error, LIMIT cannot be used without specifying a trimming strategy")
        if not of_xadd and (self.index < len(self._words) or not self._chosen):
            raise syntax_error()
        if self._limit is not None and not self._approximate:
            raise Refused(_WITHOUT_APPROXIMATION)

    def _option(self, option: bytes, of_xadd: bool) -> bool:
        left = len(self._words) - self.index - 1
        if option in (b"MAXLEN", b"MINID") and left:
            self._choose(option, left)
        elif option == b"LIMIT" and left:
            self._limit = read_integer(self._next())
            if self._limit < 0:
                raise Refused("ERR The LIMIT argument must be >= 0.")
        elif option == b"NOMKSTREAM" and of_xadd:
            self.make = False
        else:
            return False
        return True

    def _choose(self, option: bytes, left: int) -> None:
        if self._chosen not in (b"", option):
            raise Refused("ERR syntax error, MAXLEN and MINID options at the same time are not compatible")
        self._chosen = option
        self._approximate = False
        word = self._next()
        if left >= 2 and word in (b"~", b"="):
            self._approximate = word == b"~"
            word = self._next()
        if option == b"MINID":
            self._lowest = read_id(word)
            return
        self._length = read_integer(word)
        if self._length < 0:
            raise Refused("ERR The MAXLEN argument must be >= 0.")

    def _next(self) -> bytes:
        self.index += 1
        return self._words[self.index]


def _xadd(session: Session, command: list[bytes]) -> bytes:
    trimming = _Trimming(command[2:], of_xadd=True)
    words = command[2 + trimming.index :]
    ident = read_id(words[0]) if words and words[0] != b"*" else None
    if len(words) < 3 or len(words) % 2 == 0:
        raise Refused("ERR wrong number of arguments for XADD")
    if ident == FIRST_ID:
        raise Refused("ERR The ID specified in XADD must be greater than 0-0")
    keyspace, key = session.shard.keyspace, command[1]
    stream = keyspace.find(key, Stream)
    if stream is None:
        if not trimming.make:
            return resp.null(session.protocol)
        stream = keyspace.make(key, Stream)
    if stream.last_id == LAST_ID:
        raise Refused("ERR The stream has exhausted the last possible ID, unable to add more items")
    if ident is None:
        ident = stream.next_id(stream_now_ms(keyspace)) or LAST_ID
    elif ident <= stream.last_id:
        raise Refused("ERR The ID specified in XADD is equal or smaller than the target stream top item")
    stream.append(ident, words[1:])
    trimming.trim(stream)
    session.signal(key)
    return show_id(ident)


def _xtrim(session: Session, command: list[bytes]) -> bytes:
    trimming = _Trimming(command[2:], of_xadd=False)
    stream = session.shard.keyspace.find(command[1], Stream)
    return resp.integer(0 if stream is None else trimming.trim(stream))


def _xlen(session: Session, command: list[bytes]) -> bytes:
    stream = session.shard.keyspace.find(command[1], Stream)
    return resp.integer(0 if stream is None else len(stream))


def _xdel(session: Session, command: list[bytes]) -> bytes:
    stream = session.shard.keyspace.find(command[1], Stream)
    if stream is None:
        return resp.integer(0)
    idents = [read_id(word) for word in command[2:]]
    return resp.integer(sum([stream.remove(ident) for ident in idents]))


def _range(session: Session, command: list[bytes], low_word: bytes, high_word: bytes, backwards: bool) -> bytes:
    low, high = read_bound(low_word, low=True), read_bound(high_word, low=False)
    count: int | None = None
    words = command[4:]
    while words:
        if words[0].upper() != b"COUNT" or len(words) < 2:
            raise syntax_error()
        count, words = max(0, read_integer(words[1])), words[2:]
    stream = session.shard.keyspace.find(command[1], Stream)
    if stream is None:
        return resp.array([])
    if count == 0:
        return null_array(session.protocol)
    return stream.show(stream.within(low, high, count, backwards=backwards))


def _xrange(session: Session, command: list[bytes]) -> bytes:
    return _range(session, command, command[2], command[3], backwards=False)


def _xrevrange(session: Session, command: list[bytes]) -> bytes:
    return _range(session, command, command[3], command[2], backwards=True)


class ReadOptions:
    """What stands before the keys of XREAD and XREADGROUP, and the keys with their ids.

    Raises Refused. timeout_ns: None when it is not to wait, 0 for ever.  group, consumer: None for XREAD.
    """

    def __init__(self, command: list[bytes], *, of_group: bool) -> None:
        self.timeout_ns: int | None = None
        self.count: int | None = None
        self.group: bytes | None = None
        self.consumer = b""
        self.keep = True  # delivered entries become pending ones
        self.keys: list[bytes] = []
        self.ids: list[bytes] = []
        self._of_group = of_group
        words = command[1:]
        while words and not self.keys:
            words = self._option(words[0].upper(), words)
        if not self.keys:
            raise syntax_error()
        if of_group and self.group is None:
            raise Refused("ERR Missing GROUP option for XREADGROUP")

    def _option(self, option: bytes, words: list[bytes]) -> list[bytes]:
        """Read one, return the words behind it."""
        if option == b"BLOCK" and len(words) > 1:
            timeout_ms = read_integer(words[1], "ERR timeout is not an integer or out of range")
            if timeout_ms < 0:
                raise Refused("ERR timeout is negative")
            self.timeout_ns = timeout_ms * NS_PER_MS
            return words[2:]
        if option == b"COUNT" and len(words) > 1:
            self.count = max(0, read_integer(words[1])) or None
            return words[2:]
        if option == b"GROUP" and len(words) > 2:
            self._only_in_groups("GROUP")
            self.group, self.consumer = words[1:3]
            return words[3:]
        if option == b"NOACK":
            self._only_in_groups("NOACK")
            self.keep = False
            return words[1:]
        if option == b"STREAMS" and len(words) > 1:
            half, odd = divmod(len(words) - 1, 2)
            if odd:
                raise Refused("ERR Unbalanced XREAD list of streams: as many ids as keys are needed")
            self.keys, self.ids = words[1 : 1 + half], words[1 + half :]
            return []
        raise syntax_error()

    def _only_in_groups(self, option: str) -> None:
        if not self._of_group:
            raise Refused(f"ERR The {option} option is only supported by XREADGROUP. You called XREAD instead.")


def show_streams(found: list[tuple[bytes, bytes]], protocol: int) -> bytes:
    """The reply of XREAD and XREADGROUP. found: keys, and their entries encoded as an array."""
    pairs = [(resp.bulk(key), entries) for key, entries in found]
    return resp.mapping(pairs, 3) if protocol == 3 else resp.array([resp.array(pair) for pair in pairs])


def _xread(session: Session, command: list[bytes]) -> bytes:
    keyspace, protocol = session.shard.keyspace, session.protocol
    options = ReadOptions(command, of_group=False)
    after: dict[bytes, StreamId] = {}
    asked: list[tuple[bytes, StreamId]] = []
    for key, word in zip(options.keys, options.ids, strict=True):
        stream = keyspace.find(key, Stream)
        if word == b"$":
            ident = FIRST_ID if stream is None else stream.last_id
        elif word == b">":
            raise Refused("ERR The > ID can be specified only when calling XREADGROUP with its GROUP option")
        else:
            ident = read_id(word)
        asked.append((key, ident))
        after[key] = ident

    def entries(stream: Stream, ident: StreamId) -> bytes:
        return stream.show(stream.within(following(ident) or LAST_ID, LAST_ID, options.count))

    def serve(key: bytes) -> bytes | None:
        stream = keyspace.typed.get(key)
        if not isinstance(stream, Stream) or stream.last_id <= after[key]:
            return None
        return show_streams([(key, entries(stream, after[key]))], protocol)

    found: list[tuple[bytes, bytes]] = []
    for key, ident in asked:
        stream = keyspace.find(key, Stream)
        if stream is not None and stream.last_entry > ident:
            found.append((key, entries(stream, ident)))
    if found:
        return show_streams(found, protocol)
    if options.timeout_ns is None:
        return null_array(protocol)
    return session.block(Wait(options.keys, serve, null_array(protocol), options.timeout_ns))


STREAM_COMMANDS: CommandTable = {
    b"XADD": (_xadd, 5, ANY_NUMBER),
    b"XTRIM": (_xtrim, 4, ANY_NUMBER),
    b"XLEN": (_xlen, 2, 2),
    b"XDEL": (_xdel, 3, ANY_NUMBER),
    b"XRANGE": (_xrange, 4, ANY_NUMBER),
    b"XREVRANGE": (_xrevrange, 4, ANY_NUMBER),
    b"XREAD": (_xread, 4, ANY_NUMBER),
}
