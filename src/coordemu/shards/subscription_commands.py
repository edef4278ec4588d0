"""The embedded shard's commands for messages: PUBLISH, SUBSCRIBE, UNSUBSCRIBE.

Role: handlers for `coordemu.shards.command_table`. A client that listens by protocol 2 may say little else until it has
left every channel; by protocol 3 it may say anything, as messages come as pushes. A message that a client publishes to
itself comes before the reply to PUBLISH, as in Redis 6.2.

For faults a message counts as an answer: it is delayed, silenced, and counted towards the closing of its connection.

Thread: the shard's loop. Upstream: pubsub.c of a Redis server. Left out: PSUBSCRIBE, PUBSUB, RESET.
"""

from __future__ import annotations

from collections.abc import Sequence

from coordemu import resp_encode as resp
from coordemu.shards.shard_replies import bulk_or_null, push
from coordemu.shards.shard_session import ANY_NUMBER, CommandTable, Session


def _publish(session: Session, command: list[bytes]) -> bytes:
    return resp.integer(session.shard.subscriptions.publish(command[1], command[2]))


def _confirmation(session: Session, verb: bytes, channel: bytes | None) -> bytes:
    """That a channel was entered or left, and how many there are now."""
    protocol = session.protocol
    words = [resp.bulk(verb), bulk_or_null(channel, protocol), resp.integer(len(session.channels))]
    return push(words, protocol)


def _subscribe(session: Session, command: list[bytes]) -> bytes:
    replies: list[bytes] = []
    for channel in command[1:]:
        session.channels[channel] = None
        session.shard.subscriptions.add(session, channel)
        replies.append(_confirmation(session, b"subscribe", channel))
    session.settle()
    return b"".join(replies)


def _unsubscribe(session: Session, command: list[bytes]) -> bytes:
    replies: list[bytes] = []
    channels: Sequence[bytes | None] = command[1:] or list(session.channels) or [None]
    for channel in channels:
        if channel is not None and session.channels.pop(channel, b"") is None:
            session.shard.subscriptions.remove(session, [channel])
        replies.append(_confirmation(session, b"unsubscribe", channel))
    session.settle()
    return b"".join(replies)


SUBSCRIPTION_COMMANDS: CommandTable = {
    b"PUBLISH": (_publish, 3, 3),
    b"SUBSCRIBE": (_subscribe, 2, ANY_NUMBER),
    b"UNSUBSCRIBE": (_unsubscribe, 1, ANY_NUMBER),
}
