"""The embedded shard's commands for groups of consumers: reading, acknowledging, claiming.

Role: handlers for `coordemu.shards.command_table`. What a consumer takes with the id ">" is pending until somebody
acknowledges it; a consumer reads its own pending entries again by another id, and others take them over with XCLAIM or
XAUTOCLAIM once they have been idle for long enough. Times are the shard's clock, and a clock that goes back makes
nothing idle for less than 0 ms.

Replies are those of Redis 6.2: XAUTOCLAIM answers with a cursor and entries, without the third list of 7.0, and shows
an entry that was deleted as absent; XINFO GROUPS has four fields.

Thread: the shard's loop. Upstream: t_stream.c of Redis 6.2. Left out: XINFO STREAM, XINFO HELP, and XAUTOCLAIM's limit
of ten looks per entry asked for, which came later.
"""

from __future__ import annotations

from collections.abc import Callable

from coordemu import resp_encode as resp
from coordemu.shards.blocked_clients import Wait
from coordemu.shards.shard_replies import Refused, as_integer, null_array, read_integer, shown, syntax_error
from coordemu.shards.shard_session import ANY_NUMBER, CommandTable, Session
from coordemu.shards.stream_commands import ReadOptions, show_streams, stream_now_ms
from coordemu.shards.stream_value import (
    FIRST_ID,
    LAST_ID,
    Group,
    Pending,
    Stream,
    StreamId,
    following,
    parse_id,
    read_bound,
    read_id,
    show_id,
)

_DEFAULT_CLAIMS = 100
_ENDS = {b"-": FIRST_ID, b"+": LAST_ID}
_NEEDS_KEY = "ERR The XGROUP subcommand requires the key to exist; CREATE makes it when told MKSTREAM"
_MEANINGLESS = "ERR The $ ID is meaningless in the context of XREADGROUP: ask for > or for an id"


def _no_subcommand(command: list[bytes]) -> Refused:
    return Refused(
        f"ERR Unknown subcommand or wrong number of arguments for '{shown(command[1])}'. "
        f"Try {shown(command[0]).upper()} HELP."
    )


def _stream_and_group(session: Session, key: bytes, name: bytes, where: str = "") -> tuple[Stream, Group]:
    """Raises Refused when there is no such key or group, or the key holds something else."""
    stream = session.shard.keyspace.find(key, Stream)
    group = None if stream is None else stream.groups.get(name)
    if stream is None or group is None:
        raise Refused(f"NOGROUP No such key '{shown(key)}' or consumer group '{shown(name)}'{where}")
    return stream, group


# -- XGROUP and XINFO


def _xgroup(session: Session, command: list[bytes]) -> bytes:
    verb = command[1].upper()
    make = verb == b"CREATE" and len(command) == 6
    if make and command[5].upper() != b"MKSTREAM":
        raise _no_subcommand(command)
    handler = _XGROUP.get((verb, len(command)))
    if len(command) < 4:
        raise _no_subcommand(command)
    keyspace, key = session.shard.keyspace, command[2]
    stream = keyspace.find(key, Stream)
    if stream is None and not make:
        raise Refused(_NEEDS_KEY)
    if handler is None:
        raise _no_subcommand(command)
    return handler(session, stream, command)


def _create(session: Session, stream: Stream | None, command: list[bytes]) -> bytes:
    key, name, word = command[2:5]
    asked = None if word == b"$" else read_id(word)
    if stream is None:
        stream = session.shard.keyspace.make(key, Stream)
    if name in stream.groups:
        raise Refused("BUSYGROUP Consumer Group name already exists")
    stream.groups[name] = Group(stream.last_id if asked is None else asked)
    return resp.OK


def _named_group(stream: Stream | None, command: list[bytes]) -> tuple[Stream, Group]:
    group = None if stream is None else stream.groups.get(command[3])
    if stream is None or group is None:
        raise Refused(f"NOGROUP No such consumer group '{shown(command[3])}' for key name '{shown(command[2])}'")
    return stream, group


def _setid(_session: Session, stream: Stream | None, command: list[bytes]) -> bytes:
    stream, group = _named_group(stream, command)
    # "-" and "+" are taken here, and not by CREATE
    group.last_id = stream.last_id if command[4] == b"$" else _ENDS.get(command[4]) or read_id(command[4])
    return resp.OK


