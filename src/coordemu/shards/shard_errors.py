"""The errors of this package, each carrying one line that a command can print as it is.

Role: a run that cannot have its shards ends with one clear line. The two classes tell the two exit codes apart:
what was asked for is wrong (usage), or it is right and cannot be had (environment).

Thread: any. Upstream: none. Left out: errors of single queries; those are replies.
"""

from __future__ import annotations


class ShardError(Exception):
    """Shards can't be had: refused, silent, wrong password, no server, no RESP. Its text is one line."""


class ShardUrlError(ShardError, ValueError):
    """What was asked for makes no sense: a malformed URL or fault plan, a number out of bounds.

    Its text is one line.
    """
