"""PoolSubscribers: connections that listen to channels while a test publishes on them.

Role: the listening half of the test with publications. Every subscriber listens to all channels, each at the node that
the channel's messages are sent to, so that it has each message once, in a cluster and beside one. The test begins when
every subscription is confirmed; upstream sleeps half a second instead.

Thread: a task of their own, "subscribers"; the counts are for any to read. Upstream: the subscribers of the example's
test of publications. Left out: reconnecting; a connection that ends is an error that is counted. Bound: one connection
per subscriber and node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import hiredis

from coordemu.lab.resp_stream import RespStream
from coordemu.runtime.base import NS_PER_S, Address, Runtime

READY_NS = 10 * NS_PER_S
GRACE_NS = 2 * NS_PER_S
LOOK_NS = 2_000_000


class PoolSubscribers:
    """`count` of them. channels: by node.  password: for AUTH, None: none. They connect when made; `stop` ends them."""

    def __init__(
        self, rt: Runtime, channels: Mapping[Address, Sequence[str]], count: int, password: str | None = None
    ) -> None:
        self.received = 0
        self.errors = 0
        self._rt = rt
        self._expected = count * sum(map(len, channels.values()))
        self._confirmed = 0
        self._loop = rt.loop("subscribers")
        self._listeners = [
            _Listener(self, address, names, password) for address, names in channels.items() for _ in range(count)
        ]
        for listener in self._listeners:
            listener.connect()
        self._task = rt.spawn(self._loop.run, name="subscribers")

    @property
    def ready(self) -> bool:
        """Whether every subscription is confirmed. Thread: any."""
        return self._confirmed == self._expected

    def wait_ready(self) -> bool:
        """Until all are confirmed or one has failed; False for the latter, and after 10 s. Blocks."""
        self._rt.poll_until(
            lambda: self.ready or bool(self.errors), LOOK_NS, "subscriptions", READY_NS, lambda: [self._task]
        )
        return self.ready

    def wait_received(self, count: int) -> bool:
        """Until so many messages have come; False after 2 s. Blocks."""
        return self._rt.poll_until(
            lambda: self.received >= count, LOOK_NS, "the last messages", GRACE_NS, lambda: [self._task]
        )

    def stop(self) -> None:
        """End the task, drop the connections. Idempotent. Thread: any but its own. Blocks shortly."""
        self._loop.stop()
        self._task.join()
        self._loop.close()

    def open(self, listener: _Listener, reader: RespStream) -> None:
        """Called by a listener whose connection stands. Thread: subscribers."""
        if listener.password is not None:
            reader.send(("AUTH", listener.password))
        reader.send(("SUBSCRIBE", *listener.channels))

    def heard(self, reply: object) -> None:
        """Called for each reply. Thread: subscribers."""
        if isinstance(reply, hiredis.ReplyError):
            self.errors += 1
        elif isinstance(reply, list):
            self.received += reply[0] == b"message"
            self._confirmed += reply[0] == b"subscribe"

    def broken(self, reason: str) -> None:
        """Called when a connection has ended. Thread: subscribers."""
        self.errors += 1

    def stream(self, listener: _Listener) -> RespStream:
        """A connection for a listener. Thread: the one that makes them."""
        return RespStream(self._loop, listener.address, self.heard, self.broken, listener.ready)

    def __repr__(self) -> str:
        return f"<PoolSubscribers {self._confirmed}/{self._expected} confirmed, {self.received} received>"


class _Listener:
    """One connection: some channels at one node."""

    def __init__(
        self, subscribers: PoolSubscribers, address: Address, channels: Sequence[str], password: str | None
    ) -> None:
        self.address = address
        self.channels = channels
        self.password = password
        self._subscribers = subscribers
        self._stream: RespStream | None = None

    def connect(self) -> None:
        """Begin to."""
        self._stream = self._subscribers.stream(self)

    def ready(self) -> None:
        """The connection stands."""
        if self._stream is not None:
            self._subscribers.open(self, self._stream)