def _destroy(session: Session, stream: Stream | None, command: list[bytes]) -> bytes:
    if stream is None or stream.groups.pop(command[3], None) is None:
        return resp.integer(0)
    session.signal(command[2])  # who waits for it is told
    return resp.integer(1)


def _create_consumer(session: Session, stream: Stream | None, command: list[bytes]) -> bytes:
    _, group = _named_group(stream, command)
    if command[4] in group.consumers:
        return resp.integer(0)
    group.consumers[command[4]] = stream_now_ms(session.shard.keyspace)
    return resp.integer(1)


def _delete_consumer(_session: Session, stream: Stream | None, command: list[bytes]) -> bytes:
    """What it had pending goes with it: nobody is given that again."""
    _, group = _named_group(stream, command)
    group.consumers.pop(command[4], None)
    idents = [ident for ident, each in group.pending.items() if each.consumer == command[4]]
    for ident in idents:
        del group.pending[ident]
    return resp.integer(len(idents))


_XGROUP: dict[tuple[bytes, int], Callable[[Session, Stream | None, list[bytes]], bytes]] = {
    (b"CREATE", 5): _create,
    (b"CREATE", 6): _create,
    (b"SETID", 5): _setid,
    (b"DESTROY", 4): _destroy,
    (b"CREATECONSUMER", 5): _create_consumer,
    (b"DELCONSUMER", 5): _delete_consumer,
}


def _xinfo(session: Session, command: list[bytes]) -> bytes:
    if len(command) < 3:
        raise _no_subcommand(command)
    stream = session.shard.keyspace.find(command[2], Stream)
    if stream is None:
        raise Refused("ERR no such key")
    verb = command[1].upper()
    if verb == b"GROUPS" and len(command) == 3:
        rows = [_group_row(name, group) for name, group in sorted(stream.groups.items())]
    elif verb == b"CONSUMERS" and len(command) == 4:
        _, group = _named_group(stream, [command[0], command[1], command[2], command[3]])
        counts, now_ms = group.counts(), stream_now_ms(session.shard.keyspace)
        rows = [
            _row(name, pending=counts.get(name, 0), idle=max(0, now_ms - seen_ms))
            for name, seen_ms in sorted(group.consumers.items())
        ]
    else:
        raise _no_subcommand(command)
    return resp.array([resp.mapping(row, session.protocol) for row in rows])


def _row(name: bytes, **numbers: int) -> list[tuple[bytes, bytes]]:
    pairs = [(resp.bulk(each.encode()), resp.integer(number)) for each, number in numbers.items()]
    return [(resp.bulk(b"name"), resp.bulk(name)), *pairs]


def _group_row(name: bytes, group: Group) -> list[tuple[bytes, bytes]]:
    row = _row(name, consumers=len(group.consumers), pending=len(group.pending))
    return [*row, (resp.bulk(b"last-delivered-id"), show_id(group.last_id))]


# -- XREADGROUP


def _deliver(session: Session, stream: Stream, group: Group, options: ReadOptions) -> bytes:
    """What comes after the group's last id, to this consumer."""
    now_ms = stream_now_ms(session.shard.keyspace)
    group.consumers[options.consumer] = now_ms
    idents = stream.within(following(group.last_id) or LAST_ID, LAST_ID, options.count)
    for ident in idents:
        group.last_id = ident
        if options.keep:
            group.take(ident, options.consumer, now_ms)
    return stream.show(idents)


def _history(session: Session, stream: Stream, group: Group, options: ReadOptions, after: StreamId) -> bytes:
    """What this consumer has pending behind an id."""
    now_ms = stream_now_ms(session.shard.keyspace)
    group.consumers[options.consumer] = now_ms
    shown_entries: list[bytes] = []
    for ident, each in group.pending_from(following(after) or LAST_ID):
        if each.consumer != options.consumer:
            continue
        if len(shown_entries) == options.count:
            break
        entry = stream.entry(ident)
        if entry is None:
            entry = resp.array([show_id(ident), null_array(session.protocol)])
        else:
            each.delivered_ms = now_ms
            each.count += 1
        shown_entries.append(entry)
    return resp.array(shown_entries)


