"""Raising the limit of open files: 13,000 connections do not fit under the usual soft limit of 1,024.

Role: called by the process that hosts shards, and by whoever opens as many connections to them.

Thread: any; the limit belongs to the process. Upstream: Redis does the same for maxclients. Left out: the hard limit,
which only a privileged process may raise.
"""

from __future__ import annotations

import resource


def raise_fd_limit() -> int:
    """Raise the soft limit of open files to the hard one. Returns the limit that holds now. Never raises."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard or (soft != hard and hard == resource.RLIM_INFINITY):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            return hard
        except (OSError, ValueError):  # macOS reports an infinite hard limit and refuses it
            pass
    return soft
