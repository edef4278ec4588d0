"""The command that a query sends to each shard, for embedded and for real ones.

Role: a query takes a chosen time on its shard without blocking that shard for others. The embedded shard has a command
for it. A real Redis has none, but it has ``WAIT``: asked for replicas that do not exist, it blocks this one client
until the time is up. It needs no key, so the same command works on every node of a cluster, and its time is a whole
number of milliseconds, which ``BLPOP``'s is not: Redis 6.2 cuts BLPOP's seconds down to milliseconds, and a time of 1
ms or less comes out as 0, which means for ever.

How exact it is: Redis looks for blocked clients whose time is up once per turn of its loop, which on an idle server is
once per tick: 1000/hz ms. With the usual ``hz 10`` a time of 20 ms becomes up to 100 ms; the servers that we start
have ``hz 500`` (2 ms). Both kinds of shard serve one client's commands one after the other.

Thread: any; pure functions. Upstream: the internal ``_FT.SEARCH`` of a fan-out. Left out: checking that a reply
belongs to its query (WAIT's reply carries no id).
"""

from __future__ import annotations

from coordemu.runtime.base import NS_PER_MS, NS_PER_US
from coordemu.shards.command_table import LONGEST_SERVICE_US
from coordemu.shards.shard_errors import ShardUrlError

REAL_KINDS = ("redis", "cluster")
ABSENT_REPLICAS = b"1000"


def query_command(kind: str, query_id: int | str, service_ns: int) -> tuple[bytes, ...]:
    """One query's command, not packed.

    kind: "embedded", "redis" or "cluster".  query_id: shown in the embedded shard's reply and in ECHO's.  service_ns:
    0 to an hour; a real Redis takes whole milliseconds, so it is rounded to the nearest, but to no less than 1 when it
    is not 0. Raises ShardUrlError for another kind or time. Thread: any.
    """
    ident = str(query_id).encode()
    if not 0 <= service_ns <= LONGEST_SERVICE_US * NS_PER_US:
        raise ShardUrlError(f"service time of {service_ns} ns is not within 0 and an hour")
    if kind == "embedded":
        return (b"_FT.SEARCH", b"idx", ident, b"SERVICE", b"%d" % (service_ns // NS_PER_US))
    if kind not in REAL_KINDS:
        raise ShardUrlError(f"shard kind {kind!r} is none of embedded, redis, cluster")
    if service_ns == 0:
        return (b"ECHO", ident)
    return (b"WAIT", ABSENT_REPLICAS, b"%d" % max(1, round(service_ns / NS_PER_MS)))
