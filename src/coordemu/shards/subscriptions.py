"""Subscriptions: who listens to which channel of a shard.

Role: PUBLISH looks up the channel's listeners here and hands each the message, in the order in which they came, written
in the protocol that each speaks. Nothing is kept for one that comes later, or that has gone.

Thread: the shard's loop. Upstream: pubsub.c of a Redis server. Left out: patterns, shard channels, spreading a message
over a cluster: who listens elsewhere hears nothing. Bound: none, nor have replies that a listener does not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from coordemu import resp_encode as resp
from coordemu.shards.shard_replies import push


class Listener(Protocol):
    """One that subscribes. protocol: 2 or 3."""

    protocol: int

    def deliver(self, message: bytes) -> None:
        """Send what is encoded already. Thread: the shard's loop."""
        ...


class Subscriptions:
    """Channels and their listeners."""

    def __init__(self) -> None:
        self._channels: dict[bytes, dict[Listener, None]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._channels.values()))

    def __repr__(self) -> str:
        return f"<Subscriptions {len(self)} of {len(self._channels)} channels>"

    def add(self, listener: Listener, channel: bytes) -> None:
        """Have it hear a channel."""
        self._channels.setdefault(channel, {})[listener] = None

    def remove(self, listener: Listener, channels: Sequence[bytes]) -> None:
        """Have it hear them no more; it may be that it did not."""
        for channel in channels:
            listeners = self._channels.get(channel, {})
            listeners.pop(listener, None)
            if not listeners:
                self._channels.pop(channel, None)

    def publish(self, channel: bytes, message: bytes) -> int:
        """Hand a message to each listener. Returns how many there were."""
        listeners = list(self._channels.get(channel, ()))
        encoded: dict[int, bytes] = {}
        for listener in listeners:
            protocol = listener.protocol
            if protocol not in encoded:
                words = [resp.bulk(b"message"), resp.bulk(channel), resp.bulk(message)]
                encoded[protocol] = push(words, protocol)
            listener.deliver(encoded[protocol])
        return len(listeners)
