"""The queues of the backfill on a Redis server: a list and a stream, each in a fragile and in a surviving form.

Role: what producers put messages onto and workers take them from. A *ticket* is what goes over the wire: the message's
number, how many deliveries of it came to nothing, and which turn this is, so that no two tickets of a message are the
same and one that is given back cannot be mistaken for the one that is still out.

The fragile forms are those of the write-up. BRPOP takes an element off the list: from then on the worker's memory is
the only place where it is. XREADGROUP notes in the stream whom an entry was given to, but nobody ever looks there.

The surviving forms never have a message in no place. The list moves an element to a second list in the same step
(BLMOVE) and removes it there when the work is done (LREM); the stream is acknowledged and cut (XACK, XDEL). What is to
be delivered again is put first and removed afterwards, so that a failure in between leaves two tickets rather than
none; the store's idempotency keys take care of that. `reap` gives back what was taken `visible_ns` ago and not
acknowledged: by XAUTOCLAIM, which knows how long an entry is out, and for the list by remembering when a ticket was
first seen in the second list, which has no times.

Keys of one queue have one hash tag, so that they are on one node of a cluster.

Thread: any, but `reap`, which one task calls. `take` blocks, and holds its connection for as long. Upstream: the
write-up's queues. Left out: trimming of long streams, dead letters on the server (the store has them). Bounds: none;
the reaper remembers as many tickets as are out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import hiredis

from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Runtime

LIST, STREAM = "list", "stream"
GROUP = b"workers"
FIELD = b"m"
CLAIMED_AT_ONCE = 100
# A server cuts less down to 0, which means for ever.
LEAST_WAIT_NS = 2 * NS_PER_MS

# One command, and many in one go: the first raises error replies, the second returns them.
Execute = Callable[..., Any]
Pipeline = Callable[[Sequence[tuple[bytes, ...]]], list[Any]]
# Whether somebody who is there has this ticket in hand.
InHand = Callable[[bytes], bool]


class BadTicket(ValueError):
    """What the queue holds is no ticket of ours."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """A message on its way. message: its number.  failures: deliveries that came to nothing.  turn: tells this ticket
    from the message's others."""

    message: int
    failures: int = 0
    turn: str = "0"

    def pack(self) -> bytes:
        """As it goes over the wire."""
        return b"%d:%d:%s" % (self.message, self.failures, self.turn.encode())

    @classmethod
    def unpack(cls, text: bytes) -> Ticket:
        """The way back. Raises BadTicket."""
        try:
            message, failures, turn = text.split(b":")
            return cls(int(message), int(failures), turn.decode())
        except ValueError:
            raise BadTicket(f"{text[:60]!r} is no ticket") from None


@dataclass(frozen=True, slots=True)
class Taken:
    """A ticket in a worker's hand. entry: the stream's name of it, b"" for a list's."""

    ticket: Ticket
    packed: bytes
    entry: bytes = b""


class BackfillQueue(Protocol):
    """What workers and producers know of a queue."""

    name: str
    kind: str

    def prepare(self) -> None: ...
    def put(self, ticket: Ticket) -> None: ...
    def take(self, wait_ns: int, worker: str) -> Taken | None: ...
    def finish(self, taken: Taken) -> None: ...
    def give_back(self, taken: Taken, failed: bool) -> None: ...
    def reap(self, visible_ns: int, in_hand: InHand) -> int: ...
    def waiting(self) -> int: ...
    def keys(self) -> tuple[bytes, ...]: ...


class _Turns:
    """Names for turns: of this process, each once."""

    def __init__(self, rt: Runtime, name: str) -> None:
        self._lock = rt.lock(f"{name} turns")
        self._last = 0

    def next(self) -> str:
        with self._lock:
            self._last += 1
            return str(self._last)


