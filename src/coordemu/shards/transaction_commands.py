"""The embedded shard's transactions: MULTI, EXEC, DISCARD.

Role: between MULTI and EXEC commands are queued; EXEC carries them out with nothing in between, as a shard's loop does
one thing at a time, and only then are clients served that wait for what it put into lists and streams. A command that
is refused while it is queued has EXEC refused; one that fails when it is carried out is an error among the replies.

Thread: the shard's loop. Upstream: multi.c of a Redis server. Left out: WATCH, so that EXEC never answers that nothing
was done.
"""

from __future__ import annotations

from coordemu import resp_encode as resp
from coordemu.shards.shard_replies import Refused
from coordemu.shards.shard_session import SERVE, CommandTable, Session


def end_transaction(session: Session) -> None:
    """Forget what is queued. Thread: the shard's loop."""
    session.queue = None
    session.flawed = False
    session.settle()


def _multi(session: Session, _command: list[bytes]) -> bytes:
    if session.queue is not None:
        raise Refused("ERR MULTI calls can not be nested")
    session.queue = []
    session.flawed = False
    session.settle()
    return resp.OK


def _discard(session: Session, _command: list[bytes]) -> bytes:
    if session.queue is None:
        raise Refused("ERR DISCARD without MULTI")
    end_transaction(session)
    return resp.OK


def _exec(session: Session, _command: list[bytes]) -> bytes:
    queue, flawed = session.queue, session.flawed
    if queue is None:
        raise Refused("ERR EXEC without MULTI")
    end_transaction(session)
    if flawed:
        raise Refused("EXECABORT Transaction discarded because of previous errors.")
    replies: list[bytes] = []
    service_ns = 0
    session.executing = True
    try:
        for handler, command in queue:
            session.service_ns = 0
            try:
                replies.append(handler(session, command))
            except Refused as refusal:
                replies.append(refusal.reply)
            service_ns += session.service_ns
    finally:
        session.executing = False
    session.service_ns = service_ns
    if session.shard.blocked.ready:
        session.wants = SERVE
    return resp.array(replies)


TRANSACTION_COMMANDS: CommandTable = {
    b"MULTI": (_multi, 1, 1),
    b"EXEC": (_exec, 1, 1),
    b"DISCARD": (_discard, 1, 1),
}
