"""MRConn: one connection to one shard: its transport, its handshake, its queue of callbacks, its end.

Role: the bottom of the call chain. A fan-out picks one connection per shard and sends a packed command; the callback
goes to the end of the FIFO; replies come in the order of the commands, so each one belongs to the callback at the
head. What hiredis' asynchronous context does for upstream is here: parsing (hiredis' own reader), the FIFO, the second
FIFO for subscriptions, and the three ways to end:

* *graceful*: no more commands, the outstanding replies are awaited, then it closes (hiredis' disconnect);
* *fail*: every waiting callback runs at once with an error, then it closes (hiredis' free);
* *drop*: it closes, and the callbacks never run (the write-ups' drawing of the incident).

A lost transport fails its callbacks, waits `reconnect_delay_ms` and connects again, for ever. A peer that does not
speak RESP is treated so too; either is logged once a minute and endpoint. The states are a table,
`coordemu.coord.conn_state`.

*Who owes what.* As a `Waitable` a connection names its shard while it can still get a reply, and nobody once it
can't, so that the wait-for graph of a dropped reply ends in words.

*Idle.* Most connections of a large pool are idle, and such a one has neither FIFO nor reader. The first send takes an
inbox, which is both, from the context; behind the last reply, if nothing is left in the reader, it goes back.

*RESP3.* A push message is no reply. Confirmations of `send_subscription` go to the second FIFO; every other push is
counted and ignored, since the coordinator subscribes to nothing.

Thread: I/O (or, before the loop runs, whoever sets it up), for everything but `name`, `holders`, `statistics`.
Upstream: MRConn in src/coord/rmr/conn.c; hiredis async.c. Left out: TLS; HELLO per command (upstream switches a
connection's protocol in front of a command that wants another; here a connection speaks one).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import hiredis
from hiredis import PushNotification, ReplyError

from coordemu.coord.conn_context import ConnContext
from coordemu.coord.conn_handshake import handshake_command, needs_handshake
from coordemu.coord.conn_options import ConnOptions
from coordemu.coord.conn_state import ConnAction, ConnEvent, ConnState, next_state
from coordemu.coord.conn_watch import ConnWatch
from coordemu.coord.endpoint import MREndpoint
from coordemu.coord.reply_fifo import NO_MORE, ReplyCallback, ReplyFifo, ReplyInbox
from coordemu.coord.shrink_plan import STOP_MODES
from coordemu.runtime.base import NS_PER_MS, Holder, Timer, Transport, TransportClosed

__all__ = ["ConnOptions", "MRConn", "ReplyCallback"]

CONNECTED = ConnState.CONNECTED
FREEING = ConnState.FREEING


class MRConn(ReplyFifo):
    """One connection."""

    __slots__ = (
        "_disconnecting", "_handshakes", "_reconnects", "_timer", "_transport", "closed", "context",
        "endpoint", "index", "node", "state", "uncounted", "watch",
    )  # fmt: skip

    def __init__(self, context: ConnContext, endpoint: MREndpoint, node: int, index: int) -> None:
        """node, index: its place in the pending table, which must be free. Begins to connect."""
        super().__init__()
        self.context = context
        self.endpoint = endpoint
        self.node = node
        self.index = index
        self.state = ConnState.CONNECTING
        self.watch: ConnWatch | None = None
        self.closed = False
        self._transport: Transport | None = None
        self._timer: Timer | None = None
        # Sends that the pending table was not told of, less replies taken: for `ConnContext.flush_counts`.
        self.uncounted = 0
        self._disconnecting = False
        self._reconnects = self._handshakes = 0
        context.pending.attach(node, index)
        self._connect()

    # ---- commands

    def send_command(self, packed: bytes, callback: ReplyCallback) -> bool:
        """Send a packed command; `callback(reply, error)` runs when its reply has come, or can't come any more.

        A reply: (reply, None); a server's error: (hiredis.ReplyError, its text); no reply: (None, the reason).
        False, and no callback ever, when the connection is not Connected. Never blocks.
        The send is counted in the pending table at the next `ConnContext.flush_counts`. Upstream: MRConn_SendCommand.
        """
        transport = self._transport
        if self.state is not CONNECTED or transport is None:
            return False
        try:
            transport.write(packed)
        except TransportClosed:
            return False
        replies = self._replies
        if replies is None:
            spares = self.context.spare_inboxes
            inbox = self._inbox = spares.pop() if spares else ReplyInbox()
            replies = self._replies = inbox.replies
        replies.append(callback)
        uncounted = self.uncounted
        if not uncounted:
            self.context.dirty.append(self)
        self.uncounted = uncounted + 1
        return True

    def send_subscription(self, packed: bytes, callback: ReplyCallback) -> bool:
        """Send a command of the SUBSCRIBE family with one channel; `callback` runs with its confirmation.

        Raises ValueError on a RESP2 connection, which could send nothing else from then on. Otherwise as
        `send_command`. Upstream: hiredis' sub.replies.
        """
        if self.context.options.protocol != 3:
            raise ValueError(f"{self.name}: subscriptions need RESP3")
        if self.state is not CONNECTED or self._transport is None:
            return False
        self._transport.write(packed)
        if self._subscriptions is None:
            self._subscriptions = deque()
        self._subscriptions.append(callback)
        self.context.pending.count(self.node, self.index, 0, 1)
        return True

    @property
    def outstanding(self) -> int:
        """Replies and confirmations that are owed to callers, the handshake's own not among them."""
        if self.state is not CONNECTED and not (self.state is FREEING and not self.closed):
            return 0
        replies, subscriptions = self._replies, self._subscriptions
        return (len(replies) if replies else 0) + (len(subscriptions) if subscriptions else 0)

    # ---- what the transport tells

    def on_connect(self) -> None:
        """The transport stands. Upstream: MRConn_ConnectCallback."""
        handshake = needs_handshake(self.context.options, self.endpoint)
        self._step(ConnEvent.OPENED_FOR_HANDSHAKE if handshake else ConnEvent.OPENED)

    def on_data(self, data: bytes) -> None:
        """Bytes have come: hand over every complete reply, then count the batch. Runs callbacks.

        Upstream: redisProcessCallbacks.
        """
        inbox = self._inbox
        if inbox is None:
            inbox = self._open_inbox()
        inbox.feed(data)
        replies, gets, take_callback = inbox.replies, inbox.gets, inbox.take_callback
        popped, confirmed, awaited = 0, 0, len(replies)
        trouble: str | None = None
        while True:
            try:
                reply = gets()
            except hiredis.ProtocolError as err:
                trouble = f"the peer does not speak RESP: {err}"
                break
            if reply is NO_MORE:
                break
            kind = type(reply)
            if kind is PushNotification:
                confirmed += self.on_push(reply)
                continue
            try:
                callback = take_callback()
            except IndexError:
                # Such as "-ERR max number of clients reached"; or a callback has closed this connection.
                trouble = f"a reply that nobody asked for: {str(reply)[:80]}"
                break
            popped += 1
            if kind is ReplyError:
                callback(reply, str(reply))
            else:
                callback(reply, None)
            if popped == awaited:
                awaited += len(replies)
                if popped != awaited:
                    continue  # a callback has sent something
                # Asked behind a whole reply only: a reader may have taken the beginning of one and hold no bytes.
                if self._inbox is not inbox:
                    break  # a callback has closed the connection, or run a turn that got here before
                if not inbox.has_data():
                    self._inbox = self._replies = None
                    self.context.spare_inboxes.append(inbox)
                    break
        drained = self._settle(popped, confirmed) if popped or confirmed else False
        if trouble is not None:
            drained = self._detach(trouble) or drained
        if self.watch is not None:
            self.watch.on_replies(self, drained)

    def on_close(self, reason: str | None) -> None:
        """The transport failed or ended. Upstream: MRConn_DisconnectCallback, and MRConn_ConnectCallback's error."""
        self._lose(reason or "closed by the peer")

    # ---- replies

    def _open_inbox(self) -> ReplyInbox:
        spares = self.context.spare_inboxes
        inbox = self._inbox = spares.pop() if spares else ReplyInbox()
        self._replies = inbox.replies
        return inbox

    def _settle(self, popped: int, confirmed: int) -> bool:
        """Count a batch. True when it completed an armed drain."""
        context = self.context
        context.handed += popped + confirmed
        drained = False
        if self.state is not FREEING:
            delta, self.uncounted = self.uncounted - popped, 0
            if delta or confirmed:
                drained = context.pending.count(self.node, self.index, delta, -confirmed)
        if context.dirty:
            context.flush_counts()
        if self._disconnecting and not self.closed and not self.waiting:
            self._end(abort=False)
        return drained

    # ---- state machine

    def _step(self, event: ConnEvent) -> None:
        self.state, action = next_state(self.state, event)
        if action is ConnAction.BECOME_READY:
            self.context.pending.set_connected(self.node, self.index, connected=True)
        elif action is ConnAction.SEND_HANDSHAKE:
            self._send_handshake()
        elif action is ConnAction.WAIT_TO_REAUTH:
            self._wait(self.context.options.reauth_delay_ms)
        elif action is ConnAction.CONNECT:
            self._reconnects += 1
            self._connect()

    def _connect(self) -> None:
        context = self.context
        try:
            self._transport = context.loop.connect(self.endpoint.address, self, context.options.connect_timeout_ns)
        except OSError as err:
            self._lose(str(err))

    def _wait(self, delay_ms: int) -> None:
        if self._timer is None:
            self._timer = self.context.loop.timer(self._on_timer, f"{self.name}: retry")
        self._timer.start(delay_ms * NS_PER_MS)

    def _on_timer(self) -> None:
        if self.state is not FREEING:
            self._step(ConnEvent.RETRY)

    def _send_handshake(self) -> None:
        packed = handshake_command(self.context.options, self.endpoint)
        if self._transport is None or not self._transport.connected:
            return  # its on_close is on the way
        self._transport.write(packed)
        (self._inbox or self._open_inbox()).replies.append(self._on_handshake)
        self.uncounted += 1

    def _on_handshake(self, _reply: Any, error: str | None) -> None:
        self._handshakes += 1
        self.context.handed -= 1  # its batch counts it among the replies
        if error is None:
            self._step(ConnEvent.ACCEPTED)
        else:
            self.context.log_rarely(self.endpoint, "handshake", f"{self.endpoint}: handshake refused: {error}")
            self._step(ConnEvent.REFUSED)

    def _lose(self, reason: str) -> None:
        drained = self._detach(reason)
        if self.watch is not None:
            self.watch.on_replies(self, drained)

    def _detach(self, reason: str) -> bool:
        """The transport is of no more use. True when an armed drain is completed by the replies that failed here."""
        transport, self._transport, self._inbox = self._transport, None, None
        if transport is not None:
            transport.abort()
        if self.closed:
            return False
        if self.state is FREEING:
            self._end(abort=True, reason=f"{self.endpoint}: connection lost: {reason}")
            return False
        shaking_hands = self.state is ConnState.AUTHENTICATING
        what = "connect failed" if self.state is ConnState.CONNECTING else "connection lost"
        what = f"{self.endpoint}: {what}: {reason}"
        self.state, _ = next_state(self.state, ConnEvent.LOST)
        self.context.log_rarely(self.endpoint, "lost", f"{what}; trying again")
        self._wait(self.context.options.reconnect_delay_ms)
        if shaking_hands and self._replies:
            self.uncounted -= len(self._replies)
            self._replies.clear()
        confirmations = len(self._subscriptions or ())
        failed = self.fail_waiting(what)
        drained = False
        if self.state is not FREEING:
            delta, self.uncounted = self.uncounted - failed, 0
            if delta or confirmations:
                drained = self.context.pending.count(self.node, self.index, delta, -confirmations)
            self.context.pending.set_connected(self.node, self.index, connected=False)
        if self.context.dirty:
            self.context.flush_counts()
        return drained

    # ---- the end

    def stop(self, mode: str = "graceful") -> None:
        """Give the connection up; it is Freeing from now on and takes no more commands.

        mode: "graceful", "fail" or "drop", else ValueError. With "fail" the waiting callbacks run before this returns.
        Raises IllegalTransition when it was stopped before. Upstream: MRConn_Stop.
        """
        if mode not in STOP_MODES:
            raise ValueError(f"stop {mode!r} is none of {', '.join(STOP_MODES)}")
        shaking_hands = self.state is ConnState.AUTHENTICATING
        self.state, _ = next_state(self.state, ConnEvent.STOP)
        self.context.pending.detach(self.node, self.index)
        self.uncounted = 0
        if shaking_hands and self._replies:
            self._replies.clear()
        self.context.closing[self] = None
        self._cancel_timer()
        if self.context.options.deferred_stop:
            self._timer = self.context.loop.timer(lambda: self._disconnect(mode), f"{self.name}: stop")
            self._timer.start(0)
        else:
            self._disconnect(mode)

    def _disconnect(self, mode: str) -> None:
        if self.closed:
            return
        self._disconnecting = True
        if mode == "drop":
            self.drop_waiting()
            self._end(abort=True)
        elif mode == "fail" or self._transport is None or not self._transport.connected:
            self._end(abort=True, reason=f"{self.endpoint}: connection stopped")
        elif not self.waiting:
            self._end(abort=False)

    def cut(self, reason: str) -> None:
        """Close a stopped connection that still awaits replies; their callbacks run with the reason. For the
        shutdown."""
        if self.state is FREEING and not self.closed:
            self._end(abort=True, reason=reason)

    def _end(self, abort: bool, reason: str = "connection stopped") -> None:
        self.closed = True
        self._cancel_timer()
        transport, self._transport, self._inbox = self._transport, None, None
        self.fail_waiting(reason)
        if transport is not None:
            if abort:
                transport.abort()
            else:
                transport.close()
        self.context.closing.pop(self, None)
        watch, self.watch = self.watch, None
        if watch is not None:
            watch.on_closed(self)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.close()
            self._timer = None

    # ---- what others ask

    @property
    def name(self) -> str:
        """ "conn host:port#index". Thread: any."""
        return f"conn {self.endpoint}#{self.index}"

    def holders(self) -> Sequence[Holder]:
        """Who must act before its replies come: the shard, or nobody once it has closed. Thread: any."""
        if self._dropped:
            return ["nobody: the connection was stopped and its replies dropped"]
        if self.closed:
            return ["nobody: the connection was stopped"]
        return [f"shard {self.endpoint}"]

    def statistics(self) -> dict[str, int]:
        """outstanding, handshakes, failed, lost, reconnects, pushes ignored. Thread: any.

        Replies handed over are counted for all connections together (`ConnContext.handed`): a number of its own would
        be a tenth of an idle connection.
        """
        return {
            "outstanding": self.outstanding,
            "handshakes": self._handshakes,
            "failed": self.failed,
            "lost": self.lost,
            "reconnects": self._reconnects,
            "pushes": self._pushes,
        }

    def __repr__(self) -> str:
        return f"<MRConn {self.endpoint}#{self.index} {self.state.value} outstanding={self.outstanding}>"