class _ServerQueue:
    """What both kinds know: the server, the form, and the key under which they are there."""

    kind = ""

    def __init__(
        self,
        rt: Runtime,
        tag: str,
        execute: Execute,
        pipeline: Pipeline,
        survives: bool,
        remove_first: bool = False,
    ) -> None:
        self.name = f"{tag} {self.kind}"
        self._rt = rt
        self._execute = execute
        self._pipeline = pipeline
        self._survives = survives
        self._remove_first = remove_first
        self._key = b"{%s}:%s" % (tag.encode(), self.kind.encode())
        self._turns = _Turns(rt, self.name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {'surviving' if self._survives else 'fragile'}>"


class ListQueue(_ServerQueue):
    """A list. tag: of its keys.  execute, pipeline: reach the server.  survives: which form, see above.
    remove_first: a fault: what is given back is removed before it is put."""

    kind = LIST

    def __init__(
        self,
        rt: Runtime,
        tag: str,
        execute: Execute,
        pipeline: Pipeline,
        survives: bool,
        remove_first: bool = False,
    ) -> None:
        super().__init__(rt, tag, execute, pipeline, survives, remove_first)
        self._out = b"{%s}:taken" % tag.encode()
        self._seen_ns: dict[bytes, int] = {}

    def prepare(self) -> None:
        """Nothing: a list is there as soon as it has an element."""

    def put(self, ticket: Ticket) -> None:
        """LPUSH (the takers are at the right end). Raises what `execute` does. Thread: any. Blocks."""
        self._execute(b"LPUSH", self._key, ticket.pack())

    def take(self, wait_ns: int, worker: str) -> Taken | None:
        """The oldest ticket, or None after wait_ns (at least 2 ms). Raises what `execute` does, BadTicket. Thread:
        any. Blocks, with a connection."""
        wait = _seconds(wait_ns)
        if self._survives:
            packed = self._execute(b"BLMOVE", self._key, self._out, b"RIGHT", b"LEFT", wait)
        else:
            found = self._execute(b"BRPOP", self._key, wait)
            packed = found[1] if found else None
        return None if packed is None else Taken(Ticket.unpack(packed), packed)

    def finish(self, taken: Taken) -> None:
        """Its work is done. Raises what `execute` does. Thread: any. Blocks."""
        if self._survives:
            self._execute(b"LREM", self._out, 1, taken.packed)

    def give_back(self, taken: Taken, failed: bool) -> None:
        """Have it delivered again. failed: whether this delivery counts among its failures. Raises as `finish`."""
        again = Ticket(taken.ticket.message, taken.ticket.failures + failed, self._turns.next())
        self._both((b"LPUSH", self._key, again.pack()), (b"LREM", self._out, b"1", taken.packed))

    def _both(self, put: tuple[bytes, ...], remove: tuple[bytes, ...]) -> None:
        """First the one, then the other, each confirmed before the next: a server that dies may do the second of two
        that came together, and not have kept the first."""
        first, second = (remove, put) if self._remove_first else (put, remove)
        self._execute(*first)
        self._execute(*second)

    def reap(self, visible_ns: int, in_hand: InHand) -> int:
        """Give back what was first seen out visible_ns ago and is in nobody's hand; how many. Raises as `finish`.
        Thread: one. Blocks."""
        now_ns = self._rt.now_ns()
        out = self._execute(b"LRANGE", self._out, 0, -1)
        self._seen_ns = {packed: self._seen_ns.get(packed, now_ns) for packed in out if not in_hand(packed)}
        late = [packed for packed, seen_ns in self._seen_ns.items() if now_ns - seen_ns >= visible_ns]
        for packed in late:
            self.give_back(Taken(Ticket.unpack(packed), packed), failed=True)
        return len(late)

    def waiting(self) -> int:
        """Tickets that nobody has taken. Raises as `finish`. Thread: any. Blocks."""
        return int(self._execute(b"LLEN", self._key))

    def keys(self) -> tuple[bytes, ...]:
        """What it leaves on the server."""
        return (self._key, self._out)


class StreamQueue(_ServerQueue):
    """A stream with one group of consumers. Arguments as `ListQueue`."""

    kind = STREAM

    def prepare(self) -> None:
        """Make the stream and its group unless they are there. Raises what `execute` does. Thread: any. Blocks."""
        try:
            self._execute(b"XGROUP", b"CREATE", self._key, GROUP, b"0", b"MKSTREAM")
        except hiredis.ReplyError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    def put(self, ticket: Ticket) -> None:
        """XADD. Raises what `execute` does. Thread: any. Blocks."""
        self._execute(b"XADD", self._key, b"*", FIELD, ticket.pack())

    def take(self, wait_ns: int, worker: str) -> Taken | None:
        """As `ListQueue.take`, by XREADGROUP."""
        block = b"%d" % (max(wait_ns, LEAST_WAIT_NS) // NS_PER_MS)
        found = self._execute(
            b"XREADGROUP", b"GROUP", GROUP, worker.encode(), b"COUNT", b"1", b"BLOCK", block, b"STREAMS", self._key,
            b">",
        )  # fmt: skip
        if not found:
            return None
        entries = found[0][1] if isinstance(found, list) else next(iter(found.values()))
        return _taken(*entries[0]) if entries else None

    def finish(self, taken: Taken) -> None:
        """Its work is done: XACK, and XDEL. Raises what `execute` does. Thread: any. Blocks."""
        _raise_first(self._pipeline([(b"XACK", self._key, GROUP, taken.entry), (b"XDEL", self._key, taken.entry)]))

    def give_back(self, taken: Taken, failed: bool) -> None:
        """As `ListQueue.give_back`."""
        again = Ticket(taken.ticket.message, taken.ticket.failures + failed, self._turns.next())
        if self._remove_first:
            self.finish(taken)
        self._execute(b"XADD", self._key, b"*", FIELD, again.pack())
        if not self._remove_first:
            self.finish(taken)

    def reap(self, visible_ns: int, in_hand: InHand) -> int:
        """Claim what was delivered visible_ns ago and not acknowledged, and give it back; how many. What somebody still
        has in hand is left with him: to claim it has made it young again. Raises as `finish`. Thread: one. Blocks."""
        idle = b"%d" % max(1, visible_ns // NS_PER_MS)
        count = 0
        start = b"0-0"
        while True:
            answer = self._execute(
                b"XAUTOCLAIM", self._key, GROUP, b"reaper", idle, start, b"COUNT", b"%d" % CLAIMED_AT_ONCE
            )  # fmt: skip
            for entry in answer[1]:
                # A server of old names entries that were deleted since, without fields.
                if not entry or not entry[1]:
                    continue
                taken = _taken(*entry)
                if not in_hand(taken.packed):
                    self.give_back(taken, failed=True)
                    count += 1
            start = answer[0]
            if start == b"0-0":
                return count

    def waiting(self) -> int:
        """Entries that were given to nobody: all but the pending ones, since what is acknowledged is deleted. Raises as
        `finish`. Thread: any. Blocks."""
        length, pending = self._pipeline([(b"XLEN", self._key), (b"XPENDING", self._key, GROUP)])
        _raise_first([length, pending])
        return max(0, int(length) - int(pending[0]))

    def keys(self) -> tuple[bytes, ...]:
        """What it leaves on the server."""
        return (self._key,)


def make_queue(
    rt: Runtime,
    kind: str,
    tag: str,
    execute: Execute,
    pipeline: Pipeline,
    survives: bool,
    remove_first: bool = False,
) -> BackfillQueue:
    """A queue of either kind: LIST or STREAM. Thread: any."""
    return (ListQueue if kind == LIST else StreamQueue)(rt, tag, execute, pipeline, survives, remove_first)


def _taken(entry: bytes, fields: Any) -> Taken:
    packed = fields[1] if isinstance(fields, list) else fields[FIELD]
    return Taken(Ticket.unpack(packed), packed, entry)


def _seconds(wait_ns: int) -> bytes:
    return b"%.3f" % (max(wait_ns, LEAST_WAIT_NS) / NS_PER_S)


def _raise_first(replies: Sequence[Any]) -> None:
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