def _xreadgroup(session: Session, command: list[bytes]) -> bytes:
    keyspace, protocol = session.shard.keyspace, session.protocol
    options = ReadOptions(command, of_group=True)
    name = options.group or b""
    asked: list[tuple[bytes, StreamId | None]] = []
    for key, word in zip(options.keys, options.ids, strict=True):
        _stream_and_group(session, key, name, " in XREADGROUP with GROUP option")
        if word == b"$":
            raise Refused(_MEANINGLESS)
        asked.append((key, None if word == b">" else read_id(word)))

    def serve(key: bytes) -> bytes | None:
        stream = keyspace.typed.get(key)
        if not isinstance(stream, Stream):
            return None
        group = stream.groups.get(name)
        if group is None:
            return resp.error("NOGROUP the consumer group this client was blocked on no longer exists")
        if stream.last_id <= group.last_id:
            return None
        return show_streams([(key, _deliver(session, stream, group, options))], protocol)

    found: list[tuple[bytes, bytes]] = []
    for key, after in asked:
        stream, group = _stream_and_group(session, key, name)
        if after is not None:
            found.append((key, _history(session, stream, group, options, after)))
        elif stream.last_entry > group.last_id:
            found.append((key, _deliver(session, stream, group, options)))
    if found:
        return show_streams(found, protocol)
    if options.timeout_ns is None:
        return null_array(protocol)
    return session.block(Wait(options.keys, serve, null_array(protocol), options.timeout_ns))


# -- acknowledging and claiming


def _xack(session: Session, command: list[bytes]) -> bytes:
    stream = session.shard.keyspace.find(command[1], Stream)
    group = None if stream is None else stream.groups.get(command[2])
    if group is None:
        return resp.integer(0)
    idents = [read_id(word) for word in command[3:]]
    return resp.integer(sum([group.pending.pop(ident, None) is not None for ident in idents]))


def _xpending(session: Session, command: list[bytes]) -> bytes:
    if len(command) == 3:
        return _pending_summary(session, command)
    words = command[3:]
    idle_ms = 0
    if not 6 <= len(command) <= 9:
        raise syntax_error()
    if words[0].upper() == b"IDLE":
        idle_ms = read_integer(words[1])
        if len(command) < 8:
            raise syntax_error()
        words = words[2:]
    count = read_integer(words[2])
    low, high = read_bound(words[0], low=True), read_bound(words[1], low=False)
    consumer = words[3] if len(words) > 3 else None
    _, group = _stream_and_group(session, command[1], command[2])
    now_ms = stream_now_ms(session.shard.keyspace)
    rows: list[bytes] = []
    for ident, each in group.pending_from(low, high):
        if len(rows) >= count:
            break
        since_ms = max(0, now_ms - each.delivered_ms)
        if (consumer is None or each.consumer == consumer) and since_ms >= idle_ms:
            numbers = resp.integer(since_ms), resp.integer(each.count)
            rows.append(resp.array([show_id(ident), resp.bulk(each.consumer), *numbers]))
    return resp.array(rows)


def _pending_summary(session: Session, command: list[bytes]) -> bytes:
    _, group = _stream_and_group(session, command[1], command[2])
    idents = list(group.pending)
    if not idents:
        null = resp.null(session.protocol)
        return resp.array([resp.integer(0), null, null, null_array(session.protocol)])
    consumers = [resp.array([resp.bulk(name), resp.bulk(b"%d" % count)]) for name, count in group.counts().items()]
    return resp.array([resp.integer(len(idents)), show_id(idents[0]), show_id(idents[-1]), resp.array(consumers)])


