"""ShardConnection: one client of an embedded shard; when its replies leave, in which order, and what faults do to them.

Role: reads commands, has `coordemu.shards.command_table` answer them, and sends the replies. On the plain path (no
fault, no service time, nothing waiting) all replies of one read leave in one write. Everything else goes through a
FIFO of replies with due times, so replies keep their order whatever happens to them.

A command that waits for data (`coordemu.shards.blocked_clients`) keeps what the client sends behind it unread in the
reader until its reply comes. Its end, a time-out's or that of the connection, takes nothing from any list. A reply that
comes so, and a message of a channel, is a reply like others to delays, silence and counts.

Time on one connection has two stages, as with a real server. *Serving* is one after the other: a command begins when
the one before it has been served, since a Redis server runs nothing more of a client that is blocked. The *way back*
(delay and jitter) overlaps. Several connections are served at the same time, without limit, as by a shard with threads
enough. What a command does to the data it does when it is read, also behind one that is still being served.

Thread: the shard's loop. Upstream: the shard behind each connection. Left out: a bound on replies not yet taken by a
client that does not read (the transport's buffer has none) and on what is sent behind a command that waits, inline
commands. A client that has gone without the shard having been told, half-open, is handed an element all the same.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import hiredis

from coordemu import resp_encode as resp
from coordemu.runtime.base import NS_PER_MS, Timer, Transport
from coordemu.shards.blocked_clients import Wait
from coordemu.shards.command_table import answer, is_control
from coordemu.shards.shard_session import BLOCK, NOTHING, QUIT, SERVE, Session

if TYPE_CHECKING:
    from coordemu.shards.embedded_shard import EmbeddedShard

_NOT_YET = object()
_ONLY_BYTES = {bytes}
_PROTOCOL_ERROR = resp.error("ERR Protocol error: expected an array of bulk strings")

# When the reply may leave, once it is the first; whether close=after and silence=after count it; the bytes; whether
# to close after it.
_Waiting = tuple[int, bool, bytes, bool]


class ShardConnection:
    """A `TransportHandler` for one accepted connection.

    shard: whose commands and faults these are.  transport: accepted, open.  ident: its number, for HELLO and CLIENT ID.
    Thread: the shard's loop, for every method.
    """

    __slots__ = (
        "_answered",
        "_deaf",
        "_drip",
        "_drip_timer",
        "_finishing",
        "_gets",
        "_reader",
        "_reading",
        "_served_ns",
        "_session",
        "_shard",
        "_stopped",
        "_transport",
        "_wait",
        "_waiting",
        "ended",
        "ident",
        "wake_ns",
    )

    def __init__(self, shard: EmbeddedShard, transport: Transport, ident: int) -> None:
        self.ident = ident
        self.ended = False
        self.wake_ns: int | None = None  # owned by the shard's heap of due times
        self._shard = shard
        self._transport = transport
        self._session = Session(shard, ident, self)
        self._reader = hiredis.Reader(notEnoughData=_NOT_YET)
        self._gets = self._reader.gets
        self._waiting: deque[_Waiting] = deque()
        self._served_ns = 0
        self._answered = 0
        self._reading = False
        self._deaf = False  # runs no command: it waits, or has stopped
        self._stopped = False  # and never reads again
        self._wait: Wait | None = None
        self._finishing = False
        self._drip = bytearray()
        self._drip_timer: Timer | None = None
        if shard.active.half_open:
            transport.pause_reading()

    @property
    def waiting(self) -> int:
        """Replies that are not sent yet."""
        return len(self._waiting)

    def on_connect(self) -> None:
        """Never called for an accepted transport."""

    def on_data(self, data: bytes) -> None:
        """Answer every command that is complete; one write for all replies that may leave now."""
        shard, session, gets = self._shard, self._session, self._gets
        out: list[bytes] = []
        commands = 0
        now_ns = -1
        self._reading = True
        try:
            self._reader.feed(data)
            while not self._deaf:
                command = gets()
                if command is _NOT_YET:
                    break
                if type(command) is not list or (command and {*map(type, command)} != _ONLY_BYTES):
                    raise hiredis.ProtocolError("not an array of bulk strings")
                if not command:
                    continue
                commands += 1
                session.service_ns = 0
                reply = answer(session, command)
                if shard.plain and not self._waiting and not session.service_ns and not session.wants:
                    out.append(reply)
                    continue
                wants, session.wants = session.wants, NOTHING
                if wants == BLOCK:
                    self._begin_to_wait()
                    continue
                if now_ns < 0:
                    now_ns = shard.now_ns()
                if wants == SERVE and shard.plain and not self._waiting and not session.service_ns:
                    out.append(reply)
                else:
                    self._defer(reply, now_ns, counts=not is_control(command), closes=wants == QUIT)
                if wants == SERVE:
                    # those that wait are served after this reply, and before the next command
                    if out:
                        self._send_now(out)
                        out = []
                    shard.blocked.serve_ready()
        except hiredis.ProtocolError:
            shard.protocol_errors += 1
            self._waiting.append((0, False, _PROTOCOL_ERROR, True))
            self._stop_reading()
        finally:
            self._reading = False
        shard.commands += commands
        if out:  # as `_send_now`, without its call: this is the plain path
            shard.answered += len(out)
            self._send(out[0] if len(out) == 1 else b"".join(out))
        if self._waiting or self._drip:
            self._settle()

    def on_close(self, reason: str | None) -> None:
        """The client has gone."""
        self._end()

    def on_due(self, now_ns: int) -> None:
        """The first waiting reply's time has come. now_ns: the runtime's clock."""
        self._flush(now_ns)

    def unblock(self, reply: bytes) -> None:
        """The command that waited has its reply. What the client has sent behind it is run in a turn to come."""
        self._wait = None
        self._deaf = False
        self._session.wants = NOTHING  # what serving it may have asked for is under way
        self._send_late(reply)
        if self._reader.has_data():
            self._shard.loop.post(self._go_on, f"commands behind a wait {self._shard.address}#{self.ident}")

    def deliver(self, message: bytes) -> None:
        """A message of a channel."""
        if not self._stopped:
            self._send_late(message)

    def faults_changed(self) -> None:
        """A plan was set, or began or ceased to hold: counts start afresh, and what it held back may leave."""
        self._answered = 0
        if not self._stopped:
            if self._shard.active.half_open:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()
        if not self._reading:  # else on_data settles once its own earlier replies are out
            self._settle()

    def abort(self) -> None:
        """End at once; what is queued is lost."""
        self._transport.abort()
        self._end()

    def hang_up(self) -> None:
        """End in good order: what was sent still leaves."""
        self._transport.close()
        self._end()

    def _begin_to_wait(self) -> None:
        wait = self._session.wait
        if wait is not None:
            self._session.wait = None
            self._wait = wait
            self._deaf = True
            self._shard.blocked.add(self, wait)

    def _go_on(self) -> None:
        if not self._deaf:
            self.on_data(b"")

    def _send_late(self, reply: bytes) -> None:
        """Send what comes apart from the reading of a command; in the midst of one it comes before its reply."""
        shard = self._shard
        if not self._reading and shard.plain and not self._waiting:
            shard.answered += 1
            self._send(reply)
            return
        self._session.service_ns = 0
        self._defer(reply, shard.now_ns(), counts=True)
        if not self._reading:
            self._settle()

    def _send_now(self, replies: list[bytes]) -> None:
        self._shard.answered += len(replies)
        self._send(replies[0] if len(replies) == 1 else b"".join(replies))

    def _defer(self, reply: bytes, now_ns: int, *, counts: bool, closes: bool = False) -> None:
        due_ns = now_ns
        if counts:
            plan = self._shard.active
            self._served_ns = max(now_ns, self._served_ns) + self._session.service_ns
            way_ns = plan.delay_ns
            if plan.jitter_ms:
                way_ns += round(self._shard.random() * plan.jitter_ns)
            due_ns = self._served_ns + way_ns
        self._waiting.append((due_ns, counts, reply, closes))
        if closes:
            self._stop_reading()

    def _stop_reading(self) -> None:
        self._deaf = self._stopped = True
        self._call_off_wait()
        self._transport.pause_reading()

    def _call_off_wait(self) -> None:
        if self._wait is not None:
            self._shard.blocked.forget(self._wait)
            self._wait = None

    def _settle(self) -> None:
        if self._drip and self._shard.active.slow_bytes is None:
            rest, self._drip = bytes(self._drip), bytearray()
            self._write(rest)
            if self._finishing:
                self.hang_up()
        if self._waiting:
            self._flush(self._shard.now_ns())

    def _flush(self, now_ns: int) -> None:
        """Send what is due and allowed, then close if the plan or the client says so, or have the shard wake us."""
        plan, waiting = self._shard.active, self._waiting
        close_n, silence_n = plan.close_after_n, plan.silence_after_n
        out: list[bytes] = []
        closing = held = False
        while waiting and not closing:
            due_ns, counts, data, closing = waiting[0]
            if due_ns > now_ns:
                closing = False
                break
            if counts and close_n is not None and self._answered >= close_n:
                closing = True
                break
            if counts and silence_n is not None and self._answered >= silence_n:
                held, closing = True, False
                break
            waiting.popleft()
            out.append(data)
            self._answered += counts
            closing = closing or (bool(close_n) and counts and self._answered == close_n)
        if out:
            self._shard.answered += len(out)
            self._send(b"".join(out))
        if closing:
            self._finish()
        elif waiting and not held:
            self._shard.wake_at(waiting[0][0], self)

    def _send(self, data: bytes) -> None:
        if self._drip or self._shard.active.slow_bytes is not None:
            started = not self._drip
            self._drip += data
            if started:
                self._drip_next()
        else:
            self._write(data)

    def _write(self, data: bytes) -> None:
        if not self._transport.closed:
            self._transport.write(data)

    def _drip_next(self) -> None:
        slow = self._shard.active.slow_bytes
        if slow is None or self.ended or not self._drip:
            return
        size, interval_ms = slow
        piece = bytes(self._drip[:size])
        del self._drip[:size]
        self._write(piece)
        if self._drip:
            if self._drip_timer is None:
                self._drip_timer = self._shard.loop.timer(self._drip_next, f"drip {self._shard.address}#{self.ident}")
            self._drip_timer.start(round(interval_ms * NS_PER_MS))
        elif self._finishing:
            self.hang_up()

    def _finish(self) -> None:
        self._waiting.clear()
        if self._drip:
            self._finishing = True
            self._stop_reading()
        else:
            self.hang_up()

    def _end(self) -> None:
        if self.ended:
            return
        self.ended = self._deaf = self._stopped = True
        self._call_off_wait()
        session = self._session
        if session.channels:
            self._shard.subscriptions.remove(session, list(session.channels))
        session.client = None
        self._waiting.clear()
        self._drip.clear()
        if self._drip_timer is not None:
            self._drip_timer.close()
        self._shard.forget(self)
