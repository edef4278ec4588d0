"""ReplyFifo: the callbacks that wait for the replies of one connection, in the order of the commands.

Role: the part of `coordemu.coord.conn.MRConn` that keeps who waits for what. It is that class's base rather than an
object of its own, so that a reply passes no extra layer: the connection appends to and pops from the deque directly.

There are two queues, as in hiredis: `_replies` for commands, `_subscriptions` for the confirmations of SUBSCRIBE and
its kin. Most connections of a large pool are idle, and a deque and a reader would be the largest parts of one. So
`_replies` belongs to a `ReplyInbox`, which a connection has only while it needs one; `_subscriptions` is made on first
use. Bound: what is in flight, which the work queue limits to 50 per connection and node.

Thread: I/O; `owes` and `outstanding_callbacks` any. Upstream: `replies` and `sub.replies` of hiredis' asynchronous
context (async.c). Left out: patterns and several channels in one SUBSCRIBE; a subscription here has one confirmation.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import hiredis

# What a reader answers when it holds no whole reply; None and False are replies.
NO_MORE = object()

ReplyCallback = Callable[[Any, str | None], object]

CONFIRMATIONS = frozenset(
    (b"subscribe", b"unsubscribe", b"psubscribe", b"punsubscribe", b"ssubscribe", b"sunsubscribe")
)


class ReplyInbox:
    """The FIFO and the reader of one connection that awaits replies.

    feed, gets, has_data: the reader's own calls.  take_callback: the FIFO's. Binding one is dearer than most of them.
    """

    __slots__ = ("feed", "gets", "has_data", "replies", "take_callback")

    def __init__(self) -> None:
        """Nothing is awaited."""
        reader = hiredis.Reader(notEnoughData=NO_MORE)
        self.feed, self.gets, self.has_data = reader.feed, reader.gets, reader.has_data
        self.replies: deque[ReplyCallback] = deque()
        self.take_callback = self.replies.popleft


class ReplyFifo:
    """The two queues and what became of those who waited in them."""

    __slots__ = ("_dropped", "_inbox", "_pushes", "_replies", "_subscriptions", "failed")

    def __init__(self) -> None:
        """Nobody waits."""
        self._inbox: ReplyInbox | None = None
        self._replies: deque[ReplyCallback] | None = None
        self._subscriptions: deque[ReplyCallback] | None = None
        self._dropped: tuple[ReplyCallback, ...] = ()
        self._pushes = 0
        # Callbacks that ran with an error, because no reply could come any more, ever.
        self.failed = 0

    @property
    def lost(self) -> int:
        """Callbacks that never ran and never will, because the connection was dropped."""
        return len(self._dropped)

    @property
    def waiting(self) -> int:
        """Callbacks in both queues."""
        return len(self._replies or ()) + len(self._subscriptions or ())

    def on_push(self, message: list[Any]) -> int:
        """Take a RESP3 push: 1 when it confirmed a subscription, whose callback ran; else 0, and it is counted and
        ignored."""
        if self._subscriptions and message and message[0] in CONFIRMATIONS:
            self._subscriptions.popleft()(message, None)
            return 1
        self._pushes += 1
        return 0

    def fail_waiting(self, reason: str) -> int:
        """Run every waiting callback with (None, reason). Returns how many of them waited for replies, not
        confirmations."""
        replies, subscriptions = tuple(self._replies or ()), tuple(self._subscriptions or ())
        self._clear()
        self.failed += len(replies) + len(subscriptions)
        for callback in (*replies, *subscriptions):
            callback(None, reason)
        return len(replies)

    def drop_waiting(self) -> None:
        """Forget to run every waiting callback. They are kept, so that whoever waits for one can be told (`owes`)."""
        self._dropped = (*(self._replies or ()), *(self._subscriptions or ()))
        self._clear()

    def _clear(self) -> None:
        if self._replies:
            self._replies.clear()
        if self._subscriptions:
            self._subscriptions.clear()
        if self._inbox is None:  # the transport is gone, and its inbox with it
            self._replies = None

    def owes(self, callback: ReplyCallback) -> bool:
        """Whether this callback still waits for a reply here, or was dropped here. Thread: any."""
        for _ in range(3):
            try:
                return callback in (self._replies or ()) or callback in self._dropped
            except RuntimeError:
                continue  # the I/O thread changed the queue while it was read
        return True