class _Claim:
    """One XCLAIM or XAUTOCLAIM under way: who claims, and how an entry changes."""

    def __init__(self, session: Session, stream: Stream, group: Group, consumer: bytes, idle_ms: int) -> None:
        self.now_ms = self.delivered_ms = stream_now_ms(session.shard.keyspace)
        self.count: int | None = None
        self.only_ids = False
        self._null = resp.null(session.protocol)
        self._stream = stream
        self._group = group
        self._consumer = consumer
        self._idle_ms = idle_ms

    def claim(self, ident: StreamId, entry: Pending) -> bytes | None:
        """Take an entry over, and show it. None: it has not been idle for long enough."""
        if max(0, self.now_ms - entry.delivered_ms) < self._idle_ms:
            return None
        self._group.consumers[self._consumer] = self.now_ms
        entry.consumer = self._consumer
        entry.delivered_ms = self.delivered_ms
        if self.count is not None:
            entry.count = self.count
        elif not self.only_ids:
            entry.count += 1
        return show_id(ident) if self.only_ids else self._stream.entry(ident) or self._null

    def options(self, words: list[bytes]) -> tuple[bool, StreamId | None]:
        """Read those of XCLAIM. Returns FORCE, and LASTID. Raises Refused."""
        force, last_id = False, None
        while words:
            option = words[0].upper()
            value = words[1] if len(words) > 1 else None
            if option in (b"FORCE", b"JUSTID"):
                force = force or option == b"FORCE"
                self.only_ids = self.only_ids or option == b"JUSTID"
                words = words[1:]
                continue
            if value is None or option not in (b"IDLE", b"TIME", b"RETRYCOUNT", b"LASTID"):
                raise Refused(f"ERR Unrecognized XCLAIM option '{shown(words[0])}'")
            if option == b"LASTID":
                last_id = read_id(value)
            else:
                number = read_integer(value, f"ERR Invalid {option.decode()} option argument for XCLAIM")
                self._number(option, number)
            words = words[2:]
        return force, last_id

    def _number(self, option: bytes, number: int) -> None:
        if option == b"RETRYCOUNT":
            self.count = None if number < 0 else number
            return
        at_ms = number if option == b"TIME" else self.now_ms - number
        # A time to come would keep the entry from ever being claimed.
        self.delivered_ms = min(at_ms, self.now_ms) if option == b"IDLE" or at_ms >= 0 else self.now_ms


def _xclaim(session: Session, command: list[bytes]) -> bytes:
    stream, group = _stream_and_group(session, command[1], command[2])
    idle_ms = as_integer(command[4])
    if idle_ms is None:
        raise Refused("ERR Invalid min-idle-time argument for XCLAIM")
    words, idents = command[5:], []
    while words and (ident := parse_id(words[0])) is not None:
        idents.append(ident)
        words = words[1:]
    claim = _Claim(session, stream, group, command[3], idle_ms)
    force, last_id = claim.options(words)
    if last_id is not None:
        group.last_id = max(group.last_id, last_id)
    claimed: list[bytes] = []
    for ident in idents:
        entry = group.pending.get(ident)
        if entry is None:
            if not force or stream.entry(ident) is None:
                continue
            # made as if it had been delivered before all time: it is idle for long enough
            group.take(ident, command[3], claim.now_ms - max(0, idle_ms))
            entry = group.pending[ident]
        shown_entry = claim.claim(ident, entry)
        if shown_entry is not None:
            claimed.append(shown_entry)
    return resp.array(claimed)


def _xautoclaim(session: Session, command: list[bytes]) -> bytes:
    idle_ms = as_integer(command[4])
    if idle_ms is None:
        raise Refused("ERR Invalid min-idle-time argument for XAUTOCLAIM")
    begin = read_bound(command[5], low=True)
    count, only_ids, words = _DEFAULT_CLAIMS, False, command[6:]
    while words:
        if words[0].upper() == b"JUSTID":
            only_ids, words = True, words[1:]
        elif words[0].upper() == b"COUNT" and len(words) > 1:
            count, words = as_integer(words[1]) or 0, words[2:]
            if count <= 0:
                raise Refused("ERR COUNT must be > 0")
        else:
            raise syntax_error()
    stream, group = _stream_and_group(session, command[1], command[2])
    claim = _Claim(session, stream, group, command[3], idle_ms)
    claim.only_ids = only_ids
    claimed: list[bytes] = []
    cursor = FIRST_ID
    for ident, entry in group.pending_from(begin):
        if len(claimed) == count:
            cursor = ident
            break
        shown_entry = claim.claim(ident, entry)
        if shown_entry is not None:
            claimed.append(shown_entry)
    return resp.array([show_id(cursor), resp.array(claimed)])


GROUP_COMMANDS: CommandTable = {
    b"XGROUP": (_xgroup, 2, ANY_NUMBER),
    b"XINFO": (_xinfo, 2, ANY_NUMBER),
    b"XREADGROUP": (_xreadgroup, 7, ANY_NUMBER),
    b"XACK": (_xack, 4, ANY_NUMBER),
    b"XPENDING": (_xpending, 3, ANY_NUMBER),
    b"XCLAIM": (_xclaim, 6, ANY_NUMBER),
    b"XAUTOCLAIM": (_xautoclaim, 6, ANY_NUMBER),
}
